"""Level 2: four rounds with the LLM (explore, critique, specify, generate), then repair.

The rounds argue from the loop's own source, the stack's, and the whole trace. The class itself is
asked for in a short talk of its own, which begins the same in every session and so stays cached.
Each source goes to the gate; its refusal goes back in words, up to `repairs` times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bilevel.errors import OverBudget
from bilevel.gate.gate import Verdict
from bilevel.history import History
from bilevel.mechanism import View
from bilevel.model import Attempt, MechanismSource, Message, Prompt, Reply, Run, Session
from bilevel.prompts import render
from bilevel.research import authoring
from bilevel.research.authoring import Specification
from bilevel.research.briefing import briefing, shorter_briefings
from bilevel.research.manners import Manner, chosen, manner
from bilevel.research.merit import Known
from bilevel.schemas import UNENFORCED, misfit
from bilevel.seeds import derive
from bilevel.sessions import Way
from bilevel.steering_words import plain
from bilevel.tape.tape import Tape


@dataclass(frozen=True)
class Researcher:
    """Holds the sessions of one run. judge: the gate, on the run's history as it is."""

    run: Run
    history: History
    tape: Tape
    judge: Callable[[str], Verdict]

    def hold(self, view: View, cycle: int, known: Sequence[Known]) -> Session:
        """One session, before step `view.step`; shorter where a limit of the budget ends it.

        known: mechanisms of this and of earlier runs, best credit first. Raises LLMError, and
        OverBudget where it could not even begin.
        """
        notes = self._rounds(view, cycle, known)
        spec = authoring.parse_specification(notes.get("specify", ""), chosen(notes).when)
        spec = spec and _named_anew(spec, [k.source.name for k in known])
        attempts = [] if spec is None else self._generate(view, cycle, spec, known)
        admitted = attempts[-1].sha if attempts and not attempts[-1].rule else ""
        return Session(
            step=view.step,
            cycle=cycle,
            notes=notes,
            attempts=tuple(attempts),
            admitted=admitted,
            removed=_removed(notes["explore"], known),
            sham=self.run.outer.research == "sham",
            writes=self._manner().writes,
        )

    def _rounds(self, view: View, cycle: int, known: Sequence[Known]) -> dict[str, str]:
        """What was said in each round before the sources; at least in the first."""
        notes: dict[str, str] = {}
        rounds: list[Message] = []
        manner = self._manner()
        removable = [k.source.name for k in known if k.removable]
        for name in ("explore", "critique", "specify"):
            if name == "explore":
                schema = manner.explore(view, removable, derive(self.run.seed, "ways", cycle))
            elif name == "critique":
                rounds.append(Message("user", render("research_critique").strip()))
                schema = manner.critique
            else:
                rounds.append(Message("user", render(manner.ask).strip()))
                schema = manner.specify(chosen(notes), view.space)
            try:
                notes[name] = self._round(known, rounds, schema, view, cycle, name)
            except OverBudget:
                if not notes:
                    raise
                break
            rounds.append(Message("assistant", notes[name]))
        return notes

    def _manner(self) -> Manner:
        return manner(self.run.outer.writes, self.history.sessions)

    def _round(
        self,
        known: Sequence[Known],
        rounds: Sequence[Message],
        schema: dict[str, Any],
        view: View,
        cycle: int,
        name: str,
    ) -> str:
        """A round's reply. Where no server saw to it that it fits, a misfit goes back once."""

        def said(rounds: Sequence[Message], purpose: str) -> Reply:
            first = briefing(self.run, self.history, view, known)
            less = shorter_briefings(self.run, self.history, view, known, rounds)
            talk = [*first, *rounds]
            most = self._manner().round_tokens
            return self._reply(talk, schema, view, cycle, purpose, most, less)

        reply = said(rounds, name)
        reason = misfit(reply.text, schema) if reply.form in UNENFORCED else ""
        if not reason:
            return reply.text
        repair = Message("user", render("research_repair", reason=plain(reason)).strip())
        try:
            again = [*rounds, Message("assistant", reply.text), repair]
            return said(again, f"{name} repair").text
        except OverBudget:
            return reply.text  # it is paid for, and is used as far as it goes

    def _generate(
        self, view: View, cycle: int, spec: Specification, known: Sequence[Known]
    ) -> list[Attempt]:
        """Attempts until one is admitted or a limit met; only the last can be admitted."""
        attempts: list[Attempt] = []
        sources, manner = [k.source for k in known], self._manner()
        for turn in range(self.run.outer.candidates):
            way = manner.way(turn, len(sources))
            talk, schema = _request(way, spec, view, sources)
            for repair in range(self.run.outer.repairs + 1):
                purpose = f"generate {turn}" if not repair else f"repair {turn}.{repair}"
                try:
                    less = authoring.shorter(talk)
                    reply = self._reply(
                        talk, schema, view, cycle, purpose, manner.source_tokens, less
                    ).text
                except OverBudget:
                    return attempts
                verdict = self.judge(authoring.assembled(spec, reply) if schema else reply)
                made = _attempt(way, reply, verdict, sources)
                attempts.append(replace(made, way="repair") if repair else made)
                if verdict.admitted:
                    return attempts
                if verdict.rule == "harm":
                    break
                words = plain(verdict.words)  # what it raised may quote a job's output
                talk = authoring.repair(talk, reply, words, refill=schema is not None)
        return attempts

    def _reply(
        self,
        talk: Sequence[Message],
        schema: dict[str, Any] | None,
        view: View,
        cycle: int,
        purpose: str,
        max_tokens: int,
        shorter: Iterable[Prompt],
    ) -> Reply:
        return self.tape.complete(
            talk,
            schema,
            seed=derive(self.run.seed, "research", cycle, purpose),
            max_tokens=max_tokens,
            step=view.step,
            level="2",
            purpose=purpose,
            shorter=shorter,
        )


def _named_anew(spec: Specification, taken: Sequence[str]) -> Specification:
    """The specification under a name that no known mechanism has."""
    names = (spec.name, *(f"{spec.name}{n}" for n in range(2, len(taken) + 2)))
    return replace(spec, name=next(name for name in names if name not in taken))


def _request(
    way: Way, spec: Specification, view: View, sources: Sequence[MechanismSource]
) -> tuple[list[Message], dict[str, Any] | None]:
    if way == "fill":
        return authoring.fill(spec, view), authoring.fill_schema(spec.frame)
    return authoring.request(way, spec, view.open(), sources), None


def _attempt(
    way: Way, written: str, verdict: Verdict, sources: Sequence[MechanismSource]
) -> Attempt:
    count = {"improve": 1, "combine": 2}.get(way, 0)
    return Attempt(
        way=way,
        written=written,
        source=verdict.source,
        sha=verdict.sha,
        name=verdict.name,
        rule=verdict.rule,
        words=verdict.words,
        figures=verdict.figures,
        parents=tuple(s.sha for s in sources[:count]),
    )


def _removed(explored: str, known: Sequence[Known]) -> Mapping[str, str]:
    """By sha, the layer that the session asked to be taken out; of one name, the least credited."""
    try:
        reply = json.loads(explored)
    except json.JSONDecodeError:
        return {}
    name = reply.get("remove", "") if isinstance(reply, dict) else ""
    named = [k.source.sha for k in known if k.removable and k.source.name == name]
    return dict.fromkeys(named[-1:], "a session of Level 2 asked for it")
