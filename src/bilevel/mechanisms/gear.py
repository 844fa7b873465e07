"""GEAR's frontier of elites."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move, Value

Idea = frozenset[tuple[str, Value]]


@dataclass
class Elite:
    """A trial of the frontier and how its children fared; `used` counts trials until its last."""

    id: int
    score: float
    idea: Idea
    role: str
    used: int
    children: int = 0
    gain: float = 0.0


class Gear(Mechanism):
    """Chooses parents among four elites by gain, novelty and coverage; crosses them regularly.

    Source: Jeddi et al., "GEAR: Genetic AutoResearch for Agentic Code Evolution", arXiv 2605.13874,
    2026, and `gear.py` of its code (the fixed controller), from which all constants come.
    Faithful: utility of a parent, when to cross and with whom, promotion, credit to both parents.
    Adapted: an idea is the set of changed defaults, not the words of a description; lean means few
    of them, not little memory, and wins no tie with the best; coverage counts the role alone, not
    the kind of mutation; margins are relative to the baseline's score, as its val_bpb is about 1.
    """

    ELITES = 4
    EXPLORE = 0.05
    EARLY = 12  # trials in which novelty and coverage weigh more
    CROSS_RATE, CROSS_AFTER = 0.25, 4  # least share of crossovers; most mutations in a row
    CLEAR, EQUAL, OWN = 1.5e-4, 1.0e-4, 0.5e-4  # margins of a promotion
    NEW = 0.65  # distance from every elite that keeps an idea alive
    ALIKE = 0.3  # distance under which a crossover has nothing to carry over

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        """One move: a mutation of an elite, or an elite with another one to take from."""
        elites = self._frontier(view)
        done = [t.draft for t in view.trials if t.draft is not None]
        recent = [d.move.parents[0] for d in done[-3:] if d.move.parents]
        now = len(done) + 1
        ranked = sorted(elites, key=lambda e: self._utility(e, elites, recent, now), reverse=True)
        idle = view.step - (done[-1].step + 1 if done else 0)
        first = ranked[idle % len(ranked)]  # another parent when this one's moves are used up
        if not self._crosses(view, elites):
            return [Move(parents=(first.id,), tag="gear:mutate")]
        crossed = view.by_tag("gear:cross")
        pairs = [set(t.draft.move.parents) for t in crossed if t.draft is not None]
        others = [e for e in elites if e is not first]
        apart = [e for e in others if e.idea and _jaccard(first.idea, e.idea) >= self.ALIKE]
        other = max(
            apart or others, key=lambda e: self._match(first, e, pairs.count({first.id, e.id}))
        )
        note = f"Carry over what makes #{other.id} good, and leave the rest."
        return [Move(parents=(first.id, other.id), note=note, tag="gear:cross")]

    def _utility(self, elite: Elite, elites: list[Elite], recent: list[int], now: int) -> float:
        total = max(1, sum(e.children for e in elites))
        explore = self.EXPLORE * math.sqrt(math.log(total + 2) / (elite.children + 1))
        age = now - 1 - elite.used
        recency = -0.2 if age <= 1 else -0.05 if age <= 3 else 0.0
        others = [e for e in elites if e is not elite]
        peers = [e for e in others if e.id in recent] or others
        novelty = min((_jaccard(elite.idea, e.idea) for e in peers), default=0.5)
        coverage = 1 / math.sqrt(1 + sum(e.role == elite.role for e in elites))
        weights = (0.15, 0.10) if now <= self.EARLY else (0.08, 0.05)
        return elite.gain + explore + recency + weights[0] * novelty + weights[1] * coverage

    def _crosses(self, view: View, elites: list[Elite]) -> bool:
        done = [t for t in view.trials if t.draft is not None and t.score is not None]
        crossed = {t.id for t in view.by_tag("gear:cross")}
        crosses = [t.id in crossed for t in done]
        if len(elites) < 2 or not crosses:
            return False
        if len(crosses) >= self.CROSS_AFTER and not any(crosses[-self.CROSS_AFTER :]):
            return True
        if len(crosses) >= 3 and sum(crosses) / len(crosses) < self.CROSS_RATE:
            return True
        fresh = {e.id for e in elites} & {t.id for t in done[-2:]}
        return not crosses[-1] and bool(fresh)

    def _match(self, first: Elite, other: Elite, paired: int) -> float:
        """How well `other` complements `first`, after so many crossovers of the two."""
        bonus = 0.2 * (first.role != other.role) + 0.1 * (other.score > first.score)
        return _jaccard(first.idea, other.idea) + bonus - 0.15 * paired

    def _frontier(self, view: View) -> list[Elite]:
        """The elites as the trials so far have left them."""
        scale = abs(view.trials[0].score or 1.0) or 1.0
        elites: list[Elite] = []
        for count, trial in enumerate(view.trials):
            score = None if trial.score is None else trial.score / scale
            parents = trial.draft.move.parents if trial.draft is not None else ()
            by_id = {e.id: e for e in elites}
            first = by_id.get(parents[0]) if parents else None
            gain = 0.0 if score is None or first is None else score - first.score
            for parent, credit in zip(parents, (1.0, 0.5), strict=False):
                if parent in by_id:
                    _credit(by_id[parent], credit * gain, count)
            if score is not None:
                names = view.space.changed(view.space.defaults(), trial.values)
                idea = frozenset((n, trial.values[n]) for n in names)
                new = Elite(trial.id, score, idea, _role(score, idea, elites), count)
                self._promote(elites, new, first)
        return elites

    def _promote(self, elites: list[Elite], new: Elite, parent: Elite | None) -> None:
        """Put `new` into the frontier, in the place of the elite that it beats, if any."""
        if len(elites) < self.ELITES:
            elites.append(new)
            return
        best, worst = max(elites, key=lambda e: e.score), min(elites, key=lambda e: e.score)
        beaten = worst if parent is None or new.score < parent.score + self.OWN else parent
        different = min(_jaccard(new.idea, e.idea) for e in elites) > self.NEW
        if new.score > best.score + self.CLEAR:
            elites[elites.index(best)] = new
        elif new.score > worst.score + self.CLEAR:
            elites[elites.index(beaten)] = new
        elif different and new.score >= worst.score - self.EQUAL:
            elites[elites.index(worst)] = new


def _credit(elite: Elite, gain: float, now: int) -> None:
    """Take a child's gain into the mean of its parent's."""
    elite.gain += (gain - elite.gain) / (elite.children + 1)
    elite.children, elite.used = elite.children + 1, now


def _role(score: float, idea: Idea, elites: list[Elite]) -> str:
    if all(score > e.score for e in elites):
        return "best"
    return "lean" if all(len(idea) <= len(e.idea) for e in elites) else "diverse"


def _jaccard(one: Idea, other: Idea) -> float:
    """Distance of two ideas in [0, 1]: the share of their changes that they do not share."""
    return 1 - len(one & other) / len(one | other) if one | other else 0.0
