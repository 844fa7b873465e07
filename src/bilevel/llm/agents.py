"""Headless coding agents, and any other program, as the LLM: the prompt goes in, a text comes out.

claude-code[/MODEL]: `claude -p`, which reads the prompt from stdin and prints one JSON object with
the answer, its tokens and its cost. codex[/MODEL]: `codex exec -`, which prints a JSON line an
event, with tokens and without cost. command:"PROGRAM ARGS": what a program prints is its answer,
and what it cost is unknown.

An agent runs in an empty folder with the user's own environment, as it needs the user's login, so
a command must name its files by whole paths. It is asked for text alone: Claude Code gets no tools,
Codex its read-only sandbox; a command of the user's can do what the user can. Both agents get the
JSON schema of the answer by their own flag and hold the model to it; where one refuses that, and
for commands, the schema stands in the prompt. Claude Code 2.1 and Codex 0.169 were run so against
local servers in place of their providers; no answer of a real model was seen.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace

from bilevel.errors import ContextTooLong, LLMError, LLMRejected, LLMUnavailable
from bilevel.llm import child
from bilevel.llm.asking import checked, request_text
from bilevel.llm.faults import about_length
from bilevel.llm.forms import LENGTHS, narrow
from bilevel.llm.programs import SAID_CHARS, SCHEMA, SCHEMA_FILE, Agent, Answer, agent, total
from bilevel.model import UNUSABLE, Message, Reply
from bilevel.protocols import Schema
from bilevel.tape.leave import leave

TIMEOUT = 900.0
REPAIRS = 1
LOGIN = ("/login", "log in", "logged in", "login", "401", "unauthorized", "api key", "api_key")
FLAG_CHARS = 100_000  # Linux takes 131,072 bytes in one argument
# What the agents' command lines and providers say of a flag or a schema that they do not take.
NO_SCHEMA = (
    "json-schema", "output-schema", "invalid schema", "invalid_json_schema", "unknown option",
    "unexpected argument",
)  # fmt: skip

__all__ = ["AgentLLM", "agent"]

log = logging.getLogger(__name__)


class _SchemaRefused(LLMError):
    """The agent does not take the schema by its flag."""


class AgentLLM:
    """Asks a program anew for each completion; a bad answer goes back once with the reason.

    timeout: seconds for one answer. It heeds neither seed nor temperature.
    """

    def __init__(self, agent: Agent, timeout: float | None = None) -> None:
        self.name = agent.name
        self._agent = agent
        self._timeout = TIMEOUT if timeout is None else timeout
        self._holds = bool(agent.holds)

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        """The agent's answer; its `finish` is "schema" if the last one still does not fit.

        A failure that was paid for is UNUSABLE. Raises LLMRejected (not installed, not logged in)
        and LLMUnavailable (time-out, any other failure).
        """
        held = _sent(schema) if self._holds and schema else ""
        held = held if len(held) <= FLAG_CHARS else ""
        ask = request_text(messages, schema, max_tokens, told=not held)
        try:
            answer, seconds = self._ask(ask, held)
        except _SchemaRefused as error:
            log.warning("%s; from now on the schema stands in the prompt", error)
            self._holds, held = False, ""
            ask = request_text(messages, schema, max_tokens)
            answer, seconds = self._ask(ask)
        answers = [answer]
        for _ in range(REPAIRS):
            _, problem = checked(answers[-1].text, schema)
            if not problem or answer.error:
                break
            again = f"Your answer was:\n\n{answers[-1].text}\n\nIt cannot be used: {problem}. "
            text = f"{ask}\n{again}Give the whole answer again, mended.\n"
            if not leave().more([Message("user", text)]):
                break  # A limit has no room for it.
            try:
                answer, more = self._ask(text, held)
            except LLMError:
                # What the first answer is worth, its reader says; it has been paid for. The second
                # counts at its most, as `attempts` leaves it out.
                break
            answers.append(answer)
            seconds += more
        form = ("narrow_schema" if held else "text") if schema else ""
        return replace(self._reply(answers, schema, seconds), form=form)

    def close(self) -> None:
        pass

    def _ask(self, text: str, held: str = "") -> tuple[Answer, float]:
        """The answer to one prompt, and the seconds that it took. held: the schema for a flag."""
        agent = self._agent
        flags = [word.replace(SCHEMA, held) for word in agent.holds] if held else []
        command = [*agent.command[:2], *flags, *agent.command[2:]]
        try:
            done = child.run(command, text, self._timeout, {SCHEMA_FILE: held} if held else None)
        except OSError as error:
            raise LLMRejected(
                f"{agent.command[0]} cannot be started ({error}); {agent.install}"
            ) from error
        if done.exit is None:
            raise LLMUnavailable(
                f"{agent.name} gave no answer in {self._timeout:g} s and was killed; "
                "see whether it answers by hand, then resume the run"
            )
        answer = agent.read(done.out)
        if done.exit == 0 and not answer.error:
            return answer, done.seconds
        words = answer.error or done.err or done.out if done.out.strip() else done.err
        said = " ".join(words.split())[-SAID_CHARS:] or "nothing"
        why = f"{agent.name} failed (exit status {done.exit}) and said: {said}"
        if held and any(mark in said.lower() for mark in NO_SCHEMA):
            raise _SchemaRefused(why)
        if agent.login and any(mark in said.lower() for mark in LOGIN):
            raise LLMRejected(f"{why}; {agent.login}, then resume the run")
        if about_length(said):
            raise ContextTooLong(f"{why}; use a model with a longer context")
        if answer.tokens_out or answer.cost:
            return replace(answer, error=why), done.seconds
        raise LLMUnavailable(f"{why}; {agent.mend}, then resume the run")

    def _reply(self, answers: Sequence[Answer], schema: Schema | None, seconds: float) -> Reply:
        last = next((a for a in reversed(answers) if not a.error), answers[-1])
        text, problem = checked(last.text, schema)
        costs = [a.cost for a in answers if a.cost is not None]
        finish = "schema" if problem else last.finish
        return Reply(
            text=last.error or text,
            model=last.model or self.name,
            tokens_in=total([a.tokens_in for a in answers]) or 0,
            tokens_out=total([a.tokens_out for a in answers]) or 0,
            tokens_cached=total([a.tokens_cached for a in answers]) or 0,
            cost=sum(costs) if len(costs) == len(answers) else None,
            counted=all(None not in (a.tokens_in, a.tokens_out) for a in answers),
            seconds=seconds,
            reasoning=last.reasoning,
            finish=UNUSABLE if last.error else finish,
            attempts=len(answers),
        )


def _sent(schema: Schema) -> str:
    """The schema as OpenAI's strict mode takes it, which Codex asks for."""
    return json.dumps(narrow(schema, LENGTHS))
