"""Puts core and adapters together; the one file that knows both."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import bilevel
from bilevel import mechanisms
from bilevel.errors import ConfigError, ExecutorError, LLMError
from bilevel.evaluate import JobEvaluator
from bilevel.executors.local import LocalExecutor
from bilevel.history import History
from bilevel.loop import Loop
from bilevel.model import Call, Decision, Outcome, Phase, Record, Run, Stop, Trial
from bilevel.proposer import Proposer
from bilevel.protocols import LLM, Executor, Task
from bilevel.stack import Layer, Stack
from bilevel.store.sqlite import SqliteStore
from bilevel.tape import Tape
from bilevel.tasks.loading import load_task

GPT = Path(__file__).parent / "tasks" / "gpt"
BUILTIN = {"gpt": GPT / "task.toml", "gpt-cuda": GPT / "task_cuda.toml"}


class Watcher(Protocol):
    """Told what happens while a run goes; decides nothing."""

    def phase(self, phase: Phase) -> None: ...

    def record(self, record: Record) -> None: ...


@dataclass(frozen=True)
class Settings:
    """What the user asks of a run. None takes the task's own value.

    evals: evaluations of proposals. wall: seconds after which no further step begins.
    stack: names of mechanisms, lowest first.
    """

    evals: int = 30
    seed: int = 0
    llm: str = "embedded"
    wall: float | None = None
    slots: int = 1
    baselines: int | None = None
    confirms: int | None = None
    stack: tuple[str, ...] = ()


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
    if name in BUILTIN:
        return load_task(BUILTIN[name]), name
    return load_task(Path(name)), str(Path(name).resolve())


def begin(workspace: Workspace, name: str, settings: Settings) -> Run:
    """A new run, entered into the store. Raises ConfigError for settings that make no sense."""
    task, source = find_task(name)
    baselines = task.baselines if settings.baselines is None else settings.baselines
    confirms = task.confirms if settings.confirms is None else settings.confirms
    for label, value, least in (
        ("evals", settings.evals, 0),
        ("slots", settings.slots, 1),
        ("baselines", baselines, 2),
        ("confirms", confirms, 0),
    ):
        if value < least:
            raise ConfigError(f"{label} is {value} but must be at least {least}")
    run = Run(
        id=workspace.store.next_id(task.name),
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
        stack=tuple(f"{name}@{mechanisms.source(name).sha}" for name in settings.stack),
        states=remembered(workspace, task.name, settings.stack),
        source=source,
        fingerprint=fingerprint(task),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=bilevel.__version__,
        machine=machine(),
    )
    workspace.store.create(run)
    return run


def conduct(workspace: Workspace, run: Run, llm: LLM, watcher: Watcher) -> Stop:
    """Go on with a run until it ends, is interrupted, or cannot go on; the log says which.

    llm: the model that the run names; its owner closes it.

    Raises RunBusy, and ConfigError when the task is no longer what the run began with.
    """
    task, _ = find_task(run.source)
    if fingerprint(task) != run.fingerprint:
        raise ConfigError(
            f"{run.source} has changed since {run.id} began, and its trials would no longer "
            "compare; restore it, or start a new run"
        )
    with workspace.store.writing(run.id):
        records = workspace.records(run.id)
        append = _appending(workspace, run, watcher)
        executor = LocalExecutor(workspace.folder(run.id) / "trials", slots=run.slots)
        loop = _loop(run, task, records, llm, executor, append, watcher)
        try:
            return loop.go()
        except KeyboardInterrupt:
            stop = Stop(len(loop.history.proposals), "interrupted")
        except (LLMError, ExecutorError) as error:
            stop = Stop(len(loop.history.proposals), "failed", str(error))
        finally:
            executor.close()
        append(stop)
        return stop


def try_baseline(name: str) -> Outcome:
    """What one evaluation of a task's own values gives, outside of any run.

    Raises ConfigError or ExecutorError when it cannot even start.
    """
    task, _ = find_task(name)
    with tempfile.TemporaryDirectory() as folder:
        executor = LocalExecutor(Path(folder))
        evaluator = JobEvaluator(task, executor)
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


def _loop(
    run: Run,
    task: Task,
    records: Sequence[Record],
    llm: LLM,
    executor: Executor,
    append: Callable[[Record], object],
    watcher: Watcher,
) -> Loop:
    calls = [r for r in records if isinstance(r, Call)]
    return Loop(
        run=run,
        objective=run.objective,
        history=History(run.space, records),
        proposer=Proposer(run.brief, run.objective, Tape(run.llm, llm, calls, append), run.seed),
        evaluator=JobEvaluator(task, executor),
        stack=Stack(layers(run), run.seed, append, records),
        append=append,
        expired=_clock(run, records),
        watch=watcher.phase,
    )


def layers(run: Run) -> list[Layer]:
    """Fresh layers of the run's stack. Raises ConfigError when one has changed, MissingExtra."""
    made = []
    for entry in run.stack:
        name, _, sha = entry.partition("@")
        source = mechanisms.source(name)
        if sha != source.sha:
            raise ConfigError(
                f"mechanism {name} has changed since {run.id} began; restore it, or start a new run"
            )
        layer = Layer(sha, name, mechanisms.load(name))
        if sha in run.states:
            layer.mechanism._restore(run.states[sha])
        made.append(layer)
    return made


def remembered(workspace: Workspace, task: str, stack: Sequence[str]) -> dict[str, str]:
    """By sha, the last state in this task's earlier runs of each mechanism that remembers."""
    wanted = {mechanisms.source(n).sha for n in stack if mechanisms.load(n).remembers}
    states: dict[str, str] = {}
    for run in workspace.store.runs() if wanted else []:
        if run.task == task:
            decisions = [d for _, d in workspace.store.read(run.id, Decision)]
            states |= {d.layer: d.state for d in decisions if d.layer in wanted}
    return states


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


def machine() -> dict[str, str]:
    """What the run is made on, in a few facts that matter when results are compared."""
    facts = {
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "cores": str(len(os.sched_getaffinity(0))),
    }
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        facts["processor"] = names[0].partition(":")[2].strip() if names else platform.machine()
    return facts
