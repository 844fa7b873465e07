"""A run of all three levels, in memory: a scripted LLM, sources that are trusted, a quick gate."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar
from zlib import crc32

import pytest

from bilevel import engine
from bilevel.errors import LLMUnavailable
from bilevel.gate.gate import Gate, Rule, Verdict
from bilevel.loop import Loop
from bilevel.mechanism import Mechanism
from bilevel.model import (
    Call,
    Message,
    Outcome,
    OuterPlan,
    Param,
    Record,
    Reply,
    Run,
    Space,
    Values,
)
from bilevel.protocols import Schema
from bilevel.replay import Replay, replay
from bilevel.research.authoring import specification_schema
from bilevel.research.frames import FRAMES
from bilevel.sandbox.errors import MechanismRaised
from bilevel.stack import Layer
from bilevel.tape.tape import Tape
from worlds import LOSS, Instant, Log, Scripted, edges, loss, says, walk

T = TypeVar("T")

PLAN = OuterPlan(
    steering=True, research="on", every=2, cycles=1, layers=2, candidates=2, repairs=1,
    screening=False,
)  # fmt: skip
SPACE = Space(
    (
        Param("RATE", "float", 0.1, low=0.001, high=1.0, log=True, doc="step size"),
        Param("BATCH", "int", 4096, low=256, high=65536, log=True, step=2),
        Param("PATTERN", "choice", "SSSL", choices=("SSSL", "SL", "L")),
        Param("WARMUP", "float", 0.0, low=0.0, high=1.0),
        Param("DECAY", "float", 0.1, low=0.0, high=1.0),
        Param("DEPTH", "int", 4, low=1, high=12),
    )
)
RUN = Run(
    "toy-1", "toy", SPACE, LOSS, "A toy.", seed=7, evals=9, confirms=1, llm="scripted", outer=PLAN
)

HEAD = """\
from bilevel.mechanism import Mechanism
from bilevel.model import Move


class Mine(Mechanism):
"""


def source(*lines: str) -> str:
    """A mechanism's source; the lines of its body from the first column on."""
    return HEAD + "".join(f"    {line}\n" for line in lines)


def notes(word: str) -> str:
    """Gives each move a note, and so changes every plan."""
    return source(
        "def plan(self, view, moves):", f"    return [m.edit(note={word!r}) for m in moves]"
    )


INERT = source("def plan(self, view, moves):", "    return [m for m in moves]")
NEVER_CALLED = source("def decide(self, view, moves):", "    return []")
FAULTY = source(
    "def plan(self, view, moves):", "    return [m.edit(note=view.trials[99].error) for m in moves]"
)
COUNTS = source(
    "def __init__(self):",
    "    self.seen = []",
    "def screen(self, view, drafts):",
    "    self.seen.append(view.step)",
    "    values = dict(drafts[0].values, WARMUP=len(self.seen) / 64)",
    "    return [drafts[0].edit(values, 'a little warmer')]",
)
KEEPS = source("def accept(self, view, trial, keep):", "    return trial.score is not None")
VALUES = source(
    "def plan(self, view, moves):",
    "    values = dict(view.space.defaults(), DECAY=view.rng.random())",
    "    return [Move(parents=(0,), values=values)]",
)


def fenced(text: str) -> str:
    """A source as an LLM gives it."""
    return f"```python\n{text}```"


def sha_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def steers(freeze: Sequence[str] = (), strategy: str = "explore") -> str:
    """A steering's JSON."""
    said = {"diagnosis": "It stands still.", "strategy": strategy, "guidance": "Try other names."}
    return json.dumps({**said, "freeze": list(freeze)})


def explored(remove: str = "") -> str:
    """The first round's JSON."""
    found = {"wastes": ["it repeats itself", "it stands still"], "rule1": {"then": "rest"}}
    return json.dumps({**found, "remove": remove} if remove else found)


def fitting(schema: Schema) -> Any:
    """The plainest value that a schema allows."""
    if "anyOf" in schema:
        return fitting(schema["anyOf"][0])
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if schema["type"] == "array":
        return [fitting(schema["items"])] * schema.get("minItems", 0)
    if schema["type"] == "object":
        return {name: fitting(part) for name, part in schema["properties"].items()}
    return "a few plain words"


def specified() -> str:
    """The third round's JSON."""
    said: dict[str, Any] = fitting(specification_schema([f.does for f in FRAMES]))
    return json.dumps({**said, "name": "Mine"})


def obliging(messages: Sequence[Message], schema: Schema) -> str:
    """A proposal that the schema allows, so that hardly a step goes by without an evaluation."""
    number = crc32(messages[-1].content.encode())
    options = schema["properties"]["changes"]["anyOf"][0]["items"]["anyOf"]
    chosen = options[number % len(options)]["properties"]
    value = chosen["value"]
    if "enum" in value:
        return says(**{chosen["name"]["const"]: value["enum"][number // 7 % len(value["enum"])]})
    ranges = value.get("anyOf", [value])
    value = ranges[number // 11 % len(ranges)]
    low, high = value["minimum"], value["maximum"]
    drawn = low + number / 2**32 * (high - low)
    return says(**{chosen["name"]["const"]: int(drawn) if value["type"] == "integer" else drawn})


def calm(values: Values, seed: int) -> Outcome:
    """The same on every seed: there is no noise, and nothing fails."""
    value = sum(abs(float(v) - 0.3) for v in values.values() if isinstance(v, float))
    value += int(values["BATCH"]) / 65536 + int(values["DEPTH"]) / 100
    return Outcome("ok", value, {"loss": value})


@dataclass
class Script:
    """What the LLM says at each level. sources: by session, what the author says by turn.

    A reply depends on the request alone: the purpose, the number of the session, the messages.
    """

    sources: Sequence[Sequence[str]] = ((notes("one"),), (notes("two"),), (notes("three"),))
    propose: Callable[[Sequence[Message], Schema], str] = lambda messages, _: walk(messages, 0)
    steer: str = steers()
    explore: Callable[[int], str] = lambda session: explored()
    specify: str | Callable[[Sequence[Message], Schema], str] = field(default_factory=specified)

    def say(
        self, purpose: str, session: int, messages: Sequence[Message], schema: Schema | None
    ) -> str:
        if purpose.startswith("steer"):
            return self.steer
        if purpose == "explore":
            return self.explore(session)
        if purpose == "critique":
            assert schema is not None
            return json.dumps(fitting(schema))
        if purpose == "specify":
            assert schema is not None
            return self.specify if isinstance(self.specify, str) else self.specify(messages, schema)
        if purpose.startswith(("generate", "repair ")):
            texts = self.sources[session % len(self.sources)]
            repaired = purpose.partition(".")[2]
            return fenced(texts[min(int(repaired or 0), len(texts) - 1)])
        assert schema is not None
        return self.propose(messages, schema)


@dataclass
class ScriptedLevels(Scripted):
    """A scripted LLM that is told what it is asked for; knows no more than the request.

    dies_at: number of the call that it does not answer, 0 for none.
    """

    reply: Callable[[Sequence[Message], int], str] = walk
    script: Script = field(default_factory=Script)
    purpose: str = ""
    session: int = 0
    dies_at: int = 0

    def answer(self, messages: Sequence[Message], schema: Schema | None, seed: int) -> str:
        if self.dies_at == len(self.asked):
            raise LLMUnavailable("no answer; try again later")
        return self.script.say(self.purpose, self.session, messages, schema)


class TellingTape(Tape):
    """Tells the scripted LLM the purpose of a request, and which session it belongs to."""

    def __init__(self, model: str, llm: Any, recorded: Sequence[Call] = (), *more: Any) -> None:
        super().__init__(model, llm, recorded, *more)
        self._sessions = {c.step for c in recorded if c.level == "2"}

    def complete(self, *args: Any, **named: Any) -> Reply:
        if named["level"] == "2":
            self._sessions.add(named["step"])
        assert isinstance(self._llm, ScriptedLevels)
        self._llm.purpose = named["purpose"]
        self._llm.session = sorted([*self._sessions, named["step"]]).index(named["step"])
        return super().complete(*args, **named)


@dataclass
class TrustedSandbox:
    """Runs sources in this process: for sources of tests only. broken: shas that do not load."""

    broken: set[str] = field(default_factory=set)
    loaded: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def load(self, text: str) -> Mechanism:
        if sha_of(text) in self.broken:
            raise MechanismRaised("ModuleNotFoundError: No module named 'sklearn'")
        space: dict[str, Any] = {}
        exec(compile(text, "mine", "exec"), space)
        found = [v for v in space.values() if isinstance(v, type) and v.__module__ == "builtins"]
        self.loaded.append(sha_of(text))
        kind = type("Trusted", (found[-1],), {"close": lambda _: self.closed.append(sha_of(text))})
        made: Mechanism = kind()
        return made


@dataclass
class QuickGate:
    """In the gate's place where the gate is not the point: refuses what says so.

    It is timed, and its words depend on the whole log but the calls, which a replay makes anew.
    """

    run: Run
    records: Sequence[Record]
    layers: Callable[[], Sequence[Layer]]
    sandbox: TrustedSandbox
    screening: object = None

    def judge(self, text: str) -> Verdict:
        text = text.removeprefix("```python\n").removesuffix("```")
        refused = text.startswith("refuse ")
        rule: Rule = "influence" if refused else ""
        figures = {"influence": 0.5, "ms_p95": time.perf_counter()}
        seen = sum(not isinstance(r, Call) for r in self.records)
        words = f"after {seen} records, say something else" if refused else ""
        return Verdict(rule, words, text, sha_of(text), "Mine", figures)


WHOLE = partial(Gate, check=lambda make: [])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate of runs is the quick one."""
    monkeypatch.setattr(engine, "Gate", QuickGate)


@pytest.fixture
def real_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate of runs is the real one, without the conformance on toys, which takes a second."""
    monkeypatch.setattr(engine, "Gate", WHOLE)


def levels(
    log: Log,
    script: Script | None = None,
    run: Run = RUN,
    sandbox: Any = None,
    llm: ScriptedLevels | None = None,
    measure: Callable[[Values, int], Outcome] = loss,
    layers: Callable[[], Sequence[Layer]] = tuple,
) -> Loop:
    """A loop with both outer levels over `log`."""
    llm = llm or ScriptedLevels(script=script or Script())
    made = edges(log, run, llm, Instant(run.slots, measure), layers, TellingTape)
    made.sandbox = TrustedSandbox() if sandbox is None else sandbox
    return engine.build(run, made)


def planned(run: Run = RUN, evals: int = RUN.evals, slots: int = 1, **outer: object) -> Run:
    """The run with changes of its outer plan."""
    plan = replace(run.outer, **outer)  # type: ignore[arg-type]
    return replace(run, evals=evals, slots=slots, outer=plan)


def recorded(script: Script | None = None, **changes: Any) -> Log:
    """The log of a whole run."""
    log = Log()
    levels(log, script, **changes).go()
    return log


def replayed(log: Sequence[Record], run: Run = RUN, **named: Any) -> Replay:
    """The run decided again, its sources in this process."""
    return replay(run, log, sandbox=named.pop("sandbox", None) or TrustedSandbox(), **named)


def of(log: Sequence[Record], kind: type[T]) -> list[T]:
    """The records of one kind."""
    return [r for r in log if isinstance(r, kind)]
