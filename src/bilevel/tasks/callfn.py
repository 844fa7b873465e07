"""Calls the function of a function task; run as `python -m bilevel.tasks.callfn CALL.json`.

It prints the result after everything that the function printed, so that the function's own output
cannot stand for it. An InvalidCandidate becomes its words and the status REFUSED; any other
exception leaves a traceback and status 1, as with any script.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bilevel.errors import InvalidCandidate

REFUSED = 65  # EX_DATAERR of BSD's sysexits.h: the input was incorrect in some way
REFUSAL = "\n--- the values are refused: "


def main(call_file: str) -> None:
    """Reads the call, makes it, prints its metrics."""
    call = json.loads(Path(call_file).read_text(encoding="utf-8"))
    try:
        text = report(resolve(call["target"])(call["values"], call["seed"]), call["metric"])
    except InvalidCandidate as error:
        _write(f"{REFUSAL}{error}\n")
        sys.exit(REFUSED)
    _write(text)


def _write(text: str) -> None:
    sys.stderr.flush()
    sys.stdout.write(text)
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


def report(result: object, metric: str) -> str:
    """A function's result as lines of metrics. Raises TypeError for what is no number."""
    metrics = result if isinstance(result, dict) else {metric: result}
    lines = [f"METRIC {_name(name)}={_number(name, value)!r}\n" for name, value in metrics.items()]
    return "\n---\n" + "".join(lines)


def _name(name: object) -> str:
    """The metric's name. Raises TypeError for one that could end its line and begin another."""
    if not isinstance(name, str) or not name.isprintable():
        raise TypeError(f"a metric is named {name!r}, but a name must be printable text")
    return name


def _number(name: object, value: object) -> float:
    """The metric as a float. Raises TypeError for what is no number."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} is {value!r}, but a metric must be a number")
    return float(value)


if __name__ == "__main__":
    main(sys.argv[1])
