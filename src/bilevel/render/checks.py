"""What `bilevel doctor` found, as a table for the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from bilevel.doctor import Check


def checks_table(found: list[Check]) -> Table:
    """One row a check, its remedy below what was found."""
    styles = {"ok": "bold blue", "warn": "yellow", "fail": "bold red"}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("check", no_wrap=True)
    table.add_column("found", overflow="fold")
    for check in found:
        text = Text(check.found)
        if check.remedy:
            text.append(f"\n-> {check.remedy}", style="italic")
        table.add_row(Text(check.status, style=styles[check.status]), Text(check.name), text)
    return table
