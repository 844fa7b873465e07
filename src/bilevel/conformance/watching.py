"""A mechanism under observation: every decision is asked for again, and of a twin."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from types import TracebackType
from typing import Any

from bilevel.conformance.remedies import said, source_line, with_remedy
from bilevel.mechanism import Mechanism, View
from bilevel.model import Draft, Move, Trial
from bilevel.sandbox import wire
from bilevel.sandbox.errors import MechanismTimeout, SandboxRefused, WorkerDied, WrongFrame
from bilevel.sandbox.sandboxed import SandboxedMechanism
from bilevel.stack import Hook

TURN = 3  # the twin is asked each third decision of a hook
KILLS = 4  # at most so many new twins in a toy; a worker takes 0.1 s to start
Ask = Callable[[Mechanism, View], Any]


@dataclass(frozen=True)
class Problem:
    """What is wrong with a mechanism, in words that a person or a small LLM can act on.

    hook: that went wrong. where: the toy, or "any space". words: what is wrong, the value seen, and
    the remedy. line: of the source, None where it is not known.
    """

    hook: str
    where: str
    words: str
    line: int | None = None

    def __str__(self) -> str:
        at = "" if self.line is None else f"line {self.line}: "
        return f"{at}{self.hook}, with {self.where}: {self.words}"


@dataclass
class Notes:
    """What was found so far, each rule once a hook, and what was measured.

    seconds: of all calls, by hook, on the clock or of CPU time, the less of them. fatal: whether
    going on would only cost time. refused: what was raised when this machine, not the mechanism,
    failed.
    """

    where: str = ""
    found: dict[tuple[str, str], Problem] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    fatal: bool = False
    refused: SandboxRefused | None = None

    def add(self, hook: str, rule: str, words: str, line: int | None = None) -> None:
        """A problem, unless this rule was broken by this hook before."""
        self.found.setdefault((hook, rule), Problem(hook, self.where, words, line))

    def add_error(self, hook: str, error: BaseException, file: str | None, when: str = "") -> None:
        """What a hook raised."""
        kind, text = said(error)
        line = source_line(error, file)
        self.fatal |= isinstance(error, MechanismTimeout | WorkerDied | WrongFrame)
        # Without a line it was not the hook that raised, but the check of its answer.
        raised = "" if line is None and kind in ("TypeError", "ValueError") else f"{kind}: "
        words = "; ".join(filter(None, with_remedy(hook, kind, text)))
        self.add(hook, f"{kind} {line}", f"{when}{raised}{words}", line)


class Watched(Mechanism):
    """The mechanism as a layer that answers as it does, and notes what it should not do.

    make: a fresh mechanism. Each decision is asked for twice, and each third one of a twin, which
    has had fewer calls and is given nothing but the state; `kills` gives a new twin each time.
    """

    def __init__(self, make: Callable[[], Mechanism], notes: Notes) -> None:
        self._make = make
        self._notes = notes
        self._mechanism, self._twin = make(), make()
        self._plain = not isinstance(self._mechanism, SandboxedMechanism)
        self._first = json.dumps(self._kept(self._mechanism))
        module = sys.modules.get(type(self._mechanism).__module__)
        self._file: str | None = getattr(module, "__file__", None) if self._plain else None
        self.calls: Counter[str] = Counter()
        self.raised: list[str] = []
        self.given: list[Move] = []
        self.answers: dict[str, Any] = {}
        self.kills = 0

    def begin(self, kills: bool) -> None:
        """Forget all, for another toy."""
        self._mechanism._restore(self._first)
        self.kills = KILLS if kills else 0
        self.answers.clear()

    def close(self) -> None:
        """End the workers, where there are any."""
        for mechanism in (self._mechanism, self._twin):
            if isinstance(mechanism, SandboxedMechanism):
                mechanism.close()

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        self.given = moves
        self.answers.clear()
        answer: list[Move] = self._watch(
            "plan", view, lambda m, v: m.plan(v, list(moves)), lambda _: None
        )
        return answer

    def screen(self, view: View, drafts: list[Draft]) -> list[Draft]:
        answer: list[Draft] = self._watch(
            "screen",
            view,
            lambda m, v: m.screen(v, list(drafts)),
            lambda a: self._check_edits(drafts, a),
        )
        return answer

    def accept(self, view: View, trial: Trial, keep: bool) -> bool:
        answer: bool = self._watch(
            "accept", view, lambda m, v: m.accept(v, trial, keep), lambda _: None
        )
        return answer

    def left_something(self) -> bool:
        """Whether this step's answers were not empty."""
        return [] not in (self.answers.get("plan"), self.answers.get("screen"))

    def _state(self) -> str:
        return self._mechanism._state()

    def _restore(self, state: str) -> None:
        self._mechanism._restore(state)

    def _watch(self, hook: Hook, view: View, ask: Ask, check: Callable[[Any], None]) -> Any:
        """The answer, after all that can be found out about it; raises what the hook raised."""
        held, rng = self._state(), view.rng.getstate()
        self.calls[hook] += 1

        def put(mechanism: Mechanism) -> tuple[Any, Any]:
            generator = random.Random()
            generator.setstate(rng)
            answer = ask(mechanism, replace(view, rng=generator))
            wire.ANSWERS[hook](json.loads(json.dumps(answer, default=wire.unfold)))
            return answer, self._kept(mechanism)

        with self._noting(hook):
            begun, used = time.perf_counter(), _used(self._mechanism)
            first = put(self._mechanism)
            took = time.perf_counter() - begun, _used(self._mechanism) - used
            self._notes.seconds.setdefault(hook, []).append(max(0.0, min(took)))
            check(first[0])
        with self._noting(hook, "asked the same once more, it raised "):
            self._mechanism._restore(held)
            self._compare(hook, first, put(self._mechanism), "asked the same once more")
        if self.calls[hook] % TURN == 0:
            with self._noting(hook, "in a new process that was given its state, it raised "):
                twin = self._other()
                twin._restore(held)
                self._compare(hook, first, put(twin), "in a new process that was given its state")
        self._mechanism._restore(json.dumps(first[1]))
        self.answers[hook] = first[0]
        return first[0]

    def _other(self) -> Mechanism:
        if self.kills > 0:
            self.kills -= 1
            if isinstance(self._twin, SandboxedMechanism):
                self._twin.close()  # Its next call starts a worker, and gives it the state.
            else:
                self._twin = self._make()
        return self._twin

    def _kept(self, mechanism: Mechanism) -> Any:
        """The state as JSON gives it back. Raises TypeError or ValueError for what it cannot."""
        if self._plain:
            for name, value in vars(mechanism).items():
                _check_state(f"self.{name}", value)
        return json.loads(mechanism._state())

    def _compare(self, hook: Hook, one: Any, other: Any, when: str) -> None:
        what = "answered"
        first, second = (brief(hook, a) for a, _ in (one, other))
        if one[0] == other[0]:
            what, first, second = "left in self", *(_short(json.dumps(s)) for _, s in (one, other))
        if one != other:
            self._notes.add(
                hook,
                "differs",
                f"it {what} {first} and, {when}, {second}; take randomness from view.rng only, and "
                "keep what must be remembered in attributes of self, never in globals, in class "
                "attributes or in default arguments",
            )

    def _check_edits(self, before: list[Draft], after: Any) -> None:
        given = {d.id: d for d in before}
        for draft in after:
            old = given.get(draft.id)
            if old and old.values != draft.values and len(draft.edits) == len(old.edits):
                self._notes.add(
                    "screen",
                    "edited",
                    f"draft {draft.id} came back with other values and no word why; return "
                    "draft.edit({**draft.values, name: value}, why) in its place",
                )

    def _noting(self, hook: Hook, when: str = "") -> _Noting:
        return _Noting(self, hook, when)

    def note(self, hook: Hook, error: Exception, when: str) -> None:
        """Take down what a hook raised."""
        self.raised.append(str(error)[:2000])
        if isinstance(error, SandboxRefused):
            self._notes.refused = error
        self._notes.add_error(hook, error, self._file, when)


@dataclass
class _Noting:
    """Takes down what its block raises, and lets it through to the stack's wall."""

    watched: Watched
    hook: Hook
    when: str

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):
            self.watched.note(self.hook, error, self.when)


def _check_state(where: str, value: Any) -> None:
    """Raises TypeError or ValueError, by name, for what JSON does not give back as it was."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(
                    f"{where} has the key {key!r}; keys must be texts: use str({key!r})"
                )
            _check_state(f"{where}[{key!r}]", inner)
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            _check_state(f"{where}[{i}]", inner)
    elif value is not None and not isinstance(value, str | int | float):
        kind = type(value).__name__
        raise TypeError(f"{where} is a {kind}; keep numbers, texts, bools, lists and dicts")
    elif isinstance(value, float) and value - value != 0:
        raise ValueError(f"{where} is {value}; keep finite numbers, or None for unknown")


def brief(hook: str, answer: Any) -> str:
    """An answer in at most 160 characters: moves without what they leave out, drafts by id."""
    if hook == "plan":
        return _short(f"[{', '.join(map(_move, answer))}]")
    if hook == "screen":
        return _short(f"drafts {[d.id for d in answer]} with {[dict(d.values) for d in answer]}")
    return repr(answer)


def _move(move: Move) -> str:
    plain = Move()
    named = [(f.name, getattr(move, f.name)) for f in fields(move)]
    said = [f"{n}={v!r}" for n, v in named if v != getattr(plain, n)]
    return f"Move({', '.join(said)})"


def _short(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:157]}..."


def _used(mechanism: Mechanism) -> float:
    """Seconds of CPU time so far, its worker's included: a busy machine slows no mechanism."""
    own = mechanism.used() if isinstance(mechanism, SandboxedMechanism) else 0.0
    return time.process_time() + own
