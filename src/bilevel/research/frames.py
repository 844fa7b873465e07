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
from bilevel.model import Space
from bilevel.research.counting import COUNTED

HookName = Literal["plan", "screen", "accept"]


@dataclass(frozen=True)
class Local:
    """A name that an expression may use. code: how a frame defines it; now: its value in a view,
    None where it exists within a decision only. each: whether it holds a number a parameter."""

    name: str
    meaning: str
    code: str
    now: Callable[[View], object] | None = None
    each: bool = False


@dataclass(frozen=True)
class Hole:
    """An expression to write, and what it is. No form is given: a small LLM hands in the form."""

    name: str
    meaning: str


@dataclass(frozen=True)
class Frame:
    """One way for a mechanism to act. does: for the specification. body: Python, holes as $name.

    acts: in which spaces it can change a decision at all.
    """

    hook: HookName
    does: str
    locals: tuple[Local, ...]
    holes: tuple[Hole, ...]
    body: str
    acts: Callable[[Space], bool] = lambda space: True

    def source(self, name: str, idea: str, filled: Mapping[str, str]) -> str:
        """The class with its holes filled in; each expression in parentheses."""
        holes = {hole.name: f"({' '.join(filled[hole.name].split())})" for hole in self.holes}
        rule = Template(self.body.strip("\n")).substitute(holes)
        used = set(re.findall(r"\w+", rule))
        body = "\n".join([*(local.code for local in self.locals if local.name in used), rule])
        indented = "\n".join(f"        {line}" for line in body.splitlines())
        return TEXT.format(name=name, idea=idea, arguments=ARGUMENTS[self.hook], body=indented)


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
    "how often the parameter `name` was changed",
    "tries = {name: len(view.tries(name)) for name in view.space.names}",
    lambda v: {n: len(v.tries(n)) for n in v.space.names},
    each=True,
)
GAINS = Local(
    "gains",
    "best gain of changing `name`: below 0 if all changes lost, 0 if never changed",
    "gains = {name: view.best_gain(name) for name in view.space.names}",
    lambda v: {n: round(v.best_gain(n), 4) for n in v.space.names},
    each=True,
)
AGE = Local(
    "age",
    "evaluations since `name` was last changed",
    "age = {name: view.age(name) for name in view.space.names}",
    lambda v: {n: v.age(n) for n in v.space.names},
    each=True,
)
NOISE = Local(
    "noise",
    "spread of one measurement; gains are large or small against it",
    "noise = view.noise or 1e-9",
    lambda v: round(v.noise or 1e-9, 6),
)
OLD = Local("old", "the place of its value before, from 0 (lowest) to 1 (highest)", "")
NEW = Local("new", "the place that the proposal gives it, from 0 to 1", "")
LOST = Local("lost", "how much worse than the incumbent it is; below 0 if better", "")
BEHIND = Local("behind", "how much worse than the best trial it is, 0 for the best", "")
USED = Local("used", "how many trials started from it", "")
SINCE = Local("since", "evaluations since it was evaluated", "")

WHEN = Hole("when", "a condition: whether the rule applies to the parameter `name` now")
KEY = Hole(
    "key",
    "a number for each parameter `name`: of those the rule applies to, the one with the lowest "
    "number is taken",
)
SHARED = (STREAK, LEFT, NAMES, TRIES, GAINS, AGE, NOISE)


def several(space: Space) -> bool:
    """Whether there are parameters to choose among."""
    return len(space) > 1


def placed(space: Space) -> bool:
    """Whether a parameter has places between bounds, as numbers and choices have and texts not."""
    return any(p.kind == "choice" or None not in (p.low, p.high) for p in space)


FRAMES = (
    Frame(
        "plan",
        "let the proposer change one parameter only, which the rule chooses",
        SHARED,
        (WHEN, KEY),
        """
fitting = [name for name in names if $when]
if not fitting:
    return moves
name = min(fitting, key=lambda name: $key)
return [move.edit(focus=(name,)) for move in moves]
""",
        several,
    ),
    Frame(
        "plan",
        "close some parameters to the proposer for a while",
        SHARED,
        (WHEN,),
        """
focus = tuple(name for name in names if not $when)
return [move.edit(focus=focus) for move in moves] if focus else moves
""",
        several,
    ),
    Frame(
        "plan",
        "set one parameter by the rule itself, without the proposer",
        SHARED,
        (
            WHEN,
            KEY,
            Hole("step", "how far the parameter goes, a share of its range: -0.25 to 0.25, not 0"),
        ),
        """
fitting = [name for name in names if $when]
if not fitting or not moves:
    return moves
name = min(fitting, key=lambda name: $key)
step = min(0.25, max(-0.25, $step))
place = min(1.0, max(0.0, view.unit(name, view.incumbent.values[name]) + step))
values = {**view.incumbent.values, name: view.from_unit(name, place)}
return moves if view.tried(values) else [moves[0].edit(values=values)]
""",
        placed,
    ),
    Frame(
        "screen",
        "correct the value that the proposer gave a parameter",
        SHARED,
        (
            WHEN,
            Hole("share", "the share of its change to make: 1 all of it, 0.5 half, 2 twice; not 1"),
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
            place = min(1.0, max(0.0, old + (new - old) * $share))
            values = {**draft.values, name: view.from_unit(name, place)}
            if not view.tried(values):
                draft = draft.edit(values, "the rule's place")
    corrected.append(draft)
return corrected
""",
        placed,
    ),
    Frame(
        "accept",
        "keep a trial that is not better, to go on from it",
        (STREAK, LEFT, NOISE),
        (Hole("when", "a condition on a trial that is not better: when to keep it"),),
        """
if keep or trial.score is None:
    return keep
lost = view.incumbent.score - trial.score
return bool($when)
""",
    ),
    Frame(
        "plan",
        "start the next proposal from another trial, which the rule chooses",
        (STREAK, LEFT, NOISE),
        (
            Hole("when", "a condition: whether the rule applies now"),
            Hole("key", "a number for each trial: the one with the lowest number is taken"),
        ),
        """
if not $when:
    return moves
ranks = {}
for trial in view.scored():
    behind = view.best.score - trial.score
    used = sum(t.draft is not None and trial.id in t.draft.move.parents[:1] for t in view.trials)
    since = sum(t.id > trial.id for t in view.trials)
    ranks[trial.id] = $key
return [move.edit(parents=(min(ranks, key=ranks.get),)) for move in moves]
""",
        lambda space: not placed(space),
    ),
)


def names_of(frame: Frame) -> list[Local]:
    """What the expressions of a frame may use, those within a decision last."""
    inside = [x for x in (OLD, NEW, LOST, BEHIND, USED, SINCE) if f"{x.name} = " in frame.body]
    return [*frame.locals, *inside]


def able(space: Space) -> list[Frame]:
    """The frames that can change a decision where these are the parameters."""
    return [frame for frame in FRAMES if frame.acts(space)]


def serving(counted: str) -> list[Frame]:
    """The frames that can count this, a key of COUNTED."""
    local = COUNTED[counted].local
    return [frame for frame in FRAMES if local in {name.name for name in names_of(frame)}]
