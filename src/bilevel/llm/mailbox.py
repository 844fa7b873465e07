"""A folder as the LLM: requests lie in it as files, and whoever likes answers them by files.

NNNN.request.json  a request: number, messages (role, content), schema (JSON schema of the answer,
                   null for plain text), max_tokens, key, and the name of the answer's file
NNNN.request.md    the same for people, with an example of the form
NNNN.answer.txt    the answer, by whoever gives it: JSON where there is a schema, else the text.
                   It is taken as soon as it is there, so write it under another name in the same
                   folder and then rename it
NNNN.reply.json    what became of the answer: {"accepted": true}, or {"accepted": false,
                   "problem": "..."}; then the bad answer was renamed to NNNN.refused-K.txt, and
                   the request waits for another NNNN.answer.txt

Requests and replies are renamed into place as well, the .md before the .json, so that a reader
never sees half a file. A request waits for as long as it takes. One that a stopped run left is
taken up again when the run is resumed, and may be answered while nothing runs. A folder serves one
run at a time.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bilevel.errors import ConfigError, LLMUnavailable
from bilevel.llm.asking import checked, example, request_text
from bilevel.model import Message, Reply
from bilevel.protocols import Schema
from bilevel.tape.tape import request_key

POLL_SECONDS = 0.1
README = """\
# A mailbox of bilevel

A run asks here what others ask a language model. For each `NNNN.request.md` (for programs
`NNNN.request.json`) write your answer into a file beside it and rename that to `NNNN.answer.txt`.
`NNNN.reply.json` says whether it was accepted, or what is wrong with it; then write another.
"""


class MailboxLLM:
    """Asks by files in a folder, which is made if need be. timeout: seconds, None for no limit."""

    def __init__(self, folder: Path, timeout: float | None = None) -> None:
        self.name = f"mailbox:{folder}"
        self._folder = folder
        self._timeout = timeout
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _put(folder / "README.md", README)
        except OSError as error:
            raise ConfigError(
                f"{folder} cannot be a mailbox ({error}); give a folder that can be written"
            ) from error

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        """The first answer that fits. Raises LLMUnavailable when the time limit, if any, is up."""
        start = time.monotonic()
        number = self._post(messages, schema, seed, max_tokens)
        answers = 0
        while True:
            text, problem = checked(self._wait(number, start), schema)
            answers += 1
            if not problem:
                self._tell(number, {"accepted": True})
                seconds = time.monotonic() - start
                return Reply(text, self.name, seconds=seconds, attempts=answers, counted=False)
            self._set_aside(number)
            self._tell(number, {"accepted": False, "problem": problem})

    def close(self) -> None:
        """Leaves the folder as it is: what waits there is taken up again."""

    def _path(self, number: int, kind: str) -> Path:
        return self._folder / f"{number:04d}.{kind}"

    def _post(
        self, messages: Sequence[Message], schema: Schema | None, seed: int, max_tokens: int
    ) -> int:
        """The number under which the request waits, which is an old one if it waited already."""
        key = request_key("mailbox", messages, schema, seed, max_tokens)
        asked = sorted(self._folder.glob("[0-9]*.request.json"))
        for path in reversed(asked):
            request = json.loads(path.read_text(encoding="utf-8"))
            if request["key"] == key and not self._accepted(request["number"]):
                return int(request["number"])
        number = int(asked[-1].name.partition(".")[0]) + 1 if asked else 1
        request = {
            "number": number,
            "answer": self._path(number, "answer.txt").name,
            "messages": [asdict(m) for m in messages],
            "schema": schema,
            "max_tokens": max_tokens,
            "key": key,
        }
        form = "" if schema is None else f"\nOf this form: {json.dumps(example(schema))}\n"
        how = f"\nYour answer goes into a file that you rename to {request['answer']}.\n"
        text = request_text(messages, schema)
        _put(self._path(number, "request.md"), f"# Request {number}\n\n{text}{form}{how}")
        _put(self._path(number, "request.json"), json.dumps(request, indent=1))
        return number

    def _accepted(self, number: int) -> bool:
        reply = self._path(number, "reply.json")
        return reply.exists() and json.loads(reply.read_text(encoding="utf-8"))["accepted"] is True

    def _wait(self, number: int, start: float) -> str:
        path = self._path(number, "answer.txt")
        while not path.exists():
            if self._timeout is not None and time.monotonic() - start > self._timeout:
                raise LLMUnavailable(
                    f"no {path} after {self._timeout:g} s; answer it, then resume the run"
                )
            time.sleep(POLL_SECONDS)
        return path.read_text(encoding="utf-8", errors="replace")

    def _set_aside(self, number: int) -> None:
        refused = len(list(self._folder.glob(f"{number:04d}.refused-*.txt"))) + 1
        self._path(number, "answer.txt").replace(self._path(number, f"refused-{refused}.txt"))

    def _tell(self, number: int, reply: dict[str, object]) -> None:
        _put(self._path(number, "reply.json"), json.dumps(reply))


def _put(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_text(text, encoding="utf-8")
    half.replace(path)
