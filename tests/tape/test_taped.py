"""A run's replies come from another's tape: from it alone, or with an LLM for the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bilevel.engine import Edges, build
from bilevel.errors import ConfigError, TapeMiss
from bilevel.model import Call, Message, OuterPlan, Proposal, Trial
from bilevel.protocols import LLM
from bilevel.tape.tape import Tape, request_key
from bilevel.tape.taped import TapedLLM, taped
from worlds import RUN, Instant, Log, Scripted, walk
from worlds import build as recorded_run

ASK = [Message("user", "one?")]
OTHER = [Message("user", "two?")]


def counting() -> Scripted:
    """An LLM whose every reply is another."""
    return Scripted(lambda m, n: f"{m[-1].content} {n}")


def tape_of(*asked: list[Message]) -> list[Call]:
    calls: list[Call] = []
    tape = Tape("scripted", counting(), record=calls.append)  # type: ignore[arg-type]
    for messages in asked:
        tape.complete(messages, seed=1, max_tokens=9, step=0, level="1", purpose="propose")
    return calls


def ask(llm: LLM, messages: list[Message] = ASK, seed: int = 1) -> str:
    return llm.complete(messages, seed=seed, max_tokens=9).text


def test_the_nth_equal_request_gets_the_nth_recorded_reply_and_no_more() -> None:
    llm = TapedLLM("scripted", "toy-1", tape_of(ASK, OTHER, ASK))
    assert [ask(llm), ask(llm, OTHER), ask(llm)] == ["one? 1", "two? 2", "one? 3"]
    with pytest.raises(TapeMiss, match="made less often"):
        ask(llm)


def test_a_reply_says_from_which_run_it_was_taken_and_keeps_its_figures() -> None:
    calls = tape_of(ASK)
    reply = TapedLLM("scripted", "toy-1", calls).complete(ASK, seed=1, max_tokens=9)
    assert reply == replace(calls[0].reply, taken="toy-1", attempts=0)
    assert reply.tokens_in
    assert reply.seconds


def test_another_seed_is_another_request() -> None:
    with pytest.raises(TapeMiss, match="its seed was 1, now it is 2"):
        ask(TapedLLM("scripted", "toy-1", tape_of(ASK)), seed=2)


def test_mixed_asks_the_llm_only_for_what_the_tape_lacks() -> None:
    live = Scripted(lambda m, n: "live")
    llm = TapedLLM("scripted", "toy-1", tape_of(ASK), live)
    assert [ask(llm), ask(llm, OTHER), ask(llm)] == ["one? 1", "live", "live"]
    assert [m[0] for m, _, _ in live.asked] == [(OTHER[0]), (ASK[0])]


def test_what_a_run_asked_before_it_was_resumed_had_its_turn() -> None:
    calls = tape_of(ASK, ASK)
    assert ask(TapedLLM("scripted", "toy-1", calls, own=calls[:1])) == "one? 2"


def test_a_tape_of_another_model_is_refused() -> None:
    other = replace(RUN, llm="openai/x")
    with pytest.raises(ConfigError, match="recorded with scripted and answers for no other"):
        taped(other, RUN, [], None, [])


def test_an_equal_request_after_a_resume_is_not_answered_with_the_first_reply() -> None:
    calls = tape_of(ASK)
    tape = Tape("scripted", Scripted(lambda m, n: "fresh"), calls)
    tape.spend(calls)
    asked = {"seed": 1, "max_tokens": 9, "step": 1, "level": "1", "purpose": "propose"}
    assert tape.complete(ASK, **asked).text == "fresh"  # type: ignore[arg-type]


def test_a_resumed_run_spends_the_calls_of_decisions_that_stand_and_no_other() -> None:
    log = Log()
    recorded_run(log).go()
    last = max(i for i, r in enumerate(log) if isinstance(r, Proposal))
    cut = log[:last]  # the last proposal's calls were made, but the proposal was not logged
    calls = [r for r in cut if isinstance(r, Call)]
    live = Scripted(walk)
    tape = Tape("scripted", live, calls)
    build(RUN, Edges(tape, Instant(), Log(cut).append, records=list(cut)))
    end = max(i for i, r in enumerate(cut) if isinstance(r, Proposal | Trial)) + 1
    assert tape._asked.total() == sum(isinstance(r, Call) for r in cut[:end])
    assert tape._asked.total() < len(calls)


def rerun(log: Log, llm: LLM | None, **changes: object) -> Log:
    """The same run, decided anew over the tape of `log`."""
    run = replace(RUN, **changes)  # type: ignore[arg-type]
    made = Log()
    tape = Tape("scripted", taped(run, RUN, log, llm, []), record=made.append)
    build(run, Edges(tape, Instant(), made.append)).go()
    return made


def decisions(log: Log) -> list[object]:
    return [r for r in log if isinstance(r, Proposal | Trial)]


def test_a_whole_run_over_the_tape_of_another_is_that_run() -> None:
    log = Log()
    recorded_run(log).go()
    again = rerun(log, None)
    assert decisions(again) == decisions(log)
    calls = [r for r in again if isinstance(r, Call)]
    assert len(calls) > 5
    assert {c.reply.taken for c in calls} == {"toy-1"}


def test_a_longer_run_gets_its_beginning_from_the_tape_and_its_end_from_the_llm() -> None:
    log = Log()
    recorded_run(log).go()
    again = rerun(log, Scripted(walk), evals=9)
    count = sum(isinstance(r, Call) for r in log)
    taken = [c.reply.taken for c in again if isinstance(c, Call)]
    assert len(taken) > count
    assert taken == ["toy-1"] * count + [""] * (len(taken) - count)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 8}, r"other settings than toy-1: seed 8 \(7\)"),
        ({"brief": "A toy, changed."}, "recorded: A toy.\nnow:      A toy, changed."),
        ({"evals": 9}, r"evals 9 \(6\)"),
        (
            {"outer": OuterPlan(steering=True, every=1)},
            r"steering True \(False\), every 1 \(5\)",
        ),
    ],
)
def test_a_run_that_is_another_is_told_how(changes: dict[str, object], said: str) -> None:
    log = Log()
    recorded_run(log).go()
    with pytest.raises(TapeMiss, match=said):
        rerun(log, None, **changes)


def test_the_key_is_that_of_the_member_that_is_asked() -> None:
    run = replace(RUN, llm="ensemble:a,b")
    call = replace(tape_of(ASK)[0], key=request_key("b", ASK, None, 1, 9), model="b")
    llm = taped(run, run, [call], None, [])
    assert ask(llm.member("b")) == "one? 1"  # type: ignore[attr-defined]
    with pytest.raises(TapeMiss, match="its model was b, now it is a"):
        ask(llm.member("a"))  # type: ignore[attr-defined]
