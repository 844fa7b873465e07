"""What speaks against admitting a mechanism, read from what it did; "" where nothing does.

Words are for its author, a small LLM: what was seen, in figures of this run, and what to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Any

from bilevel.conformance.watching import brief
from bilevel.gate.probing import Trace
from bilevel.gate.vocabulary import advised
from bilevel.model import Decision, Move, Run, Trial

IDLE = 10  # steps running without an evaluation, after which a search counts as emptied
FEW = 3  # decisions that must be alike before "always" is said of fewer than IDLE
FROZEN = 2  # trials better than the incumbent, all refused, make a frozen search
STATE_BYTES = 2**20  # that the sandbox keeps of a state
LONG = 1000  # steps of a long run, which a state must last for
DO = {
    "plan": "Make it act in such a case: return [m.edit(focus=(name,)) for m in moves] with names "
    "from view.open(), or m.edit(values=...) with values that were not tried.",
    "screen": "Make it act in such a case: leave a draft out, or return draft.edit(values, why).",
    "accept": "Make it act in such a case: return True for a trial that greedy would not keep, or "
    "False for one that it would.",
}
ALONE = (
    "Make it act in such a case: there is one parameter only, so start from another trial: return "
    "[m.edit(parents=(trial.id,)) for m in moves] with a trial from view.scored()."
)


def effective(trace: Trace, decision: Decision) -> bool:
    """Whether it moves the search; a tag alone does not, nor does a failed trial kept."""
    before, after = json.loads(decision.before), json.loads(decision.after)
    if decision.hook == "plan":
        return [_told(m) for m in before] != [_told(m) for m in after]
    if decision.hook == "screen":
        return [(d["id"], d["values"]) for d in before] != [(d["id"], d["values"]) for d in after]
    return bool(before != after) and trace.trials[decision.key].score is not None


def _names(trace: Trace) -> tuple[str, ...]:
    return next((view.space.names for view in trace.views.values()), ())


def _told(move: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in move.items() if name not in ("tag", "writer")}


def fault(trace: Trace) -> str:
    """Its first fault."""
    if trace.fault is None:
        return ""
    found = trace.fault
    raised = re.match(r"(\w+): (.*)", found.message, re.DOTALL)
    kind, text = raised.groups() if raised else (found.kind, found.message)
    words = advised(found.hook, kind, text)
    return f"{found.hook}, at step {found.step} of {trace.where}: {words}"


def inert(trace: Trace, hooks: Collection[str]) -> str:
    """That it changed no decision, and one that it could have changed."""
    own = [d for d in trace.decisions if d.hook in hooks]
    if any(effective(trace, d) for d in own):
        return ""
    asked = {h: sum(d.hook == h for d in own) for h in ("plan", "screen", "accept") if h in hooks}
    counts = " and ".join(f"{hook} {n} times" for hook, n in asked.items())
    if not own:
        return (
            f"it was never called: {counts} on this run's record of {len(trace.trials)} trials; "
            "override a hook that a run asks, plan above all"
        )
    tags = any(d.before != d.after for d in own if d.hook == "plan")
    same = "what came in but for a tag, which moves nothing" if tags else "what came in"
    chosen = _telling(trace, own)
    return (
        f"it changed no decision: on this run's record it was asked {counts}, and each answer was "
        f"{same}. For example {_example(trace, chosen)}. {_do(trace, own, chosen)}"
    )


def _telling(trace: Trace, own: Sequence[Decision]) -> Decision:
    """The decision to show: a plan after the most vain trials, or a trial that just missed."""
    plans = [d for d in own if d.hook == "plan"]
    if plans:
        return max(plans, key=lambda d: _vain(trace, d))
    missed = [d for d in own if d.hook == "accept" and d.before == "false"]
    missed = [d for d in missed if trace.trials[d.key].score is not None] or list(own)
    return min(missed, key=lambda d: _lost(trace, d))


def _vain(trace: Trace, decision: Decision) -> int:
    """Trials since the incumbent's, as that plan saw it."""
    view = trace.views[decision.step]
    return sum(t.id > view.incumbent.id for t in view.trials)


def _lost(trace: Trace, decision: Decision) -> float:
    if decision.hook != "accept":
        return 0.0
    trial, incumbent = trace.trials[decision.key], trace.incumbents[decision.key]
    return 0.0 if trial.score is None else (incumbent.score or 0.0) - trial.score


def _example(trace: Trace, decision: Decision) -> str:
    if decision.hook == "plan":
        view, moves = trace.views[decision.step], json.loads(decision.before)
        vain = _vain(trace, decision)
        since = (
            f", though none of {vain} trials since #{view.incumbent.id} was kept" if vain else ""
        )
        return f"at step {decision.step} plan was given {_moves(moves)} and returned it{since}"
    if decision.hook == "screen":
        ids = [d["id"] for d in json.loads(decision.before)]
        return f"at step {decision.step} screen was given drafts {ids} and returned them"
    trial, incumbent = trace.trials[decision.key], trace.incumbents[decision.key]
    given = decision.before.capitalize()
    return (
        f"{_scored(trial)}, against {incumbent.score:.6g} of the incumbent #{incumbent.id}, came "
        f"with keep={given} and was answered {given}"
    )


def _do(trace: Trace, own: Sequence[Decision], chosen: Decision) -> str:
    if chosen.hook == "plan" and len(_names(trace)) == 1:
        return ALONE
    single = all(len(json.loads(d.before)) == 1 for d in own if d.hook == "screen")
    if chosen.hook == "screen" and single:
        return (
            "There was one draft each time, so an order of them changes nothing: edit it with "
            "draft.edit(values, why), or ask for several in plan: return moves * 3."
        )
    return DO[chosen.hook]


def _moves(moves: list[dict[str, Any]]) -> str:
    def field(value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    return brief("plan", [Move(**{n: field(v) for n, v in m.items()}) for m in moves])


def _scored(trial: Trial) -> str:
    return f"trial #{trial.id} with score {trial.score:.6g}"


def kept_failure(trace: Trace) -> str:
    """That it kept a trial without a score."""
    for decision in trace.decisions:
        if decision.hook == "accept" and decision.after == "true":
            trial = trace.trials[decision.key]
            if trial.score is None:
                return (
                    f"accept kept trial #{trial.id} of {trace.where}, which ended as "
                    f"{trial.status} and has no score; begin accept with "
                    "`if trial.score is None: return False`"
                )
    return ""


def emptied(trace: Trace) -> str:
    """That it left nothing to evaluate, for IDLE steps or always."""
    for hook, what, do in (
        ("plan", "returned no move", "return moves when there is nothing better"),
        ("screen", "dropped every draft", "return drafts[:1] when none is good enough"),
    ):
        asked = [d for d in trace.decisions if d.hook == hook and d.before != "[]"]
        runs = [len(list(g)) for empty, g in groupby(asked, lambda d: d.after == "[]") if empty]
        longest = max(runs, default=0)
        if longest >= IDLE or (longest == len(asked) and longest >= FEW):
            return (
                f"{hook} {what} {longest} steps running on {trace.where}, so that nothing is "
                f"evaluated and the search stops; {do}"
            )
    return ""


def frozen(traces: Sequence[Trace]) -> str:
    """That no trial can become the incumbent any more."""
    decisions = [(t, d) for t in traces for d in t.decisions if d.hook == "accept"]
    better = [(t, d) for t, d in decisions if d.before == "true"]
    if len(better) < FROZEN or any(d.after == "true" for _, d in decisions):
        return ""
    trace, first = better[0]
    return (
        f"accept kept none of {len(decisions)} trials, though {len(better)} of them were better "
        f"than the incumbent, the first {_scored(trace.trials[first.key])} of {trace.where}; the "
        "search would start from one configuration for ever. End accept with `return keep`"
    )


def runs_dry(trace: Trace, without: Trace, run: Run) -> str:
    """That its search comes to nothing new where the one without it goes on."""
    if trace.idle < IDLE or without.idle >= IDLE:
        return ""
    plans = [json.loads(d.after) for d in trace.decisions if d.hook == "plan"][-IDLE:]
    values = [m["values"] for moves in plans for m in moves]
    if values and values[0] is not None and all(v == values[0] for v in values):
        start = run.space.defaults()
        shown = ", ".join(f"{n}={v!r}" for n, v in values[0].items() if v != start[n])
        return (
            f"plan gave the very same values at {trace.idle} steps running of {trace.where} "
            f"({shown or 'the defaults'}), and a repeat is never evaluated; draw them with "
            "view.rng, and return moves where view.tried(values)"
        )
    return (
        f"{trace.idle} steps running of {trace.where} led to no evaluation "
        f"({trace.refusal or 'no draft was left'}); without it there were {without.idle}. Plan "
        "only values that view.tried() says are new, and return moves when there are none"
    )


def swells(trace: Trace) -> str:
    """That its state would outgrow the sandbox within a long run."""
    sizes = list(_sizes(trace.decisions))
    half = sizes[len(sizes) // 2 :]
    steps = half[-1][0] - half[0][0] if half else 0
    if steps < FEW:
        return ""
    growth = (half[-1][1] - half[0][1]) / steps
    if half[-1][1] + growth * LONG <= STATE_BYTES:
        return ""
    state = json.loads(trace.decisions[-1].state)
    name = max(state, key=lambda n: len(json.dumps(state[n])))
    return (
        f"self.{name} grows without bound: after {half[-1][0] + 1} steps the state takes "
        f"{half[-1][1]} bytes of JSON and {growth:.0f} more each step, and {STATE_BYTES} may be "
        f"kept. What view.trials tells need not be kept; else cut it: self.{name} = "
        f"self.{name}[-20:]"
    )


def _sizes(decisions: Sequence[Decision]) -> Iterator[tuple[int, int]]:
    """Step and bytes of the state after each decision."""
    return ((d.step, len(d.state)) for d in decisions)
