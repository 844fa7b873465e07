"""Asks the LLM to fill in a move: a draft, or a refusal that costs no evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bilevel.errors import InvalidCandidate, OverBudget
from bilevel.history import History
from bilevel.mechanism import View
from bilevel.model import Draft, Message, Move, Objective, Prompt, Refusal, Value, Values
from bilevel.offers import open_names, schema
from bilevel.prompting import HISTORY_LINES, figure, messages, shortened
from bilevel.prompts import render
from bilevel.seeds import derive
from bilevel.tape.tape import Tape

REPAIRS = 1
MAX_TOKENS = 300


@dataclass(frozen=True)
class Proposer:
    """Level 1's author of configurations.

    seed: the run's; each request derives its own. hypotheses: whether each comes with one.
    """

    brief: str
    objective: Objective
    tape: Tape
    seed: int
    hypotheses: bool = field(default=True, kw_only=True)

    def propose(
        self, history: History, view: View, move: Move, draft: int, turn: int = 0
    ) -> Draft | Refusal:
        """The move filled in, as draft number `draft`. Raises LLMError when no reply is to be had.

        turn: the move's place in its step. A bad reply goes back once with the reason; the second
        bad one is a refusal. What was named for nothing new is left out of the next request, until
        an evaluation: a small model would name it for ever. Raises OverBudget where a limit leaves
        the step without any reply; after the first, what is there is used.
        """
        if move.values is not None:
            return self._given(history, view, move, draft)
        first = self._ask(history, view, move)
        rounds: list[Message] = []
        resting = history.resting()
        refusal = None
        for attempt in range(REPAIRS + 1):
            try:
                reply = self.tape.complete(
                    [*first, *rounds],
                    schema(view, move, resting, self.hypotheses),
                    seed=derive(self.seed, "propose", view.step, turn, attempt),
                    max_tokens=MAX_TOKENS,
                    step=view.step,
                    level="1",
                    purpose="repair" if attempt else "propose",
                    shorter=self._shorter(history, view, move, rounds),
                )
            except OverBudget as error:
                if refusal is None and draft == history.next_draft():
                    raise  # the step has nothing yet that was paid for
                return refusal or Refusal(view.step, move, f"it was not asked for: {error}")
            answer = self._judge(reply.text, history, view, move, draft)
            if isinstance(answer, Draft):
                return answer
            refusal = answer
            resting |= set(refusal.rests)
            repair = render("propose_repair", reason=refusal.reason).strip()
            rounds += [Message("assistant", reply.text), Message("user", repair)]
        assert refusal is not None
        return refusal

    def _ask(
        self, history: History, view: View, move: Move, most: int = HISTORY_LINES
    ) -> list[Message]:
        whys = self.hypotheses
        return messages(self.brief, self.objective, history, view, move, most, whys)

    def _shorter(
        self, history: History, view: View, move: Move, rounds: Sequence[Message]
    ) -> Iterator[Prompt]:
        def talk(most: int) -> list[Message]:
            return [*self._ask(history, view, move, most), *rounds]

        return shortened(self.objective, history, talk, move.since)

    def _given(self, history: History, view: View, move: Move, draft: int) -> Draft | Refusal:
        assert move.values is not None
        values = view.space.check(move.values)
        reason = _repeats(history, self.objective, values, move.seed)
        if reason:
            return Refusal(view.step, move, reason, values)
        return Draft(draft, view.step, move, values)

    def _judge(
        self, text: str, history: History, view: View, move: Move, draft: int
    ) -> Draft | Refusal:
        base = view.base(move).values
        try:
            hypothesis, changes = parse(text)
            for name in changes:
                view.space[name]
                if name not in open_names(view, move):
                    raise InvalidCandidate(f"{name} may not change in this experiment")
            values = view.space.check({**base, **changes})
        except InvalidCandidate as error:
            return Refusal(view.step, move, str(error))
        if not view.space.changed(base, values):
            reason = f"it changes nothing, {_same(view, changes)} already"
            return Refusal(view.step, move, reason, None, hypothesis, tuple(changes))
        reason = _repeats(history, self.objective, values, move.seed)
        if reason:
            named = view.space.changed(base, values)
            return Refusal(view.step, move, reason, values, hypothesis, named)
        return Draft(draft, view.step, move, values, hypothesis)


def parse(text: str) -> tuple[str, dict[str, Value]]:
    """Hypothesis and changes of a reply. Raises InvalidCandidate with the rule it broke."""
    try:
        reply = json.loads(text, parse_constant=_not_finite)
    except json.JSONDecodeError as error:
        raise InvalidCandidate(f"the reply is not JSON ({error.msg} at {error.pos})") from error
    if not isinstance(reply, dict) or not isinstance(reply.get("changes"), list):
        raise InvalidCandidate('the reply must be an object with a list "changes"')
    changes: dict[str, Value] = {}
    for change in reply["changes"]:
        if not isinstance(change, dict) or not isinstance(change.get("name"), str):
            raise InvalidCandidate('each change must be an object with "name" and "value"')
        if not isinstance(change.get("value"), int | float | str):
            raise InvalidCandidate(f"{change['name']} has no value; give it a number or a text")
        name, value = _whole(change["name"]), change["value"]
        value = _whole(value) if isinstance(value, str) else value
        if changes.get(name, value) != value:
            raise InvalidCandidate(f"{name} is changed twice; change it once")
        changes[name] = value
    if not changes:
        raise InvalidCandidate("it changes nothing; change at least one parameter")
    return _whole(" ".join(str(reply.get("hypothesis", "")).split())), changes


def _whole(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def _not_finite(constant: str) -> float:
    raise InvalidCandidate(f"a value is {constant}; every number must be finite")


def _repeats(history: History, objective: Objective, values: Values, seed: int) -> str:
    trial = history.find(values, seed)
    if trial is None:
        return ""
    if trial.score is None:
        return f"it repeats #{trial.id}, which ended as {trial.status}"
    return f"it repeats #{trial.id} ({objective.metric} {figure(objective.value(trial.score))})"


def _same(view: View, changes: dict[str, Value]) -> str:
    params = [view.space[name] for name in changes]
    return ", ".join(
        f"{p.name} is {'that' if p.multiline else p.show(changes[p.name])}" for p in params
    )
