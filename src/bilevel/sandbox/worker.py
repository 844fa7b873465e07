"""The process behind the wall: loads what is allowed, locks itself, and only then is sent code.

Run by its path with two descriptors, requests and replies; of the package it is given four
files, by path, and nothing else. The second of the two places that catch everything is here:
whatever the mechanism raises is an answer.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import struct
import sys
import types
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
MOST_BYTES = 2**20  # of an answer, and of a state
MOST_NODES = 150_000
MOST_DEPTH = 16


def main() -> None:
    """Start up, lock down, say how that went, and serve until the host hangs up."""
    requests, replies = (low(int(n)) for n in sys.argv[1:3])
    receive, send = channel(requests, replies)
    start = receive()
    limits = load_own("bilevel.sandbox.limits", start["files"]["bilevel.sandbox.limits"])
    limits.lower_limits(start["memory"], start["cpu"])
    for name, path in start["files"].items():
        if name not in sys.modules:
            load_own(name, path)
    absent = preload(start["modules"], start["paths"])
    send({"id": 0, **lock(limits, start["parent"]), "absent": absent})
    serve(receive, send)


def low(descriptor: int) -> int:
    """The descriptor under the lowest free number; the host's may lie beyond NOFILE."""
    copy = os.dup(descriptor)
    os.close(descriptor)
    return copy


def channel(requests: int, replies: int) -> tuple[Callable[[], Json], Callable[[Json], None]]:
    """Functions that receive and send one frame. What they need is bound before code arrives."""
    read, write, loads, header = os.read, os.write, json.loads, struct.Struct("<I")
    encode, leave = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode, os._exit

    def exactly(count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            part = read(requests, min(count - len(data), 2**20))
            if not part:
                leave(0)
            data += part
        return bytes(data)

    def receive() -> Json:
        message: Json = loads(exactly(header.unpack(exactly(4))[0]))
        return message

    def send(message: Json) -> None:
        body = encode(message).encode()
        data = memoryview(header.pack(len(body)) + body)
        while data:
            data = data[write(replies, data) :]

    return receive, send


def load_own(name: str, path: str) -> types.ModuleType:
    """One file of the package as a module; the package around it stays empty."""
    parent = name.rpartition(".")[0]
    while parent and parent not in sys.modules:
        package = types.ModuleType(parent)
        package.__path__ = []
        sys.modules[parent] = package
        parent = parent.rpartition(".")[0]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def preload(names: list[str], paths: list[str]) -> list[str]:
    """Imports what may be used, for the last time; names that are no modules."""
    sys.path += [p for p in paths if p not in sys.path]
    absent = []
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            # `from scipy import stats` may name a module or a function; here both are tried.
            if error.name is None or not (name + ".").startswith(error.name + "."):
                raise
            absent.append(name)
    if "sklearn.utils.parallel" in sys.modules:
        # It reads /proc/self/maps on first use; afterwards the answer is cached.
        sys.modules["sklearn.utils.parallel"]._get_threadpool_controller()
    sys.path.clear()
    return absent


def lock(limits: types.ModuleType, parent: int) -> Json:
    """Locks this process for good; what became of forbidden attempts, and steps that failed."""
    os.chdir("/")
    failed, count = {}, limits.threads()
    for name, step in (
        ("drop root", limits.drop_root),
        ("die with parent", lambda: limits.die_with_parent(parent)),
        ("no new privileges", limits.no_new_privileges),
        ("landlock", limits.apply_landlock),
    ):
        try:
            step()
        except OSError as error:
            failed[name] = str(error)
    landlock = limits.attempt("open")
    try:
        limits.apply_seccomp()
    except OSError as error:
        failed["seccomp"] = str(error)
    attempts = {name: limits.attempt(name) for name in limits.ATTEMPTS}
    if count > 1:
        attempts["thread"] = f"{count} threads at the time of locking"
    return {"landlock": landlock, "attempts": attempts, "failed": failed}


def serve(receive: Callable[[], Json], send: Callable[[Json], None]) -> None:
    """Answers one request after the other."""
    room = Room()
    while True:
        message = receive()
        try:
            reply = room.load(message) if message["op"] == "load" else room.call(message)
        except BaseException as error:  # noqa: BLE001 - the wall: what a mechanism raises is an answer
            room.restore()
            reply = {"error": words(error), "module": missing(error)}
        send({"id": message["id"], **reply})


class Room:
    """One mechanism, and what it has been told of the run."""

    def __init__(self) -> None:
        self.mechanism: Any = None
        self.state = "{}"
        self.space: Any = None
        self.trials: tuple[Any, ...] = ()

    def load(self, message: Json) -> Json:
        """Runs the source, makes the one Mechanism, and gives it its last good state."""
        module = types.ModuleType("generated")
        sys.modules["generated"] = module
        exec(compile(message["source"], "<mechanism>", "exec", dont_inherit=True), vars(module))
        self.mechanism = only_mechanism(module)()
        self.take(message["state"])
        return self.keep({})

    def call(self, message: Json) -> Json:
        """The hook's answer, and the state after it."""
        wire = sys.modules["bilevel.sandbox.wire"]
        view = self.view(wire, message)
        self.take(message["state"])
        given = message["given"]
        if message["hook"] == "accept":
            before = [wire.read_trial(message["trial"])]
        else:
            before = []
            given = wire.ANSWERS[message["hook"]](given)
        answer = plain(getattr(self.mechanism, message["hook"])(view, *before, given), "the answer")
        wire.ANSWERS[message["hook"]](answer)
        sized(answer, "the answer")
        return self.keep({"answer": answer})

    def view(self, wire: types.ModuleType, message: Json) -> Any:
        """What the mechanism may know; of trials only those are sent that it has not seen."""
        if message["space"] is not None:
            self.space = wire.read_space(message["space"])
        if message["trials"] or message["from"] != len(self.trials):
            new = map(wire.read_trial, message["trials"])
            self.trials = (*self.trials[: message["from"]], *new)
        view = dict(message["view"])
        for name in ("incumbent", "best"):
            at = view[name]
            view[name] = self.trials[at] if isinstance(at, int) else wire.read_trial(at)
        view["pending"] = tuple(map(wire.read_draft, view["pending"]))
        view = {n: tuple(v) if isinstance(v, list) else v for n, v in view.items()}
        view["rng"] = wire.read_rng(view["rng"])
        return sys.modules["bilevel.mechanism"].View(self.space, self.trials, **view)

    def keep(self, reply: Json) -> Json:
        """Puts the state through JSON, so that a restart cannot be told from none."""
        held = plain(vars(self.mechanism), "self")
        text = sized(held, "the state")
        self.state = text
        self.restore()
        return {**reply, "state": held}

    def take(self, state: Json | None) -> None:
        """The state that the host wants this to go on from, if it is another."""
        if state is not None:
            self.state = json.dumps(state)
            self.restore()

    def restore(self) -> None:
        """Back to the state after the last good answer."""
        if self.mechanism is not None:
            held = vars(self.mechanism)
            held.clear()
            held.update(json.loads(self.state))


def only_mechanism(module: types.ModuleType) -> type:
    """The one class of the module that derives from Mechanism and from which none derives."""
    base: type = sys.modules["bilevel.mechanism"].Mechanism
    made = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, base) and c.__module__ == "generated"
    ]
    last = [c for c in made if not any(d is not c and issubclass(d, c) for d in made)]
    if len(last) != 1:
        names = ", ".join(c.__name__ for c in last) or "none"
        raise TypeError(f"one class must derive from Mechanism; there are {len(last)}: {names}")
    return last[0]


def plain(value: Any, where: str) -> Any:
    """A copy made of JSON values only; numpy's numbers and arrays become Python's.

    Raises TypeError or ValueError for anything else, subclasses too: their methods are code.
    """
    wire, model = sys.modules["bilevel.sandbox.wire"], sys.modules["bilevel.model"]
    left = MOST_NODES
    numpy = sys.modules.get("numpy")

    def copy(value: Any, where: str, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > MOST_DEPTH:
            most = f"{MOST_NODES} values or {MOST_DEPTH} deep"
            raise ValueError(f"{where} is too large, over {most}, or it holds itself")
        kind = type(value)
        if kind in (list, tuple):
            return [copy(v, f"{where}[{i}]", depth + 1) for i, v in enumerate(value)]
        if kind in (dict, wire.Frozen):
            items = dict.items(value)
            return {_key(k, where): copy(v, f"{where}[{k!r}]", depth + 1) for k, v in items}
        if kind in (model.Move, model.Draft, model.Edit):
            names = kind.__dataclass_fields__
            return {n: copy(getattr(value, n), f"{kind.__name__}.{n}", depth + 1) for n in names}
        if numpy is not None and isinstance(value, numpy.generic | numpy.ndarray):
            return copy(value.tolist(), where, depth + 1)
        return _scalar(value, where)

    return copy(value, where, 0)


def _scalar(value: Any, where: str) -> Any:
    kind = type(value)
    if kind is str:
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{where} holds half of a surrogate pair; leave it out") from error
    elif kind is float and value - value != 0:
        raise ValueError(f"{where} is {value}; use finite numbers, or None for unknown")
    elif kind is int and not -(2**63) <= value < 2**64:
        raise ValueError(f"{where} is an integer of over 64 bits")
    elif value is not None and kind not in (str, float, int, bool):
        raise TypeError(f"{where} is a {kind.__name__}; use numbers, texts, bools, lists and dicts")
    return value


def _key(key: Any, where: str) -> str:
    if type(key) is not str:
        raise TypeError(
            f"{where} has the key {key!r}; keys of a dict must be texts: use str({key!r})"
        )
    return key


def sized(value: Any, what: str) -> str:
    """The value as JSON text. Raises ValueError when it is over the limit."""
    text = json.dumps(value, allow_nan=False)
    if len(text) > MOST_BYTES:
        raise ValueError(
            f"{what} takes {len(text)} bytes of JSON; at most {MOST_BYTES} may be kept"
        )
    return text


def words(error: BaseException) -> str:
    """What was raised and where in the source, in a few lines."""
    kind = type(error).__name__
    try:
        text = str(error)[:2000]
    except BaseException:  # noqa: BLE001 - its __str__ is the mechanism's code too
        text = "(its text cannot be had)"
    at, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename == "<mechanism>":
            at = f" (line {trace.tb_lineno}, in {code.co_name})"
        trace = trace.tb_next
    return f"{kind}: {text}{at}"


def missing(error: BaseException) -> str:
    """Name of the module that could not be imported, "" when that is not what happened."""
    name = error.name if type(error) is ModuleNotFoundError else ""
    return name if type(name) is str else ""


if __name__ == "__main__":
    main()
