"""The process behind the wall: loads what is allowed, locks itself, and only then is sent code.

Run by its path with two descriptors, requests and replies; of the package it is given a few
files, by path, and nothing else. The second of the two places that catch everything is here:
whatever the mechanism raises is an answer.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import struct
import sys
import types
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from typing import Any

Json = dict[str, Any]


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
    attempts = sys.modules["bilevel.sandbox.attempts"]
    outside = None if start["bait"] is None else attempts.reach_outside(start["bait"])
    locked = lock(limits.steps(start["parent"]), attempts)
    gc.freeze()
    gc.enable()
    send({"id": 0, **locked, "outside": outside, "absent": absent})
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
    make_packages(name)
    module = types.ModuleType(name)
    sys.modules[name] = module
    code = SourceFileLoader(name, path).get_code(name)
    assert code is not None
    exec(code, vars(module))
    return module


def make_packages(name: str) -> None:
    """Empty packages around a module of that name, where there are none yet."""
    parent = name.rpartition(".")[0]
    while parent and parent not in sys.modules:
        package = types.ModuleType(parent)
        package.__path__ = []
        sys.modules[parent] = package
        parent = parent.rpartition(".")[0]


def preload(names: list[str], paths: list[str]) -> list[str]:
    """Imports what may be used, for the last time; names that are no modules."""
    sys.path += [p for p in paths if p not in sys.path]
    absent = []
    for name in names:
        try:
            importlib.import_module(name)
        except (ImportError, AttributeError) as error:
            if not lacking(name, error):
                raise
            absent.append(name)
    if "sklearn.utils.parallel" in sys.modules:
        # It reads /proc/self/maps on first use; afterwards the answer is cached.
        sys.modules["sklearn.utils.parallel"]._get_threadpool_controller()
    sys.path.clear()
    return absent


def lacking(name: str, error: ImportError | AttributeError) -> bool:
    """Whether the import of a module failed because this Python does not have it."""
    if sys.platform == "wasi":
        return True  # what is there may need calls that the system lacks
    # `from scipy import stats` may name a module or a function; here both are tried.
    wanted = error.name if isinstance(error, ModuleNotFoundError) else None
    return wanted is not None and (name + ".").startswith(wanted + ".")


def lock(steps: dict[str, Callable[[], None]], attempts: types.ModuleType) -> Json:
    """Locks this process for good; what became of forbidden attempts, and steps that failed."""
    os.chdir("/")
    failed, count, landlock = {}, attempts.threads(), "not there"
    for name, step in steps.items():
        try:
            step()
        except OSError as error:
            failed[name] = str(error)
        if name == "landlock":
            landlock = attempts.attempt("open")
    tried = {name: attempts.attempt(name) for name in attempts.ATTEMPTS}
    if count > 1:
        tried["thread"] = f"{count} threads at the time of locking"
    return {"system": sys.platform, "landlock": landlock, "attempts": tried, "failed": failed}


def serve(receive: Callable[[], Json], send: Callable[[Json], None]) -> None:
    """Answers one request after the other."""
    room, bench = Room(), Bench()
    served = {"load": room.load, "call": room.call, "define": bench.define, "apply": bench.apply}
    while True:
        message = receive()
        try:
            reply = served[message["op"]](message)
        except BaseException as error:  # noqa: BLE001 - the wall: what a mechanism raises is an answer
            room.restore()
            reply = {"error": words(error), "module": missing(error)}
        send({"id": message["id"], **reply})


class Room:
    """One mechanism, and what it has been told of the run."""

    def __init__(self) -> None:
        self.wire = sys.modules["bilevel.sandbox.wire"]
        self.mechanism: Any = None
        self.state = "{}"
        self.space: Any = None
        self.trials: tuple[Any, ...] = ()

    def load(self, message: Json) -> Json:
        """Runs the source, makes the one Mechanism, and gives it its last good state."""
        self.mechanism = only_mechanism(executed(message["source"]))()
        self.take(message["state"])
        return self.keep({})

    def call(self, message: Json) -> Json:
        """The hook's answer, and the state after it."""
        wire, work = self.wire, getattr(self.mechanism, message["hook"])
        view = self.view(message)
        self.take(message["state"])
        given = message["given"]
        if message["hook"] == "accept":
            before = [wire.read_trial(message["trial"])]
        else:
            before = []
            given = wire.ANSWERS[message["hook"]](given)
        answer = wire.plain(work(view, *before, given), "the answer")
        wire.ANSWERS[message["hook"]](answer)
        wire.sized(answer, "the answer")
        return self.keep({"answer": answer})

    def view(self, message: Json) -> Any:
        """What the mechanism may know; of trials only those are sent that it has not seen."""
        wire = self.wire
        if message["space"] is not None:
            self.space = wire.read_space(message["space"])
        if message["trials"] or message["from"] != len(self.trials):
            new = tuple(map(wire.read_trial, message["trials"]))
            self.trials = self.trials[: message["from"]] + new  # one walk over a long history
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
        held = self.wire.plain(vars(self.mechanism), "self")
        self.state = self.wire.sized(held, "the state")
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


class Bench:
    """One function, which is called with JSON values and keeps nothing that the host relies on."""

    def __init__(self) -> None:
        self.wire = sys.modules["bilevel.sandbox.wire"]
        self.function: Any = None

    def define(self, message: Json) -> Json:
        """Runs the source, which must define the function."""
        self.function = vars(executed(message["source"])).get(message["name"])
        if not callable(self.function):
            raise TypeError(f"the source defines no function {message['name']}; write one")
        return {}

    def apply(self, message: Json) -> Json:
        """The function's answer to each list of arguments."""
        answers = [self.function(*arguments) for arguments in message["calls"]]
        answers = self.wire.plain(answers, "the answer")
        self.wire.sized(answers, "the answer")
        return {"answers": answers}


def executed(source: str) -> types.ModuleType:
    """The source as a module, run."""
    module = types.ModuleType("generated")
    sys.modules["generated"] = module
    exec(compile(source, "<mechanism>", "exec", dont_inherit=True), vars(module))
    return module


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
