"""What `--llm` names besides servers: agents and programs, a mailbox, a person at the terminal."""

from __future__ import annotations

from pathlib import Path

from bilevel.errors import ConfigError
from bilevel.protocols import LLM

MCP = "mcp"
NAMES = ("claude-code", "codex", "command:", "mailbox:", "terminal")


def other(spec: str, timeout: float | None = None) -> LLM | None:
    """Whom such a spec names; None for a spec of a server or of an embedded model.

    timeout: seconds for one answer, None for the usual. Raises ConfigError with the remedy.
    """
    if spec.partition("/")[0] in ("claude-code", "codex") or spec.startswith("command:"):
        from bilevel.llm.agents import AgentLLM, agent

        return AgentLLM(agent(spec), timeout)
    if spec.startswith("mailbox:"):
        from bilevel.llm.mailbox import MailboxLLM

        if not spec.removeprefix("mailbox:"):
            raise ConfigError("--llm mailbox: names no folder; give one, as in mailbox:letters")
        return MailboxLLM(Path(spec.removeprefix("mailbox:")), timeout)
    if spec == "terminal":
        from bilevel.llm.terminal import TerminalLLM

        return TerminalLLM()
    if spec == MCP:
        raise ConfigError(
            "an MCP client answers for the LLM of this run; start `bilevel mcp` in a coding agent "
            "and have it start or resume the run there"
        )
    return None
