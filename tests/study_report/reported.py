"""Small studies for tests of their reports."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence

from bilevel.study.data import AnalysisPlan, Hypothesis, StudyData, StudyMechanism, StudyRun
from bilevel.study.statistics import Difference, difference

HOSTILE = '<script src="https://evil.example/x.js"></script> | ``` </pre>'
SOURCE = f"class Tabu(Mechanism):\n    '''{HOSTILE}'''\n"


def run(
    arm: str,
    repeat: int,
    baseline: float,
    scores: Sequence[float | None],
    *,
    task: str = "toy",
    tokens: int = 10,
    mechanisms: tuple[StudyMechanism, ...] = (),
) -> StudyRun:
    """A run that ended, of a metric to minimise, with `tokens` and two seconds an evaluation."""
    best = min([baseline, *(s for s in scores if s is not None)])
    steps = range(1, len(scores) + 1)
    return StudyRun(
        task=task,
        arm=arm,
        repeat=repeat,
        seed=repeat,
        run_id=f"{arm}-{repeat}",
        status="done",
        baseline=baseline,
        scores=tuple(scores),
        best=best,
        reevaluated=best + 0.01,
        reevaluated_baseline=baseline,
        verdict="confirmed" if best < baseline else "not confirmed",
        noise=0.02,
        evaluations=2 + len(scores),
        tokens=tokens * len(scores),
        seconds_llm=float(len(scores)),
        seconds_jobs=float(len(scores)),
        tokens_at=tuple(tokens * s for s in steps),
        seconds_at=tuple(2.0 * s for s in steps),
        llm_calls=len(scores) if tokens else 0,
        failed=sum(s is None for s in scores),
        parameters_touched=("RATE", "BATCH")[: 1 + repeat % 2],
        mechanisms=mechanisms,
        version="0.1.0",
        machine={"system": "Linux", "cores": "2"},
        created=f"2026-01-0{1 + repeat % 9}T00:00:00Z",
    )


def study(runs: Sequence[StudyRun], evals: int = 3, **fields: object) -> StudyData:
    """A study of these runs, arms and tasks in order of appearance; A is the reference."""
    arms = tuple(dict.fromkeys(r.arm for r in runs))
    return StudyData(
        **{
            "name": "small",
            "file_hash": "f" * 64,
            "metric": "loss",
            "direction": "min",
            "tasks": tuple(dict.fromkeys(r.task for r in runs)),
            "arms": arms,
            "runs": tuple(runs),
            "evals": evals,
            "plan": AnalysisPlan("A", (), resamples=1024),
            **fields,
        }  # type: ignore[arg-type]
    )


def mixed(repeats: int = 3, tasks: Sequence[str] = ("toy",)) -> StudyData:
    """Four arms, one without an LLM, failures, mechanisms and texts that try to be markup."""
    runs = []
    for task in tasks:
        for repeat in range(repeats):
            for level, arm in enumerate(("A", "C", "sham", "random")):
                draw = random.Random(f"{task} {arm} {repeat}")
                scores = [None if draw.random() < 0.1 else 1.1 - 0.1 * level * draw.random()
                          for _ in range(6)]  # fmt: skip
                tokens = 0 if arm == "random" else 100 + 10 * level
                made = (mechanism(arm == "sham"),) if arm in ("C", "sham") else ()
                runs.append(
                    run(arm, repeat, 1.0 + 0.01 * repeat, scores, task=task, tokens=tokens,
                        mechanisms=made)
                )  # fmt: skip
    return study(
        runs,
        evals=6,
        tasks=tuple(tasks),
        question=HOSTILE,
        file=f"# {HOSTILE}\n",
        llm="scripted",
        about={"A": HOSTILE},
        fingerprints=dict.fromkeys(tasks, "e" * 64),
        hypotheses=(Hypothesis("H2", f"C beats A {HOSTILE}", "C", ("A", "sham"), tuple(tasks)),),
        plan=AnalysisPlan("A", ("sham", "random"), resamples=1024),
    )


def mechanism(sham: bool) -> StudyMechanism:
    return StudyMechanism(
        sha="ab" * 32,
        name=f"Tabu {HOSTILE}",
        source=SOURCE,
        rationale=HOSTILE,
        origin="session",
        joined=None if sham else 3,
        left=None,
        why_left="",
        sham=sham,
        asked=0 if sham else 40,
        changed=0 if sham else 10,
        faults=0,
        credit=None if sham else 0.2,
        generated=True,
    )


def around(mean: float, n: int) -> list[float]:
    """n values of this mean, and of sd 1."""
    ranks = [i - (n - 1) / 2 for i in range(n)]
    return [mean + r / statistics.stdev(ranks) for r in ranks]


def found(numbers: list[float], margin: float = 0.0) -> Difference:
    result = difference(numbers, margin)
    assert result is not None
    return result
