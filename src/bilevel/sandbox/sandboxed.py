"""A mechanism's source as a Mechanism, its hooks answered by a worker behind the wall."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from types import TracebackType
from typing import Any, TypeVar

from bilevel.mechanism import Mechanism, View
from bilevel.model import Draft, Move, Space, Trial
from bilevel.sandbox import policy, wire
from bilevel.sandbox.errors import (
    MechanismRaised,
    MechanismTimeout,
    SandboxRefused,
    WorkerDied,
    WrongFrame,
)
from bilevel.sandbox.host import Limits, Worker
from bilevel.sandbox.pool import Pool

Json = dict[str, Any]
T = TypeVar("T")
MODULES_ADDED = 3  # times that a worker may be restarted for a module found missing


class Sandbox(Pool):
    """Where sources are loaded, each behind a wall of its own; see Pool for threads and limits."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        allow_weak: bool = False,
        ring: bool = True,
        wall: policy.Wall = "auto",
    ) -> None:
        super().__init__(limits, allow_weak=allow_weak, ring=ring, wall=wall)
        self.loaded: list[Walled] = []

    @classmethod
    def again(cls, level: str, allow_weak: bool) -> Sandbox:
        """A sandbox for what was held at a level before: in a guest, or else as well as can be.

        allow_weak: the user's leave; that it was `weak` before is none.
        """
        return cls(allow_weak=allow_weak, wall=wall_of(level))

    def load(self, source: str, *, modules: tuple[str, ...] = ()) -> SandboxedMechanism:
        """The source's mechanism, loaded. modules: to be there beside the allowed ones.

        Raises SandboxRefused when the wall does not stand or the source is too long, and
        MechanismError when the source does not load.
        """
        if len(source.encode("utf-8", "replace")) > policy.SOURCE_BYTES:
            raise SandboxRefused(f"a source may have {policy.SOURCE_BYTES} bytes; make it shorter")
        return SandboxedMechanism(self, source, modules)

    def close(self) -> None:
        """End all workers."""
        for walled in self.loaded:
            walled.close()
        super().close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def wall_of(level: str) -> policy.Wall:
    """What held code at this level, to be asked for again."""
    return "wasm" if level == "wasm" else "auto"


@cache
def held(allow_weak: bool, wall: policy.Wall) -> policy.Level:
    """How well this machine holds code, by trying; once in a process.

    Raises SandboxRefused where nothing holds it and that is not allowed.
    """
    with Sandbox(allow_weak=allow_weak, wall=wall) as sandbox:
        sandbox.take(()).kill()
        return sandbox.level()


class Walled:
    """A source with a worker of its own, started when it is needed.

    A worker that ended without an answer is replaced once and asked again, so that a worker killed
    from outside changes no decision. starts: workers so far.
    """

    def __init__(self, sandbox: Sandbox, source: str, modules: tuple[str, ...]) -> None:
        self.starts = 0
        self._sandbox = sandbox
        self._source = source
        self._modules = tuple(sorted({*modules, *policy.modules(source)}))
        self._worker: Worker | None = None
        self._added = 0
        sandbox.loaded.append(self)

    @property
    def level(self) -> policy.Level | None:
        """How well the worker at hand is locked; None while there is none."""
        return self._worker.level if self._worker else None

    @property
    def pid(self) -> int | None:
        """The worker's process id; None while there is none."""
        return self._worker.pid if self._worker else None

    def used(self) -> float:
        """Seconds of CPU time of the worker at hand; 0 while there is none."""
        return self._worker.used() if self._worker else 0.0

    def close(self) -> None:
        """End the worker; the next call would start another."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None

    def _attempt(self, work: Callable[[], T]) -> T:
        died = False
        while True:
            try:
                return work()
            except WorkerDied:
                self.close()
                if died:
                    raise
                died = True
            except (MechanismTimeout, WrongFrame):
                self.close()
                raise
            except MechanismRaised as error:
                if not self._lacked(error.module):
                    raise
                self.close()

    def _reply(self, worker: Worker, message: Json, what: str) -> Json:
        """What the worker answers. Raises MechanismError, also for what the source raised."""
        try:
            reply = worker.ask(message, self._sandbox.limits)
        except MechanismTimeout as error:
            raise MechanismTimeout(
                f"{what} gave {error}; do less in a call, and look for a loop that does not end"
            ) from error
        if "error" in reply:
            module = _printable(reply.get("module", ""))
            instead = policy.refused(module) if module else ""
            said = _printable(reply["error"]) + (f"; {instead}" if instead else "")
            raise MechanismRaised(said, module)
        return reply

    def _lacked(self, module: str) -> bool:
        """Whether a module that may be used was not loaded, and will be in the next worker."""
        allowed = module.partition(".")[0] in policy.HEAVY and module not in self._modules
        if not allowed or self._added == MODULES_ADDED:
            return False
        self._added += 1
        self._modules = tuple(sorted({*self._modules, module}))
        return True


class SandboxedMechanism(Walled, Mechanism):
    """A mechanism whose code runs in a worker. Each hook raises MechanismError when it fails.

    state: the JSON attributes after the last good answer; a new worker is given them.
    """

    def __init__(self, sandbox: Sandbox, source: str, modules: tuple[str, ...]) -> None:
        super().__init__(sandbox, source, modules)
        self.state: Json | None = None
        self._told = True  # whether the worker's state is the one held here
        self._space: Space | None = None
        self._trials: tuple[Trial, ...] = ()
        self._places: dict[int, int] = {}
        self._attempt(self._ready)

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        answer: list[Move] = self._call("plan", view, moves)
        return answer

    def screen(self, view: View, drafts: list[Draft]) -> list[Draft]:
        answer: list[Draft] = self._call("screen", view, drafts)
        return answer

    def accept(self, view: View, trial: Trial, keep: bool) -> bool:
        answer: bool = self._call("accept", view, keep, trial)
        return answer

    def _state(self) -> str:
        return json.dumps(self.state or {})

    def _restore(self, state: str) -> None:
        if state != self._state():
            self.state, self._told = json.loads(state), False

    def _call(self, hook: str, view: View, given: object, trial: Trial | None = None) -> Any:
        return self._attempt(lambda: self._ask(hook, view, given, trial))

    def _ready(self) -> Worker:
        """The worker, which has loaded the source and the last good state."""
        if self._worker is None:
            self._space, self._trials, self._places, self._told = None, (), {}, True
            self._worker = self._sandbox.take(self._modules)
            self.starts += 1
            message = {"op": "load", "source": self._source, "state": self.state}
            try:
                self._exchange(self._worker, message)
            except MechanismRaised:
                self.close()
                raise
        return self._worker

    def _ask(self, hook: str, view: View, given: object, trial: Trial | None) -> Any:
        worker = self._ready()
        known = len(self._trials)
        if view.trials[:known] != self._trials:
            known, self._places = 0, {}
        new = view.trials[known:]
        self._places.update((t.id, known + i) for i, t in enumerate(new))
        space = None if self._space is view.space else view.space
        message = {
            "op": "call",
            "hook": hook,
            "space": space,
            "from": known,
            "trials": new,
            "view": self._seen(view),
            "given": given,
            "trial": trial,
            "state": None if self._told else self.state,
        }
        # The worker notes these before the hook runs, so they hold whether or not it raises.
        self._space, self._trials, self._told = view.space, view.trials, True
        reply = self._exchange(worker, message)
        try:
            return wire.ANSWERS[hook](reply["answer"])
        except (KeyError, ValueError) as error:
            raise WrongFrame(f"a reply to {hook} is no answer: {error}") from error

    def _seen(self, view: View) -> Json:
        """The view without space and trials; a trial that it holds is named by its place."""
        seen = {f.name: getattr(view, f.name) for f in fields(view)}
        del seen["space"], seen["trials"]
        places = {n: self._place(view, seen[n]) for n in ("incumbent", "best")}
        return {**seen, **places, "rng": wire.dump_rng(view.rng)}

    def _place(self, view: View, trial: Trial) -> int | Trial:
        place = self._places.get(trial.id)
        return trial if place is None or view.trials[place] != trial else place

    def _exchange(self, worker: Worker, message: Json) -> Json:
        """The reply, whose state becomes the last good one. Raises MechanismError."""
        reply = self._reply(worker, message, message.get("hook", "loading the source"))
        state = reply.get("state")
        if not isinstance(state, dict):
            raise WrongFrame("a reply holds no state")
        self.state = state
        return reply


def _printable(text: object) -> str:
    """A worker's text for people and prompts: no control characters, at most 2000 characters."""
    if not isinstance(text, str):
        raise WrongFrame("a reply's error is no text")
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text[:2000])
