"""The files that a run leaves."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bilevel.model import Objective, Record, Trial
from bilevel.results import commit, replacing, results_tsv, write_results
from factories import ACCURACY, GPT, GPT_RUN, gpt_log, proposal, trial


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def test_columns_and_rows_are_what_tools_of_the_field_read() -> None:
    run, log = gpt_log()
    text = results_tsv(run, log)
    assert text.startswith("commit\tval_bpb\tmemory_gb\tstatus\tdescription\n")
    table = rows(text)
    searched = [t for t in log if isinstance(t, Trial) and (t.role == "search" or t.id == 0)]
    assert len(table) == len(searched) == 31, "the baseline and 30 evaluations"
    assert table[0]["status"] == "keep"
    assert table[0]["description"] == "baseline"
    for row, one in zip(table, searched, strict=True):
        assert re.fullmatch("[0-9a-f]{7}", row["commit"])
        if one.score is None:
            assert (row["val_bpb"], row["status"], row["memory_gb"]) == ("", "crash", "0.0")
            assert row["description"].startswith(f"{one.status}: ")
        else:
            assert float(row["val_bpb"]) == pytest.approx(-one.score, abs=1e-6)
            assert row["status"] == ("keep" if one.kept else "discard")
            assert row["memory_gb"] == "1.5", "1536 MB"


def test_the_metric_keeps_its_name_and_its_sign() -> None:
    run, log = gpt_log(objective=ACCURACY)
    table = rows(results_tsv(run, log))
    assert 60 < float(table[0]["accuracy"]) < 70
    assert table[0]["memory_gb"] == "0.0"


def test_small_values_keep_their_digits() -> None:
    records = [trial(0, -1.23456789e-7, kept=True, role="baseline")]
    run = replace(GPT_RUN, objective=Objective("loss"))
    assert rows(results_tsv(run, records))[0]["loss"] == "1.23456789e-07"


def test_what_an_llm_writes_stays_in_its_cell() -> None:
    sly = trial(1, -3.3, hypothesis='a\tb\nc\r"d \ud800 \x1b[2J', TOTAL_BATCH_SIZE=1024, kept=True)
    records = [trial(0, -3.4, kept=True, role="baseline"), proposal(sly), sly]
    text = results_tsv(GPT_RUN, records)
    assert len(text.splitlines()) == 3
    description = 'TOTAL_BATCH_SIZE 2**12 -> 2**10: a b c "d [2J'
    assert rows(text)[1]["description"] == description


def test_equal_configurations_have_equal_commits() -> None:
    values = GPT.defaults()
    assert commit(values) == commit(dict(reversed(values.items())))
    assert commit(values) != commit({**values, "MATRIX_LR": 0.05})
    # sha256 of {"A":1,"B":"x"}
    assert commit({"B": "x", "A": 1}) == "0f3656c"


def test_best_json_holds_both_the_running_best_and_the_fresh_values(tmp_path: Path) -> None:
    run, log = gpt_log()
    paths = write_results(run, log, tmp_path / "new" / "folder")
    assert [p.name for p in paths] == ["results.tsv", "best.json"]
    best = json.loads(paths[1].read_text())
    winner = next(t for t in log if isinstance(t, Trial) and t.id == best["trial"])
    assert best["values"] == winner.values
    assert best["score"] == winner.score
    assert best["value"] == -winner.score if winner.score else False
    assert best["metric"] == "val_bpb"
    assert best["confirmation"]["verdict"] == "confirmed"
    assert best["confirmation"]["measured"] == 5
    again = write_results(run, log, tmp_path / "new" / "folder")
    assert json.loads(again[1].read_text()) == best
    assert sorted(p.name for p in paths[0].parent.iterdir()) == ["best.json", "results.tsv"]


@pytest.mark.parametrize(
    "records", [[], [trial(0, None, role="baseline")]], ids=["empty", "failed"]
)
def test_a_run_without_a_value_leaves_no_best(records: list[Record], tmp_path: Path) -> None:
    (paths,) = [write_results(GPT_RUN, records, tmp_path)]
    assert [p.name for p in paths] == ["results.tsv"]
    table = rows(paths[0].read_text())
    assert [(r["status"], r["val_bpb"]) for r in table] == [("crash", "")] * len(records)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "results.tsv"
    path.write_text("old")

    def half() -> None:
        with replacing(path) as fresh:
            fresh.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
