"""`bilevel mechanisms`: the search mechanisms that a run can stack over its loop."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

mechanisms = typer.Typer(
    help="Search mechanisms for `run --stack`: list them, print their source.",
    no_args_is_help=True,
)
console = Console()


@mechanisms.command("list")
def list_mechanisms() -> None:
    """All mechanisms, one line each; a line counts where it is neither blank nor docstring."""
    from bilevel.mechanisms import code_lines, names, source

    table = Table("name", "lines", "what it does", box=None)
    for name in names():
        found = source(name)
        table.add_row(name, str(code_lines(found.source)), found.rationale)
    console.print(table)


@mechanisms.command()
def show(name: Annotated[str, typer.Argument(help="A mechanism's name.")]) -> None:
    """A mechanism's source, as it runs."""
    from bilevel.mechanisms import source

    sys.stdout.write(source(name).source)
