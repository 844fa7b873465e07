"""Admits a mechanism's source to the stack, or refuses it in words that its author can act on.

In order: it parses and names only what is there, it loads behind the wall, it conforms on toys, it
decides something otherwise on this run's own record, it lets the search go on, and it does no
significant harm. What is judged, and what would be loaded, is the text whose sha is given.
"""

from __future__ import annotations

import ast
import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from bilevel.conformance.mechanism import check_mechanism
from bilevel.gate import objections
from bilevel.gate.free_names import parse
from bilevel.gate.mending import is_mechanism
from bilevel.gate.normalise import normalise
from bilevel.gate.probing import Trace, in_simulation, on_record
from bilevel.gate.vocabulary import misnamed
from bilevel.mechanism import Mechanism
from bilevel.model import Record, Run
from bilevel.sandbox import policy
from bilevel.sandbox.errors import MechanismError
from bilevel.sandbox.sandboxed import Sandbox, SandboxedMechanism
from bilevel.stack import Layer

Rule = Literal["parse", "load", "conformance", "influence", "search", "harm", ""]
Objection = tuple[Rule, str]
Layers = Callable[[], Sequence[Layer]]
WORDS = 600  # characters that an author is told
COSTLY = ("MechanismTimeout", "WorkerDied")  # faults that would cost as long on every toy

__all__ = ["Gate", "Rule", "Screened", "Verdict"]


class Screened(Protocol):
    """What a screening found: the gain with the layer over without, its interval, and in words."""

    @property
    def mean(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def harmful(self) -> bool: ...
    @property
    def words(self) -> str: ...


@dataclass(frozen=True)
class Verdict:
    """What became of a source.

    rule: the first that it broke, "" for none. words: for its author, what is wrong, the value
    seen, what to do. source: as it was judged; sha: of just that. name: of the class. figures:
    what was measured, by name; those of harm are there if it was screened.
    """

    rule: Rule
    words: str
    source: str
    sha: str
    name: str
    figures: Mapping[str, float]

    @property
    def admitted(self) -> bool:
        """Whether it may join the stack."""
        return self.rule == ""


@dataclass
class _Candidate:
    """A source on its way through the gate, and the layers that it would stand on."""

    source: str
    sha: str
    name: str = ""
    hooks: frozenset[str] = frozenset()
    top: Layer | None = None
    below: Sequence[Layer] = ()
    first: Mapping[str, str] = field(default_factory=dict)  # states before any call, by sha
    trace: Trace = field(default_factory=lambda: Trace("", ""))
    figures: dict[str, float] = field(default_factory=dict)

    def stand(self, top: Layer, below: Sequence[Layer]) -> None:
        """Take in the layers as they were made."""
        self.top, self.below = top, below
        self.first = {layer.sha: layer.mechanism._state() for layer in (*below, top)}

    def fresh(self) -> tuple[list[Layer], Layer]:
        """The layers below and it as a layer, as if none had been asked anything yet."""
        assert self.top is not None
        for layer in (*self.below, self.top):
            layer.mechanism._restore(self.first[layer.sha])
        return list(self.below), self.top

    def close(self) -> None:
        """End their workers."""
        for layer in (*self.below, *([self.top] if self.top else [])):
            if isinstance(layer.mechanism, SandboxedMechanism):
                layer.mechanism.close()


@dataclass(frozen=True)
class Gate:
    """Judges sources for one run.

    records: the run's history so far. layers: fresh ones of the stack as it is, whose workers the
    gate ends. screening: makes both stacks search a surrogate, without the layer and with it, one
    search after the other; None leaves that out. check: the suite that every mechanism passes.
    """

    run: Run
    records: Sequence[Record]
    layers: Layers
    sandbox: Sandbox
    screening: Callable[[Layers, Layers], Screened] | None = None
    check: Callable[[Callable[[], Mechanism]], Sequence[object]] = check_mechanism

    def judge(self, text: str) -> Verdict:
        """What becomes of a source as an LLM wrote it. Raises SandboxRefused without a wall."""
        source = normalise(text)
        made = _Candidate(source, hashlib.sha256(source.encode()).hexdigest())
        objection: Objection = ("", "")
        try:
            for stage in (
                self._parse, self._load, self._conforms, self._influences, self._searches,
                self._harms,
            ):  # fmt: skip
                objection = stage(made)
                if objection[0]:
                    break
        finally:
            made.close()
        rule, words = objection
        return Verdict(rule, _clipped(words), source, made.sha, made.name, made.figures)

    def _parse(self, made: _Candidate) -> Objection:
        if not made.source:
            return "parse", "there is no code; answer with one Python class and nothing else"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the source's own escapes
            problems = policy.lint(made.source)
            tree = parse(made.source)
            if tree is not None:
                _name(made, tree)
                problems += misnamed(made.source)
        if problems and not made.name and "class " not in made.source:
            problems.append("answer with one Python class and nothing else")
        return ("parse", "; ".join(problems)) if problems else ("", "")

    def _load(self, made: _Candidate) -> Objection:
        try:
            mechanism = self.sandbox.load(made.source)
        except MechanismError as error:
            return "load", f"it does not load: {error}"
        made.stand(Layer(made.sha, made.name, mechanism), self.layers())
        return "", ""

    def _conforms(self, made: _Candidate) -> Objection:
        if made.sha in {layer.sha for layer in made.below}:
            return "influence", f"{made.name} is on the stack already, letter for letter; change it"
        trace = made.trace = on_record(self.run, self.records, *made.fresh())
        _measure(made)
        words = objections.swells(trace)
        if trace.fault is not None and trace.fault.kind in COSTLY:
            words = objections.fault(trace)
        if not words:
            problems = self.check(lambda: self.sandbox.load(made.source))
            words = " / ".join(map(str, problems)) or objections.fault(trace)
        return _as("conformance", words)

    def _influences(self, made: _Candidate) -> Objection:
        return _as("influence", objections.inert(made.trace, made.hooks))

    def _searches(self, made: _Candidate) -> Objection:
        traces = [made.trace]
        if words := objections.kept_failure(made.trace) or objections.emptied(made.trace):
            return "search", words
        for freeze in (False, True):
            trace = in_simulation(self.run, self.records, *made.fresh(), freeze)
            traces.append(trace)
            words = objections.kept_failure(trace) or objections.emptied(trace)
            if words:
                return "search", words
            if trace.fault is not None:
                return "conformance", objections.fault(trace)
            if trace.idle >= objections.IDLE:
                bare = in_simulation(self.run, self.records, made.fresh()[0], None, freeze)
                if words := objections.runs_dry(trace, bare, self.run):
                    return "search", words
        return _as("search", objections.frozen(traces))

    def _harms(self, made: _Candidate) -> Objection:
        if self.screening is None:
            return "", ""

        def including() -> list[Layer]:
            below, top = made.fresh()
            return [*below, top]

        found = self.screening(lambda: made.fresh()[0], including)
        made.figures |= {"harm_mean": found.mean, "harm_low": found.low, "harm_high": found.high}
        return ("harm", found.words) if found.harmful else ("", "")


def _as(rule: Rule, words: str) -> Objection:
    return (rule, words) if words else ("", "")


def _name(made: _Candidate, tree: ast.Module) -> None:
    """Notes the class's name and the hooks that it overrides."""
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef)]
    made.name = next((c.name for c in classes if is_mechanism(c)), "")
    methods = (n for c in classes for n in c.body if isinstance(n, ast.FunctionDef))
    made.hooks = frozenset(n.name for n in methods) & policy.HOOKS.keys()


def _measure(made: _Candidate) -> None:
    """Figures of what it did on the record: decisions asked and changed, time, state."""
    own = [d for d in made.trace.decisions if d.hook in made.hooks]
    moved = [d for d in own if objections.effective(made.trace, d)]
    made.figures |= {"decisions": float(len(own)), "changed": float(len(moved))}
    for hook in sorted(made.hooks):
        made.figures[f"{hook}_asked"] = float(sum(d.hook == hook for d in own))
        made.figures[f"{hook}_changed"] = float(sum(d.hook == hook for d in moved))
    if own:
        made.figures["influence"] = len(moved) / len(own)
        made.figures["ms_p95"] = _p95([d.ms for d in own])
        made.figures["state_bytes"] = float(max(len(d.state) for d in own))


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[-(-95 * len(values) // 100) - 1]


def _clipped(words: str) -> str:
    """At most WORDS characters, cut after a word."""
    if len(words) <= WORDS:
        return words
    return f"{words[: WORDS - 4].rpartition(' ')[0]} ..."
