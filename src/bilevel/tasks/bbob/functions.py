"""Evaluates a BBOB function."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ioh import ProblemClass, get_problem


def gap(values: dict[str, Any], seed: int) -> float:
    """f(x) minus the known minimum, 0 or more. It takes no seed: the instance is in the values."""
    problem = _problem(values["function"], values["instance"], values["dimension"])
    x = [values[f"x{i}"] for i in range(1, values["dimension"] + 1)]
    return float(problem(x) - problem.optimum.y)


@lru_cache(maxsize=32)
def _problem(function: int, instance: int, dimension: int) -> Any:
    return get_problem(function, instance, dimension, ProblemClass.BBOB)
