"""A run of three levels with a scripted LLM, whose sessions write a valid mechanism."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from bilevel.assemble import conduct
from bilevel.model import Layering, Message, OuterPlan, Phase, Record, Run
from bilevel.planning import Settings, begin
from bilevel.protocols import Schema
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.workspace import Workspace
from comparable import write_task
from worlds import Scripted, says

# Proposes a neighbour of the incumbent itself in every second step, and keeps ties.
SOURCE = '''\
from bilevel.mechanism import Mechanism
from bilevel.model import Move


class EverySecond(Mechanism):
    """A neighbour of the incumbent in every second step, without the LLM."""

    def plan(self, view, moves):
        start = view.incumbent.values
        near = [v for name in view.ranged() for v in view.neighbours(start, name)]
        new = [v for v in near if not view.tried(v)]
        if view.step % 2 or not new:
            return moves
        return [Move(parents=(view.incumbent.id,), values=view.rng.choice(new), tag="near")]
'''
BROKEN = "class Broken(Mechanism):\n    def plan(self, view, moves):\n        return ["
PLAN = OuterPlan(steering=True, research="on", every=2, cycles=2, candidates=1, screening=False)
FREEZES = ("diagnosis", "freeze", "unfreeze", "strategy", "guidance")


@dataclass
class ThreeLevels(Scripted):
    """An LLM for tests: a reply is a function of the request: its schema says which.

    sources: what it writes in turn, the last one again and again. dies_at: the call at which the
    user presses Ctrl-C, 0 for never.
    """

    reply: Callable[[Sequence[Message], int], str] = lambda messages, number: ""
    sources: Sequence[str] = (SOURCE,)
    dies_at: int = 0
    written: int = field(default=0, init=False)

    def answer(self, messages: Sequence[Message], schema: Schema | None, seed: int) -> str:
        if len(self.asked) == self.dies_at:
            raise KeyboardInterrupt
        return self._said(messages, json.dumps(schema), seed)

    def _said(self, messages: Sequence[Message], schema: str, seed: int) -> str:
        if '"wastes"' in schema:
            seen = ["BATCH was never tried alone", "no streak is long"]
            rule = {"when": {"counted": "steps", "number": 2}, "then": "look next door"}
            return json.dumps({"wastes": seen, "rule1": rule})
        if '"choice"' in schema:
            return json.dumps({"rules": [{"acts": "often", "risk": "it may circle"}], "choice": 1})
        if '"idea"' in schema:
            idea = {"idea": "Look next door now and then", "name": "EverySecond"}
            return json.dumps(_first(json.loads(schema)) | idea)
        if '"diagnosis"' in schema:
            wish = {"freeze": [], "unfreeze": [], "strategy": "explore"}
            said = {"diagnosis": "only RATE is tried", "guidance": "change something else"}
            return json.dumps({**said, **wish})
        if '"changes"' not in schema:
            repairs = sum(m.role == "assistant" for m in messages)
            return self.sources[min(repairs, len(self.sources) - 1)]
        if seed % 3 == 0:
            return says(BATCH=2 ** (8 + seed % 8))
        return says(RATE=round(0.02 + seed % 83 / 100, 2))


def _first(schema: Schema) -> dict[str, object]:
    """The first answer that an object's schema allows, its texts all the same."""
    schema = schema.get("anyOf", [schema])[0]
    return {
        name: kind.get("const", kind.get("enum", ["in every second step"])[0])
        for name, kind in schema["properties"].items()
    }


class Nobody:
    """A watcher that looks away."""

    def phase(self, phase: Phase) -> None:
        pass

    def record(self, record: Record) -> None:
        pass


@cache
def held() -> bool:
    """Whether this machine can lock generated code in; tests skip where it cannot."""
    with Sandbox() as sandbox:
        return sandbox.level() != "weak"


@cache
def recorded(sham: bool = False) -> tuple[Run, tuple[Record, ...]]:
    """A finished run of 8 evaluations: its first source is refused, repaired and admitted."""
    plan = replace(PLAN, research="sham") if sham else PLAN
    with TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / "state")
        settings = Settings(evals=8, llm="scripted", confirms=1, outer=plan)
        run = begin(workspace, write_task(Path(folder)), settings)
        conduct(workspace, run, ThreeLevels(sources=(BROKEN, SOURCE)), Nobody())
        return run, tuple(workspace.records(run.id))


def left() -> tuple[Run, tuple[Record, ...]]:
    """The same run, its mechanism taken out before a step that never came."""
    run, records = recorded()
    sha = next(r.sha for r in records if isinstance(r, Layering))
    out = Layering(99, sha, "remove", "it did\nharm")
    return run, (*records, out)
