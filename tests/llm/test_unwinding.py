from bilevel.llm.unwinding import MARGIN, unwinding
from bilevel.model import Message

SYSTEM = Message("system", "s" * 100)
HISTORY = "h" * 200
ASK = (SYSTEM, Message("user", HISTORY + "a" * 100))
REPAIR = (*ASK, Message("assistant", "{}" * 50), Message("user", "No. " * 30))


def test_a_first_request_needs_none() -> None:
    assert unwinding((), ASK) == []


def test_an_ordinary_next_request_needs_none() -> None:
    assert unwinding(ASK, (SYSTEM, Message("user", HISTORY + "b" * 100))) == []
    assert unwinding(REPAIR, (SYSTEM, Message("user", HISTORY + "b" * 100))) == []


def test_a_request_that_goes_on_does_not_reuse_what_was_written() -> None:
    assert unwinding(ASK, REPAIR) == [SYSTEM, Message("user", HISTORY + "a" * (100 - MARGIN))]


def test_a_repeated_request_leaves_something_to_read() -> None:
    assert unwinding(ASK, ASK) == unwinding(ASK, REPAIR)


def test_so_does_one_that_differs_at_its_end_only() -> None:
    near = (SYSTEM, Message("user", HISTORY + "a" * 90 + "b" * 10))
    assert unwinding(ASK, near) == [SYSTEM, Message("user", HISTORY + "a" * (90 - MARGIN))]


def test_a_request_that_the_last_one_began_with_is_cut_short_of_its_end() -> None:
    assert unwinding(REPAIR, ASK) == [SYSTEM, Message("user", HISTORY + "a" * (100 - MARGIN))]


def test_the_cut_goes_back_over_answers_into_a_question() -> None:
    other = (*REPAIR[:3], Message("user", "Nay."))
    short = (SYSTEM, Message("user", HISTORY + "a" * (100 - MARGIN)))
    assert unwinding(REPAIR, other) == list(short)


def test_short_talks_are_forgotten_whole() -> None:
    hello = (Message("user", "hello"),)
    assert unwinding(hello, hello) == [Message("user", "")]
