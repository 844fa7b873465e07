"""`bilevel run`, `demo`, `resume`, `show` and `replay` over three levels, with a scripted LLM."""

from __future__ import annotations

import importlib.util
import json
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bilevel.cli import run as cli_run
from bilevel.cli import running
from bilevel.cli.cli import app
from bilevel.cli.options import runnable
from bilevel.codec import dump_log
from bilevel.errors import ConfigError, MissingExtra
from bilevel.model import Call, OuterPlan, Proposal, Record, Trial
from bilevel.planning import Settings, begin, enter, planned
from bilevel.protocols import LLM
from bilevel.replay import DECIDED
from bilevel.resuming import timeless
from bilevel.sandbox.policy import describe
from bilevel.tasks import builtin
from bilevel.workspace import Workspace
from comparable import write_task
from threelevels import BROKEN, SOURCE, ThreeLevels, held, recorded
from worlds import RUN

TWO = (
    "--every", "2", "--cycles", "2", "--candidates", "1", "--no-screening", "--writes", "frames",
)  # fmt: skip
needs_lock = pytest.mark.skipif(not held(), reason="this machine cannot lock a worker")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with a task; SIGTERM as it was, when the test ends."""
    monkeypatch.chdir(tmp_path)
    write_task(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> ThreeLevels:
    """The scripted LLM that every command gets, whatever model is asked for."""
    made = ThreeLevels(sources=(BROKEN, SOURCE))

    def connect(spec: str, progress: object) -> LLM:
        made.name = spec
        return made

    monkeypatch.setattr(running, "connect", connect)
    return made


def bilevel(*words: str) -> Result:
    return CliRunner().invoke(app, words, env={"COLUMNS": "200"})


def run(*words: str, evals: int = 8) -> Result:
    given = ("--evals", str(evals), "--confirms", "1", "--llm", "scripted")
    return bilevel("run", "task.toml", *given, *words)


def records(name: str = "toy-1") -> list[Record]:
    return Workspace(Path(".bilevel")).records(name)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings of runs that would have begun."""
    made: list[Settings] = []
    monkeypatch.setattr(cli_run, "_start", lambda task, settings, *_, **__: made.append(settings))
    return made


def test_hypotheses_can_be_left_out(begun: list[Settings]) -> None:
    for words in ([], ["--no-hypotheses"]):
        result = CliRunner().invoke(app, ["run", "gpt", "--levels", "1", *words])
        assert result.exit_code == 0, result.output
    assert [s.hypotheses for s in begun] == [True, False]


def test_a_text_cannot_do_without_hypotheses(tmp_path: Path) -> None:
    asked = Settings(stack=("tpe",), llm="none", hypotheses=False)
    with pytest.raises(ConfigError, match=r"is a text, .*leave out --no-hypotheses"):
        planned(Workspace(tmp_path), "packing-weibull", asked)
    assert not planned(Workspace(tmp_path), "paper-mock", asked).hypotheses


def decided(log: Sequence[Record]) -> list[Record]:
    """All decisions, without what a clock measured."""
    found = [timeless(r) for r in log if isinstance(r, DECIDED)]
    return [replace(r, seconds=0.0) if isinstance(r, Trial) else r for r in found]


@needs_lock
def test_a_run_of_three_levels_shows_them_and_leaves_them_in_its_results(llm: ThreeLevels) -> None:
    result = run(*TWO)
    assert result.exit_code == 0, result.output
    for words in (
        "levels 1, 1.5, 2: Level 1.5 steers after every 2 evaluations; Level 2 holds a session",
        "sandbox strict",
        "Level 1.5  only RATE is tried",
        "strategy: explore",
        "Level 2  session of cycle 2",
        "refused for parse",
        "EverySecond: admitted",
        "EverySecond joins the stack",
        "[EverySecond.plan]",
        "1 session, 1 admitted; 2 sources, 1 refused (parse: 1)",
    ):
        assert words in result.output, words
    table = (Path(".bilevel") / "runs" / "toy-1" / "results.tsv").read_text()
    assert table.startswith("commit\tloss\tmemory_gb\tstatus\tdescription\tmechanisms\n")
    assert "\tEverySecond.plan\n" in table
    shown = json.loads(bilevel("show", "--json").output)["summary"]["outer"]
    assert shown["levels"] == ["1", "1.5", "2"]
    assert (shown["steerings"], shown["sessions"], shown["admitted"]) == (3, 1, 1)
    assert {u["level"]: u["calls"] for u in shown["usage"]}["2"] == 5


@needs_lock
def test_show_accounts_for_each_mechanism_and_each_decision_it_changed(llm: ThreeLevels) -> None:
    assert run(*TWO).exit_code == 0
    page = bilevel("show", "--mechanisms", "--ledger")
    assert page.exit_code == 0, page.output
    for words in (
        "Look next door now and then",
        "class EverySecond(Mechanism)",
        "decisions differ",
    ):
        assert words in page.output, words
    both = json.loads(bilevel("show", "--mechanisms", "--ledger", "--json").output)
    (account,) = both["mechanisms"]
    assert account["source"]["source"] == SOURCE
    assert account["credit"]["different"] == len(both["ledger"]) > 0
    touched = {t["trial"] for entry in both["ledger"] for t in entry["trials"]}
    assert touched == {t["trial"] for t in account["trials"]}


def interrupt(llm: ThreeLevels, where: str) -> None:
    """Ctrl-C during the call of that purpose in a run, which is then gone on with."""
    purposes = [r.purpose for r in recorded()[1] if isinstance(r, Call)]
    llm.dies_at = purposes.index(where) + 1
    result = run(*TWO)
    assert result.exit_code == cli_run.INTERRUPTED, result.output
    assert "bilevel resume toy-1" in result.output
    llm.dies_at = 0
    resumed = bilevel("resume", "toy-1")
    assert resumed.exit_code == 0, resumed.output
    assert "going on with toy-1" in resumed.output


@needs_lock
@pytest.mark.parametrize("where", ["steer", "explore"])
def test_an_interrupted_run_of_three_levels_resumes_to_the_same_decisions(
    llm: ThreeLevels, where: str
) -> None:
    interrupt(llm, where)
    assert decided(records()) == decided(recorded()[1])


@needs_lock
def test_a_run_that_goes_on_where_less_holds_its_code_says_so_and_keeps_it(
    llm: ThreeLevels, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm.dies_at = 2
    began = run(*TWO).output
    assert "it began in" not in began
    llm.dies_at = 0
    monkeypatch.setattr("bilevel.stacks.held", lambda allow_weak, wall: "seatbelt")
    resumed = " ".join(bilevel("resume", "toy-1").output.split())
    level = Workspace(Path(".bilevel")).store.run("toy-1").sandbox
    assert f"sandbox seatbelt: {describe('seatbelt')} (it began in {level})" in resumed
    assert f"{level}, then seatbelt" in " ".join(bilevel("show").output.split())


@needs_lock
def test_a_resumed_run_replays_and_says_how_many_of_which_kind(llm: ThreeLevels) -> None:
    interrupt(llm, "repair 0.1")
    assert decided(records()) == decided(recorded()[1])
    again = bilevel("replay")
    assert again.exit_code == 0, again.output
    proposals = sum(isinstance(r, Proposal) for r in records())
    said = f"toy-1: all came out as recorded: {proposals} proposals, 11 trials, 3 steerings, "
    assert said in again.output
    assert "1 session, 1 mechanism, " in again.output


@needs_lock
def test_a_sham_pays_for_sessions_and_leaves_their_code_out(llm: ThreeLevels) -> None:
    result = run("--sham", *TWO, evals=5)
    assert result.exit_code == 0, result.output
    assert "whose code is left out (sham)" in result.output
    assert "joins the stack" not in result.output
    (account,) = json.loads(bilevel("show", "--mechanisms", "--json").output)["mechanisms"]
    assert account["sham"]
    assert (account["influence"], account["credit"], account["joined"]) == ([], None, None)


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("1", OuterPlan()),
        ("1,1.5", OuterPlan(steering=True)),
        ("1, 2", OuterPlan(research="on")),
        ("1,1.5,2", OuterPlan(steering=True, research="on")),
        (None, OuterPlan(steering=True, research="on")),
    ],
)
def test_levels_choose_the_plan(text: str | None, plan: OuterPlan, begun: list[Settings]) -> None:
    assert run(*(() if text is None else ("--levels", text))).exit_code == 0
    writes = "classes" if plan.research == "on" else "frames"  # no embedded LLM is asked
    assert begun[0].outer == replace(plan, writes=writes)
    words = ("--domains", "hint", "--layers", "2", "--repairs", "1", "--allow-weak-sandbox")
    assert run(*words, *TWO).exit_code == 0
    assert begun[1].outer == OuterPlan(
        True, "on", every=2, cycles=2, layers=2, candidates=1, repairs=1, domains="hint",
        screening=False,
    )  # fmt: skip
    assert begun[1].allow_weak


def test_the_demo_shows_all_levels_on_a_small_budget(begun: list[Settings]) -> None:
    assert bilevel("demo").exit_code == 0
    plan = begun[0].outer
    assert (begun[0].evals, plan.steering, plan.research) == (12, True, "on")
    assert plan.every * plan.cycles <= 6, "a session is held half way"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--levels", "2"), "--levels is '2' but must be one of: 1 | 1,1.5 | 1,2 | 1,1.5,2"),
        (("--levels", "1,1.5", "--sham"), "give --levels 1,2 or 1,1.5,2"),
        (("--every", "0"), "every is 0 but must be at least 1"),
        (("--cycles", "0"), "cycles is 0 but must be at least 1"),
        (("--layers", "0"), "layers is 0 but must be at least 1"),
        (("--candidates", "0"), "candidates is 0 but must be at least 1"),
        (("--repairs", "-1"), "repairs is -1 but must be at least 0"),
        (("--llm", "none"), "--llm none leaves nobody to propose; give --stack"),
        (("--llm", "none", "--levels", "1,2"), "--llm none gives none; leave --levels out"),
        (("--stack", "missing.py"), "mechanism missing.py cannot be read"),
    ],
)
def test_a_mistake_gets_one_clear_message(
    llm: ThreeLevels, words: tuple[str, ...], said: str
) -> None:
    result = run(*words)
    assert result.exit_code != 0
    assert said in str(result.exception)
    assert not llm.asked


def test_without_an_llm_a_stack_that_gives_all_values_runs_on_level_1() -> None:
    result = run("--llm", "none", "--stack", "random_search", evals=3)
    assert result.exit_code == 0, result.output
    assert "level 1: the inner loop alone" in result.output
    assert "3 of 3 evaluated" in result.output
    (account,) = json.loads(bilevel("show", "--mechanisms", "--json").output)["mechanisms"]
    assert (account["source"]["name"], account["joined"]) == ("random_search", 0)
    assert len(account["trials"]) == 3


def test_without_an_llm_a_stack_that_asks_one_is_refused_before_anything_runs() -> None:
    result = run("--llm", "none", "--stack", "tabu", evals=3)
    said = str(result.exception)
    assert "the stack tabu asks an LLM, about" in said
    assert "name an LLM, or give --stack a mechanism that proposes, such as tpe" in said
    assert not Workspace(Path(".bilevel")).store.runs()


def test_without_an_llm_a_request_for_one_stops_the_run_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A stack may come to ask in a run though it did not in the rehearsal.
    monkeypatch.setattr(cli_run, "_check_silent", lambda *_: None)
    result = run("--llm", "none", "--stack", "tabu", evals=3)
    assert result.exit_code == cli_run.PAUSED, result.output
    said = " ".join(result.output.replace("│", " ").split())
    assert "begun with --llm none; begin one with an LLM, or with a stack" in said
    assert "bilevel resume" not in result.output.partition("ended")[0], "it would stop there again"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nosuch",), "there is no task 'nosuch'"),
        (("task.toml", "--evals", "-3"), "evals is -3 but must be at least 0"),
        (("task.toml", "--llm", "openai/nosuch", "--budget", "usd=1"), "--price"),
    ],
)
def test_settings_are_checked_before_the_llm_opens(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr(running, "connect", lambda *_, **__: pytest.fail("it was opened"))
    result = bilevel("run", *words)
    assert isinstance(result.exception, ConfigError)
    assert said in str(result.exception)
    assert cli_run.EMBEDDED not in result.output


@pytest.mark.parametrize("words", [(), ("--llm", "embedded")])
def test_the_embedded_llm_is_explained_only_to_who_chose_none(
    llm: ThreeLevels, words: tuple[str, ...]
) -> None:
    given = ("--evals", "1", "--confirms", "0", "--levels", "1")
    result = bilevel("run", "task.toml", *given, *words)
    assert result.exit_code == 0, result.output
    assert (cli_run.EMBEDDED in " ".join(result.output.split())) == (not words)


def test_help_names_every_shipped_task() -> None:
    said = bilevel("run", "--help").output.replace("│", " ").split()
    for name in (*builtin.names(), "bbob-fF-dD"):
        assert {name, f"{name},"} & set(said), name


@pytest.mark.parametrize("task", ["gpt", "gpt-cuda"])
def test_a_task_whose_library_is_missing_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda n, *rest: None if n == "torch" else known(n, *rest)
    )
    workspace, settings = Workspace(Path(".bilevel")), Settings(llm="none")
    with pytest.raises(MissingExtra, match=r"torch, not installed .* pip install 'bilevel\[gpt\]'"):
        begin(workspace, task, settings)
    with pytest.raises(MissingExtra):
        enter(workspace, planned(workspace, task, settings))
    assert not workspace.store.runs()


def test_names_of_users_are_no_markup_on_either_screen() -> None:
    for as_json in (False, True):
        assert cli_run._screen(as_json).render_str("mine[red].py").plain == "mine[red].py"


@needs_lock
def test_a_users_own_file_is_a_layer_that_runs_in_the_sandbox(llm: ThreeLevels) -> None:
    Path("mine.py").write_text(SOURCE)
    result = run("--levels", "1", "--stack", "mine.py", evals=3)
    assert result.exit_code == 0, result.output
    assert "sandbox strict" in result.output
    assert "[mine.plan]" in result.output
    (account,) = json.loads(bilevel("show", "--mechanisms", "--json").output)["mechanisms"]
    assert account["source"]["source"] == SOURCE
    assert account["credit"]["different"] > 0


def test_a_machine_that_cannot_lock_is_told_what_to_do(
    llm: ThreeLevels, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bilevel import planning
    from bilevel.sandbox.errors import SandboxRefused

    def refuse(*_: object) -> str:
        raise SandboxRefused("this machine does not lock a worker")

    monkeypatch.setattr(planning, "_level", refuse)
    result = run()
    assert "--allow-weak-sandbox; or do without generated code: --levels 1,1.5" in str(
        result.exception
    )


def test_a_files_own_word_is_no_leave_to_run_its_code_in_a_weak_sandbox() -> None:
    made = replace(RUN, sandbox="weak", allow_weak=True)
    Path("run.json").write_text(dump_log(made, []))
    for leave in (False, True):
        found, _ = runnable("run.json", Path(), allow_weak=leave)
        assert (found.sandbox, found.allow_weak) == ("weak", leave)
    workspace = Workspace(Path(".bilevel"))
    workspace.store.create(made)
    assert runnable(made.id, Path(".bilevel"), allow_weak=False)[0].allow_weak
