"""What runs take over from one another, and what their own logs say of it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bilevel.errors import LLMUnavailable
from bilevel.evaluate import Evaluated
from bilevel.model import Call, Decision, Message, Outcome, Record, Reply, Trial
from bilevel.proposer import Proposer
from bilevel.replay import replay
from bilevel.tape.sharing import Sharing, is_shared
from bilevel.tape.tape import Tape, request_key
from worlds import LOSS, RUN, SPACE, Instant, Log, Scripted, build

TALK = (Message("user", "Propose."),)
FIRST = Reply("first", "scripted", 100, 10, 90, 0.5, attempts=2)


def call(reply: Reply, seed: int = 1) -> Call:
    key = request_key("toy", TALK, None, seed, 300)
    return Call(key, 0, "1", "propose", TALK, "null", seed, 300, reply)


def sharing(*records: Record, run: str = "other-1", deterministic: bool = True) -> Sharing:
    made = Sharing(SPACE, LOSS, deterministic)
    for record in records:
        made.add(run, record)
    return made


def fails(messages: Sequence[Message], number: int) -> str:
    raise LLMUnavailable("asked after all")


def test_a_request_that_another_run_made_is_not_made_again() -> None:
    llm = Scripted(lambda m, n: "second")
    shared = sharing(call(FIRST)).llm("toy", llm)
    assert shared.complete(TALK, seed=1, max_tokens=300) == replace(FIRST, attempts=0)
    assert shared.name == "scripted"
    assert llm.asked == []
    assert shared.complete(TALK, seed=1, max_tokens=300).text == "second"
    assert shared.complete(TALK, seed=2, max_tokens=300).text == "second"
    assert shared.complete(TALK, seed=1, max_tokens=200).text == "second"
    assert len(llm.asked) == 3


def test_the_nth_equal_request_gets_the_nth_answer_of_any_run() -> None:
    known = sharing(call(FIRST))
    known.add("other-2", call(replace(FIRST, text="not this")))
    known.add("other-2", call(replace(FIRST, text="second")))
    shared = known.llm("toy", Scripted(fails))
    texts = [shared.complete(TALK, seed=1, max_tokens=300).text for _ in range(2)]
    assert texts == ["first", "second"]
    resumed = known.llm("toy", Scripted(fails), own=[call(FIRST)])
    assert resumed.complete(TALK, seed=1, max_tokens=300).text == "second"


def test_a_request_that_failed_is_not_counted() -> None:
    shared = sharing().llm("toy", Scripted(fails))
    for _ in range(2):
        with pytest.raises(LLMUnavailable):
            shared.complete(TALK, seed=1, max_tokens=300)
    known = sharing(call(FIRST))
    shared = known.llm("toy", Scripted(fails))
    assert shared.complete(TALK, seed=1, max_tokens=300).text == "first"


def trial(**changes: object) -> Trial:
    made = Trial(
        3, None, SPACE.defaults(), "ok", -0.25, {"loss": 0.25, "steps": 9.0}, 1.75, 7, True
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def evaluate(known: Sharing, seed: int = 7) -> tuple[Evaluated, bool]:
    """What comes of the defaults with this seed, and whether it was evaluated here."""
    instant = Instant()
    shared = known.evaluator(instant)
    shared.start(5, SPACE.defaults(), seed)
    (found,) = shared.finished()
    return found, bool(instant.started)


def test_an_evaluation_that_another_run_made_is_not_made_again() -> None:
    outcome = Outcome("ok", 0.25, {"loss": 0.25, "steps": 9.0})
    assert evaluate(sharing(trial())) == (Evaluated(5, outcome, 1.75), False)
    crash = trial(status="crash", score=None, metrics={}, error="ValueError")
    found = Evaluated(5, Outcome("crash", None, {}, "ValueError"), 1.75)
    assert evaluate(sharing(crash)) == (found, False)


def test_what_may_differ_the_next_time_is_evaluated_by_each_run() -> None:
    assert evaluate(sharing(trial()), seed=8)[1]
    assert evaluate(sharing(trial(), deterministic=False))[1]
    assert evaluate(sharing(trial(status="timeout", score=None)))[1]
    assert evaluate(sharing(trial(values={**SPACE.defaults(), "RATE": 0.2})))[1]


def test_known_and_new_evaluations_go_together_over_slots() -> None:
    shared = sharing(trial()).evaluator(Instant(slots=2))
    shared.start(0, SPACE.defaults(), 8)
    shared.start(1, SPACE.defaults(), 7)
    assert shared.slots == 2
    assert [e.key for e in shared.finished()] == [1]
    assert [e.key for e in shared.finished()] == [0]


def test_a_run_that_took_all_over_decides_as_the_first_and_replays_alone() -> None:
    first: Log = Log()
    build(first).go()
    known = sharing(*first)
    log, instant = Log(), Instant()
    loop = build(log, evaluator=known.evaluator(instant))  # type: ignore[arg-type]
    tape = Tape(RUN.llm, known.llm(RUN.llm, Scripted(fails)), record=log.append)
    loop.proposer = Proposer(RUN.brief, RUN.objective, tape, RUN.seed)
    assert loop.go().reason == "done"
    assert instant.started == []
    calls = [r for r in log if isinstance(r, Call)]
    assert calls
    assert all(map(is_shared, calls))
    assert not any(is_shared(r) for r in first if isinstance(r, Call))
    assert [_unshared(r) for r in log] == list(first)
    assert replay(RUN, log).difference is None


def _unshared(record: Record) -> Record:
    if isinstance(record, Call):
        return replace(record, reply=replace(record.reply, attempts=1))
    assert not isinstance(record, Decision)
    return record
