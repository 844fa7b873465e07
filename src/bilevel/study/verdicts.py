"""The hypotheses of a study, answered by the rules that were written before its first run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from bilevel.noise import FEWEST
from bilevel.study.analysis import plan_of
from bilevel.study.arm_results import Figure, figures
from bilevel.study.data import Hypothesis, StudyData
from bilevel.study.power import Aim, Power, power
from bilevel.study.statistics import LEVEL, Difference, Interval, Resampling, difference, holm

Verdict = Literal["supported", "not supported", "undecided"]


@dataclass(frozen=True)
class Trial:
    """A mean over pairs that a rule asks about: of the differences, or of a contrast with a ratio.

    of: the contrast in words, "" for the differences. difference: None without a pair. margin: what
    it must lie beyond; bar: what it is refuted below. p, p_below: that it equals margin, bar, each
    after Holm's correction over all trials of the study's hypotheses.
    """

    of: str
    difference: Difference | None
    margin: float
    bar: float
    p: float
    p_below: float


@dataclass(frozen=True)
class Contest:
    """One control on one task, against which a hypothesis was tried.

    trials: the differences, and where the rule has a ratio the arm's gain less that many times the
    control's. ratio: of the mean gains over the same repeats, None where the control has none.
    power: repeats that would settle it, None where it is settled or not known.
    """

    task: str
    control: str
    pairs: int
    trials: tuple[Trial, ...]
    ratio: float | None
    verdict: Verdict
    why: str
    power: Power | None

    @property
    def difference(self) -> Difference | None:
        """None without a pair."""
        return self.trials[0].difference

    @property
    def p(self) -> float:
        """Of the differences, against the margin, corrected."""
        return self.trials[0].p

    @property
    def p_below(self) -> float:
        """The same against what would matter."""
        return self.trials[0].p_below


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
    trials: tuple[Trial, ...]


def answers(data: StudyData) -> tuple[Answer, ...]:
    """Every hypothesis of the study, in its order.

    A trial without any pair counts as p = 1, so that the correction is the same however far the
    study has gone.
    """
    rules = data.hypotheses
    asked = [_question(data, h, t, c) for h in rules for t in h.tasks for c in h.controls]
    asked = _corrected(asked)
    tests = sum(len(q.trials) for q in asked)
    plan = plan_of(data)
    resampling = Resampling(plan.resamples, plan.seed)
    pairs = [(q.hypothesis, _contest(q, tests, resampling)) for q in asked]
    return tuple(_answer(h, tuple(c for of, c in pairs if of == h)) for h in rules)


def _question(data: StudyData, hypothesis: Hypothesis, task: str, control: str) -> _Question:
    figure: Figure = "reevaluated" if hypothesis.measure == "reevaluated" else "gain"
    part, plan = data.of(task), plan_of(data)
    ours, theirs = figures(part, hypothesis.arm, figure), figures(part, control, figure)
    shared = [repeat for repeat in ours if repeat in theirs]
    ours, theirs = {i: ours[i] for i in shared}, {i: theirs[i] for i in shared}
    resampling = Resampling(plan.resamples, plan.seed)
    trials = _trials(hypothesis, ours, theirs, resampling)
    return _Question(hypothesis, task, control, ours, theirs, trials)


def _trials(
    rule: Hypothesis,
    ours: Mapping[int, float],
    theirs: Mapping[int, float],
    resampling: Resampling,
) -> tuple[Trial, ...]:
    """What the rule asks about, p not corrected yet.

    A ratio is tried as a linear contrast (Fieller 1954): its mean lies beyond 0 where the ratio of
    the means is larger, and it has an interval also where the control's mean is near 0 or negative.
    """

    def trial(of: str, times: float, margin: float, bar: float) -> Trial:
        gaps = [ours[i] - times * theirs[i] for i in ours]
        found, below = (difference(gaps, against, resampling) for against in (margin, bar))
        p, p_below = (1.0 if d is None else d.p for d in (found, below))
        return Trial(of, found, margin, bar, p, p_below)

    plain = trial("", 1.0, rule.margin, max(rule.margin, rule.worthwhile))
    if rule.ratio is None:
        return (plain,)
    return plain, trial(f"the gain less {rule.ratio:g} times the control's", rule.ratio, 0.0, 0.0)


def _corrected(asked: Sequence[_Question]) -> list[_Question]:
    trials = [t for q in asked for t in q.trials]
    both = zip(holm([t.p for t in trials]), holm([t.p_below for t in trials]), strict=True)
    new = iter([replace(t, p=p, p_below=b) for t, (p, b) in zip(trials, both, strict=True)])
    return [replace(q, trials=tuple(islice(new, len(q.trials)))) for q in asked]


def _contest(question: _Question, tests: int, resampling: Resampling) -> Contest:
    rule, ratio = question.hypothesis, _ratio(question)
    verdict, why = decide(rule, question.trials)
    enough = len(question.ours) >= rule.least_repeats
    if rule.ratio is not None and ratio is None and enough:
        why += "; the control's mean gain is not positive, so that a ratio is not defined: "
        why += f"{question.trials[1].of} decides"
    left_open = verdict == "undecided" and question.ours
    return Contest(
        task=question.task,
        control=question.control,
        pairs=len(question.ours),
        trials=question.trials,
        ratio=ratio,
        verdict=verdict,
        why=why,
        power=_power(question, tests, resampling) if left_open else None,
    )


def _power(question: _Question, tests: int, resampling: Resampling) -> Power | None:
    """What would settle a contest, at the level of its rule, which asks for an interval as well."""
    rule, trials = question.hypothesis, question.trials
    aims = [Aim(t.difference, t.margin, t.bar) for t in trials if t.difference is not None]
    level = min(rule.alpha / tests, 1 - LEVEL)
    return power(aims, level, rule.least_repeats, resampling)


def decide(rule: Hypothesis, trials: Sequence[Trial]) -> tuple[Verdict, str]:
    """What the rule says of one control on one task, and which part of it decided."""
    found = trials[0].difference
    if found is None or found.spread.n < rule.least_repeats:
        n = 0 if found is None else found.spread.n
        return "undecided", f"{n} of the {rule.least_repeats} pairs that the rule asks for"
    if found.spread.bootstrap is None:
        return "undecided", f"fewer than {FEWEST} pairs have no interval"
    for trial in trials:
        if (reason := _below(trial)) and trial.p_below < rule.alpha:
            return "not supported", reason
    for trial in trials:
        if reason := _left_open(trial, rule.alpha):
            return "undecided", reason
    rest = f", and that of {trials[1].of} beyond 0" if rule.ratio is not None else ""
    return "supported", f"the interval lies beyond the margin{rest}"


def _below(trial: Trial) -> str:
    """Below what the whole interval lies; "" where it does not lie below the bar."""
    interval = _interval(trial)
    of = f" of {trial.of}" if trial.of else ""
    if interval.high < trial.margin:
        return f"the whole interval{of} lies below {_margin(trial)}"
    return "the whole interval lies below what would matter" if interval.high < trial.bar else ""


def _left_open(trial: Trial, alpha: float) -> str:
    """Why a trial does not support a hypothesis that it does not refute; "" where it does."""
    of = f" of {trial.of}" if trial.of else ""
    if below := _below(trial):
        return f"{below}, but p is not below {alpha:g}"
    if _interval(trial).low <= trial.margin:
        return f"the interval{of} holds {_margin(trial)}"
    return f"p{of} is not below {alpha:g}" if trial.p >= alpha else ""


def _interval(trial: Trial) -> Interval:
    assert trial.difference is not None, "there are pairs"
    assert trial.difference.spread.bootstrap is not None, "there are pairs enough"
    return trial.difference.spread.bootstrap


def _margin(trial: Trial) -> str:
    return "0" if trial.of else "the margin"


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
