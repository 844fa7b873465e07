"""Headless coding agents, and any other program, as the LLM: the prompt goes in, a text comes out.

claude-code[/MODEL]: `claude -p`, which reads the prompt from stdin and prints one JSON object with
the answer, its tokens and its cost. codex[/MODEL]: `codex exec -`, which prints a JSON line an
event, with tokens and without cost. command:"PROGRAM ARGS": what a program prints is its answer,
and what it cost is unknown.

An agent runs in an empty folder with the user's own environment, as it needs the user's login, so
a command must name its files by whole paths. It is asked for text alone: Claude Code gets no tools,
Codex its read-only sandbox; a command of the user's can do what the user can. Flags and output are
those of the agents' documentation of 2026; neither was run when this was written.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bilevel.errors import ConfigError, ContextTooLong, LLMError, LLMRejected, LLMUnavailable
from bilevel.llm import child
from bilevel.llm.asking import checked, request_text
from bilevel.llm.faults import about_length
from bilevel.model import UNUSABLE, Message, Reply
from bilevel.protocols import Schema

TIMEOUT = 900.0
REPAIRS = 1
SAID_CHARS = 300
LOGIN = ("/login", "log in", "logged in", "login", "401", "unauthorized", "api key", "api_key")
SYSTEM = (
    "You answer requests of a program. Each answer is one text in just the form that the request "
    "asks for. You have no tools and need none; ask nothing back."
)

__all__ = ["AGENTS", "Agent", "AgentLLM", "Answer", "agent"]


@dataclass(frozen=True)
class Answer:
    """What an agent said. Tokens and cost (US dollars) are None where it does not tell.

    error: why it gave no answer, "" if it did.
    """

    text: str
    error: str = ""
    model: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_cached: int | None = None
    cost: float | None = None
    reasoning: str = ""
    finish: str = "stop"


@dataclass(frozen=True)
class Agent:
    """A program to ask. read: its output as an answer.

    install, login, mend: what its user can do.
    """

    name: str
    command: tuple[str, ...]
    read: Callable[[str], Answer]
    install: str
    login: str = ""
    mend: str = "mend that"


class AgentLLM:
    """Asks a program anew for each completion; a bad answer goes back once with the reason.

    timeout: seconds for one answer. It heeds neither seed nor temperature.
    """

    def __init__(self, agent: Agent, timeout: float | None = None) -> None:
        self.name = agent.name
        self._agent = agent
        self._timeout = TIMEOUT if timeout is None else timeout

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
        ask = request_text(messages, schema, max_tokens)
        answer, seconds = self._ask(ask)
        answers = [answer]
        for _ in range(REPAIRS):
            _, problem = checked(answers[-1].text, schema)
            if not problem or answer.error:
                break
            again = f"Your answer was:\n\n{answers[-1].text}\n\nIt cannot be used: {problem}. "
            try:
                answer, more = self._ask(f"{ask}\n{again}Give the whole answer again, mended.\n")
            except LLMError:
                break  # What the first answer is worth, its reader says; it has been paid for.
            answers.append(answer)
            seconds += more
        return self._reply(answers, schema, seconds)

    def close(self) -> None:
        pass

    def _ask(self, text: str) -> tuple[Answer, float]:
        """The answer to one prompt, and the seconds that it took."""
        agent = self._agent
        try:
            done = child.run(agent.command, text, self._timeout)
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
        said = " ".join((answer.error or done.err or done.out).split())[-SAID_CHARS:] or "nothing"
        why = f"{agent.name} failed (exit status {done.exit}) and said: {said}"
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
            tokens_in=_sum([a.tokens_in for a in answers]) or 0,
            tokens_out=_sum([a.tokens_out for a in answers]) or 0,
            tokens_cached=_sum([a.tokens_cached for a in answers]) or 0,
            cost=sum(costs) if len(costs) == len(answers) else None,
            counted=all(None not in (a.tokens_in, a.tokens_out) for a in answers),
            seconds=seconds,
            reasoning=last.reasoning,
            finish=UNUSABLE if last.error else finish,
            attempts=len(answers),
        )


def agent(spec: str, environ_path: str | None = None) -> Agent:
    """The program that `claude-code`, `codex`, either with /MODEL, or `command:...` names.

    environ_path: where programs are looked for, None for the user's PATH. Raises ConfigError when
    the program is not there.
    """
    if spec.startswith("command:"):
        made = _command(spec)
    else:
        name, _, model = spec.partition("/")
        made = AGENTS[name](spec, model)
    if shutil.which(made.command[0], path=environ_path) is None:
        raise ConfigError(
            f"--llm {spec} needs the program {made.command[0]}, which is not there; {made.install}"
        )
    return made


def _command(spec: str) -> Agent:
    try:
        command = tuple(shlex.split(spec.removeprefix("command:")))
    except ValueError as error:
        raise ConfigError(f"--llm {spec}: {error}; quote it as a shell would") from error
    if not command:
        raise ConfigError('--llm command: names no program; give one, as in command:"prog args"')
    install = "install it, or give its whole path"
    mend = "mend that (it runs in an empty folder: give whole paths)"
    return Agent(spec, command, lambda out: Answer(out), install, mend=mend)


def _claude(name: str, model: str) -> Agent:
    command = [
        "claude", "-p", "--output-format", "json", "--tools", "", "--strict-mcp-config",
        "--no-session-persistence", "--system-prompt", SYSTEM,
    ]  # fmt: skip
    return Agent(
        name,
        (*command, *(("--model", model) if model else ())),
        _read_claude,
        "install Claude Code (npm install -g @anthropic-ai/claude-code)",
        "log in (run `claude`, then /login) or set ANTHROPIC_API_KEY",
    )


def _codex(name: str, model: str) -> Agent:
    command = ["codex", "exec", "--json", "--skip-git-repo-check", "--ephemeral"]
    command += ["--sandbox", "read-only", *(("--model", model) if model else ()), "-"]
    return Agent(
        name,
        tuple(command),
        _read_codex,
        "install Codex (npm install -g @openai/codex)",
        "log in (codex login)",
    )


AGENTS: Mapping[str, Callable[[str, str], Agent]] = {"claude-code": _claude, "codex": _codex}


def _read_claude(out: str) -> Answer:
    """The answer in the JSON of `claude -p --output-format json`."""
    found = _json(out)
    if isinstance(found, list):  # Every event, where the user's settings ask for them.
        found = next((e for e in reversed(found) if _of(e, "type") == "result"), None)
    if not isinstance(found, dict):
        return Answer("", error=f"no result (no JSON): {out[-SAID_CHARS:]}")
    error = _of(found, "result") if found.get("is_error") else ""
    if not isinstance(found.get("result"), str):
        error = f"no result ({_of(found, 'subtype')}): {out[-SAID_CHARS // 2 :]}"
    usage = found.get("usage")
    read = [_count(usage, f"{kind}input_tokens") for kind in ("", "cache_creation_", "cache_read_")]
    cost = found.get("total_cost_usd")
    models = found.get("modelUsage")
    return Answer(
        _of(found, "result"),
        error=error,
        model=", ".join(models) if isinstance(models, dict) else "",
        tokens_in=_sum(read),
        tokens_out=_count(usage, "output_tokens"),
        tokens_cached=read[2],
        cost=float(cost) if isinstance(cost, int | float) else None,
        finish="length" if found.get("stop_reason") == "max_tokens" else "stop",
    )


def _read_codex(out: str) -> Answer:
    """The answer in the JSON lines of `codex exec --json`."""
    events = [event for line in out.splitlines() if isinstance(event := _json(line), dict)]
    said: dict[str, list[str]] = {"agent_message": [], "reasoning": []}
    usage: list[Any] = []
    errors: list[str] = []
    for event in events:
        item = event.get("item")
        if event.get("type") == "item.completed" and _of(item, "type") in said:
            said[_of(item, "type")].append(_of(item, "text"))
        elif event.get("type") == "turn.completed":
            usage.append(event.get("usage"))
        elif event.get("type") in ("turn.failed", "error"):
            errors.append(_of(event.get("error"), "message") or _of(event, "message"))
    done = bool(usage and said["agent_message"])
    return Answer(
        said["agent_message"][-1] if done else "",
        error="" if done else "; ".join(filter(None, errors)) or f"no answer: {out[-SAID_CHARS:]}",
        tokens_in=_sum([_count(u, "input_tokens") for u in usage]),
        tokens_out=_sum([_count(u, "output_tokens") for u in usage]),
        tokens_cached=_sum([_count(u, "cached_input_tokens") for u in usage]),
        reasoning="\n".join(said["reasoning"]),
    )


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def _of(value: Any, name: str) -> str:
    """A text in an object, "" where there is none."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _count(usage: Any, name: str) -> int | None:
    found = usage.get(name) if isinstance(usage, dict) else None
    return found if isinstance(found, int) else None


def _sum(counts: Sequence[int | None]) -> int | None:
    """The sum of those that are known; None where none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
