"""`bilevel mcp`: runs served to a coding agent."""

from __future__ import annotations

from bilevel.cli_options import HERE, AllowWeak, Home


def mcp(allow_weak_sandbox: AllowWeak = False, home: Home = HERE) -> None:
    """Serve runs to a coding agent over the Model Context Protocol, on stdin and stdout.

    The agent lists and reads runs, starts one in which it is the LLM,
    proposes configurations, and submits search mechanisms, under the same
    budget, gate and log as any run. Register it with your agent, as in:

    claude mcp add bilevel -- bilevel mcp --home /path/to/.bilevel
    """
    from bilevel.serving.server import server

    server(home, allow_weak_sandbox).run()
