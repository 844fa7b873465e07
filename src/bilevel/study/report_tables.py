"""The tables of a study's report; every cell is a figure of the analysis, written out."""

from __future__ import annotations

from collections.abc import Sequence

from bilevel.compare.output import clock
from bilevel.describe import one_line
from bilevel.library.library import mean_credit, share
from bilevel.study.analysis import Comparison, TaskResult
from bilevel.study.arm_results import ArmResult
from bilevel.study.data import StudyData, StudyMechanism, StudyRun
from bilevel.study.report_document import Table
from bilevel.study.report_words import NOTHING, Numbers, chance_text, repeats_text
from bilevel.study.verdicts import Answer, Contest

TOUCHED_SHOWN = 6
SHA_DIGITS = 12


def verdict_table(answers: Sequence[Answer]) -> Table:
    """One row a hypothesis."""
    rows = [(one_line(a.hypothesis.name), one_line(a.hypothesis.claim), a.verdict) for a in answers]
    return Table(("hypothesis", "claim", "answer"), rows, words=(1, 2))


def contest_table(answers: Sequence[Answer], digits: dict[str, Numbers]) -> Table:
    """One row for each control and task that a hypothesis was tried against."""
    ratios = any(a.hypothesis.ratio is not None for a in answers)
    columns = (
        "hypothesis", "task", "against", "by", "pairs", "difference", "95 % interval", "margin",
        "p (Holm)", "p below (Holm)", "gain ratio",
        *(("gain less ratio times control's",) if ratios else ()),
        "answer", "because", "repeats to settle it",
    )  # fmt: skip
    rows = []
    for answer in answers:
        for contest in answer.contests:
            text, found = digits[contest.task], contest.difference
            rows.append(
                (
                    one_line(answer.hypothesis.name),
                    one_line(contest.task),
                    one_line(contest.control),
                    "fresh seeds" if answer.hypothesis.measure == "reevaluated" else "search",
                    str(contest.pairs),
                    text.signed(found.spread.mean) if found else NOTHING,
                    text.interval(found.spread.bootstrap) if found else NOTHING,
                    text.value(answer.hypothesis.margin),
                    chance_text(contest.p),
                    chance_text(contest.p_below),
                    NOTHING if contest.ratio is None else f"{contest.ratio:.1f}",
                    *((_contrast(contest, text),) if ratios else ()),
                    contest.verdict,
                    contest.why,
                    repeats_text(contest.power),
                )
            )
    return Table(columns, rows, words=(1, 2, 3, *map(columns.index, ("answer", "because"))))


def _contrast(contest: Contest, digits: Numbers) -> str:
    """`-0.100 (-0.200 to 0.010)`: mean and 95 % interval of the trial of a ratio."""
    found = next((t.difference for t in contest.trials if t.of), None)
    if found is None:
        return NOTHING
    mean, interval = digits.signed(found.spread.mean), found.spread.bootstrap
    return mean if interval is None else f"{mean} ({digits.interval(interval)})"


def found_table(task: TaskResult, digits: Numbers) -> Table:
    """The paper's Table 2, and more: what each arm found."""
    again = any(arm.again for arm in task.arms)
    metric = one_line(task.metric)
    columns = [
        "arm", "runs", f"best {metric}", "sd", "single best", "gain", "sd", "median", "IQM",
        "95 % interval", "Student's t",
        *(["gain, fresh seeds", "95 % interval", "confirmed", "fresh failed"] if again else []),
        "mean over evaluations", "evaluations to target",
    ]  # fmt: skip
    rows = []
    for arm in task.arms:
        value, gain = arm.value, arm.gain
        rows.append(
            [
                one_line(arm.arm),
                str(arm.n) if arm.n == arm.planned else f"{arm.n} of {arm.planned}",
                digits.value(value.mean if value else None),
                digits.value(value.sd if value else None),
                digits.value(arm.record),
                digits.value(gain.mean if gain else None),
                digits.value(gain.sd if gain else None),
                digits.value(gain.median if gain else None),
                digits.value(gain.iqm if gain else None),
                digits.interval(gain.bootstrap if gain else None),
                digits.interval(gain.student if gain else None),
                *(_fresh(arm, digits) if again else ()),
                digits.value(arm.anytime),
                _to_target(arm.to_target, arm.reached, arm.n),
            ]
        )
    return Table(columns, rows)


def _fresh(arm: ArmResult, digits: Numbers) -> tuple[str, str, str, str]:
    """Gain of the winners on fresh seeds, its interval, how many it confirms, and what failed."""
    found, fresh = arm.reevaluated, arm.fresh
    return (
        digits.value(found.mean if found else None),
        digits.interval(found.bootstrap if found else None),
        f"{arm.confirmed} of {arm.again}" if arm.again else NOTHING,
        f"{fresh.failed} of {fresh.wanted}" if fresh.wanted else NOTHING,
    )


def _to_target(middle: float | None, reached: int, n: int) -> str:
    """`12 (8 of 10)`; `later (4 of 10)` where the median run never did."""
    if not n:
        return NOTHING
    return f"{'later' if middle is None else f'{middle:g}'} ({reached} of {n})"


def run_table(data: StudyData, digits: Numbers) -> Table:
    """Gain of every run: a row a repeat, a column an arm."""
    repeats = sorted({r.repeat for r in data.runs})
    runs = {(r.arm, r.repeat): r for r in data.runs}
    rows = [
        [str(i), *(_gain(data, runs.get((arm, i)), digits) for arm in data.arms)] for i in repeats
    ]
    return Table(["repeat", *map(one_line, data.arms)], rows)


def _gain(data: StudyData, run: StudyRun | None, digits: Numbers) -> str:
    if run is None or run.status == "missing":
        return NOTHING
    return digits.value(data.gain(run, run.best)) if run.status == "done" else run.status


def difference_table(rows: Sequence[Comparison], digits: Numbers) -> Table:
    """Paired differences, one row an arm."""
    columns = (
        "arm", "against", "pairs", "difference", "sd", "95 % interval", "Student's t",
        "p (Holm)", "p alone", "lowest p", "effect g", "P(better)", "95 % interval", "answer",
        "repeats to settle it", "found with power 0.8",
    )  # fmt: skip
    cells = [
        (
            one_line(row.arm),
            one_line(row.against),
            str(row.difference.spread.n),
            digits.signed(row.difference.spread.mean),
            digits.value(row.difference.spread.sd),
            digits.interval(row.difference.spread.bootstrap),
            digits.interval(row.difference.spread.student),
            chance_text(row.p),
            chance_text(row.difference.p),
            chance_text(row.difference.lowest_p),
            NOTHING if row.difference.effect is None else f"{row.difference.effect:.2f}",
            NOTHING if row.chance is None else f"{row.chance.value:.2f}",
            NOTHING
            if row.chance is None or row.chance.bootstrap is None
            else Numbers(2).interval(row.chance.bootstrap),
            row.answer,
            repeats_text(row.power) if row.answer == "undecided" else NOTHING,
            digits.value(row.power.detectable if row.power else None),
        )
        for row in rows
    ]
    return Table(columns, cells, words=(1, 13))


def cost_table(task: TaskResult) -> Table:
    """What each arm's runs took together, as if each had run alone."""
    columns = (
        "arm", "runs", "evaluations in all", "of these shared", "LLM calls", "of these shared",
        "tokens", "LLM time", "job time", "USD",
    )  # fmt: skip
    rows = []
    for arm in task.arms:
        cost = arm.cost
        rows.append(
            (
                one_line(arm.arm),
                str(arm.n),
                f"{cost.evaluations:,}",
                f"{cost.evaluations_shared:,}",
                _count(cost.llm_calls),
                f"{cost.llm_calls_shared:,}",
                _count(cost.tokens),
                NOTHING if cost.seconds_llm is None else clock(cost.seconds_llm),
                NOTHING if cost.seconds_jobs is None else clock(cost.seconds_jobs),
                NOTHING if cost.usd is None else f"{cost.usd:.2f}",
            )
        )
    return Table(columns, rows)


def _count(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,}"


def habit_table(task: TaskResult) -> Table:
    """What each arm's proposals were like; counts are sums over its runs."""
    outer = any(a.habits.steerings or a.habits.sessions for a in task.arms)
    columns = (
        "arm", "runs", "repeats of earlier", "failed",
        *(("steerings", "sessions") if outer else ()),
        "parameters touched, a run", "in how many runs each",
    )  # fmt: skip
    rows = []
    for arm in task.arms:
        habits = arm.habits
        touched = [f"{one_line(name)} {n}" for name, n in habits.touched.items()]
        more = len(touched) - TOUCHED_SHOWN
        shown = ", ".join(touched[:TOUCHED_SHOWN]) + (f" and {more} more" if more > 0 else "")
        rows.append(
            (
                one_line(arm.arm),
                str(arm.n),
                str(habits.duplicates),
                str(habits.failed),
                *((str(habits.steerings), str(habits.sessions)) if outer else ()),
                f"{habits.parameters:.1f}",
                shown or NOTHING,
            )
        )
    return Table(columns, rows, words=(len(columns) - 1,))


def mechanism_table(found: Sequence[tuple[StudyRun, StudyMechanism]]) -> Table:
    """Every mechanism, a row for all runs of an arm on a task that had the same one."""
    columns = (
        "mechanism", "sha", "origin", "task", "arm", "repeat", "steps", "influence", "credit",
        "faults", "rationale",
    )  # fmt: skip
    groups: dict[tuple[str, str, str], list[tuple[StudyRun, StudyMechanism]]] = {}
    for run, mechanism in found:
        groups.setdefault((run.task, run.arm, mechanism.sha), []).append((run, mechanism))
    rows = []
    for (task, arm, sha), group in groups.items():
        mine = [m for _, m in group]
        asked, changed = sum(m.asked for m in mine), sum(m.changed for m in mine)
        credits = [m.credit for m in mine if m.credit is not None]
        rows.append(
            (
                one_line(mine[0].name),
                sha[:SHA_DIGITS],
                one_line(mine[0].origin),
                one_line(task),
                one_line(arm),
                str(group[0][0].repeat) if len(group) == 1 else f"{len(group)} of them",
                ", ".join(dict.fromkeys(map(_steps, mine))),
                f"{100 * changed / asked:.0f} % of {asked}" if asked else "never asked",
                share(mean_credit(credits, sha)) if credits else NOTHING,
                str(sum(m.faults for m in mine)),
                one_line(mine[0].rationale, 200) or NOTHING,
            )
        )
    return Table(columns, rows, words=(1, 2, 3, 4, 6, 10))


def _steps(mechanism: StudyMechanism) -> str:
    """`from 10`, `4 to 12 (faults)`, or why it never joined."""
    if mechanism.joined is None:
        return "left out on purpose" if mechanism.sham else "never joined"
    if mechanism.left is None:
        return f"from {mechanism.joined}"
    why = f" ({one_line(mechanism.why_left)})" if mechanism.why_left else ""
    return f"{mechanism.joined} to {mechanism.left}{why}"
