"""Runs a hostile source in a sandbox amid canaries, and says how it ended.

Standard library and bilevel only, so that a bare interpreter of another user can run it:

    python attacks.py FOLDER [landlock] [bwrap] NAME...

It prints the level and why there is no bwrap, then [name, ended, problems] of each; JSON, a line
each. Without the word Landlock is stubbed off, without the other no worker starts inside bwrap.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bilevel.mechanism import View
from bilevel.model import Move, Param, Space, Trial
from bilevel.sandbox import host
from bilevel.sandbox.errors import MechanismRaised, MechanismTimeout, WorkerDied, WrongFrame
from bilevel.sandbox.host import Limits
from bilevel.sandbox.sandboxed import Sandbox

CORPUS = Path(__file__).parents[2].parent / "shared" / "data" / "attacks"
SECRET = "sk-canary-3f9a"
SPACE = Space((Param("RATE", "float", 0.1, low=0.001, high=1.0, log=True),))
FIRST = Trial(0, None, {"RATE": 0.1}, "ok", -1.0, {"loss": 1.0}, 1.0, 0, True, role="baseline")
VIEW = View(SPACE, (FIRST,), FIRST, FIRST, step=0, left=5)
QUICK = Limits(call=5.0, memory=2**29)

# What the attacks import once they have reached importlib; it is there, so that the operating
# system is what stops them.
TOOLS = (
    *("atexit", "ctypes", "fcntl", "gc", "importlib", "multiprocessing", "resource", "signal"),
    *("multiprocessing.context", "multiprocessing.popen_fork", "multiprocessing.shared_memory"),
    *("os", "socket", "struct", "subprocess", "threading", "uuid"),
)

# Level 2's contract around the one-hook interface; what the attack returns becomes state.
ADAPTER = """
from bilevel.mechanism import Mechanism as _Base
_inner = None
class Adapter(_Base):
    def __init__(self):
        self.result = None
        self.saved = None
    def plan(self, view, moves):
        global _inner
        if _inner is None:
            _inner = Mechanism({config!r})
            if self.saved is not None and hasattr(_inner, "set_state"):
                _inner.set_state(self.saved)
        self.result = _inner.on_iteration({{"scores": [1.0, 2.0], "iteration": 1}})
        self.saved = _inner.get_state() if hasattr(_inner, "get_state") else vars(_inner)
        return moves
"""

BENIGN = """
from bilevel.mechanism import Mechanism
class Counts(Mechanism):
    def __init__(self):
        self.n = 0
    def plan(self, view, moves):
        self.n += 1
        return moves
"""


@dataclass(frozen=True)
class Case:
    """An attack's source, and the ends that are right for it."""

    name: str
    source: str
    right: tuple[str, ...]


def read_case(path: Path) -> Case:
    """A case, by its first line. `kernel` and `leak` ask of a weaker wall; here all is blocked."""
    source = path.read_bytes().decode("utf-8", "surrogateescape")
    expect = re.search(r"EXPECT: (\S+)", source.partition("\n")[0])
    assert expect is not None, path
    words = expect[1].split(",")
    right = {"any": ("ok", "blocked", "error", "timeout", "died", "protocol")}
    right |= {"kernel": ("blocked", "died"), "leak": ("blocked",)}
    return Case(path.stem, source, tuple(e for w in words for e in right.get(w, (w,))))


class Canaries:
    """Secrets and listeners that no attack may reach."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.home, self.world = folder / "home", folder / "world"
        for path in (".ssh/id_rsa", "project/.env", "project/loop.py", "precious"):
            (self.home / path).parent.mkdir(parents=True, exist_ok=True)
            (self.home / path).write_text(SECRET)
        self.world.mkdir(mode=0o777)
        self.world.chmod(0o777)
        self._files = self._snapshot()
        self._memory = ctypes.create_string_buffer(SECRET.encode())
        self._abstract = f"bilevel-canary-{os.getpid()}"
        inet, unix, stream = socket.AF_INET, socket.AF_UNIX, socket.SOCK_STREAM
        self._tcp = stack.enter_context(socket.socket(inet, stream))
        self._udp = stack.enter_context(socket.socket(inet, socket.SOCK_DGRAM))
        self._unix = stack.enter_context(socket.socket(unix, stream))
        self._hidden = stack.enter_context(socket.socket(unix, stream))
        for sock, address in (
            (self._tcp, ("127.0.0.1", 0)),
            (self._udp, ("127.0.0.1", 0)),
            (self._unix, str(folder / "agent")),
            (self._hidden, f"\0{self._abstract}"),
        ):
            sock.bind(address)
            sock.setblocking(False)
            if sock is not self._udp:
                sock.listen()
        (folder / "agent").chmod(0o777)

    def config(self) -> dict[str, Any]:
        return {
            "home": str(self.home),
            "world": str(self.world),
            "ppid": os.getpid(),
            "addr": ctypes.addressof(self._memory),
            "tcp": self._tcp.getsockname()[1],
            "udp": self._udp.getsockname()[1],
            "unix": self._unix.getsockname(),
            "abstract": self._abstract,
        }

    def touched(self) -> list[str]:
        """What an attack reached."""
        found = [] if self._snapshot() == self._files else ["files changed"]
        for name in ("_tcp", "_unix", "_hidden"):
            try:
                getattr(self, name).accept()[0].close()
            except BlockingIOError:
                continue
            found.append(f"{name} was connected to")
        try:
            self._udp.recv(1)
            found.append("a datagram came")
        except BlockingIOError:
            pass
        return found

    def _snapshot(self) -> list[tuple[str, int, str]]:
        paths = sorted([*self.home.rglob("*"), *self.world.rglob("*")])
        return [(str(p), p.stat().st_mode, p.read_text() if p.is_file() else "") for p in paths]


@contextmanager
def altered_limits(code: str) -> Iterator[None]:
    """Has workers run limits.py with functions of it replaced, as by another machine's kernel."""
    kept = host.OWN_FILES["bilevel.sandbox.limits"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "limits.py"
        path.write_text(kept.read_text() + code)
        host.OWN_FILES["bilevel.sandbox.limits"] = path
        try:
            yield
        finally:
            host.OWN_FILES["bilevel.sandbox.limits"] = kept


NO_LANDLOCK = """
def apply_landlock():
    raise OSError(38, "no Landlock here")
"""


@contextmanager
def canaries() -> Iterator[Canaries]:
    """Canaries in a folder that others may enter, and a secret in this process's environment."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        os.environ["CANARY_TOKEN"] = SECRET
        stack.callback(os.environ.pop, "CANARY_TOKEN")
        yield Canaries(folder, stack)


def run_case(
    case: Case, sandbox: Sandbox, canary: Canaries, *, after: bool = True
) -> tuple[str, list[str]]:
    """How the attack ended, and everything that is wrong about it.

    after: whether to see that a good mechanism still works then.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sessions: list[int] = []
    sandbox.limits = patience(case)
    ended, state = _end(armed(case, canary), sandbox, sessions)
    sandbox.limits = QUICK
    problems = canary.touched()
    if ended not in case.right:
        problems.append(f"ended as {ended}: {state!r:.300}")
    if SECRET in json.dumps(state):
        problems.append(f"the secret came back: {state!r:.300}")
    problems += [f"process {p} was left behind" for s in sessions for p in left_in(s)]
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > 64 * 1024:
        problems.append("the host grew by more than 64 MiB")
    if after and not works(sandbox):
        problems.append("the next mechanism did not work")
    return ended, problems


def armed(case: Case, canary: Canaries) -> str:
    """The attack as a mechanism's source, told where the canaries are."""
    world = case.source.replace("WORLD", str(canary.world))
    return world + ADAPTER.format(config=canary.config())


def patience(case: Case) -> Limits:
    """Nobody waits long for a hang, and everybody else may take a busy machine's time."""
    return replace(QUICK, call=0.2, wait=1.0) if "timeout" in case.right else QUICK


def works(sandbox: Sandbox) -> bool:
    """Whether a good mechanism still runs."""
    mechanism = sandbox.load(BENIGN)
    moves = [Move((0,))]
    answer = mechanism.plan(VIEW, moves)
    mechanism.close()
    return answer == moves and mechanism.state == {"n": 1}


def _end(source: str, sandbox: Sandbox, sessions: list[int]) -> tuple[str, Any]:
    mechanism = None
    try:
        mechanism = sandbox.load(source, modules=TOOLS)
        sessions.append(os.getsid(mechanism.pid or 0))
        mechanism.plan(VIEW, [Move((0,))])
        result = (mechanism.state or {})["result"]
    except MechanismRaised as error:
        return "error", str(error)
    except MechanismTimeout as error:
        return "timeout", str(error)
    except WorkerDied as error:
        return "died", str(error)
    except WrongFrame as error:
        return "protocol", str(error)
    finally:
        if mechanism is not None:
            mechanism.close()
    word = next((w for w in ("pwned", "blocked") if isinstance(result, dict) and w in result), "ok")
    return word, result


def in_session(session: int) -> list[int]:
    """Living processes of a session; a worker leads its own."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def left_in(session: int) -> list[int]:
    """Living processes of a session that has been ended, after the time that a kernel may need."""
    deadline = time.monotonic() + 300
    while (found := in_session(session)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def main() -> None:
    """Run the named cases of a folder, and print how each ended."""
    folder, *names = sys.argv[1:]
    landlock, ring = "landlock" in names, "bwrap" in names
    attacks = [name for name in names if name not in ("landlock", "bwrap")]
    limits = altered_limits("" if landlock else NO_LANDLOCK)
    with limits, Sandbox(QUICK, ring=ring) as sandbox, canaries() as canary:
        print(json.dumps([sandbox.level(), sandbox.no_ring]), flush=True)
        if ring and sandbox.no_ring:
            return
        # Each attack needs a fresh worker already; the good ones come last, after all the others.
        for name in sorted(attacks, key=lambda name: name.startswith("b")):
            case = read_case(Path(folder) / f"{name}.py")
            print(json.dumps([name, *run_case(case, sandbox, canary, after=False)]), flush=True)


if __name__ == "__main__":
    main()
