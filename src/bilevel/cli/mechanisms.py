"""`bilevel mechanisms`: the search mechanisms that a run can stack over its loop."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from bilevel.cli.sandbox import Wall, prepare
from bilevel.errors import ConfigError

if TYPE_CHECKING:
    from bilevel.conformance.mechanism import Conformance
    from bilevel.sandbox import policy

mechanisms = typer.Typer(
    help="Search mechanisms for `run --stack`: list them, print their source, check your own.",
    invoke_without_command=True,
)
console = Console(markup=False)
CALL = 5.0  # seconds that a hook of a checked file may take


@mechanisms.callback()
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_mechanisms()


@mechanisms.command("list")
def list_mechanisms(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """All mechanisms, one line each; a line counts where it is neither blank nor docstring.

    Those of other packages that cannot be imported are shown with the package and its last words.
    """
    from bilevel.mechanisms import names

    rows = [_row(name) for name in names()]
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    table = Table("name", "lines", Column("needs", max_width=16), "what it does", box=None)
    for row in rows:
        if "error" in row:
            table.add_row(row["name"], "", "", row["error"], style="red")
        else:
            words = f"{row['summary']}{_hides(row)}"
            table.add_row(row["name"], str(row["lines"]), _libraries(row), words)
    console.print(table)


@mechanisms.command()
def show(name: Annotated[str, typer.Argument(help="A mechanism's name.")]) -> None:
    """A mechanism's source, as it runs, and the contract that it holds to, as comments below.

    What is printed is a file to begin one of your own with: > mine.py
    """
    from bilevel.mechanisms import source
    from bilevel.prompts import render

    page = "".join(f"# {line}".rstrip() + "\n" for line in render("contract").splitlines())
    sys.stdout.write(f"{source(name).source}\n\n{page}")


@mechanisms.command()
def contract() -> None:
    """What a mechanism may do, on one page, with examples; the LLM is shown the same."""
    from bilevel.prompts import render

    sys.stdout.write(render("contract"))


@mechanisms.command()
def check(
    target: Annotated[str, typer.Argument(help="A Python file, or the name of a mechanism.")],
    allow_weak_sandbox: Annotated[
        bool, typer.Option(help="Run a file that you trust where no sandbox can be locked.")
    ] = False,
    sandbox: Wall = "auto",
) -> None:
    """Say in plain words what is wrong with a mechanism; exit status 1 if anything is.

    A file is tried behind the sandbox's wall. A mechanism by name is trusted, and tried without.
    """
    from bilevel.mechanisms import names

    if target in names():
        problems, summary = _check_name(target)
    else:
        problems, summary = _check_file(_read(Path(target)), allow_weak_sandbox, sandbox)
    for problem in problems:
        _say(problem, "red")
    if problems:
        raise typer.Exit(1)
    _say(f"conforms: {summary}", "green")


def _check_name(name: str) -> tuple[list[str], str]:
    """Problems of a mechanism that can be loaded by name, and what was tried."""
    from bilevel.conformance.mechanism import examine
    from bilevel.mechanisms import load, source

    try:
        text = source(name)
    except ConfigError as error:
        return [str(error)], ""
    found = examine(lambda: load(name))
    return [*map(str, found.problems)], _summary(text.source, found, "none, it is trusted")


def _check_file(source: str, allow_weak: bool, wall: policy.Wall) -> tuple[list[str], str]:
    """Problems of a source, and what was tried. Raises SandboxRefused."""
    from bilevel.conformance.mechanism import examine
    from bilevel.sandbox.host import Limits
    from bilevel.sandbox.policy import lint
    from bilevel.sandbox.sandboxed import Sandbox

    if problems := lint(source):
        return problems, ""
    prepare(wall, console)
    with Sandbox(Limits(call=CALL), allow_weak=allow_weak, wall=wall) as sandbox:
        found = examine(lambda: sandbox.load(source))
        return [*map(str, found.problems)], _summary(source, found, sandbox.level())


def _summary(source: str, found: Conformance, level: str) -> str:
    from bilevel.sandbox.policy import HOOKS

    defined = {n.name for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)}
    hooks = ", ".join(h for h in HOOKS if h in defined)
    return (
        f"{hooks}; sandbox: {level}; {found.decisions} decisions, "
        f"each tried twice, the slowest in {1000 * found.slowest:.1f} ms ({found.slowest_hook})"
    )


def _read(path: Path) -> str:
    """The file's text. Raises ConfigError."""
    if not path.is_file():
        what = "is no file" if path.exists() else "is neither a file nor the name of a mechanism"
        raise ConfigError(
            f"{path} {what}; give a Python file, or a name that `bilevel mechanisms list` shows"
        )
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8 text"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; mend that first") from error


def _row(name: str) -> dict[str, Any]:
    """A mechanism for the list; its error in place of the rest where it cannot be read."""
    from bilevel.mechanisms import code_lines, hidden, source

    try:
        found = source(name)
    except ConfigError as error:
        return {"name": name, "error": str(error)}
    libraries = _imported(found.source)
    return {
        "name": name,
        "lines": code_lines(found.source),
        "summary": found.rationale,
        "libraries": libraries,
        "missing": [n for n in libraries if importlib.util.find_spec(n) is None],
        "sha": found.sha,
        "hides": list(hidden(name)),
    }


def _imported(source: str) -> list[str]:
    """Top-level modules that a source imports, but for Python's own and bilevel's."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return sorted(found - set(sys.stdlib_module_names) - {"bilevel"})


def _libraries(row: dict[str, Any]) -> str:
    return ", ".join(f"{n} (missing)" if n in row["missing"] else n for n in row["libraries"])


def _hides(row: dict[str, Any]) -> str:
    """What is said of packages whose mechanism has the name of a shipped one."""
    if not row["hides"]:
        return ""
    return f" (Not the one of {', '.join(row['hides'])}, which must give it another name.)"


def _say(text: str, style: str) -> None:
    """One line, whatever the text holds."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    console.print(plain, style=style, highlight=False, soft_wrap=True)
