"""What a study said before its first run, kept beside the store: rules stay, the rest may grow.

One JSON file a study, `studies/NAME.json` in the workspace's folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bilevel import codec
from bilevel.compare.compare import Cell
from bilevel.errors import ConfigError, StoreError
from bilevel.library.choice import borrow
from bilevel.model import Borrowed, Run
from bilevel.planning import planned
from bilevel.results import replacing
from bilevel.sandbox.policy import Wall
from bilevel.study.data import AnalysisPlan, Hypothesis, Version
from bilevel.study.file import StudyFile
from bilevel.study.harness import Loans, plan_of
from bilevel.task_jobs import find_task
from bilevel.workspace import Workspace

SHOWN = 80  # characters of a value in a message


@dataclass(frozen=True)
class Loan:
    """What of the library one run is given."""

    task: str
    arm: str
    seed: int
    given: tuple[Borrowed, ...]


@dataclass(frozen=True)
class Kind:
    """What the runs of an arm on a task are: one of them, and how it chooses from the library."""

    run: Run
    library: str = ""


@dataclass(frozen=True)
class Registry:
    """What a study is held to.

    began: when it was entered, ISO 8601, UTC. kinds: by task and arm, what a run of it is, seeds
    left out. versions: of the file, the first one first.
    """

    name: str
    began: str
    first_seed: int
    repeats: int
    hypotheses: tuple[Hypothesis, ...]
    plan: AnalysisPlan | None
    kinds: dict[str, dict[str, Kind]]
    versions: tuple[Version, ...]
    loans: tuple[Loan, ...] = field(default=())

    def lent(self) -> Loans:
        """By task, arm and seed, what of the library a run is given."""
        return {(loan.task, loan.arm, loan.seed): loan.given for loan in self.loans}


_ADAPTER: TypeAdapter[Registry] = TypeAdapter(Registry)


def path_of(home: Path, name: str) -> Path:
    """Where the record of a study lies."""
    return home / "studies" / f"{name}.json"


def load(home: Path, name: str) -> Registry | None:
    """The record of a study, None before its first run. Raises StoreError for a damaged one."""
    path = path_of(home, name)
    if not path.exists():
        return None
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise StoreError(f"{path}, the study's record, cannot be read: {error}") from error


def dump(record: Registry) -> bytes:
    """What `load` reads."""
    return _ADAPTER.dump_json(record, indent=1)


def enter(
    workspace: Workspace, file: StudyFile, allow_weak: bool = False, sandbox: Wall = "auto"
) -> Registry:
    """The study's record, made or grown by what the file adds.

    Raises ConfigError for a file that changes what was said before the first run, RunBusy while
    another process enters it.
    """
    with workspace.store.writing(f"study-{file.study.name}"):
        known = load(workspace.home, file.study.name)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entry = known or Registry(file.study.name, now, 0, 0, (), None, {}, ())
        grown = _grown(workspace, entry, file, now, allow_weak, sandbox)
        if known is not None:
            check(known, grown)
            if known.versions[-1].hash == file.hash:
                return known
        path = path_of(workspace.home, file.study.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as fresh:
            fresh.write_bytes(dump(grown))
        return grown


def verify(workspace: Workspace, known: Registry, file: StudyFile) -> None:
    """Raises ConfigError for a file that changes what was said before the first run."""
    check(known, _grown(workspace, known, file, "", allow_weak=True))


def check(known: Registry, now: Registry) -> None:
    """Raises ConfigError unless `now` keeps all that `known` holds."""
    other = "; restore it, or give the changed study another name and fresh seeds (first_seed)"
    since = f"the study {known.name} began on {known.began}, and since then "
    for what, before, after in (
        ("its hypotheses", known.hypotheses, now.hypotheses),
        ("its plan of analysis", known.plan, now.plan),
    ):
        if before != after:
            raise ConfigError(
                f"{since}{what} changed: {_difference(_values(before), _values(after))}. "
                f"Rules are written before the first run and never after{other}"
            )
    if known.first_seed != now.first_seed:
        raise ConfigError(
            f"{since}first_seed was {known.first_seed} and is {now.first_seed}{other}"
        )
    if known.repeats > now.repeats:
        raise ConfigError(
            f"{since}repeats went down from {known.repeats} to {now.repeats}; a study may grow, "
            f"but leave out nothing{other}"
        )
    for task, arms in known.kinds.items():
        for arm, kind in arms.items():
            new = now.kinds.get(task, {}).get(arm)
            if new is None:
                raise ConfigError(
                    f"{since}arm {arm} on task {task} was left out; a study may grow, but leave "
                    f"out nothing{other}"
                )
            if _words(new) != _words(kind):
                raise ConfigError(
                    f"{since}arm {arm} on task {task} changed: "
                    f"{_difference(_words(kind), _words(new))}{other}"
                )


def _grown(
    workspace: Workspace,
    known: Registry,
    file: StudyFile,
    now: str,
    allow_weak: bool,
    sandbox: Wall = "auto",
) -> Registry:
    """The record as the file would have it; what the library lent before stays lent."""
    loans = {**_loans(workspace, file, known, allow_weak), **known.lent()}
    return replace(
        known,
        first_seed=file.study.first_seed,
        repeats=file.study.repeats,
        hypotheses=file.hypotheses,
        plan=file.plan,
        kinds=_kinds(workspace, file, loans, allow_weak, sandbox),
        versions=(*known.versions, Version(now, file.hash, file.text)),
        loans=tuple(Loan(*key, given) for key, given in loans.items()),
    )


def _loans(
    workspace: Workspace, file: StudyFile, known: Registry, allow_weak: bool
) -> dict[tuple[str, str, int], tuple[Borrowed, ...]]:
    """What each run of an arm with the library is to be given, for those not known yet.

    From what the library held when the study began: what the study's own runs, or others since
    then, put in would make later repeats another arm.
    """
    entries = [e for e in workspace.library.entries() if e.created <= known.began]
    lent, found = known.lent(), {}
    for name in file.study.tasks:
        plan = plan_of(file, name, allow_weak=allow_weak)
        task, _ = find_task(plan.task)
        for cell in plan.cells():
            key, wish = (name, cell.strategy, cell.seed), file.arms[cell.strategy].library
            if wish and key not in lent:
                found[key] = borrow(entries, wish, task.name, task.space, cell.seed)
    return found


def _kinds(
    workspace: Workspace, file: StudyFile, loans: Loans, allow_weak: bool, sandbox: Wall
) -> dict[str, dict[str, Kind]]:
    """By task and arm, what a run of it is: what is equal for all seeds and machines."""
    kinds: dict[str, dict[str, Kind]] = {}
    for task in file.study.tasks:
        plan = plan_of(file, task, loans, allow_weak, sandbox)
        for arm in file.study.arms:
            run = planned(workspace, plan.task, plan.settings(Cell(arm, file.study.first_seed)))
            bare = replace(run, seed=0, created="", machine={}, library=())
            same = replace(bare, sandbox="", allow_weak=False)
            kinds.setdefault(task, {})[arm] = Kind(same, file.arms[arm].library or "")
    return kinds


def _words(kind: Kind) -> dict[str, Any]:
    """A kind as JSON values; a study may grow with a later version, which `builds` notes."""
    return {**json.loads(codec.dump(replace(kind.run, version=""))), "library": kind.library}


def _difference(before: Any, after: Any) -> str:
    """The first place where two JSON values differ, in words."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in dict.fromkeys([*before, *after]):
            if name not in before or name not in after:
                return f"{name} is {'new' if name in after else 'gone'}"
            if before[name] != after[name]:
                return f"{name}: {_difference(before[name], after[name])}"
    if isinstance(before, list) and isinstance(after, list):
        for number, (one, other) in enumerate(zip(before, after, strict=False), 1):
            if one != other:
                name = one.get("name", f"number {number}") if isinstance(one, Mapping) else number
                return f"{name}: {_difference(one, other)}"
        return f"there were {len(before)} and are {len(after)}"
    return f"it was {_short(before)} and is {_short(after)}"


def _values(rules: object) -> Any:
    """Rules as JSON values."""
    return TypeAdapter(object).dump_python(rules, mode="json")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
