"""What a run tells the library: the mechanisms that it admitted, and what those in it did."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing

from bilevel import stacks
from bilevel.attribution import redecide
from bilevel.history import History
from bilevel.ledger import Touches, said
from bilevel.library.library import Entry, Use, kinds
from bilevel.library.proposer import STAND_IN
from bilevel.model import Decision, Fault, Layering, MechanismSource, Record, Run, Session
from bilevel.outer import source_of
from bilevel.research.merit import decisions_with
from bilevel.sandbox.errors import MechanismError
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.stack import Layer
from bilevel.store.library import Library


def collect(library: Library, run: Run, records: Sequence[Record], sandbox: Sandbox) -> None:
    """Take in what a run tells, from its log alone; a second time nothing changes.

    A run whose proposals were no LLM's tries a mechanism; it is no use of it. Raises StoreError.
    """
    if run.llm == STAND_IN:
        return
    for entry in admitted(run, records):
        library.add(entry)
    known = library.shas()
    for sha in [s for s in _joined(run, records) if s in known]:
        library.record(sha, use(run, records, sha, sandbox))


def admitted(run: Run, records: Sequence[Record]) -> Iterator[Entry]:
    """The mechanisms that sessions of the run admitted, those that a sham left out as well."""
    for session in [r for r in records if isinstance(r, Session) and r.admitted]:
        yield Entry(
            source=source_of(session),
            task=run.task,
            parameters=kinds(run.space),
            passed=f"the gate, in {run.id}",
            run=run.id,
            llm=run.llm,
            hypotheses=said(session),
            created=run.created,
        )


def use(run: Run, records: Sequence[Record], sha: str, sandbox: Sandbox) -> Use:
    """What one mechanism did in a run that it joined."""
    own = [r for r in records if isinstance(r, Decision) and r.layer == sha]
    touches = Touches(run, records)
    touched = [t for t in History(run.space, records).trials if sha in dict(touches.of(t))]
    moved = [r for r in records if isinstance(r, Layering) and r.sha == sha]
    left = moved[-1].why if moved and moved[-1].action == "remove" else ""
    return Use(
        key=identity(run),
        run=run.id,
        task=run.task,
        parameters=kinds(run.space),
        llm=run.llm,
        seed=run.seed,
        decisions=decisions_with(records, sha, sha in _begun_with(run)),
        different=_different(run, records, sha, sandbox),
        asked=len(own),
        changed=sum(d.before != d.after for d in own),
        touched=len(touched),
        kept=sum(t.kept for t in touched),
        faults=sum(isinstance(r, Fault) and r.layer == sha for r in records),
        left=left,
    )


def identity(run: Run) -> str:
    """The same for one run wherever its log is read, another for every other run."""
    # Not of all fields, for a later version may have more, or say elsewhere where the task lies.
    parts = [run.id, run.task, run.fingerprint, run.seed, run.llm, run.evals, run.created]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _begun_with(run: Run) -> list[str]:
    return [entry.rpartition("@")[2] for entry in run.stack]


def _joined(run: Run, records: Sequence[Record]) -> list[str]:
    """Identities of all layers that were ever on the stack, each once."""
    added = [r.sha for r in records if isinstance(r, Layering) and r.action == "add"]
    return list(dict.fromkeys([*_begun_with(run), *added]))


def _different(run: Run, records: Sequence[Record], sha: str, sandbox: Sandbox) -> int | None:
    """Decisions that differ when the run is decided again without it, None if it cannot be."""
    with closing(_Made()) as made:

        def load(source: MechanismSource) -> Layer:
            mechanism = sandbox.load(source.source)
            made.append(Layer(source.sha, source.name, mechanism, mechanism.close))
            return made[-1]

        try:
            made += stacks.layers(run, sandbox)
            return redecide(run, records, list(made), load, without=sha).count(False)
        except MechanismError:
            return None


class _Made(list[Layer]):
    """Layers whose workers end together."""

    def close(self) -> None:
        for layer in self:
            layer.close()
