"""Tree-structured Parzen estimator."""

from __future__ import annotations

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move, Trial, Value

optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces every study


class Tpe(Mechanism):
    """Draws where good trials are dense and bad ones are not, without an LLM.

    Source: Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011, section 4;
    optuna's TPESampler with its defaults.
    Faithful: optuna's own sampler; its study is rebuilt from the trials at each step.
    Adapted: numbers in units, so that grids and log scales are optuna's floats; a failed trial
    counts as the worst score; after REPEATS repeats draws are random; a text keeps the incumbent's
    value.
    """

    STARTUP = 10  # optuna's n_startup_trials: random until then
    REPEATS = 10  # draws of the estimator that may repeat a trial
    TRIES = 200  # draws after which a space counts as used up

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        """New configurations, one a slot."""
        names = [n for n in view.open() if view.from_unit(n, 0.0) != view.from_unit(n, 1.0)]
        if not names:
            return moves
        study, spaces = self._study(view, names), {n: _distribution(view, n) for n in names}
        tried = {view.space.key(t.values) for t in view.trials}
        found: list[Move] = []
        for number in range(self.TRIES):
            if number == self.REPEATS:
                study.sampler = optuna.samplers.RandomSampler(seed=view.rng.getrandbits(32))
            asked = study.ask(spaces).params
            values = {**view.incumbent.values, **{n: _value(view, n, asked[n]) for n in names}}
            if view.space.key(values) not in tried:
                tried.add(view.space.key(values))
                found.append(Move(values=values, tag="tpe"))
            if len(found) == max(1, view.slots):
                break
        return found or moves

    def _study(self, view: View, names: list[str]) -> optuna.Study:
        seed = view.rng.getrandbits(32)
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=self.STARTUP)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        worst = min(t.score for t in view.trials if t.score is not None)
        study.add_trials([_told(view, names, t, worst) for t in view.trials])
        return study


def _distribution(view: View, name: str) -> BaseDistribution:
    param = view.space[name]
    if param.kind == "choice":
        return CategoricalDistribution(param.choices)
    return FloatDistribution(0.0, 1.0)


def _value(view: View, name: str, asked: Value) -> Value:
    return asked if view.space[name].kind == "choice" else view.from_unit(name, float(asked))


def _told(view: View, names: list[str], trial: Trial, worst: float) -> optuna.trial.FrozenTrial:
    params = {
        n: trial.values[n] if view.space[n].kind == "choice" else view.unit(n, trial.values[n])
        for n in names
    }
    score = worst if trial.score is None else trial.score
    spaces = {n: _distribution(view, n) for n in names}
    return optuna.trial.create_trial(params=params, distributions=spaces, value=score)
