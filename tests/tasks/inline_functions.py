"""Functions of a module that can be imported, for tasks that are evaluated inline."""

import math
from typing import Any

from bilevel.errors import InvalidCandidate

Values = dict[str, Any]


def square(values: Values, seed: int) -> float:
    return float((values["x"] - 0.25) ** 2 * values["n"])


def several(values: Values, seed: int) -> dict[str, float]:
    return {"loss": values["x"], "seed": seed, "not": math.nan, "third": 1 / 3, "no name": 1}


def nan(values: Values, seed: int) -> float:
    return math.nan


def infinite(values: Values, seed: int) -> dict[str, float]:
    return {"loss": -math.inf, "steps": 3}


def other(values: Values, seed: int) -> dict[str, float]:
    return {"los": 1}


def refuses(values: Values, seed: int) -> float:
    raise InvalidCandidate(f"x is {values['x']} but n is {values['n']}")


def raises(values: Values, seed: int) -> float:
    raise ZeroDivisionError("a bug")


def text(values: Values, seed: int) -> str:
    return "0.1"


def forges(values: Values, seed: int) -> dict[str, float]:
    return {"loss": 1.0, "a\nMETRIC loss": -999}
