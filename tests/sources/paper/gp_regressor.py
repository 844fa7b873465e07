"""A Gaussian process predicts scores; the LLM is told where it would look next.

The paper's run C3, first session, which was taken back because scikit-learn was not installed.
"""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern, WhiteKernel

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move, Values


class GPRegressor(Mechanism):
    START = 4
    POOL = 16

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        names = view.ranged()
        if len(view.scored()) < self.START or not names:
            return moves
        pool = [self.sample(view, names) for _ in range(self.POOL)]
        mean, spread = self.predict(view, names, pool)
        best = pool[int(np.argmax(mean + spread))]
        advice = ", ".join(f"{n} near {view.space[n].show(best[n])}" for n in names[:3])
        note = f"A model of the past trials expects most of {advice}."
        return [m if m.values is not None or m.note else m.edit(note=note) for m in moves]

    def sample(self, view: View, names: tuple[str, ...]) -> Values:
        drawn = {n: view.from_unit(n, view.rng.random()) for n in names}
        return {**view.incumbent.values, **drawn}

    def predict(self, view: View, names: tuple[str, ...], pool: list[Values]) -> tuple:
        """Mean and standard deviation of the score, in those of the past, of each of the pool."""
        past = view.scored()[-100:]
        scores = np.array([t.score for t in past])
        scores = (scores - scores.mean()) / (scores.std() or 1.0)
        points = [[view.unit(n, t.values[n]) for n in names] for t in past]
        model = GaussianProcessRegressor(Matern(0.5, nu=2.5) + WhiteKernel(0.01), optimizer=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(points, scores)
        return model.predict([[view.unit(n, v[n]) for n in names] for v in pool], return_std=True)
