"""What a run will take, said before it: from its own prompts, and from what earlier runs show."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from bilevel.budget.budget import MESSAGE_TOKENS, TOKENS_A_CHARACTER, cost, weight
from bilevel.budget.prices import prices_text
from bilevel.budget.rehearsal import MOST, Asked, rehearse
from bilevel.compare.strategies import FREE
from bilevel.ensemble import members
from bilevel.model import Call, Estimate, Prices, Run, Share, Trial
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.stacks import layers
from bilevel.workspace import Workspace

FEWEST = 0.25  # tokens a character where the model was never asked: English prose
LAST = 10  # earlier runs that are looked at
LEVELS = ("1", "1.5", "2")

__all__ = ["Pace", "estimate", "job_seconds", "pace"]


@dataclass(frozen=True)
class Pace:
    """How a model did in earlier runs. read: tokens of a character of its prompts.

    written: tokens of a reply, by level. seconds: for each token that it wrote, reading included.
    """

    runs: int
    read: float
    written: Mapping[str, float]
    seconds: float


def pace(model: str, logs: Iterable[tuple[Run, Sequence[Call]]]) -> Pace | None:
    """How the model did in these runs; None where it answered in none of them."""
    by_run = [(r, [c for c in calls if (c.model or r.llm) == model]) for r, calls in logs]
    asked = [c for _, calls in by_run for c in calls if c.reply.counted and c.reply.tokens_out]
    if not asked:
        return None
    by_level = {level: [c.reply.tokens_out for c in asked if c.level == level] for level in LEVELS}
    size = sum(weight(c.messages, c.schema) for c in asked)
    return Pace(
        runs=sum(bool(calls) for _, calls in by_run),
        read=sum(c.reply.tokens_in for c in asked) / size,
        written={level: statistics.mean(told) for level, told in by_level.items() if told},
        seconds=sum(c.reply.seconds for c in asked) / sum(c.reply.tokens_out for c in asked),
    )


def job_seconds(run: Run, logs: Iterable[tuple[Run, Sequence[Trial]]]) -> tuple[float | None, int]:
    """Median seconds of an evaluation of the same task in these runs, and of how many."""
    same = [trials for other, trials in logs if other.fingerprint == run.fingerprint]
    took = [t.seconds for trials in same for t in trials if t.status != "invalid"]
    return (statistics.median(took) if took else None), len(took)


def estimate(
    workspace: Workspace, run: Run, prices: Mapping[str, Prices], measured: float | None = None
) -> Estimate:
    """What the run will take. measured: seconds of an evaluation that was just made, if one was.

    Raises MissingExtra, MechanismError or SandboxRefused, as the run itself would.
    """
    store = workspace.store
    earlier = [r for r in store.runs() if r.id != run.id][::-1]
    models = {level: _model(run, level) for level in LEVELS}
    paces = {}
    for model in dict.fromkeys(models.values()):
        asking = [r for r in earlier if model in (*members(r.llm), r.llm_outer)][:LAST]
        paces[model] = pace(model, [(r, [c for _, c in store.read(r.id, Call)]) for r in asking])
    same = [r for r in earlier if r.fingerprint == run.fingerprint][:LAST]
    seconds, timed = job_seconds(run, [(r, [t for _, t in store.read(r.id, Trial)]) for r in same])
    smooth, rough = _rehearsed(run, rough=False), _rehearsed(run, rough=True)
    times = max(1.0, run.evals / MOST)
    shares = [
        _share(
            level,
            [a for a in smooth if a.level == level],
            [a for a in rough if a.level == level],
            paces[models[level]],
            prices.get(models[level]),
            times,
        )
        for level in LEVELS
        if any(a.level == level for a in rough)
    ]
    # The winner is confirmed on fresh seeds, and so is the baseline where it was not measured.
    most = run.evals + run.baselines + run.confirms + max(0, run.confirms - run.baselines + 1)
    asked = {models[share.level]: paces[models[share.level]] for share in shares}
    return Estimate(
        levels=tuple(shares),
        jobs=(run.evals + run.baselines, most),
        slots=run.slots,
        job_seconds=seconds if measured is None else measured,
        basis=(*_basis(run, asked, prices), _timing(seconds, timed, measured)),
    )


def _model(run: Run, level: str) -> str:
    """Which model a level asks; of an ensemble the first."""
    return run.llm_outer if level != "1" and run.llm_outer else members(run.llm)[0]


def _rehearsed(run: Run, rough: bool) -> list[Asked]:
    names = [entry.partition("@")[0] for entry in run.stack]
    if names and set(names) <= set(FREE) and run.outer.research == "off" and not run.outer.steering:
        return []  # they write all values themselves, and some take their time over it
    with Sandbox.again(run.sandbox, run.allow_weak) if run.sources else nullcontext() as sandbox:
        return rehearse(run, layers(run, sandbox), rough)


def _share(
    level: str,
    smooth: Sequence[Asked],
    rough: Sequence[Asked],
    known: Pace | None,
    prices: Prices | None,
    times: float,
) -> Share:
    fewest = FEWEST if known is None else known.read
    most = TOKENS_A_CHARACTER if known is None else known.read
    least = [(_tokens(a.read, fewest), _reply(a, level, fewest, known)) for a in smooth]
    worst = [(_tokens(a.read, most) + MESSAGE_TOKENS, a.room) for a in rough]
    written = (_total(times, least, 1), _total(times, worst, 1))
    costs = [[cost(prices, *tokens) for tokens in calls] for calls in (least, worst)]
    low, high = (None if None in c else times * math.fsum(x or 0.0 for x in c) for c in costs)
    return Share(
        level=level,
        calls=(round(times * len(smooth)), round(times * len(rough))),
        tokens_in=(_total(times, least, 0), _total(times, worst, 0)),
        tokens_out=written,
        seconds=None if known is None else (known.seconds * written[0], known.seconds * written[1]),
        usd=None if low is None or high is None else (low, high),
    )


def _tokens(characters: int, ratio: float) -> int:
    return math.ceil(characters * ratio)


def _reply(asked: Asked, level: str, ratio: float, known: Pace | None) -> int:
    """Tokens of a reply: as long as the model's are at that level, else as the made-up one."""
    if known is not None and level in known.written:
        return round(known.written[level])
    return min(asked.room, _tokens(asked.written, ratio))


def _total(times: float, calls: Sequence[tuple[int, int]], part: int) -> int:
    return round(times * sum(call[part] for call in calls))


def _basis(
    run: Run, asked: Mapping[str, Pace | None], prices: Mapping[str, Prices]
) -> Iterable[str]:
    if not asked:
        yield "no LLM is asked: the stack writes all values itself"
        return
    yield (
        "least: every reply is used; most: each is as long as it may be and is repaired, and no "
        "source of Level 2 is admitted"
    )
    length = f"{min(run.evals, MOST)} made-up evaluations"
    scaled = f", times {run.evals / MOST:.1f}" if run.evals > MOST else ""
    yield f"calls and prompts: the run's own loops and prompts over {length}{scaled}"
    for model, known in asked.items():
        if known is None:
            yield (
                f"{model}: no earlier run here; {FEWEST:g} to {TOKENS_A_CHARACTER:g} tokens a "
                "character assumed, its speed is not known"
            )
        else:
            yield (
                f"{model}: {known.read:.2f} tokens a character and {known.seconds:.3g} s a token "
                f"written, as in {known.runs} earlier {'run' if known.runs == 1 else 'runs'}"
            )
        if model in prices:
            yield prices_text(prices[model])


def _timing(seconds: float | None, timed: int, measured: float | None) -> str:
    if measured is not None:
        return f"an evaluation: {measured:.1f} s, as one took that was just made"
    if seconds is None:
        return "an evaluation: never timed here; --measure makes one"
    return f"an evaluation: {seconds:.1f} s, the median of {timed} earlier ones of this task"
