"""What each layer did to a recorded run: what it changed, and what would differ without it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bilevel.history import History, seed_index
from bilevel.mechanism import View
from bilevel.model import Decision, Draft, Move, Proposal, Record, Run, Trial
from bilevel.seeds import generator
from bilevel.stack import Hook, Layer, Stack


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
    run: Run, records: Sequence[Record], layers: Callable[[], Sequence[Layer]]
) -> list[Credit]:
    """For each layer, the recorded decisions that the others alone would not have taken.

    layers: makes fresh ones of the run's stack. Every decision is taken again from the run's own
    history up to it, so that one difference does not hide those that follow.
    """
    credits = []
    for index, layer in enumerate(layers()):
        others = list(layers())
        del others[index]
        same = redecide(run, records, others)
        credits.append(Credit(layer.sha, len(same), same.count(False)))
    return credits


def redecide(run: Run, records: Sequence[Record], layers: Sequence[Layer]) -> list[bool]:
    """Whether these layers decide each recorded plan, screening and acceptance the same way."""
    history, same = History(run.space), list[bool]()
    stack = Stack(layers, run.seed, lambda _: None)
    for record in records:
        if isinstance(record, Proposal):
            view = _view(run, history, record.step)
            same += [_plans(stack, view, record), _screens(stack, view, record, history)]
        elif isinstance(record, Trial) and record.role == "search":
            view = _view(run, history, len(history.proposals) - 1)
            same.append(_accepts(stack, view, record) == record.kept)
        history.add(record)
    return same


def _view(run: Run, history: History, step: int) -> View:
    left = run.evals - history.evaluated()
    rng = generator(run.seed, "loop", step)
    return history.view(step=step, slots=run.slots, left=left, rng=rng)


def _plans(stack: Stack, view: View, proposal: Proposal) -> bool:
    return stack.plan(view, [Move(parents=(view.incumbent.id,))]) == list(proposal.moves)


def _screens(stack: Stack, view: View, proposal: Proposal, history: History) -> bool:
    drafts = [_unedited(d) for d in proposal.drafts]
    chosen = history.fresh(stack.screen(view, drafts) if drafts else [])
    recorded = {d.id: d for d in proposal.drafts}
    return chosen[: view.left] == [recorded[i] for i in proposal.queue]


def _unedited(draft: Draft) -> Draft:
    return replace(draft, values=draft.edits[0].before, edits=()) if draft.edits else draft


def _accepts(stack: Stack, view: View, trial: Trial) -> bool:
    assert view.incumbent.score is not None
    better = trial.score is not None and trial.score > view.incumbent.score
    return stack.accept(view, replace(trial, kept=False), better and seed_index(trial) == 0)
