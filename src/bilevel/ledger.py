"""What the mechanisms of a run did: each decision that one changed, and the trials it touched."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bilevel.describe import changes, one_line, start_values
from bilevel.history import History
from bilevel.mechanism import started_from
from bilevel.model import Decision, MechanismSource, Record, Run, Session, Trial
from bilevel.stack import Hook

NAMES_SHOWN = 4
NOTE_WIDTH = 80


@dataclass(frozen=True)
class Touched:
    """A trial that a mechanism had a part in. value: of the metric, None for a failed trial.

    gain: of its score over that of the trial it started from, None where either has none.
    """

    trial: int
    status: str
    value: float | None
    gain: float | None
    kept: bool


@dataclass(frozen=True)
class Entry:
    """A decision that a mechanism changed: what came to it, what it made of that, in words.

    trials: of the step for `plan` and `screen`, the one decided on for `accept`.
    """

    step: int
    sha: str
    name: str
    hook: Hook
    before: str
    after: str
    trials: tuple[Touched, ...]


class Touches:
    """Who changed a decision about which trial; grows with the log, by `add`.

    A change of `plan` or `screen` touches the step's trials, one of `accept` its own.
    """

    def __init__(self, run: Run, records: Sequence[Record] = ()) -> None:
        self.names = dict(by_sha(entry) for entry in run.stack)
        self._steps: dict[int, list[tuple[str, Hook]]] = {}
        self._trials: dict[int, list[tuple[str, Hook]]] = {}
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Take in one record; kinds that tell nothing of this are passed over."""
        if isinstance(record, MechanismSource):
            self.names[record.sha] = record.name
        elif isinstance(record, Decision) and record.before != record.after:
            place = self._trials if record.hook == "accept" else self._steps
            place.setdefault(record.key, []).append((record.layer, record.hook))

    def of(self, trial: Trial) -> tuple[tuple[str, Hook], ...]:
        """By sha and hook, who changed a decision about this trial, in order."""
        if trial.draft is None:
            return ()
        found = [*self._steps.get(trial.draft.step, ()), *self._trials.get(trial.id, ())]
        return tuple(dict.fromkeys(found))

    def mark(self, trial: Trial) -> str:
        """The same as people read it: `tabu.screen, LeastTried.plan`."""
        return ", ".join(f"{one_line(self.names[sha])}.{hook}" for sha, hook in self.of(trial))


def ledger(run: Run, records: Sequence[Record]) -> list[Entry]:
    """Every decision that a mechanism changed, in order."""
    history = History(run.space, records)
    names = Touches(run, records).names
    return [
        Entry(
            step=d.step,
            sha=d.layer,
            name=names[d.layer],
            hook=d.hook,
            before=_words(history, d, d.before),
            after=_words(history, d, d.after),
            trials=tuple(touched(run, history, t) for t in _decided(history, d)),
        )
        for d in records
        if isinstance(d, Decision) and d.before != d.after
    ]


def said(session: Session) -> dict[str, str]:
    """What a session's rounds said, by round and topic, one line each."""
    lines: dict[str, str] = {}
    for name, text in session.notes.items():
        try:
            note = json.loads(text)
        except json.JSONDecodeError:
            note = text
        topics = note if isinstance(note, dict) else {"": note}
        for topic, words in topics.items():
            lines[f"{name} {topic}".strip()] = one_line(_told(words))
    return lines


def _told(value: object) -> str:
    """A value of a round's JSON as words, its own keys left out."""
    if isinstance(value, dict):
        return ", ".join(_told(v) for v in value.values())
    return "; ".join(map(_told, value)) if isinstance(value, list) else str(value)


def by_sha(entry: str) -> tuple[str, str]:
    """sha and name of an entry of a run's stack."""
    name, _, sha = entry.rpartition("@")
    return sha, name


def touched(run: Run, history: History, trial: Trial) -> Touched:
    """What came of a trial."""
    value = None if trial.score is None else run.objective.value(trial.score)
    return Touched(trial.id, trial.status, value, gain(history, trial), trial.kept)


def gain(history: History, trial: Trial) -> float | None:
    """A trial's score over that of the trial it started from; None where either has none."""
    if trial.draft is None or trial.score is None:
        return None
    start = started_from(history.trials, trial).score
    return None if start is None else trial.score - start


def _decided(history: History, decision: Decision) -> list[Trial]:
    """The trials that a decision was about."""
    if decision.hook == "accept":
        return [history.trials[decision.key]] if decision.key < len(history.trials) else []
    return [t for t in history.trials if t.draft is not None and t.draft.step == decision.step]


def _words(history: History, decision: Decision, text: str) -> str:
    """One side of a decision as people read it."""
    answer = json.loads(text)
    if decision.hook == "accept":
        return "keep" if answer else "discard"
    if decision.hook == "plan":
        return "; ".join(_move(history, decision.step, move) for move in answer) or "nothing"
    return "; ".join(_draft(history, draft) for draft in answer) or "nothing"


def _move(history: History, step: int, move: Mapping[str, Any]) -> str:
    """`from #3: RATE 0.1 -> 0.2, only RATE and BATCH, "go lower"`."""
    parents: Sequence[int] = move["parents"]
    said: list[str] = []
    if move["values"] is not None:
        start = start_values(history, parents, step)
        said += changes(history.space, start, move["values"]) or ("same",)
    if move["focus"]:
        said.append(f"only {_some(move['focus'])}")
    if move["note"]:
        said.append(f'"{one_line(move["note"], NOTE_WIDTH)}"')
    for key, words in (("tag", "tag"), ("seed", "fresh seed"), ("since", "shown from #")):
        if move[key]:
            said.append(f"{words} {one_line(str(move[key]))}".replace("# ", "#"))
    if move["writer"] != "llm":
        said.append(f"by {one_line(move['writer'])}")
    where = f"from {_some([f'#{p}' for p in parents])}" if parents else "from the incumbent"
    return f"{where}: {', '.join(said)}" if said else where


def _draft(history: History, draft: Mapping[str, Any]) -> str:
    """`RATE 0.1 -> 0.2`, and why it was edited."""
    start = start_values(history, draft["move"]["parents"], draft["step"])
    said = ", ".join(changes(history.space, start, draft["values"])) or "same"
    why = one_line(draft["edits"][-1]["why"], NOTE_WIDTH) if draft["edits"] else ""
    return f"{said} ({why})" if why else said


def _some(names: Sequence[str]) -> str:
    """The names, or the first few and how many more there are."""
    shown, more = names[:NAMES_SHOWN], len(names) - NAMES_SHOWN
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
