"""Frames of mechanisms: a hook with its bookkeeping written, and holes for the rule itself.

A small LLM fails at the bookkeeping (bounds, scales, empty lists, types of answers) long before it
fails at the rule. A frame names what the rule may look at, and the LLM writes the expressions.
"""

from __future__ import annotations

import math
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
class Counted:
    """What a condition may count. local: the name it needs; code: the same as an expression; seen:
    the values that it has had up to now."""

    local: str
    code: str
    seen: Callable[[View], list[float]]


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


def streaks(view: View) -> list[float]:
    """After each evaluation, the number of evaluations since the last kept one."""
    counts, running = [], 0
    for trial in view.trials[1:]:
        running = 0 if trial.kept else running + 1
        counts.append(float(running))
    return counts


def losses(view: View) -> list[float]:
    """What trials lost against where they started, below 0 each; failed ones have none."""
    gains = (view.gain(trial) for trial in view.trials[1:])
    return [gain for gain in gains if gain is not None and gain < 0]


COUNTED = {
    "evaluations since the last kept one": Counted("streak", "streak", streaks),
    "how often one parameter was changed": Counted(
        "tries", "tries[name]", lambda v: [len(v.tries(n)) for n in v.space.names]
    ),
    "best gain of one parameter, in units of noise": Counted(
        "gains",
        "gains[name] / noise",
        lambda v: [v.best_gain(n) / (v.noise or 1e-9) for n in v.space.names],
    ),
    "evaluations since one parameter was changed": Counted(
        "age", "age[name]", lambda v: [v.age(n) for n in v.space.names]
    ),
    "percent of the budget that is left": Counted(
        "left", "100 * left", lambda v: [0.0, 100 * v.left / max(1, v.left + len(v.trials) - 1)]
    ),
    "how much worse a trial is than the incumbent, in units of noise": Counted(
        "lost", "lost / noise", lambda v: [-g / (v.noise or 1e-9) for g in losses(v)]
    ),
}  # what a rule's condition may count, in words
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

WHEN = Hole("when", "a condition: whether the rule applies to the parameter `name` now")
KEY = Hole(
    "key",
    "a number for each parameter `name`: of those the rule applies to, the one with the lowest "
    "number is taken",
)
SHARED = (STREAK, LEFT, NAMES, TRIES, GAINS, AGE, NOISE)

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
)


def names_of(frame: Frame) -> list[Local]:
    """What the expressions of a frame may use, those within a decision last."""
    inside = {"plan": [], "screen": [OLD, NEW], "accept": [LOST]}
    return [*frame.locals, *inside[frame.hook]]


def observed(view: View) -> dict[str, tuple[int, int]]:
    """By what is counted, between which whole numbers it has been; only what has varied.

    A number in between separates cases that this run has met, so a rule on it can act and rest.
    Nothing is counted in units of noise where there is none.
    """
    fit = {what: counted for what, counted in COUNTED.items() if view.noise or "noise" not in what}
    seen = {what: counted.seen(view) for what, counted in fit.items()}
    spans = {w: (math.floor(min(v)), math.ceil(max(v))) for w, v in seen.items() if v}
    return {what: (low, high) for what, (low, high) in spans.items() if low < high}


def serving(counted: str) -> list[Frame]:
    """The frames that can count this, a key of COUNTED."""
    local = COUNTED[counted].local
    return [frame for frame in FRAMES if local in {name.name for name in names_of(frame)}]
