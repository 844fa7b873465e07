"""Imports go down only, and nothing imports in a circle."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent / "src" / "bilevel"
LEVELS = tuple(
    set(names.split())
    for names in (
        "errors space trials model calls jobs layers sessions spending seeds prompts codec bilevel "
        "__version__ supervisor",
        "mechanism protocols history noise resuming archive",
        "ensemble budget.budget budget.words budget.openings budget.pacing schemas stack evaluate "
        "tape offers fences prompting proposer steering steering_rules steering_words loop "
        "attribution sandbox rerun scrubbing",
        "conformance gate research outer engine replay describe ledger library.library "
        "library.choice library.proposer",
        "mechanisms tasks llm executors store",
        "assemble workspace task_jobs planning exporting budget.prices budget.terms machine stacks "
        "library.records",
        "budget.costs budget.rehearsal library.admission library.output results progress summary "
        "accounts levels doctor",
        "budget.estimate library.evaluation render compare",
        "study serving",
        "cli __main__",
    )
)


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(("bilevel", *path.relative_to(ROOT).with_suffix("").parts))
        yield name.removesuffix(".__init__"), ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("bilevel"))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bilevel"):
            assert not node.level, "imports are absolute"
            yield from (f"{node.module}.{a.name}" for a in node.names)


def part(name: str) -> str:
    """The part of the tree that LEVELS names: a module, a package, or a module of a package."""
    known = set().union(*LEVELS)
    pieces = name.split(".")[1:3] or ["bilevel"]
    found = [p for p in (".".join(pieces), pieces[0]) if p in known]
    assert found, f"{name} has no level; give it one in LEVELS"
    return found[0]


def level(name: str) -> int:
    return next(i for i, parts in enumerate(LEVELS) if part(name) in parts)


def test_every_file_imports_lower_levels_or_its_own() -> None:
    for name, tree in modules():
        for used in imports(tree):
            assert level(used) <= level(name), f"{name} imports {used}, which lies above it"


def test_adapters_do_not_know_each_other() -> None:
    for name, tree in modules():
        for used in imports(tree):
            if level(name) == level(used) == 4:
                assert part(name) == part(used), f"{name} imports {used}"


def test_no_import_cycles() -> None:
    graph = {name: set(imports(tree)) for name, tree in modules()}
    known = set(graph)
    edges = {
        name: {u if u in known else u.rpartition(".")[0] for u in used} & known - {name}
        for name, used in graph.items()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"import cycle: {' -> '.join((*path, name))}"
        if name not in done:
            for used in edges[name]:
                visit(used, (*path, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_broad_handlers_stand_at_the_walls_only() -> None:
    walls = {"bilevel.stack", "bilevel.sandbox.worker"}
    for name, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                kind = getattr(node.type, "id", "") if node.type else ""
                broad = node.type is None or kind in ("Exception", "BaseException")
                assert not broad or name in walls, f"{name}:{node.lineno} catches everything"
