"""What was paid for and is of no use counts in the record, the costs and against every limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from adapters import ADAPTERS, TALK, Adapter
from fake_openai import Answer, FakeOpenAI, refusal, serving

from bilevel.budget.budget import Budget
from bilevel.budget.costs import costs
from bilevel.errors import LLMUnavailable, OverBudget
from bilevel.model import UNUSABLE, Ask, Call, Denial, Prices, Rate, Record, Run
from bilevel.protocols import LLM
from bilevel.tape.tape import TRIES, Tape
from worlds import RUN

PRICES = Prices("m", "given", (Rate(1.0, 10.0, 1.0),))
EACH = (20 * 1.0 + 3 * 10.0) / 1e6  # US dollars of the 20 and 3 tokens of every fake answer

pytestmark = pytest.mark.parametrize("adapter", ADAPTERS)


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with serving() as server:
        yield server


class Notes(list[Record]):
    """The log of a run that asks one model."""

    def __init__(self, adapter: Adapter, fake: FakeOpenAI, **limits: float) -> None:
        super().__init__([PRICES])
        self.run: Run = replace(RUN, llm="m", limits=limits)
        self.llm: LLM = adapter.client(fake).llm
        self.again()

    def again(self) -> None:
        """Go on from what is on record, as after a kill or a pause."""
        self.budget = Budget(self.run, self)
        self.tape = Tape("m", self.llm, self.calls, self.log, budget=self.budget)

    @property
    def calls(self) -> list[Call]:
        return [r for r in self if isinstance(r, Call)]

    def log(self, record: Record) -> None:
        self.append(record)
        self.budget.add(record)

    def ask(self) -> str:
        return self.tape.complete(
            TALK, seed=7, max_tokens=50, step=0, level="1", purpose="propose"
        ).text

    def check(self, paid: int) -> None:
        """So many answers were paid for, says every account."""
        took = costs(self.run, self)
        assert (took.total.tokens_in, took.total.tokens_out) == (20 * paid, 3 * paid)
        assert took.total.usd == pytest.approx(EACH * paid)
        assert (took.lost, took.total.uncounted) == (0, 0)
        spent = self.budget.spent("1")
        assert (spent.calls, spent.tokens) == (paid, 23 * paid)
        assert spent.usd == pytest.approx(EACH * paid)


def test_each_paid_reply_is_on_record_and_another_seed_is_asked(
    adapter: Adapter, fake: FakeOpenAI
) -> None:
    notes = Notes(adapter, fake, tokens=10_000.0)
    fake.answers = [refusal(500, "x"), adapter.says(""), adapter.says(None), adapter.says("ok")]
    assert notes.ask() == "ok"
    assert [c.reply.finish for c in notes.calls] == [UNUSABLE, UNUSABLE, "stop"]
    assert [c.seed for c in notes.calls] == [7, 8, 9]
    assert [c.reply.attempts for c in notes.calls] == [2, 1, 1]
    assert len([r for r in notes if isinstance(r, Ask)]) == 3
    notes.check(paid=3)
    silent = Tape("m", None, notes.calls)
    replayed = silent.complete(TALK, seed=7, max_tokens=50, step=0, level="1", purpose="propose")
    assert replayed.text == "ok"


def test_a_reply_that_broke_off_after_its_tokens_were_told_is_paid_for(
    adapter: Adapter, fake: FakeOpenAI
) -> None:
    whole = adapter.says("lost on the way").body
    usage = whole[whole.index(b'"usage"') : -1]
    cut = Answer(b"{" + usage + b', "id": "unfin', short=20)
    fake.answers = [cut, adapter.says("ok")]
    notes = Notes(adapter, fake)
    assert notes.ask() == "ok"
    notes.check(paid=2)


def test_what_was_paid_before_the_server_went_away_is_not_lost(
    adapter: Adapter, fake: FakeOpenAI
) -> None:
    fake.answers = [adapter.says(""), refusal(503, "gone")]
    notes = Notes(adapter, fake)
    with pytest.raises(LLMUnavailable, match="503: gone"):
        notes.ask()
    notes.check(paid=1)
    fake.requests.clear()
    fake.answers = [adapter.says("back")]
    notes.again()
    assert notes.ask() == "back"
    assert [c.seed for c in notes.calls] == [7, 8]
    notes.check(paid=2)


def test_after_some_tries_the_run_pauses_and_resuming_asks_other_seeds(
    adapter: Adapter, fake: FakeOpenAI
) -> None:
    fake.answers = [adapter.cut("")]
    notes = Notes(adapter, fake)
    with pytest.raises(LLMUnavailable, match=r"3 replies, which are paid for: .*max_tokens"):
        notes.ask()
    notes.check(paid=TRIES)
    fake.answers = [adapter.says("ok")]
    notes.again()
    assert notes.ask() == "ok"
    assert [c.seed for c in notes.calls] == [7, 8, 9, 10]
    notes.check(paid=TRIES + 1)


def test_another_try_that_could_cross_a_limit_is_not_made(
    adapter: Adapter, fake: FakeOpenAI
) -> None:
    fake.answers = [adapter.says("")]
    notes = Notes(adapter, fake, calls=2.0)
    with pytest.raises(OverBudget, match="calls=2"):
        notes.ask()
    assert len(fake.requests) == 2
    assert len([r for r in notes if isinstance(r, Denial)]) == 1
    notes.check(paid=2)
