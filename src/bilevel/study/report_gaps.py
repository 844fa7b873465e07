"""What a study's report says of measurements that are not there, which no mean shows."""

from __future__ import annotations

from collections.abc import Iterator

from bilevel.describe import one_line
from bilevel.study.analysis import TaskResult
from bilevel.study.arm_results import ArmResult

__all__ = ["fresh_sentences"]


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
