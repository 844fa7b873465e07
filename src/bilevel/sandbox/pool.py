"""Locked workers, one kept ready for each set of modules in use."""

from __future__ import annotations

from bilevel.sandbox import bwrap, policy, wasm
from bilevel.sandbox.bwrap import Bwrap
from bilevel.sandbox.errors import SandboxRefused
from bilevel.sandbox.host import Limits, Worker
from bilevel.sandbox.wasm import WasmWorker


class Pool:
    """Starts workers, and keeps one ready for each set of modules in use.

    allow_weak: whether a worker may serve that could not lock itself. ring: whether workers start
    inside bubblewrap where it is installed and, by what workers find inside, works; `no_ring` says
    why it does not. wall: `wasm` has every worker run its mechanism in a WebAssembly guest, without
    such a ring, or refuses; the guest must be compiled first, for minutes, which the first use does
    unless `wasm.prepare` has.

    A program may have any number of sandboxes. Each belongs to one thread at a time, and that has
    to be the main thread or one that stays: the kernel ends a worker with the thread that started
    it, and its successor, started by the thread that calls, changes no decision. A sandbox holds
    one process for each source loaded and not closed, and a spare for each set of modules, each
    with three descriptors here.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        allow_weak: bool = False,
        ring: bool = True,
        wall: policy.Wall = "auto",
    ) -> None:
        self.limits = limits or Limits()
        self.allow_weak = allow_weak
        self.wall = wall
        self.no_ring = "" if ring and wall == "auto" else "it was not asked for"
        self._ring: Bwrap | None = None
        self._level: policy.Level | None = None
        self._spares: dict[tuple[str, ...], Worker] = {}

    def level(self) -> policy.Level:
        """How well workers on this machine lock themselves, by trying it.

        Raises SandboxRefused, and MissingExtra where the wall's library is not installed.
        """
        if self._level is None:
            if self.wall == "wasm":
                wasm.prepare()
            worker = self._ringed() or self.start(())
            self._level, self._spares[()] = worker.wait_ready(), worker
        return self._level

    def take(self, modules: tuple[str, ...]) -> Worker:
        """A locked worker that has these modules; the next one starts meanwhile.

        Raises SandboxRefused.
        """
        expected = self.level()
        spare = self._spares.pop(modules, None)
        worker = spare if spare is not None and spare.usable() else self.start(modules)
        if worker.wait_ready() == "weak" and not self.allow_weak:
            open_ = "; ".join(v for v in worker.report["attempts"].values() if v)
            worker.kill()
            raise SandboxRefused(
                f"this machine does not lock a worker: {open_} ({worker.report['failed']}); use "
                "Linux on x86_64 or aarch64, or allow a weak sandbox for sources that you trust"
            )
        if worker.level != expected:
            worker.kill()
            raise SandboxRefused(
                f"a worker is held at {worker.level} and earlier ones at {expected}; see what has "
                "changed on this machine, and start again"
            )
        self._spares[modules] = self.start(modules)
        return worker

    def start(self, modules: tuple[str, ...]) -> Worker:
        """A worker that has just started, and knows nothing of its level yet."""
        if self.wall == "wasm":
            return WasmWorker(self.limits, modules)
        return Worker(self.limits, modules, self._ring)

    def _ringed(self) -> Worker | None:
        """A worker that found itself inside the outer ring; None, and `no_ring`, if none does."""
        program = bwrap.find()
        if self.no_ring or program is None:
            self.no_ring = self.no_ring or "bubblewrap is not installed"
            return None
        self._ring = Bwrap(program)
        try:
            worker = self.start(())
            if worker.wait_ready().endswith("+bwrap"):
                return worker
            worker.kill()
            self.no_ring = f"{worker.report['attempts']}, {worker.report['outside']}"
        except SandboxRefused as error:
            self.no_ring = str(error)
        self._ring.close()
        self._ring = None
        return None

    def close(self) -> None:
        """End the spares, and forget how well they were locked."""
        for worker in self._spares.values():
            worker.kill()
        self._spares.clear()
        if self._ring is not None:
            self._ring.close()
        self._ring = self._level = None
