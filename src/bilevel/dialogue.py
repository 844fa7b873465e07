"""Level 2: four rounds with the LLM (explore, critique, specify, generate), then repair.

The rounds argue from the loop's own source, the stack's, and the whole trace. The class itself is
asked for in a short talk of its own, which begins the same in every session and so stays cached.
Each source goes to the gate; its refusal goes back in words, up to `repairs` times.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from bilevel import authoring
from bilevel.authoring import Specification
from bilevel.diagnostics import facts
from bilevel.frames import COUNTED, FRAMES
from bilevel.gate import Verdict
from bilevel.history import History
from bilevel.mechanism import View
from bilevel.merit import Known
from bilevel.model import Attempt, MechanismSource, Message, Run, Session
from bilevel.prompting import history_lines, parameter_line
from bilevel.prompts import render
from bilevel.seeds import derive
from bilevel.sessions import Way
from bilevel.tape import Tape

ROUND_TOKENS = 400
SOURCE_TOKENS = 700
RULES = 3
WAYS: tuple[Way, ...] = ("fill", "improve", "fill", "complete")


@dataclass(frozen=True)
class Researcher:
    """Holds the sessions of one run. judge: the gate, on the run's history as it is."""

    run: Run
    history: History
    tape: Tape
    judge: Callable[[str], Verdict]

    def hold(self, view: View, cycle: int, known: Sequence[Known]) -> Session:
        """One session, before step `view.step`. Raises LLMError only.

        known: mechanisms of this and of earlier runs, best credit first.
        """
        notes: dict[str, str] = {}
        talk = self._opening(view, known)
        removable = [k.source.name for k in known if k.stacked]
        for name, schema in (
            ("explore", _explore_schema(removable, derive(self.run.seed, "ways", cycle))),
            ("critique", _CRITIQUE),
            ("specify", authoring.specification_schema()),
        ):
            if name != "explore":
                talk = [*talk, Message("user", render(f"research_{name}").strip())]
            notes[name] = self._ask(talk, schema, view, cycle, name, ROUND_TOKENS)
            talk = [*talk, Message("assistant", notes[name])]
        spec = authoring.parse_specification(notes["specify"])
        attempts = [] if spec is None else self._generate(view, cycle, spec, known)
        admitted = attempts[-1].sha if attempts and not attempts[-1].rule else ""
        return Session(
            step=view.step,
            cycle=cycle,
            notes=notes,
            attempts=tuple(attempts),
            admitted=admitted,
            removed=_removed(notes["explore"], known),
            sham=self.run.outer.research == "sham",
        )

    def _opening(self, view: View, known: Sequence[Known]) -> list[Message]:
        objective = self.run.objective
        stack = [k.source.source.strip() for k in known if k.stacked]
        domains = render("research_domains").rstrip() if self.run.outer.domains == "hint" else ""
        text = render(
            "research_explore",
            contract=render("contract").strip(),
            loop=(resources.files("bilevel") / "loop.py").read_text(encoding="utf-8").strip(),
            stack="\n\n".join(stack) or "none; the loop keeps what is strictly better",
            record="\n".join(f"- {k.source.name}: {k.record}" for k in known) or "none yet",
            metric=objective.metric,
            goal="low" if objective.direction == "min" else "high",
            brief=self.run.brief.strip(),
            parameters="\n".join(parameter_line(p) for p in view.space),
            trace="\n".join(history_lines(objective, self.history)),
            facts="\n".join(f"- {line}" for line in facts(self.history, view, objective)),
            domains=domains,
        )
        return [Message("system", render("research_system").strip()), Message("user", text.strip())]

    def _generate(
        self, view: View, cycle: int, spec: Specification, known: Sequence[Known]
    ) -> list[Attempt]:
        """Attempts until one is admitted; the last one is that, or none is."""
        attempts: list[Attempt] = []
        sources = [k.source for k in known]
        for turn in range(self.run.outer.candidates):
            way = _way(turn, len(sources))
            talk, schema = _request(way, spec, view, sources)
            for repair in range(self.run.outer.repairs + 1):
                purpose = f"generate {turn}" if not repair else f"repair {turn}.{repair}"
                reply = self._ask(talk, schema, view, cycle, purpose, SOURCE_TOKENS)
                verdict = self.judge(authoring.assembled(spec, reply) if schema else reply)
                made = _attempt(way, reply, verdict, sources)
                attempts.append(replace(made, way="repair") if repair else made)
                if verdict.admitted:
                    return attempts
                if verdict.rule == "harm":
                    break
                talk = authoring.repair(talk, reply, verdict.words, refill=schema is not None)
        return attempts

    def _ask(
        self,
        talk: Sequence[Message],
        schema: dict[str, Any] | None,
        view: View,
        cycle: int,
        purpose: str,
        max_tokens: int,
    ) -> str:
        reply = self.tape.complete(
            talk,
            schema,
            seed=derive(self.run.seed, "research", cycle, purpose),
            max_tokens=max_tokens,
            step=view.step,
            level="2",
            purpose=purpose,
        )
        return reply.text


def _way(turn: int, known: int) -> Way:
    """How the turn-th source is asked for; with nothing to build on a frame is filled."""
    way = WAYS[turn % len(WAYS)]
    if way == "improve":
        return "combine" if known > 1 else "improve" if known else "fill"
    return way


def _request(
    way: Way, spec: Specification, view: View, sources: Sequence[MechanismSource]
) -> tuple[list[Message], dict[str, Any] | None]:
    if way == "fill":
        return authoring.fill(spec, view), authoring.fill_schema(spec.frame)
    return authoring.request(way, spec, view.open(), sources), None


def _attempt(
    way: Way, written: str, verdict: Verdict, sources: Sequence[MechanismSource]
) -> Attempt:
    count = {"improve": 1, "combine": 2}.get(way, 0)
    return Attempt(
        way=way,
        written=written,
        source=verdict.source,
        sha=verdict.sha,
        name=verdict.name,
        rule=verdict.rule,
        words=verdict.words,
        figures=verdict.figures,
        parents=tuple(s.sha for s in sources[:count]),
    )


def _removed(explored: str, known: Sequence[Known]) -> Mapping[str, str]:
    """By sha, the layer that the session asked to be taken out; of one name, the least credited."""
    try:
        reply = json.loads(explored)
    except json.JSONDecodeError:
        return {}
    name = reply.get("remove", "") if isinstance(reply, dict) else ""
    named = [k.source.sha for k in known if k.stacked and k.source.name == name]
    return dict.fromkeys(named[-1:], "a session of Level 2 asked for it")


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _text(most: int) -> dict[str, Any]:
    return {"type": "string", "minLength": 8, "maxLength": most}


def _explore_schema(removable: Sequence[str], seed: int) -> dict[str, Any]:
    """Three rules that each act another way; which ways each may take is drawn by the seed."""
    does = [frame.does for frame in FRAMES]
    random.Random(seed).shuffle(does)
    rules = {
        f"rule{i + 1}": _object(when=_CONDITION, then={"enum": does[i::RULES]}, why=_text(100))
        for i in range(RULES)
    }
    remove = {"remove": {"enum": ["", *removable]}} if removable else {}
    return _object(wastes=_list(_text(120), 2), **rules, **remove)


def _list(items: dict[str, Any], count: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": count, "maxItems": count}


_CONDITION = {
    "anyOf": [
        _object(
            counted={"const": counted},
            compared={"enum": ["above", "below"]},
            number={"type": "integer", "minimum": low, "maximum": high},
        )
        for counted, (low, high) in COUNTED.items()
    ]
}
_CRITIQUE = _object(
    rules=_list(_object(acts=_text(60), risk=_text(80)), RULES),
    choice={"enum": [*range(1, RULES + 1)]},
)
