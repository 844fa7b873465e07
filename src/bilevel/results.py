"""What a run leaves as files: `results.tsv` and `best.json`.

`results.tsv` has the five columns that tools around karpathy/autoresearch read, with two
differences: its second column bears the metric's own name, and a failed trial leaves it empty,
because a 0 would be the best val_bpb ever seen. A run with mechanisms has a sixth, the last one,
which names those that changed a decision about the trial.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from bilevel.describe import one_line, trial_changes
from bilevel.history import History
from bilevel.ledger import Touches
from bilevel.model import Record, Run, Trial, Values
from bilevel.summary import Summary, summarise

RESULTS = "results.tsv"
BEST = "best.json"
MIB_PER_GIB = 1024


def write_results(run: Run, records: Sequence[Record], folder: Path) -> tuple[Path, ...]:
    """Paths of the files written: the results and, once there is one, the best configuration.

    Each file is replaced whole, so that a reader never sees half of one. Raises OSError when it
    cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {RESULTS: results_tsv(run, records)}
    summary = summarise(run, records)
    if summary.best is not None:
        texts[BEST] = best_json(run, summary)
    for name, text in texts.items():
        with replacing(folder / name) as path:
            path.write_text(text, encoding="utf-8", newline="")
    return tuple(folder / name for name in texts)


def results_tsv(run: Run, records: Sequence[Record]) -> str:
    """A header, the baseline, and a row for each evaluated proposal, in order.

    Repeats of the baseline and of the winner measure noise and are no experiments; they are in
    `best.json`.
    """
    history, touches = History(run.space, records), Touches(run, records)
    header = ("commit", one_line(run.objective.metric), "memory_gb", "status", "description")
    rows = [header, *(_row(run, history, trial) for trial in history.search())]
    if touches.names:
        marks = ["mechanisms", *(touches.mark(trial) for trial in history.search())]
        rows = [(*row, mark) for row, mark in zip(rows, marks, strict=True)]
    return "".join("\t".join(row) + "\n" for row in rows)


def best_json(run: Run, summary: Summary) -> str:
    """The best configuration, its value, and what fresh seeds say of it."""
    assert summary.best is not None
    document = {
        "run": run.id,
        "task": run.task,
        "trial": summary.best.trial,
        "values": dict(summary.best.values),
        "changes": summary.best.changes,
        "metric": run.objective.metric,
        "direction": run.objective.direction,
        "value": summary.best.value,
        "score": run.objective.score(summary.best.value),
        "gain": summary.gain,
        "baseline": asdict(summary.baseline),
        "confirmation": asdict(summary.confirmation),
    }
    return json.dumps(document, indent=2) + "\n"


def commit(values: Values) -> str:
    """The identity of a configuration, 7 hex digits: the head of its canonical JSON's sha256."""
    canonical = json.dumps(dict(values), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:7]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` when the block succeeds."""
    fresh = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        yield fresh
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _row(run: Run, history: History, trial: Trial) -> tuple[str, ...]:
    value = "" if trial.score is None else _digits(run.objective.value(trial.score))
    gib = trial.metrics.get("peak_vram_mb", 0.0) / MIB_PER_GIB
    status = "crash" if trial.score is None else "keep" if trial.kept else "discard"
    return commit(trial.values), value, f"{gib:.1f}", status, _description(history, trial)


def _description(history: History, trial: Trial) -> str:
    what = ", ".join(trial_changes(history, trial)) or "baseline"
    hypothesis = one_line(trial.draft.hypothesis) if trial.draft is not None else ""
    failed = f"{trial.status}: " if trial.score is None else ""
    return f"{failed}{what}" + (f": {hypothesis}" if hypothesis else "")


def _digits(value: float) -> str:
    """Six decimals as the field writes them; nine significant digits where those would lose."""
    return f"{value:.6f}" if value == 0 or 1e-2 <= abs(value) < 1e9 else f"{value:.9g}"
