"""Comparisons: what is run, what is found again, what is shared, and the figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from bilevel import mechanisms
from bilevel.compare.compare import Cell, Comparison, Plan
from bilevel.compare.comparison import evaluations_to, run_figures, standing
from bilevel.compare.helpers import OnDemand
from bilevel.compare.output import Heading, legend, markdown, tables, write_logs
from bilevel.compare.strategies import FREE, PLAIN, code_lines, named
from bilevel.errors import ConfigError, LLMError, LLMUnavailable, MissingExtra
from bilevel.mechanism import Mechanism, View
from bilevel.model import Call, Fault, Message, Move, Proposal, Run, Stop, Trial
from bilevel.replay import replay
from bilevel.stack import Layer
from bilevel.stacks import layers
from bilevel.tape.sharing import is_shared
from bilevel.workspace import Workspace
from comparable import reply, write_task
from packages import package
from screens import Shown
from threelevels import held
from worlds import LOSS, RUN, Log, Scripted, build

Reply = Callable[[Sequence[Message], int], str]
needs_lock = pytest.mark.skipif(not held(), reason="this machine cannot lock a worker")


def fails(messages: Sequence[Message], number: int) -> str:
    raise LLMUnavailable("the server is gone")


def comparison(folder: Path, *names: str, shares: bool = True, **changes: object) -> Comparison:
    plan = Plan(write_task(folder), names, evals=4, seeds=1, llm="scripted")
    return Comparison(Workspace(folder / "state"), replace(plan, **changes), shares)  # type: ignore[arg-type]


def go(made: Comparison, answer: Reply = reply, wait: bool = True) -> tuple[Shown, Scripted]:
    screen, llm = Shown(), Scripted(answer)
    made.go(made.plan.cells(), llm, screen, wait)
    return screen, llm


def kinds(log: Sequence[object], kind: type) -> list:
    return [r for r in log if isinstance(r, kind)]


def decided(log: Sequence[object]) -> list[object]:
    """What was proposed and evaluated, without the clock."""
    return [
        replace(r, seconds=0.0) if isinstance(r, Trial) else r
        for r in log
        if isinstance(r, Trial | Proposal)
    ]


def test_groups_and_stacks_by_name() -> None:
    every = named("all")
    assert every == (PLAIN, *mechanisms.names())
    assert {*named("free"), *named("llm")} == {*every}
    assert set(named("free")) == set(FREE)
    assert named("gp, tabu+ucb1,plain,gp") == ("gp", "tabu+ucb1", "plain")
    assert [Cell(s, 0).free for s in ("gp", "cmaes+tpe", "gp+tabu", PLAIN)] == [1, 1, 0, 0]
    for wrong, said in (
        ("tabuu", "did you mean tabu"),
        ("tabu+plain", "plain"),
        ("tabu+ucb1+tabu", "has tabu twice"),
        (",", "names none"),
    ):
        with pytest.raises(ConfigError, match=said):
            named(wrong)


def test_lines_are_those_of_all_layers() -> None:
    assert code_lines(PLAIN) == 0
    assert code_lines("tabu+ucb1") == code_lines("tabu") + code_lines("ucb1") > 20


def test_most_mechanisms_need_fewer_than_thirty_lines() -> None:
    lines = [code_lines(name) for name in mechanisms.names()]
    assert sum(n < 30 for n in lines) > len(lines) / 2


@pytest.mark.parametrize("name", mechanisms.names())
def test_a_strategy_is_free_that_spends_a_budget_without_an_llm(name: str) -> None:
    try:
        layer = Layer("sha", name, mechanisms.load(name))
    except MissingExtra as error:
        pytest.skip(str(error))
    loop = build(Log(), fails, layers=[layer], evals=20)
    try:
        free = loop.go().reason == "done"
    except LLMError:
        free = False
    assert free == (name in FREE)


def test_all_strategies_run_on_one_seed_before_the_next(tmp_path: Path) -> None:
    made = comparison(tmp_path, "random_search", "cmaes", seeds=2, evals=2)
    assert made.plan.cells() == [
        Cell("random_search", 0), Cell("cmaes", 0), Cell("random_search", 1), Cell("cmaes", 1),
    ]  # fmt: skip
    screen, _ = go(made)
    assert screen.began == screen.ended == made.plan.cells()
    assert made.left() == []


def test_runs_share_calls_and_evaluations_and_replay_alone(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    made = comparison(tmp_path, PLAIN, "tabu", "random_search")
    alone = comparison(tmp_path / "alone", *made.plan.strategies, shares=False)
    (_, llm), (_, unshared) = go(made), go(alone)
    logs = made.logs()
    calls = [c for runs in logs.values() for _, log in runs for c in kinds(log, Call)]
    assert len(llm.asked) == len([c for c in calls if not is_shared(c)])
    assert len(unshared.asked) == len(calls) > len(llm.asked)
    for strategy, runs in logs.items():
        ((run, log),), ((_, other),) = runs, alone.logs()[strategy]
        assert decided(log) == decided(other)
        assert replay(run, log, partial(layers, run)).difference is None
    found = standing(LOSS, logs, {}, dict.fromkeys(logs, 0), 3)
    assert found.calls - found.calls_shared == len(llm.asked)
    trials = [t for runs in logs.values() for _, log in runs for t in kinds(log, Trial)]
    assert found.evaluations == len(trials) == 3 * (2 + 4)
    distinct = {(str(t.values), t.seed) for t in trials}
    assert found.evaluations - found.evaluations_shared == len(distinct) < len(trials)
    apart = standing(LOSS, alone.logs(), {}, dict.fromkeys(logs, 0), 3, shares=False)
    assert (apart.calls_shared, apart.evaluations_shared) == (0, 0)


def test_the_same_command_finds_its_runs_and_makes_none(tmp_path: Path) -> None:
    go(comparison(tmp_path, "random_search", "tabu"))
    again = comparison(tmp_path, "random_search", "tabu", "cmaes")
    again.look()
    assert again.left() == [Cell("cmaes", 0)]
    screen, llm = go(again)
    assert screen.began == [Cell("cmaes", 0)]
    assert llm.asked == []
    assert len(again.workspace.store.runs()) == 3


@needs_lock
def test_an_edited_mechanism_pays_only_for_what_it_does_otherwise(tmp_path: Path) -> None:
    """Runs with its earlier version lend what they were told and measured; `since` hides them."""
    mine = tmp_path / "mine.py"
    text = (
        "from bilevel.mechanism import Mechanism\n\n\nclass Mine(Mechanism):\n"
        "    LIMIT = 1\n\n    def plan(self, view, moves):\n        return moves\n"
    )
    mine.write_text(text)
    _, first = go(comparison(tmp_path, str(mine)))
    mine.write_text(text.replace("LIMIT = 1", "LIMIT = 2"))
    edited = comparison(tmp_path, str(mine))
    edited.look()
    assert edited.left()
    _, second = go(edited)
    assert first.asked
    assert second.asked == []
    ((_, log),) = edited.logs()[str(mine)]
    assert all(is_shared(call) for call in kinds(log, Call))
    mine.write_text(text.replace("LIMIT = 1", "LIMIT = 3"))
    later = Comparison(edited.workspace, edited.plan, since="2999")
    assert len(go(later)[1].asked) == len(first.asked)


@pytest.mark.parametrize(
    "other", [{"evals": 3}, {"llm": "other"}, {"confirms": 1}, {"hypotheses": False}]
)
def test_runs_of_another_budget_or_llm_do_not_count(tmp_path: Path, other: dict) -> None:
    go(comparison(tmp_path, "random_search"))
    made = comparison(tmp_path, "random_search", **other)
    made.look()
    assert made.left() == made.plan.cells()


def test_a_run_that_was_cut_short_goes_on_to_the_same_end(tmp_path: Path) -> None:
    def dies(messages: Sequence[Message], number: int) -> str:
        if number == 3:
            raise KeyboardInterrupt
        return reply(messages, number)

    (tmp_path / "whole").mkdir()
    whole = comparison(tmp_path / "whole", PLAIN, "tabu")
    go(whole)
    made = comparison(tmp_path, PLAIN, "tabu")
    with pytest.raises(KeyboardInterrupt):
        go(made, dies)
    assert made.runs == {}
    again = comparison(tmp_path, PLAIN, "tabu")
    go(again)
    (cut,) = [r for r in again.workspace.store.runs() if r.id == again.runs[Cell(PLAIN, 0)].id]
    stops = [s.reason for s in kinds(again.workspace.records(cut.id), Stop)]
    assert stops == ["interrupted", "done"]
    assert len(again.workspace.store.runs()) == 2
    for strategy in (PLAIN, "tabu"):
        ((_, one),), ((_, other),) = again.logs()[strategy], whole.logs()[strategy]
        assert decided(one) == decided(other)


def test_what_another_process_has_is_left_to_it(tmp_path: Path) -> None:
    made, other = (comparison(tmp_path, "random_search", "cmaes", evals=2) for _ in range(2))
    mine = other._names[Cell("random_search", 0)]
    with other.workspace.store.writing(mine):
        screen, _ = go(made, wait=False)
    assert screen.began == [Cell("cmaes", 0)]
    assert made.left() == [Cell("random_search", 0)]
    go(other)
    screen, _ = go(made)
    assert screen.began == []
    assert made.left() == []


def test_a_missing_library_is_a_problem_of_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> Mechanism:
        if name == "tpe":
            raise MissingExtra("mechanism tpe needs optuna")
        return loads(name)

    loads = mechanisms.load
    monkeypatch.setattr(mechanisms, "load", load)
    made = comparison(tmp_path, "tpe", "random_search", evals=2)
    go(made)
    assert made.words() == {"tpe": ["mechanism tpe needs optuna"]}
    assert set(made.runs) == {Cell("random_search", 0)}
    assert len(made.workspace.store.runs()) == 1


def test_a_broken_package_is_a_problem_of_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path / "site", "broken", "broken = broken:Mine", "1 / 0", monkeypatch)
    said = (
        "the package broken fails to give broken (broken:Mine): exit status 1, ZeroDivisionError: "
        "division by zero; mend or uninstall it"
    )
    assert "broken" in named("all")
    assert named("broken,tabu+broken") == ("broken", "tabu+broken")
    assert code_lines("broken") == 0
    made = comparison(tmp_path, "broken", "random_search", evals=2)
    go(made)
    assert made.words() == {"broken": [said]}
    assert made.left() == []
    assert set(made.runs) == {Cell("random_search", 0)}
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        comparison(tmp_path, "broken")


def test_a_strategy_that_fails_is_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Mechanism):
        def plan(self, view: View, moves: list[Move]) -> list[Move]:
            raise ZeroDivisionError

    monkeypatch.setattr(mechanisms, "load", lambda name: Broken())
    made = comparison(tmp_path, "greedy")
    go(made)
    logs = made.logs()
    assert len(kinds(logs["greedy"][0][1], Fault)) == 3
    (row,) = standing(LOSS, logs, {}, {"greedy": 1}, 1).rows
    said = "its code failed 3 times, and was taken out of 1 of 1 runs: greedy"
    assert row.problems == (f"{said} (3 faults, the last in plan: ZeroDivisionError)",)


def test_an_llm_that_is_gone_ends_the_comparison_but_not_at_once(tmp_path: Path) -> None:
    made = comparison(tmp_path, PLAIN, "random_search", "tabu", "greedy", "annealing", evals=2)
    with pytest.raises(ConfigError, match=r"3 runs in a row .* the server is gone"):
        go(made, fails)
    assert set(made.runs) == {Cell("random_search", 0)}
    assert set(made.words()) == {PLAIN, "tabu", "greedy", "annealing"}
    go(again := comparison(tmp_path, *made.plan.strategies, evals=2))
    assert again.left() == []
    assert len(again.workspace.store.runs()) == 5


def test_a_file_of_ones_own_is_a_strategy(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from bilevel.mechanism import Mechanism\n\n\nclass Mine(Mechanism):\n"
        "    def accept(self, view, trial, keep):\n        return keep\n"
    )
    name = str(tmp_path / "mine.py")
    assert named(f"gp,tabu+{name}") == ("gp", f"tabu+{name}")
    assert code_lines(name) == 4
    made = comparison(tmp_path, name, evals=2)
    go(made)
    (row,) = standing(LOSS, made.logs(), made.words(), {name: 3}, 1).rows
    assert (row.n, row.problems, row.influence) == (1, (), 0.0)
    (written,) = write_logs(made.logs(), tmp_path / "out")
    assert written.parent == tmp_path / "out"


def test_runs_begin_without_memories_of_others(tmp_path: Path) -> None:
    made = comparison(tmp_path, "memory", evals=2, seeds=2)
    go(made)
    assert [run.states for run in made.runs.values()] == [{}, {}]


@pytest.mark.parametrize("wrong", [{"evals": 0}, {"seeds": 0}, {"confirms": -1}])
def test_a_plan_that_makes_no_sense_is_refused(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(ConfigError, match="must be at least"):
        comparison(tmp_path, PLAIN, **wrong)


def test_an_llm_on_demand_is_opened_by_the_first_request_only() -> None:
    inner = Scripted(lambda m, n: "hello")
    opened: list[str] = []
    llm = OnDemand("toy", lambda spec: opened.append(spec) or inner)
    llm.close()
    assert opened == []
    for _ in range(2):
        assert llm.complete((), seed=1, max_tokens=5).text == "hello"
    assert (llm.name, opened) == ("toy", ["toy"])


# The figures, from a log in memory.


def log_of(seed: int = 7, evals: int = 6, confirms: int = 0) -> tuple[Run, Log]:
    log, run = Log(), replace(RUN, seed=seed, evals=evals, confirms=confirms, id=f"toy-{seed}")
    build(log, run=run).go()
    return run, log


def test_figures_of_a_run() -> None:
    run, log = log_of()
    found = run_figures(run, log)
    assert found is not None
    assert found.evaluations == 6
    assert len(found.curve) == 7
    assert found.curve[0] == found.baseline
    assert found.curve[-1] == found.best == min(found.curve)
    assert list(found.curve) == sorted(found.curve, reverse=True)
    assert found.gain == pytest.approx(found.baseline - found.best)
    assert found.calls == len(kinds(log, Call)) > 6
    assert found.tokens_in == 100 * found.calls
    assert (found.asked, found.faults, found.removed) == (0, 0, ())
    assert run_figures(run, []) is None


def test_a_run_that_found_nothing_gains_nothing_on_fresh_seeds() -> None:
    run, log = log_of(confirms=2)
    found = run_figures(run, log)
    nothing = [r for r in log if isinstance(r, Trial) and r.role == "baseline"]
    alone = run_figures(run, nothing)
    assert found is not None
    assert alone is not None
    assert (found.confirmed or 0.0) > 0
    assert (alone.gain, alone.confirmed) == (0.0, 0.0)
    unmeasured = run_figures(replace(run, confirms=0), nothing)
    assert unmeasured is not None
    assert unmeasured.confirmed is None


def test_a_curve_of_a_run_that_stopped_early_goes_on_flat() -> None:
    run, log = log_of(evals=3)
    found = run_figures(replace(run, evals=6), log)
    assert found is not None
    assert len(found.curve) == 7
    assert found.curve[3:] == (found.best,) * 4


def test_evaluations_to_a_target() -> None:
    figures = run_figures(*log_of())
    assert figures is not None
    curve = replace(figures, baseline=3.0, curve=(3.0, 2.5, 2.5, 1.0))
    assert evaluations_to(curve, LOSS, 0.5, None) == 1
    assert evaluations_to(curve, LOSS, 0.6, None) == 3
    assert evaluations_to(curve, LOSS, 9.0, 2.5) == 1
    assert evaluations_to(curve, LOSS, None, 0.9) is None
    assert evaluations_to(curve, LOSS, None, None) is None
    up = replace(LOSS, direction="max")
    assert evaluations_to(replace(curve, curve=(3.0, 3.2, 4.0, 4.0)), up, None, 3.5) == 2


def test_rows_are_ranked_by_mean_gain_and_hold_n_and_spread() -> None:
    logs = {"none": [], "one": [log_of(1)], "three": [log_of(s) for s in (1, 2, 3)]}
    found = standing(LOSS, logs, {"none": ["not there"]}, dict.fromkeys(logs, 9), 9)
    assert [r.strategy for r in found.rows][-1] == "none"
    rows = {r.strategy: r for r in found.rows}
    assert (rows["none"].best, rows["none"].record, rows["none"].problems) == (
        None,
        None,
        ("not there",),
    )
    one, three = rows["one"], rows["three"]
    assert one.best is not None
    assert one.best.sd is None
    assert three.best is not None
    values = [f.best for f in three.runs]
    assert three.n == three.best.n == 3
    assert three.best.mean == pytest.approx(sum(values) / 3)
    assert (three.best.low, three.best.high) == (min(values), max(values))
    assert three.record == min(values)
    gains = [r.gain.mean for r in found.rows if r.gain]
    assert gains == sorted(gains, reverse=True)
    assert found.target == pytest.approx(max(gains) / 2)
    given = standing(LOSS, logs, {}, dict.fromkeys(logs, 9), 9, target_value=-1.0)
    assert given.target is None
    assert [(r.to_target, r.reached) for r in given.rows] == [(None, 0)] * 3


@pytest.mark.parametrize("confirms", [0, 2])
def test_the_table_is_cut_in_two_where_it_does_not_fit(confirms: int) -> None:
    run, log = log_of(confirms=confirms)
    logs = {"plain": [(run, log)], "none": [], "random_search": [(run, log)]}
    found = standing(LOSS, logs, {}, dict.fromkeys(logs, 9), 9)
    heading = Heading("bilevel compare", "toy", 6, 3, "scripted", True)
    (whole,) = tables(heading, found, 200)
    first, second = tables(heading, found, 80)
    names = [[str(c.header) for c in table.columns] for table in (whole, first, second)]
    assert names[0] == [*names[1], *names[2][1:]]
    assert ("again" in names[0]) == bool(confirms)
    assert all(Console(width=400).measure(t).maximum <= 80 for t in (first, second))
    assert "range" in markdown(heading, found)
    assert legend(heading, found)[-1] == "fewer than 10 seeds: the order may be chance"
    assert "chance" not in legend(replace(heading, seeds=10), found)[-1]


def test_how_a_users_own_files_were_held_is_said() -> None:
    run, log = log_of()
    logs = {"plain": [(run, log)], "mine.py": [(replace(run, sandbox="weak"), log)]}
    found = standing(LOSS, logs, {}, dict.fromkeys(logs, 9), 9)
    heading = Heading("bilevel compare", "toy", 6, 10, "scripted", True)
    assert legend(heading, found)[-1] == "sandbox of your own files: weak"
    assert not standing(LOSS, {"plain": logs["plain"]}, {}, {"plain": 9}, 9).sandboxes
