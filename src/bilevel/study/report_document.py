"""A document of headings, paragraphs, tables and figures, as one HTML file or as Markdown.

Both are made of the same blocks, so that they cannot say different things. Texts may come from
logs: they are escaped, and cannot become markup.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources


@dataclass(frozen=True)
class Heading:
    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Points:
    """A list, one line a point."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Cells as texts; the first column is left-aligned and names the row, the others are right.

    words: columns, by number, that hold words and are left-aligned as well.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[int] = ()


@dataclass(frozen=True)
class Figure:
    """svg: an <svg> element. name: of its file beside the Markdown. caption: what it shows.

    png: the same, empty where none was drawn.
    """

    name: str
    svg: str
    caption: str
    png: bytes = b""


@dataclass(frozen=True)
class Code:
    """Text as it stands. title: shown instead until it is opened."""

    text: str
    title: str = ""


Block = Heading | Paragraph | Points | Table | Figure | Code


def html(title: str, blocks: Sequence[Block]) -> str:
    """One self-contained page, light or dark as the reader's system: no script, nothing fetched."""
    style = resources.files("bilevel.study").joinpath("report.css").read_text(encoding="utf-8")
    body = "\n".join(map(_html, blocks))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{escape(text)}</p>"
        case Points(items):
            return "<ul>\n" + "\n".join(f"<li>{escape(i)}</li>" for i in items) + "\n</ul>"
        case Table():
            return _html_table(block)
        case Figure(name, svg, caption, _):
            return (
                f'<figure id="{escape(name)}"><div class="wide">{svg}</div>'
                f"<figcaption>{escape(caption)}</figcaption></figure>"
            )
        case Code(text, ""):
            return f"<pre>{escape(text)}</pre>"
        case Code(text, title):
            return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"


def _html_table(table: Table) -> str:
    head = _cells(table, "th", table.columns)
    rows = "\n".join(_cells(table, "td", row) for row in table.rows)
    return (
        f'<div class="wide"><table>\n<thead>\n{head}\n</thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _cells(table: Table, kind: str, row: Sequence[str]) -> str:
    cells = [f"<{kind}{_side(table, i)}>{escape(c)}</{kind}>" for i, c in enumerate(row)]
    return f"<tr>{''.join(cells)}</tr>"


def _side(table: Table, column: int) -> str:
    return ' class="words"' if column == 0 or column in table.words else ""


def markdown(blocks: Sequence[Block], folder: str) -> str:
    """The same as Markdown; figures are referred to as `folder/NAME.svg`."""
    return "\n\n".join(_markdown(block, folder) for block in blocks) + "\n"


def _markdown(block: Block, folder: str) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {_plain(text)}"
        case Paragraph(text):
            return _plain(text)
        case Points(items):
            return "\n".join(f"- {_plain(i)}" for i in items)
        case Table():
            return _markdown_table(block)
        case Figure(name, _, caption, _):
            return f"![{_plain(caption)}]({folder}/{name}.svg)\n\n{_plain(caption)}"
        case Code(text, title):
            # A fence must be longer than any in the text (CommonMark 0.31, section 4.5).
            longest = max((len(run) for run in re.findall("`+", text)), default=0)
            fence = "`" * max(3, longest + 1)
            block_text = f"{fence}\n{text.rstrip()}\n{fence}"
            return f"{_plain(title)}:\n\n{block_text}" if title else block_text


def _markdown_table(table: Table) -> str:
    sides = ["---" if i == 0 or i in table.words else "---:" for i, _ in enumerate(table.columns)]
    rows = [_row([*map(_plain, row)]) for row in table.rows]
    return "\n".join([_row([*map(_plain, table.columns)]), _row(sides), *rows])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """The text on one line, with what Markdown would take for markup escaped."""
    line = " ".join(text.split())
    return re.sub(r"[\\`*\[\]<>|&~]|^[#+-]+(?=\s)|(?<!\w)_|_(?!\w)", r"\\\g<0>", line)
