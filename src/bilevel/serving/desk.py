"""The LLM of a run that a client of the server answers for: a question lies there until it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bilevel.llm.asking import checked
from bilevel.llm.others import MCP
from bilevel.model import Message, Reply
from bilevel.protocols import Schema

Kind = Literal["proposal", "steering", "mechanism", "text"]


@dataclass(frozen=True)
class Question:
    """What a run asks now. number: of the question, from 1, in this process."""

    number: int
    messages: tuple[Message, ...]
    schema: Schema | None

    @property
    def kind(self) -> Kind:
        """What the answer is for, by its form."""
        if self.schema is None:
            return "mechanism"
        properties = self.schema.get("properties", {})
        if "changes" in properties:
            return "proposal"
        return "steering" if "diagnosis" in properties else "text"

    @property
    def problem(self) -> str:
        """Why the answer before this question could not be used, "" if this is a new matter."""
        again = any(m.role == "assistant" for m in self.messages)
        return self.messages[-1].content if again else ""


class Desk:
    """Holds one question at a time for one run. changed: notified when anything here changes."""

    name = MCP

    def __init__(self, changed: threading.Condition) -> None:
        self.question: Question | None = None
        self._changed = changed
        self._answer: str | None = None
        self._asked = 0
        self._stopped = False

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        """The client's answer, however long it takes. Raises KeyboardInterrupt once stopped."""
        start = time.monotonic()
        with self._changed:
            self._asked += 1
            self.question = Question(self._asked, tuple(messages), schema)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answer is not None or self._stopped)
            text, self._answer, self.question = self._answer, None, None
            self._changed.notify_all()
        if text is None:
            raise KeyboardInterrupt
        return Reply(text, self.name, seconds=time.monotonic() - start, counted=False)

    def close(self) -> None:
        pass

    def answer(self, question: Question, text: str) -> str:
        """Hand in an answer; what is wrong with it, and then it was not taken, "" if nothing is."""
        text, problem = (text, "") if question.schema is None else checked(text, question.schema)
        if problem:
            return problem
        with self._changed:
            if self.question is not question:
                return "the run has gone on meanwhile; see its status"
            self._answer, self.question = text, None
            self._changed.notify_all()
        return ""

    def stop(self) -> None:
        """Have the run stop at its next question, or at this one."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def wait(self, until: Callable[[], bool], seconds: float) -> bool:
        """Whether it comes true within that time."""
        with self._changed:
            return self._changed.wait_for(until, seconds)
