"""What goes over the wire: addresses, connections that are bounded in time and size, messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

import httpx2

from bilevel.errors import ConfigError
from bilevel.llm.faults import Retry, broken, judged, told
from bilevel.model import Message

LARGEST_BODY = 8 * 2**20
CONNECTING = 10.0


class Streamed(Protocol):
    """An answer of which the body is still to be read."""

    @property
    def headers(self) -> httpx2.Headers: ...

    def iter_bytes(self) -> Iterator[bytes]: ...


def parse_url(base_url: str) -> httpx2.URL:
    try:
        url = httpx2.URL(base_url.rstrip("/"))
    except httpx2.InvalidURL as error:
        raise ConfigError(f"the base URL cannot be read: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(
            f"the base URL {url.copy_with(userinfo=b'')} is none; give one like "
            "https://api.example.com/v1"
        )
    return url


def plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in messages]


def http_client(url: httpx2.URL, timeout: float) -> httpx2.Client:
    """A client that follows no redirect, as a key must go nowhere else.

    An answer raises Retry once it is too long, or not there `timeout` seconds after the request.
    """
    host = f"[{url.host}]" if ":" in url.host else url.host
    # A proxy of the environment must not come between us and this machine.
    direct = {f"all://{host}": None} if url.host in ("localhost", "127.0.0.1", "::1") else None

    def begin(request: httpx2.Request) -> None:
        request.extensions["begun"] = time.monotonic()

    def bound(response: httpx2.Response) -> None:
        deadline = response.request.extensions["begun"] + timeout
        response.stream = _Bounded(cast(httpx2.SyncByteStream, response.stream), deadline, timeout)

    return httpx2.Client(
        timeout=httpx2.Timeout(timeout, connect=min(timeout, CONNECTING)),
        mounts=direct,
        follow_redirects=False,
        event_hooks={"request": [begin], "response": [bound]},
    )


class _Bounded(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, deadline: float, timeout: float) -> None:
        self._stream = stream
        self._deadline = deadline
        self._timeout = timeout

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._stream:
            size += len(chunk)
            _check_size(size)
            if time.monotonic() > self._deadline:
                raise Retry(f"the answer was not complete within {self._timeout:g} s")
            yield chunk

    def close(self) -> None:
        self._stream.close()


def _check_size(size: int) -> None:
    if size > LARGEST_BODY:
        raise Retry(f"the answer is longer than {LARGEST_BODY:,} bytes")


def receive(response: Streamed, body: bytearray) -> None:
    """Put the whole body, unpacked, into `body`. Raises Retry when it is too long."""
    for chunk in response.iter_bytes():
        body += chunk
        _check_size(len(body))


@contextmanager
def plain_faults(sdk: Any, timeout: float, clean: Callable[[str], str]) -> Iterator[None]:
    """Raises an SDK's errors as Retry, Refused or Hopeless.

    sdk: `openai` or `anthropic`, which one generator made, so that their errors are alike.
    clean: makes a server's words fit to be shown.
    """
    problem: Exception
    try:
        yield
        return
    except sdk.APIStatusError as error:
        answer: httpx2.Response = error.response
        problem = judged(answer.status_code, answer.headers, answer.content, clean(_cause(answer)))
    except (sdk.APITimeoutError, httpx2.TimeoutException) as error:
        connecting = isinstance(error.__cause__, httpx2.ConnectTimeout)
        problem = Retry(
            f"no connection within {min(timeout, CONNECTING):g} s"
            if connecting
            else f"no answer within {timeout:g} s",
            lost=not connecting,
        )
    # An unreadable content-encoding is a RequestError and no TransportError.
    except (sdk.APIConnectionError, httpx2.RequestError) as error:
        unsent = isinstance(error.__cause__ or error, httpx2.ConnectError)
        problem = broken(error, clean, lost=not unsent)
    raise problem  # Out here, so that no context of it shows what it was told with.


def _cause(answer: httpx2.Response) -> str:
    if answer.has_redirect_location:
        return f"{answer.status_code}: it redirects to {answer.headers['location']}"
    said = told(answer.content).message.strip() or answer.reason_phrase
    return f"{answer.status_code}: {said}"
