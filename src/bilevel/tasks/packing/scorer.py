"""Scores the source of a priority function by packing with it.

The packing is done here; the source runs behind the wall (bilevel.sandbox) and sees one item and
the bins that can take it at a time. So it cannot overfill a bin, see items to come, or touch the
count. That no call depends on an earlier one is checked, not asked for: after the packing all calls
are repeated in another order in a fresh process, and must lead to the same choices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from bilevel import seeds
from bilevel.errors import InvalidCandidate
from bilevel.sandbox.errors import MechanismError, WorkerDied
from bilevel.sandbox.function import SandboxedFunction, lint
from bilevel.sandbox.host import Limits
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.tasks.packing import instances
from bilevel.tasks.packing.instances import Instance

__all__ = ["Ask", "Call", "check", "evaluate", "measure", "pack", "uniform", "weibull"]

NAME, PARAMETERS = "priority", ("item", "bins")
LIMITS = Limits(call=5.0, cpu=60)
VALUES = 5000  # priorities asked for in one crossing of the wall

Call = tuple[int, list[int]]  # an item, and the room left in each bin that can take it
Ask = Callable[[list[Call]], list[Any]]


def weibull(values: Mapping[str, Any], seed: int) -> dict[str, float]:
    """The metrics of `PRIORITY` on 5 Weibull instances of 1,000 items. See `evaluate`."""
    return evaluate(values["PRIORITY"], instances.weibull(seed, 5, 1000))


def uniform(values: Mapping[str, Any], seed: int) -> dict[str, float]:
    """The metrics of `PRIORITY` on 5 uniform instances of 500 items. See `evaluate`."""
    return evaluate(values["PRIORITY"], instances.uniform(seed, 5, 500))


def evaluate(source: str, made: Sequence[Instance]) -> dict[str, float]:
    """excess: percent of bins over the lower bound, all instances together; and both counts.

    Raises InvalidCandidate with what is wrong with the source, and SandboxRefused on a machine
    that cannot lock a process.
    """
    with Sandbox(LIMITS) as sandbox:
        return measure(sandbox, source, made)


def measure(sandbox: Sandbox, source: str, made: Sequence[Instance]) -> dict[str, float]:
    """See `evaluate`."""
    if problems := lint(source, NAME, PARAMETERS):
        raise InvalidCandidate("PRIORITY: " + "; ".join(problems))
    try:
        with closing(SandboxedFunction(sandbox, source, NAME)) as function:
            used, choices = pack(function.map, made)
        with closing(SandboxedFunction(sandbox, source, NAME)) as function:
            check(function.map, choices)
    except WorkerDied as error:
        raise InvalidCandidate(
            "PRIORITY: its process ended; leave out what exits, and use less memory"
        ) from error
    except MechanismError as error:
        raise InvalidCandidate(f"PRIORITY: {error}") from error
    least = sum(instance.lower_bound for instance in made)
    return {"excess": 100 * (used / least - 1), "bins": used, "lower_bound": least}


def pack(ask: Ask, made: Sequence[Instance]) -> tuple[int, list[tuple[Call, int]]]:
    """Number of bins used in all instances, and every call with the bin chosen.

    The instances go in step, an item of each at a time, to save crossings. An item goes to the
    first bin of the highest priority; a new bin is always among them, last. Raises
    InvalidCandidate for answers that are no priorities.
    """
    rooms: list[list[int]] = [[] for _ in made]
    log: list[tuple[Call, int]] = []
    for items in zip(*(instance.items for instance in made), strict=True):
        places = [
            [i for i, room in enumerate(bins) if room >= item]
            for item, bins in zip(items, rooms, strict=True)
        ]
        calls = [
            (item, [*(bins[i] for i in fit), instance.capacity])
            for item, bins, fit, instance in zip(items, rooms, places, made, strict=True)
        ]
        for call, answer, fit, bins in zip(calls, ask(calls), places, rooms, strict=True):
            item, offered = call
            choice = choose(answer, len(offered))
            log.append((call, choice))
            if choice == len(fit):
                bins.append(offered[-1] - item)
            else:
                bins[fit[choice]] -= item
    return sum(map(len, rooms)), log


def choose(answer: Any, count: int) -> int:
    """Place of the first highest priority. Raises InvalidCandidate unless `count` numbers."""
    if not isinstance(answer, list):
        raise InvalidCandidate(
            f"priority returned a {type(answer).__name__}; return a list of numbers, "
            "one for each of bins"
        )
    if len(answer) != count:
        raise InvalidCandidate(
            f"priority returned {len(answer)} numbers for {count} bins; return one for "
            "each of bins, in their order"
        )
    for value in answer:
        if type(value) not in (int, float) or not math.isfinite(value):
            raise InvalidCandidate(
                f"priority returned {value!r:.80} among its numbers; return finite numbers only"
            )
    return answer.index(max(answer))


def check(ask: Ask, log: Sequence[tuple[Call, int]]) -> None:
    """Raises InvalidCandidate unless the calls lead to the same choices in another order."""
    shuffled = list(log)
    seeds.generator(0, "repeat").shuffle(shuffled)
    for part in _parts(shuffled):
        answers = ask([call for call, _ in part])
        for ((item, bins), before), answer in zip(part, answers, strict=True):
            if choose(answer, len(bins)) != before:
                raise InvalidCandidate(
                    f"priority chose another bin for item {item} when it was called "
                    "again in a fresh process; its answer may depend on item and bins only, not "
                    "on earlier calls, chance or time"
                )


def _parts(log: Sequence[tuple[Call, int]]) -> Iterator[list[tuple[Call, int]]]:
    """The log in pieces that ask for some VALUES priorities each."""
    part: list[tuple[Call, int]] = []
    size = 0
    for entry in log:
        part.append(entry)
        size += len(entry[0][1])
        if size >= VALUES:
            yield part
            part, size = [], 0
    if part:
        yield part
