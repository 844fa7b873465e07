"""The mechanisms of a run, from its records: source, influence, credit, faults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bilevel import mechanisms
from bilevel.accounts import credited
from bilevel.attribution import influence
from bilevel.errors import ConfigError
from bilevel.ledger import by_sha
from bilevel.model import Fault, Layering, MechanismSource, Record, Run, Session
from bilevel.outer import source_of
from bilevel.study.data import StudyMechanism

__all__ = ["credits_of", "inventory", "shipped"]

Sources = Mapping[str, MechanismSource]  # by sha


def shipped(runs: Iterable[Run]) -> dict[str, MechanismSource]:
    """By sha, the sources of the stacks' mechanisms that come with bilevel, as they are here.

    A run's log has none of these; one that has changed since its run is not among them.
    """
    wanted = dict(by_sha(entry) for run in runs for entry in run.stack)
    found = {}
    for sha, name in wanted.items():
        try:
            source = mechanisms.source(name)
        except ConfigError:
            continue  # a user's own file, which the run holds, or one that no longer comes with us
        if source.sha == sha:
            found[sha] = source
    return found


def credits_of(run: Run, records: Sequence[Record]) -> dict[str, float]:
    """By sha, the share of the run's decisions that would differ without each mechanism.

    The run is decided again without each of them. Raises as `accounts.credited`.
    """
    found = credited(run, records)
    return {c.layer: c.different / c.decisions for c in found if c.decisions}


def inventory(
    run: Run, records: Sequence[Record], sources: Sources, credits: Mapping[str, float]
) -> tuple[StudyMechanism, ...]:
    """Each mechanism of a run: those it began with, then those that sessions admitted.

    sources: of those that come with bilevel; one that is not there is listed without its text.
    credits: by sha.
    """
    sessions = {s.admitted: s for s in records if isinstance(s, Session) and s.admitted}
    began = [by_sha(entry)[0] for entry in run.stack]
    found = {sha: _begun_with(run, sha, name, sources) for sha, name in map(by_sha, run.stack)}
    found |= {b.source.sha: b.source for b in run.library if b.joins}
    found |= {sha: source_of(session) for sha, session in sessions.items()}
    asked, changed = dict[str, int](), dict[str, int]()
    for part in influence(records):
        asked[part.layer] = asked.get(part.layer, 0) + part.asked
        changed[part.layer] = changed.get(part.layer, 0) + part.changed
    made = []
    for sha, source in found.items():
        moved = [r for r in records if isinstance(r, Layering) and r.sha == sha]
        joined = [m.step for m in moved if m.action == "add"]
        left = moved[-1] if moved and moved[-1].action == "remove" else None
        made.append(
            StudyMechanism(
                sha=sha,
                name=source.name,
                source=source.source,
                rationale=source.rationale,
                origin=source.origin,
                joined=joined[-1] if joined else 0 if sha in began else None,
                left=None if left is None else left.step,
                why_left="" if left is None else left.why,
                sham=sha in sessions and sessions[sha].sham,
                asked=asked.get(sha, 0),
                changed=changed.get(sha, 0),
                faults=sum(isinstance(r, Fault) and r.layer == sha for r in records),
                credit=credits.get(sha),
                generated=sha in sessions,
            )
        )
    return tuple(made)


def _begun_with(run: Run, sha: str, name: str, sources: Sources) -> MechanismSource:
    if sha in run.sources:
        return MechanismSource(sha, name, run.sources[sha], origin="a file of the user's")
    return sources.get(sha) or MechanismSource(sha, name, "", origin="hand, text not on record")
