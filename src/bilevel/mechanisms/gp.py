"""Bayesian optimisation with a Gaussian process."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from bilevel.mechanism import Mechanism, View
from bilevel.model import Draft, Move, Value, Values


class GaussianProcess(Mechanism):
    """Evaluates what promises the largest expected improvement.

    Alone it plans configurations without an LLM. Above a layer that asks the LLM for several drafts
    (`multi_batch,gp`) it leaves the plan alone and evaluates the drafts that promise most.
    Source: Jones, Schonlau and Welch, "Efficient Global Optimization", J. Glob. Optim. 13, 1998,
    eq. 15; Matern 5/2 as in Snoek, Larochelle and Adams, NeurIPS 2012, section 3.1; scikit-learn.
    Faithful: the acquisition and the kernel, its scales fitted by maximum likelihood.
    Adapted: one length scale, a random pool instead of an inner optimiser, choices one-hot; a
    failed trial counts as the worst score; with several slots the next best of the pool are taken.
    """

    START = 5  # trials before the model is trusted; random until then
    POOL = 400  # random configurations that it chooses from, and as many near the best
    REACH = 0.1  # standard deviation of a step away from the best, in units
    MOST = 300  # latest trials that the model is fitted to, which costs their cube

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        """New configurations, one a slot; the moves from below when they are several."""
        pool = [] if len(moves) > 1 else self._pool(view)
        if not pool:
            return moves
        if len(view.trials) > self.START:
            promise = self._improvement(view, pool)
            pool = [pool[i] for i in np.argsort(-promise, kind="stable")]
        return [Move(values=v, tag="gp") for v in pool[: max(1, view.slots)]]

    def screen(self, view: View, drafts: list[Draft]) -> list[Draft]:
        """The drafts that promise most, one a slot; all of them at the start."""
        if len(view.trials) <= self.START or len(drafts) <= view.slots:
            return drafts
        promise = self._improvement(view, [d.values for d in drafts])
        order = np.argsort(-promise, kind="stable")
        return [drafts[i] for i in order[: max(1, view.slots)]]

    def _pool(self, view: View) -> list[Values]:
        """Configurations that were not evaluated, none twice; random ones first."""
        names = [n for n in view.open() if view.from_unit(n, 0.0) != view.from_unit(n, 1.0)]
        pool: dict[str, Values] = {}
        for number in range(2 * self.POOL if names else 0):
            values: dict[str, Value] = dict(view.incumbent.values)
            if number < self.POOL:
                values |= {n: view.from_unit(n, view.rng.random()) for n in names}
            else:
                name = view.rng.choice(names)
                place = view.unit(name, view.best.values[name]) + view.rng.gauss(0, self.REACH)
                values |= {n: view.best.values[n] for n in names}
                values[name] = view.from_unit(name, place)
            pool[view.space.key(values)] = values
        for trial in view.trials:
            pool.pop(view.space.key(trial.values), None)
        return list(pool.values())

    def _improvement(self, view: View, pool: Sequence[Values]) -> np.ndarray:
        """Expected improvement on the best score, shape (len(pool),), in standard deviations."""
        trials = view.trials[-self.MOST :]
        worst = min(t.score for t in view.trials if t.score is not None)
        scores = np.array([worst if t.score is None else t.score for t in trials])
        scores = (scores - scores.mean()) / (scores.std() or 1.0)
        kernel = ConstantKernel() * Matern(0.5, (0.05, 20.0), nu=2.5) + WhiteKernel(0.01, (1e-6, 1))
        model = GaussianProcessRegressor(kernel)
        with warnings.catch_warnings():
            # A scale at its bound is an answer here: the data does not say more.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit([_point(view, t.values) for t in trials], scores)
        mean, sd = model.predict([_point(view, v) for v in pool], return_std=True)
        gain = mean - scores.max()
        return np.asarray(gain * norm.cdf(gain / sd) + sd * norm.pdf(gain / sd))


def _point(view: View, values: Values) -> list[float]:
    """Coordinates of a configuration: units of the numbers, one of 0 and 1 for each choice."""
    point: list[float] = []
    for param in view.space:
        if param.kind == "choice":
            point += [float(values[param.name] == c) for c in param.choices]
        else:
            point.append(view.unit(param.name, values[param.name]))
    return point
