"""Instances of bin packing, made from a seed.

Sources: the Weibull instances of Castineiras, De Cauwer and O'Sullivan 2012 as FunSearch samples
them (Romera-Paredes et al., Nature 2024: shape 3, scale 45, clipped at 100, rounded), and the
class u of OR-Library's bin packing files (Falkenauer 1996: whole sizes evenly from 20 to 100, in
bins of 150).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bilevel import seeds

__all__ = ["Instance", "uniform", "weibull"]


@dataclass(frozen=True)
class Instance:
    """Sizes of the items in the order of their arrival, and the capacity of every bin."""

    items: Sequence[int]
    capacity: int

    @property
    def lower_bound(self) -> int:
        """Bins that no packing can do without: the L1 bound, all sizes over the capacity."""
        return -(-sum(self.items) // self.capacity)


def weibull(seed: int, count: int, items: int) -> list[Instance]:
    """`count` instances of `items` items, from 1 to 100, in bins of 100."""
    made = []
    for i in range(count):
        rng = seeds.generator(seed, "weibull", i)
        sizes = (round(rng.weibullvariate(45, 3)) for _ in range(items))
        made.append(Instance(tuple(min(max(size, 1), 100) for size in sizes), 100))
    return made


def uniform(seed: int, count: int, items: int) -> list[Instance]:
    """`count` instances of `items` items, evenly from 20 to 100, in bins of 150."""
    made = []
    for i in range(count):
        rng = seeds.generator(seed, "uniform", i)
        made.append(Instance(tuple(rng.randint(20, 100) for _ in range(items)), 150))
    return made
