"""Iterated racing, as in irace."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from scipy.stats import ttest_1samp

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move, Trial, Value, Values

Scores = dict[int, float | None]  # of one configuration, by the index of the seed


class Racing(Mechanism):
    """Races configurations over fresh seeds: losers of a paired test drop out, the winner is kept.

    Source: Lopez-Ibanez et al., "The irace package: Iterated racing for automatic algorithm
    configuration", Operations Research Perspectives 3, 2016, sections 2.2 and 3 (its t-test
    option).
    Faithful: races of the elite against new configurations drawn around it, ever closer; paired
    tests at 0.05 without correction, seed by seed.
    Adapted: races of 4, a first test after 3 seeds instead of 5; a choice stays with probability
    1/2.
    """

    RACERS = 4
    FIRST_TEST = 3  # measurements before the first test; irace takes 5
    MOST = 7  # measurements that end a race
    LEVEL = 0.05
    TRIES = 100

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        """The race's next measurements, or the challengers of a new race."""
        races = 1
        while view.by_tag(f"racing:{races}"):
            races += 1
        if races > 1:
            tag = f"racing:{races - 1}"
            missing, seed = self._next(view, view.by_tag(tag))
            if missing:
                return [Move((view.incumbent.id,), v, tag=tag, seed=seed) for v in missing]
        drawn = self._challengers(view, races)
        return [Move((view.incumbent.id,), v, tag=f"racing:{races}") for v in drawn] or moves

    def accept(self, view: View, trial: Trial, keep: bool) -> bool:
        """Whether its mean beats the incumbent's over FIRST_TEST seeds or more of both."""
        scores = _scores(view, [*view.trials, trial])
        mine = scores[view.space.key(trial.values)]
        theirs = scores[view.space.key(view.incumbent.values)]
        pairs = _pairs(mine, theirs)
        return len(pairs) >= self.FIRST_TEST and statistics.fmean(a - b for a, b in pairs) > 0

    def _next(self, view: View, race: Sequence[Trial]) -> tuple[list[Values], int]:
        """Configurations still in the race that lack a measurement, and the seed they lack."""
        scores = _scores(view, view.trials)
        legal = [
            t for t in race if all(t.values[n] == view.incumbent.values[n] for n in view.frozen)
        ]
        alive = {view.space.key(t.values): t.values for t in (view.incumbent, *legal)}
        for seed in range(self.MOST):
            missing = [v for k, v in alive.items() if seed not in scores[k]]
            if missing:
                return missing, seed
            alive = {k: v for k, v in alive.items() if scores[k][seed] is not None}
            if seed + 1 >= self.FIRST_TEST:
                runs = {k: [a for a, _ in _pairs(scores[k], scores[k])][: seed + 1] for k in alive}
                best = max(runs.values(), key=statistics.fmean)
                alive = {k: v for k, v in alive.items() if not self._loses(runs[k], best)}
            if len(alive) < 2:
                break
        return [], 0

    def _loses(self, run: Sequence[float], best: Sequence[float]) -> bool:
        """Whether a paired test finds a run of scores worse than the best one."""
        gaps = [b - a for a, b in zip(run, best, strict=True)]
        if max(gaps) - min(gaps) <= 1e-12 * max(map(abs, gaps)):  # no spread, nothing to test
            return gaps[0] > 0
        return bool(ttest_1samp(gaps, 0.0, alternative="greater").pvalue < self.LEVEL)

    def _challengers(self, view: View, race: int) -> list[Values]:
        """RACERS - 1 new configurations: uniform in the first race, then ever nearer the elite."""
        names = [n for n in view.open() if view.from_unit(n, 0.0) != view.from_unit(n, 1.0)]
        tried = {view.space.key(t.values) for t in view.trials}
        drawn: dict[str, Values] = {}
        for _ in range(self.TRIES if names else 0):
            values = {**view.incumbent.values, **{n: self._draw(view, n, race) for n in names}}
            if len(drawn) < self.RACERS - 1 and view.space.key(values) not in tried:
                drawn[view.space.key(values)] = values
        return list(drawn.values())

    def _draw(self, view: View, name: str, race: int) -> Value:
        now = view.incumbent.values[name]
        if race == 1:
            return view.from_unit(name, view.rng.random())
        if view.space[name].kind == "choice":
            return view.rng.choice([now, view.rng.choice(view.space[name].choices)])
        # irace section 3.3: half the range, times (1 / challengers) ** (1 / parameters) a race.
        sd = 0.5 * (self.RACERS - 1) ** (-(race - 1) / len(view.space))
        return view.from_unit(name, view.rng.gauss(view.unit(name, now), sd))


def _scores(view: View, trials: Sequence[Trial]) -> dict[str, Scores]:
    """All measurements of each configuration."""
    scores: dict[str, Scores] = {}
    for trial in trials:
        seed = trial.draft.move.seed if trial.draft is not None else 0
        scores.setdefault(view.space.key(trial.values), {})[seed] = trial.score
    return scores


def _pairs(one: Scores, other: Scores) -> list[tuple[float, float]]:
    """Scores of both on the seeds that both have."""
    return [
        (a, b) for seed, a in one.items() if a is not None and (b := other.get(seed)) is not None
    ]
