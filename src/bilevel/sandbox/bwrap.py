"""The outer ring: a worker's command inside bubblewrap, and bait that shows whether the ring holds.

Inside are namespaces of their own for processes, network, mounts and IPC, and read-only only what
a worker loads: the system's libraries, this Python, its packages and the worker's own files. The
worker locks itself there as anywhere else; the ring is for the day when that has a hole. Options
are those of bwrap(1). A host that is killed within the milliseconds in which bubblewrap starts can
leave that process behind, waiting, before any of the worker's code has run.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/nix/store")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/alternatives")
ISOLATION = (
    *("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
    *("--die-with-parent", "--as-pid-1", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),
)
LAST = ("--remount-ro", "/", "--chdir", "/")
# What a worker that starts as root needs until it has become nobody, by itself.
ROOT = (
    *("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"),
    *("--cap-add", "CAP_DAC_READ_SEARCH"),
)


class Bwrap:
    """Holds the bait that workers inside try to reach: a file, and a listening socket."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._file = tempfile.NamedTemporaryFile(prefix="bilevel-bait-")  # noqa: SIM115
        self._socket = socket.socket(socket.AF_UNIX)
        self._name = f"bilevel-bait-{secrets.token_hex(8)}"
        self._socket.bind(f"\0{self._name}")  # abstract, so it belongs to the network namespace
        self._socket.listen()

    @property
    def bait(self) -> dict[str, str]:
        """Path of the file and abstract name of the socket."""
        return {"file": self._file.name, "socket": self._name}

    def command(self, worker: Sequence[str], files: Iterable[Path]) -> list[str]:
        """The worker's command, inside. files: its own, beside Python's."""
        binds = [
            word for path in visible(files) for word in ("--ro-bind-try", str(path), str(path))
        ]
        root = ROOT if os.geteuid() == 0 else ()
        options = [*ISOLATION, *root, *binds, *LAST]
        return [self._program, *options, "--", *worker]

    def close(self) -> None:
        """Take the bait away. May be called twice."""
        self._file.close()
        self._socket.close()


def find() -> str | None:
    """Path of the bubblewrap program, None where it is not installed; says nothing of its use."""
    return shutil.which("bwrap") if sys.platform == "linux" else None


def visible(files: Iterable[Path]) -> list[Path]:
    """What a worker must be able to read; nothing twice."""
    python = (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)
    packages = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    # The interpreter may be reached by links, each hop of which must be there.
    program = (Path(sys.executable).resolve().parents[1], *(Path(p).resolve() for p in python))
    paths = {*map(Path, (*SYSTEM, *SYSTEM_FILES, *python, *packages)), *program, *files}
    return sorted(path for path in paths if not paths.intersection(path.parents))
