"""Folds a decision through the layers: each gets the one below's answer and gives its own.

The first of the two walls: whatever a layer raises or returns wrongly, this one decision falls
back to what came in, a Fault is logged, and after three faults the layer is taken out. To leave
nothing to evaluate is allowed for ten steps running; an eleventh time is such a fault. Faults that
the clock or the machine made are facts of the run: a decision that is taken again has them again.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeVar

from bilevel.errors import BilevelError
from bilevel.mechanism import Mechanism, View, same_drafts
from bilevel.model import Decision, Draft, Fault, Layering, MechanismSource, Move, Record, Trial
from bilevel.resuming import ADD, Lapses
from bilevel.sandbox import wire
from bilevel.sandbox.errors import MechanismError
from bilevel.seeds import generator

Hook = Literal["plan", "screen", "accept"]
FAULTS_ALLOWED = 3
EMPTY_ALLOWED = 10
T = TypeVar("T")
Act = Decision | Fault | Layering | MechanismSource


class WrongAnswer(BilevelError):
    """A hook returned what its contract does not allow."""


@dataclass
class Layer:
    """A mechanism on the stack; `sha` names its source. close: frees what it holds, if anything."""

    sha: str
    name: str
    mechanism: Mechanism
    close: Callable[[], None] = field(default=lambda: None, compare=False)


class Stack:
    """The layers above the loop, lowest first.

    log: receives what they did. records: the log up to the last whole decision, from which a
    resumed run goes on. load: makes a layer of a source that the log says was put in.
    recorded: a log of decisions that are to be taken again, for the faults that are facts.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        seed: int,
        log: Callable[[Act], object],
        records: Sequence[Record] = (),
        load: Callable[[MechanismSource], Layer] | None = None,
        recorded: Sequence[Record] = (),
    ) -> None:
        self.layers = list(layers)
        self._seed = seed
        self._log = log
        self._load = load
        self._faults: Counter[str] = Counter()
        self._empty: Counter[tuple[str, str]] = Counter()
        self._lapses = Lapses(recorded)
        self._resume(records)

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

    def add(self, source: MechanismSource, step: int, why: str) -> bool:
        """Put a source on top, from `step` on; whether it loads. If not, that is a Fault on record.

        Raises SandboxRefused where no generated code may run at all.
        """
        self._log(source)
        if lapse := self._lapses.next(step, source.sha, ADD):
            self._log(lapse)
            return False
        try:
            layer = self._make(source)
        except MechanismError as error:
            self._log(_fault(step, source.sha, ADD, error))
            return False
        self._log(Layering(step, source.sha, "add", why))
        self.layers.append(layer)
        return True

    def remove(self, sha: str, step: int, why: str) -> None:
        """Take a layer out, from `step` on. Raises ValueError when it is not on the stack."""
        (layer,) = (layer for layer in self.layers if layer.sha == sha)
        self.layers.remove(layer)
        layer.close()
        self._log(Layering(step, sha, "remove", why))

    def holds(self, sha: str) -> bool:
        """Whether this source is on the stack."""
        return any(layer.sha == sha for layer in self.layers)

    def _make(self, source: MechanismSource) -> Layer:
        """The source as a layer with nothing against it, even if it was here before."""
        assert self._load is not None, "a stack that sources join needs a loader"
        layer = self._load(source)
        self._faults[source.sha] = 0
        for place in [p for p in self._empty if p[0] == source.sha]:
            del self._empty[place]
        return layer

    def _resume(self, records: Sequence[Record]) -> None:
        """Restore states, faults and layers."""
        layers = {layer.sha: layer for layer in self.layers}
        sources = {r.sha: r for r in records if isinstance(r, MechanismSource)}
        for record in records:
            if isinstance(record, Decision):
                layers[record.layer].mechanism._restore(record.state)
                self._count_empty(record.layer, record.hook, record.before, record.after)
            elif isinstance(record, Fault) and record.hook != ADD:
                self._faults[record.layer] += 1
            elif isinstance(record, Layering) and record.action == "remove":
                left = layers.pop(record.sha)
                self.layers.remove(left)
                left.close()
            elif isinstance(record, Layering):
                layers[record.sha] = self._make(sources[record.sha])
                self.layers.append(layers[record.sha])
            if isinstance(record, Decision | Fault):
                self._lapses.count(record)

    def _fold(
        self,
        hook: Hook,
        view: View,
        key: int,
        value: T,
        before: tuple[Any, ...],
        check: Callable[[View, Any, Any], Any],
    ) -> T:
        for layer in list(self.layers):
            if lapse := self._lapses.next(view.step, layer.sha, hook):
                self._fault(layer, lapse)
                continue
            rng = generator(self._seed, layer.sha, hook, key)
            given = list(value) if isinstance(value, list) else value
            mechanism, start = layer.mechanism, time.perf_counter()
            held = "{}"
            try:
                held = mechanism._state()
                said = getattr(mechanism, hook)(replace(view, rng=rng), *before, given)
                answer = check(view, value, said)
                self._check_empty(layer, hook, value, answer)
                state, texts = mechanism._state(), (_text(value), _answer(hook, answer))
            except Exception as error:  # noqa: BLE001 - the wall: no layer may stop the run
                mechanism._restore(held)
                self._fault(layer, _fault(view.step, layer.sha, hook, error))
                continue
            # Through JSON after every call, so that a resumed run cannot differ.
            mechanism._restore(state)
            ms = 1000 * (time.perf_counter() - start)
            self._log(Decision(view.step, layer.sha, hook, key, *texts, ms, state))
            self._count_empty(layer.sha, hook, *texts)
            value = answer
        return value

    def _check_empty(self, layer: Layer, hook: Hook, before: Any, after: Any) -> None:
        if before and after == [] and self._empty[layer.sha, hook] == EMPTY_ALLOWED:
            raise WrongAnswer(
                f"{hook} left nothing to evaluate {EMPTY_ALLOWED} steps running; leave something"
            )

    def _count_empty(self, layer: str, hook: Hook, before: str, after: str) -> None:
        if before != "[]":
            self._empty[layer, hook] = self._empty[layer, hook] + 1 if after == "[]" else 0

    def _fault(self, layer: Layer, fault: Fault) -> None:
        self._log(fault)
        self._faults[layer.sha] += 1
        if self._faults[layer.sha] == FAULTS_ALLOWED:
            last = f"{fault.hook}: {fault.message or fault.kind}"[:120]
            self.remove(layer.sha, fault.step, f"{FAULTS_ALLOWED} faults, the last in {last}")


def _fault(step: int, layer: str, hook: str, error: Exception) -> Fault:
    kind = "wrong answer" if isinstance(error, WrongAnswer) else type(error).__name__
    # An address in memory is another in every process, and half of a surrogate pair no text.
    message = re.sub(r"\b0x[0-9a-f]{6,}", "0x...", str(error)[:2000])
    return Fault(step, layer, hook, kind, message.encode("utf-8", "replace").decode())


def _check_moves(view: View, before: list[Move], after: Any) -> list[Move]:
    """The moves, a focus on all that is open as none, so that it is no change of a decision."""
    if not isinstance(after, list) or not all(isinstance(m, Move) for m in after):
        raise WrongAnswer("plan must return a list of Move")
    known = {view.incumbent.id, view.best.id}
    if any(not set(move.parents) <= known for move in after):
        known = {t.id for t in view.trials}
    for move in after:
        if not set(move.parents) <= known:
            raise WrongAnswer(f"a move's parents must be ids of trials; {move.parents} are not all")
        closed = [n for n in move.focus if n not in view.open()]
        if closed:
            raise WrongAnswer(f"{closed[0]} is frozen or unknown; focus on open parameters")
        if move.values is not None:
            _check_values(view, move.values)
    whole = set(view.open())
    return [replace(m, focus=()) if whole <= set(m.focus) else m for m in after]


def _check_drafts(view: View, before: list[Draft], after: Any) -> list[Draft]:
    if not isinstance(after, list) or not all(isinstance(d, Draft) for d in after):
        raise WrongAnswer("screen must return a list of Draft")
    if not same_drafts(before, after):
        raise WrongAnswer("screen may drop, reorder or edit drafts; it may not invent or repeat")
    for draft in after:
        _check_values(view, draft.values)
    return after


def _check_keep(view: View, before: bool, after: Any) -> bool:
    if not isinstance(after, bool):
        raise WrongAnswer(f"accept must return a bool, not {after!r}")
    return after


def _check_values(view: View, values: Any) -> None:
    """Raises InvalidCandidate or WrongAnswer: values leave the space, or change what is frozen."""
    view.space.check(values)
    for name in view.frozen:
        if values[name] != view.incumbent.values[name]:
            raise WrongAnswer(f"{name} is frozen at {view.incumbent.values[name]!r}; leave it")


def _answer(hook: Hook, answer: Any) -> str:
    """The answer as JSON text that gives just this answer when it is read back."""
    text = json.dumps(wire.plain(answer, hook))
    read = wire.ANSWERS[hook](json.loads(text))
    if read != answer:
        seen = f"{answer!r:.200}, which the log would keep as {read!r:.200}"
        raise WrongAnswer(f"{hook} answered {seen}; use tuples, and the types of the contract")
    return text


def _text(value: Any) -> str:
    if isinstance(value, list):
        return json.dumps([asdict(v) for v in value])
    return json.dumps(value)
