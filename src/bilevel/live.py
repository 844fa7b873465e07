"""What the terminal shows while a run goes: a line a trial, and below them what happens now."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bilevel.describe import changes, one_line, start_values
from bilevel.history import History
from bilevel.model import Call, Phase, Proposal, Record, Refusal, Run, Stop, Trial, Values

TAIL = 2048


class Terminal:
    """A watcher that draws on a console; plain lines where it is no terminal."""

    def __init__(self, run: Run, records: Sequence[Record], trials: Path, console: Console) -> None:
        self.run = run
        self.console = console
        self.history = History(run.space, records)
        self.calls = [r for r in records if isinstance(r, Call)]
        self.now: Phase | None = None
        self._trials = trials
        self._start = time.monotonic()
        self._live = Live(
            get_renderable=self._draw, console=console, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> Terminal:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.now = None
        if self.console.is_terminal:
            self._live.stop()

    def phase(self, phase: Phase) -> None:
        """Note what begins now."""
        self.now = phase

    def record(self, record: Record) -> None:
        """Take in a record, and print what is worth a line of its own."""
        if isinstance(record, Call):
            self.calls.append(record)
        if isinstance(record, Trial):
            self._say(trial_line(self.run, self.history, record))
        if isinstance(record, Proposal):
            for refusal in record.refusals:
                self._say(refusal_line(self.history, refusal))
        if isinstance(record, Stop) and record.reason != "done":
            self.console.print(Text(f"stopped ({record.reason}) {record.detail}", style="yellow"))
        self.history.add(record)

    def _say(self, line: Text) -> None:
        """One line: cut to a terminal's width, whole in a file."""
        if self.console.is_terminal:
            self.console.print(line, no_wrap=True, overflow="ellipsis")
        else:
            self.console.print(line, soft_wrap=True)

    def _draw(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", width=8)
        grid.add_column(overflow="ellipsis", no_wrap=True)
        grid.add_row(self.run.id, self._bar())
        best = self.history.best
        if best is not None and best.score is not None:
            grid.add_row("best", best_text(self.run, self.history))
        grid.add_row("now", self._now())
        if self.now is not None and self.now.draft is not None and self.now.draft.hypothesis:
            grid.add_row("why", Text(one_line(self.now.draft.hypothesis), style="italic"))
        grid.add_row("tokens", self._tokens())
        return Group(Text(), grid)

    def _bar(self) -> RenderableType:
        done, wanted = self.history.evaluated(), self.run.evals
        row = Table.grid(padding=(0, 2))
        spent = _clock(time.monotonic() - self._start)
        left = self._left()
        about = f", about {_clock(left)} left" if left is not None else ""
        bar = ProgressBar(total=max(wanted, 1), completed=done, width=24)
        row.add_row(bar, f"evaluation {done} of {wanted}, {spent} so far{about}")
        return row

    def _left(self) -> float | None:
        """Seconds to go at the pace so far; None before there is one."""
        trials = self.history.trials
        if not trials:
            return None
        job = sum(t.seconds for t in trials) / len(trials)
        done = self.history.evaluated()
        talk = sum(c.reply.seconds for c in self.calls) / done if done else 0.0
        confirm = 2 * self.run.confirms - len(self.history.role("confirm"))
        return (self.run.evals - done) * (job + talk) + max(0, confirm) * job

    def _now(self) -> RenderableType:
        if self.now is None:
            return Text("starting")
        if self.now.kind == "propose":
            return Text("asking the LLM for a proposal")
        return Text(f"#{self.now.trial} {self._trying()} {self._job_tail()}")

    def _trying(self) -> str:
        assert self.now is not None
        if self.now.draft is None:
            return {"baseline": "measuring the baseline", "confirm": "measuring the winner"}.get(
                self.now.kind, self.now.kind
            )
        return _changes(self.history, self.now.draft.move.parents, self.now.draft.values)

    def _job_tail(self) -> str:
        """The job's own last line, as a person at its terminal would see it."""
        assert self.now is not None
        path = self._trials / f"{self.now.trial:04d}" / "run.log"
        if not path.exists():
            return ""
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - TAIL))
            lines = re.split(r"[\r\n]+", log.read().decode("utf-8", "replace"))
        seen = [line.strip() for line in lines if line.strip()]
        return one_line(seen[-1], 80) if seen else ""

    def _tokens(self) -> str:
        replies = [c.reply for c in self.calls]
        read, cached = sum(r.tokens_in for r in replies), sum(r.tokens_cached for r in replies)
        written, seconds = sum(r.tokens_out for r in replies), sum(r.seconds for r in replies)
        return f"{read:,} read ({cached:,} cached), {written:,} written in {_clock(seconds)}"


def best_text(run: Run, history: History) -> Text:
    """The best value so far, its gain, and how that compares with noise."""
    best, first = history.best, history.trials[0]
    assert best is not None
    assert best.score is not None
    text = Text(f"{run.objective.metric} {run.objective.value(best.score):.4f}", style="bold")
    if best.id == first.id or first.score is None:
        return text.append(" (the baseline)", style="dim")
    gain = best.score - first.score
    text.append(f", {gain:.4f} better than the baseline", style="green")
    noise = history.noise()
    if noise:
        text.append(f", {gain / noise:.1f} times its noise of {noise:.2g}", style="dim")
    return text


def trial_line(run: Run, history: History, trial: Trial) -> Text:
    """One line for a trial that has just ended; `history` is that before it."""
    if trial.draft is None:
        what = {"baseline": "baseline", "confirm": "winner again"}[trial.role]
        what = f"{what}, seed {trial.seed}"
    else:
        what = _changes(history, trial.draft.move.parents, trial.values)
    line = Text(f"#{trial.id:<3} ", style="dim")
    if trial.score is None:
        line.append(f"{trial.status:>9} ", style="red").append(what, style="default")
        return line.append(f"  {one_line(trial.error, 120)}", style="dim")
    line.append(
        f"{run.objective.value(trial.score):9.4f} ", style="bold green" if trial.kept else ""
    )
    line.append(
        "keep    " if trial.kept else "discard " if trial.draft else "        ", style="dim"
    )
    line.append(what)
    if trial.draft is not None and trial.draft.hypothesis:
        line.append(f"  {one_line(trial.draft.hypothesis)}", style="italic dim")
    return line


def refusal_line(history: History, refusal: Refusal) -> Text:
    """One line for a proposal that cost no evaluation."""
    what = "" if refusal.values is None else _changes(history, refusal.move.parents, refusal.values)
    return Text(f"       refused {what}: {one_line(refusal.reason)}", style="dim")


def _changes(history: History, parents: tuple[int, ...], values: Values) -> str:
    return ", ".join(changes(history.space, start_values(history, parents), values))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
