"""The tasks that come with the package, by name."""

from __future__ import annotations

from pathlib import Path

from bilevel.protocols import Task
from bilevel.tasks.loading import load_task

__all__ = ["BUILTIN", "find", "names"]

HERE = Path(__file__).parent
BUILTIN = {
    "gpt": HERE / "gpt" / "task.toml",
    "gpt-cuda": HERE / "gpt" / "task_cuda.toml",
    "heilbronn": HERE / "geometry" / "heilbronn.toml",
    "heilbronn-mirrored": HERE / "geometry" / "heilbronn_mirrored.toml",
    "heilbronn-square": HERE / "geometry" / "heilbronn_square.toml",
    "min-max-distance": HERE / "geometry" / "min_max_distance.toml",
    "packing-or": HERE / "packing" / "or.toml",
    "packing-weibull": HERE / "packing" / "weibull.toml",
    "paper-mock": HERE / "paper" / "task.toml",
}


def find(name: str) -> Task | None:
    """The task of that name, None if none has it. Raises MissingExtra for what it needs."""
    if name.startswith("bbob-"):
        from bilevel.tasks.bbob.tasks import bbob_task

        return bbob_task(name)
    return load_task(BUILTIN[name]) if name in BUILTIN else None


def names() -> list[str]:
    """All names but those of BBOB, which are `bbob-fF-dD`: function 1 to 24, dimension."""
    return sorted(BUILTIN)
