"""What a layer may answer, and what becomes of an answer that breaks a rule."""

from dataclasses import replace

import pytest

from bilevel.mechanism import Mechanism, View
from bilevel.model import Decision, Draft, Fault, Move, Record, Trial
from bilevel.stack import Layer, Stack
from worlds import SPACE

BASE = Trial(0, None, SPACE.defaults(), "ok", -1.0, {}, 1.0, 0, True)
VIEW = View(SPACE, (BASE,), BASE, BASE, 4, frozen=("RATE",))
MOVES = [Move(parents=(0,))]
DRAFTS = [Draft(i, 4, MOVES[0], SPACE.defaults() | {"BATCH": 2**b}) for i, b in enumerate((9, 10))]


def answers(**fixed: object) -> Mechanism:
    """A mechanism whose hooks give fixed answers; without attributes, which must be JSON."""

    def hook(name: str):
        return lambda self, *given: fixed[name]

    return type("Answers", (Mechanism,), {name: hook(name) for name in fixed})()


def stack(*mechanisms: Mechanism) -> tuple[Stack, list[Record]]:
    log: list[Record] = []
    layers = [Layer(str(i), f"layer {i}", m) for i, m in enumerate(mechanisms)]
    return Stack(layers, 7, log.append), log


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "a list of Move"),
        ([1], "a list of Move"),
        ([Move(parents=(8,))], "ids of trials"),
        ([Move(focus=("RATE",))], "RATE is frozen"),
        ([Move(values=SPACE.defaults() | {"BATCH": 7})], "its range is"),
        ([Move(values=SPACE.defaults() | {"RATE": 0.5})], "RATE is frozen at 0.1"),
    ],
)
def test_a_plan_that_breaks_a_rule_falls_back_on_record(answer: object, words: str) -> None:
    layers, log = stack(answers(plan=answer))
    assert layers.plan(VIEW, MOVES) == MOVES
    (fault,) = log
    assert isinstance(fault, Fault)
    assert words in fault.message


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("x", "a list of Draft"),
        ([replace(DRAFTS[0], id=9)], "may not invent"),
        ([DRAFTS[0], DRAFTS[0]], "may not invent or repeat"),
        ([DRAFTS[0].edit(SPACE.defaults() | {"RATE": 0.9}, "bolder")], "RATE is frozen"),
    ],
)
def test_a_screening_that_breaks_a_rule_falls_back_on_record(answer: object, words: str) -> None:
    layers, log = stack(answers(screen=answer))
    assert layers.screen(VIEW, DRAFTS) == DRAFTS
    assert isinstance(log[0], Fault)
    assert words in log[0].message


def test_screening_may_drop_reorder_and_edit() -> None:
    edited = DRAFTS[1].edit(SPACE.defaults() | {"BATCH": 2048}, "halfway")
    layers, log = stack(answers(screen=[edited, DRAFTS[0]]))
    assert layers.screen(VIEW, DRAFTS) == [edited, DRAFTS[0]]
    assert edited.edits[0].before == DRAFTS[1].values
    assert isinstance(log[0], Decision)


def test_a_failed_trial_is_never_kept_whatever_a_layer_says() -> None:
    layers, _ = stack(answers(accept=True))
    failed = replace(BASE, id=3, status="crash", score=None)
    assert layers.accept(VIEW, failed, False) is False


def test_each_layer_gets_the_answer_of_the_one_below() -> None:
    class Tags(Mechanism):
        def plan(self, view, moves):
            return [replace(m, tag=m.tag + "x") for m in moves]

    layers, log = stack(Tags(), Tags())
    assert layers.plan(VIEW, MOVES)[0].tag == "xx"
    assert [r.before for r in log[1:]] == [r.after for r in log[:1]]


def test_a_decision_has_one_generator_of_its_own() -> None:
    class Draws(Mechanism):
        def plan(self, view, moves):
            return [Move(parents=(0,), note=str([view.rng.random() for _ in range(2)]))]

    first, second = stack(Draws(), Draws())[0], stack(Draws(), Draws())[0]
    note = first.plan(VIEW, MOVES)[0].note
    assert note == second.plan(VIEW, MOVES)[0].note
    assert note != first.plan(replace(VIEW, step=5), MOVES)[0].note
    one, two = note.strip("[]").split(", ")
    assert one != two


def test_a_state_that_json_cannot_hold_is_a_fault_and_the_old_one_stays() -> None:
    class Hoards(Mechanism):
        def __init__(self):
            self.seen = 0

        def plan(self, view, moves):
            self.seen += 1
            if self.seen == 2:
                self.bad = {1, 2}
            return moves

    hoards = Hoards()
    layers, log = stack(hoards)
    for _ in range(2):
        layers.plan(VIEW, MOVES)
    assert [type(r) for r in log] == [Decision, Fault]
    assert vars(hoards) == {"seen": 1}
