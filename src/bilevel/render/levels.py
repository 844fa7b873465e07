"""What the outer levels and the mechanisms of a run did, as rich rows and tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from bilevel.accounts import Account
from bilevel.describe import number, one_line
from bilevel.ledger import Entry, Touched
from bilevel.levels import OuterLoop, Usage
from bilevel.model import Run

GOOD, BAD, QUIET, TOUCHED = "bold blue", "yellow", "dim", "magenta"
SHA_DIGITS = 12


def outer_rows(outer: OuterLoop) -> Iterator[tuple[str, RenderableType]]:
    """Rows for a summary: the levels and what they did; none for the plain loop."""
    used = {u.level: u for u in outer.usage}
    if outer.levels != ("1",):
        yield "levels", Text(", ".join(outer.levels) + spent_text(used.get("1"), "; Level 1: "))
    if "1.5" in outer.levels:
        yield "steering", Text(times(outer.steerings, "time") + spent_text(used.get("1.5")))
    if "2" in outer.levels:
        yield "research", _research_text(outer, used.get("2"))
    if outer.layers or outer.joined:
        text = f"{', '.join(map(one_line, outer.layers)) or 'none'} on the stack at the end"
        faults = f", {times(outer.faults, 'fault')}" if outer.faults else ""
        yield "mechanisms", Text(text + faults)
    if outer.sandbox:
        yield "sandbox", Text(outer.sandbox, style=f"bold {BAD}" if "weak" in outer.sandbox else "")


def _research_text(outer: OuterLoop, spent: Usage | None) -> Text:
    beside = " beside the inner loop" if outer.beside else ""
    text = f"{times(outer.sessions, 'session')}{beside}, {outer.admitted} admitted"
    text += f" (asked for {outer.writes})" if outer.writes != "frames" else ""
    text += " (sham: left out)" if outer.sham else ""
    text += f"; {times(outer.attempts, 'source')}"
    if outer.refused:
        rules = ", ".join(f"{rule}: {n}" for rule, n in outer.refused.items())
        text += f", {sum(outer.refused.values())} refused ({rules})"
    return Text(text + spent_text(spent))


def spent_text(spent: Usage | None, begin: str = "; ") -> str:
    """`; 12 replies, 3,100 tokens written in 2:10 min`; nothing where nothing was asked."""
    if spent is None:
        return ""
    replies = times(spent.calls, "reply", "replies")
    return f"{begin}{replies}, {spent.tokens_out:,} tokens written in {clock(spent.seconds)}"


def accounts_view(run: Run, accounts: Sequence[Account]) -> RenderableType:
    """A frame for each mechanism: what it is, why it was written, what it did, what came of it."""
    if not accounts:
        return Text(f"{run.id} had no mechanism: neither by --stack nor by Level 2")
    return Group(*(_account_panel(account) for account in accounts))


def ledger_table(run: Run, entries: Sequence[Entry]) -> RenderableType:
    """A row for each decision that a mechanism changed, and what came of it."""
    if not entries:
        return Text(f"no mechanism changed a decision of {run.id}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True, padding=(0, 1, 0, 0))
    table.add_column("step", justify="right", style=QUIET)
    table.add_column("by", style=TOUCHED, overflow="fold", max_width=22)
    table.add_column("before -> after", ratio=1, overflow="fold")
    table.add_column(f"trial: {one_line(run.objective.metric, 12)}", overflow="fold", max_width=26)
    for entry in entries:
        change = Text(entry.before, style=QUIET).append(" -> ", style="default")
        table.add_row(
            str(entry.step),
            Text(f"{one_line(entry.name)}.{entry.hook}"),
            change.append(entry.after, style="default"),
            _trials_text(entry.trials),
        )
    return table


def _account_panel(account: Account) -> Panel:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=QUIET, no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in _account_rows(account):
        grid.add_row(name, text)
    written = account.source.source.rstrip()
    code = Syntax(written, "python", background_color="default", word_wrap=True)
    title = Text(f"{one_line(account.source.name)} {account.source.sha[:SHA_DIGITS]}")
    body = Group(grid, Padding(code, (1, 0, 0, 0)))
    return Panel(body, title=title, title_align="left", box=box.ROUNDED, expand=True)


def _account_rows(account: Account) -> Iterable[tuple[str, Text]]:
    source = account.source
    yield "from", Text(_origin_text(account))
    if source.rationale:
        yield "idea", Text(one_line(source.rationale))
    for topic, words in account.said.items():
        if words and not (source.rationale and topic.startswith("specify")):
            yield topic, Text(words, style=QUIET)
    if account.sham:
        yield "sham", Text("the session was held, and its code left out on purpose", style=BAD)
    yield "influence", _influence_text(account)
    if account.credit is not None:
        made, other = account.credit.decisions, account.credit.different
        yield "credit", Text(f"{other} of the run's {made} decisions differ without it")
    if account.trials:
        yield "touched", _touched_text(account.trials)
    if account.faults:
        yield "faults", Text("\n".join(account.faults), style=BAD)
    if account.left is not None:
        yield "left", Text(f"before step {account.left}: {one_line(account.why_left)}", style=BAD)


def _origin_text(account: Account) -> str:
    if account.said:
        parents = ", ".join(sha[:SHA_DIGITS] for sha in account.source.parents)
        made = f"; made from {parents}" if parents else ""
        joined = "" if account.joined is None else f"; joined before step {account.joined}"
        return f"{account.source.origin}{made}{joined}"
    return "the stack that the run began with"


def _influence_text(account: Account) -> Text:
    """`plan 5 of 9 decisions changed, accept 0 of 9`."""
    parts = [
        f"{i.hook} {i.changed} of {i.asked} decisions changed"
        for i in account.influence
        if i.changed or len(account.influence) == 1
    ]
    inert = [i.hook for i in account.influence if not i.changed]
    if parts and inert and len(account.influence) > 1:
        parts.append(f"none in {' and '.join(inert)}")
    if parts:
        return Text(", ".join(parts))
    asked = sum(i.asked for i in account.influence)
    return Text(f"none in {times(asked, 'decision')}" if asked else "never asked", style=BAD)


def _touched_text(trials: Sequence[Touched]) -> Text:
    gains = [t.gain for t in trials if t.gain is not None]
    text = times(len(trials), "trial")
    if gains:
        better = sum(g > 0 for g in gains)
        text += f", {better} better than the start, best gain {signed(max(gains))}"
    return Text(f"{text}\n").append_text(_trials_text(trials))


def _trials_text(trials: Sequence[Touched]) -> Text:
    """`#4 3.2100 (+0.0300, kept), #5 crash`."""
    text = Text()
    for trial in trials:
        text.append(", " if text else "").append(f"#{trial.trial} ")
        if trial.value is None:
            text.append(trial.status, style=BAD)
            continue
        rest = [] if trial.gain is None else [signed(trial.gain)]
        rest += ["kept"] if trial.kept else []
        text.append(number(trial.value), style=GOOD if trial.kept else "")
        text.append(f" ({', '.join(rest)})" if rest else "")
    return text


def signed(gain: float) -> str:
    """A gain with its sign."""
    return f"{'+' if gain > 0 else ''}{number(gain)}"


def times(count: int, one: str, many: str = "") -> str:
    """`1 trial`, `2 trials`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def clock(seconds: float) -> str:
    """`42 s`, `2:10 min`, or with hours `1:04:05`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d} min"
