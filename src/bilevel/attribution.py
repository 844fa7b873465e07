"""What each layer did to a recorded run: what it changed, and what would differ without it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from bilevel.budget.budget import limited
from bilevel.history import History, seed_index
from bilevel.loop import first_move
from bilevel.mechanism import View
from bilevel.model import (
    Ask,
    Call,
    Decision,
    Denial,
    Draft,
    Fault,
    Layering,
    MechanismSource,
    Move,
    Opening,
    Proposal,
    Record,
    Run,
    Trial,
)
from bilevel.seeds import generator
from bilevel.stack import Hook, Layer, Stack

Load = Callable[[MechanismSource], Layer]


@dataclass(frozen=True)
class Influence:
    """Decisions that a layer was asked for at one hook, and those that it changed."""

    layer: str
    hook: Hook
    asked: int
    changed: int


@dataclass(frozen=True)
class Credit:
    """Decisions of the whole stack that would differ without one layer, of all that were made."""

    layer: str
    decisions: int
    different: int


def influence(records: Sequence[Record]) -> list[Influence]:
    """Each layer's influence by hook, in order of appearance; zero changed means inert."""
    decisions = [r for r in records if isinstance(r, Decision)]
    asked = Counter((d.layer, d.hook) for d in decisions)
    changed = Counter((d.layer, d.hook) for d in decisions if d.before != d.after)
    return [Influence(layer, hook, n, changed[layer, hook]) for (layer, hook), n in asked.items()]


def leave_one_out(
    run: Run,
    records: Sequence[Record],
    layers: Callable[[], Sequence[Layer]],
    load: Load | None = None,
) -> list[Credit]:
    """For each layer, the recorded decisions that the others alone would not have taken.

    layers: makes fresh ones of the stack that the run began with. load: makes those that joined
    later. Every decision is taken again from the run's own history up to it, so that one
    difference does not hide those that follow.
    """
    joined = [r.sha for r in records if isinstance(r, Layering) and r.action == "add"]
    credits = []
    for sha in dict.fromkeys([*(layer.sha for layer in layers()), *joined]):
        same = redecide(run, records, layers(), load, without=sha)
        credits.append(Credit(sha, len(same), same.count(False)))
    return credits


def redecide(
    run: Run,
    records: Sequence[Record],
    layers: Sequence[Layer],
    load: Load | None = None,
    *,
    without: str = "",
) -> list[bool]:
    """Whether these layers decide each recorded plan, screening and acceptance the same way.

    load: makes the layers that joined during the run. without: sha of one to leave out.
    """
    stack = Stack([x for x in layers if x.sha != without], run.seed, lambda _: None)
    same = list[bool]()
    sources = {r.sha: r for r in records if isinstance(r, MechanismSource)}
    late, leaving = _late(records), ""
    for record, view, history in moments(run, records):
        if isinstance(record, Proposal):
            same.append(_plans(stack, view, record))
            stack.layers = [x for x in stack.layers if x.sha != leaving]
            same.append(_screens(stack, view, record, history))
            leaving = ""
        elif isinstance(record, Trial):
            same.append(accept(stack, view, record) == record.kept)
        elif record in late:
            leaving = record.sha
        elif record.action == "remove":
            stack.layers = [x for x in stack.layers if x.sha != record.sha]
        elif record.sha != without:
            assert load is not None, "a layer joined during the run; give `load` to make it"
            stack.layers.append(load(sources[record.sha]))
    return same


def _late(records: Sequence[Record]) -> list[Record]:
    """Removals for a fault in `screen`: after their step's plan, and logged before its proposal."""
    # Calls of a session beside the loop come anywhere between two records of the loop's.
    decided = [r for r in records if not isinstance(r, Call | Ask | Denial)]
    return [
        after
        for before, after in pairwise(decided)
        if isinstance(before, Fault) and before.hook == "screen" and isinstance(after, Layering)
    ]


def moments(
    run: Run, records: Sequence[Record]
) -> Iterator[tuple[Proposal | Trial | Layering, View, History]]:
    """Each proposal, search trial and change of layers, with what was known just before it."""
    history = History(run.space)
    for record in records:
        if isinstance(record, Opening):
            run = limited(run, record.limits)
        elif isinstance(record, Proposal):
            yield record, _view(run, history, record.step), history
        elif isinstance(record, Trial) and record.role == "search":
            yield record, _view(run, history, len(history.proposals) - 1), history
        elif isinstance(record, Layering):
            yield record, _view(run, history, record.step), history
        history.add(record)


def plan(stack: Stack, view: View) -> list[Move]:
    """What the stack makes of the loop's own move."""
    return stack.plan(view, [first_move(view)])


def accept(stack: Stack, view: View, trial: Trial) -> bool:
    """What the stack makes of greedy's answer."""
    assert view.incumbent.score is not None
    better = trial.score is not None and trial.score > view.incumbent.score
    return stack.accept(view, replace(trial, kept=False), better and seed_index(trial) == 0)


def unedited(draft: Draft) -> Draft:
    """The draft as it was proposed."""
    return replace(draft, values=draft.edits[0].before, edits=()) if draft.edits else draft


def _view(run: Run, history: History, step: int) -> View:
    left = run.evals - history.evaluated()
    rng = generator(run.seed, "loop", step)
    return history.view(step=step, slots=run.slots, left=left, rng=rng)


def _plans(stack: Stack, view: View, proposal: Proposal) -> bool:
    return plan(stack, view) == list(proposal.moves)


def _screens(stack: Stack, view: View, proposal: Proposal, history: History) -> bool:
    drafts = [unedited(d) for d in proposal.drafts]
    chosen = history.fresh(stack.screen(view, drafts) if drafts else [])
    recorded = {d.id: d for d in proposal.drafts}
    return chosen[: view.left] == [recorded[i] for i in proposal.queue]
