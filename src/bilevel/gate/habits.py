"""A proposer in the LLM's place that proposes as a run's LLM did, at no cost."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bilevel.attribution import moments, unedited
from bilevel.history import History
from bilevel.mechanism import View
from bilevel.model import Draft, Move, Proposal, Record, Refusal, Run, Value, Values
from bilevel.offers import open_names
from bilevel.proposer import Proposer
from bilevel.seeds import generator

ENOUGH = 3  # changes of a parameter from which its own steps are drawn, and not those of all
JITTER = 0.5  # standard deviation of the logarithm of a step over the one that it was drawn from
REACH = 0.1  # standard deviation of a step, in units, where the run has none
DRAWS = 40  # after which nothing new counts as left

Changes = Mapping[str, tuple[Value, Value]]  # by name, before and after


@dataclass(frozen=True)
class Habits:
    """What a run's LLM proposed, refused replies included.

    named: how often each parameter was. two: share of the answers that changed more than one.
    refused: share that cost a step and no evaluation (repeats, nothing changed, no JSON). steps:
    of each number, in units. chosen: values of each choice.
    """

    named: Mapping[str, int] = field(default_factory=dict)
    two: float = 0.0
    refused: float = 0.0
    steps: Mapping[str, Sequence[float]] = field(default_factory=dict)
    chosen: Mapping[str, Sequence[Value]] = field(default_factory=dict)


def habits(run: Run, records: Sequence[Record]) -> Habits:
    """The habits that show in a log; moves whose values a mechanism gave are left out."""
    named, answers, two, refused = Counter[str](), 0, 0, 0
    steps: dict[str, list[float]] = {n: [] for n in run.space.names}
    chosen: dict[str, list[Value]] = {n: [] for n in run.space.names}
    for names, changes, view, fresh in _answers(run, records):
        answers += 1
        two += len(names) > 1
        refused += not fresh
        named.update(names)
        for name, (before, after) in changes.items():
            if view.space[name].kind == "choice":
                chosen[name].append(after)
            elif view.space[name].kind != "text":
                steps[name].append(place(view, name, after) - place(view, name, before))
    known = max(1, answers)
    return Habits(named, two / known, refused / known, steps, chosen)


def _answers(
    run: Run, records: Sequence[Record]
) -> Iterator[tuple[Sequence[str], Changes, View, bool]]:
    """Each answer's names, its changes, what was known, and whether it was new enough to run."""
    for record, view, _ in moments(run, records):
        if not isinstance(record, Proposal):
            continue
        for draft in record.drafts:
            if draft.move.values is None:
                changes = _changes(view, draft.move, unedited(draft).values)
                yield tuple(changes), changes, view, True
        for refusal in record.refusals:
            if refusal.move.values is None:
                changes = _changes(view, refusal.move, refusal.values)
                yield tuple(changes) or refusal.rests, changes, view, False


def _changes(view: View, move: Move, values: Values | None) -> Changes:
    if values is None:
        return {}
    base = view.base(move).values
    return {n: (base[n], values[n]) for n in view.space.changed(base, values)}


def place(view: View, name: str, value: Value) -> float:
    """Where a value lies: `view.unit`, or in multiples of the default where a bound is missing."""
    param = view.space[name]
    if param.kind in ("float", "int") and None in (param.low, param.high):
        default = float(param.default)
        return (float(value) - default) / (abs(default) or 1.0)
    return view.unit(name, value)


def _value(view: View, name: str, where: float) -> Value:
    """The allowed value of a number that lies nearest to a place."""
    param = view.space[name]
    if None in (param.low, param.high):
        default = float(param.default)
        return param.snap(default + where * (abs(default) or 1.0))
    return view.from_unit(name, where)


@dataclass(frozen=True)
class Habitual(Proposer):
    """Draws its changes by habits. It cannot read: a move's note, and guidance, change nothing.

    Draws depend on the seed, the step and the turn, so that two searches of one seed draw alike.
    """

    habits: Habits = field(default_factory=Habits)

    def propose(
        self, history: History, view: View, move: Move, draft: int, turn: int = 0
    ) -> Draft | Refusal:
        """The move filled in with new values; a refusal as often as the run had one."""
        if move.values is not None:
            return self._given(history, view, move, draft)
        rng = generator(self.seed, "habit", view.step, turn)
        names = open_names(view, move)
        names = tuple(n for n in names if n not in history.resting()) or names
        if rng.random() < self.habits.refused:
            return Refusal(view.step, move, "it proposes nothing new", rests=self._some(rng, names))
        base = view.base(move).values
        for _ in range(DRAWS):
            drawn = {n: self._drawn(rng, view, n, base[n]) for n in self._some(rng, names)}
            values = view.space.check({**base, **drawn})
            if view.space.changed(base, values) and history.find(values, move.seed) is None:
                return Draft(draft, view.step, move, values)
        return Refusal(view.step, move, f"nothing new was found in {', '.join(names)}")

    def _some(self, rng: random.Random, names: Sequence[str]) -> tuple[str, ...]:
        """One or two of the names, by how often they were named."""
        # One proposal's weight is spread over all: never named is not impossible (Perks 1947).
        weights = {n: self.habits.named.get(n, 0) + 1 / len(names) for n in names}
        some: list[str] = []
        for _ in range(min(len(names), 2 if rng.random() < self.habits.two else 1)):
            some += rng.choices(list(weights), list(weights.values()))
            del weights[some[-1]]
        return tuple(some)

    def _drawn(self, rng: random.Random, view: View, name: str, now: Value) -> Value:
        param = view.space[name]
        if param.kind == "choice":
            others = [*param.choices, *self.habits.chosen.get(name, ())]
            return rng.choice([c for c in others if c != now] or [now])
        if param.kind == "text":
            return f"{now}\n{rng.getrandbits(32)}"
        return _value(view, name, place(view, name, now) + self._step(rng, name))

    def _step(self, rng: random.Random, name: str) -> float:
        own = self.habits.steps.get(name, ())
        pooled = [s for steps in self.habits.steps.values() for s in steps]
        steps = own if len(own) >= ENOUGH else pooled
        if not steps:
            return rng.gauss(0, REACH)
        return rng.choice(steps) * math.exp(rng.gauss(0, JITTER))
