"""FunSearch's islands."""

from __future__ import annotations

import math

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move, Trial

Island = dict[float, list[Trial]]  # clusters by their score


class Islands(Mechanism):
    """Breeds in separate populations: parents by softmax over clusters of equal score, resets.

    Source: Romera-Paredes et al., "Mathematical discoveries from program search with large language
    models", Nature 625, 2024; google-deepmind/funsearch, `programs_database.py` and its defaults.
    Faithful: two parents of one island, softmax at 0.1, simpler ones preferred, weaker half reset.
    Adapted: 4 islands and a reset every 15 trials instead of 10 and every 4 hours; scores are
    scaled to [0, 1]; those that noise cannot tell apart are one cluster; the strongest survivors
    are founders.
    """

    ISLANDS = 4
    PARENTS = 2  # functions_per_prompt
    RESET = 15  # trials
    TEMPERATURE = 0.1  # cluster_sampling_temperature_init; it hardly decays within 100 trials

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        """Moves from parents of random islands, one a slot."""
        islands = self._islands(view)
        chosen = [view.rng.randrange(self.ISLANDS) for _ in range(max(1, view.slots))]
        return [Move(parents=self._parents(view, islands[i]), tag=f"islands:{i}") for i in chosen]

    def _islands(self, view: View) -> list[Island]:
        """The populations as the trials so far have left them."""
        homes = {t.id: i for i in range(self.ISLANDS) for t in view.by_tag(f"islands:{i}")}
        islands: list[Island] = [{} for _ in range(self.ISLANDS)]
        for count, trial in enumerate(view.trials):
            if trial.score is not None:
                score = round(trial.score / view.noise) * view.noise if view.noise else trial.score
                for i in [homes[trial.id]] if trial.id in homes else range(self.ISLANDS):
                    islands[i].setdefault(score, []).append(trial)
            if count and count % self.RESET == 0:
                self._reset(islands)
        return islands

    def _reset(self, islands: list[Island]) -> None:
        """Empty the weaker half but for the best of a survivor."""
        order = sorted(range(self.ISLANDS), key=lambda i: max(islands[i]))
        half = self.ISLANDS // 2
        for weak, strong in zip(order[:half], reversed(order[half:]), strict=True):
            best = max(islands[strong])
            islands[weak] = {best: islands[strong][best][:1]}

    def _parents(self, view: View, island: Island) -> tuple[int, ...]:
        """Ids of the parents, the best first."""
        scores = list(island)
        spread = max(scores) - min(scores) or 1.0
        weights = [math.exp((s - max(scores)) / spread / self.TEMPERATURE) for s in scores]
        drawn = sorted(view.rng.choices(scores, weights, k=self.PARENTS), reverse=True)
        return tuple(dict.fromkeys(self._simple(view, island[s]).id for s in drawn))

    def _simple(self, view: View, cluster: list[Trial]) -> Trial:
        """One of a cluster, rather one that changes few of the defaults."""
        defaults = view.space.defaults()
        sizes = [len(view.space.changed(defaults, t.values)) for t in cluster]
        weights = [math.exp(-(s - min(sizes)) / (max(sizes) + 1e-6)) for s in sizes]
        return view.rng.choices(cluster, weights)[0]
