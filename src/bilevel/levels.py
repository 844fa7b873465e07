"""The levels that take part in a run: chosen by a text, and what each of them did and cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bilevel.errors import ConfigError
from bilevel.ledger import Touches
from bilevel.model import (
    Call,
    Fault,
    Layering,
    MechanismSource,
    Opening,
    OuterPlan,
    Proposal,
    Record,
    Run,
    Session,
    Steering,
    Trial,
)

ALL = "1,1.5,2"
CHOICES = {
    "1": OuterPlan(),
    "1,1.5": OuterPlan(steering=True),
    "1,2": OuterPlan(research="on"),
    ALL: OuterPlan(steering=True, research="on"),
}
NO_LLM = "none"
# Kinds of records that are decided again in a replay, in words.
DECISIONS: Mapping[type, str] = {
    Proposal: "proposal",
    Trial: "trial",
    Steering: "steering",
    Session: "session",
    MechanismSource: "mechanism",
    Layering: "change of the stack",
}


@dataclass(frozen=True)
class Usage:
    """What one level asked of the LLM; seconds are wall-clock. calls: those that were answered."""

    level: str
    calls: int
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    seconds: float


@dataclass(frozen=True)
class OuterLoop:
    """What the outer levels did.

    levels: those that took part. sham: Level 2's code was left out. beside: its sessions were held
    while the inner loop went on. writes: what its sessions asked for, in order. sandbox:
    how well generated code was held, "" where there was none. admitted: sessions that ended with a
    mechanism. refused: attempts by the gate's rule that refused them. joined, faults: of layers.
    layers: names of those on the stack at the end, lowest first. usage: by level.
    """

    levels: tuple[str, ...]
    sham: bool
    beside: bool
    writes: str
    sandbox: str
    steerings: int
    sessions: int
    admitted: int
    attempts: int
    refused: Mapping[str, int]
    joined: int
    faults: int
    layers: tuple[str, ...]
    usage: tuple[Usage, ...]


def chosen(text: str | None, llm: str, sham: bool = False) -> OuterPlan:
    """The plan that `--levels` names; None stands for all levels, or the first without an LLM.

    Raises ConfigError with the allowed texts, and for a sham of a Level 2 that takes no part.
    """
    text = (text or ("1" if llm == NO_LLM else ALL)).replace(" ", "")
    if text not in CHOICES:
        raise ConfigError(f"--levels is {text!r} but must be one of: {' | '.join(CHOICES)}")
    if llm == NO_LLM and text != "1":
        raise ConfigError(
            f"--levels is {text}, but Levels 1.5 and 2 talk to an LLM and --llm none gives none; "
            "leave --levels out, or name an LLM"
        )
    plan = CHOICES[text]
    if sham and plan.research == "off":
        raise ConfigError(
            f"--sham leaves out the code of Level 2, which takes no part in levels {text}; "
            "give --levels 1,2 or 1,1.5,2"
        )
    return replace(plan, research="sham") if sham else plan


def names(plan: OuterPlan) -> tuple[str, ...]:
    """The levels of a plan, by name."""
    return (
        "1",
        *(("1.5",) if plan.steering else ()),
        *(("2",) if plan.research != "off" else ()),
    )


def outer_loop(run: Run, records: Sequence[Record]) -> OuterLoop:
    """What the outer levels of a run did so far."""
    sessions = [r for r in records if isinstance(r, Session)]
    attempts = [a for s in sessions for a in s.attempts]
    changed = [r for r in records if isinstance(r, Layering)]
    asked = {r.level for r in records if isinstance(r, Call)}
    return OuterLoop(
        levels=names(run.outer),
        sham=run.outer.research == "sham",
        beside=run.outer.beside,
        writes=", then ".join(dict.fromkeys(s.writes for s in sessions)) or run.outer.writes,
        sandbox=", then ".join(sandboxes(run, records)),
        steerings=sum(isinstance(r, Steering) for r in records),
        sessions=len(sessions),
        admitted=sum(bool(s.admitted) for s in sessions),
        attempts=len(attempts),
        refused=dict(Counter(a.rule for a in attempts if a.rule)),
        joined=sum(c.action == "add" for c in changed),
        faults=sum(isinstance(r, Fault) for r in records),
        layers=_layers(run, records),
        usage=tuple(usage(records, level) for level in ("1", "1.5", "2") if level in asked),
    )


def sandboxes(run: Run, records: Iterable[Record]) -> tuple[str, ...]:
    """At which levels its generated code was held, in order; a run may go on elsewhere."""
    openings = [r.sandbox for r in records if isinstance(r, Opening)]
    return tuple(dict.fromkeys(level for level in (run.sandbox, *openings) if level))


def usage(records: Iterable[Record], level: str, step: int | None = None) -> Usage:
    """What a level asked of the LLM, in all or before one step."""
    calls = [r for r in records if isinstance(r, Call) and r.level == level]
    replies = [c.reply for c in calls if step is None or c.step == step]
    return Usage(
        level=level,
        calls=sum(r.answers for r in replies),
        tokens_in=sum(r.tokens_in for r in replies),
        tokens_out=sum(r.tokens_out for r in replies),
        tokens_cached=sum(r.tokens_cached for r in replies),
        seconds=sum(r.seconds for r in replies),
    )


def decided_text(records: Sequence[Record], count: int) -> str:
    """The first `count` decisions of a log by kind: `24 proposals, 12 trials, 1 session`."""
    counted = Counter([type(r) for r in records if type(r) in DECISIONS][:count])
    parts = [
        f"{counted[kind]} {words if counted[kind] == 1 else _plural(words)}"
        for kind, words in DECISIONS.items()
        if counted[kind]
    ]
    return ", ".join(parts) or "nothing"


def _plural(words: str) -> str:
    first, space, rest = words.partition(" ")
    return f"{first}s{space}{rest}"


def _layers(run: Run, records: Sequence[Record]) -> tuple[str, ...]:
    known = Touches(run, records).names
    stack = [entry.rpartition("@")[2] for entry in run.stack]
    for record in records:
        if isinstance(record, Layering) and record.action == "add":
            stack.append(record.sha)
        elif isinstance(record, Layering):
            stack.remove(record.sha)
    return tuple(known[sha] for sha in stack)
