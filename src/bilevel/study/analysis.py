"""A study worked out task by task: its arms, paired differences, comparisons at equal cost.

Gains are over a run's own baseline, in the metric's unit, and positive when better. A pair needs
both of its runs.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bilevel.study.arm_results import (
    CURRENCIES,
    ArmResult,
    Currency,
    Figure,
    arm_result,
    figures,
    gain_at,
    median,
    spent,
)
from bilevel.study.data import AnalysisPlan, StudyData
from bilevel.study.power import Aim, Power, power
from bilevel.study.statistics import (
    ALPHA,
    ENOUGH,
    Chance,
    Difference,
    Resampling,
    chance,
    difference,
    holm,
)

# What a comparison is of, in words.
FIGURES: dict[Figure, str] = {
    "gain": "gain of the search",
    "reevaluated": "gain of the winner on fresh seeds",
    "value": "best value",
}
Answer = Literal["better", "worse", "undecided"]


@dataclass(frozen=True)
class Comparison:
    """An arm against another, repeat by repeat. figure: what is compared. differences: by repeat.

    p: after Holm's correction over the comparisons of one table. chance: that a run of the arm is
    better than one of the other, over all runs of both.
    """

    arm: str
    against: str
    figure: Figure
    differences: Mapping[int, float]
    difference: Difference
    p: float
    chance: Chance | None
    power: Power | None
    answer: Answer


@dataclass(frozen=True)
class TaskResult:
    """All that is worked out about one task.

    target: value of the metric that "evaluations to target" asks for; None stands for a gain of
    `target_gain`, or for no target where that is None too. strongest: of the controls, by the
    largest mean over `common`, the repeats that all of them with any done run have; None without
    one. uneven: whether runs of one repeat began at different baselines. against_strongest: arms
    that are no controls; where all are, all. fresh, search: against the reference by the measure
    that the plan does not name. at_cost: each pair at what its cheaper run had spent by its last
    score; at_cost_controls: the same of arms that are no controls, against each control.
    """

    task: str
    metric: str
    direction: str
    noise: float | None
    target: float | None
    target_gain: float | None
    arms: tuple[ArmResult, ...]
    reference: str
    strongest: str | None
    common: tuple[int, ...]
    uneven: bool
    against_reference: tuple[Comparison, ...]
    against_strongest: tuple[Comparison, ...]
    fresh: tuple[Comparison, ...]
    search: tuple[Comparison, ...]
    by_value: tuple[Comparison, ...]
    at_cost: Mapping[Currency, tuple[Comparison, ...]]
    at_cost_controls: Mapping[Currency, tuple[Comparison, ...]]


def plan_of(data: StudyData) -> AnalysisPlan:
    """The plan of the study; where none was written, the first arm is what others compare with."""
    return data.plan or AnalysisPlan(reference=data.arms[0], controls=())


def analyse(data: StudyData) -> tuple[TaskResult, ...]:
    """Every task of the study, in its order."""
    return tuple(_task(data.of(task)) for task in data.tasks)


def _task(data: StudyData) -> TaskResult:
    plan = plan_of(data)
    resampling = Resampling(plan.resamples, plan.seed)
    target = plan.targets.get(data.tasks[0])
    half = None if target is not None else _half(data)
    main: Figure = "reevaluated" if plan.measure == "reevaluated" else "gain"
    strongest, common = _strongest(data, plan.controls, main)
    # Rows of controls would cost the others power, and repeat how the strongest was chosen.
    others = [a for a in data.arms if a not in plan.controls] or data.arms
    uneven = _uneven(data)

    def table(figure: Figure, against: str | None, arms: Sequence[str]) -> tuple[Comparison, ...]:
        return compare(data, figure, against, arms, resampling)

    def costly(currency: Currency, against: str, arms: Sequence[str]) -> tuple[Comparison, ...]:
        return _at_cost(data, against, arms, currency, resampling)

    def controlled(currency: Currency) -> tuple[Comparison, ...]:
        arms = [a for a in data.arms if a not in (*plan.controls, plan.reference)]
        against = [c for c in plan.controls if c != plan.reference]
        rows = (row for control in against for row in costly(currency, control, arms))
        return _together(rows, resampling)

    return TaskResult(
        task=data.tasks[0],
        metric=data.metric,
        direction=data.direction,
        noise=median(r.noise for r in data.runs if r.noise is not None),
        target=target,
        target_gain=half,
        arms=tuple(arm_result(data, arm, target, half, resampling) for arm in data.arms),
        reference=plan.reference,
        strongest=strongest,
        common=common,
        uneven=uneven,
        against_reference=table(main, plan.reference, data.arms),
        against_strongest=table(main, strongest, others) if strongest != plan.reference else (),
        fresh=table("reevaluated", plan.reference, data.arms) if main == "gain" else (),
        search=table("gain", plan.reference, data.arms) if main != "gain" else (),
        by_value=table("value", plan.reference, data.arms) if uneven else (),
        at_cost={c: costly(c, plan.reference, data.arms) for c in CURRENCIES},
        at_cost_controls={c: controlled(c) for c in CURRENCIES},
    )


def compare(
    data: StudyData,
    figure: Figure,
    against: str | None,
    arms: Iterable[str],
    resampling: Resampling,
) -> tuple[Comparison, ...]:
    """Each arm that has pairs with `against`, in the order given; Holm's correction over them."""
    if against is None:
        return ()
    theirs = figures(data, against, figure)
    rows = [(a, figures(data, a, figure), theirs) for a in arms if a != against]
    return _compared(against, [r for r in rows if r[1].keys() & r[2].keys()], figure, resampling)


def _compared(
    against: str,
    rows: Sequence[tuple[str, Mapping[int, float], Mapping[int, float]]],
    figure: Figure,
    resampling: Resampling,
) -> tuple[Comparison, ...]:
    pairs = [{i: ours[i] - theirs[i] for i in ours if i in theirs} for _, ours, theirs in rows]
    found = [difference([*p.values()], resampling=resampling) for p in pairs]
    tested = [d for d in found if d is not None]
    corrected = holm([d.p for d in tested])
    return tuple(
        Comparison(
            arm=arm,
            against=against,
            figure=figure,
            differences=differences,
            difference=one,
            p=p,
            chance=chance(ours, theirs, resampling),
            power=power([Aim(one)], ALPHA / len(rows), resampling=resampling),
            answer=answer(one, p),
        )
        for (arm, ours, theirs), differences, one, p in zip(
            rows, pairs, tested, corrected, strict=True
        )
    )


def answer(found: Difference, p: float) -> Answer:
    """In one word, by the rule that the report prints: enough pairs, interval beyond 0, p small."""
    interval = found.spread.bootstrap
    if found.spread.n < ENOUGH or interval is None or p >= ALPHA:
        return "undecided"
    return "better" if interval.low > 0 else "worse" if interval.high < 0 else "undecided"


def _at_cost(
    data: StudyData, against: str, arms: Sequence[str], currency: Currency, resampling: Resampling
) -> tuple[Comparison, ...]:
    """Both runs of a pair stopped when they had spent what the cheaper one had by its last score.

    Without P(better): it crosses repeats, and each pair is stopped at a cost of its own.
    """
    theirs = {r.repeat: r for r in data.done(against) if spent(r, currency)}
    rows = []
    for arm in arms:
        runs = sorted(data.done(arm), key=lambda r: r.repeat)
        both = [(r, theirs[r.repeat]) for r in runs if r.repeat in theirs]
        pairs = [(a, b) for a, b in both if arm != against and spent(a, currency)]
        caps = {a.repeat: min(spent(a, currency)[-1], spent(b, currency)[-1]) for a, b in pairs}
        ours = {a.repeat: gain_at(data, a, currency, caps[a.repeat]) for a, _ in pairs}
        if pairs:
            other = {b.repeat: gain_at(data, b, currency, caps[b.repeat]) for _, b in pairs}
            rows.append((arm, ours, other))
    found = _compared(against, rows, "gain", resampling)
    return tuple(replace(row, chance=None) for row in found)


def _together(rows: Iterable[Comparison], resampling: Resampling) -> tuple[Comparison, ...]:
    """Rows against several arms as one table, so corrected over all of them."""
    rows = tuple(rows)
    corrected = holm([row.difference.p for row in rows])
    return tuple(
        replace(
            row,
            p=p,
            power=power([Aim(row.difference)], ALPHA / len(rows), resampling=resampling),
            answer=answer(row.difference, p),
        )
        for row, p in zip(rows, corrected, strict=True)
    )


def _strongest(
    data: StudyData, controls: Iterable[str], figure: Figure
) -> tuple[str | None, tuple[int, ...]]:
    """The control with the largest mean over repeats that all have, the first of equal ones.

    With these repeats; a control without any done run is left out.
    """
    every = {c: figures(data, c, figure) for c in controls if c in data.arms}
    found = {c: by_repeat for c, by_repeat in every.items() if by_repeat}
    if not found:
        return None, ()
    common = sorted(set.intersection(*(set(by_repeat) for by_repeat in found.values())))
    if not common:
        return None, ()
    strongest = max(found, key=lambda c: statistics.fmean(found[c][i] for i in common))
    return strongest, tuple(common)


def _half(data: StudyData) -> float | None:
    """Half of the largest mean gain of an arm; None while there is no gain."""
    gains = [[*figures(data, arm, "gain").values()] for arm in data.arms]
    largest = max((statistics.fmean(g) for g in gains if g), default=0.0)
    return largest / 2 if largest > 0 else None


def _uneven(data: StudyData) -> bool:
    baselines: dict[int, set[float]] = {}
    for run in data.runs:
        if run.baseline is not None:
            baselines.setdefault(run.repeat, set()).add(run.baseline)
    return any(len(found) > 1 for found in baselines.values())
