"""The results of a study, worked out from the logs of its runs alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bilevel.budget.budget import bill, price_list
from bilevel.compare.compare import ENDED
from bilevel.compare.comparison import run_figures
from bilevel.history import History, seed_index
from bilevel.levels import sandboxes
from bilevel.model import Call, Objective, Record, Run, Stop, Trial
from bilevel.study.data import Fresh, RunStatus, StudyData, StudyRun
from bilevel.study.file import StudyFile
from bilevel.study.harness import Study
from bilevel.study.inventory import credits_of, inventory
from bilevel.study.provenance import Provenance
from bilevel.summary import Summary, summarise


@dataclass(frozen=True)
class Place:
    """Where a run stands in a study."""

    task: str
    arm: str
    repeat: int
    seed: int


Logs = Mapping[Place, tuple[Run, Sequence[Record]]]
UNKNOWN = Provenance()


def places(file: StudyFile) -> list[Place]:
    """All runs that a study asks for, by task, arm and repeat."""
    return [
        Place(task, arm, repeat, seed)
        for task in file.study.tasks
        for arm in file.study.arms
        for repeat, seed in enumerate(file.seeds())
    ]


def run_names(file: StudyFile) -> dict[Place, str]:
    """A plain name for each run of a study, as `gpt-A-0`: task, arm and repeat."""
    study = file.study
    tasks = {name: _plain(Path(name).stem or name) for name in study.tasks}
    arms = {name: _plain(name) for name in study.arms}
    for plain in (tasks, arms):
        alike = Counter(plain.values())
        for name, short in plain.items():
            if alike[short] > 1:
                plain[name] = f"{short}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    return {p: f"{tasks[p.task]}-{arms[p.arm]}-{p.repeat}" for p in places(file)}


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "+._" else "_" for c in name)


def stored(study: Study) -> tuple[dict[Place, tuple[Run, list[Record]]], dict[Place, str]]:
    """The logs of the study's runs that the store holds, and why others could not go on."""
    study.look()
    logs, problems = {}, {}
    for place in places(study.file):
        comparison = study.comparisons[place.task]
        at = place.arm, place.seed
        run = comparison.find(*at) or comparison.failed(*at)
        if run is not None:
            logs[place] = run, study.workspace.records(run.id)
        for cell, why in comparison.problems.items():
            if (cell.strategy, cell.seed) == at:
                problems[place] = why
    return logs, problems


def study_data(
    file: StudyFile,
    logs: Logs,
    problems: Mapping[Place, str] | None = None,
    known: Provenance = UNKNOWN,
) -> StudyData:
    """What the study found so far. problems: why runs could not go on."""
    shared = _shared(logs)
    runs = []
    for place in places(file):
        why = (problems or {}).get(place, "")
        if place in logs:
            found = study_run(place, *logs[place], why, known)
            runs.append(replace(found, evaluations_shared=shared[place]))
        else:
            status: RunStatus = "problem" if why else "missing"
            gone = StudyRun(place.task, place.arm, place.repeat, place.seed, "", status)
            runs.append(replace(gone, problem=why))
    kinds = {place.task: run for place, (run, _) in logs.items()}
    objectives = {task: run.objective for task, run in kinds.items()}
    first = next(iter(objectives.values()), Objective("", "min"))
    study = file.study
    return StudyData(
        name=study.name,
        file_hash=file.hash,
        metric=objectives.get(study.tasks[0], first).metric,
        direction=objectives.get(study.tasks[0], first).direction,
        tasks=study.tasks,
        arms=study.arms,
        runs=tuple(runs),
        evals=study.evals,
        repeats=study.repeats,
        llm=study.llm,
        question=study.question,
        file=file.text,
        about={name: arm.about or "" for name, arm in file.arms.items()},
        objectives=objectives,
        fingerprints={task: run.fingerprint for task, run in kinds.items()},
        hypotheses=file.hypotheses,
        plan=file.plan,
        began=known.began,
        versions=known.versions,
        builds=known.builds.builds,
    )


def study_run(
    place: Place,
    run: Run,
    records: Sequence[Record],
    problem: str = "",
    known: Provenance = UNKNOWN,
) -> StudyRun:
    """The figures of one run."""
    summary, figures = summarise(run, records), run_figures(run, records)
    problem = problem or _stopped(records) or _failed(records)
    named = StudyRun(place.task, place.arm, place.repeat, run.seed, run.id, "open")
    named = replace(
        named,
        problem=problem,
        stop=summary.stop or "",
        stop_detail=summary.stop_detail,
        version=run.version,
        machine=run.machine,
        created=run.created,
        sandboxes=sandboxes(run, records),
        builds=known.builds.made.get(run.id, ()),
    )
    if figures is None:
        return replace(named, status="problem") if _failed(records) else named
    again, before, fresh = _reevaluated(run, records, summary)
    usage, tried = summary.usage, summary.counts.tried
    calls = [r for r in records if isinstance(r, Call)]
    prices = price_list(run, records)
    paid = [bill(call, prices, run.llm).usd for call in calls]
    course = _course(run, records, paid)
    told = all(call.reply.counted for call in calls)
    return replace(
        named,
        status="done" if summary.stop in ENDED else "problem" if problem else "open",
        baseline=figures.baseline,
        scores=tuple(course.scores),
        best=figures.best,
        reevaluated=again,
        reevaluated_baseline=before,
        fresh=fresh,
        evaluations=len(_evaluated(records)),
        verdict=summary.confirmation.verdict,
        noise=summary.baseline.sd,
        tokens=usage.tokens_in + usage.tokens_out if told else None,
        seconds_llm=usage.llm_seconds,
        seconds_jobs=usage.job_seconds,
        usd=None if None in paid else sum(p for p in paid if p is not None),
        tokens_at=tuple(course.tokens) if told else (),
        seconds_at=tuple(course.seconds),
        usd_at=tuple(course.usd),
        levels={u.level: u.tokens_in + u.tokens_out for u in summary.outer.usage},
        llm_calls=len(calls),
        replies=Counter(call.reply.model for call in calls),
        llm_calls_shared=figures.calls_shared,
        duplicates=figures.duplicates,
        failed=figures.failed,
        steerings=summary.outer.steerings,
        sessions=summary.outer.sessions,
        parameters_touched=tuple(t.name for t in tried if t.trials),
        mechanisms=inventory(run, records, known.sources, known.credits.get(run.id, {})),
    )


def _stopped(records: Sequence[Record]) -> str:
    """Why a run could not go on when it was last tried, "" where it could."""
    last = records[-1] if records else None
    if not isinstance(last, Stop) or last.reason in (*ENDED, "interrupted"):
        return ""
    return f"{last.reason}: {last.detail}"


def _failed(records: Sequence[Record]) -> str:
    """How the baseline's first measurement ended, "" where it has a value or was not made."""
    first = next((r for r in records if isinstance(r, Trial)), None)
    if first is None or first.status == "ok":
        return ""
    return f"failed: the baseline ended as {first.status}: {first.error}"


@dataclass
class _Course:
    """Value of each evaluated proposal, and what was spent by then; usd empty without prices."""

    scores: list[float | None] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    usd: list[float] = field(default_factory=list)


def _course(run: Run, records: Iterable[Record], paid: Sequence[float | None]) -> _Course:
    course, bills = _Course(), iter(paid)
    priced = None not in paid
    tokens, seconds, usd = 0, 0.0, 0.0
    for record in records:
        if isinstance(record, Call):
            tokens += record.reply.tokens_in + record.reply.tokens_out
            seconds += record.reply.seconds
            usd += next(bills) or 0.0
        elif isinstance(record, Trial):
            seconds += record.seconds
            if record.role == "search":
                comparable = record.score is not None and seed_index(record) == 0
                course.scores.append(
                    run.objective.value(record.score or 0.0) if comparable else None
                )
                course.tokens.append(tokens)
                course.seconds.append(seconds)
                if priced:
                    course.usd.append(usd)
    return course


def _reevaluated(
    run: Run, records: Sequence[Record], summary: Summary
) -> tuple[float | None, float | None, Fresh]:
    """Means of winner and defaults on the fresh seeds on which both have a value, and the others.

    Where the defaults stayed best both are the mean of the baseline.
    """
    if summary.best is None or not run.confirms:
        return None, None, Fresh()
    if not summary.best.changes:
        return summary.baseline.mean, summary.baseline.mean, Fresh()
    history = History(run.space, records)
    made = history.role("confirm")
    mine = {t.seed: t.score for t in made if t.score is not None}
    default = {t.seed: t.score for t in history.role("baseline") if t.score is not None}
    both = [(run.objective.value(s), run.objective.value(default[k]))
            for k, s in mine.items() if k in default]  # fmt: skip
    unmade = max(0, run.confirms - len(made))
    fresh = Fresh(run.confirms, len(made) - len(mine), len(mine) - len(both), unmade)
    if not both:
        return None, None, fresh
    return sum(v for v, _ in both) / len(both), sum(d for _, d in both) / len(both), fresh


def worked_out(logs: Logs, known: Provenance) -> Provenance:
    """The same with every mechanism's credit, which takes a sandbox and some seconds a run.

    What is known of a run is not worked out again. Raises as `accounts.credited`.
    """
    new = {r.id: credits_of(r, log) for r, log in logs.values() if r.id not in known.credits}
    return replace(known, credits={**known.credits, **new})


def _shared(logs: Logs) -> dict[Place, int]:
    """Evaluations that each run took over from one that began before it.

    One that was taken over is equal to the first, its seconds to the last digit.
    """
    seen: dict[tuple[object, ...], str] = {}
    shared = {}
    begun = sorted(logs.items(), key=lambda item: (item[1][0].created, _number(item[1][0].id)))
    for place, (run, records) in begun:
        trials = _evaluated(records)
        keys = [(place.task, run.space.key(t.values), t.seed, t.seconds) for t in trials]
        shared[place] = sum(seen.get(key, run.id) != run.id for key in keys)
        for key in keys:
            seen.setdefault(key, run.id)
    return shared


def _evaluated(records: Iterable[Record]) -> list[Trial]:
    """All evaluations of a run, without what was refused before it took any time."""
    return [t for t in records if isinstance(t, Trial) and t.seconds]


def _number(run: str) -> tuple[int, str]:
    """gpt-9 comes before gpt-10."""
    return len(run), run
