"""A run that goes in a thread of the server, while its client answers and looks on."""

from __future__ import annotations

import threading
from pathlib import Path

from bilevel.assemble import conduct
from bilevel.errors import BilevelError, ConfigError
from bilevel.model import Phase, Record, Run, Stop
from bilevel.serving.desk import Desk, Question
from bilevel.workspace import Workspace

__all__ = ["Underway"]


class Underway:
    """One run, from its beginning or from where it stopped."""

    def __init__(self, home: Path, run: Run) -> None:
        self.run = run
        self.phase_now = "starting"
        self.stop: Stop | None = None
        self.trouble = ""
        self._home = home
        self._changed = threading.Condition()
        self._desk = Desk(self._changed)
        self._new: list[Record] = []
        self._thread = threading.Thread(target=self._conduct, name=run.id, daemon=True)
        self._thread.start()

    @property
    def question(self) -> Question | None:
        """What the run asks now."""
        return self._desk.question

    @property
    def ended(self) -> bool:
        """Whether the run goes no further here."""
        return self.stop is not None or bool(self.trouble)

    def wait(self, seconds: float) -> bool:
        """Whether the run asks something or has ended, within that time."""
        return self._desk.wait(lambda: self.question is not None or self.ended, seconds)

    def ask(self, seconds: float, passing: bool) -> Question | None:
        """The question that is open, once one is; None where the time is up or the run has ended.

        passing: whether an offer to submit a mechanism is passed.
        """
        while self.wait(seconds) and (question := self.question) is not None:
            if not (passing and question.kind == "mechanism"):
                return question
            self._desk.answer(question, "")
        return None

    def answer(self, question: Question, text: str) -> None:
        """Hand in an answer. Raises ConfigError with what is wrong with it."""
        with self._changed:
            self._new.clear()
        if problem := self._desk.answer(question, text):
            raise ConfigError(f"{problem}; nothing was taken, answer again")

    def news(self) -> list[Record]:
        """What the run logged since the last answer."""
        with self._changed:
            return list(self._new)

    def end(self, seconds: float) -> None:
        """Have the run stop at its next question; wait for that so long."""
        self._desk.stop()
        self._thread.join(seconds)

    def phase(self, phase: Phase) -> None:
        """Note what begins now."""
        with self._changed:
            self.phase_now = phase.kind if phase.trial is None else f"{phase.kind} #{phase.trial}"
            self._changed.notify_all()

    def record(self, record: Record) -> None:
        """Take in a record."""
        with self._changed:
            self._new.append(record)
            self._changed.notify_all()

    def _conduct(self) -> None:
        stop, trouble = None, "it broke down; the server's standard error says where"
        workspace = Workspace(self._home)
        try:
            stop = conduct(workspace, self.run, self._desk, self)
            trouble = ""
        except BilevelError as error:
            trouble = str(error)
        finally:
            workspace.store.close()
            with self._changed:
                self.stop, self.trouble = stop, trouble
                self._changed.notify_all()
