"""Which mechanisms of the library a run begins with, and which of them Level 2 is shown."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random

from bilevel.describe import one_line
from bilevel.errors import ConfigError
from bilevel.library.library import Entry, credits, kinds, measured, prunable, share
from bilevel.model import Borrowed, Space
from bilevel.seeds import generator

SHOWN = 4  # mechanisms that Level 2 is shown, those that join included
PENALTY = 0.5
TEMPERATURE = 0.5


def borrow(
    entries: Sequence[Entry], wish: str, task: str, space: Space, seed: int
) -> tuple[Borrowed, ...]:
    """What a run is given of the library: those that join first, then others for the same task.

    wish: `best`, `alma` or `random`, and how many after a colon, as in `alma:2`. What was
    found to harm this task, or what `library prune` would take out, does not count. Raises
    ConfigError.
    """
    way, count = _parsed(wish)
    parameters = kinds(space)
    fit = best([e for e in entries if not _unfit(e, task)], task, parameters)
    if len(fit) < count:
        raise ConfigError(
            f"the library has {len(fit)} mechanisms that may join a run of {task}, but --library "
            f"{wish} asks for {count}; fill it with `bilevel library collect`, `add` or `import`"
        )
    joining = WAYS[way](fit, count, task, parameters, generator(seed, "library", way))
    known = [e for e in fit if e not in joining and task in e.tasks()]
    shown = [*joining, *known[: max(0, SHOWN - count)]]
    return tuple(_borrowed(e, task, e in joining) for e in shown)


def best(entries: Sequence[Entry], task: str, parameters: Mapping[str, str]) -> list[Entry]:
    """Those used on the task first, then by likeness of what they were used on, then by credit."""

    def key(entry: Entry) -> tuple[bool, float, float, str]:
        like = likeness(entry, task, parameters)
        return task not in entry.tasks(), -like, -_credit(entry, task), entry.sha

    return sorted(entries, key=key)


def likeness(entry: Entry, task: str, parameters: Mapping[str, str]) -> float:
    """How like a task is to the nearest that the mechanism was used on, in [0, 1]; 1 for the same.

    Of two tasks: the mean of the share of parameters that they have in common by name and kind,
    and of the overlap of their shares of kinds.
    """
    tasks = entry.tasks()
    if task in tasks:
        return 1.0
    return max(_alike(other, parameters) for other in tasks.values())


def _alike(some: Mapping[str, str], other: Mapping[str, str]) -> float:
    both, either = some.items() & other.items(), some.items() | other.items()
    ours, theirs = Counter(some.values()), Counter(other.values())
    overlap = sum(min(ours[k] / len(some), theirs[k] / len(other)) for k in ours)
    return (len(both) / len(either) + overlap) / 2


def _best(
    entries: Sequence[Entry], count: int, task: str, parameters: Mapping[str, str], rng: Random
) -> list[Entry]:
    return list(entries[:count])


def _alma(
    entries: Sequence[Entry], count: int, task: str, parameters: Mapping[str, str], rng: Random
) -> list[Entry]:
    """Sampled without replacement, by reward less a penalty for visits.

    Source: Xiong, Hu and Clune (ALMA), arXiv 2602.07755, 2026, and its code:
    softmax((sigmoid(gain) - 0.5 ln(1 + visits)) / 0.5). Adapted: in the place of sigmoid(gain)
    stands credit times likeness of the task, in [0, 1] as well; a visit is a run with it.
    """
    weights = {e.sha: _weight(e, task, parameters) for e in entries}
    return _drawn(entries, count, weights, rng)


def _weight(entry: Entry, task: str, parameters: Mapping[str, str]) -> float:
    reward = _credit(entry, task) * likeness(entry, task, parameters)
    value = reward - PENALTY * math.log(1 + len(entry.uses))
    return math.exp(value / TEMPERATURE)


def _random(
    entries: Sequence[Entry], count: int, task: str, parameters: Mapping[str, str], rng: Random
) -> list[Entry]:
    return _drawn(entries, count, {e.sha: 1.0 for e in entries}, rng)


def _drawn(
    entries: Sequence[Entry], count: int, weights: Mapping[str, float], rng: Random
) -> list[Entry]:
    # Sorted by identity, so that the draw depends on what is there and not on its order.
    left = {e.sha: e for e in sorted(entries, key=lambda e: e.sha)}
    drawn = []
    for _ in range(count):
        (sha,) = rng.choices(list(left), [weights[s] for s in left])
        drawn.append(left.pop(sha))
    return drawn


Way = Callable[[Sequence[Entry], int, str, Mapping[str, str], Random], list[Entry]]
WAYS: Mapping[str, Way] = {"best": _best, "alma": _alma, "random": _random}


def _parsed(wish: str) -> tuple[str, int]:
    way, _, count = wish.partition(":")
    if way not in WAYS or not (count or "1").isdecimal() or count == "0":
        raise ConfigError(
            f"--library is {wish!r} but must be one of {', '.join(WAYS)}, with a number after a "
            "colon for more than one mechanism, as in best:2"
        )
    return way, int(count or 1)


def _unfit(entry: Entry, task: str) -> bool:
    harms = any(t.task == task and t.verdict == "harms" for t in entry.transfers)
    return harms or bool(prunable(entry))


def _credit(entry: Entry, task: str) -> float:
    """Mean credit on this task, where it was never used on it in all runs, 0 where unknown."""
    found = credits(entry.used_on(task)) or credits(entry.uses)
    return statistics.fmean(found) if found else 0.0


def _borrowed(entry: Entry, task: str, joins: bool) -> Borrowed:
    return Borrowed(entry.source, record(entry, task), _credit(entry, task), joins)


def record(entry: Entry, task: str) -> str:
    """What earlier runs say of a mechanism, in one line, for a prompt."""
    uses = entry.used_on(task) or entry.uses
    if not uses:
        return "from the library, never used yet"
    where = "this task" if entry.used_on(task) else "other tasks"
    kept, touched = sum(u.kept for u in uses), sum(u.touched for u in uses)
    faults = sum(u.faults for u in uses)
    words = [
        f"from the library: in {len(uses)} earlier runs of {where} {share(entry.credit(uses))} of "
        f"the decisions would differ without it, {kept} of {touched} trials touched were kept"
    ]
    words += [f"{faults} faults"] if faults else []
    words += [measured(t) for t in entry.transfers if t.task == task]
    return one_line("; ".join(words))
