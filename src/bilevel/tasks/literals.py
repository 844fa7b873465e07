"""Literals in Python source: their values without `eval`, and other values in the same style."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from bilevel.space import Value

# No result may be wider, so that `9**9**9` is refused instead of computed.
MAX_BITS = 256
MAX_DEPTH = 32

Replacement = tuple[ast.expr, str]
Text = Callable[[ast.expr], str]

_OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
}


class NotLiteral(ValueError):
    """The expression is more than a literal, or its value is no usable one."""


def evaluate(node: ast.expr, depth: int = MAX_DEPTH) -> Value:
    """The value of a literal, or of arithmetic on number literals such as `3 * 2**17`.

    Raises NotLiteral for any other expression, and for numbers that are not finite or too wide.
    """
    if depth == 0:
        raise NotLiteral("is nested too deeply")
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return _usable(value)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _usable(-_number(operand, depth - 1))
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _number(operand, depth - 1)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            return _apply(op, _number(left, depth - 1), _number(right, depth - 1))
    raise NotLiteral("is computed, not a literal")


def _number(node: ast.expr, depth: int) -> int | float:
    value = evaluate(node, depth)
    if isinstance(value, bool | str):
        raise NotLiteral("is computed from something else than numbers")
    return value


def _apply(op: ast.operator, left: int | float, right: int | float) -> Value:
    wide = isinstance(op, ast.LShift) and right > MAX_BITS
    if isinstance(op, ast.Pow) and isinstance(left, int) and isinstance(right, int):
        wide = left.bit_length() * right > MAX_BITS
    if wide:
        raise NotLiteral(f"is wider than {MAX_BITS} bits")
    try:
        return _usable(_OPERATIONS[type(op)](left, right))
    except (ArithmeticError, TypeError, ValueError) as error:
        raise NotLiteral(f"cannot be computed ({error})") from error


def _usable(value: object) -> Value:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise NotLiteral(f"is wider than {MAX_BITS} bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise NotLiteral("is not finite")
    if not isinstance(value, int | float | str):
        raise NotLiteral("is not a real number")
    return value


def same(left: Value, right: Value) -> bool:
    """Whether two values are equal, with truth values and texts apart from numbers."""
    kinds_equal = isinstance(left, bool) == isinstance(right, bool)
    return kinds_equal and left == right


def replacements(node: ast.expr, value: Value, text: Text) -> list[Replacement]:
    """The smallest changes of the expression `node` that make it `value`, in its own style.

    text: gives the source of a node. `2**19` keeps its base, `64 * 1024` one of its factors, a
    number its underscores, base or exponent form, a string its quotes; empty for no change.
    """
    if same(evaluate(node), value):
        return []
    if isinstance(value, bool):
        return [(node, str(value))]
    if isinstance(value, str):
        return [(node, _string(value, text(node)))]
    if isinstance(value, float):
        return [(node, _float(value, text(node)))]
    inside = _inside(node, value, text)
    return [(node, _integer(value, text(node)))] if inside is None else inside


def _inside(
    node: ast.expr, value: int, text: Text, nested: bool = False
) -> list[Replacement] | None:
    """Changes within an integer expression; None if its form cannot give `value`."""
    match node:
        case ast.Constant(value=int()) if value >= 0 or not nested:
            return [(node, _integer(value, text(node)))]
        case ast.UnaryOp(op=ast.USub(), operand=operand) if value < 0:
            return _inside(operand, -value, text, nested=True)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            exponent = _exponent(value, evaluate(left))
            return None if exponent is None else _inside(right, exponent, text, nested=True)
        case ast.BinOp(left=left, op=ast.LShift(), right=right):
            factor = evaluate(left)
            if not isinstance(factor, int) or factor == 0 or value % factor:
                return None
            exponent = _exponent(value // factor, 2)
            return None if exponent is None else _inside(right, exponent, text, nested=True)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _factor(left, right, value, text)
    return None


def _factor(left: ast.expr, right: ast.expr, value: int, text: Text) -> list[Replacement] | None:
    """Changes of one factor of a product, a power before a plain number."""
    sides = [(left, right), (right, left)]
    if any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.Pow) for n in ast.walk(right)):
        sides.reverse()
    for changed, kept in sides:
        factor = evaluate(kept)
        if isinstance(factor, int) and factor and value % factor == 0:
            inside = _inside(changed, value // factor, text, nested=True)
            if inside is not None:
                return inside
    return None


def _exponent(value: int, base: Value) -> int | None:
    """The whole k >= 0 with base**k == value, None if there is none."""
    if not isinstance(base, int) or base < 2 or value < 1:
        return None
    exponent = 0
    while value % base == 0:
        value //= base
        exponent += 1
    return exponent if value == 1 else None


def _integer(value: int, like: str) -> str:
    for prefix, form in (("0x", "#x"), ("0o", "#o"), ("0b", "#b")):
        if like.lower().startswith(prefix):
            return format(value, form)
    return f"{value:_}" if "_" in like else str(value)


def _float(value: float, like: str) -> str:
    plain = repr(value)
    extreme = value != 0 and not 0.01 <= abs(value) < 10_000
    if "e" in plain or ("e" in like.lower() and extreme):
        return _scientific(value)
    return plain


def _scientific(value: float) -> str:
    """The shortest exponent form that is exactly `value`: 1.5e-3, not 1.5e-03."""
    shortest = next(s for n in range(18) if float(s := f"{value:.{n}e}") == value)
    mantissa, exponent = shortest.split("e")
    return f"{mantissa}e{int(exponent)}"


def _string(value: str, like: str) -> str:
    quote = next((c for c in like if c in "'\""), '"')
    escaped = value.encode("unicode_escape").decode("ascii").replace(quote, "\\" + quote)
    return f"{quote}{escaped}{quote}"
