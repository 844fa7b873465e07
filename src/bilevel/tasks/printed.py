"""Which metrics a script prints, from its print statements; nothing is run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["Guess", "guess"]

_HOLE = "\0"
_NAME = r"[A-Za-z_][\w./@-]{0,99}"
_LINE = re.compile(rf"[ \t]*(?:METRIC[ \t]+)?({_NAME})\s*[:=]\s*{_HOLE}\s*%?\s*")
_PERCENT = re.compile(r"%[-+ 0#]*\d*(?:\.\d+)?[defgr]")
_BRACES = re.compile(r"\{[^{}]*\}")
_PRINTERS = {"print", "write", "info", "echo"}
_LOWER = "bpb|loss|ppl|perplexity|nll|err|error|rmse|mse|mae|wer"
_HIGHER = "acc|accuracy|score|reward|return|f1|auc|bleu|map|r2|iou"
_GOAL = re.compile(rf"(?:^|[_/.-])(?:{_LOWER}|({_HIGHER}))(?:$|[_/.-]|\d)")
_HELD_OUT = re.compile(r"(?:^|[_/.-])(?:val|valid|validation|test|eval|dev)(?:$|[_/.-])")


@dataclass(frozen=True)
class Guess:
    """The metric that a script seems to print, its direction, and the other candidates.

    metric: None when no print statement has a line `name: {value}` that looks like an objective.
    """

    metric: str | None
    direction: Literal["min", "max"]
    others: tuple[str, ...]


def guess(tree: ast.Module) -> Guess:
    """The likeliest objective among the lines `name: {value}` that a script prints.

    Where it prints none, the keys of its dictionaries are taken, which many print in a loop.
    """
    names = _objectives(_printed(tree)) or _objectives(_keys(tree))
    ranked = sorted(names, key=lambda name: _HELD_OUT.search(name.lower()) is None)
    if not ranked:
        return Guess(None, "min", ())
    found = _GOAL.search(ranked[0].lower())
    assert found is not None
    direction: Literal["min", "max"] = "max" if found[1] else "min"
    return Guess(ranked[0], direction, tuple(ranked[1:]))


def _objectives(names: Iterable[str]) -> list[str]:
    return [n for n in dict.fromkeys(names) if _GOAL.search(n.lower())]


def _keys(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key in node.keys:
                text = key.value if isinstance(key, ast.Constant) else None
                if isinstance(text, str) and re.fullmatch(_NAME, text):
                    yield text


def _printed(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and _called(node.func) in _PRINTERS:
            for line in _template(node.args[0], len(node.args) > 1).split("\n"):
                found = _LINE.fullmatch(line)
                if found is not None:
                    yield found[1]


def _called(function: ast.expr) -> str:
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _template(node: ast.expr, more: bool) -> str:
    """The text that is printed, with a hole for each value; more: arguments follow."""
    match node:
        case ast.Constant(value=str() as text):
            return text + _HOLE if more and text.rstrip().endswith((":", "=")) else text
        case ast.JoinedStr(values=parts):
            texts = (p.value if isinstance(p, ast.Constant) else _HOLE for p in parts)
            return "".join(str(t) for t in texts)
        case ast.BinOp(left=ast.Constant(value=str() as text), op=ast.Mod()):
            return _PERCENT.sub(_HOLE, text)
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str() as text), attr="format")):
            return _BRACES.sub(_HOLE, text)
    return ""
