"""A prompt that is too long is asked again with less in it; the record says with what."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console

from bilevel import engine
from bilevel.budget.budget import Budget, bill
from bilevel.codec import dump, load
from bilevel.engine import Edges
from bilevel.ensemble import Cast, Several
from bilevel.errors import ContextTooLong
from bilevel.history import History
from bilevel.loop import Loop
from bilevel.model import (
    TOO_LONG,
    Call,
    MechanismSource,
    Message,
    OuterPlan,
    Prices,
    Prompt,
    Rate,
    Reply,
    Run,
)
from bilevel.prompting import HISTORY_LINES, SHORTER, history_lines, shortened
from bilevel.protocols import Schema
from bilevel.render.live import Terminal
from bilevel.render.render import llm_text
from bilevel.replay import DECIDED, Replay, replay
from bilevel.research.authoring import repair, shorter
from bilevel.research.briefing import briefing, shorter_briefings
from bilevel.research.merit import Known
from bilevel.resuming import timeless
from bilevel.summary import summarise
from bilevel.tape.tape import Tape
from bilevel.tape.taped import taped
from outer_worlds import RUN as LEVELS
from outer_worlds import QuickGate, TrustedSandbox, of, sha_of
from threelevels import BROKEN, SOURCE, ThreeLevels
from traces import view_of
from worlds import LOSS, SPACE, Instant, Log, build

PLAN = OuterPlan(
    steering=True, research="sham", every=5, cycles=1, candidates=2, repairs=2, screening=False
)
RUN = replace(LEVELS, evals=11, confirms=0, llm="inner", llm_outer="outer", outer=PLAN)
FREE = 10**9  # characters, more than any prompt has


@dataclass
class Narrow(ThreeLevels):
    """Refuses prompts with more characters than it reads."""

    sources: Sequence[str] = (BROKEN, BROKEN, SOURCE)
    reads: int = FREE
    sizes: list[int] = field(default_factory=list)

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        size = sum(len(m.content) for m in messages)
        self.sizes.append(size)
        if size > self.reads:
            raise ContextTooLong(f"{size} is over the {self.reads} characters of the context")
        return super().complete(messages, schema, seed=seed, max_tokens=max_tokens)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "Gate", QuickGate)


def loop(log: Log, inner: int, outer: int = FREE, run: Run = RUN) -> Loop:
    """A run over `log`, two models of which read so much."""
    llm = Several("two", {"inner": Narrow(reads=inner), "outer": Narrow(reads=outer)})
    calls = [r for r in log if isinstance(r, Call)]
    edges = Edges(Tape("", None), Instant(), log.append, records=list(log))
    edges.sandbox = TrustedSandbox()  # type: ignore[assignment]
    edges.tape = Tape(run.llm, llm, calls, edges.log, Cast(run))
    return engine.build(run, edges)


def decisions(log: Log) -> list[object]:
    return [timeless(r) for r in log if isinstance(r, DECIDED)]


def asked(log: Log, level: str = "") -> list[tuple[int, Call]]:
    """The calls of a level, each after the characters of its prompt."""
    calls = [c for c in of(log, Call) if level in ("", c.level)]
    return [(sum(len(m.content) for m in c.messages), c) for c in calls]


def replayed(log: Log, run: Run = RUN) -> Replay:
    return replay(run, list(log), sandbox=TrustedSandbox())  # type: ignore[arg-type]


@cache
def free() -> Log:
    """A run whose models read any prompt."""
    log = Log()
    loop(log, FREE).go()
    return log


def sizes(level: str) -> list[int]:
    """Characters of the prompts that such a run asks with its history, in order."""
    return [size for size, c in asked(free(), level) if "generate" not in c.purpose]


def bounds() -> tuple[int, int]:
    """What the models read at most, so that about half the prompts are too long."""
    inner, outer = (sorted(sizes(level)) for level in ("1", "2"))
    return inner[len(inner) // 2], outer[len(outer) // 2]


@cache
def whole() -> Log:
    log = Log()
    loop(log, *bounds()).go()
    return log


def test_a_run_whose_prompts_are_too_long_goes_to_its_end_and_replays() -> None:
    log = whole()
    refused = [c for _, c in asked(log) if c.reply.finish == TOO_LONG]
    cuts = [c.cut for _, c in asked(log, "1") if c.cut]
    assert {c.level for c in refused} == {"1", "2"}
    assert len(cuts) > 5
    assert any(cut.startswith("history cut to 12 of ") for cut in cuts)
    assert any("earlier" not in c.cut and c.cut for _, c in asked(log, "2"))
    assert replayed(log).difference is None
    assert [load(Call, dump(c)) for c in refused] == refused


def test_what_was_too_long_once_is_not_asked_again() -> None:
    for level, model in (("1", "inner"), ("2", "outer")):
        refused: list[int] = []
        for size, call in asked(whole(), level):
            assert call.model == model
            assert size < min(refused, default=size + 1), (call.purpose, call.cut)
            refused += [size] if call.reply.finish == TOO_LONG else []
        assert refused


def test_where_nothing_is_too_long_nothing_is_cut() -> None:
    log = free()
    assert not any(c.cut for _, c in asked(log))
    cut = whole()
    first = next(i for i, r in enumerate(cut) if isinstance(r, Call) and not r.reply.answers)
    before = [list(map(timeless, records[:first])) for records in (cut, log)]
    assert before[0] == before[1], "all is the same before the first refusal"


def test_a_run_that_is_killed_anywhere_resumes_to_the_same_decisions() -> None:
    calm = whole()
    at = [i for i, r in enumerate(calm) if isinstance(r, Call) and not r.reply.answers]
    for death in sorted({*at, at[0] + 1, at[-1] + 1, at[-1] + 2}):
        log = Log(dies_at=death)
        with pytest.raises(KeyboardInterrupt):
            loop(log, *bounds()).go()
        log.dies_at = None
        loop(log, *bounds()).go()
        assert decisions(log) == decisions(calm), f"killed before record {death}"
        assert of(log, Call) == of(calm, Call)


def test_after_the_shortest_the_run_pauses_and_asks_again_when_it_is_resumed() -> None:
    log = Log()
    few = sizes("1")[4]  # Steering adds to the next one.
    for _ in range(2):
        with pytest.raises(ContextTooLong, match=rf"over the {few} characters .*4 of \d+ lines"):
            loop(log, few).go()
    refused = [(size, c) for size, c in asked(log, "1") if c.reply.finish == TOO_LONG]
    shortest = [(c.seed, c.key) for size, c in refused if size == refused[-1][0]]
    assert len(shortest) == 2, "once in each part"
    assert shortest[1][0] == shortest[0][0] + 1
    at_pause = len(decisions(log))
    loop(log, FREE).go()
    assert len(decisions(log)) > at_pause
    assert replayed(log).difference is None
    assert not asked(log, "1")[-1][1].cut, "longer prompts were answered since"


def test_a_prompt_that_cannot_be_cut_is_an_error_at_once() -> None:
    with pytest.raises(ContextTooLong, match="the shortest prompt was asked: nothing in it can be"):
        loop(Log(), 10).go()


def long_history() -> History:
    log = Log()
    build(log, evals=60).go()
    return History(SPACE, log)


def test_kept_ones_go_last_and_the_newest_of_them_never() -> None:
    history = long_history()
    usual = history_lines(LOSS, history)
    assert usual == history_lines(LOSS, history, 0, HISTORY_LINES)
    kept = [line for line in usual if ", kept" in line or "#0 all" in line]
    for most in SHORTER:
        lines = history_lines(LOSS, history, most=most)
        assert lines[0].endswith("older and discarded ones left out)")
        assert 0 < len(lines) - 1 <= most
        assert [x for x in lines if x in kept] == kept[-most:]
        rest = iter(usual)
        assert all(line in rest for line in lines[1:]), "in order"


def test_each_cut_is_said_and_shorter_than_the_one_before() -> None:
    history = long_history()

    def talk(most: int) -> list[Message]:
        return [Message("user", "\n".join(history_lines(LOSS, history, most=most)))]

    prompts = list(shortened(LOSS, history, talk))
    sizes = [len(p.messages[0].content) for p in prompts]
    assert sizes == sorted(set(sizes), reverse=True)
    total = len(history.search()) + len(history.refusals())
    shown = [len(p.messages[0].content.splitlines()) - 1 for p in prompts]
    assert [p.cut for p in prompts] == [f"history cut to {n} of {total} lines" for n in shown]
    assert list(shortened(LOSS, History(SPACE), talk)) == []


def known(name: str, *, stacked: bool) -> Known:
    text = SOURCE.replace("EverySecond", name)
    source = MechanismSource(sha_of(text), name, text)
    return Known(source, f"what became of {name}", 0.5, stacked)


def test_level_2_gives_up_trace_then_earlier_mechanisms_then_sources() -> None:
    history = long_history()
    run = replace(RUN, space=SPACE)
    both = [known("OnTheStack", stacked=True), known("ForgottenOne", stacked=False)]
    rounds = [Message("assistant", "what was said"), Message("user", "and so on")]
    whole = briefing(run, history, view_of(history), both)
    prompts = list(shorter_briefings(run, history, view_of(history), both, rounds))
    assert all(p.messages[0] == whole[0] and p.messages[2:] == tuple(rounds) for p in prompts)
    sizes = [len(p.messages[1].content) for p in prompts]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] < len(whole[1].content)
    *trace, unknown, bare = prompts
    assert all("ForgottenOne" in p.messages[1].content for p in trace)
    assert unknown.cut == f"{trace[-1].cut}, earlier mechanisms left out"
    assert "ForgottenOne" not in unknown.messages[1].content
    assert "class OnTheStack" in unknown.messages[1].content
    assert bare.cut == f"{unknown.cut}, sources of the stack left out"
    assert "class OnTheStack" not in bare.messages[1].content
    assert "OnTheStack: what became of OnTheStack" in bare.messages[1].content
    assert len(list(shorter_briefings(run, history, view_of(history), (), rounds))) == len(trace)


def test_an_author_is_shown_the_last_refusal_only() -> None:
    talk = [Message("system", "s"), Message("user", "write it")]
    assert list(shorter(talk)) == []
    for number in range(3):
        talk = repair(talk, f"source {number}", f"mend {number}")
    (less,) = shorter(talk)
    assert [m.content for m in less.messages[:3]] == ["s", "write it", "source 2"]
    assert "mend 2" in less.messages[3].content
    assert less.cut == "2 earlier refusals left out"


def test_a_refusal_costs_nothing_and_frees_what_was_held_back_for_it() -> None:
    run = replace(RUN, llm="m", llm_outer="", limits={"tokens": 100_000.0})
    prices = Prices("m", "given", (Rate(1.0, 1.0, 1.0),))
    budget = Budget(run, [prices])
    log = Log()

    def record(found: object) -> None:
        log.append(found)  # type: ignore[arg-type]
        budget.add(found)  # type: ignore[arg-type]

    tape = Tape("m", Narrow(reads=50), record=record, budget=budget)
    long, short = ([Message("user", "x" * n)] for n in (90, 40))
    shape = {"properties": {"changes": 0}}
    tape.complete(
        long, shape, seed=3, max_tokens=9, step=0, level="1", purpose="propose",
        shorter=[Prompt(tuple(short), "half of it")],
    )  # fmt: skip
    refused, answered = of(log, Call)
    assert (refused.reply.finish, refused.cut, answered.cut) == (TOO_LONG, "", "half of it")
    found = bill(refused, {"m": prices}, "m")
    assert (found.tokens_in, found.tokens_out, found.usd, found.counted) == (0, 0, 0.0, True)
    assert budget.spent().tokens == answered.reply.tokens_in + answered.reply.tokens_out
    assert budget.spent().calls == 2


def test_another_runs_tape_refuses_as_its_model_did() -> None:
    one = replace(RUN, llm_outer="", llm="inner", outer=OuterPlan(), evals=24)
    recorded, other = Log(), Log()
    loop(recorded, bounds()[0], run=one).go()
    assert any(c.cut for _, c in asked(recorded))
    run = replace(one, id="toy-2", tape="toy-1")
    llm = taped(run, one, recorded, None, ())
    edges = Edges(Tape("", None), Instant(), other.append)
    edges.tape = Tape(run.llm, llm, (), edges.log, Cast(run))
    engine.build(run, edges).go()
    assert decisions(other) == decisions(recorded)
    assert {c.reply.taken for _, c in asked(other)} == {"toy-1"}


def test_the_terminal_and_the_summary_say_what_was_cut(tmp_path: Path) -> None:
    log = whole()
    screen = Console(file=io.StringIO(), width=200, color_system=None)
    watcher = Terminal(RUN, [], tmp_path, screen)
    for record in log:
        watcher.record(record)
    assert isinstance(screen.file, io.StringIO)
    lines = [x.strip() for x in screen.file.getvalue().splitlines() if "too long" in x]
    refused = [c for _, c in asked(log) if c.reply.finish == TOO_LONG]
    assert 0 < len(lines) <= len(refused)
    first = next(c.cut for _, c in asked(log, "1") if c.cut)
    assert lines[0] == f"Level 1  {first}: the prompt was too long for inner"
    usage = summarise(RUN, log).usage
    answered = [c.cut for _, c in asked(log) if c.cut and c.reply.answers]
    assert (usage.refused, usage.cut) == (len(refused), len(answered))
    text = llm_text(usage).plain
    assert f"{len(refused)} refused as the prompt was too long for the model" in text
    assert f"{len(answered)} prompts shortened; the last: {answered[-1]}" in text
    repairs = [c for c in of(log, Call) if c.purpose == "repair" and c.reply.answers]
    assert usage.repairs == len(repairs)
