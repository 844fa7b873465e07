"""Numbers of a study as texts, and the sentences that they make by rule."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bilevel.describe import one_line
from bilevel.noise import FEWEST
from bilevel.study.analysis import Comparison, TaskResult, plan_of
from bilevel.study.arm_results import ArmResult
from bilevel.study.data import Hypothesis, StudyData
from bilevel.study.power import MOST_REPEATS, Power
from bilevel.study.statistics import ALPHA, ENOUGH, Interval, Spread
from bilevel.study.verdicts import Answer, Contest

NOTHING = "-"
MOST_PLACES = 8


@dataclass(frozen=True)
class Numbers:
    """Values of one task as texts, all with as many decimals."""

    places: int

    def value(self, value: float | None) -> str:
        """A dash for none; never -0."""
        if value is None:
            return NOTHING
        text = f"{value:.{self.places}f}"
        return text.removeprefix("-") if not float(text) else text

    def signed(self, value: float | None) -> str:
        """With its sign, for differences."""
        text = self.value(value)
        return f"+{text}" if value is not None and float(text) > 0 else text

    def interval(self, found: Interval | None) -> str:
        """`-0.010 to 0.030`."""
        return NOTHING if found is None else f"{self.value(found.low)} to {self.value(found.high)}"


def numbers(spreads: Iterable[Spread | None]) -> Numbers:
    """Decimals that show three digits of the usual sd, of the usual mean where there is no sd."""
    found = [s for s in spreads if s is not None]
    scales = [s.sd for s in found if s.sd] or [abs(s.mean) for s in found if s.mean]
    if not scales:
        return Numbers(4)
    size = math.floor(math.log10(statistics.median(scales)))
    return Numbers(min(MOST_PLACES, max(0, 2 - size)))


def chance_text(p: float) -> str:
    """A probability in three digits; a tiny one as `under 0.0001`."""
    return "under 0.0001" if p < 1e-4 else f"{p:.3g}"


def repeats_text(power: Power | None) -> str:
    """`12 (40)`: repeats that would settle it, and with a cautious sd."""
    if power is None:
        return NOTHING
    return f"{_many(power.repeats)} ({_many(power.cautious)})"


def _many(repeats: int | None) -> str:
    return f"over {MOST_REPEATS}" if repeats is None else str(repeats)


def verdict_sentence(answer: Answer) -> str:
    """`H1 (Level 2 helps): undecided; against A on gpt, sham on gpt: 3 of the 10 pairs ...`."""
    rule, reasons = answer.hypothesis, dict[str, list[str]]()
    for contest in answer.contests:
        if contest.verdict == answer.verdict:
            where = f"{one_line(contest.control)} on {one_line(contest.task)}"
            reasons.setdefault(contest.why, []).append(where)
    because = "; ".join(f"against {', '.join(where)}: {why}" for why, where in reasons.items())
    said = f"{one_line(rule.name)} ({one_line(rule.claim)}): {answer.verdict}; {because}"
    return f"{said}{_settled(answer)}."


def _settled(answer: Answer) -> str:
    """How many repeats would settle a hypothesis's open questions, or that this is not known."""
    left = [c for c in answer.contests if c.verdict == "undecided"]
    if answer.verdict != "undecided":
        return ""
    powers = [c.power for c in left if c.power is not None]
    if len(powers) < len(left):
        return _unknown(left)
    most = [
        max(p.repeats or MOST_REPEATS + 1 for p in powers),
        max(p.cautious or MOST_REPEATS + 1 for p in powers),
    ]
    words = dict.fromkeys(_many(n if n <= MOST_REPEATS else None) for n in most)
    what = "it" if len(left) == 1 else f"each of its {len(left)} open questions"
    return f"; {' to '.join(words)} repeats would settle {what}"


def _unknown(left: Sequence[Contest]) -> str:
    """Why it is not known how many repeats would settle these open questions."""
    spreads = [[t.difference and t.difference.spread.sd for t in c.trials] for c in left]
    flat = sum(not all(found) for found in spreads)
    if not flat:
        return "; so few resamples may never give a p small enough, however many the repeats"
    of = f": {flat} of its {len(left)} open questions have no sd" if len(left) > 1 else ""
    return f"; how many repeats would settle it is not known{of}"


def arm_sentence(arm: ArmResult, digits: Numbers) -> str:
    """What one arm reached."""
    name = one_line(arm.arm)
    if arm.gain is None:
        return f"{name}: none of {arm.planned} runs is done."
    said = f"{name} gained {digits.value(arm.gain.mean)} on its baseline"
    if arm.gain.n == 1:
        said += " in its only run, which has no sd and no interval"
    elif arm.gain.bootstrap is None:
        said += f" on average ({arm.gain.n} runs, too few for a 95 % interval)"
    else:
        span = digits.interval(arm.gain.bootstrap)
        said += f" on average (95 % interval {span}, {arm.gain.n} runs)"
    if arm.reevaluated is not None:
        said += f", and {digits.value(arm.reevaluated.mean)} on fresh seeds"
    return f"{said}."


def comparison_sentence(row: Comparison, digits: Numbers) -> str:
    """How an arm stands to another, with how sure that is, in the words of the rule."""
    found = row.difference.spread
    size = "as much as" if found.mean == 0 else f"{'more' if found.mean > 0 else 'less'} than"
    amount = "" if found.mean == 0 else f"{digits.value(abs(found.mean))} "
    said = f"{one_line(row.arm)} gained {amount}{size} {one_line(row.against)}"
    said += " on fresh seeds" if row.figure == "reevaluated" else ""
    if found.n == 1:
        return f"{said} in one pair: undecided, one pair has no interval."
    span = f"95 % interval {digits.interval(found.bootstrap)}, {found.n} pairs"
    if found.bootstrap is None:
        span = f"{found.n} pairs, too few for a 95 % interval"
    said += f" ({span}, p = {chance_text(row.p)}): {row.answer}"
    if row.answer == "undecided" and row.power is not None:
        repeats = _many(row.power.repeats)
        likely = {repeats: None, _many(row.power.cautious): None}
        said += f"; {' to '.join(likely)} repeats would settle it"
    return f"{said}."


def few_sentence(task: TaskResult) -> str | None:
    """What small samples cannot say; None where every comparison has enough pairs."""
    pairs = [r.difference for r in task.against_reference]
    few = [d for d in pairs if d.spread.n < ENOUGH]
    if not few:
        return None
    most = max(few, key=lambda d: d.spread.n)
    return (
        f"With {most.spread.n} pairs, p cannot be under {chance_text(most.lowest_p)} whatever the "
        f"differences are, and bootstrap intervals are too narrow; by the rules of this report "
        f"fewer than {ENOUGH} pairs decide nothing."
    )


def strongest_sentence(data: StudyData, task: TaskResult) -> str | None:
    """Which control is the strongest, and by what; None for a study without controls."""
    plan = plan_of(data)
    if not plan.controls:
        return None
    if task.strongest is None:
        return "No control is the strongest yet: there is no repeat that all of them have done."
    n, fresh = len(task.common), " on fresh seeds" if plan.measure == "reevaluated" else ""
    said = (
        f"The strongest control is {one_line(task.strongest)}, by the mean gain{fresh} over "
        f"the {f'{n} repeats' if n > 1 else 'one repeat'} that all controls with any run have done"
    )
    if task.strongest == task.reference:
        return f"{said}; all arms are compared with it as the reference."
    if set(data.arms) <= set(plan.controls):
        return f"{said}; it was chosen by these runs, so that others may lose to it by that alone."
    return f"{said}; arms that are no controls are compared with it."


def rules(data: StudyData) -> Iterator[str]:
    """How each answer and each figure of a report comes about."""
    plan = plan_of(data)
    yield (
        f"Better or worse: at least {ENOUGH} pairs, a 95 % interval that leaves out 0, and p below "
        f"{ALPHA:g} after Holm's correction over the rows of the table; undecided otherwise."
    )
    yield from map(_rule, data.hypotheses)
    yield (
        f"95 % interval: bootstrap of the mean, bias-corrected and accelerated (Efron 1987), "
        f"{plan.resamples:,} resamples, seed {plan.seed}; none below {FEWEST} values. Of samples "
        "from a normal distribution it holds the true mean in 73 % at n = 3, 84 % at 5, 89 % at 10 "
        "and 92 % at 20; Student's t in 95 % at each."
    )
    yield (
        "p: two-sided sign-flip permutation test of the paired differences, exact where all flips "
        "are fewer than the resamples; n pairs cannot give less than the lowest p shown."
    )
    yield (
        "Effect g: mean over sd of the paired differences (Cohen's d_z, Lakens 2013) with Hedges' "
        "correction for small samples."
    )
    yield (
        "P(better): probability that a run of the arm beats one of the other, over all runs of "
        "both, ties a half; IQM: interquartile mean (both Agarwal et al. 2021)."
    )
    yield (
        "Repeats to settle it: for power 0.8 of a paired t test at 0.05 (of a hypothesis: at its "
        "own level) over the number of tests (noncentral t; Cohen 1988), at least "
        f"{ENOUGH} (as many as it asks for), if the true mean and sd are those seen: so that the "
        "mean is found beyond the margin, or below what would matter where it is seen below that; "
        "with a ratio so that both means are found beyond theirs, or one below. In brackets with "
        "the upper 80 % limit of the sd (Browne 1995). Found with power 0.8: the smallest true "
        "difference that these pairs would find, at the sd seen."
    )
    yield "Failed evaluations have no value and are never counted as 0; failed runs leave no pair."


def _rule(rule: Hypothesis) -> str:
    bar, supported, refuted = max(rule.margin, rule.worthwhile), "", ""
    reach = f" and not wholly below {bar:g}" if bar > rule.margin else ""
    if rule.ratio is not None:
        contrast = f"that of the gain less {rule.ratio:g} times the control's"
        supported = f"; {contrast} beyond 0, with such a p"
        refuted = f", or {contrast} below 0"
    return one_line(
        f"{rule.name}: {rule.arm} against each of {', '.join(rule.controls)} on "
        f"{', '.join(rule.tasks)}, by {rule.measure}. Supported: at least {rule.least_repeats} "
        f"pairs, 95 % interval beyond {rule.margin:g}{reach}, p below {rule.alpha:g} after Holm's "
        f"correction over all tests of all hypotheses{supported}; everywhere. Not supported: with "
        f"as many pairs, the whole interval below {bar:g}{refuted}, with such a p of that side "
        "('p below'); one control on one task suffices. Undecided: otherwise."
    )
