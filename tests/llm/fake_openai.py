"""A chat-completions server on loopback that answers as a test tells it to, faults included."""

import json
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

    delay: seconds before the answer. drip: seconds between its bytes.
    """

    body: bytes
    status: int = 200
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    short: int = 0
    delay: float = 0.0
    drip: float = 0.0


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


def refusal(status: int, message: str, **headers: str) -> Answer:
    body = {"error": {"message": message, "type": "x", "code": None}}
    return Answer(json.dumps(body).encode(), status, headers=headers)


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class FakeOpenAI:
    """`answers` are given in order, the last one for ever; a function makes them from requests."""

    def __init__(self) -> None:
        self.answers: list[Answer | Callable[[Request], Answer]] = [completion()]
        self.requests: list[Request] = []
        self.url = ""

    def next(self, request: Request) -> Answer:
        self.requests.append(request)
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        return answer(request) if callable(answer) else answer


@contextmanager
def serving() -> Iterator[FakeOpenAI]:
    fake = FakeOpenAI()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = fake.next(Request(self.path, headers, json.loads(body)))
            time.sleep(answer.delay)
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

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()
