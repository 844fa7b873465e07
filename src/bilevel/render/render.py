"""Runs as rich tables and panels: readable at 80 columns, without colour, and in a file.

Colours only repeat what words say already; blue and orange are told apart by everyone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bilevel.describe import number, one_line, trial_changes
from bilevel.ensemble import Asked, models_text
from bilevel.history import History
from bilevel.ledger import Touches, gain
from bilevel.model import Record, Run, Trial
from bilevel.noise import Confirmation
from bilevel.render.costs import expected_text, money_text
from bilevel.render.levels import BAD, GOOD, QUIET, TOUCHED, clock, outer_rows, signed, times
from bilevel.summary import Best, Counts, Summary, Usage

ERROR_WIDTH = 120


def summary_panel(summary: Summary) -> Panel:
    """The run in a frame: gain against noise first, then what was tried and what it cost."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=QUIET, no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in _rows(summary):
        grid.add_row(name, text)
    llm = _word(models_text(summary.llm, summary.llm_outer))
    title = Text(f"{summary.run}: {_word(summary.task)}, {llm}")
    return Panel(grid, title=title, title_align="left", box=box.ROUNDED, expand=True)


def _rows(summary: Summary) -> Iterable[tuple[str, RenderableType]]:
    yield "baseline", baseline_text(summary)
    if summary.best is not None:
        yield "best", best_text(summary, summary.best)
        if summary.best.changes:
            yield "changes", Text("\n".join(summary.best.changes))
            yield "fresh seeds", confirmation_text(summary)
    yield "proposals", counts_text(summary.counts)
    if summary.counts.tried:
        yield "tried", Text(_tried_text(summary.counts))
    if summary.counts.untouched:
        yield "never tried", Text(", ".join(summary.counts.untouched))
    if summary.usage.llm_calls:
        yield "LLM", llm_text(summary.usage)
        if summary.prices:
            yield "cost", Text(money_text(summary.usd, summary.prices))
    if summary.models:
        yield "models", Text("\n".join(_asked_text(asked) for asked in summary.models))
    yield from outer_rows(summary.outer)
    if summary.usage.jobs:
        yield "jobs", Text(_jobs_text(summary.usage))
    if summary.expected:
        yield "expected", expected_text(summary.expected)
    yield "ended", _stop_text(summary)


def baseline_text(summary: Summary) -> Text:
    """`val_bpb 3.4412 (3.4400, sd 0.0300 over 7 seeds)`."""
    base, metric = summary.baseline, _metric(summary)
    if base.value is None:
        ended = f"; {times(base.failed, 'measurement')} failed" if base.failed else ""
        return Text(f"no {metric} yet{ended}", style=BAD if base.failed else "")
    text = Text(f"{metric} {number(base.value)}")
    if base.sd is not None and base.mean is not None:
        text.append(f" (mean {number(base.mean)}, sd {number(base.sd)}, n {base.n})")
    if base.failed:
        text.append(f"; {times(base.failed, 'measurement')} failed", style=BAD)
    return text


def best_text(summary: Summary, best: Best) -> Text:
    """`val_bpb 3.2400 in trial #12, running minimum of 31; gain 0.2012 (5.8 %), 6.7 sd`."""
    if not best.changes:
        return Text(f"the baseline: none of {times(best.of - 1, 'measured change')} was better")
    extreme = "minimum" if summary.direction == "min" else "maximum"
    text = Text(f"{_metric(summary)} {number(best.value)}", style=GOOD)
    text.append(
        f" in trial #{best.trial}, running {extreme} of {best.of}", style="not bold default"
    )
    if summary.gain is None:
        return text
    gain = f"; gain {number(summary.gain)}"
    if summary.gain_percent is not None:
        gain += f" ({summary.gain_percent:.1f} %)"
    if summary.gain_in_noise is not None and summary.baseline.sd is not None:
        gain += f", {summary.gain_in_noise:.1f} times the noise sd of {number(summary.baseline.sd)}"
    return text.append(gain, style="not bold default")


def confirmation_text(summary: Summary) -> Text:
    """What fresh seeds say: value, paired gain with its interval, and the verdict first."""
    found = summary.confirmation
    text = Text(found.verdict, style=GOOD if found.verdict == "confirmed" else BAD)
    rest = Text(style="not bold default")
    if found.value is not None:
        spread = "" if found.value_sd is None else f" (sd {number(found.value_sd)})"
        rest.append(f": re-measured {number(found.value)}{spread} on ")
        rest.append(times(found.measured, "fresh seed"))
    if found.failed:
        rest.append(f"; failed on {times(found.failed, 'fresh seed')}")
    if found.gain is not None:
        rest.append(f"; paired gain {number(found.gain)}{_interval(found)}")
        if summary.baseline.sd is not None:
            rest.append(f" against noise sd {number(summary.baseline.sd)}")
    return text.append_text(rest)


def _interval(found: Confirmation) -> str:
    if found.low is None or found.high is None:
        return ""
    return f" (95 % interval {number(found.low)} to {number(found.high)})"


def counts_text(counts: Counts) -> Text:
    """Evaluations by what became of them, and refused proposals by kind."""
    text = f"{counts.evaluations} of {counts.budget} evaluated: "
    text += f"{counts.kept} kept, {counts.discarded} discarded"
    text += "".join(f", {n} {status}" for status, n in counts.failed.items())
    if counts.refused:
        refused = sum(counts.refused.values())
        text += f"; {refused} refused ({_kinds(counts.refused)})"
    return Text(text)


def llm_text(usage: Usage) -> Text:
    """Calls, replies that were not accepted and why, tokens and seconds."""
    text = f"{times(usage.llm_calls, 'reply', 'replies')}"
    if usage.taken:
        fresh = usage.llm_calls - sum(usage.taken.values())
        parts = [f"{count} from the tape of {run}" for run, count in usage.taken.items()]
        text += f" ({', '.join([*parts, f'{fresh} from the LLM'])})"
    if usage.rejected:
        bad = sum(usage.rejected.values())
        text += f", {bad} not accepted ({_kinds(usage.rejected)})"
    if usage.unusable:
        text += f", {usage.unusable} paid for and of no use"
    if usage.refused:
        text += f", {usage.refused} refused as the prompt was too long for the model"
    if usage.cut:
        text += f"\n{times(usage.cut, 'prompt')} shortened; the last: {one_line(usage.last_cut)}"
    tokens = f"{usage.tokens_in:,} tokens read ({usage.tokens_cached:,} cached), "
    tokens += f"{usage.tokens_out:,} written"
    told = usage.tokens_in or usage.tokens_out
    text += f"\n{tokens if told else 'it did not tell its tokens;'} in {clock(usage.llm_seconds)}"
    if usage.seconds_per_proposal is not None:
        text += f"; {usage.seconds_per_proposal:.1f} s a proposal"
    return Text(text)


def trials_table(run: Run, records: Sequence[Record], last: int | None = None) -> Table:
    """One row a trial, in order, or the last ones: value, gain on its start, verdict, change."""
    history, touches = History(run.space, records), Touches(run, records)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True, padding=(0, 1, 0, 0))
    table.add_column("#", justify="right", style=QUIET)
    table.add_column(one_line(run.objective.metric, 12), justify="right", no_wrap=True)
    table.add_column("gain", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("change", ratio=1, overflow="fold")
    table.add_column("s", justify="right", style=QUIET, no_wrap=True)
    shown = history.trials if last is None else history.trials[max(0, len(history.trials) - last) :]
    for trial in shown:
        table.add_row(*_trial_cells(run, history, trial, touches.mark(trial)))
    if len(shown) < len(history.trials):
        table.caption = f"the last {len(shown)} of {len(history.trials)} trials"
    return table


def runs_table(rows: Sequence[tuple[Run, Summary]]) -> Table:
    """One row a run: task, LLM, evaluations, best and gain, what fresh seeds said, how it ended."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("run", "started", "LLM"):
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for name in ("evals", "best", "gain"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("fresh seeds", "ended"):
        table.add_column(name, no_wrap=True)
    for run, summary in rows:
        table.add_row(*(Text(cell) for cell in _run_cells(run, summary)))
    return table


def _run_cells(run: Run, summary: Summary) -> tuple[str, ...]:
    best, gain = summary.best, summary.gain_percent
    return (
        run.id,
        run.created[5:16].replace("T", " "),
        _word(models_text(run.llm, run.llm_outer)),
        f"{summary.counts.evaluations}/{run.evals}",
        "" if best is None else number(best.value),
        "" if gain is None else f"{gain:.1f} %",
        summary.confirmation.verdict.partition(" (")[0],
        summary.stop or "open",
    )


def _trial_cells(run: Run, history: History, trial: Trial, mark: str) -> tuple[Text, ...]:
    value = "" if trial.score is None else number(run.objective.value(trial.score))
    verdict, style = _verdict(trial)
    return (
        Text(str(trial.id)),
        Text(value, style=style),
        Text(_gain(history, trial)),
        Text(verdict, style=style),
        _change(history, trial, mark),
        Text(f"{trial.seconds:.1f}"),
    )


def _verdict(trial: Trial) -> tuple[str, str]:
    """What became of a trial, in a word, and its style."""
    if trial.score is None:
        return trial.status, BAD
    if trial.role != "search":
        return "", ""
    return ("keep", GOOD) if trial.kept else ("discard", QUIET)


def _gain(history: History, trial: Trial) -> str:
    """Gain on the trial that this one started from; nothing to compare repeats with."""
    found = gain(history, trial)
    return "" if found is None else signed(found)


def _change(history: History, trial: Trial, mark: str) -> Text:
    if trial.draft is None:
        name = "baseline" if trial.role == "baseline" else "best again"
        text = Text(f"{name}, seed {trial.seed}")
    else:
        text = Text(", ".join(trial_changes(history, trial)))
        text.append(f" [{mark}]" if mark else "", style=TOUCHED)
        if trial.draft.hypothesis:
            text.append(f"\n{one_line(trial.draft.hypothesis)}", style="dim italic")
    if trial.error:
        lines = trial.error.strip().splitlines() or [""]
        text.append(f"\n{one_line(lines[-1], ERROR_WIDTH)}", style=BAD)
    return text


def _tried_text(counts: Counts) -> str:
    parts = []
    for tried in counts.tried:
        extra = [f"{tried.kept} kept"] if tried.kept else []
        extra += [f"{tried.refused} refused"] if tried.refused else []
        parts.append(f"{tried.name} {tried.trials}" + (f" ({', '.join(extra)})" if extra else ""))
    return ", ".join(parts)


def _asked_text(asked: Asked) -> str:
    levels = f" of level {', '.join(asked.levels)}" if asked.levels else ""
    gain = f", gain {number(asked.gain)} in all" if "1" in asked.levels else ""
    return f"{one_line(asked.model)}: {times(asked.calls, 'call')}{levels}{gain}"


def _jobs_text(usage: Usage) -> str:
    text = f"{times(usage.jobs, 'job')} in {clock(usage.job_seconds)}"
    if usage.seconds_per_evaluation is not None:
        text += f"; {usage.seconds_per_evaluation:.1f} s an evaluation"
    return text


def _stop_text(summary: Summary) -> Text:
    if summary.stop is None:
        return Text(f"not yet; if nothing runs it now, `bilevel resume {summary.run}` goes on")
    detail = one_line(summary.stop_detail)
    style = "" if summary.stop == "done" else BAD
    return Text(f"{summary.stop}: {detail}" if detail else summary.stop, style=style)


def _kinds(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{kind}: {n}" for kind, n in counts.items())


def _metric(summary: Summary) -> str:
    unit = f" [{one_line(summary.unit)}]" if summary.unit else ""
    return one_line(summary.metric) + unit


def _word(text: str) -> str:
    return one_line(text) or "no LLM"
