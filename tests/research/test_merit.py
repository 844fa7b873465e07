"""What a mechanism did since it joined, its credit, and what ends its probation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bilevel.model import (
    Decision,
    Draft,
    Fault,
    Layering,
    MechanismSource,
    Move,
    OuterPlan,
    Proposal,
    Record,
    Run,
    Trial,
)
from bilevel.research.merit import merit, objection, ranked
from bilevel.stack import Layer
from outer_worlds import TrustedSandbox, notes, sha_of
from worlds import LOSS, SPACE

RUN = Run("toy-1", "toy", SPACE, LOSS, "A toy.", 7, 30, llm="scripted", outer=OuterPlan(every=3))
ADDED = Layering(0, "m", "add", "a session")


def trial(number: int, score: float | None, *, parent: int = 0, role: str = "search") -> Trial:
    """A trial of one step, the step before its own number."""
    values = SPACE.check({**SPACE.defaults(), "RATE": 0.2 + number / 100})
    draft = Draft(number - 2, number - 2, Move(parents=(parent,)), values)
    return Trial(
        id=number,
        draft=draft if role == "search" else None,
        values=values,
        status="ok" if score is not None else "crash",
        score=score,
        metrics={},
        seconds=1.0,
        seed=5 if role == "search" else number,
        kept=number == 0,
        role=role,  # type: ignore[arg-type]
    )


def baselines(spread: float = 0.1) -> list[Record]:
    """Two measurements around -1, the first at just that."""
    return [trial(0, -1.0, role="baseline"), trial(1, -1.0 - spread, role="baseline")]


def step(
    number: int, score: float | None, hook: str = "plan", changed: bool = True
) -> list[Record]:
    """The records of a step: what the mechanism decided, the proposal, its trial."""
    made = trial(number + 2, score)
    assert made.draft is not None
    key = made.id if hook == "accept" else number
    after = "[1]" if changed else "[]"
    decision = Decision(number, "m", hook, key, "[]", after, 1.0)  # type: ignore[arg-type]
    proposal = Proposal(number, (made.draft.move,), (made.draft,), (), (made.draft.id,))
    return [proposal, decision, made] if hook == "accept" else [decision, proposal, made]


def test_counts_what_it_was_asked_and_changed_since_it_joined() -> None:
    log = [
        *baselines(),
        *step(0, -0.9),
        Layering(1, "m", "add", "a session"),
        *step(1, -0.8),
        *step(2, -1.5, changed=False),
        *step(3, None),
        Fault(3, "m", "plan", "ValueError", "no"),
        Fault(3, "other", "plan", "ValueError", "no"),
    ]
    done = merit(RUN, log, "m")
    assert (done.since, done.asked, done.changed, done.faults, done.left) == (1, 3, 2, 1, "")
    assert [t.id for t in done.touched] == [3, 5]
    assert done.gains == (pytest.approx(0.2),), "a failed trial has none"
    assert done.text() == (
        "changed 2 of 3 decisions since step 1, 2 trials touched, best gain +0.2000, 1 faults; "
        "on the stack"
    )


def test_only_the_last_time_counts_of_one_that_joined_again() -> None:
    first = [ADDED, *step(0, -0.5), Layering(1, "m", "remove", "it was asked for")]
    log = [*baselines(), *first]
    assert merit(RUN, log, "m").left == "it was asked for"
    assert merit(RUN, log, "m").text().endswith("taken out: it was asked for")
    again = [*log, Layering(1, "m", "add", "a later session"), *step(1, -0.7, changed=False)]
    done = merit(RUN, again, "m")
    assert (done.since, done.asked, done.changed, done.left) == (1, 1, 0, "")


def test_an_acceptance_touches_its_own_trial_only() -> None:
    log = [*baselines(), ADDED, *step(0, -0.9, "accept"), *step(1, -0.9, "accept", changed=False)]
    assert [t.id for t in merit(RUN, log, "m").touched] == [2]


def test_what_never_joined_has_no_merit() -> None:
    with pytest.raises(IndexError):
        merit(RUN, baselines(), "m")


def test_one_that_changed_nothing_may_stay_for_a_cycle_and_no_longer() -> None:
    log = [*baselines(), ADDED, *step(0, -0.9, changed=False), *step(1, -0.9, changed=False)]
    assert objection(RUN, log, "m") == ""
    log += step(2, -0.9, changed=False)
    assert objection(RUN, log, "m") == "it changed none of 3 decisions in 3 evaluations"
    log += step(3, -0.9)
    assert objection(RUN, log, "m") == ""


# The spread of 0.1 between the baselines is a sigma of 0.0707, and twice that is 0.141.
@pytest.mark.parametrize(
    ("scores", "leaves"),
    [
        ((-1.2, -1.2, -1.2), True),
        ((None, None, None), True),
        ((-1.2, None, -1.2), True),
        ((-1.1, -1.2, -1.2), False),
        ((-1.2, -1.2, -0.9), False),
        ((-0.9, -1.2, -1.2, -1.2), True),
        ((-1.2, -1.2, -1.2, -1.1), False),
    ],
)
def test_harm_is_a_cycle_of_trials_that_failed_or_lost_beyond_noise(
    scores: tuple[float | None, ...], leaves: bool
) -> None:
    log = [*baselines(), ADDED, *(r for i, s in enumerate(scores) for r in step(i, s))]
    why = objection(RUN, log, "m")
    assert bool(why) == leaves
    if leaves:
        assert why == (
            "the last 3 trials that it touched all failed or lost more than 0.14 (2 sigma)"
        )


def test_without_noise_only_failures_are_harm() -> None:
    lost = [r for i in range(3) for r in step(i, -1.2)]
    failed = [r for i in range(3, 6) for r in step(i, None)]
    log = [*baselines(spread=0.0), ADDED, *lost]
    assert objection(RUN, log, "m") == ""
    why = objection(RUN, [*log, *failed], "m")
    assert why == "the last 3 trials that it touched all failed"


def test_harm_is_only_what_it_touched() -> None:
    lost = [r for i in range(5) for r in step(i, -1.5, changed=i > 2)]
    assert objection(RUN, [*baselines(), ADDED, *lost], "m") == ""


# Credit


ONE, TWO = notes("one"), notes("two")


def load(found: MechanismSource) -> Layer:
    return Layer(found.sha, found.name, TrustedSandbox().load(found.source))


def noted(number: int, note: str) -> list[Record]:
    """A step whose move carries a note."""
    made = trial(number + 2, -1.2)
    assert made.draft is not None
    move = replace(made.draft.move, note=note)
    draft = replace(made.draft, move=move)
    proposal = Proposal(number, (move,), (draft,), (), (draft.id,))
    return [proposal, replace(made, draft=draft)]


def joins(number: int, text: str) -> list[Record]:
    return [
        MechanismSource(sha_of(text), "Mine", text),
        Layering(number, sha_of(text), "add", "a session"),
    ]


def test_credit_is_the_share_of_decisions_while_it_was_there() -> None:
    log = [
        *baselines(),
        *(r for i in range(4) for r in noted(i, "")),
        *joins(4, ONE),
        *noted(4, "one"),
        *noted(5, "one"),
        Layering(6, sha_of(ONE), "remove", "it was asked for"),
        *noted(6, ""),
        *joins(7, TWO),
        *noted(7, "two"),
    ]
    two, one = ranked(RUN, log, tuple, load)
    assert (two.source.sha, one.source.sha) == (sha_of(TWO), sha_of(ONE)), "the newer one first"
    # Of the plan, the screening and the acceptance of a step each changed the plan.
    assert two.credit == one.credit == pytest.approx(1 / 3)
    assert (two.stacked, one.stacked) == (True, False)
    assert one.record.endswith("taken out: it was asked for")


def test_the_best_credited_comes_first_and_one_in_the_shadow_of_another_has_none() -> None:
    log = [*baselines(), *joins(0, ONE), *noted(0, "one"), *joins(1, TWO), *noted(1, "two")]
    two, one = ranked(RUN, log, tuple, load)
    assert two.source.sha == sha_of(TWO)
    assert two.credit == pytest.approx(1 / 3)
    assert one.credit == pytest.approx(1 / 6)


def test_one_that_has_just_joined_has_no_credit_yet() -> None:
    log = [*baselines(), *noted(0, ""), *joins(1, ONE)]
    (known,) = ranked(RUN, log, tuple, load)
    assert (known.credit, known.stacked) == (0.0, True)
    assert known.record.startswith("changed 0 of 0 decisions since step 1")


def test_one_that_could_not_be_loaded_is_known_with_the_reason() -> None:
    text = MechanismSource(sha_of(ONE), "Mine", ONE)
    log = [*baselines(), text, Fault(0, text.sha, "add", "MechanismRaised", "no sklearn here")]
    (known,) = ranked(RUN, log, tuple, load)
    assert known.record == "admitted, and could not be loaded: no sklearn here"
    assert (known.credit, known.stacked) == (0.0, False)


def test_without_a_mechanism_nothing_is_loaded_or_decided_again() -> None:
    def refuses() -> list[Layer]:
        raise AssertionError("nothing was to be made")

    assert ranked(RUN, baselines(), refuses, load) == []


@pytest.mark.parametrize(
    ("score", "spread", "gained"),
    [
        (-0.8, 0.1, True),
        (-0.9, 0.1, False),  # better by 0.1, with 2 sigma at 0.14
        (-0.99, 0.0, True),
        (-1.0, 0.0, False),
        (None, 0.0, False),
    ],
)
def test_one_whose_trial_gained_beyond_noise_is_not_to_be_removed(
    score: float | None, spread: float, gained: bool
) -> None:
    made = [replace(r, layer=sha_of(ONE)) if isinstance(r, Decision) else r for r in step(0, score)]
    log = [*baselines(spread), *joins(0, ONE), *made]
    (known,) = ranked(RUN, log, tuple, load)
    assert (known.stacked, known.gained, known.removable) == (True, gained, not gained)
    (gone,) = ranked(RUN, [*log, Layering(1, sha_of(ONE), "remove", "faults")], tuple, load)
    assert (gone.gained, gone.removable) == (False, False)
