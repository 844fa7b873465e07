"""The plot of a run, `progress.png`: experiments in order, and how the best value moved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilevel.describe import one_line, trial_changes
from bilevel.errors import MissingExtra
from bilevel.history import History
from bilevel.model import Record, Run, Trial
from bilevel.results import replacing
from bilevel.summary import Summary, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (14.0, 7.0)  # inches
DPI = 150
MOST_LABELS = 18
LABEL_WIDTH = 45
LABEL_POINTS = 8.0
SLOPE = 30.0  # degrees
WORSE_SHOWN = 1.0  # how far past the baseline the axis goes, in gains of the best

GREY, GREEN, LINE, INK = "#9a9a9a", "#2ecc71", "#27ae60", "#1a7a3a"
ORANGE, BLUE = "#d55e00", "#0072b2"  # Okabe and Ito 2008: told apart without red and green


@dataclass(frozen=True)
class Point:
    """One experiment on the plot: x is its number (0 the baseline), y the metric's value."""

    x: int
    y: float | None
    kept: bool
    label: str


def plot_progress(run: Run, records: Sequence[Record], path: Path) -> None:
    """Write the picture of a run, however far it got, to `path`, as PNG.

    Raises MissingExtra without matplotlib, OSError when the file cannot be written.
    """
    figure = progress_figure(run, records)
    with replacing(path) as fresh:
        figure.savefig(fresh, dpi=DPI, format="png")


def progress_figure(run: Run, records: Sequence[Record]) -> Figure:
    """The picture of a run, with one pair of axes. Raises MissingExtra without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra(
            "a plot needs matplotlib, which is not installed; pip install 'bilevel[plots]'"
        ) from error
    history, summary = History(run.space, records), summarise(run, records)
    points = [_point(run, history, i, t) for i, t in enumerate(history.search())]
    figure = Figure(figsize=SIZE, dpi=DPI, layout="tight")
    axes = figure.add_subplot()
    span = _span(summary, points)
    right = max(len(points), 2) * 1.02
    axes.set_ylim(*span)
    axes.set_xlim(-0.02 * right, right)
    _draw_points(axes, points, summary, span)
    _draw_noise(axes, summary)
    _draw_confirmed(axes, summary, right)
    _describe(axes, run, summary)
    _draw_labels(figure, axes, _labelled(points, run), up=run.objective.direction == "min")
    return figure


def _point(run: Run, history: History, number: int, trial: Trial) -> Point:
    value = None if trial.score is None else run.objective.value(trial.score)
    label = one_line(", ".join(trial_changes(history, trial)), LABEL_WIDTH)
    return Point(number, value, trial.kept, label)


def _span(summary: Summary, points: Sequence[Point]) -> tuple[float, float]:
    """Lowest and highest value shown: all that is near the baseline or better than it.

    One configuration that ruins the model must not press all others into a line.
    """
    base, best = summary.baseline, summary.best
    shown = [p.y for p in points if p.y is not None and (p.kept or p.x == 0)]
    if base.mean is not None:
        shown += [base.mean - (base.sd or 0.0), base.mean + (base.sd or 0.0)]
    if summary.confirmation.value is not None:
        spread = summary.confirmation.value_sd or 0.0
        middle = summary.confirmation.value
        shown += [middle - spread, middle + spread]
    if not shown or best is None or base.value is None:
        return 0.0, 1.0
    reach = WORSE_SHOWN * max(abs(best.value - base.value), 3 * (base.sd or 0.0))
    sign = 1 if summary.direction == "min" else -1
    near = [p.y for p in points if p.y is not None and sign * (p.y - base.value) <= reach]
    low, high = min(shown + near), max(shown + near)
    margin = 0.06 * (high - low) or 0.01 * abs(high) or 1.0
    return low - 2 * margin, high + margin


def _draw_points(
    axes: Axes, points: Sequence[Point], summary: Summary, span: tuple[float, float]
) -> None:
    seen = [(p.x, p.y, p.kept) for p in points if p.y is not None]
    inside = [(x, y, kept) for x, y, kept in seen if span[0] <= y <= span[1]]
    grey = [(x, y) for x, y, kept in inside if not kept]
    green = [(x, y) for x, y, kept in inside if kept]
    off = [x for x, y, _ in seen if not span[0] <= y <= span[1]]
    failed = [p.x for p in points if p.y is None]
    edge = axes.get_xaxis_transform()  # y in shares of the height
    _scatter(axes, grey, c=GREY, s=26, alpha=0.75, zorder=3, label="Discarded", linewidths=0)
    style: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.6}
    _scatter(axes, green, c=GREEN, s=60, zorder=5, label="Kept", **style)
    if green:
        xs, ys = [x for x, _ in green], _running([y for _, y in green], summary.direction)
        axes.step(
            [*xs, points[-1].x], [*ys, ys[-1]], where="post", color=LINE, linewidth=2, alpha=0.75,
            zorder=4, label="Running best",
        )  # fmt: skip
    worse_is_up = summary.direction == "min"
    worse = [(x, 0.985 if worse_is_up else 0.045) for x in off]
    mark = "^" if worse_is_up else "v"
    _scatter(axes, worse, transform=edge, marker=mark, c=GREY, s=30, zorder=3, label="Off scale")
    crashed = [(x, 0.018) for x in failed]
    _scatter(axes, crashed, transform=edge, marker="x", c=ORANGE, s=34, zorder=3, label="Failed")


def _scatter(axes: Axes, spots: Sequence[tuple[float, float]], **style: Any) -> None:
    if spots:
        axes.scatter([x for x, _ in spots], [y for _, y in spots], **style)


def _running(values: Sequence[float], direction: str) -> list[float]:
    """The best so far, shape (values,)."""
    pick = min if direction == "min" else max
    return [pick(values[: i + 1]) for i in range(len(values))]


def _draw_noise(axes: Axes, summary: Summary) -> None:
    base = summary.baseline
    if base.mean is not None and base.sd is not None:
        label = f"Baseline ± sd of {base.n} seeds"
        axes.axhspan(
            base.mean - base.sd, base.mean + base.sd, color="#000000", alpha=0.07, lw=0, zorder=1,
            label=label,
        )  # fmt: skip


def _draw_confirmed(axes: Axes, summary: Summary, right: float) -> None:
    found = summary.confirmation
    if found.value is None:
        return
    label = f"Best again ± sd, {found.measured} fresh seeds: {found.verdict}"
    axes.errorbar(
        [right], [found.value], yerr=[found.value_sd or 0.0], fmt="D", color=BLUE,
        markersize=7, capsize=6, elinewidth=2, zorder=6, label=label,
    )  # fmt: skip
    axes.set_xlim(right=1.04 * right)


def _describe(axes: Axes, run: Run, summary: Summary) -> None:
    counts, metric = summary.counts, _drawable(run.objective.metric)
    better = "lower" if run.objective.direction == "min" else "higher"
    unit = f", {_drawable(run.objective.unit)}" if run.objective.unit else ""
    experiments = "1 Experiment" if counts.evaluations == 1 else f"{counts.evaluations} Experiments"
    improvements = "1 Kept Improvement" if counts.kept == 1 else f"{counts.kept} Kept Improvements"
    axes.set_title(f"Autoresearch Progress: {experiments}, {improvements}", fontsize=14, pad=12)
    axes.set_xlabel("Experiment # (0 is the baseline)", fontsize=12)
    axes.set_ylabel(f"{metric}{unit} ({better} is better)", fontsize=12, parse_math=False)
    axes.locator_params(axis="x", integer=True)
    if summary.best is None:
        axes.set_yticks([])
    axes.grid(visible=True, alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.09),
            ncols=7,
            columnspacing=1.6,
            frameon=False,
            fontsize=9,
        )


def _labelled(points: Sequence[Point], run: Run) -> list[tuple[int, float, str]]:
    """Kept experiments that get a label: all, or those with the largest steps if they are many."""
    kept = [(p.x, p.y, p.label) for p in points if p.kept and p.y is not None]
    score = run.objective.score
    steps = {after[0]: score(after[1]) - score(before[1]) for before, after in pairwise(kept)}
    chosen = set(sorted(steps, key=lambda x: -steps[x])[:MOST_LABELS])
    return [k for k in kept if k[0] in chosen]


def _draw_labels(
    figure: Figure, axes: Axes, kept: Sequence[tuple[int, float, str]], *, up: bool
) -> None:
    """Slanted labels on the worse side of the line, in lanes, and room for them in the axes.

    Moving the limits moves the points, so that room is found in a few rounds.
    """
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=1.6, foreground="white", alpha=0.7)]
    for _ in range(6):
        texts = [
            axes.annotate(
                _drawable(label), (x, y), textcoords="offset points", xytext=(6, offset),
                fontsize=LABEL_POINTS, color=INK, rotation=SLOPE if up else -SLOPE, ha="left",
                va="bottom" if up else "top", rotation_mode="default", parse_math=False,
                zorder=7, annotation_clip=False,
                arrowprops={"arrowstyle": "-", "color": INK, "alpha": 0.35, "lw": 0.6},
                path_effects=halo,
            )
            for (x, y, label), offset in zip(kept, _offsets(figure, axes, kept, up=up), strict=True)
        ]  # fmt: skip
        figure.draw_without_rendering()
        if not _make_room(axes, texts, up=up):
            return
        for text in texts:
            text.remove()


def _offsets(
    figure: Figure, axes: Axes, kept: Sequence[tuple[int, float, str]], *, up: bool
) -> list[float]:
    """Vertical offset of each label, in points, that keeps a line's height between its neighbours.

    From right to left: a label that would touch the one after it is pushed away from the line.
    """
    figure.draw_without_rendering()
    points_per_pixel = 72.0 / figure.dpi
    sign = 1.0 if up else -1.0
    lane = 1.35 * LABEL_POINTS / math.cos(math.radians(SLOPE))
    offsets: list[float] = []
    last = -math.inf
    for x, y, _ in reversed(kept):
        across, along = axes.transData.transform((x, y)) * points_per_pixel
        # Where the slanted line through the point meets the vertical axis.
        height = sign * along - across * math.tan(math.radians(SLOPE))
        offset = max(6.0, last + lane - height)
        last = height + offset
        offsets.append(sign * offset)
    return offsets[::-1]


def _make_room(axes: Axes, texts: Sequence[Any], *, up: bool) -> bool:
    """Whether the limits had to be widened, because a label reached out of the axes."""
    frame = axes.get_window_extent()
    boxes = [t.get_window_extent() for t in texts]
    right = max((b.x1 for b in boxes), default=frame.x1) - frame.x1
    edge = 0.04 * frame.height  # the marks of what is off the scale or failed lie there
    over = max((b.y1 - frame.y1 if up else frame.y0 - b.y0 for b in boxes), default=-edge) + edge
    if right > 1:
        left, end = axes.get_xlim()
        axes.set_xlim(left, end + (end - left) * right / (frame.width - right))
    if over > 1:
        low, high = axes.get_ylim()
        more = (high - low) * over / max(frame.height - over, frame.height / 4)
        axes.set_ylim(low if up else low - more, high + more if up else high)
    return right > 1 or over > 1


def _drawable(text: str) -> str:
    """The text as one line, with a question mark for what the plot's font has no sign for."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    return "".join(c if ord(c) in known else "?" for c in one_line(text))
