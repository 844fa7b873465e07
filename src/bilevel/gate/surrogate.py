"""A cheap landscape in the task's place, fitted to a run's own trials."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_solve
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from bilevel.gate.habits import place
from bilevel.mechanism import View
from bilevel.model import Param, Trial, Value, Values
from bilevel.seeds import generator

Array = np.ndarray[Any, np.dtype[np.float64]]

MOST = 200  # latest trials that it is fitted to, which costs their cube
FAR = (
    10.0  # spreads (what was gained, and the interquartile range) below the first: no lower counts
)
# What is far from the best trial is worse than a stationary process has it, which knows only what
# lies near. Of the curvature that the trials show, half errs least on results/gpt-30-optimisers,
# for the parameters that were tried are those that matter.
BOWL = 0.5
NOISE = (1e-4, 0.25)  # share of the variance; below 1, so that there is something to find
FEATURES = 256  # random ones, of which a drawn function is the sum
TEXT_DIMENSIONS = 4


class Surrogate:
    """Score over configuration: a bowl around the best trial, and a Gaussian process on top.

    The process has a Matern 5/2 kernel of one length scale, by maximum likelihood (scikit-learn).
    A configuration fails where the nearest trial did. Numbers are in units, choices one-hot, so
    that two choices or texts are 1 apart.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        older = [t for t in view.trials[:-MOST] if t.id == view.best.id]
        self._trials = [*older, *view.trials[-MOST:]]
        self._all = np.stack([self.point(t.values) for t in self._trials])
        scored = [t for t in self._trials if t.score is not None]
        self._points = np.stack([self.point(t.values) for t in scored])
        scores = _fenced(np.array([t.score for t in scored], dtype=float))
        number, count = zip(*map(_dimensions, view.space), strict=True)
        self._numbers = np.repeat(number, count)
        self._centre = self.point(view.best.values)
        self._curve = self._curvature(scores)
        rest = scores + self._curve * self._away(self._points)
        self._mean, self._scale = float(rest.mean()), float(rest.std()) or 1.0
        kernel = ConstantKernel(1.0, (0.05, 20)) * Matern(0.5, (0.1, 20), nu=2.5)
        self._model = GaussianProcessRegressor(kernel + WhiteKernel(0.01, NOISE))
        self._rest = (rest - self._mean) / self._scale
        with warnings.catch_warnings():
            # A scale at its bound is an answer here: the data does not say more.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model.fit(self._points, self._rest)

    @property
    def noise(self) -> float:
        """Standard deviation, in scores, of what the process does not explain."""
        return self._scale * math.sqrt(self._model.kernel_.k2.noise_level)

    def point(self, values: Values) -> Array:
        """Coordinates of a configuration, shape (dimensions,)."""
        return np.array([x for p in self._view.space for x in self._row(p, values[p.name])])

    def failing(self, point: Array) -> Trial | None:
        """The nearest trial, if it failed and none that did not is as near."""
        distances = cdist(point[None], self._all)[0]
        nearest = [self._trials[i] for i in np.flatnonzero(distances <= distances.min() + 1e-9)]
        return None if any(t.score is not None for t in nearest) else nearest[0]

    def drawn(self, seed: int) -> Landscape:
        """A landscape that the trials allow, the same for the same seed.

        Matheron's rule: Wilson et al., "Efficiently sampling functions from Gaussian process
        posteriors", ICML 2020; features after Rahimi and Recht, NeurIPS 2007, and for this kernel
        frequencies are Student's t of 5 degrees of freedom over the length scale.
        """
        rng, kernel = np.random.default_rng(seed), self._model.kernel_
        signal, shape = kernel.k1, (FEATURES, self._points.shape[1])
        spread = np.sqrt(rng.chisquare(5, (FEATURES, 1)) / 5)
        frequencies = rng.standard_normal(shape) / spread / signal.k2.length_scale
        phases = rng.uniform(0, 2 * math.pi, FEATURES)
        weights = rng.standard_normal(FEATURES)
        weights *= math.sqrt(2 * signal.k1.constant_value / FEATURES)

        def prior(points: Array) -> Array:
            return np.asarray(np.cos(points @ frequencies.T + phases) @ weights)

        noise = rng.standard_normal(len(self._points)) * math.sqrt(kernel.k2.noise_level)
        error = self._rest - prior(self._points) - noise
        update = cho_solve((self._model.L_, True), error)

        def function(point: Array) -> float:
            known = signal(point[None], self._points)[0] @ update
            rest = self._mean + self._scale * float(prior(point[None])[0] + known)
            return rest - self._curve * float(self._away(point[None])[0])

        return Landscape(self, function, seed)

    def _row(self, param: Param, value: Value) -> list[float]:
        side = math.sqrt(0.5)
        if param.kind == "choice":
            return [side * (c == value) for c in param.choices]
        if param.kind == "text":
            rng = generator(0, str(value))
            drawn = [rng.gauss(0, 1) for _ in range(TEXT_DIMENSIONS)]
            return [side * x / math.hypot(*drawn) for x in drawn]
        return [place(self._view, param.name, value)]

    def _away(self, points: Array) -> Array:
        """Squared distance from the best trial in the numbers, in units, shape (points,)."""
        return np.asarray((((points - self._centre) * self._numbers) ** 2).sum(axis=1))

    def _curvature(self, scores: Array) -> float:
        """Loss a squared unit: least squares through the best trial."""
        away = self._away(self._points)
        total = float((away**2).sum())
        best = scores.max()
        return BOWL * float(((best - scores) * away).sum()) / total if total else 0.0


@dataclass(frozen=True)
class Landscape:
    """One that was drawn. function: score without noise, by coordinates."""

    surrogate: Surrogate
    function: Callable[[Array], float]
    seed: int

    def score(self, values: Values) -> float:
        """The score without noise."""
        return self.function(self.surrogate.point(values))

    def measured(self, values: Values, key: str, job: int) -> float | Trial:
        """The score with noise, or a trial that failed, as this configuration does.

        key: the configuration's identity; with the same key and job seed the answer is the same.
        """
        point = self.surrogate.point(values)
        failed = self.surrogate.failing(point)
        if failed is not None:
            return failed
        noise = generator(self.seed, "noise", job, key).gauss(0, self.surrogate.noise)
        return self.function(point) + noise


def _dimensions(param: Param) -> tuple[bool, int]:
    """Whether a parameter is a number, and how many coordinates it has."""
    if param.kind == "choice":
        return False, len(param.choices)
    return (False, TEXT_DIMENSIONS) if param.kind == "text" else (True, 1)


def _fenced(scores: Array) -> Array:
    """The scores, the far lowest raised to a fence, so that one cannot set the scale."""
    low, high = np.percentile(scores, (25, 75))
    spread = scores.max() - scores[0] + high - low
    return np.maximum(scores, scores[0] - FAR * spread) if spread > 0 else scores
