"""The numbers of a run, worked out from its log: for `show`, `--json` and the final message.

Gains are in the metric's own unit and positive when better, whichever way the metric goes. The
best of many noisy measurements flatters itself, so a summary always holds both: the best value
that the search saw, and what the same configuration measured on fresh seeds.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bilevel.budget.budget import in_force
from bilevel.budget.costs import Expected, costs
from bilevel.describe import REFUSAL_KINDS, changes, refusal_kind, repair_reason, start_values
from bilevel.ensemble import Asked, asked
from bilevel.history import History
from bilevel.levels import OuterLoop, outer_loop
from bilevel.mechanism import started_from
from bilevel.model import (
    TOO_LONG,
    UNUSABLE,
    Call,
    Direction,
    Objective,
    Prices,
    Proposal,
    Record,
    Refusal,
    Run,
    Stop,
    StopReason,
    Trial,
    Values,
)
from bilevel.noise import Baseline, Confirmation, confirmation, measured_baseline


@dataclass(frozen=True)
class Best:
    """The best value that the search saw. of: how many values it is the best of.

    changes: what differs from the defaults, as a person writes it.
    """

    trial: int
    value: float
    of: int
    changes: tuple[str, ...]
    values: Values


@dataclass(frozen=True)
class Tried:
    """How often one parameter was changed: in evaluated, kept and refused proposals."""

    name: str
    trials: int
    kept: int
    refused: int


@dataclass(frozen=True)
class Counts:
    """What became of the proposals. failed: trials without a score, by status.

    refused: proposals that cost no evaluation, by kind. tried: parameters, most often first.
    """

    budget: int
    evaluations: int
    kept: int
    discarded: int
    failed: Mapping[str, int]
    refused: Mapping[str, int]
    tried: tuple[Tried, ...]
    untouched: tuple[str, ...]


@dataclass(frozen=True)
class Usage:
    """What the run spent; seconds are wall-clock, of the LLM and of the jobs each on their own.

    rejected: LLM replies that were not accepted, by kind; those mended by a repair included.
    seconds_per_proposal: median over steps, repairs included. seconds_per_evaluation: median.
    taken: of the replies, how many came from the tape of which run. refused: prompts that were too
    long; cut: those that were answered with less in them, last_cut: what was left out of the last.
    unusable: replies that are paid for and held no answer.
    """

    llm_calls: int
    repairs: int
    rejected: Mapping[str, int]
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    llm_seconds: float
    seconds_per_proposal: float | None
    jobs: int
    job_seconds: float
    seconds_per_evaluation: float | None
    taken: Mapping[str, int] = field(default_factory=dict)
    refused: int = 0
    cut: int = 0
    last_cut: str = ""
    unusable: int = 0


@dataclass(frozen=True)
class Summary:
    """A run in numbers; `asdict` makes JSON values of it.

    stop: why it ended, None while it goes on or when it was killed.
    gain: of the best value over the baseline's on the same seed; gain_percent: of the baseline's
    magnitude; gain_in_noise: in standard deviations of the baseline. incumbent: id of the trial
    that the next proposal would start from. llm_outer: the model of Levels 1.5 and 2, "" for the
    same. models: what each was asked, where there are several. usd: what the calls cost, None where
    not known; prices: by which. expected: what was estimated before the run, beside what it took.
    """

    run: str
    task: str
    llm: str
    llm_outer: str
    models: tuple[Asked, ...]
    seed: int
    created: str
    metric: str
    direction: Direction
    unit: str
    baseline: Baseline
    best: Best | None
    incumbent: int | None
    gain: float | None
    gain_percent: float | None
    gain_in_noise: float | None
    confirmation: Confirmation
    counts: Counts
    usage: Usage
    outer: OuterLoop
    usd: float | None
    prices: tuple[Prices, ...]
    expected: tuple[Expected, ...]
    stop: StopReason | None
    stop_detail: str


def summarise(run: Run, records: Sequence[Record]) -> Summary:
    """The numbers of a run so far; `records` is its log, in order, all kinds together."""
    run, took = in_force(run, records), costs(run, records)
    history = History(run.space, records)
    baseline = measured_baseline(history, run.objective)
    best = _best(history, run.objective)
    gain = None
    if best is not None and baseline.value is not None:
        gain = run.objective.score(best.value) - run.objective.score(baseline.value)
    stop = _stop(records)
    return Summary(
        run=run.id,
        task=run.task,
        llm=run.llm,
        llm_outer=run.llm_outer,
        models=asked(run, records),
        seed=run.seed,
        created=run.created,
        metric=run.objective.metric,
        direction=run.objective.direction,
        unit=run.objective.unit,
        baseline=baseline,
        best=best,
        incumbent=None if history.incumbent is None else history.incumbent.id,
        gain=gain,
        gain_percent=_ratio(gain, baseline.value, 100.0),
        gain_in_noise=_ratio(gain, baseline.sd),
        confirmation=confirmation(history, run.objective),
        counts=_counts(run, history),
        usage=_usage(history, [r for r in records if isinstance(r, Call)]),
        outer=outer_loop(run, records),
        usd=took.total.usd,
        prices=took.prices,
        expected=took.expected,
        stop=None if stop is None else stop.reason,
        stop_detail="" if stop is None else stop.detail,
    )


def _best(history: History, objective: Objective) -> Best | None:
    best = history.best
    if best is None or best.score is None:
        return None
    return Best(
        trial=best.id,
        value=objective.value(best.score),
        of=sum(t.score is not None for t in history.search()),
        changes=changes(history.space, history.space.defaults(), best.values),
        values=dict(best.values),
    )


def _counts(run: Run, history: History) -> Counts:
    trials, refusals = history.role("search"), history.refusals()
    kept = sum(t.kept for t in trials)
    failed = Counter[str](t.status for t in trials if t.score is None)
    tried = _tried(history, trials, refusals)
    return Counts(
        budget=run.evals,
        evaluations=len(trials),
        kept=kept,
        discarded=len(trials) - kept - failed.total(),
        failed=dict(failed),
        refused=_by_kind(r.reason for r in refusals),
        tried=tried,
        untouched=tuple(n for n in run.space.names if n not in {t.name for t in tried if t.trials}),
    )


def _tried(
    history: History, trials: Iterable[Trial], refusals: Iterable[Refusal]
) -> tuple[Tried, ...]:
    evaluated: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for trial in trials:
        start = started_from(history.trials, trial).values
        names = history.space.changed(start, trial.values)
        evaluated.update(names)
        kept.update(names if trial.kept else ())
    for refusal in refusals:
        if refusal.values is not None:
            start = start_values(history, refusal.move.parents, refusal.step)
            refused.update(history.space.changed(start, refusal.values))
    names = tuple(n for n in history.space.names if evaluated[n] or refused[n])
    rows = [Tried(n, evaluated[n], kept[n], refused[n]) for n in names]
    return tuple(sorted(rows, key=lambda t: (-t.trials, -t.refused)))


def _usage(history: History, calls: Sequence[Call]) -> Usage:
    repairs = [c for c in calls if c.purpose == "repair" and c.reply.answers]
    cuts = [c.cut for c in calls if c.cut and c.reply.answers]
    by_step: dict[int, float] = {}
    for call in calls:
        if call.level == "1":
            by_step[call.step] = by_step.get(call.step, 0.0) + call.reply.seconds
    final = [r.reason for r in history.refusals() if r.move.values is None]
    ran = [t.seconds for t in history.trials if t.status != "invalid"]
    return Usage(
        llm_calls=len(calls),
        repairs=len(repairs),
        rejected=_by_kind([*map(repair_reason, repairs), *final]),
        tokens_in=sum(c.reply.tokens_in for c in calls),
        tokens_out=sum(c.reply.tokens_out for c in calls),
        tokens_cached=sum(c.reply.tokens_cached for c in calls),
        llm_seconds=sum(c.reply.seconds for c in calls),
        seconds_per_proposal=statistics.median(by_step.values()) if by_step else None,
        jobs=len(ran),
        job_seconds=sum(ran),
        seconds_per_evaluation=statistics.median(ran) if ran else None,
        taken=dict(Counter(c.reply.taken for c in calls if c.reply.taken)),
        refused=sum(c.reply.finish == TOO_LONG for c in calls),
        cut=len(cuts),
        last_cut=cuts[-1] if cuts else "",
        unusable=sum(c.reply.finish == UNUSABLE for c in calls),
    )


def _by_kind(reasons: Iterable[str]) -> dict[str, int]:
    counted = Counter(map(refusal_kind, reasons))
    return {kind: counted[kind] for kind in REFUSAL_KINDS if counted[kind]}


def _stop(records: Sequence[Record]) -> Stop | None:
    """The stop that the log ends with; one before a resumption has passed."""
    for record in reversed(records):
        if isinstance(record, Stop):
            return record
        if isinstance(record, Proposal | Trial | Call):
            return None
    return None


def _ratio(gain: float | None, unit: float | None, times: float = 1.0) -> float | None:
    """None where there is nothing to divide, or by."""
    return None if gain is None or not unit else gain / abs(unit) * times
