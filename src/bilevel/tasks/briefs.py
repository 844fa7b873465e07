"""What a proposer is told about a task, besides its parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from bilevel.model import Objective
from bilevel.space import Value


def brief(
    goal: str,
    objective: Objective,
    timeout: float | None,
    locked: Mapping[str, Value],
    rules: Sequence[str] = (),
) -> str:
    """A few lines: the goal, the metric and its direction, any time limit, what is locked."""
    unit = f" ({objective.unit})" if objective.unit else ""
    better = "lower" if objective.direction == "min" else "higher"
    lines = [
        goal.strip(),
        f"Metric: {objective.metric}{unit}, {better} is better.",
        *rules,
        f"A job is stopped after {timeout:g} s, which counts as a failure." if timeout else "",
    ]
    if locked:
        fixed = ", ".join(f"{name} = {json.dumps(value)}" for name, value in locked.items())
        lines.append(f"Fixed, not to be changed: {fixed}.")
    return "\n".join(line for line in lines if line)
