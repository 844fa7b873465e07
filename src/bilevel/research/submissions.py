"""Level 2 by submission: whoever answers may hand in a mechanism's source before any step.

In place of the dialogue's rounds there is one offer a step, and an empty answer passes it. What is
handed in goes through the same gate, and comes back with its words. All of it is on the tape, so
that such a run resumes and replays as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bilevel.errors import OverBudget
from bilevel.gate.gate import Verdict
from bilevel.mechanism import View
from bilevel.model import Attempt, Message, Run, Session
from bilevel.prompts import render
from bilevel.research.merit import Known
from bilevel.seeds import derive
from bilevel.tape.tape import Tape

SOURCE_TOKENS = 4000


@dataclass(frozen=True)
class Submissions:
    """Takes in what is submitted to one run. judge: the gate, on the run's history as it is."""

    run: Run
    tape: Tape
    judge: Callable[[str], Verdict]

    def hold(self, view: View, cycle: int, known: Sequence[Known]) -> Session | None:
        """What came of the offer before step `view.step`; None where it was passed.

        A refused source may be mended as often as in a session of `candidates` and `repairs`.
        Raises LLMError, and OverBudget where nothing could be asked.
        """
        evaluated = self.run.evals - view.left
        offer = render("submit", step=view.step, evaluated=evaluated, evals=self.run.evals)
        talk = [Message("user", offer.strip())]
        attempts: list[Attempt] = []
        for turn in range(self.run.outer.candidates * (self.run.outer.repairs + 1)):
            try:
                text = self._ask(talk, view.step, turn)
            except OverBudget:
                if not attempts:
                    raise
                break
            if not text.strip():
                break
            verdict = self.judge(text)
            attempts.append(_attempt(text, verdict))
            if verdict.admitted:
                break
            talk = [*talk, Message("assistant", text), Message("user", verdict.words)]
        if not attempts:
            return None
        admitted = "" if attempts[-1].rule else attempts[-1].sha
        sham = self.run.outer.research == "sham"
        return Session(view.step, cycle, {}, tuple(attempts), admitted, sham=sham)

    def _ask(self, talk: Sequence[Message], step: int, turn: int) -> str:
        return self.tape.complete(
            talk,
            seed=derive(self.run.seed, "submit", step, turn),
            max_tokens=SOURCE_TOKENS,
            step=step,
            level="2",
            purpose="submit",
        ).text


def _attempt(written: str, verdict: Verdict) -> Attempt:
    return Attempt(
        way="submit",
        written=written,
        source=verdict.source,
        sha=verdict.sha,
        name=verdict.name,
        rule=verdict.rule,
        words=verdict.words,
        figures=verdict.figures,
    )
