"""The results of a study as those who analyse and report it get them: values, no logs.

All values are in the metric's own unit; which way is better says `direction`. None means that
there is no such figure: it failed, was not measured, or an imported study does not tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from bilevel.model import Direction, Objective

# open: begun and not ended. missing: not begun. problem: could not go on, or its baseline failed.
RunStatus = Literal["done", "open", "missing", "problem"]
Measure = Literal["best", "reevaluated"]


@dataclass(frozen=True)
class Version:
    """The study's file as it was from a time on. at: ISO 8601, UTC."""

    at: str
    hash: str
    text: str


@dataclass(frozen=True)
class Build:
    """The code that makes runs. sha: sha256 of its files; files: by path, how theirs begins."""

    sha: str
    version: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class StudyMechanism:
    """A mechanism of one run. joined, left: steps, None where it never did.

    origin: how it came to be ("hand" for shipped ones); generated: by Level 2 in this very run.
    sham: written by Level 2 and left out on purpose. asked, changed: decisions, over all hooks;
    their share is the influence. faults: how often it failed. credit: share of the run's decisions
    that differ without it (leave-one-out), None where that was not worked out.
    """

    sha: str
    name: str
    source: str
    rationale: str
    origin: str
    joined: int | None
    left: int | None
    why_left: str
    sham: bool
    asked: int
    changed: int
    faults: int
    credit: float | None = None
    generated: bool = False


@dataclass(frozen=True)
class Fresh:
    """Measurements of winners on fresh seeds. wanted: how many the runs asked for.

    Of these without a gain: failed: the winner had no value; unpaired: the defaults had none;
    unmade: the run ended before.
    """

    wanted: int = 0
    failed: int = 0
    unpaired: int = 0
    unmade: int = 0


@dataclass(frozen=True)
class StudyRun:
    """One run: `repeat` of `arm` on `task`. Equal task and repeat (so equal seed) make a pair.

    scores: value of each evaluated proposal in order, None where it failed or re-measured an
    earlier one on a fresh seed. best: running best at the end, the baseline included.
    reevaluated, reevaluated_baseline: mean of winner and defaults on the same fresh seeds; equal
    where the defaults stayed best. verdict: of the run's own fresh seeds, as `bilevel show` says.
    noise: standard deviation of the baseline over seeds. tokens: read and written, as this run
    would have paid alone; seconds likewise, wall-clock. tokens_at, seconds_at: spent when each of
    `scores` was known, shape as `scores`. usd: None without a price. levels: tokens by level.
    evaluations: all that took time: of proposals, of the defaults, on fresh seeds.
    evaluations_shared, llm_calls_shared: of all that it evaluated and asked, what was taken over
    from another run. duplicates: proposals that repeated an earlier one. parameters_touched: names,
    most often first. problem: why it is not done, in words. stop: as the log says; stop_detail: in
    words. builds: sha of each that began it or went on with it, in order; empty where none was
    noted. usd_at: as tokens_at, empty without prices. replies: by model, as the server names it.
    fresh: what became of the measurements behind `reevaluated`. sandboxes: levels that held code
    which is not bilevel's own, in order; a run may go on elsewhere.
    """

    task: str
    arm: str
    repeat: int
    seed: int
    run_id: str
    status: RunStatus
    baseline: float | None = None
    scores: tuple[float | None, ...] = ()
    best: float | None = None
    reevaluated: float | None = None
    reevaluated_baseline: float | None = None
    verdict: str = ""
    noise: float | None = None
    tokens: int | None = None
    seconds_llm: float | None = None
    seconds_jobs: float | None = None
    usd: float | None = None
    tokens_at: tuple[int, ...] = ()
    seconds_at: tuple[float, ...] = ()
    levels: Mapping[str, int] = field(default_factory=dict)
    llm_calls: int | None = None
    llm_calls_shared: int = 0
    evaluations_shared: int = 0
    duplicates: int = 0
    failed: int = 0
    steerings: int = 0
    sessions: int = 0
    parameters_touched: tuple[str, ...] = ()
    mechanisms: tuple[StudyMechanism, ...] = ()
    problem: str = ""
    stop: str = ""
    version: str = ""
    machine: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    builds: tuple[str, ...] = ()
    usd_at: tuple[float, ...] = ()
    replies: Mapping[str, int] = field(default_factory=dict)
    fresh: Fresh = Fresh()
    stop_detail: str = ""
    evaluations: int = 0
    sandboxes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hypothesis:
    """A claim with the rule that decides it, both written before the first run.

    `arm` beats every one of `controls` on every one of `tasks`, in paired differences of `measure`:
    supported when all of these hold: at least `least_repeats` pairs, the 95 % interval of the mean
    difference lies beyond `margin` (in the metric's unit, positive is better) and not wholly below
    `worthwhile`, the smallest that would matter, p after Holm's correction over all tests of the
    study's hypotheses is below `alpha`, and, where `ratio` is given, the same of the arm's gain
    less that many times the control's, against 0. Not supported: with that many pairs, the whole
    interval lies below the larger of `margin` and `worthwhile` (with a ratio, or that of the gain
    less so many times the control's below 0), and p against that, corrected likewise, is below
    `alpha`; one control on one task suffices. Undecided: anything else.
    """

    name: str
    claim: str
    arm: str
    controls: tuple[str, ...]
    tasks: tuple[str, ...]
    measure: Measure = "best"
    margin: float = 0.0
    worthwhile: float = 0.0
    ratio: float | None = None
    alpha: float = 0.05
    least_repeats: int = 10


@dataclass(frozen=True)
class AnalysisPlan:
    """What is worked out, written before the first run.

    reference: the arm that all others are compared with. controls: arms among which the strongest
    is looked for (the one with the best mean of `measure`, over repeats that all of them have).
    targets: by task, a value of the metric for "evaluations to target"; without one, half of the
    largest mean gain. resamples: of bootstrap and permutation, which begin at `seed`.
    """

    reference: str
    controls: tuple[str, ...]
    measure: Measure = "best"
    targets: Mapping[str, float] = field(default_factory=dict)
    resamples: int = 10_000
    seed: int = 0


@dataclass(frozen=True)
class StudyData:
    """A study as far as it went.

    metric, direction: of the first task; a study of several is analysed task by task, by `of`.
    arms: names in the file's order; about: by arm, what it is, in words. runs: every one that the
    file asks for, those that are not there yet with status "missing". evals: budget of each run.
    question: what the study asks. file: the study file's text, file_hash: sha256 of it. hypotheses,
    plan: None where none was written beforehand. fingerprints: sha256 of each task's code. began:
    when the study was entered, ISO 8601, UTC; versions: of its file since then. builds: by sha.
    """

    name: str
    file_hash: str
    metric: str
    direction: Direction
    tasks: tuple[str, ...]
    arms: tuple[str, ...]
    runs: tuple[StudyRun, ...]
    evals: int = 30
    repeats: int = 0
    llm: str = ""
    question: str = ""
    file: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    objectives: Mapping[str, Objective] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    hypotheses: tuple[Hypothesis, ...] = ()
    plan: AnalysisPlan | None = None
    began: str = ""
    versions: tuple[Version, ...] = ()
    builds: Mapping[str, Build] = field(default_factory=dict)

    def of(self, task: str) -> StudyData:
        """The part of one task, with its metric and direction."""
        objective = self.objectives.get(task, Objective(self.metric, self.direction))
        return replace(
            self,
            metric=objective.metric,
            direction=objective.direction,
            tasks=(task,),
            runs=tuple(r for r in self.runs if r.task == task),
        )

    def done(self, arm: str) -> tuple[StudyRun, ...]:
        """The arm's runs that ended with a result, by task and repeat."""
        return tuple(r for r in self.runs if r.arm == arm and r.status == "done")

    def curve(self, run: StudyRun) -> tuple[float, ...]:
        """Best value after each evaluation, the baseline first, shape (evals + 1,).

        Flat after a run that stopped early. Raises ValueError for a run without a baseline.
        """
        if run.baseline is None:
            raise ValueError(f"{run.arm}, repeat {run.repeat} has no baseline, so it has no curve")
        better = min if self.direction == "min" else max
        curve = [run.baseline]
        for value in run.scores:
            curve.append(curve[-1] if value is None else better(curve[-1], value))
        return (*curve, *[curve[-1]] * (self.evals + 1 - len(curve)))

    def gain(self, run: StudyRun, value: float | None) -> float | None:
        """By how much a value is better than the run's baseline; negative when worse."""
        if value is None or run.baseline is None:
            return None
        return run.baseline - value if self.direction == "min" else value - run.baseline
