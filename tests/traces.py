"""Traces written by hand, for tests of what steering makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bilevel.history import History
from bilevel.mechanism import View
from bilevel.model import Draft, Move, Param, Proposal, Space, Steering, Trial, Value
from bilevel.seeds import generator
from factories import GPT


@dataclass(frozen=True)
class T:
    """A trial to be: what it changes of its start, and the score's difference, None for a crash.

    A gain is kept. parent: id of the start, None for the incumbent. seed: as a move has it.
    """

    changes: dict[str, Value]
    gain: float | None = -0.1
    parent: int | None = None
    seed: int = 0
    kept: bool | None = None


def down(name: str, gain: float | None = -0.1, by: float = 2.0) -> T:
    """A change of one number of the GPT space to a part of its default."""
    return T({name: _scaled(name, 1 / by)}, gain)


def up(name: str, gain: float | None = -0.1, by: float = 2.0) -> T:
    return T({name: _scaled(name, by)}, gain)


def _scaled(name: str, factor: float) -> Value:
    param = GPT[name]
    assert not isinstance(param.default, str)
    return param.snap(param.default * factor)


def history(*trials: T, space: Space = GPT, steering: Steering | None = None) -> History:
    """The run with these trials after a baseline of score 0, one a step."""
    made = History(space)
    made.add(Trial(0, None, space.defaults(), "ok", 0.0, {}, 1.0, 5, True, role="baseline"))
    for number, wish in enumerate(trials, 1):
        assert made.incumbent is not None
        start = made.incumbent if wish.parent is None else made.trials[wish.parent]
        move = Move(parents=(start.id,), seed=wish.seed)
        values = space.check({**start.values, **wish.changes})
        draft = Draft(number - 1, number - 1, move, values)
        made.add(Proposal(number - 1, (move,), (draft,), (), (draft.id,)))
        assert start.score is not None
        score = None if wish.gain is None else start.score + wish.gain
        kept = (wish.gain or 0) > 0 if wish.kept is None else wish.kept
        status = "crash" if score is None else "ok"
        made.add(Trial(number, draft, values, status, score, {}, 1.0, 5 + wish.seed, kept))
    made.add(steering or Steering())
    return made


def view_of(made: History, idle: int = 0, **fields: object) -> View:
    """The view before the next step, after `idle` steps that led to no evaluation."""
    step = len(made.proposals) + idle
    view = made.view(step=step, slots=1, left=9, rng=generator(0))
    return replace(view, **fields)  # type: ignore[arg-type]


def space_of(count: int) -> Space:
    """That many floats A, B, C.. from 0 to 1, at 0.5."""
    return Space(tuple(Param(chr(65 + i), "float", 0.5, low=0.0, high=1.0) for i in range(count)))


def exhausted(names: Sequence[str]) -> list[T]:
    """Failures enough to freeze each of these parameters of `space_of`."""
    return [T({name: value}) for name in names for value in (0.4, 0.6, 0.7)]
