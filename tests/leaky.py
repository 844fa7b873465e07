"""A quick task whose errors name a secret and a folder of the user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bilevel.errors import InvalidCandidate
from comparable import TASK
from comparable import loss as honest

KEY = "Zk7-hemlock_Q9x2-Lavender+31"
HOME = "/home/ottoline"


def loss(values: dict[str, Any], seed: int) -> float:
    """As the honest one; large rates are refused, by a service that repeats the key."""
    if values["RATE"] > 0.5:
        raise InvalidCandidate(f"the service says: {KEY} may not, see {HOME}/.netrc")
    return honest(values, seed)


def write_task(folder: Path) -> str:
    """The path of the task, written into the folder."""
    text = TASK.format(tests=Path(__file__).parent).replace("comparable:loss", "leaky:loss")
    (folder / "task.toml").write_text(text)
    return str(folder / "task.toml")
