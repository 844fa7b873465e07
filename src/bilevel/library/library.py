"""Mechanisms over runs: where each comes from, what it did in each run, what it does elsewhere."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from bilevel.model import MechanismSource, Param, Space
from bilevel.noise import FEWEST, interval
from bilevel.stack import FAULTS_ALLOWED

RESAMPLES = 2000
IDLE_RUNS = 2  # runs without any influence or credit, after which a mechanism may be pruned

Verdict = Literal["helps", "harms", "no difference", "undecided"]


@dataclass(frozen=True)
class Use:
    """What a mechanism did in one run, from the run's log alone.

    key: identity of the run on any machine; run: its name where it was made. parameters: kinds of
    the task's parameters, by name. decisions: of the whole stack while it was on it; different: of
    them, those that the other layers alone would not have taken (leave-one-out replay), None where
    it could not be decided again. asked, changed: decisions that came to it, and that it changed.
    touched: trials of these; kept: of those, the ones that became the incumbent. left: why it was
    taken out, "" where it stayed.
    """

    key: str
    run: str
    task: str
    parameters: Mapping[str, str]
    llm: str
    seed: int
    decisions: int
    different: int | None
    asked: int
    changed: int
    touched: int
    kept: int
    faults: int
    left: str

    @property
    def credit(self) -> float | None:
        """Share of the decisions that would differ without it; None where that is not known."""
        return None if self.different is None else self.different / max(1, self.decisions)


@dataclass(frozen=True)
class Transfer:
    """Searches of one task with a mechanism and without it, paired by their seed.

    key: what was measured, seeds left out; results of the same key are put together, see `united`.
    proposer: the LLM, or what stood in for it. seen: whether the mechanism had been at work on the
    task before. gains: by seed, score of the best with it over the best without; positive is
    better, in the metric's unit. faults: of its code, in all searches.
    """

    key: str
    task: str
    metric: str
    proposer: str
    evals: int
    seen: bool
    gains: Mapping[str, float]
    faults: int

    @property
    def mean(self) -> float:
        """Mean gain over the seeds."""
        return statistics.fmean(self.gains.values())

    @property
    def span(self) -> tuple[float, float] | None:
        """95 % interval of the mean gain (Student's t, paired), None for one seed."""
        return interval(list(self.gains.values()))

    @property
    def verdict(self) -> Verdict:
        """helps or harms where the interval lies on one side of 0; one seed decides nothing."""
        if self.span is None:
            return "undecided"
        if not any(self.gains.values()):
            return "no difference"
        if self.span[0] <= 0 <= self.span[1]:
            return "undecided"
        return "helps" if self.mean > 0 else "harms"


def united(known: Transfer, more: Transfer) -> Transfer:
    """Two results of the same key as one, with the seeds of both; where both have one, `more`'s.

    faults: of both where they have no seed in common; else the larger count, as the searches of
    common seeds are in each.
    """
    apart = known.gains.keys().isdisjoint(more.gains)
    gains = {**known.gains, **more.gains}
    return replace(
        more,
        seen=known.seen or more.seen,
        gains=dict(sorted(gains.items(), key=lambda item: (len(item[0]), item[0]))),
        faults=known.faults + more.faults if apart else max(known.faults, more.faults),
    )


@dataclass(frozen=True)
class MeanCredit:
    """Mean of n values. low, high: 95 % interval (bootstrap, percentile), None below FEWEST."""

    n: int
    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Entry:
    """A mechanism of the library.

    task: for which it was written; parameters: their kinds there, by name. run, llm: of the
    session that wrote it, "" for a person's file. hypotheses: what that session said, by round and
    topic. passed: what it was judged by. created: ISO 8601, UTC.
    """

    source: MechanismSource
    task: str
    parameters: Mapping[str, str]
    passed: str
    run: str = ""
    llm: str = ""
    hypotheses: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    uses: tuple[Use, ...] = ()
    transfers: tuple[Transfer, ...] = ()

    @property
    def sha(self) -> str:
        """Its identity: sha256 of the source."""
        return self.source.sha

    @property
    def faults(self) -> int:
        """Faults in all runs."""
        return sum(u.faults for u in self.uses)

    @property
    def influence(self) -> float | None:
        """Share of the decisions that came to it which it changed; None before the first."""
        asked = sum(u.asked for u in self.uses)
        return sum(u.changed for u in self.uses) / asked if asked else None

    def tasks(self) -> dict[str, Mapping[str, str]]:
        """Parameters by task, of that which it was written for and of those it was used on."""
        return {self.task: self.parameters} | {u.task: u.parameters for u in self.uses}

    def used_on(self, task: str) -> tuple[Use, ...]:
        """Its uses on one task."""
        return tuple(u for u in self.uses if u.task == task)

    def credit(self, uses: Sequence[Use] | None = None) -> MeanCredit | None:
        """Mean credit over these runs, all if not given; None where it is known of none."""
        found = credits(self.uses if uses is None else uses)
        return mean_credit(found, self.sha) if found else None


def credits(uses: Sequence[Use]) -> list[float]:
    """The credits that are known, run by run."""
    return [c for u in uses if (c := u.credit) is not None]


def kinds(space: Space) -> dict[str, str]:
    """What kind each parameter is, by name: `float log`, `int`, `choice`, `text`."""
    return {p.name: _kind(p) for p in space}


def _kind(param: Param) -> str:
    return f"{param.kind} log" if param.log else param.kind


def mean_credit(values: Sequence[float], seed: str) -> MeanCredit:
    """Mean and interval; the same for the same values and seed.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3. With few values
    such intervals are too narrow, which is why n stands beside them.
    """
    mean = statistics.fmean(values)
    if len(values) < FEWEST:
        return MeanCredit(len(values), mean)
    rng = random.Random(seed)
    means = sorted(statistics.fmean(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    low, high = means[round(0.025 * RESAMPLES)], means[round(0.975 * RESAMPLES) - 1]
    return MeanCredit(len(values), mean, low, high)


def share(found: MeanCredit | None) -> str:
    """A credit as people read it: `12 % (3 to 20 %, n 4)`, a dash where it is not known."""
    if found is None:
        return "-"
    if found.low is None or found.high is None:
        return f"{found.mean:.0%} (n {found.n})"
    return f"{found.mean:.0%} ({found.low:.0%} to {found.high:.0%}, n {found.n})"


def measured(transfer: Transfer) -> str:
    """A transfer in words: `harms gpt (val_bpb 0.012 worse, 0.004 to 0.02, n 5)`."""
    span = transfer.span
    between = "" if span is None else f", 95 % interval of the gain {span[0]:.2g} to {span[1]:.2g}"
    seeds = len(transfer.gains)
    return (
        f"{transfer.verdict} on {transfer.task}: gain of {transfer.metric} {transfer.mean:+.2g}"
        f"{between}, n {seeds}, proposals by {transfer.proposer}"
    )


def prunable(entry: Entry) -> str:
    """Why the library can do without an entry, "" where it should not."""
    uses = entry.uses
    if uses and all(u.left and u.faults >= FAULTS_ALLOWED for u in uses):
        return f"its code failed until it was taken out, in each of its {_runs(len(uses))}"
    known = credits(uses)
    if len(known) >= IDLE_RUNS and not any(known):
        return f"without it no decision would differ, in all its {_runs(len(known))}"
    verdicts = {t.task: t.verdict for t in entry.transfers}
    if verdicts and all(v == "harms" for v in verdicts.values()):
        return f"it does harm on each task that was tried: {', '.join(verdicts)}"
    return ""


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''}"
