"""A mechanism's source as a Mechanism, its hooks answered by a worker behind the wall."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import fields
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

Json = dict[str, Any]
T = TypeVar("T")
MODULES_ADDED = 3  # times that a worker may be restarted for a module found missing


class Sandbox:
    """Starts workers, and keeps one ready for each set of modules in use.

    allow_weak: whether a worker may serve that could not lock itself. Workers die with the thread
    that started them, so use a sandbox from the main thread or one that stays.
    """

    def __init__(self, limits: Limits | None = None, *, allow_weak: bool = False) -> None:
        self.limits = limits or Limits()
        self.allow_weak = allow_weak
        self._spares: dict[tuple[str, ...], Worker] = {}
        self.mechanisms: list[SandboxedMechanism] = []

    def load(self, source: str, *, modules: tuple[str, ...] = ()) -> SandboxedMechanism:
        """The source's mechanism, loaded. modules: to be there beside the allowed ones.

        Raises SandboxRefused when the wall does not stand or the source is too long, and
        MechanismError when the source does not load.
        """
        if len(source.encode("utf-8", "replace")) > policy.SOURCE_BYTES:
            raise SandboxRefused(f"a source may have {policy.SOURCE_BYTES} bytes; make it shorter")
        return SandboxedMechanism(self, source, modules)

    def level(self) -> policy.Level:
        """How well workers on this machine lock themselves, by trying it. Raises SandboxRefused."""
        spare = self._spares.pop((), None)
        worker = spare if spare is not None and spare.usable() else Worker(self.limits, ())
        self._spares[()] = worker
        return worker.wait_ready()

    def take(self, modules: tuple[str, ...]) -> Worker:
        """A locked worker that has these modules; the next one starts meanwhile.

        Raises SandboxRefused.
        """
        spare = self._spares.pop(modules, None)
        worker = spare if spare is not None and spare.usable() else Worker(self.limits, modules)
        if worker.wait_ready() == "weak" and not self.allow_weak:
            open_ = "; ".join(v for v in worker.report["attempts"].values() if v)
            worker.kill()
            raise SandboxRefused(
                f"this machine does not lock a worker: {open_} ({worker.report['failed']}); use "
                "Linux on x86_64 or aarch64, or allow a weak sandbox for sources that you trust"
            )
        self._spares[modules] = Worker(self.limits, modules)
        return worker

    def close(self) -> None:
        """End all workers."""
        for mechanism in self.mechanisms:
            mechanism.close()
        for worker in self._spares.values():
            worker.kill()
        self._spares.clear()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class SandboxedMechanism(Mechanism):
    """A mechanism whose code runs in a worker. Each hook raises MechanismError when it fails.

    state: the JSON attributes after the last good answer; a new worker is given them. A worker
    that ended without an answer is replaced once and asked again, so that a worker killed from
    outside changes no decision.
    """

    def __init__(self, sandbox: Sandbox, source: str, modules: tuple[str, ...]) -> None:
        self.state: Json | None = None
        self.starts = 0
        self._told = True  # whether the worker's state is the one held here
        self._sandbox = sandbox
        self._source = source
        self._modules = tuple(sorted({*modules, *policy.modules(source)}))
        self._worker: Worker | None = None
        self._space: Space | None = None
        self._trials: tuple[Trial, ...] = ()
        self._places: dict[int, int] = {}
        self._added = 0
        sandbox.mechanisms.append(self)
        self._attempt(self._ready)

    @property
    def level(self) -> policy.Level | None:
        """How well the worker at hand is locked; None while there is none."""
        return self._worker.level if self._worker else None

    @property
    def pid(self) -> int | None:
        """The worker's process id; None while there is none."""
        return self._worker.pid if self._worker else None

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

    def close(self) -> None:
        """End the worker; the next call would start another with the state held here."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None

    def _call(self, hook: str, view: View, given: object, trial: Trial | None = None) -> Any:
        return self._attempt(lambda: self._ask(hook, view, given, trial))

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
        seconds = self._sandbox.limits.call
        try:
            reply = worker.ask(message, time.monotonic() + seconds)
        except MechanismTimeout as error:
            what = message.get("hook", "loading the source")
            raise MechanismTimeout(
                f"{what} gave no answer in {seconds:g} s; do less in a call, and look for a loop "
                "that does not end"
            ) from error
        if "error" in reply:
            raise MechanismRaised(_printable(reply["error"]), _printable(reply.get("module", "")))
        state = reply.get("state")
        if not isinstance(state, dict):
            raise WrongFrame("a reply holds no state")
        self.state = state
        return reply

    def _lacked(self, module: str) -> bool:
        """Whether a module that may be used was not loaded, and will be in the next worker."""
        allowed = module.partition(".")[0] in policy.HEAVY and module not in self._modules
        if not allowed or self._added == MODULES_ADDED:
            return False
        self._added += 1
        self._modules = tuple(sorted({*self._modules, module}))
        return True


def _printable(text: object) -> str:
    """A worker's text for people and prompts: no control characters, at most 2000 characters."""
    if not isinstance(text, str):
        raise WrongFrame("a reply's error is no text")
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text[:2000])
