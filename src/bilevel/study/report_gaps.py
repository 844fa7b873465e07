"""What a study's report says of runs that ended early and of measurements that are not there."""

from __future__ import annotations

from collections.abc import Iterator

from bilevel.describe import one_line
from bilevel.study.analysis import TaskResult
from bilevel.study.arm_results import ArmResult
from bilevel.study.data import StudyData, StudyRun
from bilevel.study.report_document import Block, Heading, Points

__all__ = ["ended_early", "fresh_sentences", "gaps"]


def ended_early(data: StudyData) -> Iterator[str]:
    """How many of each arm's runs that count made fewer evaluations than planned.

    data: of one task.
    """
    for arm in data.arms:
        short = _short(data, arm)
        if short:
            yield (
                f"Beware: {len(short)} of {len(data.done(arm))} runs of {one_line(arm)} ended "
                f"before their {data.evals} evaluations; they count with what they had found, as "
                "if nothing better had come. They are listed below."
            )


def gaps(data: StudyData, task: TaskResult) -> Iterator[Block]:
    """Which runs ended early, which have no result, and why."""
    short = [_said(data, run) for arm in data.arms for run in _short(data, arm)]
    if short:
        yield Heading(3, "Runs that ended before their evaluations")
        yield Points(short)
    problems = [f"{one_line(a.arm)}, {one_line(p)}" for a in task.arms for p in a.problems]
    if problems:
        yield Heading(3, "Runs without a result")
        yield Points(problems)


def _short(data: StudyData, arm: str) -> list[StudyRun]:
    done = sorted(data.done(arm), key=lambda r: r.repeat)
    return [run for run in done if len(run.scores) < data.evals]


def _said(data: StudyData, run: StudyRun) -> str:
    """`A, repeat 3: 7 of 30 evaluations, refused: 20 steps in a row led to no evaluation`."""
    why = ": ".join(one_line(w) for w in (run.stop, run.stop_detail) if w)
    unmade = f"; its winner was not measured on {run.fresh.unmade} fresh seeds"
    return (
        f"{one_line(run.arm)}, repeat {run.repeat}: {len(run.scores)} of {data.evals} evaluations, "
        f"{why or 'why is not on record'}{unmade if run.fresh.unmade else ''}"
    )


def fresh_sentences(task: TaskResult) -> Iterator[str]:
    """What fresh seeds do not say of each arm that lacks some of their measurements."""
    for arm in task.arms:
        fresh = arm.fresh
        counts = (
            (fresh.failed, "failed"),
            (fresh.unpaired, "stand beside a failure of the defaults"),
            (fresh.unmade, "were never made"),
        )
        gone = [f"{count} {what}" for count, what in counts if count]
        if gone:
            yield (
                f"Beware: of {fresh.wanted} fresh measurements of {one_line(arm.arm)}'s winners "
                f"{', '.join(gone)}; its figures on fresh seeds are means of the others"
                f"{_unmeasured(arm)}."
            )


def _unmeasured(arm: ArmResult) -> str:
    """That whole runs have no figure, where that is so."""
    lost = arm.again - (arm.reevaluated.n if arm.reevaluated else 0)
    if not lost:
        return ""
    return (
        f", and {lost} of {arm.again} runs have none, are in no mean and no pair, and count as not "
        "confirmed"
    )
