"""The outer ring: whether it holds is what a worker inside finds, never what bwrap says."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from attacks import BENIGN, QUICK, VIEW, altered_limits, left_in, works

from bilevel.model import Move
from bilevel.sandbox import attempts, bwrap
from bilevel.sandbox.errors import MechanismTimeout, SandboxRefused, WorkerDied
from bilevel.sandbox.host import Worker
from bilevel.sandbox.sandboxed import Sandbox
from sources import REACH, hook

MOVES = [Move((0,))]
OPEN = "\ndef apply_landlock():\n    pass\ndef apply_seccomp():\n    pass\n"


@pytest.fixture(scope="module")
def ringed() -> Iterator[Sandbox]:
    with Sandbox(QUICK) as made:
        made.level()
        if made.no_ring:
            pytest.skip(f"no bubblewrap: {made.no_ring}")
        yield made


def script(path: Path, body: str) -> str:
    """A program that stands in for bwrap."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_a_worker_inside_does_its_work(ringed: Sandbox) -> None:
    assert ringed.level().endswith("+bwrap")
    mechanism = ringed.load(BENIGN)
    assert mechanism.level == ringed.level()
    assert mechanism.plan(VIEW, MOVES) == MOVES
    proc = Path(f"/proc/{mechanism.pid}")
    command = (proc / "cmdline").read_bytes().split(b"\0")
    assert [Path(word.decode()).name for word in (command[5], command[8])] == [
        "start.py",
        "worker.py",
    ]
    assert re.search(r"Seccomp:\s+2", (proc / "status").read_text())
    assert re.search(r"CapEff:\s+0+\n", (proc / "status").read_text())
    names = ("pid", "net", "ipc", "mnt", "uts")
    own = [Path(f"/proc/self/ns/{name}").readlink() for name in names]
    assert not set(own) & {(proc / "ns" / name).readlink() for name in names}
    mechanism.close()


def test_the_ring_holds_what_the_lock_does_not(
    ringed: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the lock stubbed off, a ring still hides files, network and processes."""
    secret = tmp_path / "secret"
    secret.write_text("canary")
    body = f"""
import _socket
found = []
for path in ({str(secret)!r}, {__file__!r}, "/etc/passwd", "/var/log", "/proc/2"):
    if os.path.exists(path): found.append(path)
try: open("/planted", "w"); found.append("wrote")
except OSError: pass
self.found = [found, sorted(map(int, filter(str.isdigit, os.listdir("/proc")))), os.getsid(0)]
self.links = [name for _, name in _socket.if_nameindex()]
return moves
"""
    with altered_limits(OPEN), Sandbox(QUICK, allow_weak=True) as sandbox:
        assert sandbox.level() == "weak"
        assert "open went through" in sandbox.no_ring, "a ring alone is no level"
        ring = bwrap.Bwrap(bwrap.find() or "")
        monkeypatch.setattr(sandbox, "_ring", ring)
        sandbox._spares.pop(()).kill()
        mechanism = sandbox.load(hook(body, REACH))
        mechanism.plan(VIEW, MOVES)
        assert mechanism.state == {"found": [[], [1], 0], "links": ["lo"]}
        mechanism.close()
        ring.close()


def test_nothing_is_left_when_a_worker_inside_is_killed(ringed: Sandbox) -> None:
    ends = (
        (hook("while True: pass"), MechanismTimeout),
        (hook("os._exit(0)", REACH), WorkerDied),
        (hook("ctypes.string_at(1)", REACH), WorkerDied),
    )
    for source, kind in ends:
        mechanism = ringed.load(source)
        session = os.getsid(mechanism.pid or 0)
        ringed.limits = replace(QUICK, call=0.3)
        with pytest.raises(kind):
            mechanism.plan(VIEW, MOVES)
        ringed.limits = QUICK
        assert left_in(session) == []
    assert works(ringed)


def test_a_ring_that_is_killed_at_any_moment_is_noticed(ringed: Sandbox) -> None:
    for delay in (0.0, 0.002, 0.004, 0.008, 0.03):
        worker = ringed.start(())
        time.sleep(delay)
        os.kill(worker._process.pid, signal.SIGKILL)
        assert not worker.usable()
        # Its parent is gone, so nobody waited for it.
        assert left_in(worker._process.pid) == []


def test_a_worker_is_not_believed_to_be_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bwrap that starts its command and isolates nothing gives no `+bwrap`."""
    fake = script(tmp_path / "bwrap", 'while [ "$1" != -- ]; do shift; done; shift; "$@"; exit')
    monkeypatch.setattr(bwrap, "find", lambda: fake)
    with Sandbox(QUICK) as sandbox:
        assert sandbox.level() in ("strict", "strict+landlock")
        assert "it was reached" in sandbox.no_ring
        assert works(sandbox)


def test_without_user_namespaces_the_worker_starts_without_a_ring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = script(
        tmp_path / "bwrap", "echo 'bwrap: No permissions to create namespaces' >&2; exit 1"
    )
    monkeypatch.setattr(bwrap, "find", lambda: fake)
    with Sandbox(QUICK) as sandbox:
        assert sandbox.level() in ("strict", "strict+landlock")
        assert "No permissions to create namespaces" in sandbox.no_ring
        assert works(sandbox)


def test_without_bubblewrap_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert bwrap.find() is None
    with Sandbox(QUICK) as sandbox:
        assert "bwrap" not in sandbox.level()
        assert sandbox.no_ring == "bubblewrap is not installed"


def test_what_is_reachable_from_here_is_said_to_be_reached() -> None:
    ring = bwrap.Bwrap("bwrap")
    found = attempts.reach_outside(ring.bait)
    ring.close()
    assert set(found) == set(attempts.OUTSIDE)
    assert (found["file"], found["socket"]) == ("it was reached", "it was reached")
    gone = attempts.reach_outside(ring.bait)
    assert (gone["file"], gone["socket"]) == ("", "")


def test_what_a_worker_may_see_holds_no_folder_of_the_user() -> None:
    paths = bwrap.visible([Path("/a/own.py")])
    assert Path("/a/own.py") in paths
    assert Path("/usr") in paths
    assert not {Path("/"), Path.home(), Path("/etc"), Path("/home"), Path("/tmp")} & set(paths)
    assert not [p for p in paths for q in paths if q in p.parents]


def test_a_worker_at_another_level_than_the_first_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Sandbox(QUICK, ring=False) as sandbox:
        monkeypatch.setattr(sandbox, "_level", "strict+landlock+bwrap")
        with pytest.raises(SandboxRefused, match=r"earlier ones at strict\+landlock\+bwrap"):
            sandbox.load(BENIGN)


def test_memory_is_watched_where_it_cannot_be_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: the limit of address space is not set, and the host looks."""
    code = "\ndef lower_limits(memory, cpu):\n    pass\n"
    monkeypatch.setattr(Worker, "watched", True)
    source = hook("x = bytearray(2**28)\nwhile True: pass")
    limits = replace(QUICK, memory=2**27)
    with altered_limits(code), Sandbox(limits, ring=False) as sandbox:
        mechanism = sandbox.load(source)
        with pytest.raises(WorkerDied, match="bytes of memory; it may have 134217728"):
            mechanism.plan(VIEW, MOVES)
        assert works(sandbox)
