"""What can be mended in a mechanism's source by its syntax tree, its text otherwise kept."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterable, Iterator
from importlib import import_module

from bilevel.gate.free_names import meant, names_in, parse, unknown, used_in
from bilevel.sandbox.policy import HOOKS, OURS, STDLIB

Edit = tuple[int, int, str]  # bytes from and to, and what takes their place
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

HOMES = {
    "bilevel.mechanism": "Mechanism View",
    "bilevel.model": "Draft Edit Move Param Space Trial Value Values",
    "collections": "Counter OrderedDict defaultdict deque",
    "collections.abc": "Callable Iterable Iterator Mapping Sequence",
    "dataclasses": "dataclass field replace",
    "functools": "lru_cache partial reduce",
    "itertools": "chain combinations islice pairwise permutations product",
    "math": "ceil cos exp floor inf isclose isfinite isinf isnan log log10 log2 pi sin sqrt",
    "statistics": "fmean mean median pstdev stdev variance",
    "typing": "Any ClassVar Dict Final Generator List Literal NamedTuple Optional Set Tuple Type "
    "TypeVar Union",
}
HOME = {name: module for module, names in HOMES.items() for name in names.split()}
MODULES = {**{name: name for name in STDLIB - {"__future__"}}, "np": "numpy as np"}
# Where LLMs think that the contract is.
MISNAMED = (
    "base",
    "contract",
    "core",
    "mechanism",
    "mechanisms",
    "model",
    "models",
    "space",
    "view",
)
DRAWS = frozenset(n for n in dir(random.Random) if n.islower() and n[0] != "_") - {"seed"}


def mend(text: str) -> str:
    """The source with all mends that leave it Python. It must parse."""
    for stage in (_without_junk, _derived, _drawn, _typed, _imported):
        tree = parse(text)
        assert tree is not None, "each stage leaves what parses"
        after = _spliced(text, stage(text, tree))
        text = after if parse(after) is not None else text
    return text


def is_mechanism(node: ast.stmt) -> bool:
    """Whether this is a class that derives from Mechanism, or tries to be one by its hooks."""
    if not isinstance(node, ast.ClassDef) or node.name in HOME:
        return False
    hooks = any(isinstance(n, ast.FunctionDef) and n.name in HOOKS for n in node.body)
    return hooks or any(ast.unparse(b).rpartition(".")[2] == "Mechanism" for b in node.bases)


def _without_junk(text: str, tree: ast.Module) -> Iterator[Edit]:
    """Without copies of the contract, and without what follows the class and is not used by it."""
    copies = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name in HOME]
    yield from (_gone(text, node) for node in copies)
    at = next((i for i, n in enumerate(tree.body) if is_mechanism(n)), None)
    if at is None:
        return
    after = [n for n in tree.body[at + 1 :] if n not in copies]
    kept = [n for n in tree.body[: at + 1] if n not in copies]
    kept += [n for n in after if is_mechanism(n) or isinstance(n, ast.Import | ast.ImportFrom)]
    while more := [n for n in after if n not in kept and _binds(n) & used_in(kept)]:
        kept += more
    yield from (_gone(text, n) for n in after if n not in kept)
    last = max(n.end_lineno or 0 for n in kept)
    if last >= max(n.end_lineno or 0 for n in tree.body if n in kept or n in after):
        tail = _at(text, last, 0) + len(text.split("\n")[last - 1].encode())
        if text.encode()[tail:].strip():
            yield tail, len(text.encode()), "\n"


def _binds(node: ast.stmt) -> set[str]:
    """Names that a top-level statement binds or changes, if it is of a kind that may be kept."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        targets = [node.target]
    if any(isinstance(t, ast.Attribute) for t in targets):
        return {n for t in targets for n in names_in(t)} | {"Mechanism"}
    return {n for t in targets for n in names_in(t)}


def _derived(text: str, tree: ast.Module) -> Iterator[Edit]:
    """With Mechanism as the base of the one class that has hooks and no base at all."""
    made = [n for n in tree.body if isinstance(n, ast.ClassDef) and is_mechanism(n)]
    if len(made) == 1 and not made[0].bases and not made[0].keywords:
        start = _at(text, made[0].lineno, made[0].col_offset)
        head = re.match(rf"class\s+{made[0].name}\s*(\(\s*\))?", text.encode()[start:].decode())
        if head is not None:
            end = start + len(head[0].encode())
            yield start, end, f"class {made[0].name}(Mechanism)"


def _drawn(text: str, tree: ast.Module) -> Iterator[Edit]:
    """With `view.rng` for the module `random` in functions that are given a view."""
    seen: set[int] = set()
    for function in _functions(tree):
        if "view" not in _arguments(function):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute) and node.attr in DRAWS and id(node) not in seen:
                owner = node.value
                if isinstance(owner, ast.Name) and owner.id == "random":
                    seen.add(id(node))
                    yield *_span(text, owner), "view.rng"


def _typed(text: str, tree: ast.Module) -> Iterator[Edit]:
    """Without annotations that name what neither is there nor could be imported."""
    absent = unknown(text, tree) - HOME.keys() - MODULES.keys()

    def wrong(note: ast.expr | None) -> bool:
        return note is not None and any(n in absent for n in names_in(meant(note)))

    data = text.encode()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and wrong(node.annotation):
            assert node.annotation is not None
            start = _at(text, node.lineno, node.col_offset) + len(node.arg.encode())
            yield start, _span(text, node.annotation)[1], ""
        elif isinstance(node, ast.FunctionDef) and wrong(node.returns):
            assert node.returns is not None
            start, end = _span(text, node.returns)
            yield len(data[:start].rstrip().removesuffix(b"->").rstrip()), end, ""
        elif isinstance(node, ast.AnnAssign) and wrong(node.annotation):
            start, end = _span(text, node.annotation)
            if node.value is None:
                yield start, end, "object"
            else:
                yield _span(text, node.target)[1], end, ""


def _imported(text: str, tree: ast.Module) -> Iterator[Edit]:
    """With the imports that are missing, from where the names are, and without unused ones."""
    used, missing = used_in(tree.body), unknown(text, tree)
    late = _late_future(tree)
    wanted: dict[str, set[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            stays = [a for a in node.names if (a.asname or a.name.partition(".")[0]) in used]
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            stays = [a for a in node.names if a.name == "*" or (a.asname or a.name) in used]
            strays = [a for a in stays if _stray(node, a)]
            missing |= {a.name for a in strays if a.name != "*"}
            stays = [a for a in stays if a not in strays]
        else:
            continue
        if len(stays) < len(node.names):
            yield _gone(text, node) if not stays else (*_span(text, node), _import(node, stays))
    for name in missing & HOME.keys():
        wanted.setdefault(HOME[name], set()).add(name)
    lines = [f"import {MODULES[n]}" for n in sorted(missing - HOME.keys()) if n in MODULES]
    lines += [f"from {m} import {', '.join(sorted(wanted[m]))}" for m in sorted(wanted)]
    yield from (_gone(text, node) for node in late)
    future = "from __future__ import annotations\n" if late else ""
    if lines or future:
        place = _head(text, tree)
        yield place, place, future + "".join(f"{line}\n" for line in lines)


def _stray(node: ast.ImportFrom, alias: ast.alias) -> bool:
    """Whether a name of the contract is imported from where it is not."""
    module = node.module or ""
    if alias.asname is not None or (alias.name not in HOME and alias.name != "*"):
        return False
    if node.level or module.partition(".")[0] in MISNAMED:
        return True
    if module.partition(".")[0] != "bilevel":
        return False
    return module not in OURS or alias.name == "*" or not hasattr(import_module(module), alias.name)


def _late_future(tree: ast.Module) -> list[ast.stmt]:
    """Imports from __future__ that do not stand first, as they must."""
    early = True
    late = []
    for i, node in enumerate(tree.body):
        future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        doc = i == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if future and not early:
            late.append(node)
        early = early and (future or doc)
    return late


def _import(node: ast.Import | ast.ImportFrom, names: list[ast.alias]) -> str:
    if isinstance(node, ast.Import):
        return ast.unparse(ast.Import(names))
    return ast.unparse(ast.ImportFrom(node.module, names, node.level))


def _head(text: str, tree: ast.Module) -> int:
    """Where imports are to be put: after the docstring and the imports from __future__."""
    line = 0
    for i, node in enumerate(tree.body):
        future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        doc = i == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not future and not doc:
            break
        line = node.end_lineno or 0
    return _at(text, line + 1, 0)


def _functions(tree: ast.AST) -> Iterator[Function]:
    return (n for n in ast.walk(tree) if isinstance(n, Function))


def _arguments(function: Function) -> set[str]:
    given = function.args
    return {a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)}


def _at(text: str, line: int, column: int) -> int:
    """Bytes before a place that the parser names: a line from 1, a column in bytes."""
    return sum(len(s.encode()) + 1 for s in text.split("\n")[: line - 1]) + column


def _span(text: str, node: ast.expr | ast.stmt) -> tuple[int, int]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    end = _at(text, node.end_lineno, node.end_col_offset)
    return _at(text, node.lineno, node.col_offset), end


def _gone(text: str, node: ast.stmt) -> Edit:
    """The edit that removes a statement with its lines, decorators included."""
    start, end = _span(text, node)
    above = getattr(node, "decorator_list", [])
    if above:
        start = _at(text, above[0].lineno, 0)
    data = text.encode()
    if data[end : end + 1] == b"\n":
        end += 1
    return start, end, ""


def _spliced(text: str, edits: Iterable[Edit]) -> str:
    data = text.encode()
    for start, end, new in sorted(edits, reverse=True):
        data = data[:start] + new.encode() + data[end:]
    return data.decode()
