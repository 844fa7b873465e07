"""Several models in one run: by level, and for proposals by a bandit over gain per cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bilevel.assemble import conduct, replayed
from bilevel.budget.terms import Terms
from bilevel.cli.running import open_llm
from bilevel.codec import dump_log, load_log
from bilevel.ensemble import Cast, Pull, Several, asked, choose, members, models, models_text, pulls
from bilevel.errors import ConfigError, LLMRejected
from bilevel.model import Call, Message, OuterPlan, Prices, Rate, Record, Reply, Run
from bilevel.planning import Settings, begin
from bilevel.protocols import Schema
from bilevel.render.render import summary_panel
from bilevel.replay import replay
from bilevel.summary import summarise
from bilevel.workspace import Workspace
from resumable import SCRIPT, TASK, Silent
from threelevels import ThreeLevels
from worlds import says

TWO = "ensemble:good,bad"
NAMES = ("good", "bad")


class Scripted:
    """A model for tests that always goes to the same side; its name marks what it says."""

    def __init__(self, name: str, cost: float | None = 0.01) -> None:
        self.name = name
        self.cost = cost
        self.calls = 0
        self.closed = False

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        self.calls += 1
        # Different each time, nearer to the best at 0.2 or farther away from it.
        step = seed % 9973 / 9973
        rate = 0.2 + 0.3 * step**2 if self.name == "good" else 0.6 + 0.4 * step
        return Reply(says(RATE=round(rate, 6)), f"{self.name}-1", 9, 9, 0, 0.1, cost=self.cost)

    def close(self) -> None:
        self.closed = True


def workspace_of(folder: Path) -> tuple[Workspace, str]:
    (folder / "train.py").write_text(SCRIPT.replace("BATCH / 2**12 + SEED % 7 / 1000", "0"))
    (folder / "task.toml").write_text(TASK)
    return Workspace(folder / "state"), str(folder / "task.toml")


def ensemble() -> Several:
    return Several(TWO, {name: Scripted(name) for name in NAMES})


def chosen(records: Sequence[Record]) -> list[str]:
    return [r.model for r in records if isinstance(r, Call) and r.level == "1"]


def test_the_better_model_is_asked_more_and_each_call_says_which(tmp_path: Path) -> None:
    workspace, task = workspace_of(tmp_path)
    run = begin(workspace, task, Settings(evals=14, llm=TWO, confirms=0))
    assert conduct(workspace, run, ensemble(), Silent()).reason == "done"
    records = workspace.records(run.id)
    counts = Counter(chosen(records))
    assert set(counts) == set(NAMES)
    assert counts["good"] > counts["bad"]
    replies = [r for r in records if isinstance(r, Call)]
    assert all(r.reply.model == f"{r.model}-1" for r in replies)
    assert replayed(run, records).difference is None
    read, again = load_log(dump_log(run, records))
    assert replay(read, again).difference is None
    told = {a.model: a for a in summarise(run, records).models}
    assert told["good"].calls == counts["good"]
    assert told["good"].gain > told["bad"].gain == 0
    console = Console(width=120, record=True)
    console.print(summary_panel(summarise(run, records)))
    assert f"good: {counts['good']} calls of level 1, gain" in console.export_text()


class Dies(Scripted):
    """Ctrl-C at its third call."""

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        if self.calls == 2:
            raise KeyboardInterrupt
        return super().complete(messages, schema, seed=seed, max_tokens=max_tokens)


def test_a_resumed_run_asks_the_same_models(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    workspace, task = workspace_of(tmp_path / "whole")
    settings = Settings(evals=6, llm=TWO, confirms=0, seed=3)
    run = begin(workspace, task, settings)
    conduct(workspace, run, ensemble(), Silent())
    whole = chosen(workspace.records(run.id))

    (tmp_path / "broken").mkdir()
    workspace, task = workspace_of(tmp_path / "broken")
    run = begin(workspace, task, settings)
    dying = Several(TWO, {name: Dies(name) for name in NAMES})
    assert conduct(workspace, run, dying, Silent()).reason == "interrupted"
    assert conduct(workspace, run, ensemble(), Silent()).reason == "done"
    assert chosen(workspace.records(run.id)) == whole


class CutAtCall(Silent):
    """Ctrl-C just after a call was put on record, counted from 1."""

    def __init__(self, number: int) -> None:
        self.left = number

    def record(self, record: Record) -> None:
        self.left -= isinstance(record, Call)
        if isinstance(record, Call) and not self.left:
            raise KeyboardInterrupt


def priced() -> Several:
    return Several(TWO, {name: Scripted(name, cost=None) for name in NAMES})


def terms(good: float, bad: float = 1.0) -> Terms:
    given = {"good": Rate(good, good, good), "bad": Rate(bad, bad, bad)}
    return Terms(prices=given)


PRICED = Settings(evals=10, llm=TWO, confirms=0, seed=2, terms=terms(9.0))


@pytest.mark.parametrize("cut", [1, 3, 8])
def test_a_run_with_prices_asks_the_same_models_whole_resumed_and_replayed(
    tmp_path: Path, cut: int
) -> None:
    asked = []
    for name, first in (("whole", Silent()), ("cut", CutAtCall(cut))):
        (tmp_path / name).mkdir()
        workspace, task = workspace_of(tmp_path / name)
        run = begin(workspace, task, PRICED)
        if conduct(workspace, run, priced(), first).reason == "interrupted":
            assert conduct(workspace, run, priced(), Silent()).reason == "done"
        records = workspace.records(run.id)
        assert replayed(run, records).difference is None
        asked.append(chosen(records))
    assert asked[0] == asked[1]


def test_prices_count_from_the_first_step_on(tmp_path: Path) -> None:
    workspace, task = workspace_of(tmp_path)
    made = []
    for dear in (0.001, 1000.0):
        run = begin(workspace, task, replace(PRICED, terms=terms(dear)))
        conduct(workspace, run, priced(), Silent())
        made.append(chosen(workspace.records(run.id)))
    assert made[0] != made[1]


def test_each_step_of_a_replay_goes_by_the_prices_that_it_went_by(tmp_path: Path) -> None:
    workspace, task = workspace_of(tmp_path)
    run = begin(workspace, task, PRICED)
    assert conduct(workspace, run, priced(), CutAtCall(6)).reason == "interrupted"
    conduct(workspace, run, priced(), Silent(), on=terms(0.001, 1000.0))
    records = workspace.records(run.id)
    old = [r for r in records if isinstance(r, Prices)][:2]
    new = [r for r in records if isinstance(r, Prices)][2:]
    assert len(new) == 2
    first = [p.cost for p in pulls(records, 4)]
    assert first == [p.cost for p in pulls([r for r in records if r not in new], 4)]
    late = [r for r in records if r not in old]
    assert [p.cost for p in pulls(records, 9)] == [p.cost for p in pulls(late, 9)]
    assert replayed(run, records).difference is None


def pull(model: str, gain: float, seconds: float = 1.0, cost: float | None = None) -> Pull:
    return Pull(model, gain, seconds, cost)


def share(past: Sequence[Pull], model: str, draws: int = 400) -> float:
    """How often a model is chosen after this past, over seeds."""
    return sum(choose(NAMES, past, seed, 9) == model for seed in range(draws)) / draws


def test_without_a_past_both_are_as_likely() -> None:
    assert 0.4 < share([], "good") < 0.6


def test_gain_is_weighed_against_seconds_where_a_price_is_unknown() -> None:
    even = [pull("good", 1.0, cost=0.1), pull("bad", 1.0)] * 20
    assert 0.35 < share(even, "good") < 0.65
    slow = [pull("good", 1.0, seconds=10.0, cost=0.1), pull("bad", 1.0)] * 20
    assert share(slow, "bad") > 0.95


def test_gain_is_weighed_against_prices_where_all_are_known() -> None:
    dear = [pull("good", 1.0, 1.0, cost=1.0), pull("bad", 0.5, 10.0, cost=0.01)] * 20
    assert share(dear, "bad") > 0.95
    free = [pull("good", 1.0, 1.0, cost=0.0), pull("bad", 1.0, 10.0, cost=0.0)] * 20
    assert share(free, "good") > 0.95


def test_the_choice_depends_on_seed_step_and_past_alone() -> None:
    past = [pull("good", 1.0), pull("bad", 0.5)]
    assert {choose(NAMES, past, 1, 2) for _ in range(5)} == {choose(NAMES, past, 1, 2)}
    assert len({choose(NAMES, past, 1, step) for step in range(30)}) == 2


def test_pulls_are_read_from_the_steps_before(tmp_path: Path) -> None:
    workspace, task = workspace_of(tmp_path)
    run = begin(workspace, task, Settings(evals=4, llm=TWO, confirms=0))
    conduct(workspace, run, ensemble(), Silent())
    records = workspace.records(run.id)
    every = pulls(records, 99)
    assert [p.model for p in every] == chosen(records)
    assert pulls(records, 2) == every[:2]
    assert pulls(records, 0) == []
    cut = [r for r in records if not isinstance(r, Call) or r.step < 2]
    assert Cast(run, lambda: cut).model("1", 2) == Cast(run, lambda: records).model("1", 2)
    assert all((p.gain > 0) == (p.model == "good") or p.gain == 0 for p in every)
    unpriced = [
        replace(r, reply=replace(r.reply, cost=None)) if isinstance(r, Call) else r for r in records
    ]
    assert all(p.cost is None for p in pulls(unpriced, 99))
    rate = (Rate(1.0, 2.0, 0.5),)
    known = [Prices(name, "given", rate) for name in NAMES]
    assert [p.cost for p in pulls([*unpriced, *known], 99)] == [27e-6] * 4


PLAN = OuterPlan(steering=True, every=2, screening=False)


class Recording(ThreeLevels):
    """The scripted model of three levels, under another name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


def test_another_model_speaks_for_the_outer_levels_and_reports_say_so(tmp_path: Path) -> None:
    workspace, task = workspace_of(tmp_path)
    settings = Settings(evals=4, llm="inner", llm_outer="outer", confirms=0, outer=PLAN)
    run = begin(workspace, task, settings)
    assert run.llm_outer == "outer"
    both = Several("inner", {name: Recording(name) for name in ("inner", "outer")})
    assert conduct(workspace, run, both, Silent()).reason == "done"
    records = workspace.records(run.id)
    asked_of = {(r.level, r.model, r.reply.model) for r in records if isinstance(r, Call)}
    assert asked_of == {("1", "inner", "inner"), ("1.5", "outer", "outer")}
    assert replayed(run, records).difference is None
    assert [(a.model, a.levels) for a in asked(run, records)] == [
        ("inner", ("1",)),
        ("outer", ("1.5",)),
    ]
    console = Console(width=120, record=True)
    console.print(summary_panel(summarise(run, records)))
    text = console.export_text()
    assert "inner, Levels 1.5 and 2 ask outer" in text
    assert "of level 1.5" in text


def test_an_outer_model_that_is_the_same_or_has_no_level_is_no_other(tmp_path: Path) -> None:
    workspace, task = workspace_of(tmp_path)
    same = begin(workspace, task, Settings(evals=1, llm="a", llm_outer="a", outer=PLAN))
    assert same.llm_outer == ""
    assert models(same) == ("a",)
    with pytest.raises(ConfigError, match=r"neither Level 1\.5 nor Level 2 takes part"):
        begin(workspace, task, Settings(evals=1, llm="a", llm_outer="b"))


def test_an_ensemble_leaves_the_outer_levels_to_its_first_model() -> None:
    run = Run("r-1", "t", None, None, "", 0, 1, llm="ensemble:a, b")  # type: ignore[arg-type]
    assert members(run.llm) == ("a", "b")
    assert Cast(run).model("1.5", 0) == "a"
    assert Cast(replace(run, llm_outer="c")).model("2", 0) == "c"
    assert models(replace(run, llm_outer="c")) == ("a", "b", "c")
    assert models_text(run.llm, "c") == "a or b by gain per cost, Levels 1.5 and 2 ask c"


def test_all_models_of_a_run_are_opened_and_closed() -> None:
    console = Console()
    llm = open_llm("ensemble:ollama/a,ollama/b", console, "terminal")
    assert isinstance(llm, Several)
    assert llm.member("terminal").name == "terminal"
    with pytest.raises(LLMRejected, match="none of the run's models"):
        llm.member("ollama/c")
    with pytest.raises(LLMRejected, match="give one model"):
        llm.complete([], seed=1, max_tokens=1)
    llm.close()
    assert open_llm("terminal", console, "terminal").name == "terminal"


@pytest.mark.parametrize("spec", ["ensemble:", "ensemble:a", "ensemble:a,a"])
def test_an_ensemble_is_two_models_or_more(spec: str) -> None:
    with pytest.raises(ConfigError, match="two models or more"):
        open_llm(spec, Console())
