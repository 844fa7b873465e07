"""Folds a decision through the layers: each gets the one below's answer and gives its own.

The first of the two walls: whatever a layer raises or returns wrongly, this one decision falls
back to what came in, a Fault is logged, and after three faults the layer is taken out.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeVar

from bilevel.mechanism import Mechanism, View, same_drafts
from bilevel.model import Decision, Draft, Fault, Layering, Move, Trial
from bilevel.seeds import generator

Hook = Literal["plan", "screen", "accept"]
FAULTS_ALLOWED = 3
T = TypeVar("T")


@dataclass
class Layer:
    """A mechanism on the stack; `sha` names its source."""

    sha: str
    name: str
    mechanism: Mechanism


class Stack:
    """The layers above the loop, lowest first. `log` receives what they did."""

    def __init__(
        self,
        layers: list[Layer],
        seed: int,
        log: Callable[[Decision | Fault | Layering], object],
    ) -> None:
        self.layers = list(layers)
        self._seed = seed
        self._log = log
        self._faults: Counter[str] = Counter()

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        """The moves of this step, from the one that the loop would make."""
        return self._fold("plan", view, view.step, moves, (), _check_moves)

    def screen(self, view: View, drafts: list[Draft]) -> list[Draft]:
        """The drafts to evaluate, best first."""
        return self._fold("screen", view, view.step, drafts, (), _check_drafts)

    def accept(self, view: View, trial: Trial, keep: bool) -> bool:
        """Whether the trial becomes the incumbent; never for one without a score."""
        answer = self._fold("accept", view, trial.id, keep, (trial,), _check_keep)
        return answer and trial.score is not None

    def _fold(
        self,
        hook: Hook,
        view: View,
        key: int,
        value: T,
        before: tuple[Any, ...],
        check: Callable[[View, Any, Any], str],
    ) -> T:
        for layer in list(self.layers):
            rng = generator(self._seed, layer.sha, hook, key)
            given = list(value) if isinstance(value, list) else value
            start = time.perf_counter()
            try:
                answer = getattr(layer.mechanism, hook)(replace(view, rng=rng), *before, given)
                wrong = check(view, value, answer)
            except Exception as error:  # noqa: BLE001 - the wall: no layer may stop the run
                self._fault(layer, hook, view.step, type(error).__name__, str(error))
                continue
            if wrong:
                self._fault(layer, hook, view.step, "wrong answer", wrong)
                continue
            ms = 1000 * (time.perf_counter() - start)
            self._log(Decision(view.step, layer.sha, hook, key, _text(value), _text(answer), ms))
            value = answer
        return value

    def _fault(self, layer: Layer, hook: Hook, step: int, kind: str, message: str) -> None:
        self._log(Fault(step, layer.sha, hook, kind, message[:2000]))
        self._faults[layer.sha] += 1
        if self._faults[layer.sha] == FAULTS_ALLOWED:
            self.layers.remove(layer)
            self._log(Layering(step, layer.sha, "remove", f"{FAULTS_ALLOWED} faults"))


def _check_moves(view: View, before: list[Move], after: Any) -> str:
    if not isinstance(after, list) or not all(isinstance(m, Move) for m in after):
        return "plan must return a list of Move"
    for move in after:
        known = {t.id for t in view.trials}
        if not set(move.parents) <= known:
            return f"a move's parents must be ids of trials; {move.parents} are not all"
        closed = [n for n in move.focus if n not in view.open()]
        if closed:
            return f"{closed[0]} is frozen or unknown; focus on open parameters"
        if move.values is not None:
            _check_values(view, move.values)
    return ""


def _check_drafts(view: View, before: list[Draft], after: Any) -> str:
    if not isinstance(after, list) or not all(isinstance(d, Draft) for d in after):
        return "screen must return a list of Draft"
    if not same_drafts(before, after):
        return "screen may drop, reorder or edit drafts; it may not invent or repeat one"
    for draft in after:
        _check_values(view, draft.values)
    return ""


def _check_keep(view: View, before: bool, after: Any) -> str:
    return "" if isinstance(after, bool) else f"accept must return a bool, not {after!r}"


def _check_values(view: View, values: Any) -> None:
    """Raises InvalidCandidate when values leave the space or change what is frozen."""
    view.space.check(values)
    for name in view.frozen:
        if values[name] != view.incumbent.values[name]:
            raise ValueError(f"{name} is frozen at {view.incumbent.values[name]!r}; leave it")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return json.dumps([asdict(v) for v in value])
    return json.dumps(value)
