"""A server on loopback that answers as a test tells it to, faults included, in two dialects."""

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """What the server sends. short: bytes that are announced but never sent.

    delay: seconds before the answer. drip: seconds between its bytes. reset: the connection is
    torn down in place of an answer.
    """

    body: bytes
    status: int = 200
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    short: int = 0
    delay: float = 0.0
    drip: float = 0.0
    reset: bool = False


def completion(text: str | None = "hello", **more: Any) -> Answer:
    message = {"role": "assistant", "content": text, **more.pop("message", {})}
    body: dict[str, Any] = {
        "id": "1",
        "object": "chat.completion",
        "model": "fake-1",
        "choices": [{"index": 0, "message": message, "finish_reason": more.pop("finish", "stop")}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 3},
    }
    return Answer(json.dumps(body | more).encode())


def message(text: str | None = "hello", **more: Any) -> Answer:
    """What Anthropic's Messages API answers."""
    body: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "fake-1",
        "content": [] if text is None else [{"type": "text", "text": text}],
        "stop_reason": more.pop("stop", "end_turn"),
        "usage": {"input_tokens": 20, "output_tokens": 3},
    }
    return Answer(json.dumps(body | more).encode())


def refusal(status: int, message: str, **headers: str) -> Answer:
    body = {"error": {"message": message, "type": "x", "code": None}}
    return Answer(json.dumps(body).encode(), status, headers=headers)


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class FakeOpenAI:
    """`answers` are given in order, the last one for ever; a function makes them from requests.

    url: as an OpenAI-compatible server has it. root: the same without the path.
    """

    def __init__(self) -> None:
        self.answers: list[Answer | Callable[[Request], Answer]] = [completion()]
        self.requests: list[Request] = []
        self.url = ""
        self.root = ""

    def next(self, request: Request) -> Answer:
        self.requests.append(request)
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        return answer(request) if callable(answer) else answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet: clients that go away are what many tests are about."""


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[FakeOpenAI]:
    """A server while the block lasts; with the certificate in `tls` if there is one."""
    fake = FakeOpenAI()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = fake.next(Request(self.path, headers, json.loads(body)))
            time.sleep(answer.delay)
            if answer.reset:
                linger = struct.pack("ii", 1, 0)  # Closing sends a reset, and nothing else.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
                self.close_connection = True
                return
            try:
                self.send_response(answer.status)
                self.send_header("content-type", answer.kind)
                self.send_header("content-length", str(len(answer.body) + answer.short))
                for name, value in answer.headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                for piece in map(bytes, zip(answer.body)) if answer.drip else [answer.body]:
                    self.wfile.write(piece)
                    time.sleep(answer.drip)
            except OSError:  # The client gave up, as some tests want it to.
                self.close_connection = True
            if answer.short:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    fake.root = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    fake.url = f"{fake.root}/v1"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
