"""One at a time: each step once, then the best one again for as long as it helps."""

from trying import MIXED, go

from bilevel.mechanisms.sensitivity import Sensitivity
from bilevel.model import Outcome, Values


def narrow(values: Values, seed: int) -> Outcome:
    """Only WIDTH matters, the smaller the better."""
    return Outcome("ok", float(values["WIDTH"]), {"loss": float(values["WIDTH"])})


def test_steps_each_parameter_with_a_range_once_and_asks_no_llm() -> None:
    run = go(Sensitivity(), space=MIXED, measure=narrow, evals=8)
    # DECAY and PATTERN stand at their lower ends, WIDTH up is where the first step down came from;
    # SCALE and SOURCE have no range.
    assert [d.move.tag.removeprefix("sensitivity:") for d in run.drafts] == [
        "RATE:down", "RATE:up", "DECAY:up", "WARMUP:down", "WARMUP:up", "WIDTH:down", "PATTERN:up",
        "WIDTH:down",
    ]  # fmt: skip
    values = {0: MIXED.defaults()} | {t.id: t.values for t in run.trials}
    for draft in run.drafts:
        assert len(MIXED.changed(values[draft.move.parents[0]], draft.values)) == 1
    assert run.llm.calls == []


def test_goes_on_in_the_best_direction_to_the_end_then_leaves_it_to_the_llm() -> None:
    run = go(Sensitivity(), space=MIXED, measure=narrow, evals=12)
    assert min(t.values["WIDTH"] for t in run.trials) == 16
    assert run.trials[7].values["WIDTH"] == 16
    assert [d.move.tag for d in run.drafts[8:]] == [""] * 4


def test_a_direction_is_left_when_its_last_step_did_not_help() -> None:
    def valley(values: Values, seed: int) -> Outcome:
        if values["WARMUP"] != 3:
            return Outcome("crash", None, error="no")
        loss = abs(float(values["WIDTH"]) - 32) - float(values["RATE"])
        return Outcome("ok", loss, {"loss": loss})

    run = go(Sensitivity(), space=MIXED, measure=valley, evals=12)
    tags = [d.move.tag.removeprefix("sensitivity:") for d in run.drafts]
    assert tags.count("WIDTH:down") == 2
    assert tags.count("WARMUP:down") == tags.count("WARMUP:up") == 1
    assert tags.count("RATE:up") > 2


def test_a_step_that_fails_is_not_repeated() -> None:
    def crashes(values: Values, seed: int) -> Outcome:
        bad = values != MIXED.defaults()
        return Outcome("crash", None, error="no") if bad else narrow(values, seed)

    run = go(Sensitivity(), space=MIXED, measure=crashes, evals=12)
    tags = [d.move.tag for d in run.drafts if d.move.tag]
    assert len(tags) == len(set(tags)) == 8
