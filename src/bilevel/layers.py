"""What the log keeps of mechanisms: their texts, what each decided, and when it came and went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MechanismSource:
    """A mechanism as text; `sha` (sha256 of the source) is its identity everywhere."""

    sha: str
    name: str
    source: str
    rationale: str = ""
    domain: str = ""
    origin: str = "hand"
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Borrowed:
    """A mechanism of the library as it stood when a run began.

    record: what earlier runs say of it, in a line; credit: the mean there, a share of decisions.
    joins: whether it is on the stack from the first step; the others are for Level 2 to build on.
    """

    source: MechanismSource
    record: str
    credit: float
    joins: bool


@dataclass(frozen=True)
class Decision:
    """What a layer made of the decision that came to it; before and after are JSON texts.

    key: the step, for `accept` the trial. ms: milliseconds. state: the layer's, as JSON, after it.
    """

    step: int
    layer: str
    hook: Literal["plan", "screen", "accept"]
    key: int
    before: str
    after: str
    ms: float
    state: str = "{}"


@dataclass(frozen=True)
class Fault:
    """A layer's failure: this one decision fell back to what came in."""

    step: int
    layer: str
    hook: str
    kind: str
    message: str


@dataclass(frozen=True)
class Layering:
    """A layer joined or left the stack, and why."""

    step: int
    sha: str
    action: Literal["add", "remove"]
    why: str
