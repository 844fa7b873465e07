"""What a session of Level 2 leaves in the log: what was specified, each attempt, and its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Way = Literal["fill", "complete", "write", "improve", "combine", "repair", "submit"]


@dataclass(frozen=True)
class Attempt:
    """A source that was judged.

    way: how the LLM was asked for it; by `submit` it came unasked. written: what it wrote, as it
    came; source: the same as it was judged, normalised, and name its class. rule: of the gate, that
    refused it, "" if none did; words: what its author was told. figures: what the gate measured, by
    name. parents: shas of the sources that it was made from.
    """

    way: Way
    written: str
    source: str
    sha: str
    name: str = ""
    rule: str = ""
    words: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Begun:
    """A session of Level 2 begins beside the inner loop, before `step`, on the log up to here."""

    step: int
    cycle: int


@dataclass(frozen=True)
class Session:
    """One session of Level 2, held before `step`, in the outer loop's `cycle`.

    notes: what each round said, by its name. admitted: sha of what joins the stack, "" if nothing
    does. removed: by sha, why a layer leaves it. sham: its code was left out. landed: of one that
    was held beside the inner loop, the step before which it was over, None where the loop waited.
    writes: what it asked for, expressions of a frame or whole classes.
    """

    step: int
    cycle: int
    notes: Mapping[str, str]
    attempts: tuple[Attempt, ...]
    admitted: str = ""
    removed: Mapping[str, str] = field(default_factory=dict)
    sham: bool = False
    landed: int | None = None
    writes: Literal["frames", "classes"] = "frames"

    @property
    def holds_from(self) -> int:
        """The step from which what it decided holds."""
        return self.step if self.landed is None else self.landed
