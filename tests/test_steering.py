"""Level 1.5: what it is shown, what it may say, what becomes of it, and what a strategy does."""

import json
from dataclasses import fields, replace

import pytest

from bilevel.errors import LLMUnavailable
from bilevel.history import History
from bilevel.llm.scripted import ScriptedLLM
from bilevel.model import Call, Move, Steering
from bilevel.prompting import messages
from bilevel.steering import GUIDANCE_CHARS, STRATEGIES, Steerer, focus, schema
from bilevel.steering_rules import weigh
from bilevel.tape.tape import Tape
from factories import GPT, VAL_BPB
from traces import T, down, exhausted, history, space_of, up, view_of

LR, EMB = "MATRIX_LR", "EMBEDDING_LR"
TRIALS = [down(LR), up(LR), up(LR, by=4), down("TOTAL_BATCH_SIZE", 0.2), up(EMB, None)]
IN_FORCE = Steering((LR,), "Go on.", "exploit", 2, 1, "It went well.", {LR: "frozen: so"})


def wishes(**changes: object) -> str:
    reply = {"diagnosis": "One direction only.", "freeze": [], "unfreeze": []}
    reply |= {"strategy": "explore", "guidance": "Lower EMBEDDING_LR."}
    return json.dumps(reply | changes)


def steer(made: History, *replies: str | Exception) -> tuple[Steering, ScriptedLLM]:
    llm = ScriptedLLM(list(replies))
    steerer = Steerer("A toy.", VAL_BPB, Tape("scripted", llm), seed=7)
    return steerer.steer(made, view_of(made), cycle=1), llm


def test_a_wish_within_the_rules_is_the_steering() -> None:
    steering, llm = steer(history(*TRIALS), wishes(freeze=[LR]))
    assert steering == Steering(
        frozen=(LR,),
        guidance="Lower EMBEDDING_LR.",
        strategy="explore",
        at=5,
        cycle=1,
        diagnosis="One direction only.",
        reasons={LR: "frozen: 3 failures on all sides since any gain"},
    )
    assert len(llm.calls) == 1


FACTS = """Now propose no experiment; steer the search. Counted so far:
TOTAL_BATCH_SIZE: 1 tries, 0 below and 0 above its value now, best gain 0.2000, 0 failures since; \
still to test alone: below, above
MATRIX_LR: 3 tries, 1 below and 2 above its value now, no gain; all sides failed
EMBEDDING_LR: 1 tries, 0 below and 1 above its value now, no gain; still to test alone: below
Never tried: WEIGHT_DECAY, WARMUP_RATIO, WINDOW_PATTERN, ADAM_BETA1.
1 of 5 evaluations were kept, the last 1 were not; 0 more proposals were duplicates.
In force: "exploit"; of 3 evaluations under it 1 were kept.
May be frozen: none. At least 4 stay open.
Frozen: MATRIX_LR. Not tried since the search moved, so consider opening: MATRIX_LR."""


def test_a_gain_far_below_one_is_said() -> None:
    _, llm = steer(history(down("TOTAL_BATCH_SIZE", 2e-6), up(LR, -1e-6)), wishes())
    assert "best gain 2e-06, 0 failures since" in llm.calls[0][1].content


def test_without_hypotheses_both_levels_begin_alike_too() -> None:
    made, llm = history(*TRIALS), ScriptedLLM([wishes()])
    steerer = Steerer("A toy.", VAL_BPB, Tape("scripted", llm), 7, hypotheses=False)
    steerer.steer(made, view_of(made), cycle=1)
    system = llm.calls[0][0]
    move = Move(parents=(4,))
    proposal = messages("A toy.", VAL_BPB, made, view_of(made), move, hypotheses=False)
    assert system == proposal[0]
    assert "hypothesis" not in system.content


def test_the_prompt_begins_like_a_proposal_and_ends_with_these_facts() -> None:
    made = history(*TRIALS, steering=IN_FORCE)
    _, llm = steer(made, wishes())
    system, user = llm.calls[0]
    proposal = messages("A toy.", VAL_BPB, made, view_of(made), Move(parents=(4,)))
    head = proposal[1].content.partition("\n\nBest so far is")[0]
    assert system == proposal[0]
    assert len(head.splitlines()) > len(GPT) + len(TRIALS)
    assert user.content.startswith(f"{head}\n\n{FACTS}\n")
    assert '"unfreeze": ' in user.content
    assert '"freeze": ' not in user.content


def test_the_schema_names_only_what_may_be_frozen_or_opened() -> None:
    view = view_of(history(*TRIALS))
    shape = schema(view, weigh(view))["properties"]
    assert list(shape) == ["diagnosis", "freeze", "strategy", "guidance"]
    assert shape["freeze"]["items"] == {"enum": [LR]}
    moved = [*exhausted("A"), T({"F": 0.6}, 0.1), *exhausted("B")]
    view = view_of(history(*moved, space=space_of(6)), frozen=("B", "A"))
    shape = schema(view, weigh(view))["properties"]
    assert list(shape) == ["diagnosis", "unfreeze", "strategy", "guidance"]
    assert shape["unfreeze"]["items"] == {"enum": ["A", "B"]}
    assert shape["strategy"] == {"enum": ["explore", "exploit", "focused"]}


BAD = [
    ("{", "the reply is not JSON"),
    ("[]", "must be a JSON object"),
    (wishes(guidance=None), '"guidance" must be a text'),
    (wishes(diagnosis=3), '"diagnosis" must be a text'),
    (wishes(strategy="anneal"), '"strategy" must be one of explore, exploit, focused'),
    (wishes(freeze=LR), '"freeze" must be a list of names'),
    (wishes(unfreeze=[1]), '"unfreeze" must be a list of names'),
]


@pytest.mark.parametrize(("reply", "words"), BAD)
def test_a_bad_reply_goes_back_once_with_the_reason(reply: str, words: str) -> None:
    steering, llm = steer(history(*TRIALS), reply, wishes())
    assert steering.guidance == "Lower EMBEDDING_LR."
    assert llm.calls[1][-2].content == reply
    assert words in llm.calls[1][-1].content


@pytest.mark.parametrize(("reply", "words"), BAD)
def test_after_the_second_the_steering_in_force_stays_and_says_so(reply: str, words: str) -> None:
    steering, llm = steer(history(*TRIALS, steering=IN_FORCE), "{", reply)
    assert steering.diagnosis.startswith("No usable reply, so nothing changes: ")
    assert words in steering.diagnosis
    same = replace(IN_FORCE, at=5, cycle=1, diagnosis=steering.diagnosis, reasons={})
    assert steering == same
    assert len(llm.calls) == 2


def test_guidance_with_values_is_asked_for_again_once() -> None:
    bad = wishes(guidance="Lower EMBEDDING_LR to 0.3.")
    steering, llm = steer(history(*TRIALS), bad, wishes())
    assert "names values (0.3)" in llm.calls[1][-1].content
    assert steering.guidance == "Lower EMBEDDING_LR."
    assert steering.diagnosis == "One direction only."


@pytest.mark.parametrize("second", [wishes(guidance="EMBEDDING_LR to 2**3 or 'L'."), "{"])
def test_then_the_values_are_cut_and_that_is_on_record(second: str) -> None:
    bad = wishes(guidance="EMBEDDING_LR to 2**3 or 'L'.")
    steering, llm = steer(history(*TRIALS), bad, second)
    assert steering.guidance == "EMBEDDING_LR."
    assert steering.diagnosis == "One direction only. (Cut from the guidance: 2**3, 'L'.)"
    assert len(llm.calls) == 2


def test_long_guidance_is_cut_and_that_is_on_record() -> None:
    long = wishes(guidance="Lower it. " * 40)
    steering, _ = steer(history(*TRIALS), long, long)
    assert len(steering.guidance) <= GUIDANCE_CHARS
    assert "(Of 399 characters of guidance 160 were kept.)" in steering.diagnosis


def test_an_llm_that_fails_is_the_callers_to_handle() -> None:
    with pytest.raises(LLMUnavailable, match="gone"):
        steer(history(*TRIALS), LLMUnavailable("gone"))


def test_no_reply_reaches_more_than_the_steering() -> None:
    """Whatever else a reply holds, what comes out is that of the reply without it."""
    made = history(*TRIALS)
    more = {"frozen": list(GPT.names), "at": 99, "cycle": 9, "reasons": {LR: "because"},
            "values": {LR: 9.0}, "accept": True, "stack": [], "evals": 10**6}  # fmt: skip
    steering, _ = steer(made, wishes(**more))
    assert steering == steer(made, wishes())[0]
    asked = wishes(freeze=[*GPT.names, "__class__", "\x1b[2J"], unfreeze=["evals", EMB])
    steering, _ = steer(made, asked)
    assert steering.frozen == (LR,)
    assert {f.name for f in fields(Steering)} == {
        "frozen", "guidance", "strategy", "at", "cycle", "diagnosis", "reasons"
    }  # fmt: skip
    assert all(text.isprintable() for pair in steering.reasons.items() for text in pair)


def test_a_recorded_steering_is_steered_again_without_an_llm() -> None:
    made, calls = history(*TRIALS), list[Call]()
    replies = [wishes(guidance="To 0.3."), wishes(freeze=[LR])]
    tape = Tape("scripted", ScriptedLLM(replies), record=calls.append)
    first = Steerer("A toy.", VAL_BPB, tape, 7).steer(made, view_of(made), 1)
    again = Steerer("A toy.", VAL_BPB, Tape("scripted", None, calls), 7)
    assert again.steer(made, view_of(made), 1) == first
    assert [(c.level, c.purpose) for c in calls] == [("1.5", "steer"), ("1.5", "steer repair")]
    assert calls[0].seed != calls[1].seed


def under(strategy: str, *trials: T, idle: int = 0, **more: object) -> tuple[str, ...]:
    return focus(view_of(history(*trials), idle, strategy=strategy, **more))


def test_without_a_strategy_all_are_open() -> None:
    assert under("", *TRIALS) == ()


def test_explore_leaves_only_what_was_tried_least() -> None:
    never = tuple(n for n in GPT.names if n not in (LR, EMB, "TOTAL_BATCH_SIZE"))
    assert under("explore", *TRIALS) == never
    rest = [T({"WEIGHT_DECAY": 0.3}), T({"WARMUP_RATIO": 0.1}), T({"ADAM_BETA1": 0.9})]
    assert under("explore", *TRIALS, *rest) == ("WINDOW_PATTERN",)
    once = under("explore", *TRIALS, *rest, T({"WINDOW_PATTERN": "SL"}))
    assert once == tuple(n for n in GPT.names if n != LR)
    assert under("explore") == ()


def test_exploit_leaves_only_what_gained_and_has_a_side_left() -> None:
    assert under("exploit", down(LR), up(EMB)) == ()
    gains = [down("TOTAL_BATCH_SIZE", 0.2), up(EMB, 0.1)]
    assert under("exploit", *gains, down(LR)) == ("TOTAL_BATCH_SIZE", EMB)
    sides = [down("TOTAL_BATCH_SIZE", by=4), up("TOTAL_BATCH_SIZE")]
    assert under("exploit", *gains, *sides[:1]) == ("TOTAL_BATCH_SIZE", EMB)
    assert under("exploit", gains[0], *sides, gains[1]) == (EMB,)
    not_kept = T({"WEIGHT_DECAY": 0.3}, 0.05, parent=0, kept=False)
    assert under("exploit", *gains, not_kept) == ("TOTAL_BATCH_SIZE", EMB)


def test_focused_leaves_the_one_or_two_that_gained_most() -> None:
    assert under("focused", down(LR), up(EMB)) == ()
    assert under("focused", down(LR), up(EMB, 0.1)) == (EMB,)
    gains = [up(EMB, 0.1), down(LR, 0.3), T({"WEIGHT_DECAY": 0.3}, 0.2)]
    assert under("focused", *gains) == (LR, "WEIGHT_DECAY")


def test_what_gained_is_left_alone_once_it_gains_no_more() -> None:
    gain, lost = down(LR, 0.3), [T({"WEIGHT_DECAY": 0.3}), T({"WARMUP_RATIO": 0.1})]
    for strategy in ("exploit", "focused"):
        assert under(strategy, gain, lost[0]) == (LR,)
        assert under(strategy, gain, *lost) == ()
        assert under(strategy, gain, *lost, up(EMB, 0.1)) == (LR, EMB)
    assert under("explore", gain, *lost) != ()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_frozen_ones_are_never_in_focus(strategy: str) -> None:
    gains = [up(EMB, 0.1), down(LR, 0.3), T({"WEIGHT_DECAY": 0.3}, 0.2)]
    assert LR not in under(strategy, *gains, frozen=(LR,))
    assert under(strategy, *gains, frozen=(LR,)) != ()


def test_what_has_no_value_left_to_try_is_not_in_focus() -> None:
    rest = [*TRIALS, T({"WEIGHT_DECAY": 0.3}), T({"WARMUP_RATIO": 0.1}), T({"ADAM_BETA1": 0.9})]
    others = [T({"WINDOW_PATTERN": "SL"}), T({"WINDOW_PATTERN": "L"}, None)]
    twice = [up(n) for n in (EMB, "WEIGHT_DECAY", "ADAM_BETA1")]
    more = [*twice, up("TOTAL_BATCH_SIZE"), T({"WARMUP_RATIO": 0.2}), T({"WARMUP_RATIO": 0.3})]
    left = under("explore", *rest, *others, *more)
    assert left
    assert "WINDOW_PATTERN" not in left


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_focus_that_leads_nowhere_yields(strategy: str) -> None:
    gains = [up(EMB, 0.1)]
    assert under(strategy, *gains, idle=2) != ()
    assert under(strategy, *gains, idle=3) == ()
    assert focus(view_of(history(), 3, strategy=strategy)) == ()
