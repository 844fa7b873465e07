"""What a study says of its runs, worked out from their logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from studies import described, go, study

from bilevel.model import Message, Opening, Record, Reply, Stop, Trial
from bilevel.study import replaying
from bilevel.study.data import Fresh, StudyData
from bilevel.study.harness import Study
from bilevel.study.progress import Pace, standing
from bilevel.study.provenance import Provenance
from bilevel.study.results import stored, study_data, study_run, worked_out
from comparable import reply
from worlds import Scripted, says


def results(made: Study) -> StudyData:
    logs, problems = stored(made)
    return study_data(made.file, logs, problems)


def test_results_say_what_each_run_would_cost_alone(tmp_path: Path) -> None:
    made = study(tmp_path, described(tmp_path, "A", "greedy", repeats=1, evals=4))
    llm = Scripted(reply)
    go(made, llm)
    one, other = results(made).runs
    assert (one.tokens, one.llm_calls) == (other.tokens, other.llm_calls)
    assert {one.llm_calls_shared, other.llm_calls_shared} == {0, one.llm_calls}
    assert one.llm_calls == len(llm.asked)
    assert one.tokens == one.tokens_at[-1] == 110 * len(llm.asked)
    assert one.seconds_at[-1] >= 0.5 * len(llm.asked)
    assert one.scores == other.scores
    assert one.best == min(s for s in (one.baseline, *one.scores) if s is not None)
    assert results(made).curve(one)[-1] == one.best
    assert one.parameters_touched == ("RATE",)
    assert one.replies == {"scripted": one.llm_calls}
    assert one.reevaluated is not None
    assert one.reevaluated_baseline is not None


def test_tokens_that_nobody_told_are_not_counted_as_none(tmp_path: Path) -> None:
    class Mute(Scripted):
        def complete(self, *args: Any, **more: Any) -> Reply:
            return replace(super().complete(*args, **more), counted=False)

    made = study(tmp_path, described(tmp_path, "A", "random_search", repeats=1))
    go(made, Mute(reply))
    by_arm = {r.arm: r for r in results(made).runs}
    assert (by_arm["A"].tokens, by_arm["A"].tokens_at) == (None, ())
    assert by_arm["random_search"].tokens == 0


def test_why_a_run_could_not_go_on_is_in_its_records(tmp_path: Path) -> None:
    made = study(tmp_path, described(tmp_path, "A", "random_search", repeats=1))
    go(made, None)
    later = study(tmp_path, made.file)  # another process, which tried nothing yet
    (run,) = (r for r in results(later).runs if r.arm == "A")
    assert run.status == "problem"
    assert "begun with --llm none" in run.problem


def test_a_run_whose_baseline_failed_is_reported_with_its_reason(tmp_path: Path) -> None:
    file = described(tmp_path, "random_search", "cmaes", repeats=1)
    task = tmp_path / "task.toml"
    task.write_text(task.read_text().replace('default = "SSSL"', 'default = "L"'))
    go(study(tmp_path, file))
    later = study(tmp_path, file)  # another process, which tried nothing yet
    logs, problems = stored(later)
    assert problems == {}
    for arm in standing(later, Pace(later)):
        (why,) = arm.problems
        assert (arm.done, arm.open) == (0, 0)
        assert "its baseline failed" in why
    found = study_data(file, logs)
    assert [(r.status, bool(r.run_id), r.baseline) for r in found.runs] == [
        ("problem", True, None),
        ("problem", True, None),
    ]
    assert all("failed: the baseline" in r.problem for r in found.runs)
    assert all("PATTERN is L, which is too long" in r.problem for r in found.runs)
    assert all(again.same for again in replaying.again(logs, replaying.chosen(file, logs, [])))
    assert worked_out(logs, Provenance()).credits
    cut = {
        at: (run, [r for r in log if not isinstance(r, Stop)]) for at, (run, log) in logs.items()
    }
    assert [r.status for r in study_data(file, cut).runs] == ["problem", "problem"]


def test_shared_evaluations_are_among_those_that_are_counted(tmp_path: Path) -> None:
    made = study(tmp_path, described(tmp_path, "A", "greedy", repeats=1, evals=4))
    go(made, Scripted(reply))
    first, second = results(made).runs
    assert first.evaluations == second.evaluations == 4 + 2 + 1, "searched, defaults, fresh"
    assert {first.evaluations_shared, second.evaluations_shared} == {0, 7}


def test_fresh_measurements_that_failed_or_were_never_made_are_counted(tmp_path: Path) -> None:
    made = study(tmp_path, described(tmp_path, "random_search", "cmaes", repeats=1))
    go(made)
    ((place, (run, log)), *_) = stored(made)[0].items()
    assert study_run(place, run, log).fresh == Fresh(wanted=1)

    def without(role: str, record: Record) -> Record:
        if isinstance(record, Trial) and record.role == role and record.id:
            return replace(record, score=None, status="crash")
        return record

    failed = study_run(place, run, [without("confirm", r) for r in log])
    assert (failed.status, failed.reevaluated) == ("done", None)
    assert failed.fresh == Fresh(wanted=1, failed=1)
    alone = study_run(place, run, [without("baseline", r) for r in log])
    assert (alone.reevaluated, alone.fresh) == (None, Fresh(wanted=1, unpaired=1))
    ended = [r for r in log if not (isinstance(r, Trial) and r.role == "confirm")]
    assert study_run(place, run, ended).fresh == Fresh(wanted=1, unmade=1)


def test_what_held_a_runs_generated_code_is_in_its_results(tmp_path: Path) -> None:
    made = study(tmp_path, described(tmp_path, "random_search", "cmaes", repeats=1))
    go(made)
    ((place, (run, log)), *_) = stored(made)[0].items()
    assert study_run(place, run, log).sandboxes == ()
    elsewhere = [*log, Opening(0, 0.0, {}, sandbox="strict")]
    found = study_run(place, replace(run, sandbox="weak"), elsewhere)
    assert found.sandboxes == ("weak", "strict")


def test_why_a_run_gave_up_before_its_evaluations_is_in_its_results(tmp_path: Path) -> None:
    def stuck(messages: Sequence[Message], number: int) -> str:
        return says(RATE=0.1)  # the default, which is refused as a repetition

    made = study(tmp_path, described(tmp_path, "A", "random_search", repeats=1))
    go(made, Scripted(stuck))
    (run,) = (r for r in results(made).runs if r.arm == "A")
    assert (run.status, run.stop, run.scores) == ("done", "refused", ())
    assert run.stop_detail == "20 steps in a row led to no evaluation"
