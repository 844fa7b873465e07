"""One toy searched by the real loop, its LLM replaced by random draws and its task by a formula."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from bilevel.conformance.toy_spaces import Toy
from bilevel.evaluate import Evaluated
from bilevel.history import History
from bilevel.loop import Loop
from bilevel.mechanism import Mechanism, View
from bilevel.model import (
    Draft,
    Move,
    Objective,
    Param,
    Record,
    Refusal,
    Run,
    Steering,
    Trial,
    Value,
    Values,
)
from bilevel.offers import open_names
from bilevel.proposer import Proposer
from bilevel.sandbox.wire import Frozen
from bilevel.seeds import generator
from bilevel.stack import Layer, Stack
from bilevel.tape.tape import Tape

LOSS = Objective("loss", "min")
SEED = 7
DRAWS = 40  # after which nothing new counts as left


class Drawing(Proposer):
    """Changes one or two of the parameters that may change, at random."""

    def propose(
        self, history: History, view: View, move: Move, draft: int, turn: int = 0
    ) -> Draft | Refusal:
        """The move filled in with new values, read-only, or a refusal when none are left."""
        answer = self._draw(history, view, move, draft, turn)
        if isinstance(answer, Draft):
            return replace(answer, values=Frozen(answer.values))
        return answer

    def _draw(
        self, history: History, view: View, move: Move, draft: int, turn: int
    ) -> Draft | Refusal:
        if move.values is not None:
            return self._given(history, view, move, draft)
        rng = generator(self.seed, "draw", view.step, turn)
        base, names = view.base(move).values, open_names(view, move)
        for _ in range(DRAWS):
            drawn = rng.sample(names, min(len(names), rng.randint(1, 2)))
            changes = {n: _value(rng, view, view.space[n], base[n]) for n in drawn}
            values = view.space.check({**base, **changes})
            if history.find(values, move.seed) is None:
                return Draft(draft, view.step, move, values, "This should help.")
        left = ", ".join(names)
        return Refusal(view.step, move, f"nothing new was found in {left}")


def _value(rng: random.Random, view: View, param: Param, now: Value) -> Value:
    if isinstance(now, str) and param.kind == "text":
        return f"def f(): return {rng.randrange(10**6)}"
    if grid := param.grid():
        return rng.choice(grid)
    if param.low is None or param.high is None:
        return float(now) + rng.gauss(0, 1)
    return view.from_unit(param.name, rng.random())


class Formula:
    """Evaluates a toy's configurations at once, in the order in which they were started."""

    def __init__(self, toy: Toy) -> None:
        self.slots = toy.slots
        self._toy = toy
        self._done: list[Evaluated] = []

    def start(self, key: int, values: Values, seed: int) -> None:
        self._done.append(Evaluated(key, self._toy.measure(values, seed, key), 1.0))

    def finished(self) -> list[Evaluated]:
        done, self._done = self._done, []
        return done


class Below(Mechanism):
    """A lower layer: plans nothing, several moves, values, measurements again; keeps worse ones."""

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        name, (move, *_) = view.open()[0], moves
        if view.step % 5 == 1:
            return [replace(move, focus=(name,)), replace(move, note="be bold", tag="below")]
        if view.step % 5 == 2:
            return []
        if view.step % 5 == 3:
            place = view.from_unit(name, view.rng.random())
            return [replace(move, values={**view.incumbent.values, name: place}, tag="below")]
        if view.step % 5 == 4:
            return [replace(move, values=view.incumbent.values, seed=1 + view.step)]
        return moves

    def accept(self, view: View, trial: Trial, keep: bool) -> bool:
        return trial.id % 3 == 0 or keep


def walk(toy: Toy, mechanism: Mechanism, count: int) -> Iterator[tuple[Loop, list[Record]]]:
    """The loop with this layer on top, and what was logged, after each of at most `count` steps."""
    log: list[Record] = []
    run = Run("toy", "toy", toy.space, LOSS, "", SEED, evals=2 * count * toy.slots, slots=toy.slots)
    layers = [Layer("below", "below", Below())] if toy.planned else []
    loop = Loop(
        run=run,
        objective=LOSS,
        history=History(toy.space, _baselines(toy)),
        proposer=Drawing("", LOSS, Tape("", None), SEED),
        evaluator=Formula(toy),
        stack=Stack([*layers, Layer("toy", "toy", mechanism)], SEED, log.append),
        append=log.append,
    )
    for step in range(count):
        if step == toy.since:
            loop.history.add(Steering(toy.frozen, "Try less.", at=step))
        if loop.history.evaluated() >= run.evals:
            return
        loop.step()
        yield loop, log


def _baselines(toy: Toy) -> Iterator[Trial]:
    values = Frozen(toy.space.defaults())
    for i in range(toy.baselines):
        outcome = toy.measure(values, 3 * i, i)
        assert outcome.value is not None
        score = LOSS.score(outcome.value)
        yield Trial(
            i, None, values, "ok", score, outcome.metrics, 1.0, 3 * i, i == 0, role="baseline"
        )


def nothing_new(loop: Loop) -> bool:
    """Whether the last step led to no evaluation."""
    return not loop.history.proposals[-1].queue


def used_up(loop: Loop) -> bool:
    """Whether the loop's own next move would find nothing new either."""
    history, step = loop.history, len(loop.history.proposals)
    view = history.view(step=step, slots=1, left=1, rng=generator(SEED, "used up", step))
    move = Move(parents=(view.incumbent.id,))
    return isinstance(loop.proposer.propose(history, view, move, history.next_draft()), Refusal)
