"""task.toml: reads it into frozen dataclasses, and says what is wrong in words."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from bilevel.errors import ConfigError
from bilevel.model import Objective
from bilevel.space import Kind, Value

__all__ = ["FunctionSection", "ParamSpec", "ScriptSection", "TaskManifest", "load", "parse"]

_CONFIG = ConfigDict(extra="forbid", strict=True)
_SECRET = {"KEY", "APIKEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIALS"}


def _inside(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise ValueError(f"{path!r} must be a path within the task's folder")
    return path


def _metric(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w./@-]{0,99}", name):
        raise ValueError(f"{name!r} must be a letter, then letters, digits or any of _ . / @ -")
    return name


def _public(env: dict[str, str]) -> dict[str, str]:
    for name in env:
        if _SECRET & set(re.split(r"[^A-Z]+", name.upper())):
            raise ValueError(
                f"{name} looks like a secret, which does not belong in a task file; "
                "remove it, and let the script read it from a file in your home folder"
            )
    return env


Strings = tuple[str, ...]
Inside = Annotated[str, AfterValidator(_inside)]
Paths = tuple[Inside, ...]
Env = Annotated[dict[str, str], AfterValidator(_public)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Megabytes = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, config=_CONFIG)
class TaskSection:
    """[task]: what is optimised. goal: one paragraph for whoever proposes values.

    shown: other metrics of the script that proposers see beside the objective's.
    """

    metric: Annotated[str, AfterValidator(_metric)]
    name: str = ""
    kind: Literal["script", "function"] = "script"
    goal: str = ""
    direction: Literal["min", "max"] = "min"
    unit: str = ""
    shown: Strings = ()

    @property
    def objective(self) -> Objective:
        """The metric as the core knows it."""
        return Objective(self.metric, self.direction, self.unit, self.shown)


@dataclass(frozen=True, config=_CONFIG)
class ScriptSection:
    """[script]: how the job runs.

    command: `{python}` stands for this Python, `{seed}` for the seed. seed: the int constant that
    takes the seed. timeout: seconds. link, exclude: paths in the folder that are linked to, or not
    copied. pattern: a regular expression for the metric. collect: files to read metrics from.
    """

    file: Inside = "train.py"
    command: Strings = ()
    seed: str | None = None
    timeout: Seconds = 600.0
    env: Env = Field(default_factory=dict)
    link: Paths = ()
    exclude: Strings = ()
    pattern: str | None = None
    max_output_mb: Megabytes = 64.0
    collect: Paths = ("run.log",)


@dataclass(frozen=True, config=_CONFIG)
class FunctionSection:
    """[function]: `module:callable` or `file.py:callable`. seeded: whether its seed matters.

    inline: the function is quick and trusted, and is called in the program's own process.
    """

    target: str
    seeded: bool = False
    inline: bool = False
    timeout: Seconds = 600.0
    env: Env = Field(default_factory=dict)
    link: Paths = ()
    exclude: Strings = ()


@dataclass(frozen=True, config=_CONFIG)
class NoiseSection:
    """[noise]: how often the default and the winner are measured, to know the noise.

    deterministic: the same values and seed give the same metric to the last bit.
    """

    baselines: Annotated[int, Field(ge=2)] = 2
    confirms: Annotated[int, Field(ge=0)] = 5
    deterministic: bool = False


@dataclass(frozen=True, config=_CONFIG)
class ParamSpec:
    """[params.NAME]: as in `bilevel.space.Param`. locked: shown, but not to be changed."""

    kind: Kind | None = None
    default: Value | None = None
    low: Finite | None = None
    high: Finite | None = None
    log: bool = False
    step: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    choices: tuple[Value, ...] = ()
    doc: str = ""
    locked: bool = False


@dataclass(frozen=True, config=_CONFIG)
class TaskManifest:
    """A whole task.toml."""

    task: TaskSection
    script: ScriptSection | None = None
    function: FunctionSection | None = None
    noise: NoiseSection = Field(default_factory=NoiseSection)
    params: dict[str, ParamSpec] = Field(default_factory=dict)


_SECTIONS: dict[str, type] = {
    "task": TaskSection,
    "script": ScriptSection,
    "function": FunctionSection,
    "noise": NoiseSection,
    "params": ParamSpec,
}
_ADAPTER = TypeAdapter(TaskManifest)


def load(path: Path) -> TaskManifest:
    """The manifest in a file. Raises ConfigError if it is missing or breaks a rule."""
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist; write it with `bilevel init`") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    return parse(text, str(path))


def parse(text: str, where: str = "task.toml") -> TaskManifest:
    """The manifest in a text; `where` names it in messages. Raises ConfigError."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not valid TOML: {error}") from error
    try:
        # Through JSON, where strict still takes arrays for tuples and tables for dataclasses.
        manifest = _ADAPTER.validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        problems = [_explain(e) for e in error.errors(include_url=False)]
        raise ConfigError("\n".join(f"{where}: {p}" for p in dict.fromkeys(problems))) from error
    kind = manifest.task.kind
    other: Literal["script", "function"] = "function" if kind == "script" else "script"
    if getattr(manifest, other) is not None:
        raise ConfigError(
            f"{where}: [{other}] is there but the task's kind is {kind}; "
            f'remove it, or set kind = "{other}" in [task]'
        )
    if kind == "function" and manifest.function is None:
        raise ConfigError(f'{where}: kind is function; add [function] with target = "file.py:name"')
    return manifest


def _explain(error: ErrorDetails) -> str:
    """One problem as: where it is, the rule, the value, the remedy."""
    loc = [str(part) for part in error["loc"]]
    place = ".".join(loc)
    match error["type"]:
        case "unexpected_keyword_argument" | "extra_forbidden":
            known = _known(loc)
            near = difflib.get_close_matches(loc[-1], known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            return f"there is no key {place}; {hint}"
        case "missing" | "missing_argument":
            return f"{place} is missing; add it"
        case "value_error":
            return f"{place}: {error['msg'].removeprefix('Value error, ')}"
        case _:
            return f"{place} is {error['input']!r} but {_rule(error['msg'])}"


def _known(loc: list[str]) -> list[str]:
    section = _SECTIONS.get(loc[0]) if len(loc) > 1 else TaskManifest
    return [] if section is None else [f.name for f in fields(section)]


def _rule(message: str) -> str:
    return message.removeprefix("Input should be ").join(("should be ", ""))
