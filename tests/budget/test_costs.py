"""`estimate`, `costs`, `--budget` and `--price` from the command line, and what a run keeps."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
from typer.testing import CliRunner, Result

from bilevel.budget import estimate as estimating
from bilevel.budget import rehearsal
from bilevel.budget.budget import price_list, weight
from bilevel.budget.costs import costs
from bilevel.budget.estimate import estimate, pace
from bilevel.budget.openings import elapsed
from bilevel.budget.rehearsal import rehearse
from bilevel.cli import running
from bilevel.cli.cli import app
from bilevel.model import (
    Call,
    Denial,
    Estimate,
    Message,
    Opening,
    Prices,
    Record,
    Reply,
    Stop,
    Trial,
)
from bilevel.planning import Settings, planned
from bilevel.protocols import LLM
from bilevel.workspace import Workspace
from comparable import write_task
from outer_worlds import of
from spending_worlds import Spender
from worlds import RUN

PRICE = ("--price", "in=2,out=8,cached=0.5")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with a task; SIGTERM as it was, when the test ends."""
    monkeypatch.chdir(tmp_path)
    write_task(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> Spender:
    """The scripted LLM that every command gets, whatever model is asked for."""
    made = Spender(greed=0.5)

    def connect(spec: str, progress: object) -> LLM:
        made.name = spec
        return made

    monkeypatch.setattr(running, "connect", connect)
    return made


def bilevel(*words: str) -> Result:
    return CliRunner().invoke(app, words, env={"COLUMNS": "200"})


def run(*words: str, evals: int = 6) -> Result:
    given = ("--evals", str(evals), "--confirms", "1", "--llm", "scripted", "--levels", "1,1.5")
    return bilevel("run", "task.toml", *given, "--every", "2", *words)


def records(name: str = "toy-1") -> list[Record]:
    return Workspace(Path(".bilevel")).records(name)


def test_a_budget_in_money_needs_a_price_and_then_stops_the_run(llm: Spender) -> None:
    refused = run("--budget", "usd=0.01")
    assert refused.exit_code == 1
    assert "what scripted costs is not known" in str(refused.exception)
    assert "--price" in str(refused.exception)
    assert not Workspace(Path(".bilevel")).store.runs(), "no empty run is left behind"
    assert not llm.asked
    stopped = run("--budget", "usd=0.02", *PRICE)
    assert stopped.exit_code == 0, stopped.output
    assert "budget: usd=0.02,evals=6" in stopped.output
    assert "stopped (budget) usd=0.02:" in stopped.output
    name = of_last(stopped.output)
    assert f"bilevel resume {name} --budget usd=0.04" in stopped.output
    assert llm.usd <= 0.02
    (prices,) = of(records(name), Prices)
    assert (prices.kind, prices.rates[0].cached) == ("given", 0.5)
    done = bilevel("resume", name, "--budget", "usd=5")
    assert "done: 6 evaluations" in done.output
    assert [o.limits["usd"] for o in of(records(name), Opening)] == [0.02, 5]
    assert "all came out as recorded" in bilevel("replay", name).output


def of_last(output: str) -> str:
    """The name of the run that the output is about."""
    return next(word for word in output.split() if word.startswith("toy-")).rstrip(":")


def test_a_resumed_run_with_a_budget_in_money_needs_a_price_too(llm: Spender) -> None:
    assert run("--budget", "calls=3").exit_code == 0
    before = len(records())
    refused = bilevel("resume", "--budget", "usd=1,calls=100")
    assert "--price" in str(refused.exception)
    assert len(records()) == before, "nothing is logged of what was refused"
    done = bilevel("resume", "--budget", "usd=1,calls=100", *PRICE)
    assert "done: 6 evaluations" in done.output, done.output
    found = costs(Workspace(Path(".bilevel")).store.run("toy-1"), records())
    assert found.total.usd == pytest.approx(llm.usd), "the price holds for what came before too"


def test_a_level_falls_silent_in_words_on_the_terminal(llm: Spender) -> None:
    result = run("--budget", "1.5:calls=1")
    assert (
        "Level 1.5  falls silent, the inner loop goes on; 1.5:calls=1: 1 call spent"
        in result.output
    )
    assert "done: 6 evaluations" in result.output
    (denial,) = of(records(), Denial)
    assert denial.level == "1.5"


def test_evaluations_and_time_are_limits_like_others(llm: Spender) -> None:
    assert run("--budget", "evals=4,wall=2h").exit_code == 1, "--evals 6 says otherwise"
    result = bilevel("run", "task.toml", "--llm", "scripted", "--levels", "1", "--confirms", "0",
                     "--budget", "evals=4,wall=2h")  # fmt: skip
    assert "done: 4 evaluations" in result.output
    assert "budget: wall=2h,evals=4" in result.output
    more = bilevel("resume", "--budget", "evals=6")
    assert "done: 6 evaluations" in more.output
    assert "6 of 6 evaluated" in more.output
    assert "all came out as recorded" in bilevel("replay").output


def test_costs_by_level_and_purpose_add_up(llm: Spender) -> None:
    assert run(*PRICE, "--budget", "tokens=10M").exit_code == 0
    shown = " ".join(bilevel("costs").output.split())
    for words in ("propose", "steer", "baseline", "confirm", "tokens=10M", "given by --price"):
        assert words in shown, words
    found = json.loads(bilevel("costs", "--json").output)
    assert sum(r["calls"] for r in found["rows"]) == found["total"]["calls"] == len(llm.asked)
    total = found["total"]
    assert total["tokens_in"] + total["tokens_out"] == llm.tokens
    assert total["usd"] == pytest.approx(llm.usd)
    assert {r["level"] for r in found["rows"]} == {"1", "1.5"}
    jobs = {j["role"]: j["count"] for j in found["jobs"]}
    assert jobs == {"baseline": 2, "search": 6, "confirm": 1}
    (tokens,) = [left for left in found["limits"] if left["limit"] == "tokens"]
    assert tokens["spent"] + tokens["left"] == 1e7
    assert found["seconds"] > 0
    exported = bilevel("show", "--json").output
    Path("run.json").write_text(exported)
    assert json.loads(bilevel("costs", "run.json", "--json").output)["rows"] == found["rows"]


def test_a_run_keeps_what_was_expected_and_its_summary_compares(llm: Spender) -> None:
    result = run(*PRICE)
    assert "expected: 8 to 9 evaluations, " in result.output
    assert "expected" in bilevel("show").output
    (kept,) = of(records(), Estimate)
    assert [share.level for share in kept.levels] == ["1", "1.5"]
    summary = json.loads(bilevel("show", "--json").output)["summary"]
    expected = {e["what"]: e for e in summary["expected"]}
    assert set(expected) == {"calls", "tokens", "money", "LLM", "evaluations"}
    assert expected["calls"]["took"] == len(llm.asked)
    assert expected["calls"]["least"] <= expected["calls"]["took"]
    assert expected["tokens"]["least"] <= llm.tokens <= expected["tokens"]["most"]
    assert expected["money"]["took"] == pytest.approx(llm.usd)
    assert expected["LLM"]["most"] is None, "the speed was not known"
    later = run(*PRICE)
    again = of(records(of_last(later.output)), Estimate)[0]
    assert all(share.seconds for share in again.levels), "now it is"
    assert again.job_seconds is not None


def test_estimate_says_what_it_knows_and_what_not() -> None:
    words = ("estimate", "task.toml", "--evals", "12", "--llm", "who/knows", "--every", "3")
    shown = bilevel(*words)
    assert shown.exit_code == 0, shown.output
    for said in ("Level 1.5", "Level 2", "unknown", "--measure makes one", "price unknown"):
        assert said in shown.output, said
    found = json.loads(bilevel(*words, *PRICE, "--measure", "--json").output)
    one, steering, research = found["levels"]
    assert one["calls"] == [12, 24] or one["calls"][0] >= 12
    assert steering["calls"][0] == 3, "after 3, 6 and 9 evaluations"
    assert research["calls"][0] == 4, "one session of three rounds and a source"
    assert research["calls"][1] == 3 + 4 * 4, "four sources, each repaired three times"
    assert found["job_seconds"] is not None
    assert found["levels"][0]["seconds"] is None
    assert one["usd"][0] < one["usd"][1]


def test_a_stack_that_writes_all_values_asks_no_llm() -> None:
    stack = ("--stack", "random_search", "--llm", "none")
    found = json.loads(bilevel("estimate", "task.toml", *stack, "--json").output)
    assert found["levels"] == []
    assert "no LLM is asked" in found["basis"][0]


def test_a_long_run_is_rehearsed_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (rehearsal, estimating):
        monkeypatch.setattr(module, "MOST", 10)
    workspace = Workspace(tmp_path / "state")
    short, long = (
        estimate(workspace, planned(workspace, "task.toml", Settings(evals=n, llm="x/y")), {})
        for n in (10, 100)
    )
    assert long.levels[0].calls[0] == 10 * short.levels[0].calls[0]
    assert long.levels[0].usd is None


def test_a_rehearsal_asks_as_often_as_a_run_and_at_such_length(llm: Spender) -> None:
    assert run(evals=8).exit_code == 0
    made = [c for c in of(records(), Call) if "repair" not in c.purpose]
    found = rehearse(Workspace(Path(".bilevel")).store.run("toy-1"), (), rough=False)
    assert len([a for a in found if a.level == "1.5"]) == len([c for c in made if c.level == "1.5"])
    for level in ("1", "1.5"):
        real = [weight(c.messages, c.schema) for c in made if c.level == level]
        here = [a.read for a in found if a.level == level]
        assert median(here) == pytest.approx(median(real), rel=0.25)
        assert max(here) == pytest.approx(max(real), rel=0.4)


def test_a_models_pace_comes_from_its_own_calls() -> None:
    def call(level: str, model: str, read: int, written: int, seconds: float) -> Call:
        talk = (Message("user", "x" * 1000),)
        reply = Reply("y", "m", read, written, 0, seconds)
        return Call("k", 0, level, "propose", talk, "", 0, 300, reply, model)  # type: ignore[arg-type]

    first = replace(RUN, llm="a", llm_outer="b")
    calls = [
        call("1", "a", 250, 50, 5.0),
        call("1", "", 350, 70, 7.0),
        call("2", "b", 400, 80, 1.0),
    ]
    found = pace("a", [(first, calls)])
    assert found is not None
    assert (found.runs, found.read, found.written) == (1, 0.3, {"1": 60})
    assert found.seconds == pytest.approx(0.1)
    assert pace("c", [(first, calls)]) is None


def test_wall_time_counts_the_parts_of_a_run_and_not_the_pauses(llm: Spender) -> None:
    llm.dies_at = 4
    assert run().exit_code == 130
    workspace = Workspace(Path(".bilevel"))
    first = elapsed(workspace.store.events("toy-1"))
    assert first > 0
    llm.dies_at = 0
    assert bilevel("resume").exit_code == 0
    begun = of(records(), Opening)
    assert [o.seconds for o in begun] == [0.0, first]
    assert elapsed(workspace.store.events("toy-1")) > first
    assert isinstance(records()[-1], Stop)


def test_a_run_of_before_openings_counts_by_its_own_seconds() -> None:
    trials = [Trial(i, None, {}, "ok", 1.0, {}, 2.5, 0, False) for i in range(3)]
    assert elapsed([(i, "Trial", None, t) for i, t in enumerate(trials)]) == 7.5


def test_a_run_without_prices_on_record_is_not_free() -> None:
    call = Call("k", 0, "1", "propose", (Message("user", "x"),), "", 0, 300, Reply("y", "m", 5, 5))
    assert costs(RUN, [call]).total.usd is None
    assert price_list(RUN, [call]) == {}


def test_what_no_cache_had_is_told_of_a_call(llm: Spender) -> None:
    assert run(*PRICE).exit_code == 0
    found = costs(Workspace(Path(".bilevel")).store.run("toy-1"), records())
    calls = [c for c in records() if isinstance(c, Call) and c.purpose == "propose"]
    new = [c.reply.tokens_in - c.reply.tokens_cached for c in calls]
    row = next(row for row in found.rows if row.purpose == "propose")
    assert len(new) == row.calls
    assert row.computed == median(new)
    assert "new: tokens of a call's prompt that no cache had" in bilevel("costs").output
