"""BBOB tasks by name: `bbob-f8-d5` is function 8 in 5 dimensions, `-i3` at its end instance 3.

Hansen, Finck, Ros and Auger 2009, Real-Parameter Black-Box Optimization Benchmarking: Noiseless
Functions Definitions, RR-6829. An instance moves the optimum and turns the axes, and so makes
another function, with which no trial of this one compares. That is why it is part of the name and
not the seed: the tasks take no seed, repeats of a run differ by the run's seed alone, and other
instances are other tasks.
"""

from __future__ import annotations

import importlib.util
import re

from bilevel.errors import ConfigError, MissingExtra
from bilevel.model import Objective
from bilevel.seeds import generator
from bilevel.space import Param, Space
from bilevel.tasks.function import FunctionTask

__all__ = ["PATTERN", "bbob_task", "names"]

DIMENSIONS = (2, 3, 5, 10, 20, 40)
_NUMBER = "[1-9][0-9]{0,3}"
PATTERN = re.compile(
    rf"bbob-f(?P<function>{_NUMBER})-d(?P<dimension>{_NUMBER})(?:-i(?P<instance>{_NUMBER}))?"
)

GOAL = """\
Find the minimum of a test function of {dimension} real variables, each from -5 to 5. gap is how \
far a point lies above that minimum, which only the scorer knows, so that 0 is perfect. Good gaps \
span many orders of magnitude: 1 is rough, 1e-8 is solved."""


def names() -> list[str]:
    """The tasks of instance 1: 24 functions in 2, 3, 5, 10, 20 and 40 dimensions."""
    return [f"bbob-f{f}-d{d}" for f in range(1, 25) for d in DIMENSIONS]


def bbob_task(name: str) -> FunctionTask:
    """The task of that name, evaluated inline.

    Raises ConfigError for a name that is none, and MissingExtra without ioh.
    """
    match = PATTERN.fullmatch(name)
    if match is None:
        raise ConfigError(f"{name} is no BBOB task; give bbob-fF-dD or bbob-fF-dD-iI in numbers")
    locked = {key: int(number or 1) for key, number in match.groupdict().items()}
    _check(name, "function", locked["function"], 1, 24)
    _check(name, "dimension", locked["dimension"], 2, 40)
    _check(name, "instance", locked["instance"], 1, 1000)
    if importlib.util.find_spec("ioh") is None:
        raise MissingExtra(
            f"task {name} needs ioh, which is not installed; get it: pip install 'bilevel[bbob]'"
        )
    return FunctionTask(
        target="bilevel.tasks.bbob.functions:gap",
        space=_space(locked["dimension"]),
        objective=Objective("gap"),
        name=name,
        inline=True,
        deterministic=True,
        goal=GOAL.format(**locked),
        locked=locked,
        timeout=60.0,
        confirms=0,
    )


def _check(name: str, part: str, number: int, low: int, high: int) -> None:
    if not low <= number <= high:
        raise ConfigError(f"{name} names {part} {number} but its range is {low} to {high}")


def _space(dimension: int) -> Space:
    """A box whose default is one fixed point; not its middle, which some functions favour."""
    start = generator(0, "bbob", "start")
    return Space(
        tuple(
            Param(f"x{i}", "float", round(start.uniform(-4.0, 4.0), 2), -5.0, 5.0)
            for i in range(1, dimension + 1)
        )
    )
