"""Values of several lines, as sources are, in prompts, in `best`, and as one configuration."""

import json

import pytest

from bilevel.fences import fenced
from bilevel.history import History
from bilevel.model import Draft, Move, Param, Proposal, Refusal, Space, Trial, Values
from bilevel.prompting import messages, parameter_line
from bilevel.proposer import Proposer
from bilevel.seeds import generator
from bilevel.tape.tape import Tape
from worlds import LOSS, Scripted

FIRST, SECOND, THIRD = (f"def rule(x):\n    return {n} * x\n" for n in (1, 2, 3))
SPACE = Space((Param("RATE", "float", 0.1, 0.0, 1.0), Param("SOURCE", "text", FIRST, doc="a rule")))


def trial(number: int, values: Values, score: float, kept: bool) -> Trial:
    step = number - 1
    draft = None if number == 0 else Draft(step, step, Move(parents=(0,)), values)
    role = "baseline" if number == 0 else "search"
    return Trial(number, draft, values, "ok", score, {}, 1.0, 0, kept, role=role)


def told(history: History, move: Move | None = None) -> str:
    view = history.view(step=3, slots=1, left=1, rng=generator(0))
    return messages("A toy.", LOSS, history, view, move or Move())[1].content


@pytest.fixture
def history() -> History:
    history = History(SPACE)
    for number, (source, score) in enumerate(((FIRST, -1.0), (SECOND, -0.5), (THIRD, -2.0))):
        values = SPACE.defaults() | {"SOURCE": source}
        one = trial(number, values, score, score > -2.0)
        if one.draft is not None:
            history.add(
                Proposal(one.draft.step, (one.draft.move,), (one.draft,), (), (one.id - 1,))
            )
        history.add(one)
    return history


def test_a_source_is_shown_as_it_is_and_once(history: History) -> None:
    text = told(history)
    assert f"SOURCE: text (a rule), default:\n```SOURCE\n{FIRST}```\n" in text
    assert (
        f"#1 SOURCE edited: 0.5000, 0.5000 better than #0, kept\n```SOURCE\n{SECOND}```\n" in text
    )
    assert f"#2 SOURCE edited: 2.0000, 1.0000 worse than #0\n```SOURCE\n{THIRD}```\n" in text
    assert [text.count(s) for s in (FIRST, SECOND, THIRD)] == [1, 1, 1]
    assert "\\n" not in text


def test_a_repeated_source_is_named_by_its_trial_alone(history: History) -> None:
    values = SPACE.defaults() | {"SOURCE": THIRD}
    refusal = Refusal(3, Move(parents=(1,)), "it repeats #2 (loss 2.0000)", values)
    history.add(Proposal(3, (refusal.move,), (), (refusal,), ()))
    text = told(history)
    assert "refused SOURCE edited: it repeats #2 (loss 2.0000)\n" in text
    assert text.count(THIRD) == 1


def test_where_the_start_is_not_shown_its_source_is_spelled_out(history: History) -> None:
    shown = told(history, Move(parents=(1, 2), since=3))
    start = "Best so far is #1, 0.5000: the defaults but SOURCE edited."
    assert f"{start}\n```SOURCE\n{SECOND}```\n" in shown
    other = "Also good: #2 with loss 2.0000, the defaults but SOURCE edited."
    assert f"{other}\n```SOURCE\n{THIRD}```\n" in shown


@pytest.mark.parametrize("text", ["```\nout", "a ```` b", "`"])
def test_no_line_of_a_text_ends_its_fence(text: str) -> None:
    first, *inside, last = fenced("NAME", text).split("\n")
    assert first == f"{last}NAME"
    assert set(last) == {"`"}
    assert "\n".join(inside) == text
    assert last not in text


def test_a_text_of_one_line_stays_in_its_line() -> None:
    line = parameter_line(Param("PATTERN", "text", "SSL"))
    assert line == 'PATTERN: text, default "SSL"'


@pytest.mark.parametrize("by", ["a move", "a reply"])
def test_a_source_that_was_tried_is_one_with_other_blank_lines_too(
    by: str, history: History
) -> None:
    values = SPACE.defaults() | {"SOURCE": f"{THIRD}\n\n"}
    reply = {"changes": [{"name": "SOURCE", "value": values["SOURCE"]}], "hypothesis": "Thrice."}
    llm = Scripted(lambda m, n: json.dumps(reply))
    move = Move(parents=(1,), values=values if by == "a move" else None)
    view = history.view(step=3, slots=1, left=1, rng=generator(0))
    proposer = Proposer("A toy.", LOSS, Tape("scripted", llm), seed=0)
    refusal = proposer.propose(history, view, move, 3)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "it repeats #2 (loss 2.0000)"
    assert len(llm.asked) == (0 if by == "a move" else 2)


@pytest.mark.parametrize("end", ["", "\n\n\n", "  \n"])
def test_blank_lines_at_its_end_make_a_source_no_other(end: str) -> None:
    same = SPACE.check(SPACE.defaults() | {"SOURCE": FIRST.rstrip() + end})
    assert same == SPACE.defaults()
    assert SPACE["SOURCE"].check(f"x = 1{end}") == "x = 1\n"
