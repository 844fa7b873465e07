"""What the server's tools tell of a run, as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import TypeAdapter

from bilevel.accounts import accounts
from bilevel.history import History
from bilevel.ledger import ledger
from bilevel.levels import names
from bilevel.model import Layering, Proposal, Record, Run, Session, Steering, Trial
from bilevel.prompting import history_lines, parameter_line
from bilevel.serving.underway import Underway
from bilevel.summary import summarise
from bilevel.workspace import Workspace

Part = Literal["summary", "trace", "incumbent", "mechanisms", "ledger"]
Json = dict[str, Any]
_plain = TypeAdapter(Any)


def listed(workspace: Workspace) -> list[Json]:
    """All runs, oldest first, in a few words each."""
    return [_in_short(run, workspace.records(run.id)) for run in workspace.store.runs()]


def part(run: Run, records: Sequence[Record], what: Part) -> Json:
    """One part of what is known of a run."""
    history = History(run.space, records)
    if what == "summary":
        found: Any = summarise(run, records)
    elif what == "trace":
        found = {
            "parameters": [parameter_line(param) for param in run.space],
            "lines": history_lines(run.objective, history),
            "trials": [trial(run, t) for t in history.trials],
        }
    elif what == "incumbent":
        found = {
            "incumbent": trial(run, history.incumbent),
            "best": trial(run, history.best),
            "frozen": history.steering.frozen,
            "guidance": history.steering.guidance,
        }
    elif what == "mechanisms":
        found = {"mechanisms": accounts(run, records, ())}
    else:
        found = {"entries": ledger(run, records)}
    plain: Json = _plain.dump_python(found, mode="json")
    return {"run": run.id, **plain}


def status(underway: Underway, records: Sequence[Record]) -> Json:
    """What a run that goes here does, what it asks, and how far it is."""
    run, question = underway.run, underway.question
    state = "ended" if underway.ended else "waits for you" if question else "at work"
    told: Json = {**_in_short(run, records), "state": state, "now": underway.phase_now}
    told |= _news(run, underway.news())
    if question is not None:
        told["asks"] = {
            "kind": question.kind,
            "messages": [{"role": m.role, "content": m.content} for m in question.messages],
            "schema": question.schema,
        }
        if question.problem:
            told["problem"] = question.problem
    if underway.stop is not None:
        told["stop"] = {"reason": underway.stop.reason, "detail": underway.stop.detail}
    if underway.trouble:
        told["trouble"] = underway.trouble
    return told


def _news(run: Run, records: Sequence[Record]) -> Json:
    """What the log says of the time since the last answer."""
    told: Json = {}
    trials = [trial(run, r) for r in records if isinstance(r, Trial)]
    refused = [x.reason for r in records if isinstance(r, Proposal) for x in r.refusals]
    attempts = [a for r in records if isinstance(r, Session) for a in r.attempts]
    layers = [r for r in records if isinstance(r, Layering)]
    if trials:
        told["trials"] = trials
    if refused:
        told["refused"] = refused
    if attempts:
        told["mechanism"] = {
            "name": attempts[-1].name,
            "sha": attempts[-1].sha,
            "admitted": not attempts[-1].rule,
            "gate": attempts[-1].words,
            "figures": dict(attempts[-1].figures),
        }
    if layers:
        told["stack"] = [{"action": x.action, "sha": x.sha, "why": x.why} for x in layers]
    if any(isinstance(r, Steering) for r in records):
        told["steering"] = _plain.dump_python(
            next(r for r in reversed(records) if isinstance(r, Steering)), mode="json"
        )
    return told


def trial(run: Run, found: Trial | None) -> Json | None:
    """A trial in the metric's own value."""
    if found is None:
        return None
    value = None if found.score is None else run.objective.value(found.score)
    return {
        "trial": found.id,
        "role": found.role,
        "status": found.status,
        run.objective.metric: value,
        "kept": found.kept,
        "values": dict(found.values),
        "hypothesis": "" if found.draft is None else found.draft.hypothesis,
        "error": found.error,
    }


def _in_short(run: Run, records: Sequence[Record]) -> Json:
    history = History(run.space, records)
    return {
        "run": run.id,
        "task": run.task,
        "metric": run.objective.metric,
        "direction": run.objective.direction,
        "llm": run.llm,
        "levels": list(names(run.outer)),
        "evaluations": history.evaluated(),
        "budget": run.evals,
        "incumbent": trial(run, history.incumbent),
    }
