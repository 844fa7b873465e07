"""What the commands have in common: their options, where runs are found, how JSON is printed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from bilevel.model import Record, Run
    from bilevel.workspace import Workspace

# What is printed holds names, values and paths of users: none of it is markup.
console = Console(markup=False)
HERE = Path(".bilevel")

Home = Annotated[
    Path, typer.Option("--home", envvar="BILEVEL_HOME", help="Folder of the store and of all runs.")
]
RunId = Annotated[
    str | None, typer.Argument(help="A run's name, as `list` shows it; latest if left out.")
]
LogId = Annotated[
    str | None,
    typer.Argument(
        help="A run's name, a file that `export` wrote, or one that `show --json` printed, perhaps "
        "packed by gzip; latest if left out."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
AllowWeak = Annotated[
    bool,
    typer.Option(
        "--allow-weak-sandbox",
        help="Run generated code even where this machine cannot lock it in; only if you trust it.",
        rich_help_panel="Outer loop",
    ),
]


def workspace_at(home: Path) -> Workspace:
    """The workspace in a folder, which is made where it is not there yet."""
    from bilevel.workspace import Workspace

    return Workspace(home)


def find(name: str | None, home: Path) -> tuple[Workspace, Run]:
    """A run by name, or the latest. Raises RunNotFound, and ConfigError where there is none."""
    workspace = workspace_at(home)
    return workspace, workspace.store.run(name) if name else workspace.latest()


def log(name: str | None, home: Path) -> tuple[Run, list[Record]]:
    """A run and its records, from the store or from a file."""
    from bilevel.archive import is_file, read_log

    if name is not None and is_file(name):
        return read_log(Path(name))
    workspace, found = find(name, home)
    return found, workspace.records(found.id)


def runnable(name: str | None, home: Path, allow_weak: bool) -> tuple[Run, list[Record]]:
    """The same, to have its generated code run again, unguarded only by leave given here."""
    from dataclasses import replace

    found, records = log(name, home)
    return replace(found, allow_weak=allow_weak or found.allow_weak), records


def print_json(value: Any) -> None:
    """A JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
