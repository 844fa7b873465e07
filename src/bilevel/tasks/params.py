"""From the [params] of a task.toml to a space, with every rule checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bilevel.errors import ConfigError, InvalidCandidate
from bilevel.space import Kind, Param, Space, Value
from bilevel.tasks.constants import Source
from bilevel.tasks.manifest import ParamSpec

__all__ = ["Parameters", "of_function", "of_script"]


@dataclass(frozen=True)
class Parameters:
    """The space, and the values of the locked parameters."""

    space: Space
    locked: Mapping[str, Value]


def of_script(
    specs: Mapping[str, ParamSpec], source: Source, where: str, seed: str | None = None
) -> Parameters:
    """Parameters whose types and defaults are those of a script's constants.

    where: the manifest, for messages. seed: the constant that takes the seed, if any.
    Raises ConfigError for a name that is no constant and for every broken rule.
    """
    params: list[Param] = []
    locked: dict[str, Value] = {}
    for name, spec in specs.items():
        if name not in source:
            raise ConfigError(f"{where}: {source.explain(name)}")
        if spec.default is not None:
            raise ConfigError(f"{where}: params.{name}.default: {source.file} gives it; remove it")
        if name == seed:
            raise ConfigError(f"{where}: {name} takes the run's seed; remove [params.{name}]")
        constant = source[name]
        if spec.locked:
            locked[name] = constant.value
        else:
            params.append(_param(name, spec, constant.value, spec.doc or constant.doc, where))
    return _parameters(params, locked, where)


def of_function(specs: Mapping[str, ParamSpec], where: str) -> Parameters:
    """Parameters that the manifest describes whole. Raises ConfigError for a broken rule."""
    params: list[Param] = []
    locked: dict[str, Value] = {}
    for name, spec in specs.items():
        if spec.default is None:
            raise ConfigError(f"{where}: params.{name} has no default; a function's need one")
        if spec.locked:
            locked[name] = spec.default
        else:
            params.append(_param(name, spec, spec.default, spec.doc, where))
    return _parameters(params, locked, where)


def _parameters(params: list[Param], locked: dict[str, Value], where: str) -> Parameters:
    if not params:
        raise ConfigError(
            f"{where}: it opens no parameter to the search; describe at least one as "
            "[params.NAME] with low and high, or with choices, and without locked = true"
        )
    return Parameters(Space(tuple(params)), locked)


def _param(name: str, spec: ParamSpec, default: Value, doc: str, where: str) -> Param:
    here = f"{where}: params.{name}"
    kind = _kind(spec, default, here)
    if kind in ("float", "int"):
        _check_number(here, spec)
        choices: tuple[Value, ...] = ()
    else:
        choices = _choices(spec, default)
        _check_choices(here, spec, kind, choices, default)
    if kind == "float":
        assert not isinstance(default, str)
        default = float(default)
    param = Param(name, kind, default, spec.low, spec.high, spec.log, spec.step, choices, doc)
    try:
        checked = param.check(default)
    except InvalidCandidate as error:
        raise ConfigError(f"{here} must include the default, but {error}") from error
    return replace(param, default=checked) if kind == "float" else param


def _kind(spec: ParamSpec, default: Value, here: str) -> Kind:
    """The parameter's kind, as given or as the default suggests. Raises ConfigError."""
    kinds: tuple[Kind, ...]
    match default:
        case bool():
            kinds = ("choice",)
        case int():
            kinds = ("int", "float", "choice")
        case float():
            kinds = ("float", "choice")
        case str():
            kinds = ("choice", "text")
    if spec.kind is None:
        return "choice" if spec.choices else kinds[0]
    if spec.kind not in kinds:
        raise ConfigError(
            f"{here}.kind is {spec.kind} but the default is {default!r}; "
            f"it can be {' or '.join(kinds)}"
        )
    return spec.kind


def _choices(spec: ParamSpec, default: Value) -> tuple[Value, ...]:
    if isinstance(default, bool) and not spec.choices:
        return (False, True)
    if isinstance(default, float):
        return tuple(float(c) if type(c) is int else c for c in spec.choices)
    return spec.choices


def _check_number(here: str, spec: ParamSpec) -> None:
    if spec.low is None or spec.high is None:
        missing = "low" if spec.low is None else "high"
        raise ConfigError(f"{here} has no {missing}; give low and high, or set locked = true")
    if spec.choices:
        raise ConfigError(f'{here}: choices go with kind = "choice" only; remove one of the two')
    if spec.low >= spec.high:
        raise ConfigError(f"{here}: low is {spec.low:g} but must be under high, {spec.high:g}")
    if spec.log and spec.low <= 0:
        raise ConfigError(
            f"{here}: low is {spec.low:g} but must be over 0 with log = true; "
            "raise it, or set log = false"
        )
    if spec.step is None:
        return
    if spec.log and spec.step <= 1:
        raise ConfigError(
            f"{here}: step is {spec.step:g} but must be over 1 with log = true, where it is a ratio"
        )
    if not spec.log and spec.step > spec.high - spec.low:
        raise ConfigError(f"{here}: step is {spec.step:g}, wider than the range; give a smaller")


def _check_choices(
    here: str, spec: ParamSpec, kind: Kind, choices: tuple[Value, ...], default: Value
) -> None:
    numeric = [n for n in ("low", "high", "step") if getattr(spec, n) is not None]
    if numeric or spec.log:
        name = (numeric or ["log"])[0]
        raise ConfigError(f"{here}: {name} is for numbers, and this is a {kind}; remove it")
    if kind == "text" and choices:
        raise ConfigError(f'{here}: choices go with kind = "choice" only; remove one of the two')
    if kind == "choice" and len(choices) < 2:
        raise ConfigError(
            f"{here} has {len(choices)} choices; give at least two, or set locked = true"
        )
    for choice in choices:
        if type(choice) is not type(default) and {type(choice), type(default)} != {int, float}:
            raise ConfigError(
                f"{here}: choices has {choice!r} but the default is {default!r}; "
                "give values of the same type"
            )
    if len(set(choices)) != len(choices):
        raise ConfigError(f"{here}: a choice is named twice; name it once")
