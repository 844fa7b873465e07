"""What a study says of each arm on one task: what its runs found, what they cost, their habits.

Gains are over a run's own baseline, in the metric's unit, and positive when better. Runs that are
not done count nowhere but in `planned` and `problems`.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from bilevel.study.data import Fresh, StudyData, StudyRun
from bilevel.study.statistics import Resampling, Spread, spread

Figure = Literal["gain", "reevaluated", "value"]
Currency = Literal["tokens", "seconds", "usd"]
CURRENCIES: tuple[Currency, ...] = get_args(Currency)
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Cost:
    """Sums over an arm's runs, None where a run does not tell.

    evaluations: of proposals, of the defaults and on fresh seeds; evaluations_shared: of these.
    """

    tokens: int | None
    seconds_llm: float | None
    seconds_jobs: float | None
    usd: float | None
    llm_calls: int | None
    llm_calls_shared: int
    evaluations: int
    evaluations_shared: int


@dataclass(frozen=True)
class Habits:
    """What an arm's proposals were like, summed over runs.

    parameters: how many a run touched, mean over runs; touched: in how many runs each was, by name.
    """

    duplicates: int
    failed: int
    parameters: float
    touched: Mapping[str, int]
    steerings: int
    sessions: int


@dataclass(frozen=True)
class ArmResult:
    """An arm on one task. planned: runs that the study asks for; n of them are done.

    again: runs whose winner was to be measured on fresh seeds, whether or not that gave a value;
    confirmed: those of them whose winner is better there than the defaults, None where again is 0.
    fresh: sums over these runs.

    value: best of each run, as the metric has it. gain: of it; reevaluated: gain on fresh seeds.
    anytime: mean gain over the evaluations. reached: runs that reached the target, to_target:
    median of the evaluations it took, the others counted as later than all; None if it is one of
    those. curve: mean best value after each evaluation, the baseline first.
    """

    arm: str
    about: str
    planned: int
    n: int
    value: Spread | None
    record: float | None
    gain: Spread | None
    reevaluated: Spread | None
    again: int
    confirmed: int | None
    fresh: Fresh
    anytime: float | None
    reached: int
    to_target: float | None
    curve: tuple[float, ...]
    cost: Cost
    habits: Habits
    problems: tuple[str, ...]


def arm_result(
    data: StudyData, arm: str, target: float | None, half: float | None, resampling: Resampling
) -> ArmResult:
    """What an arm's done runs say. target: of the metric; half: a gain, where no target is set."""
    planned = sorted((r for r in data.runs if r.arm == arm), key=lambda r: r.repeat)
    runs = [r for r in planned if r.status == "done"]
    gains, values = figures(data, arm, "gain"), [r.best for r in runs if r.best is not None]
    again = [r for r in runs if r.reevaluated is not None or r.fresh.wanted]
    curves = [data.curve(r) for r in runs]
    reached = [_evaluations_to(data, r, target, half) for r in runs]
    better = min if data.direction == "min" else max
    middle = median(math.inf if n is None else n for n in reached)
    return ArmResult(
        arm=arm,
        about=data.about.get(arm, ""),
        planned=len(planned),
        n=len(runs),
        value=spread(values, resampling),
        record=better(values) if values else None,
        gain=spread([*gains.values()], resampling),
        reevaluated=spread([*figures(data, arm, "reevaluated").values()], resampling),
        again=len(again),
        confirmed=sum(r.verdict == "confirmed" for r in again) if again else None,
        fresh=_fresh(again),
        anytime=_anytime(data, runs),
        reached=sum(n is not None for n in reached),
        to_target=None if middle is None or math.isinf(middle) else middle,
        curve=tuple(statistics.fmean(at) for at in zip(*curves, strict=True)),
        cost=_cost(runs),
        habits=_habits(runs),
        problems=tuple(f"repeat {r.repeat}: {r.problem}" for r in planned if r.problem),
    )


def _evaluations_to(
    data: StudyData, run: StudyRun, target: float | None, gain: float | None
) -> int | None:
    """Evaluations until a run had this value, or this gain; None if it never did."""
    if run.baseline is None or (target is None and gain is None):
        return None
    sign = -1.0 if data.direction == "min" else 1.0
    wanted = sign * target if target is not None else sign * run.baseline + (gain or 0.0)
    curve = data.curve(run)[: len(run.scores) + 1]
    return next((i for i, value in enumerate(curve) if sign * value >= wanted), None)


def _fresh(runs: Sequence[StudyRun]) -> Fresh:
    return Fresh(
        wanted=sum(r.fresh.wanted for r in runs),
        failed=sum(r.fresh.failed for r in runs),
        unpaired=sum(r.fresh.unpaired for r in runs),
        unmade=sum(r.fresh.unmade for r in runs),
    )


def _anytime(data: StudyData, runs: Sequence[StudyRun]) -> float | None:
    gains = [data.gain(r, v) for r in runs for v in data.curve(r)[1:]]
    known = [g for g in gains if g is not None]
    return statistics.fmean(known) if known else None


def _cost(runs: Sequence[StudyRun]) -> Cost:
    return Cost(
        tokens=_sum([r.tokens for r in runs]),
        seconds_llm=_sum([r.seconds_llm for r in runs]),
        seconds_jobs=_sum([r.seconds_jobs for r in runs]),
        usd=_sum([r.usd for r in runs]),
        llm_calls=_sum([r.llm_calls for r in runs]),
        llm_calls_shared=sum(r.llm_calls_shared for r in runs),
        evaluations=sum(r.evaluations for r in runs),
        evaluations_shared=sum(r.evaluations_shared for r in runs),
    )


def _habits(runs: Sequence[StudyRun]) -> Habits:
    touched = Counter(name for r in runs for name in r.parameters_touched)
    often = sorted(touched.items(), key=lambda item: (-item[1], item[0]))
    return Habits(
        duplicates=sum(r.duplicates for r in runs),
        failed=sum(r.failed for r in runs),
        parameters=touched.total() / len(runs) if runs else 0.0,
        touched=dict(often),
        steerings=sum(r.steerings for r in runs),
        sessions=sum(r.sessions for r in runs),
    )


def figures(data: StudyData, arm: str, figure: Figure) -> dict[int, float]:
    """One number for each done run of an arm that has it, by repeat; higher is better."""
    runs = sorted(data.done(arm), key=lambda r: r.repeat)
    found = {r.repeat: _figure(data, r, figure) for r in runs}
    return {repeat: value for repeat, value in found.items() if value is not None}


def _figure(data: StudyData, run: StudyRun, figure: Figure) -> float | None:
    if figure == "gain":
        return data.gain(run, run.best)
    sign = -1.0 if data.direction == "min" else 1.0
    if figure == "value":
        return None if run.best is None else sign * run.best
    if run.reevaluated is None or run.reevaluated_baseline is None:
        return None
    return sign * (run.reevaluated - run.reevaluated_baseline)


def spent(run: StudyRun, currency: Currency) -> Sequence[float]:
    """What a run had spent when each score was known; empty where it does not tell, or nothing."""
    spendings: Mapping[Currency, Sequence[float]] = {
        "tokens": run.tokens_at,
        "seconds": run.seconds_at,
        "usd": run.usd_at,
    }
    at = spendings[currency]
    return at if at and at[-1] > 0 else ()


def gain_at(data: StudyData, run: StudyRun, currency: Currency, budget: float) -> float:
    """Gain of the best that the run knew when it had spent `budget`, 0 before its first score."""
    known = bisect_right(spent(run, currency), budget)
    found = data.gain(run, data.curve(run)[known])
    assert found is not None, "a run that is done has a baseline"
    return found


def median(values: Iterable[float]) -> float | None:
    """None without a value."""
    found = list(values)
    return statistics.median(found) if found else None


def _sum(values: Sequence[Number | None]) -> Number | None:
    """None without a value, and where one is not known."""
    known = [v for v in values if v is not None]
    return sum(known[1:], known[0]) if known and len(known) == len(values) else None
