"""TPE draws near what scored well, and away from what crashed."""

import math
import statistics

from searching import search, trials

from bilevel.mechanisms.tpe import Tpe


def gaps(seed: int) -> list[float]:
    found = trials(search(Tpe(), world="odd", evals=30, seed=seed))
    return [abs(math.log(float(t.values["RATE"]) / 0.3)) for t in found]


def test_draws_come_nearer_to_the_optimum() -> None:
    runs = [gaps(seed) for seed in range(5)]
    random = statistics.mean(g for run in runs for g in run[: Tpe.STARTUP])
    later = statistics.mean(g for run in runs for g in run[Tpe.STARTUP :])
    assert later < 0.6 * random


def test_avoids_what_crashed() -> None:
    found = trials(search(Tpe(), evals=40))
    patterns = [t.values["PATTERN"] for t in found[20:]]
    assert patterns.count("L") <= 3
