"""Restart: from the best with a third redrawn, when ten evaluations brought nothing."""

from trying import MIXED, go

from bilevel.mechanisms.restart import Restart
from bilevel.model import Outcome, Values


def flat(values: Values, seed: int) -> Outcome:
    return Outcome("ok", 1.0, {"loss": 1.0})


def test_restarts_after_ten_evaluations_without_a_kept_one() -> None:
    run = go(Restart(), space=MIXED, measure=flat, evals=34)
    restarts = [i for i, d in enumerate(run.drafts) if d.move.tag == "restart"]
    assert restarts == [10, 21, 32]
    assert [i for i, t in enumerate(run.trials) if t.kept] == restarts


def test_goes_on_from_the_restart_point_and_shows_all_that_was_tried() -> None:
    run = go(Restart(), space=MIXED, measure=flat, evals=12)
    point = run.trials[10]
    assert run.drafts[10].move.parents == (0,)
    assert len(MIXED.changed(MIXED.defaults(), point.values)) == 2  # of five that have a range
    assert run.drafts[11].move.parents == (point.id,)
    assert f"#{run.trials[0].id} " in run.llm.calls[-1][1].content


def test_a_restart_point_that_fails_is_followed_by_another() -> None:
    def only_text(values: Values, seed: int) -> Outcome:
        numbers = {n: v for n, v in values.items() if n != "SOURCE"}
        if numbers == {n: v for n, v in MIXED.defaults().items() if n != "SOURCE"}:
            return flat(values, seed)
        return Outcome("crash", None, error="no")

    run = go(Restart(), space=MIXED, measure=only_text, evals=15)
    assert [d.move.tag for d in run.drafts[10:]] == ["restart"] * 5
    assert not any(t.kept for t in run.trials)
