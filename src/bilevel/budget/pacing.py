"""Evaluations within a run's time: none begins that would not fit."""

from __future__ import annotations

from collections.abc import Callable

from bilevel.errors import OverBudget
from bilevel.evaluate import Evaluated, Evaluator
from bilevel.model import Values


class PacedEvaluator:
    """An evaluator that begins none when it is late, and gives up when all that run have ended.

    late: why none may begin now, "" while one may.
    """

    def __init__(self, evaluator: Evaluator, late: Callable[[], str]) -> None:
        self.slots = evaluator.slots
        self._evaluator = evaluator
        self._late = late
        self._running = 0
        self._held = ""

    def start(self, key: int, values: Values, seed: int) -> None:
        """Begin one, or hold it back, and all that come after. Raises ExecutorError."""
        self._held = self._held or self._late()
        if not self._held:
            self._evaluator.start(key, values, seed)
            self._running += 1

    def finished(self) -> list[Evaluated]:
        """Those that ended. Raises OverBudget when only such are left as were held back.

        What runs is paid for, and is waited for: what was held back comes after it in the log.
        """
        if not self._running:
            raise OverBudget("wall", self._held)
        ended = self._evaluator.finished()
        self._running -= len(ended)
        return ended
