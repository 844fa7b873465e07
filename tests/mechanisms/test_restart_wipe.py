"""The accidental restart: a batch of ten knows nothing of those before, its first is kept."""

import re
from collections.abc import Sequence

from trying import MIXED, go

from bilevel.mechanisms.restart_wipe import RestartWipe
from bilevel.model import Message, Outcome, Values
from worlds import SPACE


def test_the_first_of_each_later_batch_is_kept_and_starts_from_the_last_proposal() -> None:
    worse = (Outcome("ok", float(i), {"loss": float(i)}) for i in range(100))
    run = go(RestartWipe(), space=MIXED, measure=lambda v, s: next(worse), evals=25)
    assert [i for i, t in enumerate(run.trials) if t.kept] == [10, 20]
    for first in (10, 20):
        assert run.drafts[first].move.parents == (run.trials[first - 1].id,)
        assert run.drafts[first + 1].move.parents == (run.trials[first].id,)


def shown_ids(talk: Sequence[Message]) -> set[int]:
    """Numbers of the trials in the history that the LLM is shown."""
    history = talk[1].content.partition("Experiments so far")[2]
    return {int(i) for i in re.findall(r"^#(\d+) ", history, re.MULTILINE)}


def test_the_llm_sees_the_baseline_and_its_own_batch_only() -> None:
    run = go(RestartWipe(), space=MIXED, evals=25)
    assert shown_ids(run.llm.calls[-1]) == {0, *(t.id for t in run.trials[20:24])}
    starts = [i for i, talk in enumerate(run.llm.calls) if shown_ids(talk) == {0}]
    assert len(starts) >= 3  # the first request of each batch, and its repairs


def test_a_first_that_fails_is_passed_over() -> None:
    count = iter(range(100))

    def twelfth_fails(values: Values, seed: int) -> Outcome:
        number = next(count)  # two baselines come first
        if number == 12:
            return Outcome("crash", None, error="no")
        return Outcome("ok", float(number), {"loss": float(number)})

    run = go(RestartWipe(), space=SPACE, measure=twelfth_fails, evals=12)
    assert [i for i, t in enumerate(run.trials) if t.kept] == [11]
    assert run.drafts[11].move.parents == (run.trials[9].id,)
