"""Which names the source of a mechanism uses, and which of them nothing gives it."""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Iterable, Iterator


def parse(text: str) -> ast.Module | None:
    """The syntax tree, None where there is none."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def unknown(text: str, tree: ast.Module) -> set[str]:
    """Names that the source uses, annotations included, and neither binds nor finds built in."""
    try:
        table = symtable.symtable(text, "<mechanism>", "exec")
    except (SyntaxError, ValueError, RecursionError):  # more than the parser looks at
        return set()
    bound = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
    used = {n for top in annotations_in(tree) for n in names_in(top)} | set(_globals(table))
    return used - bound - set(dir(builtins)) - {"__file__"}


def used_in(nodes: Iterable[ast.stmt]) -> set[str]:
    """Names that are read in these statements, in texts that annotate as well."""
    found: set[str] = set()
    for node in nodes:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            found |= set(names_in(node))
            found |= {n for note in annotations_in(node) for n in names_in(note)}
    return found


def names_in(node: ast.AST) -> Iterator[str]:
    """Names in a piece of a source, each as often as it stands there."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id


def annotations_in(tree: ast.AST) -> Iterator[ast.AST]:
    """All that annotates."""
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            note = getattr(node, field, None)
            if isinstance(note, ast.expr):
                yield meant(note)


def meant(note: ast.expr) -> ast.AST:
    """The expression that a text holds, where it is one; else what it is."""
    text = note.value if isinstance(note, ast.Constant) else None
    return (parse(text) or note) if isinstance(text, str) else note


def _globals(table: symtable.SymbolTable) -> Iterator[str]:
    """Names that any scope reads as global ones."""
    for symbol in table.get_symbols():
        if symbol.is_referenced() and symbol.is_global():
            yield symbol.get_name()
    for child in table.get_children():
        yield from _globals(child)
