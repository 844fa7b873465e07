"""Which decisions mechanisms changed, and the trials that came of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bilevel.accounts import accounts, credited
from bilevel.attribution import influence
from bilevel.history import History
from bilevel.ledger import Touches, ledger, said
from bilevel.mechanism import Mechanism
from bilevel.model import Decision, Move, Session, Trial
from bilevel.render.levels import accounts_view, ledger_table
from bilevel.research.merit import merit
from bilevel.stack import Layer
from factories import shown
from threelevels import SOURCE, held, left, recorded
from worlds import RUN, Log, build, says

needs_lock = pytest.mark.skipif(not held(), reason="this machine cannot lock a worker")


class Inert(Mechanism):
    pass


class Points(Mechanism):
    """Every hook with a change of its own."""

    def plan(self, view, moves):
        if view.step == 1:
            values = {**view.incumbent.values, "RATE": 0.2}
            return [Move(parents=(0,), values=values, tag="t", writer="code")]
        if view.step == 2:
            return [m.edit(focus=("RATE", "BATCH"), note="go\nlower", since=1) for m in moves]
        return moves

    def screen(self, view, drafts):
        if view.step == 4:
            return []
        if view.step != 3:
            return drafts
        return [d.edit({**d.values, "BATCH": 512}, "not so wide") for d in drafts]

    def accept(self, view, trial, keep):
        return trial.id == 6


STACK = replace(RUN, evals=6, stack=("Inert@1", "Points@2"))


def made() -> Log:
    log = Log()
    layers = [Layer("1", "Inert", Inert()), Layer("2", "Points", Points())]
    build(log, lambda m, n: says(RATE=(n + 1) / 100), STACK, layers=layers).go()
    return log


def test_each_changed_decision_is_an_entry_in_words_and_no_other_is() -> None:
    log = made()
    entries = ledger(STACK, log)
    changed = [r for r in log if isinstance(r, Decision) and r.before != r.after]
    assert len(entries) == len(changed) == sum(i.changed for i in influence(log))
    assert {e.name for e in entries} == {"Points"}
    plan, focus = [e for e in entries if e.hook == "plan"]
    assert plan.before == "from #0"
    assert plan.after == "from #0: RATE 0.1 -> 0.2, tag t, by code"
    assert focus.after == 'from #0: only RATE, BATCH, "go lower", shown from #1'
    edited, emptied = [e for e in entries if e.hook == "screen"]
    assert edited.after.endswith("BATCH 2**12 -> 2**9 (not so wide)")
    assert (emptied.after, emptied.trials) == ("nothing", ())
    assert {(e.before, e.after) for e in entries if e.hook == "accept"} <= {
        ("keep", "discard"), ("discard", "keep"),
    }  # fmt: skip


def test_an_entry_names_the_trials_that_came_of_it_and_their_gain() -> None:
    log = made()
    history = History(RUN.space, log)
    for entry in ledger(STACK, log):
        assert entry.trials or entry.after == "nothing"
        for one in entry.trials:
            trial = history.trials[one.trial]
            assert trial.draft is not None
            assert entry.hook == "accept" or trial.draft.step == entry.step
            assert trial.score is not None
            assert one.value == -trial.score
            assert one.gain == trial.score - history.trials[trial.draft.move.parents[0]].score
            assert one.kept == trial.kept


def test_marks_name_who_touched_a_trial_at_which_hook() -> None:
    log = made()
    touches = Touches(STACK, log)
    marks = {r.draft.step: touches.mark(r) for r in log if isinstance(r, Trial) and r.draft}
    assert marks[1].startswith("Points.plan")
    assert marks[3].startswith("Points.screen")
    assert not any("Inert" in mark for mark in marks.values())
    assert touches.mark(log[0]) == "", "the baseline is nobody's"  # type: ignore[arg-type]


def test_a_log_that_ends_before_the_trial_has_the_entry_without_it() -> None:
    log = made()
    at = next(i for i, r in enumerate(log) if isinstance(r, Decision) and r.hook == "accept")
    cut = [*log[:at], replace(log[at], before="false", after="true")]  # type: ignore[type-var]
    assert ledger(STACK, cut)[-1].trials == ()


@needs_lock
def test_the_account_of_an_admitted_mechanism_agrees_with_its_merit() -> None:
    run, records = left()
    credits = credited(run, records)
    (account,) = accounts(run, records, credits)
    done = merit(run, records, account.source.sha)
    assert account.source.source == SOURCE
    assert account.joined == done.since
    assert (account.left, account.why_left) == (99, "it did\nharm")
    assert account.why_left == done.left
    assert [t.trial for t in account.trials] == [t.id for t in done.touched]
    assert tuple(t.gain for t in account.trials) == done.gains
    assert sum(i.changed for i in account.influence) == done.changed > 0
    assert account.credit == credits[0]
    assert account.credit.different == done.changed
    assert not account.sham


@needs_lock
def test_what_a_session_said_is_there_round_by_round() -> None:
    (session,) = [r for r in recorded()[1] if isinstance(r, Session)]
    lines = said(session)
    assert lines["explore wastes"] == "BATCH was never tried alone; no streak is long"
    assert lines["explore rule1"] == "steps, 2, look next door"
    assert lines["critique rules"] == "often, it may circle"
    assert said(replace(session, notes={"explore": "no\nJSON"})) == {"explore": "no JSON"}


@needs_lock
@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_pages_fit_and_hold_everything(width: int) -> None:
    run, records = left()
    (account,) = accounts(run, records, credited(run, records))
    text = shown(accounts_view(run, [account]), width)
    assert max(map(len, text.splitlines())) <= width
    plain = " ".join(text.replace("│", " ").split())
    for words in ("EverySecond", "Look next door", "decisions changed", "step 99: it did harm"):
        assert words in plain
    table = shown(ledger_table(run, ledger(run, records)), width)
    assert max(map(len, table.splitlines())) <= width
    assert "EverySecond.plan" in table


def test_a_run_without_mechanisms_says_so() -> None:
    assert "had no mechanism" in shown(accounts_view(RUN, accounts(RUN, [], credited(RUN, []))))
    assert "no mechanism changed a decision" in shown(ledger_table(RUN, ledger(RUN, [])))


@needs_lock
def test_a_sham_is_said_to_be_one() -> None:
    run, records = left()
    (account,) = accounts(run, records, ())
    text = shown(accounts_view(run, [replace(account, sham=True)]))
    assert "left out on purpose" in text
