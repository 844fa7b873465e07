"""What a job's result means: a value, or what went wrong in words that help the next proposal."""

from __future__ import annotations

import math
import re
import signal

from bilevel.model import JobResult, Objective, Outcome
from bilevel.tasks.metrics import Reading, scan, visible

__all__ = ["read"]

MAX_ERROR = 600
# An output of this length is the end of a longer one, and begins within a line.
TAIL_BYTES = 2**20

_FAIL = re.compile(r"(?<![A-Z_])FAIL\s*$")
_FRAME = re.compile(r'\s*File "(?P<file>[^"]*)", line (?P<line>\d+)')
_LIBRARY = re.compile(r"[/\\](?:site-packages|dist-packages|python3\.\d+)[/\\]|\"<")
_RAISED = re.compile(
    r"[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning|Iteration)\b(?::|$)"
)


def read(
    result: JobResult, objective: Objective, pattern: re.Pattern[str] | None = None
) -> Outcome:
    """The outcome of a job; pure. Only a job that ended by itself with status 0 can be ok.

    The metric is read from the output, else from the collected files in their order.
    """
    if result.killed == "timeout":
        return Outcome(
            "timeout", None, error=_cap(f"no result after {result.seconds:.0f} s, the time limit")
        )
    if result.killed == "output":
        return _crash("killed for printing too much; print less, or raise max_output_mb")
    if result.killed == "stopped":
        return _crash("stopped from outside before it ended")
    if result.exit != 0:
        return _crash(f"{_ending(result.exit)}: {_reason(result)}")
    texts = [_whole_lines(result.output), *result.files.values()]
    readings = [scan(text, objective.metric, pattern) for text in texts]
    for reading in readings:
        if reading.value is not None:
            return _measured(reading, objective.metric)
    return _crash(_missing(readings, objective.metric, pattern))


def _measured(reading: Reading, metric: str) -> Outcome:
    assert reading.value is not None
    if not math.isfinite(reading.value):
        return _crash(f"{metric} is {reading.value}")
    return Outcome("ok", reading.value, {**reading.metrics, metric: reading.value})


def _missing(readings: list[Reading], metric: str, pattern: re.Pattern[str] | None) -> str:
    unread = next((r.unread for r in readings if r.unread is not None), None)
    if unread is not None:
        return f"the pattern for {metric} captured {unread[:80]!r}, which is no number"
    wanted = f"`{metric}: NUMBER`" if pattern is None else f"that matches {pattern.pattern!r}"
    if any(r.hidden for r in readings):
        return (
            f"no whole line {wanted}; {metric} stands in progress lines only (after a carriage "
            "return), where it does not count; print it on a line of its own"
        )
    return (
        f"ended well but printed no line {wanted}; print one at the end, or set `metric` or "
        "`pattern` in task.toml to what the script prints"
    )


def _whole_lines(output: str) -> str:
    if len(output.encode(errors="replace")) < TAIL_BYTES - 3:
        return output
    return output.partition("\n")[2]


def _ending(status: int) -> str:
    number = -status if status < 0 else status - 128
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"exit {status}"
    hint = ", often for using too much memory" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"


def _reason(result: JobResult) -> str:
    lines = next((v for t in (result.output, *result.files.values()) if (v := visible(t))), [])
    if not lines:
        return "it printed nothing"
    failed = [line for line in lines[-5:] if _FAIL.search(line)]
    if failed:
        shown = [line for line in lines[-5:] if _FAIL.sub("", line).strip()]
        last = _FAIL.sub("", shown[-1]).strip() if shown else "nothing else"
        return f"the script printed FAIL (its loss is not finite or too high); last shown: {last}"
    return _raised(lines) or "\n".join(line[:200] for line in lines[-6:])


def _raised(lines: list[str]) -> str:
    """The last exception of a traceback and where it was raised; "" if there is none."""
    raised = [i for i, line in enumerate(lines) if _RAISED.match(line)]
    if not raised:
        return ""
    frames = [i for i in range(raised[-1]) if _FRAME.match(lines[i])]
    if not frames:
        return ""
    # The script's own line says more than the library's in which it ended.
    at = ([i for i in frames if not _LIBRARY.search(lines[i])] or frames)[-1]
    frame = _FRAME.match(lines[at])
    assert frame is not None
    code = lines[at + 1].strip() if at + 1 < raised[-1] else ""
    where = f"{frame['file'].rpartition('/')[2]} line {frame['line']}"
    message = "\n".join(lines[raised[-1] :][:4])[: MAX_ERROR - 200]
    return f"{message}\nat {where}: {code[:120]}".rstrip(": ")


def _crash(error: str) -> Outcome:
    return Outcome("crash", None, error=_cap(error))


def _cap(text: str) -> str:
    """At most MAX_ERROR characters, printable but for newlines."""
    clean = "".join(c if c.isprintable() or c == "\n" else " " for c in text).strip()
    return clean if len(clean) <= MAX_ERROR else clean[: MAX_ERROR - 4].rstrip() + " ..."
