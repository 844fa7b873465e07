"""Frames of mechanisms: a hook with its bookkeeping written, and holes for the rule itself.

A small LLM fails at the bookkeeping (bounds, scales, empty lists, types of answers) long before it
fails at the rule. A frame names what the rule may look at, and the LLM writes the expressions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import Template
from typing import Literal

from bilevel.mechanism import View

HookName = Literal["plan", "screen", "accept"]


@dataclass(frozen=True)
class Local:
    """A name that an expression may use. code: how a frame defines it; now: its value in a view,
    None where it exists within a decision only."""

    name: str
    meaning: str
    code: str
    now: Callable[[View], object] | None = None


@dataclass(frozen=True)
class Hole:
    """An expression to write: what it is, and what such a one looks like."""

    name: str
    meaning: str
    example: str


@dataclass(frozen=True)
class Frame:
    """One way for a mechanism to act. does: for the specification. body: Python, holes as $name."""

    hook: HookName
    does: str
    locals: tuple[Local, ...]
    holes: tuple[Hole, ...]
    body: str

    def source(self, name: str, idea: str, filled: Mapping[str, str]) -> str:
        """The class with its holes filled in; each expression in parentheses."""
        holes = {hole.name: f"({' '.join(filled[hole.name].split())})" for hole in self.holes}
        rule = Template(self.body.strip("\n")).substitute(holes)
        used = set(re.findall(r"\w+", rule))
        body = "\n".join([*(local.code for local in self.locals if local.name in used), rule])
        indented = "\n".join(f"        {line}" for line in body.splitlines())
        return TEXT.format(name=name, idea=idea, arguments=ARGUMENTS[self.hook], body=indented)


COUNTED = {
    "evaluations since the last kept one": (1, 8),
    "how often one parameter was changed": (1, 6),
    "best gain of one parameter, in units of noise": (-3, 3),
    "evaluations since one parameter was changed": (1, 12),
    "percent of the budget that is left": (10, 90),
    "how much worse a trial is than the incumbent, in units of noise": (0, 3),
}  # what a rule's condition may count, in words, and the numbers that it may be compared with
ARGUMENTS = {
    "plan": "plan(self, view, moves)",
    "screen": "screen(self, view, drafts)",
    "accept": "accept(self, view, trial, keep)",
}
TEXT = '''\
from bilevel.mechanism import Mechanism


class {name}(Mechanism):
    """{idea}"""

    def {arguments}:
{body}
'''

STREAK = Local(
    "streak", "evaluations since the last kept one", "streak = view.streak()", lambda v: v.streak()
)
LEFT = Local(
    "left",
    "share of the budget that is left, from 1 down to 0",
    "left = view.left / max(1, view.left + len(view.trials) - 1)",
    lambda v: round(v.left / max(1, v.left + len(v.trials) - 1), 2),
)
NAMES = Local(
    "names",
    "list of the parameters that may change",
    "names = list(view.ranged() or view.open())",
    lambda v: list(v.ranged() or v.open()),
)
TRIES = Local(
    "tries",
    "by parameter, how often it was changed",
    "tries = {name: len(view.tries(name)) for name in view.space.names}",
    lambda v: {n: len(v.tries(n)) for n in v.space.names},
)
GAINS = Local(
    "gains",
    "by parameter, the best gain of changing it, negative for losses, 0 if never changed",
    "gains = {name: view.best_gain(name) for name in view.space.names}",
    lambda v: {n: round(v.best_gain(n), 4) for n in v.space.names},
)
AGE = Local(
    "age",
    "by parameter, evaluations since it was last changed",
    "age = {name: view.age(name) for name in view.space.names}",
    lambda v: {n: v.age(n) for n in v.space.names},
)
NOISE = Local(
    "noise",
    "spread of one measurement",
    "noise = view.noise or 1e-9",
    lambda v: round(v.noise or 1e-9, 6),
)
PLACE = Local("here", "the place of its value now, from 0 (lowest) to 1 (highest)", "")
OLD = Local("old", "the place of its value before, from 0 to 1", "")
NEW = Local("new", "the place that the proposal gives it, from 0 to 1", "")
LOST = Local("lost", "how much worse than the incumbent it is; below 0 if better", "")

WHEN = Hole("when", "a condition: when to act", "streak >= 4")
KEY = Hole(
    "key",
    "a number for a parameter `name`; the one with the lowest number is taken",
    "tries[name]",
)
SHARED = (STREAK, LEFT, NAMES, TRIES, GAINS, AGE)

FRAMES = (
    Frame(
        "plan",
        "let the proposer change one parameter only, which the rule chooses",
        SHARED,
        (WHEN, KEY),
        """
if not names or not $when:
    return moves
name = min(names, key=lambda name: $key)
return [move.edit(focus=(name,)) for move in moves]
""",
    ),
    Frame(
        "plan",
        "close some parameters to the proposer for a while",
        SHARED,
        (
            WHEN,
            Hole(
                "closed",
                "a condition: whether a parameter `name` is closed",
                "age[name] < 2",
            ),
        ),
        """
if not $when:
    return moves
focus = tuple(name for name in names if not $closed)
return [move.edit(focus=focus) for move in moves] if focus else moves
""",
    ),
    Frame(
        "plan",
        "set one parameter by the rule itself, without the proposer",
        SHARED,
        (
            WHEN,
            KEY,
            Hole(
                "place",
                "the new place, from 0 to 1, of the chosen parameter",
                "here + 0.2",
            ),
        ),
        """
if not names or not moves or not $when:
    return moves
name = min(names, key=lambda name: $key)
here = view.unit(name, view.incumbent.values[name])
values = {**view.incumbent.values, name: view.from_unit(name, $place)}
return moves if view.tried(values) else [moves[0].edit(values=values)]
""",
    ),
    Frame(
        "screen",
        "correct the value that the proposer gave a parameter",
        SHARED,
        (
            Hole(
                "when",
                "a condition on a changed parameter `name`: when to correct it",
                "abs(new - old) > 0.3",
            ),
            Hole(
                "place",
                "its corrected place, from 0 to 1",
                "(old + new) / 2",
            ),
        ),
        """
corrected = []
for draft in drafts:
    for name in view.changed(draft):
        if name not in names:
            continue
        old = view.unit(name, view.base(draft.move).values[name])
        new = view.unit(name, draft.values[name])
        if $when:
            values = {**draft.values, name: view.from_unit(name, $place)}
            if not view.tried(values):
                draft = draft.edit(values, "the rule's place")
    corrected.append(draft)
return corrected
""",
    ),
    Frame(
        "accept",
        "keep a trial that is not better, to go on from it",
        (STREAK, LEFT, NOISE),
        (
            Hole(
                "when",
                "a condition on a trial that is not better: when to keep it",
                "lost < noise",
            ),
        ),
        """
if keep or trial.score is None:
    return keep
lost = view.incumbent.score - trial.score
return bool($when)
""",
    ),
)


def names_of(frame: Frame) -> list[Local]:
    """What the expressions of a frame may use, those within a decision last."""
    inside = [PLACE] if "here =" in frame.body else [OLD, NEW] if frame.hook == "screen" else []
    return [*frame.locals, *inside, *([LOST] if frame.hook == "accept" else [])]
