"""Upper-case constants of a Python script: finds them, and edits them in place.

A constant is a name like `MATRIX_LR` that is assigned exactly once at module level, from a number,
a truth value, a string, arithmetic on number literals (`2**19`), or a tuple of those. A tuple gives
one constant an element, named `ADAM_BETAS[0]`. An edit replaces the bytes of the value and nothing
else, and is checked by parsing the result again. No code is ever run.
"""

from __future__ import annotations

import ast
import difflib
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from bilevel.errors import ConfigError, InvalidCandidate
from bilevel.space import Value, Values
from bilevel.tasks.bindings import Binding, bindings, bound_lines
from bilevel.tasks.literals import MAX_BITS, NotLiteral, evaluate, replacements, same

__all__ = ["Constant", "Source", "edit", "find"]

MAX_DOC = 200
_COMMENT = re.compile(r"[ \t]*,?[ \t]*#+:?(.*)")


@dataclass(frozen=True)
class Constant:
    """A constant: its name and value, its expression as written, its comment and its line."""

    name: str
    value: Value
    text: str
    doc: str
    line: int

    @property
    def kind(self) -> Literal["bool", "int", "float", "str"]:
        match self.value:
            case bool():
                return "bool"
            case int():
                return "int"
            case float():
                return "float"
            case str():
                return "str"


def find(source: str) -> tuple[Constant, ...]:
    """The constants of a script, in its order. Raises ConfigError if it is not valid Python."""
    return Source(source).constants


def edit(source: str, values: Values) -> str:
    """The script with other values for some of its constants, else byte for byte the same.

    Raises InvalidCandidate for an unknown name, a value of another type, and any edit that would
    change more than those values; ConfigError if the script is not valid Python.
    """
    return Source(source).edit(values)


class Source:
    """A script with its constants.

    refused: upper-case names that are assigned but cannot be edited, each with the reason.
    """

    def __init__(self, text: str, file: str = "the script") -> None:
        """Raises ConfigError if the text is not valid Python."""
        self.text = text
        self.file = file
        # Without its byte order mark, which Python's parser refuses in a str.
        self._mark = "\ufeff" if text.startswith("\ufeff") else ""
        self.tree, self._raw = _parse(text.removeprefix(self._mark), file)
        lengths = (len(line) for line in self._raw.splitlines(keepends=True))
        self._starts = list(accumulate(lengths, initial=0))
        self._nodes: dict[str, ast.expr] = {}
        self.refused: dict[str, str] = {}
        try:
            self.constants = self._scan()
        except RecursionError as error:
            raise ConfigError(f"{file} is nested too deeply to be read") from error

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def __getitem__(self, name: str) -> Constant:
        """Raises InvalidCandidate for a name that is no constant of this script."""
        for constant in self.constants:
            if constant.name == name:
                return constant
        raise InvalidCandidate(self.explain(name))

    def explain(self, name: str) -> str:
        """Why `name` is no constant that can be edited, and what to write instead."""
        if name in self.refused:
            return f"{name} in {self.file} {self.refused[name]}"
        elements = [c.name for c in self.constants if c.name.startswith(f"{name}[")]
        if elements:
            return f"{name} in {self.file} is a tuple; name its elements: {', '.join(elements)}"
        known = [*self._nodes, *self.refused]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known) or 'none'}"
        return f"{self.file} has no upper-case constant {name!r} at module level; {hint}"

    def edit(self, values: Values) -> str:
        """See the function `edit`."""
        wanted = {name: _typed(self[name], value) for name, value in values.items()}
        changes: list[tuple[int, int, bytes]] = []
        for name, value in wanted.items():
            for node, text in replacements(self._nodes[name], value, self._text):
                changes.append((*self._span(node), text.encode()))
        if not changes:
            return self.text
        raw = self._raw
        for start, end, new in sorted(changes, reverse=True):
            raw = raw[:start] + new + raw[end:]
        edited = Source(raw.decode(), self.file)
        self._verify(edited, wanted)
        return self._mark + edited.text

    def _verify(self, edited: Source, wanted: Values) -> None:
        """Raises InvalidCandidate unless exactly the wanted values differ."""
        for constant in self.constants:
            name = constant.name
            value = wanted.get(name, constant.value)
            if name not in edited or not same(edited[name].value, value):
                raise InvalidCandidate(f"{name} cannot be set to {value!r} in {self.file}")
        before = _skeleton(self.tree, {id(self._nodes[n]) for n in wanted})
        after = _skeleton(edited.tree, {id(edited._nodes[n]) for n in wanted})
        if before != after:
            names = ", ".join(wanted)
            raise InvalidCandidate(f"setting {names} would change other code of {self.file}")

    def _scan(self) -> tuple[Constant, ...]:
        found: list[Constant] = []
        lines = bound_lines(self.tree)
        for binding in bindings(self.tree):
            if len(lines[binding.name]) > 1:
                places = ", ".join(map(str, lines[binding.name]))
                self.refused[binding.name] = (
                    f"is set more than once (lines {places}); assign it once to make it a parameter"
                )
            elif binding.node is None:
                self.refused[binding.name] = f"{binding.why}; give it a value of its own"
            else:
                found.extend(self._elements(binding.name, binding.node, binding))
        return tuple(found)

    def _elements(self, name: str, node: ast.expr, binding: Binding) -> Iterator[Constant]:
        if isinstance(node, ast.Tuple | ast.List):
            for index, element in enumerate(node.elts):
                yield from self._elements(f"{name}[{index}]", element, binding)
            return
        try:
            value = evaluate(node)
        except NotLiteral as error:
            self.refused[name] = f"{error}; only literal values can be edited"
            return
        self._nodes[name] = node
        doc = self._comment(node) or self._comment(binding.statement)
        yield Constant(name, value, self._text(node), doc, node.lineno)

    def _comment(self, node: ast.expr | ast.stmt) -> str:
        """The comment that follows a node on its last line, as printable text."""
        assert node.end_lineno is not None
        rest = self._raw[self._span(node)[1] : self._starts[node.end_lineno]]
        found = _COMMENT.match(rest.decode())
        return "" if found is None else _printable(found[1])

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        # ast columns count bytes of UTF-8.
        start = self._starts[node.lineno - 1] + node.col_offset
        return start, self._starts[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.expr) -> str:
        start, end = self._span(node)
        return self._raw[start:end].decode()


def _parse(text: str, file: str) -> tuple[ast.Module, bytes]:
    try:
        raw = text.encode()
        with warnings.catch_warnings():
            # What the script's own escapes deserve is not for its reader to say.
            warnings.simplefilter("ignore")
            return ast.parse(raw.decode()), raw
    except SyntaxError as error:
        raise ConfigError(f"{file} line {error.lineno} is not valid Python: {error.msg}") from error
    except (RecursionError, MemoryError) as error:
        raise ConfigError(f"{file} is nested too deeply to be read") from error
    except ValueError as error:
        raise ConfigError(f"{file} is not a text file of Python: {error}") from error


def _typed(constant: Constant, value: Value) -> Value:
    """The value in the constant's type. Raises InvalidCandidate for another type."""
    expected = {"bool": "True or False", "str": "a text"}.get(constant.kind, "a number")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {"bool": isinstance(value, bool), "str": isinstance(value, str)}
    if not fits.get(constant.kind, number):
        raise InvalidCandidate(f"{constant.name} is {value!r} but must be {expected}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidCandidate(f"{constant.name} is {value} but must be finite")
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise InvalidCandidate(f"{constant.name} must be a number of at most {MAX_BITS} bits")
    return float(value) if constant.kind == "float" else value


def _skeleton(node: object, blank: set[int]) -> object:
    """The tree as nested tuples, without positions and with some nodes left out."""
    if id(node) in blank:
        return None
    if isinstance(node, ast.AST):
        return (type(node), *(_skeleton(value, blank) for _, value in ast.iter_fields(node)))
    if isinstance(node, list):
        return tuple(_skeleton(item, blank) for item in node)
    return type(node), node


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()[:MAX_DOC].strip()
