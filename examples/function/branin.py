"""Branin's function (Dixon and Szego 1978); its minimum is 0.397887 at (pi, 2.275) and two more."""

import math


def branin(values: dict[str, float], seed: int) -> float:
    x, y = values["X"], values["Y"]
    valley = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return valley**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10
