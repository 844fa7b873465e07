"""Other people's runs as a study: read from a JSON file, checked, with what they had published.

The form is one object (unknown keys are passed over):

- `source`: where the runs are from. `notes`: texts, printed with the report.
- `metric` (`val_bpb` where left out), `direction` (`min`), `task` (the metric's name).
- `runs`: a list of objects: `group`, `repeat`, `baseline_METRIC`, `best_METRIC` where it was
  published, `records`, and perhaps `level2_sessions`, each with `applied`.
- `records` of a run, in order: METRIC (null where it failed), `is_baseline`, and perhaps
  `changes_inferred` (by parameter) and `repeat_of_earlier_config`. Baselines are measurements of
  the defaults and no proposals.
- `groups`, by group: `mean_delta` and `std_sample` of best - baseline. What the runs give must
  agree.
- a key that begins with `published_table`: by group, a delta for each repeat and then a text, such
  as `"-0.009+-0.002"`, as they stand in a publication.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from bilevel.describe import one_line
from bilevel.errors import ConfigError
from bilevel.model import Direction
from bilevel.study.arm_results import figures
from bilevel.study.data import StudyData, StudyRun
from bilevel.study.report_document import Block, Paragraph, Points, Table
from bilevel.study.report_sections import Extra
from bilevel.study.report_words import NOTHING, Numbers, numbers
from bilevel.study.statistics import spread

PUBLISHED = "published_table"
AGREE = 1e-6  # published figures carry six decimals


class _Form(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class _Session(_Form):
    applied: bool = False


class _Record(_Form):
    is_baseline: bool = False
    changes_inferred: dict[str, JsonValue] = Field(default_factory=dict)
    repeat_of_earlier_config: bool = False


class _Run(_Form):
    group: str = Field(min_length=1)
    repeat: int = Field(ge=0)
    records: list[_Record] = Field(min_length=1)
    level2_sessions: list[_Session] = Field(default_factory=list)


class _Group(_Form):
    mean_delta: float
    std_sample: float | None = None


class _Document(_Form):
    source: str = ""
    notes: list[str] = Field(default_factory=list)
    metric: str = "val_bpb"
    direction: Direction = "min"
    task: str = ""
    runs: list[_Run] = Field(min_length=1)
    groups: dict[str, _Group] = Field(default_factory=dict)


@dataclass(frozen=True)
class Imported:
    """Runs of others as a study, and a section on what they had published."""

    data: StudyData
    extra: Extra


def read_study(path: Path, command: str = "") -> Imported:
    """The study in a JSON file of the form that this module describes.

    Raises ConfigError when the file cannot be read, has another form, or contradicts itself.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); give a JSON file of runs") from error
    try:
        document = _Document.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(_first(path, error)) from error
    data = _data(path, text, document)
    _check_groups(path, data, document.groups)
    return Imported(data, _published(path, data, document, command))


def _first(path: Path, error: ValidationError) -> str:
    detail = error.errors(include_url=False)[0]
    where = ".".join(map(str, detail["loc"])) or "the file"
    return (
        f"{path}: {where} is {str(detail['input'])[:80]!r}: {detail['msg']}; the form is described "
        "in bilevel/study/importing.py"
    )


def _data(path: Path, text: str, document: _Document) -> StudyData:
    runs = tuple(_run(path, document, run) for run in document.runs)
    names = [(r.arm, r.repeat) for r in runs]
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        arm, repeat = twice[0]
        raise ConfigError(f"{path} holds {arm}, repeat {repeat}, twice; number the repeats")
    return StudyData(
        name=one_line(path.stem),
        file_hash=hashlib.sha256(text.encode()).hexdigest(),
        metric=document.metric,
        direction=document.direction,
        tasks=(document.task or document.metric,),
        arms=tuple(dict.fromkeys(r.arm for r in runs)),
        runs=runs,
        evals=max(len(r.scores) for r in runs),
        repeats=len({r.repeat for r in runs}),
        question=document.source,
    )


def _run(path: Path, document: _Document, run: _Run) -> StudyRun:
    metric, name = document.metric, f"{run.group}, repeat {run.repeat}"
    better = min if document.direction == "min" else max
    proposals = [r for r in run.records if not r.is_baseline]
    scores = tuple(_number(path, name, r, metric, none=True) for r in proposals)
    baseline = _number(path, name, run, f"baseline_{metric}")
    assert baseline is not None, "asked for without `none`"
    best = better([baseline, *(s for s in scores if s is not None)])
    said = _number(path, name, run, f"best_{metric}", none=True)
    if said is not None and not math.isclose(said, best, abs_tol=AGREE):
        raise ConfigError(
            f"{path}: best_{metric} of {name} is {said} but its records give {best}; correct one"
        )
    touched = Counter(p for r in proposals for p in r.changes_inferred)
    return StudyRun(
        task=document.task or metric,
        arm=run.group,
        repeat=run.repeat,
        seed=run.repeat,
        run_id=f"{run.group}{run.repeat}",
        status="done",
        baseline=baseline,
        scores=scores,
        best=best,
        evaluations=len(run.records),
        duplicates=sum(r.repeat_of_earlier_config for r in proposals),
        failed=sum(s is None for s in scores),
        sessions=len(run.level2_sessions),
        parameters_touched=tuple(name for name, _ in touched.most_common()),
    )


def _number(path: Path, where: str, form: _Form, key: str, none: bool = False) -> float | None:
    """A number that stands under a key named after the metric; None only where that may be."""
    value = (form.model_extra or {}).get(key)
    if value is None and none:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{path}: {key} of {where} is {value!r} but must be a finite number")
    return float(value)


def _check_groups(path: Path, data: StudyData, groups: Mapping[str, _Group]) -> None:
    """The deltas that the file sums up are those that its runs give."""
    for name, group in groups.items():
        deltas = _deltas(data, name)
        if not deltas:
            raise ConfigError(f"{path}: groups names {name!r}, of which there is no run; leave it")
        sd = statistics.stdev(deltas) if len(deltas) > 1 else None
        for key, said, value in (
            ("mean_delta", group.mean_delta, statistics.fmean(deltas)),
            ("std_sample", group.std_sample, sd),
        ):
            if said is not None and (value is None or not math.isclose(said, value, abs_tol=AGREE)):
                gives = "none" if value is None else f"{value:.6f}"
                raise ConfigError(
                    f"{path}: {key} of {name} is {said} but its runs give {gives}; correct one"
                )


def _deltas(data: StudyData, arm: str) -> list[float]:
    """Best - baseline of each run, by repeat; negative is better where the metric goes down."""
    sign = -1.0 if data.direction == "min" else 1.0
    return [sign * gain for gain in figures(data, arm, "gain").values()]


def _published(path: Path, data: StudyData, document: _Document, command: str) -> Extra:
    """What was published beside what the runs give, and the notes of whoever collected them."""
    tables = {k: v for k, v in (document.model_extra or {}).items() if k.startswith(PUBLISHED)}
    blocks: list[Block] = []
    for key, table in tables.items():
        blocks += [Paragraph(f"{key}, and what the runs give:"), _table(path, data, key, table)]
    sessions = [s for run in document.runs for s in run.level2_sessions]
    notes = [one_line(n) for n in document.notes]
    if sessions:
        applied = sum(s.applied for s in sessions)
        notes.append(f"Level 2 sessions: {len(sessions)}, of which {applied} put in their code.")
    notes.append(
        "Runs are paired by the number of their repeat; the file names no seed that they share."
    )
    return Extra(command, "As published, and as the runs give it", [*blocks, Points(notes)])


def _table(path: Path, data: StudyData, key: str, table: Any) -> Table:
    """Deltas as published beside those that the runs give."""
    if not isinstance(table, dict) or not all(isinstance(row, list) for row in table.values()):
        raise ConfigError(
            f"{path}: {key} must hold a list for each group; write it so, or leave it"
        )
    found = {arm: spread(_deltas(data, arm)) for arm in data.arms}
    digits = Numbers(numbers(found.values()).places + 1)
    rows: list[Sequence[str]] = []
    for arm, runs in found.items():
        assert runs is not None, "an arm is named by its runs"
        *deltas, text = [str(v) for v in table.get(arm, [])] or [NOTHING]
        best = [r.best for r in data.done(arm) if r.best is not None]
        rows.append(
            (
                one_line(arm),
                one_line(", ".join(deltas)) or NOTHING,
                one_line(text),
                ", ".join(map(digits.value, _deltas(data, arm))),
                digits.value(runs.mean),
                digits.value(runs.sd),
                digits.interval(runs.student),
                digits.interval(runs.bootstrap),
                digits.value(statistics.fmean(best)),
            )
        )
    columns = (
        "arm", "published deltas", "published mean", "deltas", "mean", "sd", "Student's t, 95 %",
        "bootstrap, 95 %", f"mean best {one_line(data.metric)}",
    )  # fmt: skip
    return Table(columns, rows)
