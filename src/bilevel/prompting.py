"""What the proposer shows the LLM, laid out for prompt caching.

What never changes comes first (system, task, parameters), then the history, which only grows,
then what changes with each step. Text that came out of a job is quoted and cut.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from bilevel.history import History
from bilevel.mechanism import View
from bilevel.model import Message, Move, Objective, Param, Refusal, Trial, Value, Values
from bilevel.offers import open_names
from bilevel.prompts import render
from bilevel.space import Space
from bilevel.steering_words import plain

HISTORY_LINES = 60
HISTORY_BLOCK = 20
ERROR_CHARS = 160
UNTRIED_SHOWN = 5


def messages(
    brief: str, objective: Objective, history: History, view: View, move: Move
) -> list[Message]:
    """System and user message for one proposal."""
    base = view.base(move)
    task = task_text(brief, objective, view.space)
    ask = render(
        "propose_ask",
        incumbent=base.id,
        score=_metric(objective, base),
        changed=_against_default(view, base.values),
        facts="".join(line + "\n" for line in _facts(objective, view, move)),
        metric=objective.metric,
        better="lower" if objective.direction == "min" else "higher",
    )
    lines = "\n".join(history_lines(objective, history, move.since))
    return [
        Message("system", render("propose_system").strip()),
        Message("user", f"{task}{lines}\n{ask}".strip()),
    ]


def task_text(brief: str, objective: Objective, space: Space) -> str:
    """What every prompt of a run begins with: the task, its parameters, its goal."""
    return render(
        "propose_task",
        brief=brief.strip(),
        parameters="\n".join(parameter_line(p) for p in space),
        metric=objective.metric,
        goal="low" if objective.direction == "min" else "high",
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
    return f"{param.name}: {rule}, default {param.show(param.default)}{doc}"


def history_lines(objective: Objective, history: History, since: int = 0) -> list[str]:
    """One line a trial and a refusal, oldest first; long histories lose discarded ones in blocks.

    since: id of the first trial to show, besides the baseline.

    Whole blocks leave at a time, so that the text before them changes, and a server's prompt
    cache is lost, once in a block and not at every step.
    """
    entries = _entries(objective, history, since)
    over = len(entries) - HISTORY_LINES
    drop = 0 if over <= 0 else -(-over // HISTORY_BLOCK) * HISTORY_BLOCK
    lines = [line for i, (line, kept) in enumerate(entries) if i >= drop or kept]
    left_out = len(entries) - len(lines)
    return [f"({left_out} older discarded ones left out)", *lines] if left_out else lines


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
    change = _change(history, _base_values(history, trial.draft.move), trial.values)
    return f"#{trial.id} {change}: {_result(objective, history, trial)}"


def _result(objective: Objective, history: History, trial: Trial) -> str:
    if trial.score is None:
        error = " ".join(trial.error.split())[:ERROR_CHARS]
        return f"{trial.status}, output says {json.dumps(error)}"
    base = _parent(history, trial)
    gain = trial.score - base.score if base.score is not None else 0.0
    if gain == 0.0:
        verdict = f"as #{base.id}"
    else:
        verdict = f"{abs(gain):.4f} {'better' if gain > 0 else 'worse'} than #{base.id}"
    kept = ", kept" if trial.kept else ""
    return f"{_metric(objective, trial)}, {verdict}{kept}"


def _refusal_line(history: History, refusal: Refusal) -> str:
    if refusal.values is None:
        return f"refused: {refusal.reason}"
    before = _base_values(history, refusal.move)
    return f"refused {_change(history, before, refusal.values)}: {refusal.reason}"


def _parent(history: History, trial: Trial) -> Trial:
    assert trial.draft is not None
    parents = trial.draft.move.parents
    return history.trials[parents[0]] if parents else history.trials[0]


def _base_values(history: History, move: Move) -> Values:
    return history.trials[move.parents[0] if move.parents else 0].values


def _change(history: History, before: Values, after: Values) -> str:
    names = history.space.changed(before, after)
    return ", ".join(change_text(history.space[n], before[n], after[n]) for n in names) or "nothing"


def change_text(param: Param, before: Value, after: Value) -> str:
    """`NAME 0.04 -> 0.06`."""
    return f"{param.name} {param.show(before)} -> {param.show(after)}"


def _against_default(view: View, values: Values) -> str:
    names = view.space.changed(view.space.defaults(), values)
    changed = ", ".join(f"{n}={view.space[n].show(values[n])}" for n in names)
    return f"the defaults but {changed}" if changed else "the defaults"


def _metric(objective: Objective, trial: Trial) -> str:
    if trial.score is None:
        return trial.status
    also = "".join(f", {n} {trial.metrics[n]:g}" for n in objective.shown if n in trial.metrics)
    return f"{objective.metric} {objective.value(trial.score):.4f}{also}"


def _facts(objective: Objective, view: View, move: Move) -> Sequence[str]:
    facts = []
    names = open_names(view, move)
    for other in (t for t in view.trials if t.id in move.parents[1:]):
        text = _against_default(view, other.values)
        facts.append(f"Also good: #{other.id} with {_metric(objective, other)}, {text}.")
    if len(names) < len(view.space):
        facts.append(f"Only these may change: {', '.join(names)}.")
    if view.noise:
        facts.append(f"Differences under {view.noise:.2g} are noise.")
    tried = {n for t in view.trials for n in view.space.changed(view.trials[0].values, t.values)}
    untried = [n for n in names if n not in tried]
    if untried and len(untried) < len(view.space):
        more = len(untried) - UNTRIED_SHOWN
        others = f" and {more} more" if more > 0 else ""
        facts.append(f"Never tried: {', '.join(untried[:UNTRIED_SHOWN])}{others}.")
    if view.guidance:
        facts.append(f"Guidance: {view.guidance}")
    if move.note:
        facts.append(f"Advice: {plain(move.note)}")
    return facts
