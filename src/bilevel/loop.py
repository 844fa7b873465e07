"""Level 1: plan, draft, screen, evaluate, accept, until the budget is spent.

The loop never changes. What differs between two runs is the stack of mechanisms above it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from bilevel.evaluate import Evaluator, Request, run_all
from bilevel.history import History, seed_index
from bilevel.mechanism import View
from bilevel.model import (
    Draft,
    Move,
    Objective,
    Phase,
    Proposal,
    Record,
    Refusal,
    Run,
    Stop,
    StopReason,
    Trial,
)
from bilevel.proposer import Proposer
from bilevel.seeds import derive, generator
from bilevel.stack import Stack
from bilevel.steering import focus

IDLE_STEPS = 20  # steps in a row without an evaluation, after which a run gives up


def first_move(view: View) -> Move:
    """The loop's own move: from the incumbent, within what the steering's strategy aims at."""
    return Move(parents=(view.incumbent.id,), focus=focus(view))


@dataclass
class Loop:
    """One run of the inner loop over an append-only log.

    history: the fold of the log so far; a run that was stopped goes on from it. append: makes a
    record durable. expired: why no further step may begin, "" while one may. between: called
    before every step, for the outer loop. watch: told what happens now.
    """

    run: Run
    objective: Objective
    history: History
    proposer: Proposer
    evaluator: Evaluator
    stack: Stack
    append: Callable[[Record], object]
    expired: Callable[[], str] = lambda: ""
    between: Callable[[], None] = lambda: None
    watch: Callable[[Phase], None] = lambda _: None

    def go(self) -> Stop:
        """Run to the end of the budget; why it ended.

        Raises LLMError, ExecutorError or StoreError; all that was logged before stays.
        """
        stop = self._baseline() or self._search() or self._confirm()
        self._log(stop)
        return stop

    def _baseline(self) -> Stop | None:
        defaults, wanted = self.history.space.defaults(), range(self.run.baselines)
        self._measure(Request(defaults, self._job_seed(i), "baseline") for i in wanted)
        first = self.history.trials[0]
        if first.score is None:
            why = f"the baseline, the task with its own values, ended as {first.status}"
            return Stop(0, "failed", f"{why}: {first.error}; mend the task first")
        return None

    def _search(self) -> Stop | None:
        self._evaluate(self.history.pending())
        while self.history.evaluated() < self.run.evals:
            if why := self.expired():
                return self._stop("wall", why)
            if self.history.idle_steps() >= IDLE_STEPS:
                return self._stop("refused", f"{IDLE_STEPS} steps in a row led to no evaluation")
            self.between()
            self.step()
        return None

    def step(self) -> None:
        """Plan, draft, screen, evaluate, accept."""
        view = self._view(len(self.history.proposals))
        moves = self.stack.plan(view, [first_move(view)])
        drafts, refusals = self._draft(view, moves)
        screened = self.stack.screen(view, drafts) if drafts else []
        chosen = self.history.fresh(screened)
        again = "it repeats another configuration since it was edited"
        refusals += [
            Refusal(view.step, d.move, again, d.values) for d in screened if d not in chosen
        ]
        drafts = [next((c for c in screened if c.id == d.id), d) for d in drafts]
        queue = tuple(d.id for d in chosen[: view.left])
        self._log(Proposal(view.step, tuple(moves), tuple(drafts), tuple(refusals), queue))
        self._evaluate(self.history.pending())

    def _draft(self, view: View, moves: list[Move]) -> tuple[list[Draft], list[Refusal]]:
        drafts: list[Draft] = []
        refusals: list[Refusal] = []
        first = self.history.next_draft()
        for turn, move in enumerate(moves):
            self.watch(Phase("propose", view.step))
            number = first + len(drafts)
            answer = self.proposer.propose(self.history, view, move, number, turn)
            if isinstance(answer, Refusal):
                refusals.append(answer)
            elif any((answer.values, move.seed) == (d.values, d.move.seed) for d in drafts):
                refusals.append(Refusal(view.step, move, "it repeats another draft", answer.values))
            else:
                drafts.append(answer)
        return drafts, refusals

    def _evaluate(self, drafts: list[Draft]) -> None:
        wanted = [Request(d.values, self._job_seed(d.move.seed), "search", d) for d in drafts]
        for trial in self._run_all(wanted):
            better = trial.score is not None and trial.score > self._incumbent_score()
            keep = better and seed_index(trial) == 0
            view = self._view(len(self.history.proposals) - 1)
            self._log(replace(trial, kept=self.stack.accept(view, trial, keep)))

    def _confirm(self) -> Stop:
        """Measure the winner and the baseline on the same fresh seeds."""
        best = self.history.best
        if best is not None and best.id != 0:
            seeds = [self._job_seed(i) for i in range(1, self.run.confirms + 1)]
            defaults = self.history.space.defaults()
            self._measure(Request(best.values, s, "confirm") for s in seeds)
            self._measure(Request(defaults, s, "baseline") for s in seeds)
        return self._stop("done", f"{self.history.evaluated()} evaluations")

    def _measure(self, requests: Iterable[Request]) -> None:
        done = [(t.values, t.seed, t.role) for t in self.history.trials]
        wanted = [r for r in requests if (r.values, r.seed, r.role) not in done]
        for trial in self._run_all(wanted):
            first = trial.id == 0 and trial.score is not None
            self._log(replace(trial, kept=first))

    def _run_all(self, requests: list[Request]) -> Iterator[Trial]:
        def starting(key: int, request: Request) -> None:
            step = len(self.history.proposals)
            self.watch(Phase(request.role, step, key, request.draft))

        first = len(self.history.trials)
        return run_all(self.evaluator, self.objective, requests, first, starting)

    def _view(self, step: int) -> View:
        left = self.run.evals - self.history.evaluated()
        rng = generator(self.run.seed, "loop", step)
        return self.history.view(step=step, slots=self.evaluator.slots, left=left, rng=rng)

    def _incumbent_score(self) -> float:
        incumbent = self.history.incumbent
        assert incumbent is not None
        assert incumbent.score is not None
        return incumbent.score

    def _job_seed(self, index: int) -> int:
        """Seed 0 for all of a search (common random numbers), others for measuring noise."""
        return derive(self.run.seed, "job", index) % 100_000

    def _stop(self, reason: StopReason, detail: str) -> Stop:
        return Stop(len(self.history.proposals), reason, detail)

    def _log(self, record: Record) -> None:
        self.append(record)
        self.history.add(record)
