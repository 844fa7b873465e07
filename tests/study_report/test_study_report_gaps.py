"""What a study's report says of measurements that are not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="the statistics of a study need scipy")
pytest.importorskip("matplotlib", reason="the figures of a study need matplotlib")

from pages import Page, read
from reported import run, study

from bilevel.study.data import Fresh, StudyData, StudyRun
from bilevel.study.report import write_report


def written(data: StudyData, folder: Path) -> Page:
    write_report(data, folder)
    return read((folder / "report.html").read_text(encoding="utf-8"))


def gone(of: StudyRun, fresh: Fresh) -> StudyRun:
    """The run with no figure on fresh seeds."""
    missing = replace(of, reevaluated=None, reevaluated_baseline=None, fresh=fresh)
    return replace(missing, verdict="not confirmed")


def test_a_winner_that_fails_on_every_fresh_seed_counts_as_not_confirmed(tmp_path: Path) -> None:
    runs = [replace(run("C", i, 1.0, [0.9, 0.8, 0.7]), fresh=Fresh(5)) for i in range(4)]
    runs[3] = replace(runs[3], fresh=Fresh(5, failed=2, unpaired=1))
    runs.append(gone(run("C", 4, 1.0, [0.9, 0.8, 0.7]), Fresh(5, failed=5)))
    page = written(study(runs, plan=None), tmp_path)
    (row,) = page.table("arm", "confirmed")
    assert (row["confirmed"], row["fresh failed"]) == ("4 of 5", "7 of 25")
    assert (
        "Beware: of 25 fresh measurements of C's winners 7 failed, 1 stand beside a failure of the "
        "defaults; its figures on fresh seeds are means of the others, and 1 of 5 runs have none, "
        "are in no mean and no pair, and count as not confirmed."
    ) in page.text


def test_where_no_winner_has_a_fresh_value_that_is_said_too(tmp_path: Path) -> None:
    page = written(study([gone(run("A", 0, 1.0, [0.9]), Fresh(5, unmade=5))]), tmp_path)
    (row,) = page.table("arm", "confirmed")
    assert (row["gain, fresh seeds"], row["confirmed"]) == ("-", "0 of 1")
    assert "5 were never made" in page.text


def test_a_run_that_gave_up_is_named_with_its_evaluations_and_its_reason(tmp_path: Path) -> None:
    whole, short = run("A", 0, 1.0, [0.9, 0.8, 0.7]), run("A", 1, 1.0, [0.9])
    why = "20 steps in a row led to no evaluation"
    short = replace(gone(short, Fresh(5, unmade=5)), stop="refused", stop_detail=why)
    page = written(study([replace(whole, stop="done"), short]), tmp_path)
    assert "Beware: 1 of 2 runs of A ended before their 3 evaluations; they count" in page.text
    assert "Runs that ended before their evaluations" in page.text
    assert (
        f"A, repeat 1: 1 of 3 evaluations, refused: {why}; its winner was not measured on 5 fresh "
        "seeds"
    ) in page.text
    assert "A, repeat 0: 3 of 3" not in page.text


def test_runs_that_made_all_their_evaluations_are_not_listed_as_short(tmp_path: Path) -> None:
    page = written(study([run("A", 0, 1.0, [0.9, None, 0.7])]), tmp_path)
    assert "ended before" not in page.text
