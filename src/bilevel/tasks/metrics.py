r"""Metrics from the text that a job printed. The text is untrusted: it is matched, never run.

The rule. Text is cut into lines at `\n`. A line with a carriage return, or with a terminal code
that moves the cursor or erases, is progress: it was overwritten on the screen, and nothing in it is
a metric, wherever it stands. Any other line is whole, and is a metric if all of it reads

    name: number      name = number      METRIC name=value

with colour codes and outer blanks left out. Of several for one name the last counts, but those
after a line `---`, and those marked METRIC, come before the others. `---` also counts at the end of
a progress line, since scripts forget the newline after their progress bar.

A pattern of the user replaces the three forms for the objective's metric. It is searched in each
whole line of at most 4,096 characters; the last match counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bilevel.errors import ConfigError

__all__ = ["Reading", "compile_pattern", "scan", "visible"]

MAX_LINE = 4096
MAX_METRICS = 200

_HARMLESS = re.compile(r"\x1b\[[0-9;:?]*[mhl]")
_CONTROL = re.compile(r"\x1b\[[0-9;:?<=>]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|\x1b.")
# No two parts of these can match the same character, so that they take linear time.
_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?(?i:nan|inf|infinity)"
_IS_NUMBER = re.compile(_NUMBER)
_METRIC = re.compile(
    rf"(METRIC[ \t]+)?([A-Za-z_][\w./@-]{{0,99}})[ \t]*[:=][ \t]*({_NUMBER})[ \t]*%?"
)


@dataclass(frozen=True)
class Reading:
    """What a text says about the metrics.

    value: the objective's, as printed, may be NaN; None when no line gives it. metrics: all finite
    ones by name. hidden: whether the objective stands in progress lines, where it does not count.
    unread: what the user's pattern captured where it was no number.
    """

    value: float | None
    metrics: Mapping[str, float]
    hidden: bool = False
    unread: str | None = None


def compile_pattern(pattern: str, metric: str) -> re.Pattern[str]:
    """The user's pattern, ready for `scan`.

    It has one group, the metric's value, or a named group for each metric. Raises ConfigError.
    """
    try:
        compiled = re.compile(pattern, re.MULTILINE)
    except re.error as error:
        raise ConfigError(f"pattern {pattern!r} is no regular expression: {error}") from error
    if compiled.groups != max(1, len(compiled.groupindex)):
        raise ConfigError(
            f"pattern {pattern!r} has {compiled.groups} groups; give it one around the number, "
            "or a named group (?P<name>...) for each metric, and (?:...) for the others"
        )
    if compiled.groupindex and metric not in compiled.groupindex:
        names = ", ".join(compiled.groupindex)
        raise ConfigError(
            f"pattern {pattern!r} names the groups {names} but not the metric {metric}; "
            f"name one (?P<{metric}>...)"
        )
    return compiled


def scan(text: str, metric: str, pattern: re.Pattern[str] | None = None) -> Reading:
    """The metrics that a job's output reports, by the rule of this file."""
    found: dict[str, float] = {}
    summary: dict[str, float] = {}
    in_summary = hidden = False
    unread: str | None = None
    for line in _lines(text):
        shown, whole = _shown(line), "\r" not in line
        if shown.rstrip().endswith("---") and (not whole or shown.strip() == "---"):
            in_summary = True
        elif not whole:
            hidden = hidden or metric in line
        else:
            for name, number, explicit in _matches(line, metric, pattern):
                if not _IS_NUMBER.fullmatch(number):
                    unread = number
                    continue
                found[name] = float(number)
                if in_summary or explicit:
                    summary[name] = found[name]
    values = summary if in_summary and metric in summary else {**found, **summary}
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    kept = dict(list(finite.items())[-MAX_METRICS:])
    return Reading(values.get(metric), kept, hidden, unread)


def _lines(text: str) -> Iterator[str]:
    """Each line without colours; what moves the cursor is a carriage return in it."""
    for line in text.split("\n"):
        clean = line.removesuffix("\r")
        yield _CONTROL.sub("\r", _HARMLESS.sub("", clean)) if "\x1b" in clean else clean


def _shown(line: str) -> str:
    """What stays of a line on the screen."""
    return line.rpartition("\r")[2]


def visible(text: str) -> list[str]:
    """The lines of a text as they stay on the screen, without those that are blank."""
    return [shown for line in _lines(text) if (shown := _shown(line).rstrip())]


def _matches(
    line: str, metric: str, pattern: re.Pattern[str] | None
) -> Iterator[tuple[str, str, bool]]:
    """Names and numbers in a whole line, and whether they are marked as metrics."""
    if len(line) > MAX_LINE:
        return
    form = _METRIC.fullmatch(line.strip())
    if form is not None and (pattern is None or form[2] != metric):
        yield form[2], form[3], form[1] is not None
    if pattern is not None:
        for match in pattern.finditer(line):
            named = match.groupdict() or {metric: match[1]}
            yield from ((name, text, True) for name, text in named.items() if text is not None)
