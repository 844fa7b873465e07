"""Puts core and adapters together; the one file that knows both."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Protocol

import bilevel
from bilevel import stacks
from bilevel.archive import is_file, read_log
from bilevel.budget import Budget
from bilevel.engine import Edges, build
from bilevel.ensemble import Cast, Several
from bilevel.errors import ConfigError, ExecutorError, LLMError, OverBudget
from bilevel.evaluate import Evaluated, Evaluator, InlineEvaluator, JobEvaluator
from bilevel.executors.local import LocalExecutor
from bilevel.library_choice import borrow
from bilevel.library_records import collect
from bilevel.machine import machine
from bilevel.model import (
    Borrowed,
    Call,
    Outcome,
    OuterPlan,
    Phase,
    Record,
    Run,
    Stop,
    StopReason,
    Trial,
)
from bilevel.pacing import PacedEvaluator
from bilevel.protocols import LLM, Executor, Task
from bilevel.replay import Replay, replay
from bilevel.rerun import Rerun, rerun
from bilevel.sandbox.errors import SandboxError
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.scrubbing import Discreet, Scrubber, secrets_in
from bilevel.sharing import Sharing
from bilevel.stacks import entries, layers, needs_sandbox, remembered
from bilevel.store.library import Library
from bilevel.store.sqlite import SqliteStore
from bilevel.tape import Tape
from bilevel.taped import taped
from bilevel.tasks import builtin
from bilevel.tasks.function import FunctionTask
from bilevel.tasks.loading import load_task
from bilevel.terms import Terms, clock, opened, put


class Watcher(Protocol):
    """Told what happens while a run goes; decides nothing."""

    def phase(self, phase: Phase) -> None: ...

    def record(self, record: Record) -> None: ...


@dataclass(frozen=True)
class Settings:
    """What the user asks of a run. None takes the task's own value.

    evals: evaluations of proposals. wall: seconds after which no further step begins.
    stack: names of mechanisms, lowest first, or paths of files. remember: whether one that
    remembers earlier runs may. states: by name in the stack, as JSON the attributes with which a
    mechanism begins. outer: the outer loop. allow_weak: whether code that is not ours may run where
    the machine cannot lock it in. library: which of its mechanisms the run is given, as `best` or
    `alma:2`, "" for none; loan: those that were chosen before, in its place.
    terms: limits beside evals and wall, and prices.
    """

    evals: int = 30
    seed: int = 0
    llm: str = "embedded"
    wall: float | None = None
    slots: int = 1
    baselines: int | None = None
    confirms: int | None = None
    stack: tuple[str, ...] = ()
    remember: bool = True
    states: Mapping[str, str] = field(default_factory=dict)
    outer: OuterPlan = field(default_factory=OuterPlan)
    allow_weak: bool = False
    llm_outer: str = ""
    tape: str = ""
    mixed: bool = False
    library: str = ""
    loan: tuple[Borrowed, ...] = ()
    terms: Terms = field(default_factory=Terms)


class Workspace:
    """A folder with the store and a folder a run."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = SqliteStore(home / "runs.sqlite")
        self.library = Library(self.store)

    def folder(self, run: str) -> Path:
        """Where the run's logs, results and best configuration lie."""
        return self.home / "runs" / run

    def records(self, run: str) -> list[Record]:
        """The whole log of a run. Raises RunNotFound."""
        return [record for _, _, _, record in self.store.events(run)]

    def recording(self, name: str) -> tuple[Run, list[Record]]:
        """A run and its log, by name or from a file. Raises ConfigError or StoreError."""
        if is_file(name):
            return read_log(Path(name))
        return self.store.run(name), self.records(name)

    def latest(self) -> Run:
        """The run that was started last. Raises ConfigError when there is none."""
        runs = self.store.runs()
        if not runs:
            raise ConfigError(f"no run yet in {self.home}; start one with `bilevel run TASK`")
        return runs[-1]


def find_task(name: str) -> tuple[Task, str]:
    """The task of a built-in name or a path, and the name or whole path to find it by again."""
    shipped = builtin.find(name)
    if shipped is not None:
        return shipped, name
    return load_task(Path(name)), str(Path(name).resolve())


def begin(workspace: Workspace, name: str, settings: Settings) -> Run:
    """A new run, entered into the store. Raises ConfigError for settings that make no sense."""
    return enter(workspace, planned(workspace, name, settings), settings.terms)


def enter(workspace: Workspace, planned: Run, on: Terms | None = None) -> Run:
    """The run with a name and the time of now, entered into the store. on: says prices.

    Raises ConfigError where its limits need a price that is not known.
    """
    created = datetime.now(UTC).isoformat(timespec="seconds")
    run = replace(planned, id=workspace.store.next_id(planned.task), created=created)
    put(workspace.store, run, on or Terms())
    return run


def planned(workspace: Workspace, name: str, settings: Settings) -> Run:
    """The run that `begin` would enter into the store, without a name. Raises ConfigError."""
    task, source = find_task(name)
    baselines = task.baselines if settings.baselines is None else settings.baselines
    confirms = task.confirms if settings.confirms is None else settings.confirms
    _check_sizes(settings, baselines, confirms)
    stack, own = entries(settings.stack)
    run = Run(
        id="",
        task=task.name,
        space=task.space,
        objective=task.objective,
        brief=task.brief(),
        seed=settings.seed,
        evals=settings.evals,
        baselines=baselines,
        confirms=confirms,
        wall=settings.wall,
        llm=settings.llm,
        llm_outer=_outer_model(settings),
        tape=settings.tape,
        mixed=settings.mixed,
        limits=settings.terms.limits,
        slots=settings.slots,
        stack=stack,
        states=_states(workspace, task, settings),
        sources=own,
        outer=_screened(settings.outer),
        source=source,
        fingerprint=fingerprint(task),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=bilevel.__version__,
        machine=machine(),
        library=_borrowed(workspace, task, settings),
    )
    return replace(run, sandbox=_level(run, settings.allow_weak))


def _check_sizes(settings: Settings, baselines: int, confirms: int) -> None:
    """Raises ConfigError where a number of the settings is below the least that makes sense."""
    for label, value, least in (
        ("evals", settings.evals, 0),
        ("slots", settings.slots, 1),
        ("baselines", baselines, 2),
        ("confirms", confirms, 0),
        ("every", settings.outer.every, 1),
        ("cycles", settings.outer.cycles, 1),
        ("layers", settings.outer.layers, 1),
        ("candidates", settings.outer.candidates, 1),
        ("repairs", settings.outer.repairs, 0),
    ):
        if value < least:
            raise ConfigError(f"{label} is {value} but must be at least {least}")


def _states(workspace: Workspace, task: Task, settings: Settings) -> dict[str, str]:
    """By sha, the states in which mechanisms begin: those given, else those remembered."""
    known = remembered(workspace.store, task.name, settings.stack) if settings.remember else {}
    return known | {stacks.source(name).sha: state for name, state in settings.states.items()}


def _borrowed(workspace: Workspace, task: Task, settings: Settings) -> tuple[Borrowed, ...]:
    if settings.loan or not settings.library:
        return settings.loan
    entries = workspace.library.entries()
    return borrow(entries, settings.library, task.name, task.space, settings.seed)


def _outer_model(settings: Settings) -> str:
    """The model of the outer levels, "" for the same. Raises ConfigError where none takes part."""
    outer = settings.outer
    if settings.llm_outer and not outer.steering and outer.research == "off":
        raise ConfigError(
            f"the outer levels' model is {settings.llm_outer}, but neither Level 1.5 nor Level 2 "
            "takes part; leave it out, or let one of them"
        )
    return "" if settings.llm_outer == settings.llm else settings.llm_outer


def _screened(plan: OuterPlan) -> OuterPlan:
    """The plan without screening where its library is missing; whoever introduces a run says so."""
    return plan if can_screen() else replace(plan, screening=False)


def can_screen() -> bool:
    """Whether the library that screening needs is installed."""
    return importlib.util.find_spec("sklearn") is not None


def _level(run: Run, allow_weak: bool) -> str:
    """How well a sandbox holds code on this machine, "" where the run needs none."""
    return _held(allow_weak) if needs_sandbox(run) else ""


@cache
def _held(allow_weak: bool) -> str:
    with Sandbox(allow_weak=allow_weak) as sandbox:
        sandbox.take(()).kill()
        return sandbox.level()


def conduct(
    workspace: Workspace,
    run: Run,
    llm: LLM,
    watcher: Watcher,
    sharing: Sharing | None = None,
    on: Terms | None = None,
) -> Stop:
    """Go on with a run until it ends, is interrupted, or cannot go on; the log says which.

    llm: the model that the run names; its owner closes it. sharing: what other runs were told and
    measured, which is not asked or measured again. on: limits and prices that change from here on.

    Raises RunBusy, and ConfigError when the task is no longer what the run began with, or the
    limits need a price that is not known.
    """
    task, _ = find_task(run.source)
    if fingerprint(task) != run.fingerprint:
        raise ConfigError(
            f"{run.source} has changed since {run.id} began, and its trials would no longer "
            "compare; restore it, or start a new run"
        )
    with workspace.store.writing(run.id), ExitStack() as closing:
        executor = LocalExecutor(workspace.folder(run.id) / "trials", slots=run.slots)
        closing.callback(executor.close)
        scrubber = Scrubber(secrets_in(os.environ))
        evaluator = Discreet(evaluator_of(task, executor), scrubber)
        run, opening = opened(workspace.store, run, on or Terms())
        budget = Budget(run, workspace.records(run.id), clock(opening))
        edges = _edges(workspace, run, llm, watcher, evaluator, sharing, budget)
        if needs_sandbox(run):
            edges.sandbox = closing.enter_context(Sandbox(allow_weak=run.sandbox == "weak"))
        loop = build(run, edges)
        try:
            stop = loop.go()
        except KeyboardInterrupt:
            stop = Stop(len(loop.history.proposals), "interrupted")
        except OverBudget as error:
            reason: StopReason = "wall" if error.limit == "wall" else "budget"
            stop = Stop(len(loop.history.proposals), reason, str(error))
        except (LLMError, ExecutorError, SandboxError) as error:
            stop = Stop(len(loop.history.proposals), "failed", scrubber.text(str(error)))
        else:
            if edges.sandbox is not None:
                collect(workspace.library, run, edges.records, edges.sandbox)
            return stop
        edges.log(stop)
        return stop


def evaluator_of(task: Task, executor: Executor) -> Evaluator:
    """Calls a task that is a quick, trusted function here; has any other run as a job."""
    if isinstance(task, FunctionTask) and task.inline:
        return InlineEvaluator(task)
    return JobEvaluator(task, executor)


def try_baseline(name: str) -> Outcome:
    """What one evaluation of a task's own values gives, outside of any run. Raises as below."""
    return _baseline(name).outcome


def timed_baseline(name: str) -> float:
    """Seconds that one evaluation of a task's own values takes, outside of any run.

    Raises ConfigError when it fails, so that its time means nothing.
    """
    ended = _baseline(name)
    if ended.outcome.status != "ok":
        raise ConfigError(
            f"the task with its own values ended as {ended.outcome.status}: "
            f"{ended.outcome.error}; mend the task first"
        )
    return ended.seconds


def _baseline(name: str) -> Evaluated:
    """One evaluation of a task's own values.

    Raises ConfigError or ExecutorError when it cannot even start.
    """
    task, _ = find_task(name)
    with tempfile.TemporaryDirectory() as folder:
        executor = LocalExecutor(Path(folder))
        evaluator = evaluator_of(task, executor)
        evaluator.start(0, task.space.defaults(), 0)
        try:
            while not (ended := evaluator.finished()):
                pass
        finally:
            executor.close()
    return ended[0]


def rerun_jobs(
    run: Run, trials: Sequence[Trial], source: str, starting: Callable[[Trial], None]
) -> Iterator[Rerun]:
    """Each trial of a recorded run evaluated again, of the task in `source`, in order.

    Raises ConfigError where that is not the run's task, and ExecutorError.
    """
    task, _ = find_task(source)
    if fingerprint(task) != run.fingerprint:
        raise ConfigError(
            f"{source} is not the task of {run.id} as it was, so its scores would say nothing of "
            "that run's; give the right one with --task"
        )
    with tempfile.TemporaryDirectory() as folder:
        executor = LocalExecutor(Path(folder), slots=run.slots)
        try:
            yield from rerun(trials, run.objective, evaluator_of(task, executor), starting)
        finally:
            executor.close()


def _appending(
    workspace: Workspace, run: Run, watcher: Watcher, budget: Budget
) -> Callable[[Record], object]:
    def append(record: Record) -> None:
        workspace.store.append(run.id, record)
        budget.add(record)
        watcher.record(record)

    return append


def _edges(
    workspace: Workspace,
    run: Run,
    llm: LLM,
    watcher: Watcher,
    evaluator: Evaluator,
    sharing: Sharing | None,
    budget: Budget,
) -> Edges:
    records = workspace.records(run.id)
    append = _appending(workspace, run, watcher, budget)
    calls = [r for r in records if isinstance(r, Call)]
    if run.tape:
        llm = taped(run, *workspace.recording(run.tape), llm if run.mixed else None, calls)
    if sharing is not None:
        evaluator = sharing.evaluator(evaluator)
        if isinstance(llm, Several):
            llm = llm.each(lambda name, one: sharing.llm(name, one, calls))
        else:
            llm = sharing.llm(run.llm, llm, calls)
    edges = Edges(
        tape=Tape(run.llm, llm, calls),
        evaluator=PacedEvaluator(evaluator, lambda: budget.late("job")),
        append=append,
        records=records,
        expired=budget.expired,
        watch=watcher.phase,
    )
    cast = Cast(run, lambda: edges.records)
    edges.tape = Tape(run.llm, llm, calls, edges.log, cast, budget)
    edges.layers = lambda: layers(run, edges.sandbox)
    return edges


def fingerprint(task: Task) -> str:
    """sha256 of what the task runs and says, the same on any machine."""
    job = task.job(task.space.defaults(), 0)
    parts = [dict(job.files), job.timeout, task.brief(), repr(task.space), repr(task.objective)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def replayed(run: Run, records: Sequence[Record]) -> Replay:
    """A recorded run decided again, its generated code in a sandbox."""
    if not needs_sandbox(run):
        return replay(run, records, lambda: layers(run))
    with Sandbox(allow_weak=run.sandbox == "weak") as sandbox:
        return replay(run, records, lambda: layers(run, sandbox), sandbox)
