"""A quick task of its own folder, and an LLM for it, for tests of comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bilevel.errors import InvalidCandidate
from bilevel.model import Message
from worlds import says


def loss(values: dict[str, Any], seed: int) -> float:
    """Best at RATE 0.3 and BATCH 1024; L is refused."""
    if values["PATTERN"] == "L":
        raise InvalidCandidate("PATTERN is L, which is too long")
    return float(abs(values["RATE"] - 0.3) + abs(values["BATCH"] / 1024 - 1) / 10)


TASK = """\
[task]
name = "toy"
kind = "function"
goal = "Make the loss small."
metric = "loss"
[function]
target = "comparable:loss"
inline = true
timeout = 120
env = {{ PYTHONPATH = "{tests}" }}
[noise]
deterministic = true
[params.RATE]
kind = "float"
default = 0.1
low = 0.001
high = 1.0
log = true
[params.BATCH]
kind = "int"
default = 4096
low = 256
high = 65536
log = true
step = 2
[params.PATTERN]
kind = "choice"
default = "SSSL"
choices = ["SSSL", "SL", "L"]
"""


def write_task(folder: Path) -> str:
    """The path of the task, written into the folder."""
    (folder / "task.toml").write_text(TASK.format(tests=Path(__file__).parent))
    return str(folder / "task.toml")


def reply(messages: Sequence[Message], number: int) -> str:
    """Depends on the length of the prompt only: equal requests get equal replies."""
    length = sum(len(m.content) for m in messages)
    return says(RATE=round(0.02 + length % 83 / 100, 2))
