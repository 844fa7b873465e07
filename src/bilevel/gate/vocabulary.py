"""What a mechanism's source asks of the contract that is not there, found without running it.

A run finds one such mistake at a time, and none on a branch that it does not take. Only what is
certain is reported: where a name's type cannot be told, nothing is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import fields

from bilevel.conformance.remedies import KNOWN, members, with_remedy
from bilevel.gate.free_names import unknown
from bilevel.model import Move
from bilevel.sandbox.policy import DUNDERS

# Types by the names that hooks and their helpers are written with; "[X]" is a sequence of X.
GIVEN = {
    "view": "View", "trial": "Trial", "move": "Move", "draft": "Draft",
    "trials": "[Trial]", "moves": "[Move]", "drafts": "[Draft]",
}  # fmt: skip
HOOKS = {"plan": ("View", "[Move]"), "screen": ("View", "[Draft]"), "accept": ("View", "Trial")}
FIELDS = {
    "View.incumbent": "Trial", "View.best": "Trial", "View.space": "Space",
    "View.trials": "[Trial]", "View.pending": "[Draft]", "Trial.draft": "Draft",
    "Draft.move": "Move",
}  # fmt: skip
ANSWERS = {
    "View.scored": "[Trial]", "View.by_tag": "[Trial]", "View.tries": "[Trial]",
    "View.base": "Trial", "Draft.edit": "Draft", "Move.edit": "Move",
}  # fmt: skip
Types = dict[str, str]


def misnamed(source: str) -> list[str]:
    """A sentence with its line for each name that is not there; empty if nothing is certain."""
    tree = ast.parse(source)
    found = {*_undefined(source, tree), *_unset(source, tree)}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            found.update(_wrong(function))
    return [f"line {line}: {words}" for line, words in sorted(found)]


def advised(hook: str, kind: str, text: str) -> str:
    """An error's text and what to do about it. kind: name of the exception's class."""
    return "; ".join(filter(None, with_remedy(hook, kind, text)))


def _undefined(source: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    absent = unknown(source, tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in absent:
            words = f"name '{node.id}' is not defined"
            absent.discard(node.id)
            yield node.lineno, advised("", "NameError", words)


def _unset(source: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Attributes of self that are read and never set, where all of its bases can be seen."""
    classes = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
    seen = {"Mechanism", *(c.name for c in classes)}
    hidden = any(ast.unparse(b).rpartition(".")[2] not in seen for c in classes for b in c.bases)
    if hidden or "setattr" in source or "vars(" in source or "__dict__" in source:
        return
    there = {n for n in dir(KNOWN["Mechanism"]) if not n.startswith("__")}
    uses: dict[str, int] = {}
    for owner in classes:
        for inner in ast.walk(owner):
            if isinstance(inner, ast.FunctionDef):
                there.add(inner.name)
            elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                there.add(inner.id)
            elif isinstance(inner, ast.Attribute) and ast.unparse(inner.value) == "self":
                if isinstance(inner.ctx, ast.Load):
                    uses.setdefault(inner.attr, inner.lineno)
                else:
                    there.add(inner.attr)
    for name, line in uses.items():
        if name not in there and name not in DUNDERS:
            yield line, f"self.{name} is never set; {_to_set(name)}"


def _to_set(name: str) -> str:
    if name in GIVEN or name in ("space", "rng", "history", "incumbent", "best"):
        return "what is known of the run comes with each call, in view"
    return f"write the method, or set it in __init__: self.{name} = ..."


def _wrong(function: ast.FunctionDef) -> Iterator[tuple[int, str]]:
    """Attributes that the contract's classes lack, in one function and what is nested in it."""
    types = _types(function)
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute):
            owner = _type(node.value, types)
            known = owner in KNOWN and not node.attr.startswith("_")
            if known and node.attr not in members(KNOWN[owner]):
                words = f"'{owner}' object has no attribute '{node.attr}'"
                yield node.lineno, advised("", "AttributeError", words)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "Move":
            there = [f.name for f in fields(Move)]
            for keyword in node.keywords:
                if keyword.arg is not None and keyword.arg not in there:
                    words = f"Move takes no `{keyword.arg}`; a Move has {', '.join(there)}"
                    yield node.lineno, words


def _types(function: ast.FunctionDef) -> Types:
    """The types of a function's names, where they are certain."""
    arguments = [*function.args.posonlyargs, *function.args.args]
    types = {a.arg: t for a in arguments if (t := _given(a))}
    if function.name in HOOKS and arguments[:1] and arguments[0].arg == "self":
        places = zip(arguments[1:], HOOKS[function.name], strict=False)
        types |= {a.arg: kind for a, kind in places}
    for _ in range(3):  # one name may take its type from another's
        seen: dict[str, set[str]] = {n: {t} for n, t in types.items()}
        for name, kind in _bindings(function, types):
            seen.setdefault(name, set()).add(kind)
        types = {n: next(iter(kinds)) for n, kinds in seen.items() if len(kinds) == 1}
        types = {n: kind for n, kind in types.items() if kind}
    return types


def _given(argument: ast.arg) -> str:
    """The type of an argument, by its annotation or else by its name; "" if neither tells."""
    if argument.annotation is None:
        return GIVEN.get(argument.arg, "")
    note = ast.unparse(argument.annotation).strip("'\"")
    if note in KNOWN:
        return note
    inner = note.rpartition("[")[2].rstrip("]").partition(",")[0]
    many = note.lower().startswith(("list[", "tuple[", "sequence["))
    return f"[{inner}]" if many and inner in KNOWN else ""


def _bindings(function: ast.FunctionDef, types: Types) -> Iterator[tuple[str, str]]:
    """Each name that the function binds, and the type that it takes there, "" for unknown."""
    told: set[int] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.For | ast.comprehension) and isinstance(node.target, ast.Name):
            told.add(id(node.target))
            yield node.target.id, _element(_type(node.iter, types))
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    told.add(id(target))
                    yield target.id, _type(node.value, types)
        elif isinstance(node, ast.Lambda | ast.FunctionDef) and node is not function:
            yield from ((a.arg, "") for a in (*node.args.args, *node.args.kwonlyargs))
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in told:
            yield node.id, ""


def _element(kind: str) -> str:
    return "Param" if kind == "Space" else kind[1:-1] if kind.startswith("[") else ""


def _type(node: ast.expr, types: Types) -> str:
    """The contract's class that an expression is of, "[X]" for a sequence, "" if not certain."""
    if isinstance(node, ast.Name):
        return types.get(node.id, "")
    if isinstance(node, ast.Attribute):
        return FIELDS.get(f"{_type(node.value, types)}.{node.attr}", "")
    if isinstance(node, ast.Subscript):
        kind = _type(node.value, types)
        return kind if isinstance(node.slice, ast.Slice) and kind[:1] == "[" else _element(kind)
    if isinstance(node, ast.Call):
        return _answer(node, types)
    return ""


def _answer(node: ast.Call, types: Types) -> str:
    if isinstance(node.func, ast.Attribute):
        return ANSWERS.get(f"{_type(node.func.value, types)}.{node.func.attr}", "")
    if isinstance(node.func, ast.Name) and len(node.args) == 1:
        kind = _type(node.args[0], types)
        if node.func.id in ("sorted", "list", "tuple", "reversed") and kind.startswith("["):
            return kind
        if node.func.id in ("max", "min"):
            return _element(kind)
    return ""
