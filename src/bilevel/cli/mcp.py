"""`bilevel mcp`: runs served to a coding agent."""

from __future__ import annotations

from rich.console import Console

from bilevel.cli.options import HERE, AllowWeak, Home
from bilevel.cli.sandbox import Wall, prepare


def mcp(sandbox: Wall = "auto", allow_weak_sandbox: AllowWeak = False, home: Home = HERE) -> None:
    """Serve runs to a coding agent over the Model Context Protocol, on stdin and stdout.

    The agent lists and reads runs, starts one in which it is the LLM,
    proposes configurations, and submits search mechanisms, under the same
    budget, gate and log as any run. Register it with your agent, as in:

    claude mcp add bilevel -- bilevel mcp --home /path/to/.bilevel
    """
    from bilevel.serving.server import server

    prepare(sandbox, Console(stderr=True))
    server(home, allow_weak_sandbox, sandbox).run()
