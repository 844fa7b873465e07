"""A source's plain function, called behind the wall with JSON values.

The lock-down, limits and errors are those of mechanisms; a function has no state that outlives a
call as far as the host is concerned, though its process may remember. Its answers are JSON values
of bounded size, and nothing more is known of them: the caller checks what they are.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Sequence
from typing import Any

from bilevel.sandbox import policy
from bilevel.sandbox.errors import MechanismRaised, SandboxRefused, WrongFrame
from bilevel.sandbox.host import Worker
from bilevel.sandbox.sandboxed import Json, Sandbox, Walled

__all__ = ["SandboxedFunction", "lint"]


class SandboxedFunction(Walled):
    """The function `name` of a source. Every call raises MechanismError when it fails."""

    def __init__(self, sandbox: Sandbox, source: str, name: str) -> None:
        """Loads the source.

        Raises SandboxRefused when the wall does not stand or the source is too long, and
        MechanismError when it does not load.
        """
        if len(source.encode("utf-8", "replace")) > policy.SOURCE_BYTES:
            raise SandboxRefused(f"a source may have {policy.SOURCE_BYTES} bytes; make it shorter")
        super().__init__(sandbox, source, ())
        self._name = name
        self._attempt(self._ready)

    def call(self, arguments: Sequence[Any]) -> Any:
        """The function's answer, a JSON value. Raises MechanismError."""
        return self.map([arguments])[0]

    def map(self, calls: Sequence[Sequence[Any]]) -> list[Any]:
        """The answers to calls made one after the other, for the price of one crossing.

        A raise in one of them fails all. Raises MechanismError.
        """
        return self._attempt(lambda: self._ask(calls))

    def _ask(self, calls: Sequence[Sequence[Any]]) -> list[Any]:
        message = {"op": "apply", "calls": calls}
        answers = self._reply(self._ready(), message, self._name).get("answers")
        if not isinstance(answers, list) or len(answers) != len(calls):
            raise WrongFrame(f"a reply does not hold one answer to each of {len(calls)} calls")
        return answers

    def _ready(self) -> Worker:
        if self._worker is None:
            self._worker = self._sandbox.take(self._modules)
            self.starts += 1
            message: Json = {"op": "define", "source": self._source, "name": self._name}
            try:
                self._reply(self._worker, message, "loading the source")
            except MechanismRaised:
                self.close()
                raise
        return self._worker


def lint(source: str, name: str, parameters: Sequence[str]) -> list[str]:
    """What is wrong with a function's source, a sentence each with its line; empty if nothing.

    Feedback for its author, as in policy.lint, never the guard.
    """
    tree = policy.read(source)
    if isinstance(tree, str):
        return [tree]
    problems = {*_function(tree, name, parameters), *_uses(tree, name)}
    return [f"line {line}: {words}" for line, words in sorted(problems)]


def _function(tree: ast.Module, name: str, parameters: Sequence[str]) -> Iterator[tuple[int, str]]:
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name]
    wanted = f"def {name}({', '.join(parameters)})"
    if len(found) != 1:
        line = found[1].lineno if found else 1
        yield line, f"there must be one `{wanted}` at the top level; there are {len(found)}"
    for function in found[:1]:
        taken = function.args
        count = len(taken.posonlyargs) + len(taken.args)
        least = count - len(taken.defaults)
        most = float("inf") if taken.vararg else count
        if not least <= len(parameters) <= most or None in taken.kw_defaults:
            yield function.lineno, f"{name} must be `{wanted}`"


def _uses(tree: ast.Module, name: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                modules = [alias.name for alias in aliases]
            case ast.ImportFrom(module=module, level=level):
                modules = ["." * level + (module or "")]
            case ast.Name(id=used) if used in policy.FORBIDDEN_NAMES:
                yield node.lineno, f"{used} may not be used; {name} has its arguments and no more"
                continue
            case ast.Attribute(value=ast.Name(id="random"), attr=used) if used != "Random":
                yield node.lineno, f"random.{used} differs on each run; use its arguments only"
                continue
            case ast.Global(names=names):
                yield node.lineno, f"global {names[0]}: a call may not depend on earlier calls"
                continue
            case _:
                continue
        for module in modules:
            if words := _refused(module, name):
                yield node.lineno, words


def _refused(module: str, name: str) -> str:
    """Why a module may not be imported; "" if it may."""
    top = module.partition(".")[0]
    if top in policy.STDLIB:
        return ""
    if top in policy.HEAVY:
        if importlib.util.find_spec(top) is not None:
            return ""
        return f"{top} is not installed here; use math and statistics instead"
    allowed = ", ".join(sorted(policy.STDLIB - {"__future__"}))
    return (
        f"{module} may not be imported; {name} can reach no file, clock, network or process. "
        f"Allowed are numpy if it is installed, and {allowed}"
    )
