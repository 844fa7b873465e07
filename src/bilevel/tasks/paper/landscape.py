"""A stand-in for the paper's training script: val_bpb in microseconds, from fitted numbers.

    val_bpb = mean + one effect a parameter + slope * batch * embedding + noise

An effect is piecewise linear between the knots of landscape.toml (in log2 units where `log`), or a
number for each choice, and 0 at the default; WINDOW_PATTERN has none. batch: doublings of
TOTAL_BATCH_SIZE above the default, 0 below. embedding: doublings of EMBEDDING_LR from its default,
no lower than `floor`. noise: normal, one draw for each configuration and seed. The numbers are
written by benchmarks/fit_paper_landscape.py.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bilevel.errors import InvalidCandidate
from bilevel.seeds import generator

__all__ = ["evaluate", "expected"]

SEQUENCE = 2048


def evaluate(values: Mapping[str, Any], seed: int) -> float:
    """val_bpb in bits per byte, to the script's six digits.

    Raises InvalidCandidate for a batch that the script's assertion refuses.
    """
    least = values["DEVICE_BATCH_SIZE"] * SEQUENCE
    if values["TOTAL_BATCH_SIZE"] % least:
        raise InvalidCandidate(
            f"TOTAL_BATCH_SIZE is {values['TOTAL_BATCH_SIZE']} but must be a multiple of "
            f"DEVICE_BATCH_SIZE * {SEQUENCE} = {least}; give a multiple"
        )
    # Plus 0.0, or -0.0 would be another draw of the same configuration.
    point = [v + 0.0 if isinstance(v, float) else v for _, v in sorted(values.items())]
    noise = generator(seed, "paper-mock", json.dumps(point)).gauss(0.0, _fitted()["noise"])
    return round(expected(values) + noise, 6)


def expected(values: Mapping[str, Any]) -> float:
    """val_bpb without noise, for studies of what a search has really gained."""
    fitted = _fitted()
    total: float = fitted["mean"]
    for name, curve in fitted["numbers"].items():
        total += interpolate(values[name], curve["knots"], curve["effects"], curve["log"])
    for name, effects in fitted["choices"].items():
        total += effects[str(values[name])]
    cross: dict[str, float] = fitted["interaction"]
    batch = max(0.0, math.log2(values["TOTAL_BATCH_SIZE"] / cross["batch"]))
    embedding = max(cross["floor"], math.log2(values["EMBEDDING_LR"] / cross["embedding"]))
    return total + cross["slope"] * batch * embedding


def interpolate(x: float, knots: list[float], effects: list[float], log: bool) -> float:
    """The effect at x, linear between knots; x is between the first and the last of them."""
    right = next(i for i, knot in enumerate(knots) if x <= knot)
    if right == 0:
        return effects[0]
    scale = math.log2 if log else float
    low, high, at = scale(knots[right - 1]), scale(knots[right]), scale(x)
    part = (at - low) / (high - low)
    return effects[right - 1] + part * (effects[right] - effects[right - 1])


@cache
def _fitted() -> dict[str, Any]:
    path = Path(__file__).with_name("landscape.toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))
