"""The outer loop: when Level 1.5 and Level 2 speak, and which layers join and leave.

Called between two steps of the inner loop. Everything follows from the log: a run that was killed
in a session holds it again, its paid replies from the tape. Sessions and loop take turns, or
sessions are held beside it, see `research/beside.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from bilevel.budget.budget import silent
from bilevel.errors import OverBudget
from bilevel.history import History
from bilevel.loop import IDLE_STEPS
from bilevel.mechanism import View
from bilevel.model import Begun, MechanismSource, Phase, Record, Run, Session
from bilevel.research.authoring import parse_specification
from bilevel.research.beside import Beside
from bilevel.research.dialogue import Researcher
from bilevel.research.merit import Known, objection, stalling
from bilevel.research.submissions import Submissions
from bilevel.seeds import generator
from bilevel.stack import Stack
from bilevel.steering import Steerer

STILL = IDLE_STEPS // 2  # steps without an evaluation, after which a session is waited for


@dataclass
class Outer:
    """The outer loop of one run, over the same log, history and stack as its inner loop.

    records: the log so far, which grows with `append`. known: mechanisms that a session may build
    on, best credit first. slots: as the loop's. beside: what holds the sessions of `researcher`
    beside the loop, None where they take turns.
    """

    run: Run
    history: History
    records: Sequence[Record]
    stack: Stack
    steerer: Steerer
    researcher: Researcher | Submissions
    append: Callable[[Record], object]
    known: Callable[[], Sequence[Known]]
    slots: int = 1
    watch: Callable[[Phase], None] = lambda _: None
    beside: Beside | None = None

    def __call__(self) -> None:
        """Whatever is due before the next step. Raises LLMError; what was logged stays."""
        plan = self.run.outer
        cycle = self.history.evaluated() // plan.every
        if plan.steering and cycle > self.history.steering.cycle and not self._silent("1.5"):
            self.watch(Phase("steer", self._step))
            with suppress(OverBudget):  # its Denial is on record, and keeps the level silent
                self._log(self.steerer.steer(self.history, self._view(), cycle))
        if not self._step:
            self._borrow()
        self._release(self._cycle_ended(cycle))
        if plan.research == "off":
            return
        if self.beside is not None:
            self._go_beside(self.beside, cycle)
            return
        if self._due(cycle) and not self._silent("2"):
            self.watch(Phase("research", self._step))
            known = self.known() if plan.sources == "rounds" else ()
            with suppress(OverBudget):
                if session := self.researcher.hold(self._view(), cycle, known):
                    self._log(session)
        self._apply()

    def _go_beside(self, beside: Beside, cycle: int) -> None:
        """Land the session that is done, or can wait no longer, and begin the one that is due."""
        due = self._due(cycle)
        if beside.ready(self._step) or due or self.history.idle_steps() >= STILL:
            self.land()
        self._apply()
        if due and not self._silent("2"):
            known, begun = list(self.records), Begun(self._step, cycle)
            self._log(begun)
            beside.begin(begun, known)

    def land(self) -> None:
        """Log what came of the session that is held beside the loop, if one is; wait for it."""
        if self.beside is None or self.beside.begun is None:
            return
        if not self.beside.done:
            self.watch(Phase("wait", self.beside.begun.step))
        self._log(replace(self.beside.land(), landed=self._step))

    def _silent(self, level: str) -> bool:
        return silent(self.run, self.records, level)

    @property
    def _step(self) -> int:
        return len(self.history.proposals)

    def _due(self, cycle: int) -> bool:
        """Whether a session is to be held before this step."""
        plan, held = self.run.outer, self.history.sessions
        if plan.sources == "submitted":
            return not held or held[-1].step != self._step
        return cycle // plan.cycles > self._last_session() // plan.cycles

    def _last_session(self) -> int:
        if self.beside is not None and self.beside.begun is not None:
            return self.beside.begun.cycle
        return self.history.sessions[-1].cycle if self.history.sessions else 0

    def _borrow(self) -> None:
        """Put on what the run was given of the library to begin with, on probation as all else."""
        for borrowed in self.run.library:
            if borrowed.joins:
                self.stack.add(borrowed.source, self._step, "the run begins with it")

    def _apply(self) -> None:
        """Do what the last session decided, unless that was done."""
        if not self.history.sessions or self.history.sessions[-1].holds_from != self._step:
            return
        session = self.history.sessions[-1]
        for sha, why in session.removed.items():
            if self.stack.holds(sha) and not session.sham:
                self.stack.remove(sha, self._step, why)
        if session.admitted and not session.sham and not self.stack.holds(session.admitted):
            why = f"the session of cycle {session.cycle}"
            if self.stack.add(source_of(session), self._step, why):
                self._make_room(session.admitted)

    def _make_room(self, sha: str) -> None:
        """Take out those with the least credit, but not the one that has just joined."""
        mine = [k for k in self.known() if k.stacked and k.source.sha != sha]
        while len(mine) >= self.run.outer.layers:
            least = mine.pop()
            why = f"it has the least credit ({least.credit:.0%} of decisions) of {len(mine) + 1}"
            self.stack.remove(least.source.sha, self._step, f"{why}, and another was admitted")

    def _cycle_ended(self, cycle: int) -> bool:
        """Whether the last step's evaluations completed a cycle."""
        before = sum(
            t.draft is not None and t.draft.step < self._step - 1 for t in self.history.trials
        )
        return before // self.run.outer.every < cycle

    def _release(self, ended: bool) -> None:
        """Take out the layers that let nothing through and, as a cycle ends, those that do nothing
        or do harm.
        """
        written = [s.admitted for s in self.history.sessions]
        for sha in dict.fromkeys([*(b.source.sha for b in self.run.library), *written]):
            if not self.stack.holds(sha):
                continue
            why = stalling(self.history, self.records, sha)
            if why := why or (objection(self.run, self.records, sha) if ended else ""):
                self.stack.remove(sha, self._step, why)

    def _view(self) -> View:
        return view_now(self.run, self.history, self.slots)

    def _log(self, record: Record) -> None:
        self.append(record)
        self.history.add(record)


def view_now(run: Run, history: History, slots: int) -> View:
    """What the outer levels know before the next step."""
    step = len(history.proposals)
    rng = generator(run.seed, "outer", step)
    return history.view(step=step, slots=slots, left=run.evals - history.evaluated(), rng=rng)


def source_of(session: Session) -> MechanismSource:
    """The source that a session admitted, or would have but for the sham."""
    attempt = next(a for a in session.attempts if a.sha == session.admitted and not a.rule)
    spec = parse_specification(session.notes.get("specify", ""))
    return MechanismSource(
        sha=attempt.sha,
        name=attempt.name,
        source=attempt.source,
        rationale=spec.text() if spec else "",
        origin=f"level 2, cycle {session.cycle}, {attempt.way}",
        parents=attempt.parents,
    )
