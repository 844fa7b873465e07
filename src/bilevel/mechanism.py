"""The contract of a search mechanism, and the view of the run that its hooks are given."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from bilevel.model import Draft, Move, Space, Trial, Value, Values


@dataclass(frozen=True)
class View:
    """What a mechanism may know: read-only, and equal for equal histories.

    trials: the first baseline and all search trials, in order. incumbent: the trial that new
    moves start from, best: the one with the highest score so far. pending: drafts being
    evaluated while `accept` decides on another, in their order; none with one slot.
    step: number of this step, from 0. slots: evaluations that can run at a time. left: evaluations
    still in the budget. frozen: parameters that may not change. guidance, strategy: what steering
    says, "" if nothing. noise: standard deviation of the baseline's score, None before two
    measurements. rng: this decision's own generator.
    """

    space: Space
    trials: tuple[Trial, ...]
    incumbent: Trial
    best: Trial
    step: int
    slots: int = 1
    left: int = 0
    pending: tuple[Draft, ...] = ()
    frozen: tuple[str, ...] = ()
    guidance: str = ""
    strategy: str = ""
    noise: float | None = None
    rng: random.Random = field(default_factory=lambda: random.Random(0), compare=False)

    def scored(self) -> list[Trial]:
        """Trials that have a score, in order."""
        return [t for t in self.trials if t.score is not None]

    def by_tag(self, tag: str) -> list[Trial]:
        """Trials whose move carried this tag, in order; spaces part the tags of several layers."""
        moves = [(t, t.draft.move.tag) for t in self.trials if t.draft is not None]
        return [t for t, said in moves if said == tag or (" " in said and tag in said.split())]

    def base(self, move: Move) -> Trial:
        """The trial that a move starts from: its first parent, else the incumbent.

        What is frozen has the incumbent's values, whatever the parent had.
        """
        parents = {t.id: t for t in self.trials}
        trial = parents[move.parents[0]] if move.parents else self.incumbent
        frozen = {name: self.incumbent.values[name] for name in self.frozen}
        return replace(trial, values={**trial.values, **frozen})

    def open(self) -> tuple[str, ...]:
        """Names of the parameters that may change."""
        return tuple(n for n in self.space.names if n not in self.frozen)

    def ranged(self) -> tuple[str, ...]:
        """Names of the open parameters that have more than one place between their bounds."""
        return tuple(n for n in self.open() if self.from_unit(n, 0.0) != self.from_unit(n, 1.0))

    def tried(self, values: Values) -> bool:
        """Whether some trial evaluated exactly these values."""
        key = self.space.key(values)
        return any(self.space.key(t.values) == key for t in self.trials)

    def gain(self, trial: Trial) -> float | None:
        """A trial's score minus that of the trial it started from; None if either failed."""
        if trial.draft is None:
            return None
        start = started_from(self.trials, trial).score
        return None if trial.score is None or start is None else trial.score - start

    def changed(self, trial: Trial | Draft) -> tuple[str, ...]:
        """Names of the parameters that it sets otherwise than the trial it started from."""
        start = started_from(self.trials, trial)
        return self.space.changed(start.values, trial.values)

    def tries(self, name: str) -> list[Trial]:
        """Trials that changed this parameter, in order."""
        return [t for t in self.trials if name in self.changed(t)]

    def best_gain(self, name: str) -> float:
        """The best gain of a trial that changed this parameter; 0.0 where none has a gain."""
        gains = [gain for t in self.tries(name) if (gain := self.gain(t)) is not None]
        return max(gains, default=0.0)

    def age(self, name: str) -> int:
        """Evaluations since this parameter was last changed; all there were if it never was."""
        last = max((i for i, t in enumerate(self.trials) if name in self.changed(t)), default=0)
        return len(self.trials) - 1 - last

    def streak(self) -> int:
        """Number of evaluations since the last one that was kept."""
        kept = [i for i, t in enumerate(self.trials) if t.kept]
        return len(self.trials) - 1 - kept[-1] if kept else len(self.trials)

    def unit(self, name: str, value: Value) -> float:
        """Where a value lies between its parameter's bounds, in [0, 1], on the log scale if any.

        Choices lie evenly; a text is 0.
        """
        param = self.space[name]
        if param.kind == "choice":
            return param.choices.index(value) / max(1, len(param.choices) - 1)
        if isinstance(value, str) or param.low is None or param.high in (None, param.low):
            return 0.0
        assert param.high is not None
        if param.log:
            return math.log(value / param.low) / math.log(param.high / param.low)
        return (value - param.low) / (param.high - param.low)

    def from_unit(self, name: str, where: float) -> Value:
        """The allowed value nearest to a place in [0, 1] between its parameter's bounds."""
        param, where = self.space[name], min(max(where, 0.0), 1.0)
        if param.kind == "choice":
            return param.choices[round(where * (len(param.choices) - 1))]
        if param.low is None or param.high is None:
            return param.default
        if param.log:
            return param.snap(param.low * (param.high / param.low) ** where)
        return param.snap(param.low + where * (param.high - param.low))

    def distance(self, one: Values, other: Values) -> float:
        """Euclidean distance in units, over the root of the number of parameters, so in [0, 1]."""
        total = 0.0
        for param in self.space:
            a, b = one[param.name], other[param.name]
            if param.kind in ("choice", "text"):
                total += float(a != b)
            else:
                total += (self.unit(param.name, a) - self.unit(param.name, b)) ** 2
        return math.sqrt(total / len(self.space))

    def neighbours(self, values: Values, name: str, reach: float = 0.1) -> list[dict[str, Value]]:
        """Configurations with `name` one step down and one up: a grid step, or `reach` units."""
        grid, now = self.space[name].grid(), values[name]
        if now in grid:
            at = grid.index(now)
            near: list[Value] = [*grid[max(0, at - 1) : at], *grid[at + 1 : at + 2]]
        else:
            place = self.unit(name, now)
            near = [self.from_unit(name, place - reach), self.from_unit(name, place + reach)]
        return [{**values, name: value} for value in near if value != now]


def started_from(trials: Sequence[Trial], trial: Trial | Draft) -> Trial:
    """The trial among `trials` that one started from, see `origin`; the first for a baseline."""
    draft = trial.draft if isinstance(trial, Trial) else trial
    return trials[0] if draft is None else origin(trials, draft.move.parents, draft.step)


def origin(trials: Sequence[Trial], parents: Sequence[int], step: int) -> Trial:
    """Where a move of that step starts: its first parent, else the incumbent of the step.

    trials: the run's, in order, its first baseline first.
    """
    if parents:
        return next(t for t in trials if t.id == parents[0])
    before = (t for t in reversed(trials) if t.kept and t.draft is not None)
    return next((t for t in before if t.draft is not None and t.draft.step < step), trials[0])


class Mechanism:
    """A layer over the loop. Override what you need; as they stand the hooks change nothing.

    Each hook gets the decision made below it and returns its own. Hooks are pure: no I/O, no
    clock, randomness from `view.rng` only. State is the attributes of `self`, JSON values only.
    A mechanism that `remembers` starts with the state it had at the end of the task's last run; a
    file of one's own says so by `remembers = True` in its class.
    """

    remembers: ClassVar[bool] = False

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        """What to try next."""
        return moves

    def screen(self, view: View, drafts: list[Draft]) -> list[Draft]:
        """Which of the drafts to evaluate, best first. Invents none."""
        return drafts

    def accept(self, view: View, trial: Trial, keep: bool) -> bool:
        """Whether the trial becomes the incumbent. A failed one never does."""
        return keep

    def _state(self) -> str:
        """The attributes as JSON. Raises TypeError or ValueError for what JSON cannot hold."""
        return json.dumps(vars(self), allow_nan=False)

    def _restore(self, state: str) -> None:
        """Take the attributes that `_state` gave."""
        vars(self).clear()
        vars(self).update(json.loads(state))


def same_drafts(before: Sequence[Draft], after: Sequence[Draft]) -> bool:
    """Whether `after` holds drafts of `before` only, each at most once, perhaps edited."""
    ids = [d.id for d in after]
    return len(ids) == len(set(ids)) and set(ids) <= {d.id for d in before}
