"""Secrets found in texts and blotted out, each by as many stars as it has characters.

As many, so that a text that was cut to a length before it was scrubbed equals one that is cut
after: of a run of which secrets were blotted out, prompts are made again as they are recorded.

What is covered: values of environment variables that are named like keys, whole or in parts of
`FRAGMENT` characters; what has the form of a key of a known service, of a token, of a password in a
URL or in an assignment; the name of the user's folder. What is not: a secret in any other form
that no variable holds, and any of fewer than `FRAGMENT` characters.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bilevel.evaluate import Evaluated, Evaluator
from bilevel.model import Values

__all__ = ["Discreet", "Scrubber", "secrets_in"]

FRAGMENT = 8
HOME = "the user's folder"

_SECRET = re.compile(
    r"(?:^|_)(?:APIKEY|KEYS?|TOKEN|SECRETS?|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|COOKIE|DSN)"
    r"(?:_|$)",
    re.IGNORECASE,
)
_VALUE = r"(?=(?:[^\s\d]*\d){3})(?=[^\sA-Za-z]*[A-Za-z])[A-Za-z0-9+/_-]{16,}={0,2}"
# The last group is the secret, the whole match where there is none.
_FORMS = {
    "a key": re.compile(
        r"\b(?:sk|rk|pk)-[A-Za-z0-9_-]{16,}"  # OpenAI, Anthropic, DeepSeek, OpenRouter
        r"|\bgh[opsur]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
        r"|\b(?:hf|gsk|r8|npm)_[A-Za-z0-9]{16,}|\b(?:xai|nvapi|pypi)-[\w-]{16,}"
        r"|\bAIza[\w-]{30,}|\bxox[abeprs]-[\w-]{10,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    ),
    "a token": re.compile(
        r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|\b(?i:bearer|basic)\s+" + rf"({_VALUE})"
    ),
    "a password": re.compile(
        r"://[^\s/:@\"']*:([^\s/@\"']{3,})@"
        r"|(?i:api[_-]?key|secret|token|password|passwd)\\?[\"']?\s*[=:]\s*\\?[\"']?"
        rf"({_VALUE})"
    ),
}
_PUBLIC = re.compile(r"^(?:\w+://|(?i:bearer|basic)\s+)")
_PRIVATE = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----)((?:(?!-----).)+)", re.DOTALL)


def secrets_in(environ: Mapping[str, str]) -> dict[str, str]:
    """Values of the variables that are named like keys, by name; paths of files are none."""
    return {
        name: value
        for name, value in environ.items()
        if _SECRET.search(name)
        and len(value) >= FRAGMENT
        and not (value.startswith(("/", "~")) and Path(value).expanduser().exists())
    }


class Scrubber:
    """Blots out secrets. known: their values by what they are called. home: the user's folder.

    found: by what it was, how many places were blotted out.
    """

    def __init__(self, known: Mapping[str, str], home: Path | None = None) -> None:
        self.found: Counter[str] = Counter()
        self._parts: dict[str, str] = {}
        self._lines: dict[str, tuple[str, Counter[str]]] = {}
        for name, value in known.items():
            for form in {value, json.dumps(value)[1:-1], quote(value, safe="")}:
                self._know(name, form)
        folders = {str(p) for p in (home, home and home.resolve()) if p and p.name}
        self._home = re.compile("|".join(rf"{re.escape(f)}(?![\w-])" for f in folders) or r"(?!)")

    def learn(self, value: Any) -> None:
        """Take in what in a JSON value has a secret's form: its parts are secrets elsewhere."""
        for text in _texts(value):
            for name, start, end in _formed(text):
                self._know(name, text[start:end])

    def scrub(self, value: Any) -> Any:
        """A JSON value with every text of it scrubbed, keys of objects too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.scrub(part) for part in value]
        if isinstance(value, dict):
            return {self.text(name): self.scrub(part) for name, part in value.items()}
        return value

    def text(self, text: str) -> str:
        """The text with stars for secrets."""
        # By line, for the prompts of a run repeat one another nearly whole.
        lines = []
        for line in _PRIVATE.sub(self._star, text).split("\n"):
            if line not in self._lines:
                self._lines[line] = self._line(line)
            clean, found = self._lines[line]
            lines.append(clean)
            self.found += found
        return "\n".join(lines)

    def _star(self, match: re.Match[str]) -> str:
        self.found["a private key"] += 1
        return match[1] + re.sub(r"[^\n]", "*", match[2])

    def _know(self, name: str, value: str) -> None:
        self._lines.clear()
        value = _PUBLIC.sub("", value)
        for i in range(len(value) - FRAGMENT + 1):
            self._parts.setdefault(value[i : i + FRAGMENT], name)

    def _line(self, line: str) -> tuple[str, Counter[str]]:
        spans = [(name, i, i + FRAGMENT) for i, name in self._known(line)]
        spans += _formed(line)
        spans += [(HOME, m.start() + _parent(m[0]), m.end()) for m in self._home.finditer(line)]
        clean, found = list(line), Counter[str]()
        last: dict[str, int] = {}
        for name, start, end in spans:
            clean[start:end] = "*" * (end - start)
            found[name] += start > last.get(name, -1)
            last[name] = end
        return "".join(clean), found

    def _known(self, line: str) -> Iterator[tuple[int, str]]:
        if self._parts:
            for i in range(len(line) - FRAGMENT + 1):
                if (name := self._parts.get(line[i : i + FRAGMENT])) is not None:
                    yield i, name


class Discreet:
    """An evaluator whose errors name no secret, in the log and to whoever is shown it."""

    def __init__(self, evaluator: Evaluator, scrubber: Scrubber) -> None:
        self.slots = evaluator.slots
        self._evaluator = evaluator
        self._scrubber = scrubber

    def start(self, key: int, values: Values, seed: int) -> None:
        """Begin one evaluation. Raises ExecutorError as the evaluator does."""
        self._evaluator.start(key, values, seed)

    def finished(self) -> list[Evaluated]:
        """As the evaluator's."""
        return [
            replace(e, outcome=replace(e.outcome, error=self._scrubber.text(e.outcome.error)))
            for e in self._evaluator.finished()
        ]


def _formed(text: str) -> list[tuple[str, int, int]]:
    """What has the form of a secret: what it is, where it starts and where it ends."""
    return [
        (name, *match.span(match.lastindex or 0))
        for name, form in _FORMS.items()
        for match in form.finditer(text)
    ]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, dict):
        yield from value
        for part in value.values():
            yield from _texts(part)


def _parent(path: str) -> int:
    """The length of a path up to its last name."""
    return path.rindex("/") + 1
