"""The host's end of one worker: start, exchange of one frame against a deadline, kill."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import select
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.util import cache_from_source
from pathlib import Path
from typing import IO, Any

import psutil

from bilevel.sandbox import attempts, framing, limits, policy, wire
from bilevel.sandbox.bwrap import Bwrap
from bilevel.sandbox.errors import MechanismTimeout, SandboxRefused, WorkerDied, WrongFrame

PACKAGE = Path(__file__).parent.parent
OWN_FILES = {
    "bilevel.errors": PACKAGE / "errors.py",
    "bilevel.space": PACKAGE / "space.py",
    "bilevel.model": PACKAGE / "trials.py",
    "bilevel.mechanism": PACKAGE / "mechanism.py",
    "bilevel.sandbox.limits": PACKAGE / "sandbox" / "limits.py",
    "bilevel.sandbox.attempts": PACKAGE / "sandbox" / "attempts.py",
    "bilevel.sandbox.wire": PACKAGE / "sandbox" / "wire.py",
}
# A set of texts must be walked in the same order in every worker, hence the fixed hash seed.
ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JOBLIB_MULTIPROCESSING": "0",
}
WATCH_SECONDS = 0.05


@cache
def bytecode(source: Path) -> Path:
    """Where Python keeps a file's bytecode; it is there from now on, unless it may not be kept."""
    SourceFileLoader("", str(source)).get_code("")
    return Path(cache_from_source(str(source)))


@dataclass(frozen=True)
class Limits:
    """What a worker may use.

    start: seconds on the clock, from its start to the end of the lock-down, imports included.
    call: seconds of its CPU time for one hook, and for loading the source. wait: seconds on the
    clock for the same. cpu: seconds of CPU time over its whole life. memory: bytes of address
    space; on macOS, which cannot limit that, bytes in use, at which the host ends the worker.
    """

    start: float = 60.0
    call: float = 10.0
    wait: float = 60.0
    cpu: int = 3600
    memory: int = 2**30


class Worker:
    """One locked process. Made at once, ready after `wait_ready`; good for one source.

    ring: to start it in, if any. watched: whether the host has to watch its memory.
    """

    watched = limits.MACOS
    program = "worker.py"
    forbidden: Collection[str] = tuple(attempts.ATTEMPTS)  # what it must have tried
    _granted: Limits | None = None  # for the call that is under way
    _used = math.inf  # seconds of CPU time, when that call was first looked after

    def __init__(self, limits: Limits, modules: tuple[str, ...], ring: Bwrap | None = None) -> None:
        self._limits = limits
        self._ring = ring
        self._deadline = time.monotonic() + limits.start
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open until `kill`
        fcntl.fcntl(self._log, fcntl.F_SETFL, os.O_APPEND)
        theirs_in, self._write = os.pipe()
        self._read, theirs_out = os.pipe()
        try:
            self._process = self._spawn(theirs_in, theirs_out)
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self.pid = self._process.pid
        self._number = 0
        os.set_blocking(self._write, False)
        os.set_blocking(self._read, False)
        self.level: policy.Level | None = None
        self.report: Mapping[str, Any] = {}
        # Small enough for the pipe's buffer, so this returns before the worker reads it.
        start = framing.frame(json.dumps(self._start(modules)).encode())
        try:
            self._send(start, self._deadline)
        except (WorkerDied, MechanismTimeout) as error:
            output = self.output()
            self.kill()
            raise SandboxRefused(f"a worker did not start: {error}; it said: {output}") from error

    def _spawn(self, requests: int, replies: int) -> subprocess.Popen[bytes]:
        start, program = PACKAGE / "sandbox" / "start.py", PACKAGE / "sandbox" / self.program
        words = ["-P", "-s", "-S", "-B", str(start), str(requests), str(replies), str(program)]
        command = [sys.executable, *words]
        own = (start, program, *OWN_FILES.values())
        files = (*own, *map(bytecode, own))
        if self._ring is not None:
            command = self._ring.command(command, files)
        return subprocess.Popen(
            command,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=(requests, replies),
            start_new_session=True,
            cwd="/",
        )

    def _environment(self) -> dict[str, str]:
        return ENVIRONMENT

    def _start(self, modules: tuple[str, ...]) -> dict[str, Any]:
        paths = sysconfig.get_paths()
        return {
            "files": {name: str(path) for name, path in OWN_FILES.items()},
            "memory": self._limits.memory,
            "cpu": self._limits.cpu,
            "modules": [*policy.PRELOAD, *modules],
            "paths": [paths["purelib"], paths["platlib"]],
            "parent": os.getpid() if self._ring is None else None,
            "bait": None if self._ring is None else self._ring.bait,
        }

    def wait_ready(self) -> policy.Level:
        """How well it locked itself, by its attempts.

        Raises SandboxRefused when it could not start, with the end of what it printed.
        """
        if self.level is None:
            try:
                report = self._receive(self._deadline)
                if self._ring is not None:
                    self.pid = self._inside()
                self.level = policy.level(report, self.forbidden, attempts.OUTSIDE)
            except (WorkerDied, MechanismTimeout, WrongFrame, KeyError, TypeError) as error:
                output = self.output()
                self.kill()
                raise SandboxRefused(
                    f"a worker did not start: {error}; it said: {output}"
                ) from error
            self.report = report
        return self.level

    def _inside(self) -> int:
        """The worker's own process id, of the one process that the ring has started."""
        try:
            return psutil.Process(self.pid).children()[0].pid
        except (psutil.NoSuchProcess, IndexError) as error:
            raise WorkerDied("the worker ended after it had started") from error

    def ask(self, message: Mapping[str, Any], granted: Limits) -> dict[str, Any]:
        """The reply to one request. granted: whose `call` and `wait` hold for all of it.

        Raises WorkerDied, MechanismTimeout or WrongFrame; then the worker is of no more use.
        """
        self._number += 1
        self._granted, self._used = granted, math.inf
        deadline = time.monotonic() + granted.wait
        body = json.dumps({**message, "id": self._number}, default=wire.unfold).encode()
        if select.select([self._read], [], [], 0)[0]:
            self._refuse_unasked()
        self._send(framing.frame(body), deadline)
        reply = self._receive(deadline)
        if reply.get("id") != self._number:
            raise WrongFrame("a reply does not carry its request's number")
        return reply

    def used(self) -> float:
        """Seconds of CPU time so far; 0 when it is gone."""
        try:
            return sum(psutil.Process(self.pid).cpu_times()[:2])
        except psutil.NoSuchProcess:
            return 0.0

    def output(self) -> str:
        """The last 2000 bytes of what it printed."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), 2000, max(0, size - 2000)).decode(errors="replace")

    def usable(self) -> bool:
        """Whether it is there and locked; if not, it has been killed."""
        poll = select.poll()
        poll.register(self._read, 0)
        try:
            self.wait_ready()
        except SandboxRefused:
            return False  # a fresh worker takes its place, and raises if it fails alike
        if poll.poll(0):  # it hung up
            self.kill()
            return False
        return True

    def kill(self) -> None:
        """End it and close the pipes. May be called twice."""
        if self._write < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            if self.pid == self._process.pid:
                os.killpg(self.pid, signal.SIGKILL)
            elif self._process.poll() is None:
                os.kill(self.pid, signal.SIGKILL)  # the ring sees it off, and ends
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._log.close()
        self._write = self._read = -1

    def _refuse_unasked(self) -> None:
        if os.read(self._read, 1):
            raise WrongFrame("the worker wrote without having been asked")
        raise WorkerDied("the worker ended between two calls")

    def _send(self, data: bytes, deadline: float) -> None:
        left = memoryview(data)
        while left:
            self._wait(self._write, select.POLLOUT, deadline)
            try:
                left = left[os.write(self._write, left[: 2**16]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError as error:
                raise WorkerDied("the worker ended") from error

    def _receive(self, deadline: float) -> dict[str, Any]:
        size = framing.length(self._exactly(framing.HEADER.size, deadline))
        body = self._exactly(size, deadline)
        if select.select([self._read], [], [], 0)[0]:
            self._refuse_unasked()
        return framing.parse(body)

    def _exactly(self, count: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < count:
            self._wait(self._read, select.POLLIN, deadline)
            try:
                part = os.read(self._read, min(count - len(data), 2**16))
            except BlockingIOError:
                continue
            if not part:
                raise WorkerDied("the worker ended without an answer")
            data += part
        return bytes(data)

    def _wait(self, descriptor: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        while (left := deadline - time.monotonic()) > 0:
            if poll.poll(1000 * min(left, WATCH_SECONDS)):
                return
            self._watch()
        took = f"{self._granted.wait:g} s" if self._granted else "time"
        raise MechanismTimeout(f"no answer in {took}")

    def _watch(self) -> None:
        """What the pipe does not tell. Raises WorkerDied and MechanismTimeout."""
        if self._ring is not None:
            # One whose ring was killed as it started would wait for it for ever.
            state = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if state is not None:
                raise WorkerDied("the ring around the worker ended")
        if self._granted is not None:
            used = self.used()
            # Counted from the first look, which spares quick calls the trouble.
            self._used = min(self._used, used)
            if used - self._used >= self._granted.call:
                raise MechanismTimeout(f"no answer in {self._granted.call:g} s of CPU time")
        if self.watched:
            held, most = 0, self._limits.memory
            with contextlib.suppress(psutil.NoSuchProcess):  # the pipe tells that
                held = psutil.Process(self.pid).memory_info().rss
            if held > most:
                raise WorkerDied(f"the worker took {held} bytes of memory; it may have {most}")
