"""Starts the child process that serves a model, and makes sure that it ends."""

from __future__ import annotations

import json
import os
import secrets
import selectors
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import IO

import httpx2

from bilevel.errors import LLMUnavailable

SCRIPT = Path(__file__).with_name("server.py")
TAIL_BYTES = 2000


class ModelServer:
    """A running server: `url`, `key`, `pid`. It ends with `stop`, or with this process.

    model: file of the weights. alias: what the server calls it. threads, context: cores to use,
    tokens of prompt and reply together. patience: seconds until it must answer. slots: prompts
    whose tokens are kept, each of `context` tokens.
    Raises LLMUnavailable, with the end of its log, when it ends or stays silent instead.
    """

    def __init__(
        self,
        model: Path,
        alias: str,
        threads: int,
        context: int,
        patience: float,
        slots: int = 1,
    ) -> None:
        self.key = secrets.token_urlsafe(24)
        self._alias = alias
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            # -P: neither this folder nor the user's may shadow the standard library.
            [sys.executable, "-P", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_environment(),
            start_new_session=True,
        )
        self._end = weakref.finalize(self, _end, self._process, self._log, os.getpid())
        settings = {
            "model": str(model),
            "alias": alias,
            "key": self.key,
            "threads": threads,
            "context": context,
            "slots": slots,
            "parent": os.getpid(),
            # Linux ties the signal to the thread that started the child, not to the process.
            "bound": threading.current_thread() is threading.main_thread(),
        }
        deadline = time.monotonic() + patience
        try:
            self._tell(settings)
            self.url = self._address(deadline, patience)
            self._greet(deadline, patience)
        except LLMUnavailable:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self, within: float = 0.0) -> bool:
        """Whether the process is gone, at the latest `within` seconds from now."""
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True

    def tail(self) -> str:
        """The end of its log and how it ended, on one line."""
        if self._log.closed:
            return "stopped"
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), TAIL_BYTES, max(0, size - TAIL_BYTES))
        lines = text.decode(errors="replace").replace(self.key, "***").split("\n")
        said = " | ".join(line.strip() for line in lines[-8:] if line.strip()) or "nothing"
        code = self._process.poll()
        return f"{'still running' if code is None else f'exit status {code}'}; its log says: {said}"

    def stop(self) -> None:
        """End the process. May be called twice."""
        self._end()

    def _tell(self, settings: dict[str, object]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(settings).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._process.wait(5)
            raise self._failure("ended at once") from None

    def _address(self, deadline: float, patience: float) -> str:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while selector.select(max(0.0, deadline - time.monotonic())):
                line = self._process.stdout.readline()
                if not line:
                    self._process.wait(5)
                    raise self._failure("ended while it loaded the model")
                if line.startswith(b'{"url"'):
                    return str(json.loads(line)["url"])
        raise self._failure(f"did not load the model within {patience:g} s")

    def _greet(self, deadline: float, patience: float) -> None:
        while time.monotonic() < deadline:
            try:
                if httpx2.get(f"{self.url}/health", trust_env=False, timeout=2).is_success:
                    return
            except httpx2.TransportError:
                if self.ended():
                    raise self._failure("ended before it answered") from None
            time.sleep(0.05)
        raise self._failure(f"did not answer within {patience:g} s")

    def _failure(self, what: str) -> LLMUnavailable:
        remedy = "see `bilevel doctor`"
        tail = self.tail()
        if "libgomp" in tail:
            remedy = "install the OpenMP library: apt-get install libgomp1"
        return LLMUnavailable(f"the server of {self._alias} {what} ({tail}); {remedy}")


def _environment() -> dict[str, str]:
    # Threads that wait by spinning starve each other as soon as anything else computes:
    # 2 threads on 2 cores with one busy neighbour wrote 0.9 tokens/s spinning, 51 sleeping.
    mine = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return mine | {"OMP_WAIT_POLICY": "PASSIVE"}


def _end(process: subprocess.Popen[bytes], log: IO[bytes], owner: int) -> None:
    if os.getpid() != owner:  # A fork of the owner must not end what is not its own.
        return
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, log):
        if stream is not None:
            stream.close()
