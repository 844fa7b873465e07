"""Plausible runs for tests of what a run shows: the real loop over a made-up task and LLM."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from rich.console import Console, RenderableType

from bilevel.model import (
    Direction,
    Draft,
    Message,
    Move,
    Objective,
    Outcome,
    Param,
    Proposal,
    Run,
    Space,
    Stop,
    Trial,
    Values,
)
from worlds import Instant, Log, build

GPT = Space(
    (
        Param("TOTAL_BATCH_SIZE", "int", 4096, low=256, high=65536, log=True, step=2),
        Param("MATRIX_LR", "float", 0.04, low=0.001, high=0.4, log=True),
        Param("EMBEDDING_LR", "float", 0.6, low=0.01, high=6.0, log=True),
        Param("WEIGHT_DECAY", "float", 0.2, low=0.0, high=1.0),
        Param("WARMUP_RATIO", "float", 0.0, low=0.0, high=0.5),
        Param("WINDOW_PATTERN", "choice", "SSSL", choices=("SSSL", "SL", "L")),
        Param("ADAM_BETA1", "float", 0.8, low=0.5, high=0.99),
    )
)
VAL_BPB = Objective("val_bpb", "min")
ACCURACY = Objective("accuracy", "max", "%")
GPT_RUN = Run(
    "gpt-1", "gpt", GPT, VAL_BPB, "A small GPT.", seed=3, evals=30, confirms=5, llm="scripted",
    created="2026-01-02T03:04:05+00:00",
)  # fmt: skip


def val_bpb(values: Values, seed: int) -> Outcome:
    """Like the small GPT task: a smaller batch helps most, seeds differ by about 1 %."""
    rng = random.Random(seed)
    own = random.Random(f"{seed} {sorted(values.items())}")
    if values["WINDOW_PATTERN"] == "L":
        return Outcome("crash", None, error="AssertionError: 2048 is not divisible by 768")
    if float(values["EMBEDDING_LR"]) > 4:
        return Outcome("timeout", None, error="killed after 600 s")
    loss = 3.24 + 0.03 * (math.log2(int(values["TOTAL_BATCH_SIZE"])) - 10) ** 2
    loss += 0.1 * math.log10(float(values["MATRIX_LR"]) / 0.06) ** 2
    loss += 0.1 * (float(values["WARMUP_RATIO"]) - 0.1) ** 2
    loss += rng.gauss(0, 0.02) + own.gauss(0, 0.01)
    return Outcome("ok", loss, {"val_bpb": loss, "peak_vram_mb": 1536.0})


def accuracy(values: Values, seed: int) -> Outcome:
    """The same landscape turned round: higher is better, in per cent."""
    found = val_bpb(values, seed)
    value = None if found.value is None else 100 - 10 * found.value
    return replace(found, value=value, metrics={})


def researcher(seed: int) -> Callable[[Sequence[Message], int], str]:
    """Replies of a small LLM: half about the batch size, some repeated, out of bounds or no JSON.

    Never a word about ADAM_BETA1.
    """

    def reply(messages: Sequence[Message], call: int) -> str:
        rng = random.Random(seed * 1000 + call)
        if rng.random() < 0.06:
            return "Sure! Here is a proposal."
        name = rng.choice(["TOTAL_BATCH_SIZE"] * 3 + list(GPT.names[1:6]))
        low, high = GPT[name].bounds
        value: object = round(rng.uniform(low, min(high, 1.1)), 3)
        if name == "TOTAL_BATCH_SIZE":
            value = 2 ** rng.randint(8, 17)
        elif name == "MATRIX_LR":
            value = round(10 ** rng.uniform(-2.5, -0.7), 3)
        elif name == "EMBEDDING_LR":
            value = rng.choice([0.3, 1.0, 5.0])
        elif name == "WINDOW_PATTERN":
            value = rng.choice(["SL", "L"])
        why = f"Changing {name} to {value} gives more useful steps in the same budget."
        return json.dumps({"hypothesis": why, "changes": [{"name": name, "value": value}]})

    return reply


def gpt_log(run: Run = GPT_RUN, **changes: object) -> tuple[Run, Log]:
    """A finished run of 30 evaluations (or as `changes` say) and its log."""
    run = replace(run, **changes)  # type: ignore[arg-type]
    log = Log()
    measure = val_bpb if run.objective.direction == "min" else accuracy
    build(log, researcher(run.seed), run, Instant(run.slots, measure)).go()
    return run, log


def trial(
    number: int,
    score: float | None,
    *,
    kept: bool = False,
    role: str = "search",
    seed: int = 0,
    status: str = "ok",
    hypothesis: str = "This should help.",
    **changes: object,
) -> Trial:
    """One trial of the GPT space; a search trial starts from the baseline."""
    values = GPT.check({**GPT.defaults(), **changes})  # type: ignore[dict-item]
    draft = Draft(number, number, Move(parents=(0,)), values, hypothesis)
    return Trial(
        id=number,
        draft=draft if role == "search" else None,
        values=values,
        status="ok" if score is not None else status,  # type: ignore[arg-type]
        score=score,
        metrics={},
        seconds=4.0,
        seed=seed,
        kept=kept,
        error="" if score is not None else "it broke",
        role=role,  # type: ignore[arg-type]
    )


def proposal(draft_of: Trial) -> Proposal:
    """The step that led to a trial."""
    assert draft_of.draft is not None
    draft = draft_of.draft
    return Proposal(draft.step, (draft.move,), (draft,), (), (draft.id,))


def measured(
    baseline: Sequence[float | None],
    winner: Sequence[float | None] = (),
    direction: Direction = "min",
    best: float = 3.2,
) -> tuple[Run, list[object]]:
    """A run whose one search trial gave `best`, with fresh values of default and winner, by seed.

    The first of `baseline` is the one on the seed of the search.
    """
    run = replace(GPT_RUN, evals=1, objective=Objective("m", direction))

    def score(value: float | None) -> float | None:
        return None if value is None else run.objective.score(value)

    batch = {"TOTAL_BATCH_SIZE": 1024}
    found = trial(1, score(best), kept=True, **batch)
    records: list[object] = [
        trial(0, score(baseline[0]), kept=True, role="baseline"),
        proposal(found),
        found,
    ]
    rows = [("baseline", v, i, {}) for i, v in enumerate(baseline[1:], 1)]
    rows += [("confirm", v, i, batch) for i, v in enumerate(winner, 1)]
    for number, (role, value, seed, values) in enumerate(rows, 2):
        records.append(trial(number, score(value), role=role, seed=seed, **values))
    return run, [*records, Stop(1, "done", "1 evaluations")]


def shown(what: RenderableType, width: int = 80) -> str:
    """What a terminal of that width, or a file, gets to see."""
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(what)
    return capture.get()
