"""Whether a candidate stack does significant harm, tried where an evaluation costs nothing.

Two searches go on from the run's own history, one with the candidate and one without, on a
landscape drawn from a surrogate of the run's trials; what the LLM would propose is drawn from its
habits in this run. All else is the run's own: loop, stack, steering, budget. Each seed draws
another landscape and other proposals, the same for both searches (common random numbers). They are
compared by what the landscape gives, without noise, for the best that each found.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING

from bilevel.errors import MissingExtra
from bilevel.evaluate import Evaluated
from bilevel.gate.habits import Habits, Habitual, habits
from bilevel.history import History
from bilevel.loop import IDLE_STEPS, Loop
from bilevel.mechanism import View
from bilevel.model import Objective, Outcome, Record, Run, Trial, Values
from bilevel.noise import interval
from bilevel.seeds import derive, generator
from bilevel.stack import Layer, Stack
from bilevel.tape.tape import Tape

if TYPE_CHECKING:
    from bilevel.gate.surrogate import Landscape, Surrogate

SEEDS = 20  # pairs of searches; with 12, a layer that wastes all evaluations can pass
LEAST, MOST = 5, 20  # evaluations of a search
STEPS = 4  # for so many steps an evaluation a search goes on
# Share of what the stack gains without the candidate that must be lost, beside an interval that
# lies below 0. No multiple of the noise: both search on one seed, and late in a run all that is
# left to gain, and so to lose, is smaller than the noise between seeds.
HARM = 0.25

__all__ = ["Screened", "screening"]


@dataclass(frozen=True)
class Screened:
    """What a screening found.

    mean: best score found with the candidate, minus the same without it; low, high: 95 % interval
    over the seeds (Student's t, paired). words: for the candidate's author if it harms, else for
    a report.
    """

    mean: float
    low: float
    high: float
    harmful: bool
    words: str


@dataclass(frozen=True)
class _Search:
    """A search's own trials. gain: of its best over the best before it, both without noise.

    worse: trials that were kept and scored less than the incumbent.
    """

    gain: float
    trials: tuple[Trial, ...]
    worse: int


def screening(
    run: Run,
    records: Sequence[Record],
    without: Callable[[], Sequence[Layer]],
    with_: Callable[[], Sequence[Layer]],
) -> Screened:
    """The gain of the stack with the candidate over that without, both asked for once.

    Raises MissingExtra when scikit-learn is not installed: whether the gate then does without a
    screening is for whoever starts the run to decide, and to put on record.
    """
    world = _world(run, records)
    bare, full = world.searches(without()), world.searches(with_())
    gains = [f.gain - b.gain for b, f in zip(bare, full, strict=True)]
    span, mean = interval(gains), statistics.fmean(gains)
    assert span is not None
    gained = max(0.0, statistics.fmean(b.gain for b in bare))
    harmful = span[1] < 0 and -mean >= HARM * gained
    words = (
        f"in {len(gains)} pairs of simulated searches, {world.evals} evaluations each, on a model "
        f"of this run's trials, the best {run.objective.metric} was {_better(mean)} with it "
        f"(95 % interval: {_better(span[0])} to {_better(span[1])})"
    )
    if harmful:
        words += f"; without it the search gained {gained:.2g}; {_why(world.view, bare, full)}"
    return Screened(mean, *span, harmful, words)


@dataclass(frozen=True)
class _World:
    """What both searches share. view: of the run before they begin. evals: evaluations of each."""

    run: Run
    records: Sequence[Record]
    view: View
    surrogate: Surrogate
    habits: Habits
    evals: int

    def searches(self, layers: Sequence[Layer]) -> list[_Search]:
        """One search a seed, the layers each time as they are now."""
        states = [layer.mechanism._state() for layer in layers]
        found = []
        for number in range(SEEDS):
            for layer, state in zip(layers, states, strict=True):
                layer.mechanism._restore(state)
            found.append(self._search(layers, derive(self.run.seed, "screening", number)))
        return found

    def _search(self, layers: Sequence[Layer], seed: int) -> _Search:
        landscape = self.surrogate.drawn(seed)
        history = History(self.run.space, self.records)
        before = len(history.trials)
        run = replace(self.run, seed=seed, evals=history.evaluated() + self.evals)
        loop = Loop(
            run=run,
            objective=run.objective,
            history=history,
            proposer=Habitual("", run.objective, Tape("", None), seed, self.habits),
            evaluator=_Simulated(run, landscape),
            stack=Stack(layers, seed, lambda _: None),
            append=lambda _: None,
        )
        for _ in range(STEPS * self.evals):
            if history.evaluated() >= run.evals or history.idle_steps() >= IDLE_STEPS:
                break
            loop.step()
        trials = tuple(history.trials[before:])
        assert history.best is not None
        gain = landscape.score(history.best.values) - landscape.score(self.view.best.values)
        return _Search(gain, trials, _kept_worse(self.view.incumbent, trials))


def _world(run: Run, records: Sequence[Record]) -> _World:
    history = History(run.space, records)
    left = min(max(run.evals - history.evaluated(), LEAST), MOST)
    step = len(history.proposals)
    view = history.view(step=step, slots=run.slots, left=left, rng=generator(run.seed))
    return _World(run, records, view, _surrogate(view), habits(run, records), left)


def _surrogate(view: View) -> Surrogate:
    try:
        # Here, for it imports heavy libraries, which a run without screening need not have.
        module = import_module("bilevel.gate.surrogate")
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"screening needs {error.name}, which is not installed; get it: "
            "pip install 'bilevel[search]', or switch the screening off"
        ) from error
    made: Surrogate = module.Surrogate(view)
    return made


class _Simulated:
    """Evaluates on a landscape, at once."""

    def __init__(self, run: Run, landscape: Landscape) -> None:
        self.slots = run.slots
        self._space = run.space
        self._objective: Objective = run.objective
        self._landscape = landscape
        self._done: list[Evaluated] = []

    def start(self, key: int, values: Values, seed: int) -> None:
        found = self._landscape.measured(values, self._space.key(values), seed)
        if isinstance(found, Trial):
            outcome = Outcome(found.status, None, error=found.error)
        else:
            value = self._objective.value(found)
            outcome = Outcome("ok", value, {self._objective.metric: value})
        self._done.append(Evaluated(key, outcome, 1.0))

    def finished(self) -> list[Evaluated]:
        done, self._done = self._done, []
        return done


def _kept_worse(incumbent: Trial, trials: Sequence[Trial]) -> int:
    count = 0
    for trial in trials:
        if trial.kept and trial.score is not None and incumbent.score is not None:
            count += trial.score < incumbent.score
            incumbent = trial
    return count


def _better(gain: float) -> str:
    return f"{abs(gain):.2g} {'better' if gain > 0 else 'worse'}" if gain else "the same"


def _why(view: View, bare: Sequence[_Search], full: Sequence[_Search]) -> str:
    """The plainest difference between the searches, and what to do about it."""

    def mean(of: Callable[[_Search], float], searches: Sequence[_Search]) -> float:
        return statistics.fmean(map(of, searches))

    def failed(search: _Search) -> float:
        return sum(t.score is None for t in search.trials) / max(1, len(search.trials))

    def away(search: _Search) -> float:
        distances = [view.distance(t.values, view.best.values) for t in search.trials]
        return statistics.fmean(distances) if distances else 0.0

    def touched(search: _Search) -> float:
        return len(
            {n for t in search.trials for n in view.space.changed(view.best.values, t.values)}
        )

    made, could = mean(lambda s: len(s.trials), full), mean(lambda s: len(s.trials), bare)
    if made < 0.8 * could:
        found = f"it made {made:.0f} evaluations of {could:.0f}"
        return f"{found}; leave something new to evaluate in every step"
    if mean(failed, full) > mean(failed, bare) + 0.2:
        shares = f"{mean(failed, full):.0%} of its evaluations failed, {mean(failed, bare):.0%}"
        return f"{shares} without it; stay nearer to trials that have a score"
    if mean(lambda s: s.worse, full) > mean(lambda s: s.worse, bare) + 1:
        kept = f"it kept {mean(lambda s: s.worse, full):.0f} worse trials a search"
        return f"{kept}; keep a worse trial seldom, and only a little worse one"
    if mean(away, full) > 1.5 * mean(away, bare):
        far = f"its trials lay {mean(away, full):.2f} from the best one (view.distance)"
        near = f"{mean(away, bare):.2f} without it"
        return f"{far}, {near}; change one or two parameters of view.best, by smaller steps"
    if mean(touched, full) < 0.8 * mean(touched, bare):
        few = f"it changed {mean(touched, full):.1f} parameters a search"
        return f"{few}, {mean(touched, bare):.1f} without it; leave more of them open"
    return "act in fewer steps, such as only when view.streak() is 5 or more"
