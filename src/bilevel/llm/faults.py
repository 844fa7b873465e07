"""What a server's trouble means: ask again, ask in another way, or give up with a remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from bilevel.errors import ContextTooLong, LLMRejected

RETRIED = {408, 409, 425, 429}
FINAL_OVER_500 = {501, 505}
BUSY = {429, 502, 503, 504, 529}
GIVEN_UP = {408, 504, 524}  # a gateway no longer waits for an answer that may still be written
WORDS_CHARS = 400
REMEDY = {
    300: "give the URL that it redirects to as the base URL",
    400: "change the request or the model",
    402: "top up the account",
    404: "check the model's name, and the base URL (it usually ends in /v1)",
}
CLOCK = ("not yet valid", "has expired")

# How OpenAI, vLLM, DeepSeek and OpenRouter; llama.cpp; Anthropic; Gemini; LM Studio say it.
_TOO_LONG = re.compile(
    r"context_length_exceeded|maximum context length|reduce the length of the (messages|prompt)"
    r"|exceed_context_size|exceeds? the (available )?context|context (size|length|window|limit)"
    r"|prompt is too long|request_too_large|input token count|too many (input )?tokens"
    r"|context the overflows",
    re.IGNORECASE,
)
_BAD_KEY = re.compile(r"api[ _]key not valid|api_key_invalid|(invalid|incorrect) api[ _]key", re.I)
_UNPAID = re.compile(r"insufficient[ _](quota|balance|credit)|credit balance is too low", re.I)


class Retry(Exception):
    """Worth another attempt.

    after: seconds that the server asks to wait. busy: whether it is there and has no room now.
    lost: whether an answer may have been written, and be charged for, that did not come.
    """

    def __init__(
        self, cause: str, after: float = 0.0, busy: bool = False, lost: bool = True
    ) -> None:
        super().__init__(cause)
        self.after = after
        self.busy = busy
        self.lost = lost


class Hopeless(Exception):
    """No attempt would end otherwise. The text ends with the remedy."""


class Refused(Exception):
    """The server does not do what it was asked. Its words are the text of the error."""

    def __init__(self, status: int, cause: str) -> None:
        super().__init__(cause)
        self.status = status

    @property
    def negotiable(self) -> bool:
        """Whether the same request in another form might be taken."""
        # OpenRouter's 404: "No endpoints found that support tool use".
        return self.status in (400, 422, 501) or "No endpoints found that" in str(self)


@dataclass(frozen=True)
class Told:
    """What the body of an error says. after: seconds to wait, 0 if it does not say."""

    message: str
    code: str = ""
    after: float = 0.0


def told(body: bytes) -> Told:
    """The message in an error's body, whichever of the usual forms that has.

    OpenAI's {"error": {"message", "code"}}, Anthropic's the same with "type", Gemini's in a list
    and with a RetryInfo, Ollama's {"error": text}, FastAPI's {"detail": ...}, or any text.
    """
    text = body.decode("utf-8", "replace")
    try:
        doc = json.loads(text)
    except (ValueError, RecursionError):
        return Told(text)
    if isinstance(doc, list) and doc:
        doc = doc[0]
    error = doc.get("error", doc) if isinstance(doc, dict) else doc
    if not isinstance(error, dict):
        return Told(error if isinstance(error, str) else text)
    message = error.get("message") or error.get("detail") or text
    codes = (error.get("code"), error.get("type"), error.get("status"))
    return Told(
        message if isinstance(message, str) else json.dumps(message),
        " ".join(str(code) for code in codes if code is not None),
        _retry_info(error.get("details")),
    )


def _retry_info(details: Any) -> float:
    """Seconds of Google's RetryInfo, `{"retryDelay": "34s"}`; 0 without one."""
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and (found := re.fullmatch(r"(\d+(?:\.\d+)?)s", delay)):
            return float(found[1])
    return 0.0


def judged(status: int, headers: Mapping[str, str], body: bytes, cause: str) -> Retry | Refused:
    """What a status other than 2xx means. cause: the server's words, fit to be shown."""
    said = told(body)
    if status in (400, 402, 403, 429) and _UNPAID.search(f"{said.code} {said.message}"):
        return Refused(402, cause)
    if status in (400, 403) and _BAD_KEY.search(f"{said.code} {said.message}"):
        return Refused(401, cause)
    if status in RETRIED or (status >= 500 and status not in FINAL_OVER_500):
        after = retry_after(headers) or said.after
        return Retry(cause, after, busy=status in BUSY, lost=status in GIVEN_UP)
    return Refused(status, cause)


def disguised(body: bytes, clean: Callable[[str], str]) -> Retry | Refused | None:
    """What an error means that came as a success, as OpenRouter's can; None where it is none."""
    try:
        doc = json.loads(body)
    except (ValueError, RecursionError):
        return None
    error = doc.get("error") if isinstance(doc, dict) else None
    if not error:
        return None
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return judged(status, {}, body, clean(f"an error in place of an answer: {told(body).message}"))


def rejection(error: Refused, server: str, key_from: str, keyed: bool) -> LLMRejected:
    """A refusal as an error of bilevel, with what its reader can do about it."""
    if error.status == 413 or (error.negotiable and too_long(error)):
        return ContextTooLong(
            f"{server} refused ({error}); use a model or a server setting with a longer context, "
            "or shorten the task's brief"
        )
    remedy = REMEDY.get(
        300 if 300 <= error.status < 400 else error.status, "see the provider's documentation"
    )
    if error.status in (401, 403):
        remedy = f"set {key_from} to a key that is valid there"
        if not keyed:
            remedy = f"no key was sent: {remedy}"
    return LLMRejected(f"{server} refused ({error}); {remedy}")


def too_long(error: Refused) -> bool:
    """Whether a refusal is about the prompt's length, which no other form would mend."""
    return error.status == 413 or about_length(str(error))


def about_length(words: str) -> bool:
    """Whether these words of a server say that the prompt is too long."""
    return _TOO_LONG.search(words) is not None


def broken(
    error: BaseException, clean: Callable[[str], str], lost: bool = True
) -> Retry | Hopeless:
    """What a connection that failed means, by the deepest of its causes. lost: as Retry has it."""
    while error.__cause__ is not None:
        error = error.__cause__
    cause = clean(str(error) or type(error).__name__)
    if "CERTIFICATE_VERIFY_FAILED" not in cause:
        return Retry(cause, lost=lost)
    if any(words in cause for words in CLOCK):
        return Hopeless(
            f"{cause}; see that this machine's clock is right ({datetime.now(UTC):%Y-%m-%d %H:%M} "
            "UTC now), else the server must renew its certificate"
        )
    return Hopeless(f"{cause}; if it has a certificate of its own, name its CA with SSL_CERT_FILE")


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the headers ask to wait, in any of their forms; 0 if they do not."""
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _is_number(milliseconds):
        return float(milliseconds) / 1000
    asked = headers.get("retry-after", "").strip()
    if _is_number(asked):
        return float(asked)
    try:
        until = parsedate_to_datetime(asked)
    except ValueError:
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", text) is not None


def shown(text: str, secrets: list[str]) -> str:
    """A server's words: without secrets, on one line, not too long."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = " ".join(text.split())
    return text if len(text) <= WORDS_CHARS else text[:WORDS_CHARS] + " ..."
