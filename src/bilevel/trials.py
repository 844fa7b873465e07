"""The records of the search that a mechanism sees and makes: moves, drafts and trials.

To a mechanism these are `bilevel.model`, all of it: its worker is given no others of the package's
records, since each takes milliseconds to define as the worker starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from bilevel.space import Param as Param
from bilevel.space import Space as Space
from bilevel.space import Value as Value
from bilevel.space import Values as Values

Role = Literal["baseline", "search", "confirm"]
Status = Literal["ok", "crash", "timeout", "invalid"]


@dataclass(frozen=True)
class Move:
    """What to try next.

    parents: ids of the trials to start from; the first one's values are the base, the others are
    shown beside it. values: the whole configuration; then no LLM call is made. focus: the only
    parameters that may change (empty: all that are not frozen). note: advice for the proposer.
    tag: by which a mechanism finds its own trials again. writer: who fills in the values.
    seed: which measurement this is, 0 on the search's common seed, k on the k-th fresh one; the
    same values on another seed are no repeat, and not comparable with those on the common seed.
    since: id of the first trial that the proposer is shown, besides the baseline.
    """

    parents: tuple[int, ...] = ()
    values: Values | None = None
    focus: tuple[str, ...] = ()
    note: str = ""
    tag: str = ""
    writer: str = "llm"
    seed: int = 0
    since: int = 0

    def edit(self, **fields: Any) -> Move:
        """This move with some fields changed: `move.edit(focus=("LR",), note="go lower")`."""
        return replace(self, **fields)


@dataclass(frozen=True)
class Edit:
    """A draft's values as they were before a mechanism edited them, and why it did."""

    before: Values
    why: str


@dataclass(frozen=True)
class Draft:
    """A complete configuration that was proposed and not yet evaluated."""

    id: int
    step: int
    move: Move
    values: Values
    hypothesis: str = ""
    edits: tuple[Edit, ...] = ()

    def edit(self, values: Values, why: str) -> Draft:
        """This draft with other values, its old ones kept on record."""
        return replace(self, values=values, edits=(*self.edits, Edit(self.values, why)))


@dataclass(frozen=True)
class Trial:
    """One evaluated configuration.

    score: higher is better, None unless status is "ok". metrics: as the job reported them.
    seconds: the job's wall-clock time. role: baseline and confirm trials measure noise and are
    never candidates, but for the first baseline, which is the first incumbent.
    error: what went wrong, in a few lines.
    """

    id: int
    draft: Draft | None
    values: Values
    status: Status
    score: float | None
    metrics: Mapping[str, float]
    seconds: float
    seed: int
    kept: bool
    error: str = ""
    role: Role = "search"
