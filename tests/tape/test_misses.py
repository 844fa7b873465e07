"""A request without an answer is told by the first line in which it differs from the nearest."""

from bilevel.model import Call, Message, Reply
from bilevel.tape.misses import explain

SYSTEM = Message("system", "You are careful.")
REPLY = Reply("{}", "scripted")


def call(prompt: str, seed: int = 1, step: int = 0, model: str = "m") -> Call:
    talk = (SYSTEM, Message("user", prompt))
    return Call("k", step, "1", "propose", talk, "null", seed, 9, REPLY, model)


def why(prompt: str, *calls: Call, seed: int = 1, max_tokens: int = 9) -> str:
    return explain(calls, "m", [SYSTEM, Message("user", prompt)], None, seed, max_tokens)


def test_the_first_differing_line_is_shown_old_against_new() -> None:
    assert why("one\ntwo\nthree", call("one\n2\nthree", step=4)) == (
        "nearest is the recorded call of step 4 (propose), whose prompt differs first in line 5:\n"
        "recorded: 2\n"
        "now:      two"
    )


def test_the_call_with_the_seed_of_the_request_is_the_nearest() -> None:
    said = why("a\nb", call("a\nB", seed=1, step=3), call("a\nb and more", seed=2, step=7))
    assert "step 3" in said


def test_without_such_a_seed_it_is_the_one_with_the_longest_common_beginning() -> None:
    said = why("a\nb\nc", call("a\nx\nc", seed=5, step=3), call("a\nb\nx", seed=6, step=7))
    assert "step 7" in said
    assert said.endswith("recorded: x\nnow:      c")


def test_a_line_that_one_of_them_has_not_is_named() -> None:
    assert "recorded: (no such line)" in why("a\nb", call("a"))
    assert "now:      (no such line)" in why("a", call("a\nb"))
    assert "now:      (an empty line)" in why("a\n\nb", call("a\nb"))


def test_of_a_long_line_the_part_around_the_difference_is_shown() -> None:
    same = "x" * 1000
    said = why(f"{same}new{same}", call(f"{same}old{same}"))
    old, new = said.splitlines()[1:]
    assert len(old) < 200
    assert "..." + "x" * 40 + "old" in old
    assert "..." + "x" * 40 + "new" in new


def test_what_is_not_the_prompt_is_named_too() -> None:
    assert "its seed was 1, now it is 2" in why("a", call("a"), seed=2)
    assert "its max_tokens was 9, now it is 8" in why("a", call("a"), max_tokens=8)
    assert "its model was other, now it is m" in why("a", call("a", model="other"))
    assert "less often" in why("a", call("a"))


def test_an_empty_record_is_said_to_be_empty() -> None:
    assert why("the end") == "the record holds no call at all; the prompt ends: 'the end'"
