"""Seeds derived from the run's seed and the name of what they are for; no generator is shared."""

from __future__ import annotations

import hashlib
import json
import random


def derive(seed: int, *parts: str | int) -> int:
    """An integer in [0, 2**31) that depends on all arguments and on nothing else."""
    return int.from_bytes(_digest(seed, *parts)[:4], "big") >> 1


def generator(seed: int, *parts: str | int) -> random.Random:
    """A generator of its own for one decision."""
    return random.Random(int.from_bytes(_digest(seed, *parts), "big"))


def _digest(seed: int, *parts: str | int) -> bytes:
    return hashlib.sha256(json.dumps([seed, *parts]).encode()).digest()
