"""Calls the function of a function task; run as `python -m bilevel.tasks.callfn CALL.json`.

It prints the result after everything that the function printed, so that the function's own output
cannot stand for it. An exception leaves a traceback and status 1, as with any script.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main(call_file: str) -> None:
    """Reads the call, makes it, prints its metrics."""
    call = json.loads(Path(call_file).read_text(encoding="utf-8"))
    result = resolve(call["target"])(call["values"], call["seed"])
    metrics = result if isinstance(result, dict) else {call["metric"]: result}
    lines = [f"METRIC {name}={_number(name, value)!r}" for name, value in metrics.items()]
    sys.stderr.flush()
    sys.stdout.write("\n---\n" + "\n".join(lines) + "\n")
    sys.stdout.flush()


def resolve(target: str) -> Callable[[dict[str, Any], int], Any]:
    """The callable of `module:name` or `file.py:name`."""
    place, _, name = target.rpartition(":")
    if place.endswith(".py"):
        spec = importlib.util.spec_from_file_location(Path(place).stem, Path(place).resolve())
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # Dataclasses look their module up there while it is being executed.
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    found: Callable[[dict[str, Any], int], Any] = getattr(module, name)
    return found


def _number(name: str, value: object) -> float:
    """The metric as a float. Raises TypeError for what is no number."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} is {value!r}, but a metric must be a number")
    return float(value)


if __name__ == "__main__":
    main(sys.argv[1])
