"""The person at the terminal as the LLM."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from bilevel.errors import LLMUnavailable
from bilevel.llm.asking import checked, example, request_text
from bilevel.model import Message, Reply
from bilevel.protocols import Schema

END = "."


class TerminalLLM:
    """Shows a request, without what the one before it began with, and reads lines as the answer.

    A JSON answer ends with the line that completes it, any other with a line that holds just ".".
    Questions go to stderr, as stdout may be for a machine. Ctrl-C leaves the run to be resumed.
    """

    name = "terminal"

    def __init__(self, source: TextIO | None = None, screen: TextIO | None = None) -> None:
        self._source = sys.stdin if source is None else source
        self._screen = sys.stderr if screen is None else screen
        self._shown: list[str] = []

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        """The first answer that fits. Raises LLMUnavailable when the input ends."""
        start = time.monotonic()
        self._show(request_text(messages, schema), schema)
        text, problem = checked(self._read(schema), schema)
        attempts = 1
        while problem:
            self._say(f"This cannot be used: {problem}. Try again.")
            text, problem = checked(self._read(schema), schema)
            attempts += 1
        seconds = time.monotonic() - start
        return Reply(text, self.name, seconds=seconds, attempts=attempts, counted=False)

    def close(self) -> None:
        pass

    def _show(self, text: str, schema: Schema | None) -> None:
        lines = text.splitlines()
        pairs = zip(lines, self._shown, strict=False)
        same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        self._shown = lines
        self._say("-" * 72)
        if same:
            self._say(f"({same} lines as before)")
        self._say("\n".join(lines[same:]))
        if schema is not None:
            self._say(f"\nOf this form: {json.dumps(example(schema))}")
        self._say(f'Your answer; end it with a line that holds only "{END}":')

    def _read(self, schema: Schema | None) -> str:
        lines: list[str] = []
        while True:
            line = self._source.readline()
            if not line:
                raise LLMUnavailable(
                    "the terminal's input ended before an answer; resume the run to go on"
                )
            if line.strip() == END:
                return "".join(lines)
            lines.append(line)
            if schema is not None and not checked("".join(lines), schema)[1]:
                return "".join(lines)

    def _say(self, text: str) -> None:
        self._screen.write(f"{text}\n")
        self._screen.flush()
