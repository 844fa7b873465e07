"""The figures of a study, as SVG and as PNG: the same data gives the same bytes.

In an SVG texts stay texts, and what is drawn in INK becomes `currentColor`, so that a page can show
a figure on a light or a dark ground. A PNG is for papers: dark ink on white.
"""

from __future__ import annotations

import io
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bilevel.describe import one_line
from bilevel.errors import MissingExtra
from bilevel.study.analysis import FIGURES, Comparison
from bilevel.study.arm_results import Currency, spent
from bilevel.study.data import StudyData, StudyRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1b1b1b"
# Okabe and Ito 2008, without black and yellow: told apart without red and green, on light and dark.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ("-", "--", ":", "-.")
WIDTH = 8.0  # inches
RESOLUTION = 200  # dots an inch, of a PNG
DECIMALS = 2  # of a path's points, which are 1/72 inch
UNITS: dict[Currency, str] = {
    "tokens": "tokens read and written",
    "seconds": "seconds of LLM and jobs",
    "usd": "US dollars",
}
MOST_ACROSS = 3  # panels in a row


@dataclass(frozen=True)
class Drawing:
    """svg: one <svg> element. png: empty where none was asked for."""

    svg: str
    png: bytes = b""


@dataclass(frozen=True)
class Pen:
    """How figures are drawn. png: whether as PNG, too."""

    png: bool = False

    def draw(self, figure: Figure, name: str) -> Drawing:
        """The figure; the ids in it begin with `name`, so that several fit a page."""
        svg = _svg(figure, name)
        if not self.png:
            return Drawing(svg)
        out = io.BytesIO()
        figure.set_layout_engine("none")  # what was laid out for the SVG stays
        figure.savefig(out, format="png", dpi=RESOLUTION, facecolor="white")
        return Drawing(svg, out.getvalue())


def running_best(data: StudyData, name: str, pen: Pen) -> Drawing:
    """Best value so far after each evaluation: a thin line a run, a thick one for an arm's mean."""
    figure = _figure(5.0)
    axes = figure.add_subplot()
    for arm in data.arms:
        curves = [data.curve(run) for run in data.done(arm)]
        for curve in curves:
            _step(axes, curve, arm, data, alpha=0.55, linewidth=0.8)
        if curves:
            means = [statistics.fmean(at) for at in zip(*curves, strict=True)]
            _step(axes, means, arm, data, linewidth=2.2, label=f"{arm} (n {len(curves)})")
    _label(axes, "evaluations (0 is the baseline)", _best_label(data))
    _legend(figure, axes)
    return pen.draw(figure, name)


def panels(data: StudyData, reference: str, name: str, pen: Pen) -> Drawing:
    """The same, a panel an arm, each with the mean of the reference as a grey line."""
    arms = [arm for arm in data.arms if data.done(arm)]
    across = min(MOST_ACROSS, math.ceil(math.sqrt(len(arms))))
    rows = math.ceil(len(arms) / across)
    figure = _figure(0.6 + 2.1 * rows)
    grid = [*figure.subplots(rows, across, sharex=True, sharey=True, squeeze=False).flat]
    shared = [data.curve(run) for run in data.done(reference)]
    for axes, arm in zip(grid, arms, strict=False):
        curves = [data.curve(run) for run in data.done(arm)]
        if shared:
            means = [statistics.fmean(at) for at in zip(*shared, strict=True)]
            axes.step(range(len(means)), means, where="post", color="#999999", linewidth=2)
        for curve in curves:
            _step(axes, curve, arm, data, alpha=0.7, linewidth=0.8)
        _step(axes, [statistics.fmean(at) for at in zip(*curves, strict=True)], arm, data)
        axes.set_title(one_line(arm), fontsize=10, color=INK, parse_math=False)
        _plain(axes)
    for axes in grid[len(arms) :]:
        axes.set_axis_off()
    figure.supxlabel("evaluations", fontsize=10, color=INK)
    figure.supylabel(_best_label(data), fontsize=10, color=INK, parse_math=False)
    return pen.draw(figure, name)


def forest(data: StudyData, rows: Sequence[Comparison], name: str, pen: Pen) -> Drawing:
    """Paired differences with 95 % intervals: bootstrap thick, Student's t thin."""
    figure = _figure(1.2 + 0.4 * len(rows))
    axes = figure.add_subplot()
    axes.axvline(0, color=INK, linewidth=1)
    for y, row in enumerate(reversed(rows)):
        found, colour = row.difference.spread, _style(data, row.arm)["color"]
        for interval, width in ((found.student, 1.2), (found.bootstrap, 4.0)):
            if interval is not None:
                axes.plot([interval.low, interval.high], [y, y], color=colour, linewidth=width)
        axes.plot(found.mean, y, marker="o", color=colour, markersize=8, markeredgecolor=INK)
    labels = [f"{one_line(r.arm)} (n {r.difference.spread.n})" for r in reversed(rows)]
    axes.set_yticks(range(len(rows)), labels, parse_math=False)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    _label(axes, f"{FIGURES[rows[0].figure]}, over that of {one_line(rows[0].against)}", "")
    return pen.draw(figure, name)


def by_cost(data: StudyData, currency: Currency, name: str, pen: Pen) -> Drawing:
    """Mean gain of each arm over what its runs had spent; a run that ended keeps its best."""
    figure = _figure(4.5)
    axes = figure.add_subplot()
    for arm in data.arms:
        runs = [run for run in data.done(arm) if spent(run, currency)]
        if runs:
            xs = sorted({0.0, *(at for run in runs for at in spent(run, currency))})
            ys = np.mean([_gains(data, run, currency, xs) for run in runs], axis=0)
            axes.step(xs, ys, where="post", linewidth=2, label=arm, **_style(data, arm))
    _label(axes, f"{UNITS[currency]}, a run", f"mean gain, {one_line(data.metric)}")
    _legend(figure, axes)
    return pen.draw(figure, name)


def _gains(
    data: StudyData, run: StudyRun, currency: Currency, spendings: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Gain of the best that a run knew when it had spent so much, shape (spendings,)."""
    known = np.searchsorted(spent(run, currency), spendings, side="right")
    gains = np.asarray([data.gain(run, value) for value in data.curve(run)], dtype=float)
    return gains[known]


def _figure(height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra(
            "figures need matplotlib, which is not installed; pip install 'bilevel[study]'"
        ) from error
    return Figure(figsize=(WIDTH, height), layout="constrained")


def _style(data: StudyData, arm: str) -> dict[str, Any]:
    turn = data.arms.index(arm)
    dash = DASHES[turn // len(COLOURS) % len(DASHES)]
    return {"color": COLOURS[turn % len(COLOURS)], "linestyle": dash}


def _step(axes: Axes, values: Sequence[float], arm: str, data: StudyData, **style: Any) -> None:
    axes.step(range(len(values)), values, where="post", **_style(data, arm), **style)


def _best_label(data: StudyData) -> str:
    goal = "lower" if data.direction == "min" else "higher"
    return f"best {one_line(data.metric)} so far ({goal} is better)"


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, color=INK, parse_math=False)
    axes.set_ylabel(y, color=INK, parse_math=False)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.grid(visible=True, color="#999999", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, labelsize=9)


def _legend(figure: Figure, axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        figure.legend(
            loc="outside lower center", ncols=5, frameon=False, fontsize=9, labelcolor=INK
        )


def _svg(figure: Figure, name: str) -> str:
    """The figure as one <svg> element whose ids begin with `name`."""
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' d="[^"]*"', lambda path: _rounded(path[0]), svg)
    svg = re.sub(r' id="', f' id="{name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    return svg.replace(INK, "currentColor")


def _rounded(path: str) -> str:
    """A path whose points have no more decimals than anybody sees."""
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.{DECIMALS}f}", path)
