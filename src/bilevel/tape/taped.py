"""An LLM whose answers come from the tape of a recorded run, and from a model for the rest or not.

A run that is given one makes its own log: each reply that was taken over says from which run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace

from bilevel.ensemble import Several, models, models_text
from bilevel.errors import ConfigError, TapeMiss
from bilevel.model import Call, Message, OuterPlan, Record, Reply, Run
from bilevel.protocols import LLM, Schema
from bilevel.scrubbing import Scrubber
from bilevel.tape.misses import explain
from bilevel.tape.tape import request_key

__all__ = ["TapedLLM", "check_models", "taped"]


class TapedLLM:
    """The n-th equal request to `model` gets the n-th recorded reply of a run, of which `calls`.

    llm: asked for what the tape lacks; None where that is an error. own: calls that the run which
    is to ask has made before, each of which had its turn. differs: in what the two runs do.
    """

    def __init__(
        self,
        model: str,
        run: str,
        calls: Sequence[Call],
        llm: LLM | None = None,
        own: Iterable[Call] = (),
        differs: str = "",
    ) -> None:
        self.name = model
        self._differs = differs
        self._run = run
        self._llm = llm
        self._calls = calls
        self._replies: dict[str, list[Reply]] = {}
        for call in calls:
            self._replies.setdefault(call.key, []).append(call.reply)
        self._asked = Counter(call.key for call in own)

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        """The recorded reply, else the LLM's. Raises TapeMiss without one, or as the LLM does."""
        key = request_key(self.name, messages, schema, seed, max_tokens)
        known, number = self._replies.get(key, []), self._asked[key]
        if number < len(known):
            reply = replace(known[number], attempts=0, taken=self._run)
        elif self._llm is not None:
            reply = self._llm.complete(messages, schema, seed=seed, max_tokens=max_tokens)
        else:
            how = explain(self._calls, self.name, messages, schema, seed, max_tokens)
            raise TapeMiss(
                f"the tape of {self._run} has no reply to this request: {how}\n"
                f"This run has other settings than {self._run}: {self._differs or 'none'}; begin "
                "one with the same, or give --mixed too, and the LLM is asked for what is missing"
            )
        self._asked[key] += 1
        return reply

    def close(self) -> None:
        if self._llm is not None:
            self._llm.close()


def check_models(llm: str, outer: str, recorded: Run) -> None:
    """Raises ConfigError unless the tape is of these models: it answers for no others."""
    if (llm, outer) != (recorded.llm, recorded.llm_outer):
        asked, known = (
            Scrubber({}).text(models_text(*both))
            for both in ((llm, outer), (recorded.llm, recorded.llm_outer))
        )
        raise ConfigError(
            f"the LLM is {asked}, but the tape of {recorded.id} was recorded with {known} and "
            "answers for no other; leave out --llm and --llm-outer, which are then its own"
        )


def taped(
    run: Run, recorded: Run, records: Iterable[Record], llm: LLM | None, own: Sequence[Call]
) -> LLM:
    """What answers a run from the tape of a recorded one; `llm` and `own` as for TapedLLM.

    Raises ConfigError where the two have other models: a tape answers for its own alone.
    """
    check_models(run.llm, run.llm_outer, recorded)
    calls = [r for r in records if isinstance(r, Call)]

    def wrap(name: str, one: LLM | None) -> LLM:
        return TapedLLM(name, recorded.id, calls, one, own, _differing(run, recorded))

    if isinstance(llm, Several):
        return llm.each(wrap)
    names = models(run)
    if len(names) == 1:
        return wrap(run.llm, llm)
    return Several(run.llm, {name: wrap(name, llm) for name in names})


def _differing(run: Run, recorded: Run) -> str:
    """Which settings of two runs differ, as `seed 4 (0)`, the recorded ones in brackets."""
    plain = ("task", "seed", "evals", "baselines", "slots", "stack")
    pairs = [(name, getattr(run, name), getattr(recorded, name)) for name in plain]
    pairs += [(f, getattr(run.outer, f), getattr(recorded.outer, f)) for f in _OUTER]
    found = [f"{name} {now} ({then})" for name, now, then in pairs if now != then]
    found += ["the task's parameters"] if run.space != recorded.space else []
    found += ["the task's brief"] if run.brief != recorded.brief else []
    return ", ".join(found)


_OUTER = tuple(f.name for f in fields(OuterPlan))
