"""Trials, proposals and refusals in words: one printable line each, whatever an LLM wrote."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from bilevel.history import History
from bilevel.mechanism import origin, started_from
from bilevel.model import Call, Space, Trial, Values
from bilevel.prompting import change_text
from bilevel.prompts import render

# How a reason for a refusal reads, and its kind; the first that fits counts.
_KINDS = (
    ("repeats an earlier trial", ("it repeats ",)),
    ("changes nothing", ("it changes nothing",)),
    ("not JSON", ("the reply is not JSON",)),
    (
        "JSON of another form",
        ("the reply must be", "each change must be", " has no value; give it a number or a text"),
    ),
    ("outside the focus", (" may not change in this experiment",)),
    ("out of bounds", (" but its range is ", " but must be ", " but moves in ")),
)
REFUSAL_KINDS = (*(kind for kind, _ in _KINDS), "other")


def refusal_kind(reason: str) -> str:
    """One of REFUSAL_KINDS, by the wording of the reason."""
    for kind, phrases in _KINDS:
        if any(reason.startswith(p) or (p[0] == " " and p in reason) for p in phrases):
            return kind
    return "other"


def one_line(text: str, width: int | None = None) -> str:
    """Untrusted text as one printable line, cut to `width` characters with an ellipsis.

    Control and format characters (escape sequences, tabs, text direction, lone surrogates) go.
    """
    plain = "".join(" " if unicodedata.category(c) in _UNPRINTABLE else c for c in text)
    line = " ".join(plain.split())
    return line if width is None or len(line) <= width else line[: width - 3].rstrip() + "..."


_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def changes(space: Space, before: Values, after: Values) -> tuple[str, ...]:
    """Each difference as `NAME 0.04 -> 0.06`, in the space's order; texts are only named."""
    return tuple(
        f"{n} edited"
        if space[n].kind == "text"
        else one_line(change_text(space[n], before[n], after[n]))
        for n in space.changed(before, after)
    )


def trial_changes(history: History, trial: Trial) -> tuple[str, ...]:
    """What a trial changed against the trial it started from; empty for the baseline."""
    if trial.draft is None:
        return ()
    start = started_from(history.trials, trial)
    return changes(history.space, start.values, trial.values)


def number(value: float) -> str:
    """A metric's value as a person reads it: four decimals where they say enough."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.4g}"


def start_values(history: History, parents: Sequence[int], step: int) -> Values:
    """The configuration that a move with these parents changes in that step."""
    return origin(history.trials, parents, step).values


def repair_reason(call: Call) -> str:
    """The reason that a repair gave the LLM, read back out of its prompt."""
    before, _, after = render("propose_repair", reason="\0").strip().partition("\0")
    return call.messages[-1].content.removeprefix(before).removesuffix(after)
