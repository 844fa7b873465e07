"""How sure the numbers are: the spread of the baseline, and the best measured on fresh seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bilevel.history import History
from bilevel.model import Objective

Verdict = Literal["confirmed", "not confirmed", "undecided (too few)", "not measured"]

ENOUGH_PAIRS = 5  # from here on an interval that holds 0 is an answer, not a lack of data

FEWEST = 3  # values that a bootstrap interval needs: of two its ends are the values themselves

# Student's t, quantile 0.975, for 1 to 29 degrees of freedom: NIST/SEMATECH e-Handbook of
# Statistical Methods, table 1.3.6.7.2. Beyond it the last one is used, which errs to the wide side.
T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045,
)  # fmt: skip


@dataclass(frozen=True)
class Baseline:
    """The default configuration. value: on the seed of the search, what gains are counted from.

    mean, sd: over all `n` measurements that succeeded; sd is the noise of the run, None for n < 2.
    failed: measurements that gave no value.
    """

    value: float | None
    mean: float | None
    sd: float | None
    n: int
    failed: int


@dataclass(frozen=True)
class Confirmation:
    """The best configuration and the defaults measured on the same fresh seeds.

    measured, failed: fresh measurements of the best configuration, with and without a value.
    value, value_sd: their mean and spread. pairs: seeds on which both have a value; gain, sd: mean
    and spread of the paired gains; low, high: 95 % interval of the mean gain (Student's t).
    """

    verdict: Verdict
    measured: int = 0
    failed: int = 0
    value: float | None = None
    value_sd: float | None = None
    pairs: int = 0
    gain: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None


def measured_baseline(history: History, objective: Objective) -> Baseline:
    """What the run measured of its default configuration so far."""
    measured = history.role("baseline")
    values = [objective.value(t.score) for t in measured if t.score is not None]
    first = measured[0].score if measured else None
    return Baseline(
        value=None if first is None else objective.value(first),
        mean=_mean(values),
        sd=_sd(values),
        n=len(values),
        failed=len(measured) - len(values),
    )


def confirmation(history: History, objective: Objective) -> Confirmation:
    """What fresh seeds say about the best configuration, by the rule of `_verdict`."""
    best = history.best
    fresh = [t for t in history.role("confirm") if best is not None and t.values == best.values]
    if not fresh:
        return Confirmation("not measured")
    default = {t.seed: t.score for t in history.role("baseline") if t.score is not None}
    scores = {t.seed: t.score for t in fresh if t.score is not None}
    gains = [score - default[seed] for seed, score in scores.items() if seed in default]
    values = [objective.value(s) for s in scores.values()]
    failed, span = len(fresh) - len(scores), interval(gains)
    return Confirmation(
        verdict=_verdict(len(gains), failed, span),
        measured=len(scores),
        failed=failed,
        value=_mean(values),
        value_sd=_sd(values),
        pairs=len(gains),
        gain=_mean(gains),
        sd=_sd(gains),
        low=None if span is None else span[0],
        high=None if span is None else span[1],
    )


def _verdict(pairs: int, failed: int, span: tuple[float, float] | None) -> Verdict:
    """A winner that fails on a fresh seed is not confirmed, whatever its other values are."""
    if failed or (span is not None and span[1] < 0):
        return "not confirmed"
    if span is not None and span[0] > 0:
        return "confirmed"
    return "not confirmed" if pairs >= ENOUGH_PAIRS else "undecided (too few)"


def interval(gains: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the mean of independent values (Student's t), None for fewer than two."""
    if len(gains) < 2:
        return None
    t = T_975[min(len(gains) - 1, len(T_975)) - 1]
    half = t * statistics.stdev(gains) / math.sqrt(len(gains))
    mean = statistics.fmean(gains)
    return mean - half, mean + half


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _sd(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
