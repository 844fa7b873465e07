"""What the proposer shows the LLM, laid out for prompt caching.

What never changes comes first (system, task, parameters), then the history, which only grows,
then what changes with each step. Text that came out of a job is quoted and cut.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

from bilevel.fences import below, fenced
from bilevel.history import History
from bilevel.mechanism import View
from bilevel.model import (
    Message,
    Move,
    Objective,
    Param,
    Prompt,
    Refusal,
    Space,
    Trial,
    Value,
    Values,
)
from bilevel.offers import open_names
from bilevel.prompts import render
from bilevel.steering_words import plain

HISTORY_LINES = 60
SHORTER = (30, 12, 4)  # lines in their place, one after the other, where a prompt was too long
BLOCKS = 3  # a third of the lines leaves at a time
FINE = 1e-3
ERROR_CHARS = 160
UNTRIED_SHOWN = 3
WHY = ', and "hypothesis", at most 12 words why that should help'


def messages(
    brief: str,
    objective: Objective,
    history: History,
    view: View,
    move: Move,
    most: int = HISTORY_LINES,
    hypotheses: bool = True,
) -> list[Message]:
    """System and user message for one proposal.

    most: lines of history. hypotheses: whether the proposal says why it should help.
    """
    base = view.base(move)
    task = task_text(brief, objective, view)
    ask = render(
        "propose_ask",
        start=_start(objective, view, move, base),
        base=base.id,
        facts="".join(line + "\n" for line in _facts(objective, view, move)),
    )
    lines = "\n".join(history_lines(objective, history, move.since, most))
    return [
        system(hypotheses),
        Message("user", f"{task}{lines}\n{ask}".strip()),
    ]


def system(hypotheses: bool = True) -> Message:
    """What every prompt of Levels 1 and 1.5 begins with, the same in all of a run."""
    return Message("system", render("propose_system", why=WHY if hypotheses else "").strip())


def task_text(brief: str, objective: Objective, view: View) -> str:
    """What every prompt of a run begins with: the task, its parameters, its goal, its noise."""
    return render(
        "propose_task",
        brief=brief.strip(),
        parameters="\n".join(parameter_line(p) for p in view.space),
        metric=objective.metric,
        goal="low" if objective.direction == "min" else "high",
        noise=f" Differences under {view.noise:.2g} are noise." if view.noise else "",
    )


def parameter_line(param: Param) -> str:
    """One parameter as the LLM reads it: name, type, range or choices, default, doc."""
    if param.kind == "choice":
        rule = "one of " + ", ".join(param.show(c) for c in param.choices)
    elif param.grid(most=8):
        rule = f"{param.kind}, one of " + ", ".join(param.show(v) for v in param.grid(most=8))
    elif param.kind == "text":
        rule = "text"
    else:
        low, high = (param.show(v) if v is not None else "any" for v in (param.low, param.high))
        rule = f"{param.kind}, {low} to {high}" + (", log scale" if param.log else "")
    doc = f" ({param.doc})" if param.doc else ""
    if param.multiline:
        return f"{param.name}: {rule}{doc}, default:\n{fenced(param.name, str(param.default))}"
    return f"{param.name}: {rule}, default {param.show(param.default)}{doc}"


def history_lines(
    objective: Objective, history: History, since: int = 0, most: int = HISTORY_LINES
) -> list[str]:
    """One line a trial and a refusal, oldest first; long histories lose discarded ones in blocks.

    since: id of the first trial to show, besides the baseline. most: lines from which on some are
    left out; where fewer are asked for than usual, no more than these stay, whatever was kept.

    Whole blocks leave at a time, so that the text before them changes, and a server's prompt
    cache is lost, once in a block and not at every step.
    """
    entries = _entries(objective, history, since)
    lines = _remaining(entries, most)
    left_out = len(entries) - len(lines)
    which = "older discarded ones" if most == HISTORY_LINES else "older and discarded ones"
    return [f"({left_out} {which} left out)", *lines] if left_out else lines


def shortened(
    objective: Objective,
    history: History,
    talk: Callable[[int], Sequence[Message]],
    since: int = 0,
) -> Iterator[Prompt]:
    """The prompts to ask where one is too long, each with less history; none where all is short.

    talk: the prompt with so many lines of it.
    """
    entries = _entries(objective, history, since)
    for most in SHORTER:
        shown = len(_remaining(entries, most))
        if shown < len(entries):
            cut = f"history cut to {shown} of {len(entries)} lines"
            yield Prompt(tuple(talk(most)), cut)


def _remaining(entries: Sequence[tuple[str, bool]], most: int) -> list[str]:
    """The lines to show: the oldest discarded go first, and of kept ones only what must."""
    block, over = most // BLOCKS, len(entries) - most
    drop = 0 if over <= 0 else -(-over // block) * block
    left = [entry for i, entry in enumerate(entries) if i >= drop or entry[1]]
    excess = len(left) - most if most < HISTORY_LINES else 0
    first = sorted(range(len(left)), key=lambda i: left[i][1])[: max(0, excess)]
    return [line for i, (line, _) in enumerate(left) if i not in first]


def _entries(objective: Objective, history: History, since: int) -> list[tuple[str, bool]]:
    """Each trial and refusal as its line and whether it was kept, in order."""
    by_step: dict[int, list[tuple[str, bool]]] = {}
    before = [t.draft.step for t in history.trials[:since] if t.draft is not None]
    first = max(before, default=-1) + 1
    for refusal in history.refusals():
        if refusal.step < first:
            continue
        by_step.setdefault(refusal.step, []).append((_refusal_line(history, refusal), False))
    for trial in history.search():
        if 0 < trial.id < since:
            continue
        step = -1 if trial.draft is None else trial.draft.step
        line = _trial_line(objective, history, trial)
        by_step.setdefault(step, []).append((line, trial.kept))
    return [entry for step in sorted(by_step) for entry in by_step[step]]


def _trial_line(objective: Objective, history: History, trial: Trial) -> str:
    if trial.draft is None:
        return f"#{trial.id} all defaults: {_metric(objective, trial)}"
    base = _parent(history, trial)
    space = history.space
    change = _change(space, base.values, trial.values)
    texts = below(space, space.changed(base.values, trial.values), trial.values)
    return f"#{trial.id} {change}: {_result(objective, history, trial, base)}{texts}"


def _result(objective: Objective, history: History, trial: Trial, base: Trial) -> str:
    """What came of it; of other metrics those that moved, and where it leads from if it was kept.

    A configuration stands where it was kept, and not at the end of each prompt, as text before the
    end is read by a server but once.
    """
    if trial.score is None:
        error = " ".join(trial.error.split())[:ERROR_CHARS]
        return f"{trial.status}, output says {json.dumps(error)}"
    gain = trial.score - base.score if base.score is not None else 0.0
    if gain == 0.0:
        verdict = f"as #{base.id}"
    else:
        size = figure(abs(gain), trial.score, base.score)
        verdict = f"{size} {'better' if gain > 0 else 'worse'} than #{base.id}"
    defaults = history.space.defaults()
    kept = ", kept" if trial.kept else ""
    if kept and history.space.changed(defaults, base.values):
        kept += f" ({_against_default(history.space, trial.values)})"
    also = [said for said in _also(objective, trial) if said not in _also(objective, base)]
    return ", ".join([_score(objective, trial), *also, verdict]) + kept


def _refusal_line(history: History, refusal: Refusal) -> str:
    if refusal.values is None:
        return f"refused: {refusal.reason}"
    before = _base_values(history, refusal.move)
    return f"refused {_change(history.space, before, refusal.values)}: {refusal.reason}"


def _parent(history: History, trial: Trial) -> Trial:
    assert trial.draft is not None
    parents = trial.draft.move.parents
    return history.trials[parents[0]] if parents else history.trials[0]


def _base_values(history: History, move: Move) -> Values:
    return history.trials[move.parents[0] if move.parents else 0].values


def _change(space: Space, before: Values, after: Values) -> str:
    names = space.changed(before, after)
    return ", ".join(change_text(space[n], before[n], after[n]) for n in names) or "nothing"


def change_text(param: Param, before: Value, after: Value) -> str:
    """`NAME 0.04 -> 0.06`, or `NAME edited` of texts of several lines."""
    if param.multiline:
        return f"{param.name} edited"
    return f"{param.name} {param.show(before)} -> {param.show(after)}"


def _start(objective: Objective, view: View, move: Move, base: Trial) -> str:
    """Where a proposal starts from; spelled out unless it is what was kept last, and is shown."""
    what = "Best so far is" if base.id == view.best.id else "Start from"
    shown = base.id == 0 or base.id >= move.since
    last = shown and base.id == max(t.id for t in view.trials if t.kept)
    values = "" if last else f": {_against_default(view.space, base.values)}"
    texts = "" if last else _edited_texts(view.space, base.values)
    return f"{what} #{base.id}, {_score(objective, base)}{values}.{texts}"


def _against_default(space: Space, values: Values) -> str:
    names = space.changed(space.defaults(), values)
    changed = ", ".join(
        f"{n} edited" if space[n].multiline else f"{n}={space[n].show(values[n])}" for n in names
    )
    return f"the defaults but {changed}" if changed else "the defaults"


def _edited_texts(space: Space, values: Values) -> str:
    return below(space, space.changed(space.defaults(), values), values)


def _score(objective: Objective, trial: Trial) -> str:
    return trial.status if trial.score is None else figure(objective.value(trial.score))


def figure(value: float, *beside: float | None, sign: str = "") -> str:
    """A score, or a difference of scores, as the LLM reads it: four decimals.

    Four significant digits where these say little: where it is not 0, and it and the scores beside
    it, for a difference those it is of, are all below FINE. sign: "+" to write that as well.
    """
    size = max(abs(v) for v in (value, *beside) if v is not None)
    return f"{value:{sign}.4g}" if value and size < FINE else f"{value:{sign}.4f}"


def _metric(objective: Objective, trial: Trial) -> str:
    if trial.score is None:
        return trial.status
    return ", ".join([f"{objective.metric} {_score(objective, trial)}", *_also(objective, trial)])


def _also(objective: Objective, trial: Trial) -> list[str]:
    """The other metrics that the task wants shown."""
    return [f"{n} {trial.metrics[n]:g}" for n in objective.shown if n in trial.metrics]


def _facts(objective: Objective, view: View, move: Move) -> Sequence[str]:
    facts = []
    names = open_names(view, move)
    for other in (t for t in view.trials if t.id in move.parents[1:]):
        what = _against_default(view.space, other.values)
        texts = _edited_texts(view.space, other.values)
        facts.append(f"Also good: #{other.id} with {_metric(objective, other)}, {what}.{texts}")
    closed = [n for n in view.space.names if n not in names]
    if len(closed) > len(names):
        facts.append(f"Only these may change: {', '.join(names)}.")
    elif closed:
        facts.append(f"Not to be changed now: {', '.join(closed)}.")
    tried = {n for t in view.trials for n in view.space.changed(view.trials[0].values, t.values)}
    untried = [n for n in names if n not in tried]
    if untried and not closed and len(untried) < len(names):
        facts.append(f"Never tried: {', '.join(untried[:UNTRIED_SHOWN])}.")
    if view.guidance:
        facts.append(f"Guidance: {view.guidance}")
    if move.note:
        facts.append(f"Advice: {plain(move.note)}")
    return facts
