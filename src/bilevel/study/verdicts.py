"""The hypotheses of a study, answered by the rules that were written before its first run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bilevel.study.analysis import plan_of
from bilevel.study.arm_results import Figure, figures
from bilevel.study.data import Hypothesis, StudyData
from bilevel.study.power import Power, power
from bilevel.study.statistics import Difference, Resampling, difference, holm

Verdict = Literal["supported", "not supported", "undecided"]


@dataclass(frozen=True)
class Contest:
    """One control on one task, against which a hypothesis was tried.

    difference: None without a pair. p: that the difference equals the margin, after Holm's
    correction over all of the study's hypotheses. ratio: of the mean gains over the same repeats,
    None where the control has none. power: repeats that would settle it, None where it is settled.
    """

    task: str
    control: str
    pairs: int
    difference: Difference | None
    p: float
    ratio: float | None
    verdict: Verdict
    why: str
    power: Power | None


@dataclass(frozen=True)
class Answer:
    """A hypothesis and what came of it: supported by all contests, refuted by any, or neither."""

    hypothesis: Hypothesis
    verdict: Verdict
    contests: tuple[Contest, ...]


@dataclass(frozen=True)
class _Question:
    hypothesis: Hypothesis
    task: str
    control: str
    ours: Mapping[int, float]
    theirs: Mapping[int, float]
    difference: Difference | None


def answers(data: StudyData) -> tuple[Answer, ...]:
    """Every hypothesis of the study, in its order.

    A test without any pair counts as p = 1, so that the correction is the same however far the
    study has gone.
    """
    rules = data.hypotheses
    asked = [_question(data, h, t, c) for h in rules for t in h.tasks for c in h.controls]
    corrected = holm([1.0 if q.difference is None else q.difference.p for q in asked])
    held = [_contest(q, p, len(asked)) for q, p in zip(asked, corrected, strict=True)]
    pairs = [(q.hypothesis, c) for q, c in zip(asked, held, strict=True)]
    return tuple(_answer(h, tuple(c for of, c in pairs if of == h)) for h in rules)


def _question(data: StudyData, hypothesis: Hypothesis, task: str, control: str) -> _Question:
    figure: Figure = "reevaluated" if hypothesis.measure == "reevaluated" else "gain"
    part, plan = data.of(task), plan_of(data)
    ours, theirs = figures(part, hypothesis.arm, figure), figures(part, control, figure)
    shared = [repeat for repeat in ours if repeat in theirs]
    found = difference(
        [ours[i] - theirs[i] for i in shared],
        hypothesis.margin,
        Resampling(plan.resamples, plan.seed),
    )
    return _Question(
        hypothesis,
        task,
        control,
        {i: ours[i] for i in shared},
        {i: theirs[i] for i in shared},
        found,
    )


def _contest(question: _Question, p: float, tests: int) -> Contest:
    rule, found = question.hypothesis, question.difference
    ratio = _ratio(question)
    verdict, why = decide(rule, found, p, ratio)
    open_power = None
    if verdict == "undecided" and found is not None:
        open_power = power(found, rule.margin, tests, rule.least_repeats)
    return Contest(
        task=question.task,
        control=question.control,
        pairs=len(question.ours),
        difference=found,
        p=p,
        ratio=ratio,
        verdict=verdict,
        why=why,
        power=open_power,
    )


def decide(
    rule: Hypothesis, found: Difference | None, p: float, ratio: float | None
) -> tuple[Verdict, str]:
    """What the rule says of one difference, and which part of it decided. p: corrected."""
    if found is None or found.spread.n < rule.least_repeats:
        n = 0 if found is None else found.spread.n
        return "undecided", f"{n} of the {rule.least_repeats} pairs that the rule asks for"
    interval = found.spread.bootstrap
    if interval is None:
        return "undecided", "one pair has no interval"
    if interval.high < rule.margin:
        return "not supported", "the whole interval lies below the margin"
    if interval.high < rule.worthwhile:
        return "not supported", "the whole interval lies below what would matter"
    if interval.low <= rule.margin:
        return "undecided", "the interval holds the margin"
    if p >= rule.alpha:
        return "undecided", f"p is not below {rule.alpha:g}"
    if rule.ratio is not None and (ratio is None or ratio < rule.ratio):
        return "undecided", f"the gain is not {rule.ratio:g} times that of the control"
    return "supported", "the interval lies beyond the margin"


def _ratio(question: _Question) -> float | None:
    if not question.ours:
        return None
    theirs = statistics.fmean(question.theirs.values())
    return statistics.fmean(question.ours.values()) / theirs if theirs > 0 else None


def _answer(hypothesis: Hypothesis, contests: tuple[Contest, ...]) -> Answer:
    found = {c.verdict for c in contests}
    if "not supported" in found:
        return Answer(hypothesis, "not supported", contests)
    return Answer(hypothesis, "supported" if found == {"supported"} else "undecided", contests)
