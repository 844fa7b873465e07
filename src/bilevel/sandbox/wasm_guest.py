"""The guest's end of a worker in WebAssembly: runs as the one, endless turn of a session.

It is handed the texts of a few files of the package, loads them, tries what is forbidden, and then
serves as any worker does. All that crosses is bytes: a call of the door hands over a reply and
brings the next request.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from typing import Any

Door = Callable[[bytes], bytes]
Json = dict[str, Any]
WORKER = "bilevel.sandbox.worker"


def main(door: Door) -> None:
    """Start up, say what became of forbidden attempts, and serve until the process ends."""
    start = json.loads(door(b""))
    for name, text in start["texts"].items():
        load(name, text)
    worker, attempts = sys.modules[WORKER], sys.modules["bilevel.sandbox.attempts"]
    absent = worker.preload(start["modules"], [])
    tried = {name: attempts.attempt(name) for name in attempts.ATTEMPTS}
    # Half a hash is not the same number as on other machines; the lower half orders a set.
    order = hash(start["ordered"]) & 0xFFFFFFFF
    receive, send = channel(door)
    send({"id": 0, "system": sys.platform, "attempts": tried, "absent": absent, "order": order})
    worker.serve(receive, send)


def load(name: str, text: str) -> None:
    """A file of the package as a module, from its text; the package around it stays empty."""
    module = types.ModuleType(name)
    if WORKER in sys.modules:
        sys.modules[WORKER].make_packages(name)
    sys.modules[name] = module
    exec(compile(text, f"<{name}>", "exec", dont_inherit=True), vars(module))


def channel(door: Door) -> tuple[Callable[[], Json], Callable[[Json], None]]:
    """Functions that receive and send one message. What they need is bound before code arrives."""
    loads = json.loads
    encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
    reply = b""

    def receive() -> Json:
        message: Json = loads(door(reply))
        return message

    def send(message: Json) -> None:
        nonlocal reply
        reply = encode(message).encode()

    return receive, send


if __name__ == "__main__":
    import _host

    main(_host.call)
