"""A comparison as a table for people, as JSON, as curves, and as the logs that it was made from."""

from __future__ import annotations

import gzip
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

import bilevel
from bilevel import codec
from bilevel.compare.comparison import Row, Spread, Standing
from bilevel.describe import number, one_line
from bilevel.errors import MissingExtra
from bilevel.model import Record, Run
from bilevel.results import replacing

LIBRARIES = ("cmaes", "optuna", "pydoe", "scikit-learn", "scipy", "smac", "torch", "xllamacpp")
COLUMNS = (
    "strategy", "n", "best", "sd", "range", "single best", "gain", "sd", "again", "to target",
    "dupl.", "failed", "infl.", "calls", "tokens in", "out", "time", "lines",
)  # fmt: skip
RANGE, AGAIN = COLUMNS.index("range"), COLUMNS.index("again")
FOUND = COLUMNS.index("dupl.")  # the columns before it say what was found, the others what it took
ENOUGH = 10  # seeds from which on an order of strategies means something
BRIGHT = 8  # curves in colour, of the strategies with the largest mean gain
# Okabe and Ito 2008: told apart without red and green.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#b8ad00")
GREY = "#bbbbbb"


@dataclass(frozen=True)
class Heading:
    """What was compared, and with which command line."""

    command: str
    task: str
    evals: int
    seeds: int
    llm: str
    shares: bool


def tables(heading: Heading, found: Standing, width: int) -> list[Table]:
    """One row a strategy, the largest mean gain first; cut in two where `width` is too narrow."""
    columns = [c for c in _columns(found) if c != RANGE]
    whole = _table(found, columns)
    if Console(width=1000).measure(whole).maximum > width:
        took = [c for c in columns if c >= FOUND]
        made = [_table(found, [c for c in columns if c < FOUND]), _table(found, [0, *took])]
    else:
        made = [whole]
    made[0].title = Text(_title(heading, found))
    return made


def _columns(found: Standing) -> list[int]:
    """All, but without the one for fresh seeds where nothing was measured on any."""
    again = any(row.confirmed for row in found.rows)
    return [c for c in range(len(COLUMNS)) if again or c != AGAIN]


def _table(found: Standing, columns: Sequence[int]) -> Table:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title_justify="left")
    for column in columns:
        side: JustifyMethod = "right" if column else "left"
        made.add_column(COLUMNS[column], justify=side, no_wrap=True)
    for row in found.rows:
        words = cells(row)
        made.add_row(*(Text(words[c]) for c in columns), style="" if row.n else "dim")
    return made


def cells(row: Row) -> tuple[str, ...]:
    """A row's cells, one for each of COLUMNS; a dash where there is nothing to say."""
    return (
        row.strategy,
        str(row.n),
        _mean(row.best),
        _sd(row.best),
        "-" if row.best is None else f"{number(row.best.low)} to {number(row.best.high)}",
        "-" if row.record is None else number(row.record),
        _mean(row.gain),
        _sd(row.gain),
        _mean(row.confirmed),
        "-" if row.to_target is None else f"{row.to_target:g} ({row.reached}/{row.n})",
        str(row.duplicates) if row.n else "-",
        str(row.failed) if row.n else "-",
        "-" if row.influence is None else f"{100 * row.influence:.0f} %",
        f"{row.calls:,}" if row.n else "-",
        f"{row.tokens_in:,}" if row.n else "-",
        f"{row.tokens_out:,}" if row.n else "-",
        clock(row.llm_seconds + row.job_seconds) if row.n else "-",
        str(row.lines),
    )


def legend(heading: Heading, found: Standing) -> list[str]:
    """What the columns mean, a line each, and what was computed in fact."""
    evals, metric = heading.evals, found.objective.metric
    again = "; again: gain on fresh seeds" if AGAIN in _columns(found) else ""
    few = f"fewer than {ENOUGH} seeds: the order may be chance"
    held = f"sandbox of your own files: {', '.join(found.sandboxes)}"
    return [
        f"best: {metric} after {evals} evaluations, mean and sd over n seeds; single best: of all "
        f"seeds; gain: on the default configuration, same seed{again}",
        f"to target: evaluations until {_target(found)}, median of the seeds that got there",
        "dupl.: proposals refused as repeats; failed: evaluations without a value; infl.: share of "
        "plans, screenings and acceptances that its layers changed; lines: of its code",
        "calls, tokens, time (LLM and jobs): sums over seeds, what it would have cost alone",
        _computed(heading, found),
        *([held] if found.sandboxes else []),
        *([few] if heading.seeds < ENOUGH else []),
    ]


def _target(found: Standing) -> str:
    metric = found.objective.metric
    if found.target_value is not None:
        return f"{metric} {number(found.target_value)}"
    if found.target is None:
        return "a gain, of which there is none yet"
    return f"a gain of {number(found.target)}, half of the largest mean gain"


def _computed(heading: Heading, found: Standing) -> str:
    if not heading.shares:
        return f"computed: {found.calls:,} calls, {found.evaluations:,} evaluations; none shared"
    return (
        f"computed: {found.calls - found.calls_shared:,} calls and "
        f"{found.evaluations - found.evaluations_shared:,} evaluations; shared between runs: "
        f"{found.calls_shared:,} and {found.evaluations_shared:,}"
    )


def _title(heading: Heading, found: Standing) -> str:
    goal = "lower" if found.objective.direction == "min" else "higher"
    done = sum(row.n for row in found.rows)
    so_far = "" if done == found.runs_wanted else f"; {done} of {found.runs_wanted} runs are there"
    return (
        f"{one_line(heading.task)}: {one_line(found.objective.metric)} ({goal} is better), "
        f"{heading.evals} evaluations, {heading.seeds} seeds, LLM {one_line(heading.llm)}{so_far}"
    )


def document(
    heading: Heading, found: Standing, logs: Mapping[str, Sequence[tuple[Run, object]]]
) -> dict[str, Any]:
    """All figures as JSON values, with what they were made by and on."""
    machines = [dict(run.machine) for runs in logs.values() for run, _ in runs]
    return {
        **asdict(heading),
        "versions": versions(),
        "machines": [m for i, m in enumerate(machines) if m not in machines[:i]],
        **asdict(found),
    }


def versions() -> dict[str, str]:
    """Of bilevel and of the installed libraries that strategies stand on."""
    installed = {"bilevel": bilevel.__version__}
    for name in LIBRARIES:
        for found in metadata.distributions(name=name):
            installed[name] = found.version
    return installed


def markdown(heading: Heading, found: Standing) -> str:
    """The table with its legend and its problems, as a file's text."""
    columns = _columns(found)
    lines = [f"{_title(heading, found)}.", "", f"    {heading.command}", ""]
    lines += [_line([COLUMNS[c] for c in columns]), _line(["---", *["---:"] * (len(columns) - 1)])]
    lines += [_line([words[c] for c in columns]) for words in map(cells, found.rows)]
    lines += ["", *(f"- {text}" for text in legend(heading, found))]
    lines += [f"- **{row.strategy}**: {one_line(p)}" for row in found.rows for p in row.problems]
    lines += ["", ", ".join(f"{name} {version}" for name, version in versions().items())]
    return "\n".join(lines) + "\n"


def _line(words: Sequence[str]) -> str:
    return f"| {' | '.join(word.replace('|', '/') for word in words)} |"


def curves(heading: Heading, found: Standing, path: Path) -> None:
    """Write a picture of the best value after each evaluation, mean over seeds, as PNG.

    Raises MissingExtra without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra(
            "curves need matplotlib, which is not installed; pip install 'bilevel[plots]'"
        ) from error
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.add_subplot()
    ranked = [row for row in found.rows if row.n]
    for turn, row in reversed(list(enumerate(ranked))):
        bright = turn < BRIGHT
        means = [statistics.fmean(at) for at in zip(*(f.curve for f in row.runs), strict=True)]
        gain = f"{row.strategy} ({_mean(row.gain)}, n {row.n})"
        axes.step(
            range(len(means)), means, where="post", color=COLOURS[turn] if bright else GREY,
            linewidth=2.0 if bright else 1.0, zorder=3 if bright else 2, label=gain,
        )  # fmt: skip
    goal = "lower" if found.objective.direction == "min" else "higher"
    axes.set_xlabel("evaluations (0 is the baseline)")
    metric = one_line(found.objective.metric)
    axes.set_ylabel(f"best {metric} so far, mean over seeds ({goal} is better)", parse_math=False)
    axes.set_title(_title(heading, found), fontsize=10, parse_math=False)
    axes.grid(visible=True, alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles[::-1], labels[::-1], loc="outside right upper", fontsize=8, frameon=False,
            title="mean gain",
        )  # fmt: skip
    with replacing(path) as fresh:
        figure.savefig(fresh, dpi=150, format="png")


def write_logs(
    logs: Mapping[str, Sequence[tuple[Run, Sequence[Record]]]], folder: Path
) -> list[Path]:
    """Write each run as `STRATEGY-SEED.json.gz`; unpacked, `bilevel replay` takes it."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for strategy, runs in logs.items():
        for run, records in runs:
            path = folder / f"{strategy.replace('/', '_')}-{run.seed}.json.gz"
            with replacing(path) as fresh:
                fresh.write_bytes(gzip.compress(codec.dump_log(run, records).encode(), mtime=0))
            written.append(path)
    return written


def write_tables(
    heading: Heading,
    found: Standing,
    logs: Mapping[str, Sequence[tuple[Run, Sequence[Record]]]],
    folder: Path,
) -> None:
    """Write `table.md` and `table.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "table.md": markdown(heading, found),
        "table.json": json.dumps(document(heading, found, logs), indent=1) + "\n",
    }
    for name, text in texts.items():
        with replacing(folder / name) as fresh:
            fresh.write_text(text, encoding="utf-8", newline="")


def clock(seconds: float) -> str:
    """`0.4 s`, `64 s`, `12:30 min` or `1:12:30`."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d} min"


def _mean(spread: Spread | None) -> str:
    return "-" if spread is None else number(spread.mean)


def _sd(spread: Spread | None) -> str:
    return "-" if spread is None or spread.sd is None else number(spread.sd)
