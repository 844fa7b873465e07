"""The report of a study, rendered and read back."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="the statistics of a study need scipy")
pytest.importorskip("matplotlib", reason="the figures of a study need matplotlib")

from pages import Page, read
from reported import HOSTILE, SOURCE, mixed, run, study

from bilevel.study.analysis import analyse
from bilevel.study.data import AnalysisPlan, Hypothesis, StudyData
from bilevel.study.report import write_report
from bilevel.study.report_document import Code, Paragraph, Points, Table, html, markdown
from bilevel.study.report_sections import Extra
from bilevel.study.report_words import Numbers, numbers, strongest_sentence
from bilevel.study.statistics import spread
from patience import PATIENCE

BROWSER = next((b for b in ("chromium", "google-chrome") if shutil.which(b)), None)


@pytest.fixture(scope="module")
def data() -> StudyData:
    return mixed()


@pytest.fixture(scope="module")
def folder(data: StudyData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    write_report(data, out, Extra(command="bilevel study report small.toml"))
    return out


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return read((folder / "report.html").read_text(encoding="utf-8"))


def test_nothing_is_fetched_and_nothing_runs(page: Page) -> None:
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "image", "base"}
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "srcset"):
                assert value.startswith("#")
            assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)", value))


def test_styles_fetch_nothing(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    for style in re.findall(r"<style.*?</style>", text, re.DOTALL):
        assert "@import" not in style
        assert "url(" not in style


def test_figures_are_inline_and_their_ids_are_their_own(page: Page, folder: Path) -> None:
    files = sorted(p.stem for p in (folder / "figures").iterdir())
    assert files == ["arms", "fresh", "reference", "running-best", "seconds", "strongest", "tokens"]
    assert sorted(a["id"] for tag, a in page.elements if tag == "figure") == files
    assert sum(tag == "svg" for tag, _ in page.elements) == len(files)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    used = {a["xlink:href"][1:] for _, a in page.elements if "xlink:href" in a}
    assert used
    assert used <= set(ids)


def test_a_study_of_two_tasks_has_figures_of_both(tmp_path: Path) -> None:
    write_report(mixed(2, ("toy", "other")), tmp_path)
    page = read((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert {"1-running-best", "2-running-best"} <= {a.get("id") for _, a in page.elements}
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert [r["task"] for r in page.table("hypothesis", "gain ratio")] == [
        "toy", "toy", "other", "other",
    ]  # fmt: skip


def test_tables_hold_the_statistics(page: Page, data: StudyData) -> None:
    (result,) = analyse(data)
    places = numbers(arm.gain for arm in result.arms)
    found = page.table("arm", "IQM")
    assert [row["arm"] for row in found] == ["A", "C", "sham", "random"]
    for row, arm in zip(found, result.arms, strict=True):
        assert arm.gain is not None
        assert arm.gain.bootstrap is not None
        assert float(row["gain"]) == pytest.approx(arm.gain.mean, abs=10**-places.places)
        assert row["median"] == places.value(arm.gain.median)
        assert row["confirmed"] == f"{arm.confirmed} of 3"
        assert row["Student's t"] == places.interval(arm.gain.student)
    differences = page.table("arm", "P(better)")
    for row, one in zip(differences, result.against_reference, strict=True):
        assert (row["arm"], row["pairs"], row["answer"]) == (one.arm, "3", "undecided")
        assert row["difference"] == places.signed(one.difference.spread.mean)
        assert row["lowest p"] == "0.25"
    costs = page.table("arm", "tokens")
    assert [row["tokens"] for row in costs] == ["1,800", "1,980", "2,160", "0"]
    assert [row["LLM calls"] for row in costs] == ["18", "18", "18", "0"]
    assert [row["evaluations in all"] for row in costs] == ["24"] * 4


def test_figures_in_json_are_those_of_the_analysis(folder: Path, data: StudyData) -> None:
    document = json.loads((folder / "statistics.json").read_text(encoding="utf-8"))
    (result,) = analyse(data)
    (task,) = document["tasks"]
    assert [a["gain"]["mean"] for a in task["arms"]] == [
        a.gain.mean for a in result.arms if a.gain is not None
    ]
    assert document["hypotheses"][0]["verdict"] == "undecided"


def test_a_ratio_has_its_rule_and_its_contrast_in_the_report(tmp_path: Path) -> None:
    five = Hypothesis("H1", "five times", "C", ("A",), ("toy",), ratio=5.0)
    write_report(replace(mixed(), hypotheses=(five,)), tmp_path)
    page = read((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "that of the gain less 5 times the control's beyond 0, with such a p" in page.text
    (row,) = page.table("hypothesis", "gain less ratio times control's")
    assert re.fullmatch(r"[+-][\d.]+ \(.* to .*\)", row["gain less ratio times control's"])
    assert row["answer"] == "undecided"


def test_the_strongest_control_is_named_whichever_it_is(data: StudyData) -> None:
    def said(*controls: str, of: StudyData = data) -> str | None:
        planned = replace(of, plan=AnalysisPlan("A", controls, resamples=100))
        (result,) = analyse(planned)
        return strongest_sentence(planned, result)

    by = "by the mean gain over the 3 repeats that all controls with any run have done; "
    assert said() is None
    assert said("A") == (
        f"The strongest control is A, {by}all arms are compared with it as the reference."
    )
    found = said("sham", "random")
    assert found is not None
    assert found.endswith(f"{by}arms that are no controls are compared with it.")
    found = said(*data.arms)
    assert found is not None
    assert "it was chosen by these runs" in found
    nothing = replace(data, runs=())
    assert said("sham", of=nothing) == (
        "No control is the strongest yet: there is no repeat that all of them have done."
    )


def test_small_samples_are_called_small(page: Page) -> None:
    assert "With 3 pairs, p cannot be under 0.25" in page.text
    assert page.table("hypothesis", "answer")[0]["answer"] == "undecided"
    assert "3 of the 10 pairs that the rule asks for" in page.text
    assert "repeats would settle it" in page.text


def test_mechanisms_are_listed_with_source_influence_and_credit(page: Page) -> None:
    rows = page.table("mechanism", "influence")
    assert {r["repeat"] for r in rows} == {"3 of them"}  # one row for runs with the same one
    assert {(r["arm"], r["steps"], r["influence"], r["credit"]) for r in rows} == {
        ("C", "from 3", "25 % of 120", "20% (20% to 20%, n 3)"),
        ("sham", "left out on purpose", "never asked", "-"),
    }
    assert SOURCE.rstrip() in page.text


def test_what_made_it_is_in_it(page: Page) -> None:
    for words in ("bilevel study report small.toml", "f" * 64, "e" * 64, "cores 2", "scipy "):
        assert words in page.text


def test_texts_of_others_stay_texts(page: Page, folder: Path) -> None:
    assert page.text.count(HOSTILE) >= 3
    text = (folder / "report.md").read_text(encoding="utf-8")
    prose = re.sub(r"^(````+)\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert not re.search(r"(?<!\\)<", prose)
    for line in prose.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


def test_markdown_says_the_same_as_the_page(page: Page, folder: Path) -> None:
    text = (folder / "report.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    tables = sum(len(table) + 1 for table in page.tables)
    assert len(rows) == tables
    for name in re.findall(r"\]\((figures/[^)]*)\)", text):
        assert (folder / name).read_text(encoding="utf-8").startswith("<svg ")


def test_the_same_data_gives_the_same_bytes(data: StudyData, folder: Path, tmp_path: Path) -> None:
    again = write_report(data, tmp_path, Extra(command="bilevel study report small.toml"))
    assert sorted(p.name for p in again) == sorted(p.name for p in folder.rglob("*.*"))
    for path in again:
        assert path.read_bytes() == (folder / path.relative_to(tmp_path)).read_bytes()


def test_how_large_a_difference_would_be_found_is_said(page: Page, data: StudyData) -> None:
    (result,) = analyse(data)
    places = numbers(arm.gain for arm in result.arms)
    found = [r.power.detectable for r in result.against_reference if r.power is not None]
    rows = page.table("arm", "found with power 0.8")[: len(found)]
    assert [row["found with power 0.8"] for row in rows] == [places.value(v) for v in found]


def test_a_study_that_has_hardly_begun_has_a_report(tmp_path: Path) -> None:
    done = run("A", 0, 1.0, [None, None, None])
    write_report(study([done]), tmp_path / "one")
    page = read((tmp_path / "one/report.html").read_text(encoding="utf-8"))
    assert "A gained 0.0000 on its baseline in its only run, which has no sd" in page.text
    (row,) = page.table("arm", "IQM")
    assert (row["gain"], row["sd"], row["95 % interval"]) == ("0.0000", "-", "-")

    nothing = replace(study([done]), runs=())
    write_report(nothing, tmp_path / "none")
    page = read((tmp_path / "none/report.html").read_text(encoding="utf-8"))
    assert "none of 0 runs is done" in page.text
    assert "figure" not in {tag for tag, _ in page.elements}


@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_a_browser_shows_it_within_a_phone_and_asks_for_nothing(
    folder: Path, tmp_path: Path
) -> None:
    assert BROWSER is not None
    probe = (
        "<script>document.title = JSON.stringify({"
        "room: document.documentElement.clientWidth,"
        "width: document.documentElement.scrollWidth,"
        "figures: [...document.querySelectorAll('figure svg')]"
        ".filter(e => e.getBoundingClientRect().height > 50).length,"
        "fetched: performance.getEntriesByType('resource').length})</script></body>"
    )
    text = (folder / "report.html").read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(text.replace("</body>", probe), encoding="utf-8")
    shown = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900",
            f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", "page.html",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=True,
    ).stdout  # fmt: skip
    found = re.search(r"<title>(.*?)</title>", shown)
    assert found is not None
    seen = json.loads(found[1])
    assert seen["width"] <= seen["room"]
    assert seen["figures"] == 7
    assert seen["fetched"] == 0


def test_markup_of_markdown_is_escaped() -> None:
    blocks = [
        Paragraph("# no heading, *no* `code`, [no](link) <b> &lt; a_b _c_"),
        Points(["- no list"]),
        Table(("a|b", "c"), [("-0.1", "x\ny")]),
        Code("a ```` b"),
    ]
    assert markdown(blocks, "figures") == (
        "\\# no heading, \\*no\\* \\`code\\`, \\[no\\](link) \\<b\\> \\&lt; a_b \\_c\\_\n\n"
        "- \\- no list\n\n"
        "| a\\|b | c |\n| --- | ---: |\n| -0.1 | x y |\n\n"
        "`````\na ```` b\n`````\n"
    )
    assert "&lt;b&gt; &amp;lt;" in html("t", blocks)


@pytest.mark.parametrize(
    ("places", "value", "text"),
    [(4, 0.00921, "0.0092"), (4, -0.00001, "0.0000"), (2, -1.239, "-1.24"), (0, 3.2, "3")],
)
def test_numbers_are_written_with_equal_decimals(places: int, value: float, text: str) -> None:
    assert Numbers(places).value(value) == text


def test_signs_and_dashes() -> None:
    assert Numbers(2).signed(0.5) == "+0.50"
    assert Numbers(2).signed(0.001) == "0.00"
    assert Numbers(2).signed(-0.5) == "-0.50"
    assert Numbers(2).value(None) == Numbers(2).interval(None) == "-"


def test_decimals_follow_the_usual_spread() -> None:
    assert numbers([spread([0.01, 0.02]), spread([0.03, 0.01]), None]).places == 4
    assert numbers([spread([100.0, 300.0])]).places == 0
    assert numbers([spread([0.5])]).places == 3
    assert numbers([]).places == 4
