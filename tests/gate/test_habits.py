"""The proposer in the LLM's place: whose habits it has, and what it may not draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bilevel import mechanisms
from bilevel.codec import load_log
from bilevel.gate.habits import ENOUGH, Habits, Habitual, habits
from bilevel.history import History
from bilevel.model import Draft, Move, Proposal, Record, Refusal, Steering, Values
from bilevel.seeds import generator
from bilevel.stack import Layer
from bilevel.tape.tape import Tape
from planted import EIGHT, PLANTED, sixteen, until
from worlds import RUN, Log, build, walk

HERE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Asked:
    """What a proposer of some habits answers at many steps."""

    answers: list[Draft | Refusal]

    @property
    def drafts(self) -> list[Draft]:
        return [a for a in self.answers if isinstance(a, Draft)]

    def named(self, start: Values) -> list[tuple[str, ...]]:
        return [EIGHT.changed(start, d.values) for d in self.drafts]


@pytest.fixture(scope="module")
def known() -> list[Record]:
    return sixteen()


def ask(known: Sequence[Record], of: Habits, move: Move = Move(), count: int = 300) -> Asked:  # noqa: B008
    history = History(EIGHT, known)
    proposer = Habitual("", PLANTED.objective, Tape("", None), 3, of)
    views = [
        history.view(step=s, slots=1, left=9, rng=generator(0)) for s in range(100, 100 + count)
    ]
    return Asked([proposer.propose(history, v, move, 99) for v in views])


def test_habits_are_those_of_the_log() -> None:
    run, records = load_log((HERE.parent / "results/gpt-30/run.json").read_text(encoding="utf-8"))
    found = habits(run, records)
    proposals = [r for r in records if isinstance(r, Proposal)]
    refused = sum(len(p.refusals) for p in proposals)
    answers = refused + sum(len(p.drafts) for p in proposals)
    assert found.refused == refused / answers
    assert found.two == 7 / answers
    assert found.named["ADAM_BETAS[0]"] == 7  # repeats and "changes nothing" included
    assert "WARMUP_RATIO" not in found.named
    assert len(found.steps["WEIGHT_DECAY"]) >= ENOUGH
    assert found.chosen["WINDOW_PATTERN"].count("SSSS") > found.chosen["WINDOW_PATTERN"].count(
        "SLSL"
    )


def test_a_mechanism_s_own_values_are_no_habit() -> None:
    log = Log()
    layer = Layer("random", "random", mechanisms.load("random_search"))
    build(log, walk, evals=5, layers=[layer]).go()
    assert habits(RUN, until(log, 5)) == Habits(
        {}, 0.0, 0.0, {n: [] for n in RUN.space.names}, {n: [] for n in RUN.space.names}
    )


def test_draws_follow_the_habits(known: list[Record]) -> None:
    start = History(EIGHT, known).incumbent
    assert start is not None
    found = ask(known, Habits({"B": 30, "C": 10}, 0.3, 0.25, {"B": [0.1, 0.1, 0.2]}))
    assert 0.2 < 1 - len(found.drafts) / 300 < 0.3
    named = found.named(start.values)
    assert 0.22 < sum(len(n) == 2 for n in named) / len(named) < 0.38
    alone = [n[0] for n in named if len(n) == 1]
    assert 2 < alone.count("B") / alone.count("C") < 4.5
    assert all(d.values["B"] >= 0.5 for d in found.drafts)


def test_focus_and_frozen_hold_for_the_draws(known: list[Record]) -> None:
    start = History(EIGHT, known).incumbent
    assert start is not None
    focused = ask(known, Habits({"B": 30}, 0.5), Move(focus=("C", "D")), 50)
    assert {n for names in focused.named(start.values) for n in names} == {"C", "D"}
    frozen = ask([*known, Steering(("B", "C"))], Habits({"B": 30}, 0.5), count=50)
    assert {n for names in frozen.named(start.values) for n in names}.isdisjoint({"B", "C"})


def test_a_parameter_that_was_named_in_vain_rests(known: list[Record]) -> None:
    refusal = Refusal(99, Move(), "it repeats #1", rests=("B",))
    idle = Proposal(99, (Move(),), (), (refusal,), ())
    start = History(EIGHT, known).incumbent
    assert start is not None
    found = ask([*known, idle], Habits({"B": 30}), count=50)
    assert all("B" not in names for names in found.named(start.values))
