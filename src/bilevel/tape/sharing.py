"""What runs of one task take over from one another, so that none of it is paid for twice.

With equal seeds, strategies ask an LLM the same until they diverge, and evaluate configurations
that others evaluated. What a run takes over stands in its own log as if it had been paid for here,
with the tokens and seconds of the first time: it replays alone, and its costs are its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bilevel.evaluate import Evaluated, Evaluator
from bilevel.model import Call, Message, Objective, Outcome, Record, Reply, Trial, Values
from bilevel.protocols import LLM, Schema
from bilevel.space import Space
from bilevel.tape.tape import request_key

__all__ = ["Sharing", "is_shared"]

Outcomes = Mapping[tuple[str, int], tuple[Outcome, float]]


class Sharing:
    """Replies and outcomes of runs of one task and one LLM.

    deterministic: whether the same values and seed always give the same outcome; if not, each run
    evaluates for itself. A timeout says as much of the machine as of the values: never taken over.
    baselines: whether even then all count from the same measurements of the baseline.
    """

    def __init__(
        self, space: Space, objective: Objective, deterministic: bool, baselines: bool = False
    ) -> None:
        self._space = space
        self._objective = objective
        self._deterministic = deterministic
        self._baselines = baselines
        self._asked: Counter[tuple[str, str]] = Counter()
        self._replies: dict[tuple[str, int], Reply] = {}
        self._outcomes: dict[tuple[str, int], tuple[Outcome, float]] = {}

    def add(self, run: str, record: Record) -> None:
        """Take in a record of a run; each once, in the log's order."""
        if isinstance(record, Call):
            number = self._asked[run, record.key]
            self._replies.setdefault((record.key, number), record.reply)
            self._asked[run, record.key] += 1
        elif isinstance(record, Trial) and self._holds(record):
            value = None if record.score is None else self._objective.value(record.score)
            outcome = Outcome(record.status, value, record.metrics, record.error)
            key = self._space.key(record.values), record.seed
            self._outcomes.setdefault(key, (outcome, record.seconds))

    def _holds(self, trial: Trial) -> bool:
        """Whether its outcome would be another run's too, or is to be."""
        if self._deterministic:
            return trial.status != "timeout"
        return self._baselines and trial.role == "baseline" and trial.status == "ok"

    def llm(self, model: str, llm: LLM, own: Iterable[Call] = ()) -> LLM:
        """An LLM that asks `llm` only what no run asked. own: calls of the run that is to ask it.

        model: by which name the runs' tapes know it.
        """
        return _SharedLLM(model, llm, self._replies, Counter(call.key for call in own))

    def evaluator(self, evaluator: Evaluator) -> Evaluator:
        """An evaluator that leaves to `evaluator` only what no run evaluated."""
        return _SharedEvaluator(evaluator, self._space, self._outcomes)


def is_shared(call: Call) -> bool:
    """Whether the reply was taken over from another run: it took no attempt."""
    return call.reply.attempts == 0


class _SharedLLM:
    """asked: how often the run has asked each request, by key; the n-th gets an n-th answer."""

    def __init__(
        self, model: str, llm: LLM, replies: Mapping[tuple[str, int], Reply], asked: Counter[str]
    ) -> None:
        self.name = llm.name
        self._model = model
        self._llm = llm
        self._replies = replies
        self._asked = asked

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        """The reply that another run got, or the LLM's. Raises LLMError as the LLM does."""
        key = request_key(self._model, messages, schema, seed, max_tokens)
        known = self._replies.get((key, self._asked[key]))
        if known is None:
            reply = self._llm.complete(messages, schema, seed=seed, max_tokens=max_tokens)
        else:
            reply = replace(known, attempts=0)
        self._asked[key] += 1
        return reply

    def close(self) -> None:
        self._llm.close()


class _SharedEvaluator:
    def __init__(self, evaluator: Evaluator, space: Space, outcomes: Outcomes) -> None:
        self.slots = evaluator.slots
        self._evaluator = evaluator
        self._space = space
        self._outcomes = outcomes
        self._ready: list[Evaluated] = []

    def start(self, key: int, values: Values, seed: int) -> None:
        """Look it up, or begin it. Raises ExecutorError as the evaluator does."""
        known = self._outcomes.get((self._space.key(values), seed))
        if known is None:
            self._evaluator.start(key, values, seed)
        else:
            self._ready.append(Evaluated(key, *known))

    def finished(self) -> list[Evaluated]:
        """Those that were known at once, else those that end within a moment."""
        if self._ready:
            done, self._ready = self._ready, []
            return done
        return self._evaluator.finished()
