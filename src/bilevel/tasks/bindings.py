"""Upper-case names of a module: where they are bound, and which expression gives their value."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

UPPER = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass(frozen=True)
class Binding:
    """A name, the expression that gives it its value, and its statement.

    node: None when no single expression does; then `why` says so.
    """

    name: str
    node: ast.expr | None
    statement: ast.stmt
    why: str = ""


def bindings(tree: ast.Module) -> Iterator[Binding]:
    """Assignments to upper-case names at module level, also inside `if`, `try` and `with`."""
    for statement in _statements(tree.body):
        match statement:
            case ast.Assign(targets=[target], value=value):
                yield from _pairs(target, value, statement)
            case ast.Assign(targets=targets):
                for target in targets:
                    yield from _unpaired(target, statement, "shares its value with another name")
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                yield from _pairs(target, value, statement)


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        match statement:
            case ast.If():
                yield from _statements([*statement.body, *statement.orelse])
            case ast.Try() | ast.TryStar():
                handled = [s for handler in statement.handlers for s in handler.body]
                rest = [*handled, *statement.orelse, *statement.finalbody]
                yield from _statements([*statement.body, *rest])
            case ast.With():
                yield from _statements(statement.body)
            case _:
                yield statement


def _pairs(target: ast.expr, value: ast.expr, statement: ast.stmt) -> Iterator[Binding]:
    match target, value:
        case ast.Name(id=name), _:
            if UPPER.fullmatch(name):
                yield Binding(name, value, statement)
        case ((ast.Tuple() | ast.List()), (ast.Tuple() | ast.List())) if _same_shape(target, value):
            for one, its_value in zip(target.elts, value.elts, strict=True):
                yield from _pairs(one, its_value, statement)
        case _:
            yield from _unpaired(target, statement, "is unpacked from a computed value")


def _same_shape(target: ast.Tuple | ast.List, value: ast.Tuple | ast.List) -> bool:
    starred = any(isinstance(e, ast.Starred) for e in [*target.elts, *value.elts])
    return not starred and len(target.elts) == len(value.elts)


def _unpaired(target: ast.expr, statement: ast.stmt, why: str) -> Iterator[Binding]:
    for node in ast.walk(target):
        if (
            isinstance(node, ast.Name)
            and isinstance(node.ctx, ast.Store)
            and UPPER.fullmatch(node.id)
        ):
            yield Binding(node.id, None, statement, why)


def bound_lines(tree: ast.Module) -> dict[str, list[int]]:
    """The lines at which each upper-case name is bound in the module's scope, however it is."""
    visitor = _ModuleScope()
    visitor.visit(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            for name in node.names:
                visitor.bind(name, node.lineno)
    return {name: sorted(lines) for name, lines in visitor.lines.items()}


class _ModuleScope(ast.NodeVisitor):
    """Collects what is bound at module level; the bodies of functions and classes are not."""

    def __init__(self) -> None:
        self.lines: dict[str, list[int]] = defaultdict(list)

    def bind(self, name: str | None, line: int) -> None:
        if name is not None and UPPER.fullmatch(name):
            self.lines[name].append(line)

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.bind(node.id, node.lineno)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.bind(node.name, node.lineno)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.bind(node.name, node.lineno)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        return

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for part in [node.iter, *node.ifs]:
            self.visit(part)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            self.bind(alias.asname or alias.name.partition(".")[0], node.lineno)

    visit_ImportFrom = visit_Import

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self.bind(node.name, node.lineno)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self.bind(node.name, node.lineno)
        self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        self.bind(node.name, node.lineno)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.bind(node.rest, node.lineno)
        self.generic_visit(node)
