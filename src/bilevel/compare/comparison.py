"""The figures of a comparison, worked out from the logs of its runs alone.

Gains are in the metric's own unit and positive when better. They are those that the searches saw,
on one seed each; the best of many noisy measurements flatters itself, equally for all.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bilevel.attribution import influence
from bilevel.describe import REFUSAL_KINDS, refusal_kind
from bilevel.history import History, seed_index
from bilevel.levels import sandboxes
from bilevel.model import Call, Fault, Layering, Objective, Record, Run, Trial
from bilevel.summary import summarise
from bilevel.tape.sharing import is_shared

REPEAT = REFUSAL_KINDS[0]


@dataclass(frozen=True)
class RunFigures:
    """One run. best: value of the metric, of `evaluations` proposals and the baseline.

    confirmed: mean gain on fresh seeds where it was measured, 0 when the baseline stayed best.
    curve: best value after each evaluation, the baseline first, shape (evals + 1,), flat after a
    run that stopped early. duplicates: replies and configurations refused for repeating others,
    mended ones included.
    asked, changed: decisions that layers were asked for, and changed. calls_shared: of the calls.
    faults: of layers, removed: layers that were taken out for theirs. Seconds as first measured.
    """

    run: str
    seed: int
    baseline: float
    best: float
    gain: float
    confirmed: float | None
    curve: tuple[float, ...]
    evaluations: int
    duplicates: int
    failed: int
    asked: int
    changed: int
    calls: int
    calls_shared: int
    tokens_in: int
    tokens_out: int
    llm_seconds: float
    job_seconds: float
    faults: int
    removed: tuple[str, ...]


@dataclass(frozen=True)
class Spread:
    """Values over seeds. sd: n - 1 in the denominator, None for one value."""

    n: int
    mean: float
    sd: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """A strategy's runs together; sums are over them, None where there is nothing to sum up.

    lines: of code of its mechanisms. record: the best value of all. reached: runs that reached the
    target, after `to_target` evaluations at the median of these. influence: share of decisions that
    its layers changed, over all hooks. problems: what went wrong, in words.
    """

    strategy: str
    lines: int
    n: int
    best: Spread | None
    record: float | None
    gain: Spread | None
    confirmed: Spread | None
    reached: int
    to_target: float | None
    evaluations: int
    duplicates: int
    failed: int
    influence: float | None
    calls: int
    calls_shared: int
    tokens_in: int
    tokens_out: int
    llm_seconds: float
    job_seconds: float
    problems: tuple[str, ...]
    runs: tuple[RunFigures, ...]


@dataclass(frozen=True)
class Standing:
    """A comparison as far as it went, the rows with the largest mean gain first.

    target: gain over a run's own baseline, or with target_value a value of the metric; None without
    any gain. evaluations_shared: outcomes that a run took over from another. sandboxes: how well
    code that is not ours was held, all levels that runs had.
    """

    objective: Objective
    target: float | None
    target_value: float | None
    rows: tuple[Row, ...]
    runs_wanted: int
    evaluations: int
    evaluations_shared: int
    calls: int
    calls_shared: int
    sandboxes: tuple[str, ...]


def run_figures(run: Run, records: Sequence[Record]) -> RunFigures | None:
    """The figures of a run, None when its baseline failed."""
    summary, history = summarise(run, records), History(run.space, records)
    counts, usage = summary.counts, summary.usage
    if summary.best is None or summary.baseline.value is None or summary.gain is None:
        return None
    own = [r.reason for r in history.refusals() if r.move.values is not None]
    acts = influence(records)
    names = {sha: name for name, _, sha in (entry.rpartition("@") for entry in run.stack)}
    return RunFigures(
        run=run.id,
        seed=run.seed,
        baseline=summary.baseline.value,
        best=summary.best.value,
        gain=summary.gain,
        confirmed=0.0 if run.confirms and not summary.best.changes else summary.confirmation.gain,
        curve=_curve(run, history),
        evaluations=counts.evaluations,
        duplicates=usage.rejected.get(REPEAT, 0) + [*map(refusal_kind, own)].count(REPEAT),
        failed=sum(counts.failed.values()),
        asked=sum(i.asked for i in acts),
        changed=sum(i.changed for i in acts),
        calls=usage.llm_calls,
        calls_shared=sum(is_shared(r) for r in records if isinstance(r, Call)),
        tokens_in=usage.tokens_in,
        tokens_out=usage.tokens_out,
        llm_seconds=usage.llm_seconds,
        job_seconds=usage.job_seconds,
        faults=sum(isinstance(r, Fault) for r in records),
        removed=tuple(
            f"{names.get(r.sha, r.sha[:8])} ({r.why})"
            for r in records
            if isinstance(r, Layering) and r.action == "remove"
        ),
    )


def _curve(run: Run, history: History) -> tuple[float, ...]:
    """Best value so far, of the trials on the search's common seed."""
    best, curve = -float("inf"), list[float]()
    for trial in history.search():
        if trial.score is not None and seed_index(trial) == 0:
            best = max(best, trial.score)
        curve.append(run.objective.value(best))
    return (*curve, *[curve[-1]] * (run.evals + 1 - len(curve)))


def standing(
    objective: Objective,
    logs: Mapping[str, Sequence[tuple[Run, Sequence[Record]]]],
    problems: Mapping[str, Sequence[str]],
    lines: Mapping[str, int],
    wanted: int,
    target_value: float | None = None,
    shares: bool = True,
) -> Standing:
    """The figures of all strategies, from the logs of the runs that ended.

    logs, problems, lines: by strategy. wanted: runs that make the comparison whole. target_value:
    of the metric; without one the target is half of the largest mean gain of a strategy. shares:
    whether the runs took over each other's outcomes.
    """
    figures = {s: [f for r, log in runs if (f := run_figures(r, log))] for s, runs in logs.items()}
    gains = [statistics.fmean(f.gain for f in found) for found in figures.values() if found]
    half = max(gains, default=0.0) / 2
    target = half if target_value is None and half > 0 else None

    def reach(figures: RunFigures) -> int | None:
        return evaluations_to(figures, objective, target, target_value)

    rows = [
        _row(s, found, objective, reach, problems.get(s, ()), lines[s])
        for s, found in figures.items()
    ]
    rows.sort(key=lambda r: (r.gain is None, -r.gain.mean if r.gain else 0.0))
    trials = _evaluated([entry for runs in logs.values() for entry in runs])
    return Standing(
        objective=objective,
        target=target,
        target_value=target_value,
        rows=tuple(rows),
        runs_wanted=wanted,
        evaluations=len(trials),
        evaluations_shared=len(trials) - len(set(trials)) if shares else 0,
        calls=sum(r.calls for r in rows),
        calls_shared=sum(r.calls_shared for r in rows),
        sandboxes=tuple(sorted({s for runs in logs.values() for r in runs for s in sandboxes(*r)})),
    )


def evaluations_to(
    figures: RunFigures, objective: Objective, gain: float | None, value: float | None
) -> int | None:
    """Evaluations until a run had this gain over its baseline, or this value; None if it never did.

    The baseline is evaluation 0.
    """
    if value is None and gain is None:
        return None
    base = objective.score(figures.baseline)
    wanted = objective.score(value) if value is not None else base + (gain or 0.0)
    scores = [objective.score(v) for v in figures.curve]
    return next((i for i, score in enumerate(scores) if score >= wanted), None)


def _row(
    strategy: str,
    runs: Sequence[RunFigures],
    objective: Objective,
    reach: Callable[[RunFigures], int | None],
    problems: Iterable[str],
    lines: int,
) -> Row:
    reached = [n for f in runs if (n := reach(f)) is not None]
    asked = sum(f.asked for f in runs)
    faults, removed = sum(f.faults for f in runs), sum(bool(f.removed) for f in runs)
    words = [*problems]
    if faults:
        which = ", ".join(dict.fromkeys(w for f in runs for w in f.removed))
        out = f", and was taken out of {removed} of {len(runs)} runs: {which}" if removed else ""
        words.append(f"its code failed {faults} times{out}")
    return Row(
        strategy=strategy,
        lines=lines,
        n=len(runs),
        best=_spread([f.best for f in runs]),
        record=max((f.best for f in runs), key=objective.score, default=None),
        gain=_spread([f.gain for f in runs]),
        confirmed=_spread([f.confirmed for f in runs if f.confirmed is not None]),
        reached=len(reached),
        to_target=statistics.median(reached) if reached else None,
        evaluations=sum(f.evaluations for f in runs),
        duplicates=sum(f.duplicates for f in runs),
        failed=sum(f.failed for f in runs),
        influence=sum(f.changed for f in runs) / asked if asked else None,
        calls=sum(f.calls for f in runs),
        calls_shared=sum(f.calls_shared for f in runs),
        tokens_in=sum(f.tokens_in for f in runs),
        tokens_out=sum(f.tokens_out for f in runs),
        llm_seconds=sum(f.llm_seconds for f in runs),
        job_seconds=sum(f.job_seconds for f in runs),
        problems=tuple(words),
        runs=tuple(runs),
    )


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Spread(len(values), statistics.fmean(values), sd, min(values), max(values))


def _evaluated(logs: Iterable[tuple[Run, Sequence[Record]]]) -> list[tuple[object, ...]]:
    """What tells evaluations apart; that of a run which took one over is equal to the first.

    Its seconds are, to the last digit. What was refused without an evaluation took none.
    """
    return [
        (run.space.key(t.values), t.seed, t.status, t.score, t.seconds)
        for run, log in logs
        for t in log
        if isinstance(t, Trial) and t.seconds
    ]
