"""Which model is asked where a run has several: by level, and for proposals by a bandit.

The choice follows from the run's seed and its log alone, so that a resumed run and a replay ask
the same models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bilevel.budget.budget import bill
from bilevel.errors import LLMRejected
from bilevel.model import Call, Message, Prices, Proposal, Record, Reply, Run, Trial
from bilevel.protocols import LLM, Schema
from bilevel.seeds import generator

ENSEMBLE = "ensemble:"

__all__ = [
    "ENSEMBLE", "Asked", "Cast", "Pull", "Several", "asked", "choose", "members", "models",
    "models_text", "pulls",
]  # fmt: skip


def members(spec: str) -> tuple[str, ...]:
    """The models of `ensemble:SPEC,SPEC`; any other spec is its own only member."""
    if not spec.startswith(ENSEMBLE):
        return (spec,)
    return tuple(s.strip() for s in spec.removeprefix(ENSEMBLE).split(",") if s.strip())


def models(run: Run) -> tuple[str, ...]:
    """All models that a run may ask, each once, as it names them."""
    outer = (run.llm_outer,) if run.llm_outer else ()
    return tuple(dict.fromkeys([*members(run.llm), *outer]))


def models_text(llm: str, outer: str) -> str:
    """A run's models as people read them, from the specs of its levels."""
    found = members(llm)
    text = llm if len(found) == 1 else f"{' or '.join(found)} by gain per cost"
    return f"{text}, Levels 1.5 and 2 ask {outer}" if outer else text


@dataclass(frozen=True)
class Asked:
    """How often the levels asked a model, and with what gain for proposals: their sum, in score."""

    model: str
    calls: int
    levels: tuple[str, ...]
    gain: float


def asked(run: Run, records: Sequence[Record]) -> tuple[Asked, ...]:
    """What each of a run's models was asked; empty where it has but one."""
    if len(names := models(run)) == 1:
        return ()
    calls = [r for r in records if isinstance(r, Call)]
    past = pulls(records, len(records))  # No run has more steps than records.
    return tuple(
        Asked(
            model=name,
            calls=sum(c.model == name for c in calls),
            levels=tuple(sorted({c.level for c in calls if c.model == name})),
            gain=sum(p.gain for p in past if p.model == name),
        )
        for name in names
    )


@dataclass(frozen=True)
class Pull:
    """What one step asked of a model.

    gain: of its best trial over the best score before the step, 0 where there is none. seconds: of
    its replies. cost: their price in US dollars, None if one of them is unknown.
    """

    model: str
    gain: float
    seconds: float
    cost: float | None


@dataclass(frozen=True)
class Cast:
    """The models of a run. records: gives its log so far."""

    run: Run
    records: Callable[[], Sequence[Record]] = tuple

    def model(self, level: str, step: int) -> str:
        """The model that a level asks in a step; the same for all requests of that step.

        Levels 1.5 and 2 ask `llm_outer`, else the first model of an ensemble.
        """
        found = members(self.run.llm)
        if level != "1":
            return self.run.llm_outer or found[0]
        if len(found) == 1:
            return found[0]
        return choose(found, pulls(self.records(), step), self.run.seed, step)


def pulls(records: Sequence[Record], step: int) -> list[Pull]:
    """What the steps before `step` asked of which model, and what came of it, in order.

    All at the prices that were in force when `step` was decided.
    """
    decided = (i for i, r in enumerate(records) if isinstance(r, Proposal) and r.step >= step)
    known = records[: next(decided, len(records))]
    prices = {r.model: r for r in known if isinstance(r, Prices)}
    calls: dict[int, list[Call]] = {}
    trials: dict[int, list[tuple[float, bool]]] = {-1: []}  # scores, and whether a model's
    for record in records:
        if isinstance(record, Call) and record.level == "1" and record.step < step:
            calls.setdefault(record.step, []).append(record)
        elif isinstance(record, Trial) and record.score is not None:
            draft = record.draft
            if record.id == 0:
                trials[-1].append((record.score, False))
            elif draft is not None and draft.step < step and draft.move.seed == 0:
                asked = draft.move.values is None
                trials.setdefault(draft.step, []).append((record.score, asked))
    best = max((score for score, _ in trials[-1]), default=-math.inf)
    found = []
    for number in sorted(calls.keys() | trials.keys()):
        scores = trials.get(number, [])
        if asked_for := calls.get(number):
            gains = [score - best for score, asked in scores if asked and score > best]
            bills = [bill(c, prices, asked_for[0].model) for c in asked_for]
            costs = [b.usd for b in bills if b.usd is not None]
            found.append(
                Pull(
                    model=asked_for[0].model,
                    gain=max(gains, default=0.0),
                    seconds=sum(c.reply.seconds for c in asked_for),
                    cost=sum(costs) if len(costs) == len(asked_for) else None,
                )
            )
        best = max([best, *(score for score, _ in scores)])
    return found


def choose(found: Sequence[str], past: Sequence[Pull], seed: int, step: int) -> str:
    """The model to ask in this step: gain per cost, by Thompson sampling.

    Budgeted Thompson sampling, Xia, Li, Qin, Yu and Liu 2015 (IJCAI), algorithm 1: a Beta
    posterior of the reward and one of the cost for each arm, both from Beta(1, 1); the arm with
    the largest ratio of a sample of each is taken. Rewards and costs are scaled to [0, 1] by the
    largest so far and counted as fractions, in place of the paper's Bernoulli trial with that
    probability. Costs are prices where all are known and not all zero, else seconds.
    """
    priced = all(p.cost is not None for p in past) and any(p.cost for p in past)
    costs = [(p.cost or 0.0) if priced else p.seconds for p in past]
    most, dearest = max((p.gain for p in past), default=0.0), max(costs, default=0.0)
    rng = generator(seed, "ensemble", step)
    ratios: dict[str, float] = {}
    for name in found:
        mine = [i for i, p in enumerate(past) if p.model == name]
        reward = sum(past[i].gain / most for i in mine) if most else 0.0
        cost = sum(costs[i] / dearest for i in mine) if dearest else 0.0
        gains = rng.betavariate(1 + reward, 1 + len(mine) - reward)
        ratios[name] = gains / rng.betavariate(1 + cost, 1 + len(mine) - cost)
    return max(found, key=lambda name: ratios[name])


class Several:
    """Some models, by the name under which a run asks them."""

    def __init__(self, name: str, llms: Mapping[str, LLM]) -> None:
        self.name = name
        self._llms = llms

    def member(self, name: str) -> LLM:
        """The model of that name. Raises LLMRejected where it was not opened."""
        if name not in self._llms:
            raise LLMRejected(f"{name} is none of the run's models ({', '.join(self._llms)})")
        return self._llms[name]

    def each(self, wrap: Callable[[str, LLM], LLM]) -> Several:
        """The same with every model wrapped."""
        return Several(self.name, {name: wrap(name, llm) for name, llm in self._llms.items()})

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        """Raises LLMRejected, always: whoever asks must say which model."""
        raise LLMRejected(
            f"{self.name} is several models, and only a single run can choose among "
            "them; give one model here"
        )

    def close(self) -> None:
        for llm in self._llms.values():
            llm.close()
