"""A report's figures as files, its comparisons at equal cost, and what it warns of."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="the statistics of a study need scipy")
pytest.importorskip("matplotlib", reason="the figures of a study need matplotlib")

from pages import read
from reported import mechanism, mixed, run, study

from bilevel.study.analysis import analyse
from bilevel.study.data import AnalysisPlan, Build, Measure, Version
from bilevel.study.report import write_report


@pytest.mark.parametrize("measure", ["best", "reevaluated"])
def test_each_table_of_differences_says_what_it_compares(measure: Measure, tmp_path: Path) -> None:
    data = mixed()
    plan = AnalysisPlan("A", ("sham", "random"), measure, resamples=100)
    rules = tuple(replace(h, measure=measure) for h in data.hypotheses)
    write_report(replace(data, plan=plan, hypotheses=rules), tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    search, fresh = "gain of the search", "gain of the winner on fresh seeds"
    main, other = (search, fresh) if measure == "best" else (fresh, search)
    titles = re.findall(r"^### Paired differences from (.*)", text, re.MULTILINE)
    assert titles[0] == f"A: {main}"
    assert re.fullmatch(f"the strongest control, .*: {main}", titles[1])
    assert titles[2:] == [f"A: {other}"]
    assert ("A on fresh seeds (95 % interval" in text) == (measure == "reevaluated")
    assert "is compared, by the gain of the search" in text
    drawn = (tmp_path / "figures/reference.svg").read_text(encoding="utf-8")
    assert f"{main}, over that of A" in drawn
    page = read((tmp_path / "report.html").read_text(encoding="utf-8"))
    by = {row["by"] for row in page.table("hypothesis", "gain ratio")}
    assert by == {"search" if measure == "best" else "fresh seeds"}


def test_two_runs_have_no_interval_in_words_or_tables(tmp_path: Path) -> None:
    write_report(mixed(2), tmp_path)
    page = read((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.text.count("(2 runs, too few for a 95 % interval)") == 4
    assert "(2 pairs, too few for a 95 % interval, p = " in page.text
    assert {row["95 % interval"] for row in page.table("arm", "IQM")} == {"-"}
    assert "seed 0; none below 3 values" in page.text


def test_figures_are_files_for_a_paper(tmp_path: Path) -> None:
    folder, data = tmp_path / "without", mixed()
    write_report(data, folder)
    write_report(data, tmp_path, png=True)
    drawn = sorted((tmp_path / "figures").glob("*.png"))
    assert [p.stem for p in drawn] == sorted(p.stem for p in (folder / "figures").iterdir())
    for path in drawn:
        head = path.read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(head[16:20], "big") == 1600  # 8 inches
    for path in (tmp_path / "figures").glob("*.svg"):
        assert path.read_bytes() == (folder / "figures" / path.name).read_bytes()


def test_points_of_a_path_have_no_needless_decimals(tmp_path: Path) -> None:
    write_report(mixed(), tmp_path)
    text = (tmp_path / "figures" / "running-best.svg").read_text(encoding="utf-8")
    paths = re.findall(r' d="([^"]*)"', text)
    assert len(paths) > 20
    assert not [p for p in paths if re.search(r"\.\d{3}", p)]
    assert max(len(p.split()) for p in paths) > 30


def test_where_money_is_known_arms_are_compared_at_equal_money(tmp_path: Path) -> None:
    runs = [
        replace(run(arm, i, 1.0, [0.9, 0.8 - 0.1 * (arm == "C"), 0.7]), usd_at=at)
        for i in range(3)
        for arm, at in (("A", (0.1, 0.2, 0.3)), ("C", (0.2, 0.4, 0.6)))
    ]
    write_report(study(runs), tmp_path)
    page = read((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "At equal cost in US dollars" in page.text
    (result,) = analyse(study(runs))
    (row,) = result.at_cost["usd"]
    # C's run is stopped at 0.3, after its first evaluation; A's has made all three.
    assert row.differences == pytest.approx({0: -0.2, 1: -0.2, 2: -0.2})
    assert "usd" in {a.get("id") for tag, a in page.elements if tag == "figure"}


def test_a_curve_over_tokens_is_drawn_even_where_no_pair_can_be_compared(tmp_path: Path) -> None:
    runs = [run(arm, 0, 1.0, [0.9], tokens=10 * (arm == "C")) for arm in ("A", "C")]
    write_report(study(runs), tmp_path)
    page = read((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "tokens" in {a.get("id") for tag, a in page.elements if tag == "figure"}
    assert "No run that spent any is paired with one of A that did." in page.text


def test_arms_of_one_repeat_made_by_different_code_are_warned_of(tmp_path: Path) -> None:
    builds = {sha: Build(sha, "0.1.0", {"loop.py": sha[0]}) for sha in ("1" * 64, "2" * 64)}
    runs = [
        replace(run(arm, i, 1.0, [0.9]), builds=("1" * 64 if arm == "A" or i else "2" * 64,))
        for i in range(2)
        for arm in ("A", "C")
    ]
    write_report(study(runs, builds=builds), tmp_path)
    page = read((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert (
        "Beware: in 1 of 2 repeats arms were made by different code, which may be why they differ: "
        "repeat 0 (A: 111111111111; C: 222222222222). These builds differ in loop.py."
    ) in page.text
    rows = page.table("sources, sha256", "runs")
    assert [(r["sources, sha256"], r["runs"]) for r in rows] == [("1" * 64, "3"), ("2" * 64, "1")]
    document = json.loads((tmp_path / "statistics.json").read_text(encoding="utf-8"))
    assert document["mixed"]["builds"] == [
        {"task": "toy", "repeat": 0, "made": {"1" * 12: ["A"], "2" * 12: ["C"]}}
    ]


def test_the_commit_of_each_build_is_named_and_makes_no_other_machine(tmp_path: Path) -> None:
    builds = {sha: Build(sha, "0.1.0", {"loop.py": sha[0]}) for sha in ("1" * 64, "2" * 64)}
    first, second = run("A", 0, 1.0, [0.9]), run("C", 0, 1.0, [0.8])
    commit = "c0" * 20
    runs = [
        replace(first, builds=("1" * 64,), machine={**first.machine, "commit": commit}),
        replace(second, builds=("2" * 64,)),
    ]
    write_report(study(runs, builds=builds), tmp_path)
    page = read((tmp_path / "report.html").read_text(encoding="utf-8"))
    rows = page.table("sources, sha256", "commit")
    assert [r["commit"] for r in rows] == [commit, "-"]
    assert "A replay needs the build that made the run" in page.text
    assert "Of 1 of 2 runs the commit is not known" in page.text
    assert "on different machines" not in page.text


def test_what_held_generated_code_is_said_and_a_weak_sandbox_aloud(tmp_path: Path) -> None:
    runs = [replace(run("C", i, 1.0, [0.9]), sandboxes=("strict",)) for i in range(3)]
    runs[2] = replace(runs[2], sandboxes=("strict", "weak"))
    runs.append(run("A", 0, 1.0, [0.9]))
    write_report(study(runs), tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for text in (read(page).text, (tmp_path / "report.md").read_text(encoding="utf-8")):
        assert "sandbox of generated code and of users' files: strict (runs: 2)" in text
        assert "strict then weak (runs: 1)" in text
        assert "Beware: in 1 of 4 runs the sandbox was weak: generated code can read and" in text
    write_report(study(runs[:2]), tmp_path)
    assert "Beware: in" not in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_arms_and_tasks_that_were_added_later_are_not_said_to_be_from_before(
    tmp_path: Path,
) -> None:
    def version(at: str, arms: str, tasks: str) -> Version:
        return Version(at, "f", f"[study]\nrepeats = 1\narms = [{arms}]\ntasks = [{tasks}]\n")

    first = version("2026-01-01", '"A"', '"toy"')
    later = version("2026-02-02", '"A", "C"', '"toy", "other"')
    data = study([run("A", 0, 1.0, [0.9])], began="2026-01-01", versions=(first,))
    write_report(data, tmp_path)
    before = (tmp_path / "report.md").read_text(encoding="utf-8")
    write_report(replace(data, versions=(first, later)), tmp_path)
    after = (tmp_path / "report.md").read_text(encoding="utf-8")
    entered = "rules entered: 2026-01-01, before the first run; arms and tasks as well"
    assert f"{entered}\n" in before
    assert "Added on" not in before
    assert f"{entered}, but for those that were added later\n" in after
    assert "Added on 2026-02-02, when results could be seen: arm C, task other." in after


def test_mechanisms_of_level_2_and_those_given_to_a_run_are_counted_apart(tmp_path: Path) -> None:
    own = replace(mechanism(sham=False), changed=0)
    given = replace(mechanism(sham=False), sha="cd" * 32, generated=False)
    runs = [run("C", i, 1.0, [0.9], mechanisms=(own, given)) for i in range(2)]
    runs.append(replace(run("C", 2, 1.0, [0.9], mechanisms=(own,)), status="open"))
    write_report(study(runs), tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "has it: 2 of 2 were on a stack, and 0 changed a decision" in text
    assert "library: 2 of 2 were on a stack, and 2 changed a decision" in text


def test_the_figure_over_cost_says_whose_means_it_shows_and_that_they_are_held(
    tmp_path: Path,
) -> None:
    runs = [run(arm, i, 1.0, [0.9, 0.8]) for i in range(3) for arm in "AC"]
    runs[1] = replace(runs[1], tokens_at=())
    write_report(study(runs), tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "A run keeps its best beyond what it spent" in text
    assert "are left out; drawn: A 3 of 3, C 2 of 3." in text
