"""study.toml: what is compared, on what, how often, and what will be made of it."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from bilevel import levels, mechanisms
from bilevel.ensemble import ENSEMBLE
from bilevel.errors import ConfigError
from bilevel.llm.naming import check_spec
from bilevel.study.data import AnalysisPlan, Hypothesis
from bilevel.study.sections import PRESETS, WIPE, ArmSection, Document, OuterSection, StudySection

__all__ = ["StudyFile", "load", "parse"]


@dataclass(frozen=True)
class StudyFile:
    """A study as its file describes it, checked.

    text: of the file, path: where it lies. sources: by task as named, how to find it from here.
    arms: by name, in the file's order, with presets filled in.
    """

    study: StudySection
    outer: OuterSection
    sources: Mapping[str, str]
    arms: Mapping[str, ArmSection]
    hypotheses: tuple[Hypothesis, ...]
    plan: AnalysisPlan | None
    text: str
    path: str

    @property
    def hash(self) -> str:
        """sha256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def seeds(self) -> range:
        """The seed of each repeat."""
        first = self.study.first_seed
        return range(first, first + self.study.repeats)


_ADAPTER: TypeAdapter[Document] = TypeAdapter(Document)


def load(path: Path) -> StudyFile:
    """The study in a file. Raises ConfigError if it is missing or breaks a rule."""
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}; begin from examples/study.toml"
        ) from error
    return parse(text, path)


def parse(text: str, path: Path) -> StudyFile:
    """The study in a text; paths in it start at the folder of `path`. Raises ConfigError."""
    try:
        document = _ADAPTER.validate_json(json.dumps(tomllib.loads(text), default=str))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        problems = dict.fromkeys(_explain(e) for e in error.errors(include_url=False))
        raise ConfigError("\n".join(f"{path}: {p}" for p in problems)) from error
    try:
        return _checked(document, text, path)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _checked(document: Document, text: str, path: Path) -> StudyFile:
    study = document.study
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", study.name):
        raise ConfigError(
            f"study.name is {study.name!r} but must be letters, digits, '.', '_' and '-'"
        )
    for label, names in (("tasks", study.tasks), ("arms", study.arms)):
        if twice := [n for n in names if names.count(n) > 1]:
            raise ConfigError(f"study.{label} names {twice[0]} twice; leave one out")
    if idle := [name for name in document.arm if name not in study.arms]:
        raise ConfigError(f"[arm.{idle[0]}] is there but study.arms does not name {idle[0]}")
    hypotheses = tuple(
        Hypothesis(**{**asdict(h), "tasks": h.tasks or study.tasks}) for h in document.hypotheses
    )
    plan = None if document.analysis is None else AnalysisPlan(**asdict(document.analysis))
    arms = {name: _arm(document, name, path.parent) for name in study.arms}
    _refers(study, hypotheses, plan)
    sources = {t: _located(t, path.parent) for t in study.tasks}
    targets = {} if plan is None else plan.targets
    if unknown := [t for t in targets if t not in study.tasks]:
        raise ConfigError(f"analysis.targets names {unknown[0]}, which is no task of the study")
    return StudyFile(study, document.outer, sources, arms, hypotheses, plan, text, str(path))


def _refers(
    study: StudySection, hypotheses: tuple[Hypothesis, ...], plan: AnalysisPlan | None
) -> None:
    """Raises ConfigError where a rule names an arm or a task that is not there."""
    named = [(f"hypothesis {h.name}", n) for h in hypotheses for n in (h.arm, *h.controls)]
    if plan is not None:
        named += [("analysis", n) for n in (plan.reference, *plan.controls)]
    for where, name in named:
        if name not in study.arms:
            raise ConfigError(f"{where} speaks of arm {name}; add it to study.arms, or correct it")
    for h in hypotheses:
        for task in h.tasks:
            if task not in study.tasks:
                raise ConfigError(f"hypothesis {h.name} speaks of {task}, no task of the study")
        if h.arm in h.controls:
            raise ConfigError(f"hypothesis {h.name} compares {h.arm} with itself")
    if twice := {h.name for h in hypotheses if [g.name for g in hypotheses].count(h.name) > 1}:
        raise ConfigError(f"two hypotheses have the name {min(twice)}; give one another")


def _arm(document: Document, name: str, folder: Path) -> ArmSection:
    given = document.arm.get(name, ArmSection())
    base = PRESETS.get(name)
    if base is None and given == ArmSection():
        base = _strategy(name)
    base = base or ArmSection()
    set_here = {f.name: v for f in fields(given) if (v := getattr(given, f.name)) is not None}
    arm = replace(base, **set_here)
    stack = tuple(_located(n, folder) if n.endswith(".py") else n for n in arm.stack or ())
    if name == "hand" and not stack:
        raise ConfigError('arm hand needs its mechanisms; add [arm.hand] with stack = ["tabu"]')
    constants = arm.constants or {}
    if stack == (WIPE,) and "BATCH" not in constants.get(WIPE, {}):
        plan = {"every": 5, "cycles": 2, **document.outer.given(), **arm.outer.given()}
        constants = {**constants, WIPE: {"BATCH": plan["every"] * plan["cycles"]}}
    if stray := [n for n in constants if n not in stack]:
        raise ConfigError(f"arm.{name}.constants names {stray[0]}, which is not in its stack")
    llm = arm.llm or document.study.llm
    for spec in (document.study.llm, llm):
        check_spec(spec)
    if llm.startswith(ENSEMBLE):
        raise ConfigError(f"the LLM of arm {name} is {llm}, but an arm of a study has one model")
    levels.chosen(arm.levels or "1", llm, arm.sham or False)
    return replace(arm, stack=stack, constants=constants, about=arm.about or _words(arm))


def _strategy(name: str) -> ArmSection:
    """The arm that a mechanism's name is, or several with + between them. Raises ConfigError."""
    stack = tuple(name.split("+"))
    known = (*PRESETS, *mechanisms.names())
    for part in stack:
        if part not in mechanisms.names():
            near = difflib.get_close_matches(part, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"add [arm.{name}] that says what it is"
            raise ConfigError(
                f"arm {name} is neither one of {', '.join(PRESETS)} nor a mechanism; {hint}"
            )
    return ArmSection(
        stack=stack, about=mechanisms.source(name).rationale if name == stack[0] else None
    )


def _words(arm: ArmSection) -> str:
    stack = " + ".join(Path(n).stem for n in arm.stack or ())
    return f"levels {arm.levels or '1'}" + (f" with {stack}" if stack else "")


def _located(name: str, folder: Path) -> str:
    """A path as seen from here, of one given as seen from the study file's folder."""
    path = folder / name
    return str(path) if path.exists() and ("/" in name or path.suffix) else name


def _explain(error: ErrorDetails) -> str:
    """One problem as: where it is, the rule, the value, the remedy."""
    place = ".".join(str(part) for part in error["loc"])
    match error["type"]:
        case "unexpected_keyword_argument" | "extra_forbidden":
            return f"there is no key {place}; examples/study.toml shows all there are"
        case "missing" | "missing_argument":
            return f"{place} is missing; add it"
        case _:
            rule = error["msg"].removeprefix("Input should be ")
            return f"{place} is {error['input']!r} but should be {rule}"
