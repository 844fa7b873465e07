"""What a run knows of each of its mechanisms: source, hypotheses, influence, credit, trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bilevel import mechanisms, stacks
from bilevel.attribution import Credit, Influence, influence, leave_one_out
from bilevel.describe import one_line
from bilevel.history import History
from bilevel.ledger import Touched, Touches, by_sha, said, touched
from bilevel.model import Fault, Layering, MechanismSource, Record, Run, Session
from bilevel.outer import source_of
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.stack import Layer


@dataclass(frozen=True)
class Account:
    """All that a run knows of one mechanism.

    said: what the session that wrote it said, by round and topic. influence: by hook. credit:
    decisions that differ when the run is decided again without it, None where it never joined.
    joined, left: the steps before which it last did, and why it left. sham: Level 2 wrote it, and
    it was left out on purpose.
    """

    source: MechanismSource
    said: Mapping[str, str]
    influence: tuple[Influence, ...]
    credit: Credit | None
    trials: tuple[Touched, ...]
    faults: tuple[str, ...]
    joined: int | None
    left: int | None
    why_left: str
    sham: bool


def accounts(run: Run, records: Sequence[Record], credits: Sequence[Credit]) -> list[Account]:
    """Each mechanism of the run: those it began with, then those that sessions admitted.

    credits: as `credited` finds them.
    """
    sessions = {s.admitted: s for s in records if isinstance(s, Session) and s.admitted}
    sources = {s.sha: s for s in map(_begun_with(run), run.stack)}
    sources |= {b.source.sha: b.source for b in run.library if b.joins}
    sources |= {sha: source_of(session) for sha, session in sessions.items()}
    return [_account(run, records, source, sessions, credits) for source in sources.values()]


def credited(run: Run, records: Sequence[Record]) -> list[Credit]:
    """Every mechanism's credit by leave-one-out replay, code that is not ours in a sandbox.

    Raises SandboxRefused, MechanismError, MissingExtra, and ConfigError when a shipped mechanism
    is no longer what it was.
    """
    if not stacks.needs_sandbox(run):
        return leave_one_out(run, records, lambda: stacks.layers(run))
    with Sandbox.again(run.sandbox, run.allow_weak) as sandbox:
        return leave_one_out(
            run,
            records,
            lambda: stacks.layers(run, sandbox),
            lambda source: Layer(source.sha, source.name, sandbox.load(source.source)),
        )


def _begun_with(run: Run) -> Callable[[str], MechanismSource]:
    def source(entry: str) -> MechanismSource:
        sha, name = by_sha(entry)
        if sha in run.sources:
            return MechanismSource(sha, name, run.sources[sha], origin="a file of the user's")
        return mechanisms.source(name)

    return source


def _account(
    run: Run,
    records: Sequence[Record],
    source: MechanismSource,
    sessions: Mapping[str, Session],
    credits: Sequence[Credit],
) -> Account:
    history, touches = History(run.space, records), Touches(run, records)
    sha, session = source.sha, sessions.get(source.sha)
    moved = [r for r in records if isinstance(r, Layering) and r.sha == sha]
    joined = [m.step for m in moved if m.action == "add"]
    left = moved[-1] if moved and moved[-1].action == "remove" else None
    return Account(
        source=source,
        said={} if session is None else said(session),
        influence=tuple(i for i in influence(records) if i.layer == sha),
        credit=next((c for c in credits if c.layer == sha), None),
        trials=tuple(
            touched(run, history, t) for t in history.trials if sha in dict(touches.of(t))
        ),
        faults=tuple(
            f"step {f.step}, {f.hook}: {f.kind}: {one_line(f.message)}"
            for f in records
            if isinstance(f, Fault) and f.layer == sha
        ),
        joined=joined[-1] if joined else 0 if sha in dict(map(by_sha, run.stack)) else None,
        left=None if left is None else left.step,
        why_left="" if left is None else left.why,
        sham=session is not None and session.sham,
    )
