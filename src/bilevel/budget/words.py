"""Limits as people write and read them: `usd=5,tokens=2M,wall=8h,evals=100,2:tokens=200k`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bilevel.errors import ConfigError

KINDS = ("usd", "tokens", "calls", "wall", "evals")
BY_LEVEL = ("usd", "tokens", "calls")
LEVELS = ("1", "1.5", "2")
_SUFFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_EXAMPLE = "as in usd=5,tokens=2M,wall=8h,evals=100,2:tokens=200k"


def parse(text: str) -> dict[str, float]:
    """The limits of a comma list, by name; those of one level as `2:tokens`.

    Raises ConfigError with the rule that a part breaks.
    """
    limits: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, amount = part.partition("=")
        name = name.strip()
        if not equals:
            raise ConfigError(
                f"--budget has {part!r} but must be a list of LIMIT=AMOUNT, {_EXAMPLE}"
            )
        _check_name(name)
        if name in limits:
            raise ConfigError(f"--budget gives {name} twice; give it once")
        limits[name] = _amount(name, amount.strip())
    if not limits:
        raise ConfigError(f"--budget is empty; give a list of LIMIT=AMOUNT, {_EXAMPLE}")
    return limits


def _check_name(name: str) -> None:
    level, colon, kind = name.rpartition(":")
    if kind not in KINDS:
        raise ConfigError(f"--budget limits {kind!r} but can limit {', '.join(KINDS)}, {_EXAMPLE}")
    if colon and level not in LEVELS:
        raise ConfigError(f"--budget names level {level!r} but levels are {', '.join(LEVELS)}")
    if colon and kind not in BY_LEVEL:
        raise ConfigError(
            f"--budget limits {name}, but {kind} is of the whole run; by level it can limit "
            f"{', '.join(BY_LEVEL)}"
        )


def _amount(name: str, text: str) -> float:
    kind = name.rpartition(":")[2]
    if kind == "wall":
        return seconds(text, f"--budget {name}")
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)([kmg]?)", text.lower())
    if not found:
        raise ConfigError(
            f"--budget {name} is {text!r} but must be a number such as 5, 0.5, 20k or 2M"
        )
    amount = float(found[1]) * _SUFFIXES[found[2]]
    if kind != "usd" and amount != int(amount):
        raise ConfigError(f"--budget {name} is {text!r} but must be a whole number")
    return amount


def seconds(text: str, option: str = "--wall") -> float:
    """Seconds of a duration such as 8h, 1h30m or 90s. Raises ConfigError."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if not found or not any(found.groups()):
        raise ConfigError(f"{option} is {text!r} but must be a time such as 8h, 1h30m or 90s")
    hours, minutes, rest = (int(part or 0) for part in found.groups())
    return 3600.0 * hours + 60 * minutes + rest


def limit_text(name: str, amount: float) -> str:
    """A limit as it is written: `2:tokens=200k`."""
    return f"{name}={_written(name.rpartition(':')[2], amount)}"


def limits_text(limits: Mapping[str, float]) -> str:
    """All limits as they are written."""
    return ",".join(limit_text(name, amount) for name, amount in limits.items())


def amount_text(kind: str, amount: float) -> str:
    """An amount with its unit, as people read it: `0.0312 USD`, `18,200 tokens`."""
    if kind == "usd":
        return usd_text(amount)
    if kind == "wall":
        return _written(kind, amount)
    return f"{amount:,.0f} {kind.removesuffix('s') if amount == 1 else kind}"


def usd_text(usd: float) -> str:
    """US dollars, with as many digits as say something: `12.40 USD`, `0.00031 USD`."""
    return f"{usd:.2f} USD" if usd >= 1 or usd == 0 else f"{usd:.3g} USD"


def _written(kind: str, amount: float) -> str:
    if kind == "wall":
        minutes, rest = divmod(amount, 60)
        hours, minutes = divmod(int(minutes), 60)
        parts = [f"{hours}h" if hours else "", f"{minutes}m" if minutes else ""]
        return "".join(parts) + (f"{rest:.3g}s" if rest or not any(parts) else "")
    if kind == "usd":
        return f"{amount:g}"
    for suffix, size in (("M", 1e6), ("k", 1e3)):
        if amount and amount % size == 0:
            return f"{amount / size:.0f}{suffix}"
    return f"{amount:.0f}"
