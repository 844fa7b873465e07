"""What commands have in common that let users choose what holds generated code."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Wall = Annotated[
    Literal["auto", "wasm"],
    typer.Option(
        "--sandbox",
        help="What holds generated code. auto: this machine's own means. wasm: a WebAssembly "
        "guest, which the same command on another system has too; slower, and without the extra "
        "`wasm` or where the guest does not come up nothing runs. The first start compiles it "
        "for minutes.",
        rich_help_panel="Outer loop",
    ),
]
COMPILING = "compiling the WebAssembly guest, two to four minutes of a core, once"


def prepare(wall: str, console: Console) -> None:
    """Have the wall ready that was asked for, with a word on the screen where that takes minutes.

    wall: or the level of a run that goes on. Raises MissingExtra and SandboxRefused.
    """
    from bilevel.sandbox import wasm

    if wall != "wasm" or wasm.compiled():
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    if not console.is_terminal:
        console.print(COMPILING, soft_wrap=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as p:
        p.add_task(COMPILING, total=None)
        wasm.prepare()
