"""MAP-Elites on islands, as in AlphaEvolve."""

from __future__ import annotations

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move, Trial

Grid = dict[tuple[int, int], tuple[float, Trial]]  # cell: score and elite


class MapElites(Mechanism):
    """Keeps the best of each kind on each island, and breeds from them, with migration.

    Source: Novikov et al., "AlphaEvolve", 2025; Mouret and Clune, arXiv 1504.04909, 2015;
    OpenEvolve, `database.py` (explore 0.2, exploit 0.7, ring migration of 0.1 of an island,
    complexity, diversity).
    Faithful: islands in turn, parents explored, exploited or random, inspirations beside the
    parent.
    Adapted: 3 islands, 5 bins and migration every 10 trials instead of 5, 10 and 50; complexity is
    the share of defaults that are changed, diversity the distance from them.
    """

    ISLANDS = 3
    BINS = 5
    EXPLORE = 0.2
    EXPLOIT = 0.7
    ELITES = 3  # an island's archive: its best
    INSPIRATIONS = 2
    MIGRATE = 10  # trials
    SHARE = 0.1  # of an island that migrates, at least one

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        """Moves from one island after the other, one a slot."""
        grids = self._grids(view)
        turns = [(view.step + i) % self.ISLANDS for i in range(max(1, view.slots))]
        return [Move(parents=self._parents(view, grids[i]), tag=f"map_elites:{i}") for i in turns]

    def _grids(self, view: View) -> list[Grid]:
        """The islands as the trials so far have left them."""
        homes = {t.id: i for i in range(self.ISLANDS) for t in view.by_tag(f"map_elites:{i}")}
        grids: list[Grid] = [{} for _ in range(self.ISLANDS)]
        for count, trial in enumerate(view.trials):
            if trial.score is not None:
                for i in [homes[trial.id]] if trial.id in homes else range(self.ISLANDS):
                    self._add(view, grids[i], trial.score, trial)
            if count and count % self.MIGRATE == 0:
                self._migrate(view, grids)
        return grids

    def _add(self, view: View, grid: Grid, score: float, trial: Trial) -> None:
        """Put the trial into its cell if that is empty or holds a worse one."""
        defaults = view.space.defaults()
        complexity = len(view.space.changed(defaults, trial.values)) / len(view.space)
        places = (complexity, view.distance(defaults, trial.values))
        column, row = (min(int(p * self.BINS), self.BINS - 1) for p in places)
        if (column, row) not in grid or score > grid[column, row][0]:
            grid[column, row] = (score, trial)

    def _migrate(self, view: View, grids: list[Grid]) -> None:
        """Copy the best of each island to both neighbours in the ring."""
        leaving = [_ranked(g)[: max(1, round(self.SHARE * len(g)))] for g in grids]
        for i, group in enumerate(leaving):
            for score, trial in group:
                self._add(view, grids[(i + 1) % self.ISLANDS], score, trial)
                self._add(view, grids[i - 1], score, trial)

    def _parents(self, view: View, grid: Grid) -> tuple[int, ...]:
        """Ids of the parent and of its inspirations: the island's best, then any others."""
        elites, dice = [t.id for _, t in _ranked(grid)], view.rng.random()
        if dice < self.EXPLORE:
            parent = view.rng.choice(elites)
        elif dice < self.EXPLORE + self.EXPLOIT:
            parent = view.rng.choice(elites[: self.ELITES])
        else:
            parent = view.rng.choice(view.scored()).id
        others = [i for i in elites if i != parent]
        more = view.rng.sample(others[1:], min(self.INSPIRATIONS - 1, len(others[1:])))
        return (parent, *others[:1], *more)


def _ranked(grid: Grid) -> list[tuple[float, Trial]]:
    """Scores and elites of a grid, the best first."""
    return sorted(grid.values(), key=lambda pair: pair[0], reverse=True)
