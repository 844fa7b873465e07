"""What every mechanism keeps to, found out on toys in about a second.

    problems = check_mechanism(lambda: sandbox.load(source))

What is not asked: whether it changes anything, and whether it helps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bilevel.conformance.remedies import with_remedy
from bilevel.conformance.toy_run import nothing_new, used_up, walk
from bilevel.conformance.toy_spaces import TOYS, Toy
from bilevel.conformance.watching import Notes, Problem, Watched, brief
from bilevel.loop import Loop
from bilevel.mechanism import Mechanism
from bilevel.model import Fault, Record
from bilevel.sandbox.errors import MechanismError

__all__ = ["TOYS", "Conformance", "Problem", "Toy", "check_mechanism", "examine"]

STEPS = 12  # of the loop, a toy
IDLE = 10  # steps running without a draft, after which a search counts as emptied
SLOW = 0.5  # seconds, which 95 % of a hook's calls stay under
SLOW_CALLS = 3  # at least, before a mechanism counts as slow
MOST = 5  # problems, after which no more are looked for


@dataclass(frozen=True)
class Conformance:
    """What was found: problems, decisions asked for, the slowest call in seconds and its hook."""

    problems: list[Problem]
    decisions: int
    slowest: float
    slowest_hook: str


def check_mechanism(
    make: Callable[[], Mechanism], *, spaces: Sequence[Toy] = TOYS, steps: int = STEPS
) -> list[Problem]:
    """The first few problems of a mechanism, none twice; empty if it conforms.

    make: a fresh mechanism, plain or in the sandbox; it is called a handful of times.
    """
    return examine(make, spaces=spaces, steps=steps).problems


def examine(
    make: Callable[[], Mechanism], *, spaces: Sequence[Toy] = TOYS, steps: int = STEPS
) -> Conformance:
    """The problems, and how much was tried. Raises SandboxRefused, or what a plain `make` does.

    Of that, what the sandbox reports, a TypeError and a ValueError are problems.
    """
    notes = Notes("any space")
    try:
        watched = Watched(make, notes)
    except (MechanismError, TypeError, ValueError) as error:
        notes.add_error("__init__", error, None)
        return Conformance(list(notes.found.values()), 0, 0.0, "")
    try:
        for toy in spaces:
            notes.where = toy.name
            _search(toy, watched, notes, steps * toy.long)
            if notes.fatal or len(notes.found) >= MOST:
                break
    finally:
        watched.close()
    slowest, hook = max(((max(s), h) for h, s in notes.seconds.items()), default=(0.0, ""))
    return Conformance(list(notes.found.values())[:MOST], watched.calls.total(), slowest, hook)


def _search(toy: Toy, watched: Watched, notes: Notes, count: int) -> None:
    """One toy, to its end or until the mechanism is beyond help."""
    watched.begin(toy.kills)
    idle = seen = 0
    for loop, log in walk(toy, watched, count):
        if notes.refused is not None:
            raise notes.refused
        _take_faults(log[seen:], watched, notes)
        _check_time(notes)
        seen = len(log)
        if notes.fatal or len(notes.found) >= MOST or not loop.stack.holds("toy"):
            return
        if watched.given:
            idle = idle + 1 if nothing_new(loop) else 0
        if idle and (used_up(loop) or (toy.small and watched.left_something())):
            return
        if idle == IDLE:
            notes.add(*_emptied(loop, watched))
            return


def _take_faults(log: Sequence[Record], watched: Watched, notes: Notes) -> None:
    """Faults that the stack found, not the hook itself."""
    for record in log:
        if isinstance(record, Fault) and record.message not in watched.raised:
            text, advice = with_remedy(record.hook, record.kind, record.message)
            answer = watched.answers.get(record.hook)
            seen = "" if answer is None else f" (it answered {brief(record.hook, answer)})"
            notes.add(record.hook, advice or text, "; ".join(filter(None, (text, advice))) + seen)


def _check_time(notes: Notes) -> None:
    """Slow when more than 5 % of a hook's calls, and at least SLOW_CALLS, took SLOW or longer."""
    for hook, seconds in notes.seconds.items():
        slow = sum(s >= SLOW for s in seconds)
        if slow >= SLOW_CALLS and slow > 0.05 * len(seconds):
            notes.add(
                hook,
                "slow",
                f"95 % of its calls must take under {SLOW:g} s; look at "
                "fewer candidates, or at the last trials only: view.trials[-50:]",
            )
            notes.fatal = True


def _emptied(loop: Loop, watched: Watched) -> tuple[str, str, str]:
    """Hook, rule and words for a search that came to nothing IDLE steps running."""
    if watched.answers.get("plan") == []:
        what, do = "plan returned no move", "return moves when there is nothing better"
        return "plan", "emptied", f"{what} {IDLE} steps running; {do}"
    if watched.answers.get("screen") == []:
        what, do = "screen dropped every draft", "return drafts[:1] when none is good enough"
        return "screen", "emptied", f"{what} {IDLE} steps running; {do}"
    why = next((r.reason for r in loop.history.proposals[-1].refusals), "no draft was left")
    return (
        "plan",
        "emptied",
        f"its moves led to no new draft {IDLE} steps running ({why}); plan values for which "
        "view.tried(values) is False, and `return moves` when none are found",
    )
