"""`bilevel models`: the weights of the embedded LLM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

models = typer.Typer(help="Weights of the embedded LLM: list, pull, verify.", no_args_is_help=True)
console = Console(markup=False)
Name = Annotated[str, typer.Argument(help="A model's name, as `models list` shows it.")]


@contextmanager
def fetching(console: Console) -> Iterator[Callable[[int, int, str], None]]:
    """Draws a bar for bytes done, bytes in all and what is being fetched, once there are any."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=None, visible=False)

        def show(done: int, total: int, text: str) -> None:
            progress.update(bar, completed=done, total=total, description=text, visible=True)

        yield show


@models.command("list")
def list_models() -> None:
    """The models that can be fetched, and where those that were lie."""
    from bilevel.llm.weights import available, locate

    table = Table("name", "MB", "licence", "from", "here", box=None)
    for model in available():
        path = locate(model.name)
        table.add_row(
            model.name, f"{model.bytes / 1e6:,.0f}", model.licence, model.repo, str(path or "-")
        )
    console.print(table)


@models.command()
def pull(name: Name) -> None:
    """Fetch a model's weights and verify them; goes on where it was interrupted."""
    from bilevel.llm.weights import pull as fetch

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(name, total=None)

        def show(done: int, total: int, text: str) -> None:
            progress.update(bar, completed=done, total=total, description=text)

        path = fetch(name, show)
    console.print(f"{name} is verified at {path}")


@models.command()
def verify(name: Name) -> None:
    """Read a model's weights again and compare their sha256."""
    from bilevel.llm.weights import verify as check

    console.print(f"{name} is what it should be: {check(name)}")
