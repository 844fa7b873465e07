"""A mechanism on top of a stack, tried on the run's own record and in a short simulated run."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bilevel.attribution import accept, moments, plan, unedited
from bilevel.conformance.toy_run import Drawing
from bilevel.evaluate import Evaluated
from bilevel.history import History
from bilevel.loop import Loop
from bilevel.mechanism import View
from bilevel.model import (
    Decision,
    Draft,
    Fault,
    Layering,
    Move,
    Objective,
    Outcome,
    Proposal,
    Record,
    Run,
    Space,
    Steering,
    Trial,
    Value,
    Values,
)
from bilevel.seeds import generator
from bilevel.stack import Act, Layer, Stack
from bilevel.tape.tape import Tape

STEPS = 20  # of a simulated run
FAILING = 8  # one of so many simulated configurations crashes
FROZEN = 3  # one of so many parameters may not change in the run that freezes some


class _Faulty(Exception):
    pass


@dataclass
class Trace:
    """What one layer did.

    where: in words. views: of plans, by step. trials: that were accepted or not, by id, and their
    incumbents. fault: its first, at which all ended. idle: steps at the end that led to no
    evaluation, refusal: why the last that had none did not.
    """

    sha: str
    where: str
    decisions: list[Decision] = field(default_factory=list)
    views: dict[int, View] = field(default_factory=dict)
    trials: dict[int, Trial] = field(default_factory=dict)
    incumbents: dict[int, Trial] = field(default_factory=dict)
    fault: Fault | None = None
    idle: int = 0
    refusal: str = ""

    def log(self, record: Act) -> None:
        """Takes in what the layer did; raises at its first fault."""
        if isinstance(record, Decision) and record.layer == self.sha:
            self.decisions.append(record)
        elif isinstance(record, Fault) and record.layer == self.sha:
            self.fault = record
            raise _Faulty


def on_record(run: Run, records: Sequence[Record], layers: Sequence[Layer], top: Layer) -> Trace:
    """What `top` makes of each recorded plan, screening and acceptance, the layers below it.

    Tags that it plans are on the drafts that it then screens, as they would have been.
    """
    trace = Trace(top.sha, "this run's record")
    stack = Stack([*layers, top], run.seed, trace.log)
    try:
        for record, view, _ in moments(run, records):
            if isinstance(record, Proposal):
                trace.views[view.step] = view
                moves = plan(stack, view)
                drafts = [_tagged(unedited(d), record.moves, moves) for d in record.drafts]
                if drafts:
                    stack.screen(view, drafts)
            elif isinstance(record, Trial):
                trace.trials[record.id] = record
                trace.incumbents[record.id] = view.incumbent
                accept(stack, view, record)
    except _Faulty:
        pass
    return trace


def _tagged(draft: Draft, before: Sequence[Move], after: Sequence[Move]) -> Draft:
    """The draft under the tag that its move has now, if it still is one for the LLM."""
    at = before.index(draft.move) if draft.move in before else len(after)
    if at < len(after) and after[at].values is None and draft.move.values is None:
        return replace(draft, move=replace(draft.move, tag=after[at].tag))
    return draft


def in_simulation(
    run: Run, records: Sequence[Record], layers: Sequence[Layer], top: Layer | None, freeze: bool
) -> Trace:
    """What `top` does in a short run on the same space, with an LLM that draws at random.

    Scores begin at those of the run's baseline, have their size, and get better and worse about
    equally often; some configurations crash. freeze: whether some parameters are frozen.
    """
    trace = Trace(top.sha if top else "", "a simulated run")
    log: list[Record] = []

    def append(record: Record) -> None:
        log.append(record)
        if isinstance(record, Trial):
            trace.trials[record.id] = record
        elif isinstance(record, Decision | Fault | Layering):
            trace.log(record)

    baselines = [r for r in records if isinstance(r, Trial) and r.role == "baseline"][:2]
    history = History(run.space, [replace(t, id=i) for i, t in enumerate(baselines)])
    frozen = run.space.names[::FROZEN] if freeze and len(run.space) >= FROZEN else ()
    history.add(Steering(frozen))
    simulated = replace(run, evals=STEPS * run.slots, confirms=0)
    loop = Loop(
        run=simulated,
        objective=run.objective,
        history=history,
        proposer=Drawing("", run.objective, Tape("", None), run.seed),
        evaluator=_Landscape(run, records),
        stack=Stack([*layers, *([top] if top else [])], run.seed, append),
        append=append,
    )
    with contextlib.suppress(_Faulty):
        _walk(loop, trace)
    return trace


def _walk(loop: Loop, trace: Trace) -> None:
    for _ in range(STEPS):
        if loop.history.evaluated() >= loop.run.evals:
            break
        loop.step()
        trace.idle = loop.history.idle_steps()
    refusals = loop.history.refusals()
    trace.refusal = refusals[-1].reason if refusals else ""


class _Landscape:
    """Scores by the distance from a point drawn at random, in a spread like that of the run."""

    def __init__(self, run: Run, records: Sequence[Record]) -> None:
        self.slots = run.slots
        self._objective: Objective = run.objective
        self._space: Space = run.space
        self._start = self._space.key(run.space.defaults())
        self._target = {n: generator(run.seed, "landscape", n).random() for n in run.space.names}
        scores = [r.score for r in records if isinstance(r, Trial) and r.score is not None]
        self._base = scores[0]
        self._spread = max(scores) - min(scores) or 1.0
        self._far = self._distance(run.space.defaults())
        self._done: list[Evaluated] = []

    def start(self, key: int, values: Values, seed: int) -> None:
        identity = self._space.key(values)
        if identity != self._start and zlib.crc32(identity.encode()) % FAILING == 0:
            outcome = Outcome("crash", None, error="RuntimeError: out of memory")
        else:
            better = (self._far - self._distance(values)) * self._spread
            value = self._objective.value(self._base + better)
            outcome = Outcome("ok", value, {self._objective.metric: value})
        self._done.append(Evaluated(key, outcome, 1.0))

    def finished(self) -> list[Evaluated]:
        done, self._done = self._done, []
        return done

    def _distance(self, values: Values) -> float:
        """Sum over the parameters of how far each is from the target, in [0, 1] each."""
        places = {n: self._place(n, values[n]) for n in self._space.names}
        return sum(abs(places[n] - self._target[n]) for n in places)

    def _place(self, name: str, value: Value) -> float:
        """Where a value lies in its range; what has no range lies anywhere."""
        param = self._space[name]
        if param.kind == "choice" or isinstance(value, str) or None in (param.low, param.high):
            return zlib.crc32(f"{name} {value!r}".encode()) % 1000 / 1000
        low, high = param.bounds
        return (float(value) - low) / (high - low or 1.0)
