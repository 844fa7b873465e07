"""Attempts at what must fail, from which the level follows: before the lock, and after it.

Standard library only: the worker loads this file by its path, and runs it on itself.
"""

# ruff: noqa: PTH108, PTH116, PTH208 - an attempt is one system call, made as an attacker would
from __future__ import annotations

import _socket  # `socket` takes milliseconds to load, for what is not used here
import _thread
import errno
import os
import sys
from collections.abc import Callable, Mapping


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _create() -> None:
    path = f"/tmp/.bilevel-{os.getpid()}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.unlink(path)


ATTEMPTS: dict[str, Callable[[], object]] = {
    "open": lambda: os.close(os.open("/", os.O_RDONLY)),
    "stat": lambda: os.stat("/"),
    "list": lambda: os.listdir("/"),
    "create": _create,
    "tcp": lambda: _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM).close(),
    "udp": lambda: _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM).close(),
    "unix": lambda: _socket.socket(_socket.AF_UNIX).close(),
    "fork": _fork,
    "thread": lambda: _thread.start_new_thread(int, ()),
    "exec": lambda: os.execv("/nonexistent/program", ["program"]),
    "kill": lambda: os.kill(os.getppid(), 0),
}
# What a WebAssembly guest must have tried, on whatever system it is.
GUEST = (*ATTEMPTS, "library")
WASI = sys.platform == "wasi"
if WASI:
    # The one folder it can see, its Python's.
    ATTEMPTS["library"] = lambda: os.open("/usr/local/lib/new", os.O_WRONLY | os.O_CREAT, 0o600)
if sys.platform == "darwin":
    del ATTEMPTS["thread"]  # its sandbox binds the whole process, and cannot deny threads
DENIED = [errno.EPERM, errno.EACCES, errno.EAGAIN]
if WASI:
    DENIED += [errno.ENOENT, errno.ENOTSUP, errno.ENOSYS]  # there is nothing but what was granted


def attempt(name: str) -> str:
    """Does what is forbidden: "" when it was denied, else what happened."""
    try:
        ATTEMPTS[name]()
    except OSError as error:
        return "" if error.errno in DENIED else f"{name}: {error}"
    except AttributeError as error:  # WASI lacks the call
        return "" if WASI else f"{name}: {error}"
    except RuntimeError as error:  # what Python makes of a thread that may not start
        return "" if name == "thread" else f"{name}: {error}"
    return f"{name} went through"


def reach_outside(bait: Mapping[str, str]) -> dict[str, str]:
    """What became of reaching, before the lock, what an outer ring hides: "" if it is not there.

    bait: of the host, the path of a file and the abstract name of a listening socket.
    """
    return {
        "file": _absent(errno.ENOENT, lambda: os.close(os.open(bait["file"], os.O_RDONLY))),
        "socket": _absent(errno.ECONNREFUSED, lambda: _connect(bait["socket"])),
        "process": _absent(errno.ESRCH, _signal_starter),
    }


OUTSIDE = ("file", "socket", "process")


def _absent(code: int, work: Callable[[], object]) -> str:
    try:
        work()
    except OSError as error:
        return "" if error.errno == code else str(error)
    return "it was reached"


def _connect(name: str) -> None:
    sock = _socket.socket(_socket.AF_UNIX)
    try:
        sock.setblocking(False)
        sock.connect(f"\0{name}")
    finally:
        sock.close()


def _signal_starter() -> None:
    """Signals the leader of this session, with signal 0; a leader outside has the number 0."""
    leader = os.getsid(0)
    if leader == 0:
        raise ProcessLookupError(errno.ESRCH, "no such process here")
    os.kill(leader, 0)


def threads() -> int:
    """Threads of this process; a second one would escape a lock that binds one."""
    if sys.platform != "linux":
        return 1
    return len(os.listdir("/proc/self/task"))
