"""The sections of a study.toml as values, and the arms that have names of their own."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bilevel.space import Value
from bilevel.study.data import Measure

__all__ = ["PRESETS", "WIPE", "AnalysisSection", "ArmSection", "Document", "StudySection"]

_CONFIG = ConfigDict(extra="forbid", strict=True)
Strings = tuple[str, ...]
Names = Annotated[Strings, Field(min_length=1)]
Natural = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
WIPE = "restart_wipe"


@dataclass(frozen=True, config=_CONFIG)
class StudySection:
    """[study]: what every run has in common. repeat k of each arm is on seed first_seed + k.

    baselines, confirms: None for as many as a task asks for. hypotheses: whether proposals say why
    they should help.
    """

    name: str
    tasks: Names
    arms: Names
    repeats: Natural
    evals: Natural = 30
    llm: str = "embedded"
    question: str = ""
    first_seed: Whole = 0
    baselines: Annotated[int, Field(ge=2)] | None = None
    confirms: Whole | None = None
    slots: Natural = 1
    hypotheses: bool = True


@dataclass(frozen=True, config=_CONFIG)
class OuterSection:
    """[outer], or of one arm: when the outer levels speak, as in `bilevel.model.OuterPlan`."""

    every: Natural | None = None
    cycles: Natural | None = None
    layers: Natural | None = None
    candidates: Natural | None = None
    repairs: Whole | None = None
    domains: Literal["hint", "none"] | None = None
    screening: bool | None = None
    writes: Literal["frames", "classes"] | None = None

    def given(self) -> dict[str, Any]:
        """What is set, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, config=_CONFIG)
class ArmSection:
    """[arm.NAME]: about: what it is, in words. levels, sham: as `bilevel run` takes them.

    stack: mechanisms, lowest first, by name or as files. constants: by mechanism of the stack, the
    class attributes that differ. library: mechanisms of the library, as `best` or `alma:2`.
    llm: None for the study's.
    """

    about: str | None = None
    levels: str | None = None
    sham: bool | None = None
    stack: Strings | None = None
    constants: dict[str, dict[str, Value]] | None = None
    library: str | None = None
    llm: str | None = None
    outer: OuterSection = Field(default_factory=OuterSection)


@dataclass(frozen=True, config=_CONFIG)
class HypothesisSection:
    """[[hypotheses]]: a claim and the rule that decides it, as in `bilevel.study.data.Hypothesis`.

    tasks: all where none is named.
    """

    name: str
    claim: str
    arm: str
    controls: Names
    tasks: Strings = ()
    measure: Measure = "best"
    margin: Finite = 0.0
    worthwhile: Finite = 0.0
    ratio: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    least_repeats: Annotated[int, Field(ge=2)] = 10


@dataclass(frozen=True, config=_CONFIG)
class AnalysisSection:
    """[analysis]: what is worked out, as in `bilevel.study.data.AnalysisPlan`."""

    reference: str
    controls: Strings = ()
    measure: Measure = "best"
    targets: dict[str, Finite] = Field(default_factory=dict)
    resamples: Annotated[int, Field(ge=100)] = 10_000
    seed: Whole = 0


@dataclass(frozen=True, config=_CONFIG)
class Document:
    """A whole study.toml."""

    study: StudySection
    outer: OuterSection = Field(default_factory=OuterSection)
    arm: dict[str, ArmSection] = Field(default_factory=dict)
    hypotheses: tuple[HypothesisSection, ...] = ()
    analysis: AnalysisSection | None = None


# The arms that have a name of their own; a table of that name changes what it sets.
PRESETS = {
    "A": ArmSection(about="the plain loop", levels="1"),
    "B": ArmSection(about="the loop, steered", levels="1,1.5"),
    "C": ArmSection(about="all levels", levels="1,1.5,2"),
    "D": ArmSection(about="the loop and research, without steering", levels="1,2"),
    "sham": ArmSection(
        about="C: Level 2 talks and is paid for, its code is left out", levels="1,1.5,2", sham=True
    ),
    "restart": ArmSection(
        about="A, restarted with a wiped history where C holds a session", stack=(WIPE,)
    ),
    "hand": ArmSection(about="A with mechanisms that a human stacked"),
    "library": ArmSection(about="A with a mechanism of the library", library="random"),
}
