"""The state of a run, as a fold of its log."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable

from bilevel.mechanism import View
from bilevel.model import Draft, Proposal, Refusal, Steering, Trial, Values
from bilevel.space import Space


class History:
    """Trials, proposals and the incumbent of a run. Changed by `add` only, in the log's order."""

    def __init__(self, space: Space, records: Iterable[object] = ()) -> None:
        self.space = space
        self.trials: list[Trial] = []
        self.proposals: list[Proposal] = []
        self.steering = Steering()
        self.incumbent: Trial | None = None
        self.best: Trial | None = None
        self._by_key: dict[str, Trial] = {}
        for record in records:
            self.add(record)

    def add(self, record: object) -> None:
        """Take in one record; kinds that carry no state are passed over."""
        if isinstance(record, Proposal):
            self.proposals.append(record)
        elif isinstance(record, Steering):
            self.steering = record
        elif isinstance(record, Trial):
            self._add_trial(record)

    def _add_trial(self, trial: Trial) -> None:
        self.trials.append(trial)
        if trial.role == "search" or trial.id == 0:
            self._by_key.setdefault(self.space.key(trial.values), trial)
            if trial.kept:
                self.incumbent = trial
            if trial.score is not None and (self.best is None or trial.score > best_score(self)):
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

    def find(self, values: Values) -> Trial | None:
        """The trial that evaluated exactly these values, if any did."""
        return self._by_key.get(self.space.key(values))

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

    def noise(self) -> float | None:
        """Standard deviation (n - 1) of the baseline's scores; None before two of them."""
        scores = [t.score for t in self.role("baseline") if t.score is not None]
        return statistics.stdev(scores) if len(scores) > 1 else None

    def view(self, *, step: int, slots: int, left: int, rng: random.Random) -> View:
        """What a decision may know now. Needs a measured baseline."""
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
            frozen=self.steering.frozen,
            guidance=self.steering.guidance,
            noise=self.noise(),
            rng=rng,
        )


def best_score(history: History) -> float:
    """The best score so far, minus infinity before the first."""
    best = history.best
    return -math.inf if best is None or best.score is None else best.score
