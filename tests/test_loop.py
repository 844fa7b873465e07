"""Level 1: its order, its incumbent, its budget, and going on after a stop at any record."""

from dataclasses import replace

import pytest

from bilevel.loop import IDLE_STEPS
from bilevel.mechanism import Mechanism
from bilevel.model import Decision, Fault, Layering, Move, Outcome, Proposal, Stop, Trial
from bilevel.stack import Layer
from worlds import RUN, SPACE, Instant, Log, build, says


def trials(log: Log, role: str = "search") -> list[Trial]:
    return [r for r in log if isinstance(r, Trial) and r.role == role]


def test_baseline_comes_first_twice_on_different_seeds() -> None:
    log = Log()
    build(log).go()
    first, second = [r for r in log if isinstance(r, Trial)][:2]
    assert first.role == second.role == "baseline"
    assert first.values == second.values == SPACE.defaults()
    assert first.seed != second.seed
    assert first.kept
    assert not second.kept


def test_all_search_trials_share_the_seed_of_the_first_baseline() -> None:
    log = Log()
    build(log).go()
    assert {t.seed for t in trials(log)} == {trials(log, "baseline")[0].seed}


def test_keeps_strict_improvement_only_and_starts_from_the_incumbent() -> None:
    log = Log()
    build(log, evals=20).go()
    incumbent = trials(log, "baseline")[0]
    for trial in trials(log):
        assert trial.draft is not None
        assert trial.draft.move.parents == (incumbent.id,)
        better = trial.score is not None and trial.score > incumbent.score
        assert trial.kept == better
        incumbent = trial if better else incumbent
    assert any(t.kept for t in trials(log))
    assert any(not t.kept and t.score is not None for t in trials(log))


def test_a_tie_is_discarded() -> None:
    log = Log()
    same = Instant(measure=lambda v, s: Outcome("ok", 1.0, {"loss": 1.0}))
    build(log, evaluator=same).go()
    assert trials(log)
    assert not any(t.kept for t in trials(log))


def test_failed_trials_have_no_score_and_are_never_kept() -> None:
    log = Log()
    build(log, lambda m, n: says(PATTERN="L", RATE=n / 100), evals=3).go()
    assert [t.status for t in trials(log)] == ["crash"] * 3
    assert [t.score for t in trials(log)] == [None] * 3
    assert not any(t.kept for t in trials(log))


def test_a_configuration_is_never_evaluated_twice_in_a_search() -> None:
    log, evaluator = Log(), Instant()
    loop = build(log, lambda m, n: says(RATE=(n % 3 + 2) / 10), evaluator=evaluator)
    stop = loop.go()
    searched = [str(t.values) for t in trials(log)]
    assert len(searched) == len(set(searched)) == 3
    assert stop.reason == "refused"
    refusals = [r for p in log if isinstance(p, Proposal) for r in p.refusals]
    assert len(refusals) == IDLE_STEPS
    assert all("repeats #" in r.reason or "changes nothing" in r.reason for r in refusals)


def test_a_refusal_costs_no_evaluation() -> None:
    log, evaluator = Log(), Instant()
    stop = build(log, lambda m, n: "nonsense", evaluator=evaluator).go()
    assert stop.reason == "refused"
    assert len(evaluator.started) == RUN.baselines


def test_a_failed_baseline_stops_the_run_with_the_reason() -> None:
    broken = Instant(measure=lambda v, s: Outcome("crash", None, error="no data.txt"))
    log = Log()
    stop = build(log, evaluator=broken).go()
    assert stop.reason == "failed"
    assert "no data.txt" in stop.detail
    assert not trials(log)


def test_winner_and_baseline_are_measured_on_the_same_fresh_seeds() -> None:
    log = Log()
    build(log, evals=10, confirms=3).go()
    confirmed = trials(log, "confirm")
    assert len(confirmed) == 3
    baseline = {t.seed for t in trials(log, "baseline")}
    assert {t.seed for t in confirmed} <= baseline
    assert trials(log)[0].seed not in {t.seed for t in confirmed}


def test_the_budget_counts_evaluated_proposals_exactly() -> None:
    for slots in (1, 3):
        log = Log()
        build(log, evals=7, slots=slots).go()
        assert len(trials(log)) == 7


class Several(Mechanism):
    def plan(self, view, moves):
        return [Move(parents=moves[0].parents, note=f"try {i}") for i in range(view.slots)]


def test_trials_are_logged_in_the_order_of_drafts_whatever_ends_first() -> None:
    log = Log()
    build(log, evals=9, slots=3, layers=[Layer("s", "several", Several())]).go()
    ids = [t.id for t in log if isinstance(t, Trial)]
    assert ids == sorted(ids)
    assert max(len(p.queue) for p in log if isinstance(p, Proposal)) > 1


def test_stops_before_the_next_step_when_the_time_is_up() -> None:
    log = Log()
    loop = build(log, evals=50)
    loop.expired = lambda: "out of time" if len(trials(log)) >= 3 else ""
    stop = loop.go()
    assert (stop.reason, stop.detail) == ("wall", "out of time")
    assert len(trials(log)) == 3


@pytest.mark.parametrize("slots", [1, 3])
def test_a_run_killed_after_any_record_goes_on_to_the_same_log(slots: int) -> None:
    layers = [Layer("s", "several", Several())] if slots > 1 else []
    whole = Log()
    build(whole, evals=8, slots=slots, layers=layers).go()
    for cut in range(len(whole)):
        log = Log(dies_at=cut)
        with pytest.raises(KeyboardInterrupt):
            build(log, evals=8, slots=slots, layers=layers).go()
        assert len(log) == cut
        log.dies_at = None
        build(log, evals=8, slots=slots, layers=layers).go()
        assert decided(log) == decided(whole), f"killed after record {cut}"


def decided(log: Log) -> list[object]:
    """The log without what depends on the clock, or is written once more after a kill."""
    return [r for r in log if isinstance(r, Proposal | Trial | Stop)]


def test_two_runs_with_one_seed_are_equal_and_with_another_differ() -> None:
    logs = [Log(), Log(), Log()]
    for log, seed in zip(logs, (7, 7, 8), strict=True):
        build(log, seed=seed).go()
    assert decided(logs[0]) == decided(logs[1]) != decided(logs[2])


class Breaks(Mechanism):
    def accept(self, view, trial, keep):
        raise ZeroDivisionError("at every call")


class KeepsAll(Mechanism):
    def accept(self, view, trial, keep):
        return True


def test_a_faulty_layer_falls_back_on_record_and_leaves_after_three() -> None:
    plain, log = Log(), Log()
    build(plain).go()
    build(log, layers=[Layer("b", "breaks", Breaks())]).go()
    assert [t.kept for t in trials(log)] == [t.kept for t in trials(plain)]
    assert len([r for r in log if isinstance(r, Fault)]) == 3
    assert [r.action for r in log if isinstance(r, Layering)] == ["remove"]


def test_a_layer_decides_and_the_log_shows_before_and_after() -> None:
    log = Log()
    build(log, layers=[Layer("k", "keeps all", KeepsAll())]).go()
    assert all(t.kept == (t.score is not None) for t in trials(log))
    changed = [r for r in log if isinstance(r, Decision) and r.before != r.after]
    assert changed
    assert {r.hook for r in changed} == {"accept"}


class Invents(Mechanism):
    def screen(self, view, drafts):
        return [replace(drafts[0], id=99)]


def test_a_layer_that_invents_a_draft_is_a_fault() -> None:
    log = Log()
    build(log, layers=[Layer("i", "invents", Invents())]).go()
    fault = next(r for r in log if isinstance(r, Fault))
    assert "may not invent" in fault.message


class EditsToOne(Mechanism):
    def screen(self, view, drafts):
        return [d.edit({**d.values, "RATE": 0.25}, "always the same") for d in drafts]


def test_an_edit_cannot_make_a_configuration_run_twice() -> None:
    log = Log()
    build(log, evals=8, slots=3, layers=[
        Layer("s", "several", Several()), Layer("e", "edits", EditsToOne()),
    ]).go()  # fmt: skip
    searched = [SPACE.key(t.values) for t in trials(log)]
    assert len(searched) == len(set(searched)) >= 1
    refusals = [r for p in log if isinstance(p, Proposal) for r in p.refusals]
    assert any("since it was edited" in r.reason for r in refusals)


class Counts(Mechanism):
    """Keeps state, and decides by it."""

    def __init__(self):
        self.seen = []

    def plan(self, view, moves):
        self.seen.append(len(view.trials))
        return [replace(m, note=f"try {sum(self.seen)}") for m in moves]

    def accept(self, view, trial, keep):
        if len(self.seen) == 4:
            self.seen.append("half done")
            raise ValueError("once")
        return keep or (len(self.seen) % 3 == 0 and trial.score is not None)


def test_a_layer_with_state_goes_on_after_a_kill_at_any_record() -> None:
    whole = Log()
    build(whole, evals=8, layers=[Layer("c", "counts", Counts())]).go()
    assert any(isinstance(r, Fault) for r in whole)
    for cut in range(len(whole)):
        log = Log(dies_at=cut)
        with pytest.raises(KeyboardInterrupt):
            build(log, evals=8, layers=[Layer("c", "counts", Counts())]).go()
        log.dies_at = None
        build(log, evals=8, layers=[Layer("c", "counts", Counts())]).go()
        timeless = [
            [replace(r, ms=0) if isinstance(r, Decision) else r for r in x] for x in (log, whole)
        ]
        assert timeless[0] == timeless[1], f"killed after record {cut}"
