"""The library as people and machines read it: tables, what is known of a mechanism, JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from bilevel.describe import one_line
from bilevel.library.library import Entry, Transfer, Use, measured, share

CREDIT = (
    "credit: share of a run's decisions that would differ without it, mean over n runs, 95 % "
    "bootstrap interval; changed: of the decisions that came to it"
)
GAIN = (
    "gain: of the best found with it over without, same seed, in the metric's unit, positive is "
    "better; interval: Student's t over the pairs; helps, harms: where it does not hold 0"
)
SEVERAL = "several were tried: of 20 that do nothing, one would seem to help or to harm"
DRAWN = "no LLM took part: proposals were drawn by the habits of a small one, which reads no advice"


def named(entry: Entry) -> str:
    """The beginning of its sha, and its name."""
    return one_line(f"{entry.sha[:8]} {entry.source.name}")


def table(entries: Sequence[Entry]) -> Table:
    """A row a mechanism."""
    made = Table("sha", "name", "for", "from", "credit", "changed", "faults", "trials", box=None)
    for entry in entries:
        trials = ", ".join(f"{t.verdict} {t.task}" for t in entry.transfers)
        words = (
            entry.sha[:8],
            entry.source.name,
            entry.task,
            entry.run or entry.source.origin,
            share(entry.credit()),
            "-" if entry.influence is None else f"{entry.influence:.0%}",
            str(entry.faults),
            trials or "-",
        )
        made.add_row(*(Text(one_line(w)) for w in words))
    return made


def facts(entry: Entry) -> list[tuple[str, str]]:
    """What there is to say of a mechanism beside its source, by topic."""
    source = entry.source
    origin = f"{source.origin}, {entry.run}, by {entry.llm}" if entry.run else source.origin
    said = [
        ("name", source.name),
        ("sha", entry.sha),
        ("from", f"{origin}, for {entry.task}; it passed {entry.passed}"),
        ("idea", source.rationale or "-"),
        ("parents", ", ".join(p[:8] for p in source.parents) or "none"),
        ("credit", f"{share(entry.credit())} of a run's decisions would differ without it"),
    ]
    said += [(f"in {u.run} ({u.task}, {u.llm}, seed {u.seed})", _used(u)) for u in entry.uses]
    for tried in entry.transfers:
        said.append(("tried" if tried.seen else "tried on a task not seen before", measured(tried)))
    said += [(f"said, {topic}", words) for topic, words in entry.hypotheses.items()]
    return [(one_line(topic), one_line(words)) for topic, words in said]


def code(entry: Entry) -> str:
    """The source, its characters that would steer a terminal replaced."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in entry.source.source)


def _used(use: Use) -> str:
    credit = "unknown" if use.credit is None else f"{use.different} of {use.decisions} decisions"
    left = f"; taken out: {use.left}" if use.left else ""
    return (
        f"credit {credit}; changed {use.changed} of the {use.asked} that came to it; {use.kept} of "
        f"{use.touched} trials touched were kept; {use.faults} faults{left}"
    )


def document(entry: Entry) -> dict[str, Any]:
    """An entry for JSON, with what follows from its record."""
    credit = entry.credit()
    return asdict(entry) | {
        "credit": None if credit is None else asdict(credit),
        "influence": entry.influence,
        "faults": entry.faults,
        "transfers": [trial(entry, t) for t in entry.transfers],
    }


def trial(entry: Entry, transfer: Transfer) -> dict[str, Any]:
    """A transfer for JSON, with what follows from its gains."""
    found = {"mean": transfer.mean, "span": transfer.span, "verdict": transfer.verdict}
    return {"sha": entry.sha, "name": entry.source.name} | asdict(transfer) | found


def trials(found: Sequence[tuple[Entry, Transfer]]) -> Table:
    """A row a mechanism and task."""
    made = Table("mechanism", "task", "seen", "n", "gain", "95 % interval", "", "faults", box=None)
    for entry, tried in found:
        span = "-" if tried.span is None else f"{tried.span[0]:+.3g} to {tried.span[1]:+.3g}"
        words = (
            named(entry),
            tried.task,
            "yes" if tried.seen else "no",
            str(len(tried.gains)),
            f"{tried.mean:+.3g}",
            span,
            tried.verdict,
            str(tried.faults),
        )
        made.add_row(*(Text(one_line(w)) for w in words))
    return made


def notes(found: Sequence[tuple[Entry, Transfer]], drawn: bool) -> list[str]:
    """What the table of trials means. drawn: whether no LLM took part."""
    return [GAIN, *([SEVERAL] if len(found) > 1 else []), *([DRAWN] if drawn else [])]
