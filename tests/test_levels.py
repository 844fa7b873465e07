"""What each level did and cost, and which of them take part."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from bilevel.cli.running import levels_text, sandbox_text, unscreened_text
from bilevel.errors import ConfigError
from bilevel.levels import CHOICES, DECISIONS, chosen, decided_text, names, outer_loop, usage
from bilevel.model import TOO_LONG, UNUSABLE, Call, Opening, OuterPlan, Reply, Session, Steering
from bilevel.render.render import summary_panel
from bilevel.replay import DECIDED
from bilevel.summary import summarise
from factories import gpt_log, shown
from threelevels import held, left, recorded

needs_lock = pytest.mark.skipif(not held(), reason="this machine cannot lock a worker")


def test_every_choice_is_a_plan_of_those_levels() -> None:
    for text in CHOICES:
        assert ",".join(names(chosen(text, "embedded"))) == text
    assert chosen(None, "none") == OuterPlan()
    assert chosen("1,2", "embedded", sham=True).research == "sham"


def test_a_wrong_text_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(ConfigError, match=r"'1,3' but must be one of: 1 \| 1,1\.5 \| 1,2"):
        chosen("1,3", "embedded")


@needs_lock
def test_cost_is_told_by_level_and_sums_up() -> None:
    run, records = recorded()
    outer, calls = outer_loop(run, records), [r for r in records if isinstance(r, Call)]
    assert [u.level for u in outer.usage] == ["1", "1.5", "2"]
    assert sum(u.calls for u in outer.usage) == len(calls)
    assert sum(u.seconds for u in outer.usage) == summarise(run, records).usage.llm_seconds
    (session,) = [r for r in records if isinstance(r, Session)]
    assert usage(records, "2", session.step) == outer.usage[2]
    assert usage(records, "2", session.step + 1).calls == 0


def test_replies_without_an_answer_cost_and_are_no_replies() -> None:
    ends = ("stop", UNUSABLE, TOO_LONG)
    replies = [Reply("x", "m", 10, 2, finish=end) for end in ends]
    calls = [Call(r.finish, 0, "2", "write", (), "", 0, 9, r) for r in replies]
    found = usage(calls, "2")
    assert (found.calls, found.tokens_in, found.tokens_out) == (1, 30, 6)
    run, _ = gpt_log()
    (only,) = outer_loop(run, calls[1:]).usage
    assert (only.level, only.calls, only.tokens_in) == ("2", 0, 20)


@needs_lock
def test_what_the_outer_loop_did_is_counted() -> None:
    run, records = left()
    outer = outer_loop(run, records)
    assert outer.steerings == sum(isinstance(r, Steering) for r in records)
    assert (outer.sessions, outer.admitted, outer.attempts) == (1, 1, 2)
    assert outer.refused == {"parse": 1}
    assert (outer.joined, outer.layers, outer.faults) == (1, (), 0)
    assert outer_loop(run, recorded()[1]).layers == ("EverySecond",)
    text = " ".join(shown(summary_panel(summarise(run, records)), 200).split())
    assert f"levels 1, 1.5, 2; Level 1: {outer.usage[0].calls} replies" in text
    assert "research 1 session, 1 admitted; 2 sources, 1 refused (parse: 1); 5 replies" in text


def test_the_plain_loop_has_no_rows_for_levels() -> None:
    run, log = gpt_log()
    assert outer_loop(run, log).levels == ("1",)
    text = shown(summary_panel(summarise(run, log)))
    assert "levels" not in text
    assert "sandbox" not in text


@pytest.mark.parametrize("level", ["strict+landlock", "weak"])
def test_the_plain_loop_under_a_users_file_says_how_it_was_held(level: str) -> None:
    run, log = gpt_log()
    text = shown(summary_panel(summarise(replace(run, sandbox=level), log)), 200)
    assert f"sandbox      {level} " in text


@needs_lock
def test_decisions_are_told_by_kind() -> None:
    assert set(DECISIONS) == set(get_args(DECIDED))
    _, records = left()
    assert decided_text(records, 2) == "2 trials"
    whole = decided_text(records, len(records))
    assert whole.endswith("1 session, 1 mechanism, 2 changes of the stack")
    assert decided_text([], 0) == "nothing"


def test_a_run_that_went_on_elsewhere_says_how_well_each_part_was_held() -> None:
    run, logged = recorded()
    records = [r for r in logged if not isinstance(r, Opening)]
    begun = replace(run, sandbox="strict+landlock")
    parts = [Opening(0, 0.0, {}, level) for level in ("strict+landlock", "strict", "")]
    assert outer_loop(begun, [*parts, *records]).sandbox == "strict+landlock, then strict"
    assert outer_loop(begun, records).sandbox == "strict+landlock"  # as before this was noted


@needs_lock
def test_a_weak_sandbox_is_said_loudly() -> None:
    run, _ = recorded()
    assert sandbox_text(run.sandbox).startswith(f"sandbox {run.sandbox}: generated code cannot")
    assert sandbox_text("weak").startswith("WEAK SANDBOX: generated code can")
    assert "every 2 evaluations; Level 2 holds a session after every 4" in levels_text(run)


def test_the_remedy_for_no_screening_is_named_only_where_the_library_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bilevel.cli.running.can_screen", lambda: True)
    assert unscreened_text() == "no screening: sources join without a trial on a surrogate"
    monkeypatch.setattr("bilevel.cli.running.can_screen", lambda: False)
    assert "; scikit-learn, which it needs, is not here: pip install" in unscreened_text()
