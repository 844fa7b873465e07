"""What the terminal shows while a run goes."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from bilevel.ledger import ledger
from bilevel.levels import usage
from bilevel.model import Call, Fault, Layering, Phase, Proposal, Record, Session, Steering
from bilevel.render.lines import steering_lines
from bilevel.render.live import Terminal
from threelevels import held, left, recorded
from worlds import RUN, Log, build, says

needs_lock = pytest.mark.skipif(not held(), reason="this machine cannot lock a worker")


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


def three_levels(folder: Path, until: int | None = None, *, terminal: bool = False) -> Terminal:
    """A run of three levels as a terminal got to see it."""
    run, records = left()
    screen = Console(file=io.StringIO(), force_terminal=terminal, width=140, color_system=None)
    watcher = Terminal(run, [], folder, screen)
    for record in records[:until]:
        watcher.record(record)
    return watcher


def seen(watcher: Terminal) -> str:
    assert isinstance(watcher.console.file, io.StringIO)
    return watcher.console.file.getvalue()


def place(kind: type) -> int:
    return next(i for i, r in enumerate(recorded()[1]) if isinstance(r, kind))


@needs_lock
def test_steering_sessions_and_layers_are_lines_a_matter(tmp_path: Path) -> None:
    lines = seen(three_levels(tmp_path)).splitlines()
    after = lines[next(i for i, x in enumerate(lines) if "Level 1.5" in x) :]
    assert "only RATE is tried  (1 reply, 10 tokens written in 0:00)" in after[0]
    assert [x.strip() for x in after[1:3]] == [
        "|  strategy: explore",
        "|  guidance: change something else",
    ]
    text = "\n".join(lines)
    for words in (
        "Level 2  session of cycle 2  (5 replies, 50 tokens written in 0:02)",
        "|  explore wastes: BATCH was never tried alone; no streak is long",
        "|  specified EverySecond: Look next door now and then (",
        "no class: refused for parse: line 3: not Python",
        "|  source 2 (repair), EverySecond: admitted, would have changed",
        "Stack  EverySecond joins the stack: the session of cycle 2",
        "Stack  EverySecond leaves the stack: it did harm",
    ):
        assert words in text, words
    marked = [x for x in lines if "[EverySecond.plan]" in x]
    touched = {t.trial for e in ledger(*recorded()) for t in e.trials}
    assert len(marked) == len(touched) > 0
    assert all(x.startswith("#") for x in marked)


def test_what_steering_froze_opened_and_refused_stands_with_its_reason() -> None:
    before = Steering(frozen=("RATE",), strategy="explore")
    reasons = {"BATCH": "3 tries", "RATE": "not tried since", "PATTERN": "1 try is too few"}
    now = Steering(("BATCH",), "", "explore", 4, 1, "stuck\n", reasons)
    lines = [line.plain.strip() for line in steering_lines(before, now, usage([], "1.5"))]
    assert lines == [
        "Level 1.5  stuck",
        "|  freezes BATCH: 3 tries",
        "|  opens RATE: not tried since",
        "|  leaves PATTERN: 1 try is too few",
        "|  strategy: explore as before",
    ]


@needs_lock
def test_a_fault_is_a_line_with_the_name_of_its_layer(tmp_path: Path) -> None:
    watcher = three_levels(tmp_path)
    sha = next(r.sha for r in recorded()[1] if isinstance(r, Layering))
    watcher.record(Fault(9, sha, "plan", "KeyError", "'RATE'\x1b[2J"))
    said = "Fault  EverySecond.plan in step 9: KeyError: 'RATE' [2J; passed over"
    assert seen(watcher).splitlines()[-1].strip() == said


@needs_lock
def test_now_tells_what_a_session_is_at(tmp_path: Path) -> None:
    def now(purpose: str) -> str:
        calls = [i for i, r in enumerate(recorded()[1]) if isinstance(r, Call)]
        at = next(i for i in calls if recorded()[1][i].purpose == purpose)  # type: ignore[union-attr]
        watcher = three_levels(tmp_path, at + 1)
        watcher.phase(Phase("research", recorded()[1][at].step))  # type: ignore[union-attr]
        with watcher.console.capture() as shown:
            watcher.console.print(watcher._draw())
        return shown.get()

    assert "Level 2: doubting what it saw" in now("explore")
    assert "Level 2: fixing hook" in now("critique")
    assert "why       EverySecond: Look next door now and then" in now("specify")
    assert "source 2 is before the gate" in now("repair 0.1")
    assert "Level 1.5: 20 in 0:01; Level 2: 50 in 0:02" in now("repair 0.1")
    watcher = three_levels(tmp_path, 2)
    watcher.phase(Phase("steer", 1))
    assert "asking the LLM how to steer" in str(watcher._now())


@needs_lock
def test_time_left_counts_the_calls_of_the_outer_levels_that_are_to_come(tmp_path: Path) -> None:
    first = three_levels(tmp_path, place(Steering))
    proposal = usage(first.calls, "1").seconds / first.history.evaluated()
    left = 8 - first.history.evaluated()
    # The steering that was just asked for is counted as paid, but not as held.
    assert first._talk(left) == left * proposal + 3 * 2 * proposal + 15 * proposal
    later = three_levels(tmp_path, place(Session) + 1)
    left = 8 - later.history.evaluated()
    each = usage(later.calls, "1").seconds / later.history.evaluated()
    assert later._talk(left) == left * each + 1 * 0.5, "one more steering of half a second"
