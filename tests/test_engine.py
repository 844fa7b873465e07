"""One assembly of both loops: what is set aside on going on, what may be loaded, what is closed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from bilevel import engine
from bilevel.engine import Edges
from bilevel.errors import ConfigError, StoreError
from bilevel.gate.gate import Gate, Verdict
from bilevel.model import (
    Decision,
    Fault,
    Layering,
    MechanismSource,
    Proposal,
    Record,
    Session,
    Stop,
)
from bilevel.replay import replay
from bilevel.resuming import settled
from bilevel.sandbox.errors import MechanismRaised
from bilevel.sandbox.host import Limits
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.stack import Layer
from bilevel.tape.tape import Tape
from outer_worlds import (
    COUNTS,
    HEAD,
    KEEPS,
    NEVER_CALLED,
    WHOLE,
    QuickGate,
    Script,
    TrustedSandbox,
    calm,
    levels,
    notes,
    obliging,
    of,
    planned,
    quick,
    recorded,
    sha_of,
)
from worlds import RUN, Instant, Log

__all__ = ["quick"]
DONE = Proposal(0, (), (), (), ())
DECISION = Decision(1, "a", "plan", 1, "[]", "[]", 2.5)
FAULT = Fault(1, "a", "plan", "ValueError", "no")


def edges(records: Sequence[Record], log: Log) -> Edges:
    return Edges(Tape("", None), Instant(), log.append, records=list(records))


def test_what_was_logged_of_a_decision_that_was_cut_short_is_set_aside_and_not_logged_twice() -> (
    None
):
    log = Log([DONE, DECISION, FAULT])
    made = edges(log, log)
    made.settle()
    assert made.records == [DONE]
    assert made.recorded == [DONE, DECISION, FAULT]
    slower = replace(DECISION, ms=9.0)
    made.log(slower)
    made.log(FAULT)
    made.log(FAULT)
    assert made.records == [DONE, slower, FAULT, FAULT]
    assert log == [DONE, DECISION, FAULT, FAULT]


def test_a_log_is_settled_up_to_its_last_decision() -> None:
    assert settled([]) == settled([DECISION, FAULT]) == 0
    assert settled([DECISION, DONE, FAULT]) == 2
    assert settled([DONE, Stop(0, "interrupted"), DONE]) == 3


@pytest.mark.usefixtures("quick")
def test_without_outer_levels_nothing_is_called_between_the_steps() -> None:
    plain = levels(Log(), run=planned(steering=False, research="off"))
    assert not isinstance(plain.between, engine.Outer)
    assert isinstance(levels(Log(), run=planned(research="off")).between, engine.Outer)


def test_generated_code_needs_a_sandbox() -> None:
    source = MechanismSource(sha_of(COUNTS), "Mine", COUNTS)
    with pytest.raises(ConfigError, match="no sandbox was opened"):
        edges([], Log()).load(source)


def test_only_the_text_whose_sha_is_on_record_is_loaded() -> None:
    made = edges([], Log())
    made.sandbox = TrustedSandbox()  # type: ignore[assignment]
    good = MechanismSource(sha_of(COUNTS), "Mine", COUNTS)
    assert made.load(good).sha == sha_of(COUNTS)
    with pytest.raises(StoreError, match="Mine is not the text whose sha"):
        made.load(replace(good, source=notes("stale")))


@pytest.mark.usefixtures("quick")
def test_layers_that_were_made_to_measure_credit_are_closed() -> None:
    sandbox = TrustedSandbox()
    log = recorded(Script(propose=obliging), sandbox=sandbox, measure=calm, run=planned(layers=3))
    joined = [r.sha for r in of(log, Layering)]
    assert len(joined) == 3
    assert len(sandbox.loaded) > 6
    assert len(sandbox.loaded) - len(sandbox.closed) == 3


def test_a_candidate_stands_on_fresh_layers_of_the_stack_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[str, Sequence[Layer]]] = []

    class Looking(QuickGate):
        def judge(self, text: str) -> Verdict:
            verdict = super().judge(text)
            seen.append((verdict.sha, self.layers()))
            return verdict

    monkeypatch.setattr(engine, "Gate", Looking)
    script = Script(sources=((COUNTS,), (notes("one"),)), propose=obliging)
    loop = levels(Log(), script, planned(evals=6), measure=calm)
    loop.go()
    (first, below), (second, counting) = seen[:2]
    assert (first, second) == (sha_of(COUNTS), sha_of(notes("one")))
    assert below == []
    (layer,) = counting
    running = next(x for x in loop.stack.layers if x.sha == layer.sha)
    assert vars(layer.mechanism) == {"seen": []}, "as it was before it was asked anything"
    assert vars(running.mechanism)["seen"]


@pytest.mark.parametrize("wanted", [True, False])
def test_the_gate_screens_where_the_run_asks_for_it(
    monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    screens: list[object] = []

    class Looking(QuickGate):
        def judge(self, text: str) -> Verdict:
            screens.append(self.screening)
            return super().judge(text)

    monkeypatch.setattr(engine, "Gate", Looking)
    recorded(run=planned(evals=3, screening=wanted))
    assert [screen is not None for screen in screens] == [wanted]


# The same, behind the real wall


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(call=5.0)) as made:
        if made.level() == "weak":
            pytest.skip("this machine cannot lock a worker; see the level's report")
        yield made


def test_a_run_behind_the_wall_is_that_of_its_sources_and_leaves_no_worker(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "Gate", WHOLE)
    script = Script(
        sources=((NEVER_CALLED, notes("one")), (notes("two"),), (KEEPS,)), propose=obliging
    )
    run, log = planned(evals=7, layers=1, steering=False), Log()
    loop = levels(log, script, run, sandbox, measure=calm)
    loop.go()
    assert [[a.rule for a in s.attempts] for s in of(log, Session)] == [["parse", ""], [""], [""]]
    assert not of(log, Fault)
    held = [m.pid for m in sandbox.loaded if m.pid is not None]
    assert len(held) == len(loop.stack.layers) == 1
    trusted = recorded(script, run=run, measure=calm)
    assert [p.moves for p in of(log, Proposal)] == [p.moves for p in of(trusted, Proposal)]
    loop.stack.layers[0].close()
    assert replay(run, log, sandbox=sandbox).difference is None


def test_a_source_that_breaks_as_it_loads_does_not_end_a_run(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = f"{HEAD}    def plan(self, view, moves):\n        return moves\n\n\n1 / 0\n"
    with pytest.raises(MechanismRaised, match="division by zero"):
        sandbox.load(broken)
    monkeypatch.setattr(engine, "Gate", QuickGate)
    log = recorded(Script(sources=((broken,),)), run=planned(evals=3), sandbox=sandbox)
    (fault,) = of(log, Fault)
    assert (fault.layer, fault.hook) == (sha_of(broken), "add")
    assert "division by zero" in fault.message
    assert of(log, Stop)[-1].reason == "done"


def test_the_gate_of_a_run_is_the_real_one() -> None:
    assert engine.Gate is Gate
    assert RUN.outer.screening
