"""The plot of a run: what it shows, and that its labels can be read."""

import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Annotation

from bilevel.errors import MissingExtra
from bilevel.model import Objective, Record, Run
from bilevel.progress import (
    DPI,
    LABEL_POINTS,
    MOST_LABELS,
    SIZE,
    SLOPE,
    plot_progress,
    progress_figure,
)
from factories import ACCURACY, GPT_RUN, gpt_log, measured, proposal, trial


def staircase(count: int, step: float, direction: str = "min") -> tuple[Run, list[Record]]:
    """A run in which every proposal is kept, each with a long label."""
    run = replace(GPT_RUN, evals=count, objective=Objective("m", direction))  # type: ignore[arg-type]
    records: list[Record] = [trial(0, 3.0, kept=True, role="baseline")]
    for i in range(1, count + 1):
        change = {"TOTAL_BATCH_SIZE": 512, "MATRIX_LR": 0.05 + i / 1000, "WARMUP_RATIO": 0.1}
        one = trial(i, 3.0 + step * i, kept=True, **change)
        records += [proposal(one), one]
    return run, records


def labels(figure: Figure) -> list[Annotation]:
    return [t for t in figure.axes[0].texts if isinstance(t, Annotation)]


def legend(figure: Figure) -> list[str]:
    found = figure.axes[0].get_legend()
    return [] if found is None else [t.get_text() for t in found.get_texts()]


@pytest.mark.parametrize("objective", [GPT_RUN.objective, ACCURACY])
def test_a_finished_run(objective: Objective, tmp_path: Path) -> None:
    run, log = gpt_log(objective=objective)
    plot_progress(run, log, tmp_path / "progress.png")
    height, width = imread(tmp_path / "progress.png").shape[:2]
    assert (width, height) == (SIZE[0] * DPI, SIZE[1] * DPI)
    assert [p.name for p in tmp_path.iterdir()] == ["progress.png"]


def test_it_says_how_many_and_what_each_mark_means() -> None:
    run, log = gpt_log()
    figure = progress_figure(run, log)
    axes = figure.axes[0]
    assert axes.get_title() == "Autoresearch Progress: 30 Experiments, 3 Kept Improvements"
    assert axes.get_ylabel() == "val_bpb (lower is better)"
    assert legend(figure) == [
        "Discarded", "Kept", "Running best", "Off scale", "Failed",
        "Baseline ± sd of 6 seeds", "Best again ± sd, 5 fresh seeds: confirmed",
    ]  # fmt: skip
    assert len(labels(figure)) == 3, "each improvement, and not the baseline"


def test_the_running_best_never_gets_worse() -> None:
    run, log = gpt_log(objective=ACCURACY)
    steps = progress_figure(run, log).axes[0].get_lines()[0].get_ydata()
    assert list(steps) == sorted(steps)
    run, log = gpt_log()
    steps = progress_figure(run, log).axes[0].get_lines()[0].get_ydata()
    assert list(steps) == sorted(steps, reverse=True)


def test_one_ruinous_trial_does_not_press_the_others_into_a_line() -> None:
    run, log = measured([3.4, 3.41], best=3.3)
    ruin = trial(30, -1000.0)
    low, high = progress_figure(run, [*log, proposal(ruin), ruin]).axes[0].get_ylim()  # type: ignore[list-item]
    assert low < 3.3
    assert 3.41 < high < 3.7
    assert "Off scale" in legend(progress_figure(run, [*log, proposal(ruin), ruin]))  # type: ignore[list-item]


@pytest.mark.parametrize("direction", ["min", "max"])
@pytest.mark.parametrize(("count", "step"), [(1, 0.1), (12, 0.001), (40, 0.1)])
def test_labels_lie_within_the_axes_and_apart(direction: str, count: int, step: float) -> None:
    run, records = staircase(count, step, direction)
    figure = progress_figure(run, records)
    texts, frame = labels(figure), figure.axes[0].get_window_extent()
    assert len(texts) == min(count, MOST_LABELS)
    lanes = []
    for text in texts:
        box = text.get_window_extent()
        assert frame.x0 - 1 <= box.x0
        assert box.x1 <= frame.x1 + 1
        assert frame.y0 - 1 <= box.y0
        assert box.y1 <= frame.y1 + 1
        slope = math.radians(SLOPE if direction == "min" else -SLOPE)
        start = box.y0 if direction == "min" else box.y1
        lanes.append(start * math.cos(slope) - box.x0 * math.sin(slope))
    lanes.sort()
    line = LABEL_POINTS * DPI / 72
    assert all(b - a > line for a, b in pairwise(lanes))


@pytest.mark.parametrize(
    "records", [[], [trial(0, None, role="baseline")]], ids=["empty", "failed"]
)
def test_a_run_without_a_value_still_has_a_picture(records: list[Record], tmp_path: Path) -> None:
    plot_progress(GPT_RUN, records, tmp_path / "progress.png")
    assert imread(tmp_path / "progress.png").size
    title = progress_figure(GPT_RUN, records).axes[0].get_title()
    assert title == "Autoresearch Progress: 0 Experiments, 0 Kept Improvements"


def test_every_beginning_of_a_run_can_be_drawn() -> None:
    run, log = gpt_log(evals=2, confirms=2)
    for length in range(len(log)):
        progress_figure(run, log[:length])


def test_odd_names_are_drawn_as_text(tmp_path: Path) -> None:
    run, log = measured([3.4, 3.5], best=3.2)
    run = replace(run, objective=Objective("$\\frac$ 损失", unit="$x"))
    plot_progress(run, log, tmp_path / "progress.png")  # type: ignore[arg-type]
    assert imread(tmp_path / "progress.png").size


def test_without_matplotlib_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"pip install 'bilevel\[plots\]'"):
        progress_figure(GPT_RUN, [])


def test_matplotlib_is_imported_only_to_draw() -> None:
    code = "import sys, bilevel.progress; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
