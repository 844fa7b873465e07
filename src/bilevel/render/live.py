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

from bilevel.describe import one_line
from bilevel.history import History
from bilevel.ledger import Touches
from bilevel.levels import usage
from bilevel.model import (
    Begun,
    Call,
    Denial,
    Fault,
    Layering,
    Phase,
    Proposal,
    Record,
    Run,
    Session,
    Steering,
    Stop,
    Trial,
)
from bilevel.render import lines
from bilevel.render.lines import change_text, clock
from bilevel.research.authoring import parse_specification
from bilevel.resuming import underway

TAIL = 2048
# What a steering and a session take, in proposals' time, until the run has seen one: a prompt of
# its own each, and for a session three rounds and some sources.
GUESSED = {"1.5": 2.0, "2": 15.0}


class Terminal:
    """A watcher that draws on a console; plain lines where it is no terminal, or is not `alive`."""

    def __init__(
        self,
        run: Run,
        records: Sequence[Record],
        trials: Path,
        console: Console,
        alive: bool = True,
    ) -> None:
        self.run = run
        self.console = console
        self._alive = alive and console.is_terminal
        self.history = History(run.space, records)
        self.calls = [r for r in records if isinstance(r, Call)]
        self.touches = Touches(run, records)
        self.steerings = sum(isinstance(r, Steering) for r in records)
        self.now: Phase | None = None
        at = underway(records)
        self._begun = None if at is None else records[at]  # a session that is beside the loop
        self._trials = trials
        self._start = time.monotonic()
        self._live = Live(
            get_renderable=self._draw, console=console, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> Terminal:
        if self._alive:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.now = None
        if self._alive:
            self._live.stop()

    def phase(self, phase: Phase) -> None:
        """Note what begins now."""
        self.now = phase

    def record(self, record: Record) -> None:
        """Take in a record, and print what is worth a line of its own."""
        if isinstance(record, Call):
            self.calls.append(record)
        if isinstance(record, Begun | Session):
            self._begun = record if isinstance(record, Begun) else None
        self.touches.add(record)
        for line in self._lines(record):
            self._say(line)
        if isinstance(record, Stop) and record.reason != "done":
            self.console.print(Text(f"stopped ({record.reason}) {record.detail}", style="yellow"))
        self.steerings += isinstance(record, Steering)
        self.history.add(record)

    def _lines(self, record: Record) -> list[Text]:
        """What a record is worth, before it is taken into the history."""
        if isinstance(record, Trial):
            mark = self.touches.mark(record)
            return [lines.trial_line(self.run, self.history, record, mark)]
        if isinstance(record, Proposal):
            return [lines.refusal_line(self.history, r) for r in record.refusals]
        if isinstance(record, Steering):
            spent = usage(self.calls, "1.5", record.at)
            return lines.steering_lines(self.history.steering, record, spent)
        if isinstance(record, Begun):
            return [lines.begun_line(record)]
        if isinstance(record, Session):
            return lines.session_lines(record, usage(self.calls, "2", record.step))
        if isinstance(record, Denial) and record.level != "1":
            return [lines.denial_line(record)]
        if isinstance(record, Call):
            same = [c for c in self.calls if c.level == record.level]
            return lines.call_lines(record, same[-2] if len(same) > 1 else None)
        if isinstance(record, Layering):
            return [lines.layering_line(record, self.touches.names[record.sha])]
        if isinstance(record, Fault):
            return [lines.fault_line(record, self.touches.names[record.layer])]
        return []

    def _say(self, line: Text) -> None:
        """One line: cut to a terminal's width, whole in a file."""
        if self.console.is_terminal:
            self.console.print(line, no_wrap=True, overflow="ellipsis")
        else:
            self.console.print(line, soft_wrap=True)

    def _draw(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(style="dim", width=8, no_wrap=True)
        grid.add_column(overflow="ellipsis", no_wrap=True, ratio=1)
        grid.add_row(self.run.id, self._bar())
        best = self.history.best
        if best is not None and best.score is not None:
            grid.add_row("best", best_text(self.run, self.history))
        grid.add_row("now", self._now())
        if isinstance(self._begun, Begun) and not self._waits():
            said = f"Level 2: {self._round(self._begun.step)}"
            grid.add_row("beside", Text(said, style=lines.RESEARCH))
        if why := self._why():
            grid.add_row("why", Text(one_line(why), style="italic"))
        grid.add_row("tokens", self._tokens())
        return Group(Text(), grid)

    def _bar(self) -> RenderableType:
        done, wanted = self.history.evaluated(), self.run.evals
        row = Table.grid(padding=(0, 2))
        spent = clock(time.monotonic() - self._start)
        left = self._left()
        about = f", about {clock(left)} left" if left is not None else ""
        bar = ProgressBar(total=max(wanted, 1), completed=done, width=16)
        row.add_row(bar, f"evaluation {done} of {wanted}, {spent} so far{about}")
        return row

    def _left(self) -> float | None:
        """Seconds to go at the pace so far; None before there is one."""
        trials = self.history.trials
        if not trials:
            return None
        job = sum(t.seconds for t in trials) / len(trials)
        left = self.run.evals - self.history.evaluated()
        confirm = 2 * self.run.confirms - len(self.history.role("confirm"))
        return left * job + self._talk(left) + max(0, confirm) * job

    def _talk(self, left: int) -> float:
        """Seconds that the LLM of all levels still takes, each at its own pace so far."""
        done, plan = self.history.evaluated(), self.run.outer
        proposal = usage(self.calls, "1").seconds / done if done else 0.0
        cycles = (self.run.evals - 1) // plan.every
        sessions = len(self.history.sessions)
        turns = plan.research != "off" and not plan.beside
        left_of = {
            "1.5": (self.steerings, cycles - self.steerings if plan.steering else 0),
            "2": (sessions, cycles // plan.cycles - sessions if turns else 0),
        }
        talk = left * proposal
        for level, (held, wanted) in left_of.items():
            each = usage(self.calls, level).seconds / held if held else GUESSED[level] * proposal
            talk += max(0, wanted) * each
        return talk

    def _now(self) -> RenderableType:
        if self.now is None:
            return Text("starting")
        if self.now.kind == "propose":
            return Text("asking the LLM for a proposal")
        if self.now.kind == "steer":
            return Text("Level 1.5: asking the LLM how to steer", style=lines.STEERING)
        if self.now.kind == "research":
            return Text(f"Level 2: {self._round(self.now.step)}", style=lines.RESEARCH)
        if self.now.kind == "wait":
            said = f"waiting for Level 2: {self._round(self.now.step)}"
            return Text(said, style=lines.RESEARCH)
        return Text(f"#{self.now.trial} {self._trying()} {self._job_tail()}")

    def _waits(self) -> bool:
        """Whether the loop waits for a session."""
        return self.now is not None and self.now.kind in ("research", "wait")

    def _session(self, step: int) -> list[Call]:
        """The calls so far of the session that began before this step."""
        return [c for c in self.calls if c.level == "2" and c.step == step]

    def _round(self, step: int) -> str:
        """What that session does, by what it was told last."""
        told = [c.purpose for c in self._session(step)]
        sources = len([p for p in told if p.startswith(("generate", "repair"))])
        if sources:
            return f"source {sources} is before the gate, or the LLM writes the next"
        first = "reading the trace and the sources"
        then = {"explore": "doubting what it saw", "critique": "fixing hook, statistic and rule"}
        return then.get(told[-1], "writing a source") if told else first

    def _why(self) -> str:
        """The hypothesis behind what happens now."""
        if self.now is None:
            return ""
        if self._waits():
            told = [c.reply.text for c in self._session(self.now.step) if c.purpose == "specify"]
            spec = parse_specification(told[-1]) if told else None
            return "" if spec is None else f"{spec.name}: {spec.text()}"
        return "" if self.now.draft is None else self.now.draft.hypothesis

    def _trying(self) -> str:
        assert self.now is not None
        draft = self.now.draft
        if draft is None:
            return {"baseline": "measuring the baseline", "confirm": "measuring the winner"}.get(
                self.now.kind, self.now.kind
            )
        return change_text(self.history, draft.move.parents, draft.step, draft.values)

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
        text = f"{read:,} read ({cached:,} cached), {written:,} written in {clock(seconds)}"
        for level in ("1.5", "2"):
            if (spent := usage(self.calls, level)).calls:
                text += f"; Level {level}: {spent.tokens_out:,} in {clock(spent.seconds)}"
        return text


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
