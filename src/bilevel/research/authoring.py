"""Asks the LLM for a mechanism's source: several ways, each a prompt of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bilevel.mechanism import View
from bilevel.model import MechanismSource, Message, Prompt
from bilevel.prompts import render
from bilevel.research.frames import FRAMES, Frame, Local, names_of
from bilevel.sessions import Way
from bilevel.steering_words import plain

IMPORTS = (
    "from bilevel.mechanism import Mechanism, View\nfrom bilevel.model import Draft, Move, Trial"
)
SIGNATURES = {
    "plan": "def plan(self, view: View, moves: list[Move]) -> list[Move]:",
    "screen": "def screen(self, view: View, drafts: list[Draft]) -> list[Draft]:",
    "accept": "def accept(self, view: View, trial: Trial, keep: bool) -> bool:",
}
LANGUAGE = (
    "abs",
    "min",
    "max",
    "sum",
    "len",
    "any",
    "all",
    "and",
    "or",
    "not",
    "for",
    "in",
    "name",
)
MARKS = "[-+*/%()<>=!,. 0-9]"
LONGEST = 50  # words and marks of an expression
NAME = "^[A-Z][a-z]{2,9}[A-Z][a-z]{2,9}$"  # two words written as one
TAKEN = ("Mechanism", "View", "Draft", "Move", "Trial", "None", "True", "False")
RETURNS = {
    "plan": "the list of moves, for example `[m.edit(focus=(name,)) for m in moves]`",
    "screen": "a list of some of the drafts, best first",
    "accept": "True to keep the trial as the new incumbent, else `keep`",
}


@dataclass(frozen=True)
class Specification:
    """What the third round fixed, before any code. frame: without holes where it is told freely."""

    name: str
    idea: str
    frame: Frame
    condition: str

    def text(self) -> str:
        """The same in a sentence, for people and for the record of mechanisms."""
        return f"{self.idea} ({self.frame.does}; when: {self.condition})"


def specification_schema(may: Sequence[str], does: str = "") -> dict[str, Any]:
    """JSON schema of the third round: what the mechanism does is one of the frames.

    may: what those on offer do. does: of the rule that was chosen, whose condition then stands; ""
    for none.
    """
    condition = {"condition": text_of(100)}
    return object_of(
        does={"enum": [one for one in may if does in ("", one)]},
        **({} if does else condition),
        idea=text_of(140),
        name={"type": "string", "pattern": NAME},
    )


def class_specification_schema() -> dict[str, Any]:
    """JSON schema of the third round where a class is to be written: hook, statistic and rule."""
    return object_of(
        hook={"enum": list(SIGNATURES)},
        statistic=text_of(300),
        rule=text_of(400),
        idea=text_of(200),
        name={"type": "string", "pattern": NAME},
    )


def parse_specification(text: str, when: str = "") -> Specification | None:
    """The specification in a reply, of either schema; None when it is none.

    when: the condition of the rule that was chosen; "" takes the reply's.
    """
    try:
        reply = json.loads(text)
    except json.JSONDecodeError:
        return None
    if not isinstance(reply, dict):
        return None
    fields = ("name", "idea", "does", *(() if when else ("condition",)))
    if reply.get("hook") in list(SIGNATURES):  # which a list or an object may be, unhashable
        fields = ("name", "idea", "hook", "statistic", "rule")
    if not all(isinstance(reply.get(f), str) for f in fields):
        return None
    said = {f: plain(reply[f]) for f in fields}
    if "hook" in said:
        frames = [Frame(reply["hook"], _quiet(said["rule"]), (), (), "")]
    else:
        frames = [frame for frame in FRAMES if frame.does == said["does"]]
    if not frames:
        return None
    condition = _quiet(when or said["condition"]) if "does" in said else _quiet(said["statistic"])
    return Specification(_class_name(said["name"]), _quiet(said["idea"]), frames[0], condition)


def text_of(most: int) -> dict[str, Any]:
    """JSON schema of a text of 8 to so many characters."""
    return {"type": "string", "minLength": 8, "maxLength": most}


def object_of(**properties: Any) -> dict[str, Any]:
    """JSON schema of an object that has just these keys."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _class_name(text: str) -> str:
    words = re.findall(r"[A-Za-z0-9]+", text)
    name = "".join(w[:1].upper() + w[1:] for w in words)
    return name if name[:1].isalpha() and name not in TAKEN else f"Rule{name}"


def _quiet(text: str) -> str:
    """One line that can stand in a docstring."""
    return " ".join(text.replace('"', "'").replace("\\", "/").split()).rstrip(".")


def skeleton(spec: Specification) -> str:
    """The class up to the decision: the hook, what it may look at, and what is to be written."""
    frame = spec.frame
    code = "\n".join(local.code for local in frame.locals if local.code)
    lines = [
        *IMPORTS.splitlines(),
        "",
        "",
        f"class {spec.name}(Mechanism):",
        f'    """{spec.idea}"""',
        "",
        f"    {SIGNATURES[frame.hook]}",
        *(f"        {line}" for line in code.splitlines()),
        f"        # {frame.does}, when: {spec.condition}",
    ]
    return "\n".join(lines)


def fill_schema(frame: Frame) -> dict[str, Any]:
    """JSON schema of a reply that fills in a frame: an expression a hole."""
    names = [re.escape(f"{n.name}[name]" if n.each else n.name) for n in names_of(frame)]
    words = "|".join([*names, *LANGUAGE])
    pattern = f"^({words}|[0-9(-])({words}|{MARKS}){{0,{LONGEST}}}$"
    return object_of(**{h.name: {"type": "string", "pattern": pattern} for h in frame.holes})


def assembled(spec: Specification, reply: str) -> str:
    """The source that a filled-in frame makes; the reply as it is where it fills in nothing."""
    try:
        filled = json.loads(reply)
    except json.JSONDecodeError:
        return reply
    names = [hole.name for hole in spec.frame.holes]
    if not isinstance(filled, dict) or not all(isinstance(filled.get(n), str) for n in names):
        return reply
    return spec.frame.source(spec.name, spec.idea, filled)


def fill(spec: Specification, view: View) -> list[Message]:
    """The talk that asks for the expressions of the specification's frame."""
    frame = spec.frame
    shown = {hole.name: f"<{hole.name}>" for hole in frame.holes}
    ask = render(
        "author_fill",
        idea=spec.idea,
        does=frame.does,
        condition=spec.condition,
        source=frame.source(spec.name, spec.idea, shown).strip(),
        locals="\n".join(_local(local, view) for local in names_of(frame)),
        holes="\n".join(f"- {h.name}: {h.meaning}." for h in frame.holes),
    )
    return [
        Message("system", render("author_system").strip()),
        Message("user", ask.strip()),
    ]


def _local(local: Local, view: View) -> str:
    now = "" if local.now is None else f"; now {json.dumps(local.now(view))}"
    return f"- {local.name}{'[name]' if local.each else ''}: {local.meaning}{now}"


def request(
    way: Way, spec: Specification, names: Sequence[str], known: Sequence[MechanismSource]
) -> list[Message]:
    """The talk that asks for a source in this way. known: admitted ones, best credit first."""
    task = render(
        "author_task",
        contract=render("contract").strip(),
        names=", ".join(names),
        idea=spec.idea,
        hook=spec.frame.hook,
        condition=spec.condition,
        does=spec.frame.does,
    )
    if way == "write":
        ask = render("author_write", name=spec.name, hook=spec.frame.hook)
    elif way == "complete":
        ask = render("author_complete", skeleton=skeleton(spec), returns=RETURNS[spec.frame.hook])
    elif way == "improve":
        ask = render(
            "author_improve",
            name=spec.name,
            source=known[0].source.strip(),
            record=known[0].rationale,
        )
    else:
        sources = [k.source.strip() for k in known[:2]]
        ask = render("author_combine", name=spec.name, source=sources[0], other=sources[1])
    return [
        Message("system", render("author_system").strip()),
        Message("user", f"{task.strip()}\n\n{ask.strip()}"),
    ]


def repair(
    talk: Sequence[Message], reply: str, words: str, *, refill: bool = False
) -> list[Message]:
    """The talk gone on with after a refusal. refill: expressions were asked for, not a class."""
    ask = render("author_refill" if refill else "author_repair", words=words).strip()
    return [*talk, Message("assistant", reply), Message("user", ask)]


def shorter(talk: Sequence[Message]) -> Iterator[Prompt]:
    """The talk without earlier refusals than the last, where there were any."""
    if len(talk) > 4:
        yield Prompt((*talk[:2], *talk[-2:]), f"{len(talk) // 2 - 2} earlier refusals left out")
