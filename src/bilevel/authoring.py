"""Asks the LLM for a mechanism's source: several ways, each a prompt of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bilevel.model import MechanismSource, Message
from bilevel.prompts import render
from bilevel.sessions import Way
from bilevel.steering_words import plain

HookName = Literal["plan", "screen", "accept"]
IMPORTS = (
    "from bilevel.mechanism import Mechanism, View\nfrom bilevel.model import Draft, Move, Trial"
)
SIGNATURES = {
    "plan": "def plan(self, view: View, moves: list[Move]) -> list[Move]:",
    "screen": "def screen(self, view: View, drafts: list[Draft]) -> list[Draft]:",
    "accept": "def accept(self, view: View, trial: Trial, keep: bool) -> bool:",
}
RETURNS = {
    "plan": "the list of moves, for example `[m.edit(focus=(name,)) for m in moves]`",
    "screen": "a list of some of the drafts, best first",
    "accept": "True to keep the trial as the new incumbent, else `keep`",
}
STATISTICS = {
    "tries of each parameter": "tries = {name: len(view.tries(name)) for name in view.open()}",
    "best gain of each parameter": (
        "gains = {\n"
        "    name: max((view.gain(t) or 0.0 for t in view.tries(name)), default=0.0)\n"
        "    for name in view.open()\n"
        "}"
    ),
    "evaluations since the last kept one": "streak = view.streak()",
    "how near a draft lies to earlier trials": (
        "nearest = {\n"
        "    draft.id: min(view.distance(draft.values, t.values) for t in view.trials)\n"
        "    for draft in drafts\n"
        "}"
    ),
    "how much a trial lost against the incumbent, in units of noise": (
        "noise = view.noise or 1e-9\n"
        "lost = 0.0\n"
        "if trial.score is not None:\n"
        "    lost = (view.incumbent.score - trial.score) / noise"
    ),
    "failed trials of each parameter": (
        "failed = {\n"
        "    name: sum(t.score is None for t in view.tries(name)) for name in view.open()\n"
        "}"
    ),
    "share of the budget that is left": ("left = view.left / (view.left + len(view.trials) - 1)"),
    "recent trials": "recent = view.trials[-5:]",
}
FITS: dict[str, tuple[HookName, ...]] = {
    "how near a draft lies to earlier trials": ("screen",),
    "how much a trial lost against the incumbent, in units of noise": ("accept",),
}


@dataclass(frozen=True)
class Specification:
    """What the third round fixed, before any code."""

    name: str
    idea: str
    hook: HookName
    statistic: str
    condition: str
    action: str

    def text(self) -> str:
        """The same in two sentences, for people and for the record of mechanisms."""
        return f"{self.idea} ({self.hook}: when {self.condition}: {self.action})"


def specification_schema() -> dict[str, Any]:
    """JSON schema of the third round: one alternative a hook, with the statistics that fit it."""
    return {"anyOf": [_alternative(hook) for hook in SIGNATURES]}


def _alternative(hook: str) -> dict[str, Any]:
    fitting = [s for s in STATISTICS if hook in FITS.get(s, tuple(SIGNATURES))]
    properties = {
        "hook": {"const": hook},
        "statistic": {"enum": fitting},
        "condition": {"type": "string", "minLength": 8, "maxLength": 120},
        "action": {"type": "string", "minLength": 8, "maxLength": 160},
        "idea": {"type": "string", "minLength": 8, "maxLength": 120},
        "name": {"type": "string", "minLength": 4, "maxLength": 24},
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def parse_specification(text: str) -> Specification | None:
    """The specification in a reply; None when it is none."""
    try:
        reply = json.loads(text)
    except json.JSONDecodeError:
        return None
    fields = ("name", "idea", "hook", "statistic", "condition", "action")
    if not isinstance(reply, dict) or not all(isinstance(reply.get(f), str) for f in fields):
        return None
    said: dict[str, Any] = {f: plain(reply[f]) for f in fields}
    if said["hook"] not in SIGNATURES or said["statistic"] not in STATISTICS:
        return None
    return Specification(_class_name(said["name"]), *(said[f] for f in fields[1:]))


def _class_name(text: str) -> str:
    words = re.findall(r"[A-Za-z0-9]+", text)
    name = "".join(w[:1].upper() + w[1:] for w in words)
    return name if name[:1].isalpha() else f"Rule{name}"


def skeleton(spec: Specification) -> str:
    """The class up to the decision: the hook, the statistic, and what is to be written."""
    lines = [
        *IMPORTS.splitlines(),
        "",
        "",
        f"class {spec.name}(Mechanism):",
        f'    """{_quiet(spec.idea)}"""',
        "",
        f"    {SIGNATURES[spec.hook]}",
        *(f"        {line}" for line in STATISTICS[spec.statistic].splitlines()),
        f"        # when {_quiet(spec.condition)}: {_quiet(spec.action)}",
    ]
    return "\n".join(lines)


def _quiet(text: str) -> str:
    return " ".join(text.replace('"', "'").replace("\\", "/").split()).rstrip(".")


def request(
    way: Way, spec: Specification, names: Sequence[str], known: Sequence[MechanismSource]
) -> list[Message]:
    """The talk that asks for a source in this way. known: admitted ones, best credit first."""
    task = render(
        "author_task",
        contract=render("contract").strip(),
        names=", ".join(names),
        idea=spec.idea,
        hook=spec.hook,
        statistic=spec.statistic,
        condition=spec.condition,
        action=spec.action,
    )
    if way == "write":
        ask = render("author_write", name=spec.name, hook=spec.hook)
    elif way == "complete":
        ask = render("author_complete", skeleton=skeleton(spec), returns=RETURNS[spec.hook])
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


def repair(talk: Sequence[Message], reply: str, words: str) -> list[Message]:
    """The talk gone on with after a refusal."""
    ask = render("author_repair", words=words).strip()
    return [*talk, Message("assistant", reply), Message("user", ask)]
