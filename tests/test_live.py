"""What the terminal shows while a run goes."""

import io
from pathlib import Path

from rich.console import Console

from bilevel.live import Terminal
from bilevel.model import Phase, Proposal, Record
from worlds import RUN, Log, build, says


def watched(folder: Path, *, terminal: bool, until: int | None = None) -> str:
    """A run's records shown one after the other; the text, without colours."""
    log = Log()
    build(log, lambda m, n: says(RATE=n / 50) if n % 3 else says(PATTERN="L", RATE=n / 50)).go()
    screen = Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)
    with Terminal(RUN, [], folder, screen) as watcher:
        for record in log[:until]:
            watcher.record(record)
        if terminal:
            watcher.phase(phase_of(log))
            (folder / "0004").mkdir(exist_ok=True)
            (folder / "0004" / "run.log").write_text("start\nstep 10\r\x1b[31mstep 20 (40%)")
            screen.print(watcher._draw())
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def phase_of(log: list[Record]) -> Phase:
    proposal = next(r for r in log if isinstance(r, Proposal) and r.drafts)
    return Phase("search", 1, 4, proposal.drafts[0])


def test_each_trial_is_a_line_with_its_outcome_change_and_hypothesis(tmp_path: Path) -> None:
    text = watched(tmp_path, terminal=False)
    lines = text.splitlines()
    assert lines[0].startswith("#0 ")
    assert "keep" in lines[0]
    assert any("RATE 0.1 -> 0.02" in line and "This should help." in line for line in lines)
    assert any("crash" in line and "L is too long" in line for line in lines)
    assert any("winner again" in line for line in lines)


def test_below_them_stands_what_happens_now(tmp_path: Path) -> None:
    text = watched(tmp_path, terminal=True, until=7)
    assert "evaluation" in text
    assert "step 20 (40%)" in text
    assert "\x1b[31mstep" not in text
    assert "why       This should help." in text
    assert "tokens" in text
    assert "times its noise" in text or "(the baseline)" in text
