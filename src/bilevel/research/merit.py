"""What a mechanism did in a run since it joined, and whether that ends its probation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bilevel.attribution import Load, leave_one_out
from bilevel.history import History
from bilevel.mechanism import started_from
from bilevel.model import (
    Decision,
    Draft,
    Fault,
    Layering,
    MechanismSource,
    Proposal,
    Record,
    Run,
    Trial,
)
from bilevel.prompting import figure
from bilevel.resuming import ADD
from bilevel.stack import Layer

SIGMAS = 2.0  # standard deviations of one measurement beyond which a trial gained or lost
STALLED = 5  # steps in a row without an evaluation, after which those that shaped them all leave


@dataclass(frozen=True)
class Known:
    """A mechanism that Level 2 may build on or ask to remove.

    record: what became of it. credit: share of the decisions taken while it was on the stack that
    would differ without it. gained: whether it is on the stack and a trial that it touched there
    beat its start beyond noise; then it stays, as a small LLM names any that it may.
    """

    source: MechanismSource
    record: str
    credit: float
    stacked: bool
    gained: bool = False

    @property
    def removable(self) -> bool:
        return self.stacked and not self.gained


@dataclass(frozen=True)
class Merit:
    """A mechanism's doings since it last joined the stack, from the log.

    since: the step before which it joined. asked, changed: decisions. touched: trials that would
    have been others, or kept otherwise, without it. gains: of those that have one, score over the
    trial they started from. faults: since then. left: why it was taken out, "" while it is in.
    """

    sha: str
    since: int
    asked: int
    changed: int
    touched: tuple[Trial, ...]
    gains: tuple[float, ...]
    faults: int
    left: str

    def text(self) -> str:
        """The same in one line, for a prompt."""
        gained = ""
        if self.gains:
            scores = (t.score for t in self.touched)
            gained = f", best gain {figure(max(self.gains), *scores, sign='+')}"
        faults = f", {self.faults} faults" if self.faults else ""
        state = f"taken out: {self.left}" if self.left else "on the stack"
        return (
            f"changed {self.changed} of {self.asked} decisions since step {self.since}, "
            f"{len(self.touched)} trials touched{gained}{faults}; {state}"
        )


def merit(run: Run, records: Sequence[Record], sha: str) -> Merit:
    """What this mechanism did. Raises IndexError when it never joined."""
    joined = [
        (i, r)
        for i, r in enumerate(records)
        if isinstance(r, Layering) and (r.sha, r.action) == (sha, "add")
    ]
    number, first = joined[-1]
    since = records[number:]
    own = [r for r in since if isinstance(r, Decision) and r.layer == sha]
    changed = [d for d in own if d.before != d.after]
    touched = _touched(since, changed)
    view = History(run.space, records)
    left = [
        r.why for r in since if isinstance(r, Layering) and (r.sha, r.action) == (sha, "remove")
    ]
    return Merit(
        sha,
        first.step,
        len(own),
        len(changed),
        touched,
        tuple(g for t in touched if (g := _gain(view, t)) is not None),
        sum(isinstance(r, Fault) and r.layer == sha for r in since),
        left[-1] if left else "",
    )


def ranked(
    run: Run, records: Sequence[Record], layers: Callable[[], Sequence[Layer]], load: Load
) -> list[Known]:
    """The mechanisms that sessions admitted, best credit first, then the newest.

    layers: makes fresh ones of the stack that the run began with. load: makes those that joined.
    """
    sources = [r for r in records if isinstance(r, MechanismSource)]
    if not sources:
        return []
    credits = {c.layer: c.different for c in leave_one_out(run, records, layers, load)}
    bound = SIGMAS * (History(run.space, records).noise() or 0.0)
    found = []
    for source in {s.sha: s for s in reversed(sources)}.values():
        if source.sha not in credits:
            found.append(Known(source, _unloaded(records, source.sha), 0.0, False))
            continue
        done = merit(run, records, source.sha)
        credit = credits[source.sha] / max(1, decisions_with(records, source.sha))
        stays = not done.left
        gained = stays and max(done.gains, default=0.0) > bound
        found.append(Known(source, done.text(), credit, stays, gained))
    return sorted(found, key=lambda k: -k.credit)


def with_library(run: Run, known: Sequence[Known]) -> list[Known]:
    """The same with what the run was given of the library, and with its record from there."""
    given, found = {b.source.sha: b for b in run.library}, list[Known]()
    for one in known:
        earlier = given.pop(one.source.sha, None)
        found.append(replace(one, record=f"{one.record}; {earlier.record}") if earlier else one)
    found += [Known(b.source, b.record, b.credit, False) for b in given.values()]
    return sorted(found, key=lambda k: -k.credit)


def decisions_with(records: Sequence[Record], sha: str, stacked: bool = False) -> int:
    """How many plans, screenings and acceptances there were while the mechanism was stacked.

    stacked: whether the run began with it.
    """
    count = 0
    for record in records:
        if isinstance(record, Layering) and record.sha == sha:
            stacked = record.action == "add"
        elif stacked and isinstance(record, Proposal):
            count += 2
        elif stacked and isinstance(record, Trial) and record.role == "search":
            count += 1
    return count


def _unloaded(records: Sequence[Record], sha: str) -> str:
    """Why a mechanism that was admitted never joined."""
    faults = [r for r in records if isinstance(r, Fault) and (r.layer, r.hook) == (sha, ADD)]
    return f"admitted, and could not be loaded: {faults[-1].message}"


def objection(run: Run, records: Sequence[Record], sha: str) -> str:
    """Why a mechanism must leave at the end of a cycle, "" if it may stay.

    It leaves when it has changed no decision since it joined, a cycle or more ago, or when the
    last trials that it touched, a cycle's worth, all failed or came out worse than their start by
    more than SIGMAS sigma; where the baselines show no noise only failures count, for any search
    loses most of its trials. Gains are not asked for: within one run they are noise.
    """
    done = merit(run, records, sha)
    evaluated = _evaluated(records, done.since)
    if evaluated < run.outer.every:
        return ""
    if not done.changed:
        return f"it changed none of {done.asked} decisions in {evaluated} evaluations"
    history = History(run.space, records)
    bound = -SIGMAS * (history.noise() or 0.0)
    last = done.touched[-run.outer.every :]
    if len(last) == run.outer.every and all(_harmed(history, t, bound) for t in last):
        lost = f" or lost more than {-bound:.2g} ({SIGMAS:g} sigma)" if bound else ""
        return f"the last {len(last)} trials that it touched all failed{lost}"
    return ""


def stalling(history: History, records: Sequence[Record], sha: str) -> str:
    """Why a mechanism must leave at once, "" if it may stay.

    It leaves when the last STALLED steps led to no evaluation and it changed the plan or the drafts
    of each: one that looks at trials alone would choose the same for ever.
    """
    if history.idle_steps() < STALLED:
        return ""
    steps = len(history.proposals)
    last = range(steps - STALLED, steps)
    own = (r for r in records if isinstance(r, Decision) and r.layer == sha)
    shaped = {d.step for d in own if d.hook != "accept" and d.before != d.after}
    if not shaped.issuperset(last):
        return ""
    return f"{STALLED} steps in a row led to no evaluation, and it shaped each of them"


def _touched(records: Sequence[Record], changed: Sequence[Decision]) -> tuple[Trial, ...]:
    steps = {d.step for d in changed if d.hook != "accept"}
    trials = {d.key for d in changed if d.hook == "accept"}
    return tuple(
        r
        for r in records
        if isinstance(r, Trial)
        and r.draft is not None
        and (r.draft.step in steps or r.id in trials)
    )


def _evaluated(records: Sequence[Record], since: int) -> int:
    drafts: list[Draft] = [r.draft for r in records if isinstance(r, Trial) and r.draft is not None]
    return sum(d.step >= since for d in drafts)


def _gain(history: History, trial: Trial) -> float | None:
    start = started_from(history.trials, trial).score
    return None if trial.score is None or start is None else trial.score - start


def _harmed(history: History, trial: Trial, bound: float) -> bool:
    gain = _gain(history, trial)
    return gain is None or (bound < 0 and gain < bound)
