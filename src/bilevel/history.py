"""The state of a run, as a fold of its log."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Sequence

from bilevel.mechanism import View
from bilevel.model import Draft, Proposal, Refusal, Session, Steering, Trial, Values
from bilevel.space import Space


class History:
    """Trials, proposals and the incumbent of a run. Changed by `add` only, in the log's order."""

    def __init__(self, space: Space, records: Iterable[object] = ()) -> None:
        self.space = space
        self.trials: list[Trial] = []
        self.proposals: list[Proposal] = []
        self.steering = Steering()
        self.sessions: list[Session] = []
        self.incumbent: Trial | None = None
        self.best: Trial | None = None
        self._by_key: dict[tuple[str, int], Trial] = {}
        for record in records:
            self.add(record)

    def add(self, record: object) -> None:
        """Take in one record; kinds that carry no state are passed over."""
        if isinstance(record, Proposal):
            self.proposals.append(record)
        elif isinstance(record, Steering):
            self.steering = record
        elif isinstance(record, Session):
            self.sessions.append(record)
        elif isinstance(record, Trial):
            self._add_trial(record)

    def _add_trial(self, trial: Trial) -> None:
        self.trials.append(trial)
        if trial.role != "search" and trial.id != 0:
            return
        seed = seed_index(trial)
        self._by_key.setdefault((self.space.key(trial.values), seed), trial)
        if trial.kept:
            self.incumbent = trial
        if seed == 0 and trial.score is not None and trial.score > best_score(self):
            self.best = trial

    def search(self) -> tuple[Trial, ...]:
        """The first baseline and all search trials, in order."""
        return tuple(t for t in self.trials if t.role == "search" or t.id == 0)

    def role(self, role: str) -> list[Trial]:
        """All trials of one role, in order."""
        return [t for t in self.trials if t.role == role]

    def evaluated(self) -> int:
        """Number of proposals that were evaluated, failed ones included."""
        return len(self.role("search"))

    def find(self, values: Values, seed: int = 0) -> Trial | None:
        """The trial that evaluated exactly these values on the seed of that index, if any did."""
        return self._by_key.get((self.space.key(values), seed))

    def fresh(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Those that repeat neither a trial nor a draft before them, as edits can make them do."""
        seen = set(self._by_key)
        kept = []
        for draft in drafts:
            key = (self.space.key(draft.values), draft.move.seed)
            if key not in seen:
                kept.append(draft)
            seen.add(key)
        return kept

    def pending(self) -> list[Draft]:
        """Drafts of the last proposal that are queued and have no trial yet, best first."""
        if not self.proposals:
            return []
        last = self.proposals[-1]
        done = {t.draft.id for t in self.trials if t.draft is not None}
        drafts = {d.id: d for d in last.drafts}
        return [drafts[i] for i in last.queue if i not in done]

    def next_draft(self) -> int:
        """The lowest draft id not yet used."""
        return sum(len(p.drafts) for p in self.proposals)

    def refusals(self) -> list[Refusal]:
        """All refusals, in order."""
        return [r for p in self.proposals for r in p.refusals]

    def idle_steps(self) -> int:
        """Steps at the end of the log that led to no evaluation."""
        count = 0
        for proposal in reversed(self.proposals):
            if proposal.queue:
                break
            count += 1
        return count

    def resting(self) -> frozenset[str]:
        """Parameters that refusals since the last evaluation named for nothing new."""
        idle = self.proposals[len(self.proposals) - self.idle_steps() :]
        return frozenset(n for p in idle for r in p.refusals for n in r.rests)

    def noise(self) -> float | None:
        """Standard deviation (n - 1) of the baseline's scores; None before two of them."""
        scores = [t.score for t in self.role("baseline") if t.score is not None]
        return statistics.stdev(scores) if len(scores) > 1 else None

    def view(self, *, step: int, slots: int, left: int, rng: random.Random) -> View:
        """What a decision may know now. Needs a measured baseline.

        Pending are those that have begun for certain while the first of the queue is decided on:
        of `slots` at a time the others. Whether more have follows from the clock alone.
        """
        assert self.incumbent is not None
        assert self.best is not None
        return View(
            space=self.space,
            trials=self.search(),
            incumbent=self.incumbent,
            best=self.best,
            step=step,
            slots=slots,
            left=left,
            pending=tuple(self.pending()[1:slots]) if slots > 1 else (),
            frozen=self.steering.frozen,
            guidance=self.steering.guidance,
            strategy=self.steering.strategy,
            noise=self.noise(),
            rng=rng,
        )


def seed_index(trial: Trial) -> int:
    """Which measurement of its configuration a search trial is: 0 on the common seed."""
    return 0 if trial.draft is None else trial.draft.move.seed


def best_score(history: History) -> float:
    """The best score so far, minus infinity before the first."""
    best = history.best
    return -math.inf if best is None or best.score is None else best.score
