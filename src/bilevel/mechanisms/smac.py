"""SMAC: Bayesian optimisation with a random forest."""

from __future__ import annotations

from bilevel.errors import MissingExtra
from bilevel.mechanism import Mechanism, View
from bilevel.model import Move, Value, Values

try:
    from ConfigSpace import Categorical, Configuration, ConfigurationSpace, Float
    from smac import HyperparameterOptimizationFacade as Facade
    from smac import Scenario
    from smac.acquisition.maximizer.local_search import LocalSearch
    from smac.model.random_forest import RandomForest
    from smac.runhistory import RunHistory
except ModuleNotFoundError as error:
    raise MissingExtra(
        f"mechanism smac needs {error.name}, which is not installed; "
        "get it: pip install 'bilevel[smac]'"
    ) from error


class Smac(Mechanism):
    """Evaluates what a random forest expects to improve most, without an LLM.

    Source: Lindauer et al., "SMAC3: A Versatile Bayesian Optimization Package for Hyperparameter
    Optimization", JMLR 23, 2022; the parts of its HyperparameterOptimizationFacade.
    Faithful: Sobol's initial design, forest, log scaled costs, log expected improvement, every
    fifth configuration random.
    Adapted: its run history is rebuilt from the trials at each step; numbers in units; a failed
    trial counts as the worst score; fewer challengers; a text keeps the incumbent's value; local
    searches start in a fixed order.
    """

    CHALLENGERS = 1000  # random configurations that it chooses from; 10,000 in the facade
    TRIES = 200  # random suggestions in reserve, should all the others repeat a trial

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        """New configurations, one a slot."""
        names = [n for n in view.open() if view.from_unit(n, 0.0) != view.from_unit(n, 1.0)]
        if not names:
            return moves
        tried = {view.space.key(t.values) for t in view.trials}
        found: list[Move] = []
        for asked in self._suggestions(view, names):
            values = {**view.incumbent.values, **{n: _value(view, n, asked[n]) for n in names}}
            if view.space.key(values) not in tried:
                tried.add(view.space.key(values))
                found.append(Move(values=values, tag="smac"))
            if len(found) == max(1, view.slots):
                break
        return found or moves

    def _suggestions(self, view: View, names: list[str]) -> list[Configuration]:
        """What to try, best first: the initial design while it lasts, then the forest's choice."""
        # The design must be the same at every step of a run; the common seed is.
        space = ConfigurationSpace(seed=view.trials[0].seed)
        space.add([_hyperparameter(view, n) for n in names])
        budget = len(view.trials) - 1 + view.left
        scenario = Scenario(space, deterministic=True, n_trials=budget, seed=view.trials[0].seed)
        design = Facade.get_initial_design(scenario).select_configurations()
        if len(view.trials) <= len(design):
            return [*design, *space.sample_configuration(self.TRIES)]
        scenario = Scenario(
            space, deterministic=True, n_trials=budget, seed=view.rng.getrandbits(31)
        )
        return self._challengers(view, scenario, names)

    def _challengers(self, view: View, scenario: Scenario, names: list[str]) -> list[Configuration]:
        history = RunHistory()
        worst = min(t.score for t in view.trials if t.score is not None)
        for trial in view.trials:
            told = {n: _told(view, n, trial.values) for n in names}
            cost = -(worst if trial.score is None else trial.score)
            history.add(Configuration(scenario.configspace, told), cost=cost, time=1.0, seed=0)
        encoder = Facade.get_runhistory_encoder(scenario)
        encoder.runhistory = history
        points, costs = encoder.transform()
        model = RandomForest(  # as Facade.get_model makes it
            scenario.configspace,
            log_y=True,
            ratio_features=1.0,
            min_samples_split=2,
            min_samples_leaf=1,
            # No tree has more; the facade's limit, 2**20, costs 84 ms a tree to allocate.
            max_leaf_nodes=2 + len(points),
            seed=scenario.seed,
        )
        model.train(points, costs)
        gain = Facade.get_acquisition_function(scenario)
        gain.update(model=model, eta=costs.min(), incumbents=[], num_data=len(points), X=points)
        maximizer = Facade.get_acquisition_maximizer(scenario, challengers=self.CHALLENGERS)
        maximizer.acquisition_function = gain
        _order(maximizer._local_search)
        random = Facade.get_random_design(scenario)
        best = maximizer.maximize(history.get_configs(), random_design=random)
        return [*best, *scenario.configspace.sample_configuration(self.TRIES)]


def _order(search: LocalSearch) -> None:
    """SMAC takes its starts from a set, whose order is another in each process."""
    starts = search._get_initial_points
    search._get_initial_points = lambda *given: sorted(starts(*given), key=_place)


def _place(found: Configuration) -> tuple[float, ...]:
    return tuple(found.get_array())


def _hyperparameter(view: View, name: str) -> Categorical | Float:
    param = view.space[name]
    if param.kind == "choice":
        return Categorical(name, list(range(len(param.choices))))
    return Float(name, (0.0, 1.0))


def _value(view: View, name: str, asked: float) -> Value:
    param = view.space[name]
    return param.choices[int(asked)] if param.kind == "choice" else view.from_unit(name, asked)


def _told(view: View, name: str, values: Values) -> float:
    param = view.space[name]
    if param.kind == "choice":
        return param.choices.index(values[name])
    return view.unit(name, values[name])
