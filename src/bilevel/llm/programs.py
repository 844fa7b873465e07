"""The programs that can be asked as the LLM: their command lines, and how their output is read."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bilevel.errors import ConfigError

SAID_CHARS = 300
SYSTEM = (
    "You answer requests of a program. Each answer is one text in just the form that the request "
    "asks for. You need no tools but the one that takes your answer, where there is one; ask "
    "nothing back."
)
SCHEMA = "{schema}"
SCHEMA_FILE = "schema.json"

__all__ = ["AGENTS", "Agent", "Answer", "agent", "total"]


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

    install, login, mend: what its user can do. holds: flags by which it takes a JSON schema, in
    which SCHEMA stands for its text and which find it as SCHEMA_FILE too; they follow the first two
    words of the command. () where it knows none.
    """

    name: str
    command: tuple[str, ...]
    read: Callable[[str], Answer]
    install: str
    login: str = ""
    mend: str = "mend that"
    holds: tuple[str, ...] = ()


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
        holds=("--json-schema", SCHEMA),
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
        holds=("--output-schema", f"../{SCHEMA_FILE}"),
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
    held = found.get("structured_output")  # There when a schema was given, and kept.
    return Answer(
        _of(found, "result") if held is None else json.dumps(held),
        error=error,
        model=", ".join(models) if isinstance(models, dict) else "",
        tokens_in=total(read),
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
        tokens_in=total([_count(u, "input_tokens") for u in usage]),
        tokens_out=total([_count(u, "output_tokens") for u in usage]),
        tokens_cached=total([_count(u, "cached_input_tokens") for u in usage]),
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


def total(counts: Sequence[int | None]) -> int | None:
    """The sum of the counts that are known; None where none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
