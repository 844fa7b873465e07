"""Puts core and adapters together; the one file that knows both."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import bilevel
from bilevel.engine import Edges, build
from bilevel.errors import ConfigError, ExecutorError, LLMError
from bilevel.evaluate import Evaluator, InlineEvaluator, JobEvaluator
from bilevel.executors.local import LocalExecutor
from bilevel.machine import machine
from bilevel.model import Call, Outcome, OuterPlan, Phase, Record, Run, Stop, Trial
from bilevel.protocols import LLM, Executor, Task
from bilevel.replay import Replay, replay
from bilevel.sandbox.errors import SandboxError
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.sharing import Sharing
from bilevel.stacks import entries, layers, needs_sandbox, remembered
from bilevel.store.sqlite import SqliteStore
from bilevel.tape import Tape
from bilevel.tasks import builtin
from bilevel.tasks.function import FunctionTask
from bilevel.tasks.loading import load_task


class Watcher(Protocol):
    """Told what happens while a run goes; decides nothing."""

    def phase(self, phase: Phase) -> None: ...

    def record(self, record: Record) -> None: ...


@dataclass(frozen=True)
class Settings:
    """What the user asks of a run. None takes the task's own value.

    evals: evaluations of proposals. wall: seconds after which no further step begins.
    stack: names of mechanisms, lowest first, or paths of files. remember: whether one that
    remembers earlier runs may. outer: the outer loop. allow_weak: whether code that is not ours
    may run where the machine cannot lock it in.
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
    outer: OuterPlan = field(default_factory=OuterPlan)
    allow_weak: bool = False


class Workspace:
    """A folder with the store and a folder a run."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = SqliteStore(home / "runs.sqlite")

    def folder(self, run: str) -> Path:
        """Where the run's logs, results and best configuration lie."""
        return self.home / "runs" / run

    def records(self, run: str) -> list[Record]:
        """The whole log of a run. Raises RunNotFound."""
        return [record for _, _, _, record in self.store.events(run)]

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
    run = planned(workspace, name, settings)
    run = replace(run, id=workspace.store.next_id(run.task))
    workspace.store.create(run)
    return run


def planned(workspace: Workspace, name: str, settings: Settings) -> Run:
    """The run that `begin` would enter into the store, without a name. Raises ConfigError."""
    task, source = find_task(name)
    baselines = task.baselines if settings.baselines is None else settings.baselines
    confirms = task.confirms if settings.confirms is None else settings.confirms
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
        slots=settings.slots,
        stack=stack,
        states=remembered(workspace.store, task.name, settings.stack) if settings.remember else {},
        sources=own,
        outer=_screened(settings.outer),
        source=source,
        fingerprint=fingerprint(task),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=bilevel.__version__,
        machine=machine(),
    )
    return replace(run, sandbox=_level(run, settings.allow_weak))


def _screened(plan: OuterPlan) -> OuterPlan:
    """The plan without screening where its library is missing; whoever introduces a run says so."""
    return plan if importlib.util.find_spec("sklearn") else replace(plan, screening=False)


def _level(run: Run, allow_weak: bool) -> str:
    """How well a sandbox holds code on this machine, "" where the run needs none."""
    if not needs_sandbox(run):
        return ""
    with Sandbox(allow_weak=allow_weak) as sandbox:
        sandbox.take(()).kill()
        return sandbox.level()


def conduct(
    workspace: Workspace, run: Run, llm: LLM, watcher: Watcher, sharing: Sharing | None = None
) -> Stop:
    """Go on with a run until it ends, is interrupted, or cannot go on; the log says which.

    llm: the model that the run names; its owner closes it. sharing: what other runs were told and
    measured, which is not asked or measured again.

    Raises RunBusy, and ConfigError when the task is no longer what the run began with.
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
        edges = _edges(workspace, run, llm, watcher, evaluator_of(task, executor), sharing)
        if needs_sandbox(run):
            edges.sandbox = closing.enter_context(Sandbox(allow_weak=run.sandbox == "weak"))
        loop = build(run, edges)
        try:
            return loop.go()
        except KeyboardInterrupt:
            stop = Stop(len(loop.history.proposals), "interrupted")
        except (LLMError, ExecutorError, SandboxError) as error:
            stop = Stop(len(loop.history.proposals), "failed", str(error))
        edges.log(stop)
        return stop


def evaluator_of(task: Task, executor: Executor) -> Evaluator:
    """Calls a task that is a quick, trusted function here; has any other run as a job."""
    if isinstance(task, FunctionTask) and task.inline:
        return InlineEvaluator(task)
    return JobEvaluator(task, executor)


def try_baseline(name: str) -> Outcome:
    """What one evaluation of a task's own values gives, outside of any run.

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
    return ended[0].outcome


def _appending(workspace: Workspace, run: Run, watcher: Watcher) -> Callable[[Record], object]:
    def append(record: Record) -> None:
        workspace.store.append(run.id, record)
        watcher.record(record)

    return append


def _edges(
    workspace: Workspace,
    run: Run,
    llm: LLM,
    watcher: Watcher,
    evaluator: Evaluator,
    sharing: Sharing | None,
) -> Edges:
    records = workspace.records(run.id)
    append = _appending(workspace, run, watcher)
    calls = [r for r in records if isinstance(r, Call)]
    if sharing is not None:
        llm, evaluator = sharing.llm(run.llm, llm, calls), sharing.evaluator(evaluator)
    edges = Edges(
        tape=Tape(run.llm, llm, calls),
        evaluator=evaluator,
        append=append,
        records=records,
        expired=_clock(run, records),
        watch=watcher.phase,
    )
    edges.tape = Tape(run.llm, llm, calls, edges.log)
    edges.layers = lambda: layers(run, edges.sandbox)
    return edges


def _clock(run: Run, records: Sequence[Record]) -> Callable[[], str]:
    """Why no further step may begin: the run's time limit, time before a resume counted in."""
    spent = sum(
        r.seconds if isinstance(r, Trial) else r.reply.seconds
        for r in records
        if isinstance(r, Trial | Call)
    )
    start = time.monotonic()

    def expired() -> str:
        over = run.wall is not None and time.monotonic() - start + spent >= run.wall
        return f"the time limit of {run.wall:g} s has passed" if over else ""

    return expired


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
