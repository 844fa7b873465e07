"""The two manners in which a session of Level 2 makes a mechanism: by frames, or as classes.

Frames: small models fail at bookkeeping long before they fail at a rule. What a rule counts and
does is chosen from lists, and only the expressions of a frame are written. Classes: the rule is
free, and the model writes the whole class, any hook, any memory.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bilevel.mechanism import View
from bilevel.model import Session, Space
from bilevel.research.authoring import (
    class_specification_schema,
    object_of,
    specification_schema,
    text_of,
)
from bilevel.research.counting import COUNTED, observed
from bilevel.research.frames import able, serving
from bilevel.sessions import Way

RULES = 3
Schema = dict[str, Any]


@dataclass(frozen=True)
class Chosen:
    """Of the rule that the critique chose: what it does, one of the frames, and when, in words."""

    does: str = ""
    when: str = ""


@dataclass(frozen=True)
class Manner:
    """What each round is held to.

    writes: its name. ways: how sources are asked for, in turn; one that builds on admitted ones is
    the first of them where there are none yet.

    explore: by the view, the mechanisms that may be removed, and a seed. specify: by the rule that
    was chosen and the space. ask: prompt of the third round. round_tokens, source_tokens: the most
    of a reply.
    """

    writes: Literal["frames", "classes"]
    explore: Callable[[View, Sequence[str], int], Schema]
    critique: Schema
    specify: Callable[[Chosen, Space], Schema]
    ask: str
    ways: tuple[Way, ...]
    round_tokens: int
    source_tokens: int

    def way(self, turn: int, known: int) -> Way:
        """How the turn-th source is asked for. known: admitted mechanisms to build on."""
        way = self.ways[turn % len(self.ways)]
        if way == "improve":
            return "combine" if known > 1 else "improve" if known else self.ways[0]
        return way


def manner(writes: str, held: Sequence[Session]) -> Manner:
    """Frames, or classes for as long as every session of the run so far admitted one."""
    free = writes == "classes" and all(session.admitted for session in held)
    return CLASSES if free else FRAMES


def chosen(notes: Mapping[str, str]) -> Chosen:
    """The rule that was chosen among counted ones; an empty one where it is told freely."""
    try:
        rules = json.loads(notes.get("explore", ""))
        choice = json.loads(notes.get("critique", ""))["choice"]
        rule = rules[f"rule{choice}"]
        when = rule["when"]
        code = COUNTED[when["counted"]].code
        words = f"{when['counted']}, `{code}`, is {when['compared']} {when['number']}"
        return Chosen(str(rule["then"]), words)
    except (json.JSONDecodeError, KeyError, TypeError):
        return Chosen()


def _explore(rules: Sequence[Schema], waste: int, removable: Sequence[str]) -> Schema:
    named = {f"rule{i}": rule for i, rule in enumerate(rules, 1)}
    remove = {"remove": {"enum": ["", *removable]}} if removable else {}
    return object_of(wastes=_list(text_of(waste), 2), **named, **remove)


def _counted(view: View, removable: Sequence[str], seed: int) -> Schema:
    """Three rules that each count and do something else; what each may is drawn by the seed.

    A small model left free writes the same rule three times.
    """
    spans, rng = observed(view), random.Random(seed)
    counted, does = list(spans), [frame.does for frame in able(view.space)]
    rng.shuffle(counted)
    rng.shuffle(does)
    pairs = [(what, deed) for what in counted for deed in does if deed in _served(what)]
    rules = []
    for i in range(RULES):
        own = [p for p in pairs if p[0] in counted[i::RULES] and p[1] in does[i::RULES]]
        own = own or [p for p in pairs if p[1] in does[i::RULES]] or pairs
        may = {what: [deed for w, deed in own if w == what] for what, _ in own}
        rules.append({"anyOf": [_rule(what, *spans[what], deeds) for what, deeds in may.items()]})
    return _explore(rules, 120, removable)


def _served(counted: str) -> list[str]:
    return [frame.does for frame in serving(counted)]


def _rule(counted: str, low: int, high: int, does: Sequence[str]) -> Schema:
    """A rule on what is counted, compared with a number on whose both sides this trace has been."""
    above = {"type": "integer", "minimum": low, "maximum": high - 1}
    below = {"type": "integer", "minimum": low + 1, "maximum": high}
    when = [
        object_of(counted={"const": counted}, compared={"const": compared}, number=number)
        for compared, number in (("above", above), ("below", below))
    ]
    return object_of(when={"anyOf": when}, then={"enum": [*does]}, why=text_of(100))


def _free(view: View, removable: Sequence[str], seed: int) -> Schema:
    rule = object_of(when=text_of(300), then=text_of(400), why=text_of(300))
    return _explore([rule] * RULES, 300, removable)


def _critique(acts: int, risk: int) -> Schema:
    judged = object_of(acts=text_of(acts), risk=text_of(risk))
    return object_of(rules=_list(judged, RULES), choice={"enum": [*range(1, RULES + 1)]})


def _list(items: Schema, count: int) -> Schema:
    return {"type": "array", "items": items, "minItems": count, "maxItems": count}


FRAMES = Manner(
    writes="frames",
    explore=_counted,
    critique=_critique(60, 80),
    specify=lambda rule, space: specification_schema(
        [frame.does for frame in able(space)], rule.does
    ),
    ask="research_specify",
    ways=("fill", "improve", "fill", "complete"),
    round_tokens=400,
    source_tokens=700,
)
CLASSES = Manner(
    writes="classes",
    explore=_free,
    critique=_critique(300, 300),
    specify=lambda rule, space: class_specification_schema(),
    ask="research_specify_class",
    ways=("write", "improve", "write", "complete"),
    round_tokens=1500,
    source_tokens=2500,
)
