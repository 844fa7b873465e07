"""What watches comparisons and studies in tests."""

from __future__ import annotations

from bilevel.compare.compare import Cell
from bilevel.compare.helpers import Silent
from bilevel.model import Run


class Shown(Silent):
    """Notes which runs begin and end."""

    def __init__(self) -> None:
        self.began: list[Cell] = []
        self.ended: list[Cell] = []

    def starts(self, cell: Cell, run: Run) -> Silent:
        self.began.append(cell)
        return self

    def ends(self, cell: Cell) -> None:
        self.ended.append(cell)
