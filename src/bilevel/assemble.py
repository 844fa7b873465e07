"""Puts core and adapters together and conducts runs; the one file that knows both."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

from bilevel.budget.budget import Budget
from bilevel.budget.pacing import PacedEvaluator
from bilevel.budget.terms import Terms, clock, opened
from bilevel.engine import Edges, Layers, build
from bilevel.ensemble import Cast, Several
from bilevel.errors import ConfigError, ExecutorError, LLMError, OverBudget
from bilevel.evaluate import Evaluator
from bilevel.executors.local import LocalExecutor
from bilevel.library.records import collect
from bilevel.model import Call, Phase, Record, Run, Session, Stop, StopReason
from bilevel.planning import answers_here
from bilevel.protocols import LLM
from bilevel.replay import Replay, replay
from bilevel.research.beside import InTurn
from bilevel.sandbox.errors import SandboxError
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.scrubbing import Discreet, Scrubber, secrets_in
from bilevel.stacks import held_now, layers, needs_sandbox
from bilevel.tape.sharing import Sharing
from bilevel.tape.tape import Tape
from bilevel.tape.taped import taped
from bilevel.task_jobs import evaluator_of, find_task, fingerprint
from bilevel.workspace import Workspace


class Watcher(Protocol):
    """Told what happens while a run goes; decides nothing."""

    def phase(self, phase: Phase) -> None: ...

    def record(self, record: Record) -> None: ...


def conduct(
    workspace: Workspace,
    run: Run,
    llm: LLM,
    watcher: Watcher,
    sharing: Sharing | None = None,
    on: Terms | None = None,
) -> Stop:
    """Go on with a run until it ends, is interrupted, or cannot go on; the log says which.

    llm: the model that the run names; its owner closes it. sharing: what other runs were told and
    measured, which is not asked or measured again. on: limits and prices that change from here on.

    Raises RunBusy, and ConfigError when the task is no longer what the run began with, or the
    limits need a price that is not known.
    """
    task, _ = find_task(run.source)
    if fingerprint(task) != run.fingerprint:
        raise ConfigError(
            f"{run.source} has changed since {run.id} began, and its trials would no longer "
            "compare; restore it, or start a new run"
        )
    with workspace.store.writing(run.id), ExitStack() as closing:
        executor = LocalExecutor(workspace.folder(run.id) / "trials", slots=run.slots)
        closing.callback(executor.close)
        scrubber = Scrubber(secrets_in(os.environ))
        evaluator = Discreet(evaluator_of(task, executor), scrubber)
        run, opening = opened(workspace.store, run, on or Terms(), held_now(run))
        budget = Budget(run, workspace.records(run.id), clock(opening))
        edges = _edges(workspace, run, llm, watcher, evaluator, sharing, budget)
        if needs_sandbox(run):
            edges.sandbox = closing.enter_context(Sandbox.again(run.sandbox, run.allow_weak))
        loop = build(run, edges)
        try:
            stop = loop.go()
        except KeyboardInterrupt:
            stop = Stop(len(loop.history.proposals), "interrupted")
        except OverBudget as error:
            reason: StopReason = "wall" if error.limit == "wall" else "budget"
            stop = Stop(len(loop.history.proposals), reason, str(error))
        except (LLMError, ExecutorError, SandboxError) as error:
            stop = Stop(len(loop.history.proposals), "failed", scrubber.text(str(error)))
        else:
            if edges.sandbox is not None:
                collect(workspace.library, run, edges.records, edges.sandbox)
            return stop
        edges.log(stop)
        return stop


def _appending(
    workspace: Workspace, run: Run, watcher: Watcher, budget: Budget
) -> Callable[[Record], object]:
    def append(record: Record) -> None:
        workspace.store.append(run.id, record)
        budget.add(record)
        watcher.record(record)

    return append


def _edges(
    workspace: Workspace,
    run: Run,
    llm: LLM,
    watcher: Watcher,
    evaluator: Evaluator,
    sharing: Sharing | None,
    budget: Budget,
) -> Edges:
    records = workspace.records(run.id)
    append = _appending(workspace, run, watcher, budget)
    calls = [r for r in records if isinstance(r, Call)]
    landings: dict[int, int] = {}
    if run.tape:
        recorded, told = workspace.recording(run.tape)
        llm = taped(run, recorded, told, llm if run.mixed else None, calls)
        # What the loop asks depends on when a session lands, and the tape holds no more than that.
        landings = {r.step: r.holds_from for r in told if isinstance(r, Session)}
    if sharing is not None:
        evaluator = sharing.evaluator(evaluator)
        if isinstance(llm, Several):
            llm = llm.each(lambda name, one: sharing.llm(name, one, calls))
        else:
            llm = sharing.llm(run.llm, llm, calls)
    if run.outer.beside:
        llm = llm.each(_shared) if isinstance(llm, Several) else _shared(run.llm, llm)
    edges = Edges(
        tape=Tape(run.llm, llm, calls),
        evaluator=PacedEvaluator(evaluator, lambda: budget.late("job")),
        append=append,
        records=records,
        expired=budget.expired,
        watch=watcher.phase,
    )
    cast = Cast(run, edges.told)
    edges.tape = Tape(run.llm, llm, calls, edges.log, cast, budget)
    edges.layers = lambda: layers(run, edges.sandbox)
    if run.outer.beside:
        edges.room = lambda: _room(run)
        edges.landings = landings
    return edges


def _shared(name: str, llm: LLM) -> LLM:
    """A model that a session may ask while the loop does."""
    return InTurn(llm) if answers_here(name) else llm


@contextmanager
def _room(run: Run) -> Iterator[tuple[Sandbox, Layers]]:
    """A sandbox for one thread, and fresh layers in it."""
    with Sandbox.again(run.sandbox, run.allow_weak) as sandbox:
        yield sandbox, lambda: layers(run, sandbox)


def replayed(run: Run, records: Sequence[Record]) -> Replay:
    """A recorded run decided again, its generated code in a sandbox."""
    if not needs_sandbox(run):
        return replay(run, records, lambda: layers(run))
    with Sandbox.again(run.sandbox, run.allow_weak) as sandbox:
        return replay(run, records, lambda: layers(run, sandbox), sandbox)
