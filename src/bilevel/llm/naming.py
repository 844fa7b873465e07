"""How a model is named in the log and in the keys of the tape."""

from __future__ import annotations

TEMPERATURE = 0.7


def label(name: str, temperature: float | None) -> str:
    """The model's name with its temperature, unless that is the usual one."""
    if temperature is None:
        return f"{name} at its own temperature"
    return name if temperature == TEMPERATURE else f"{name} at temperature {temperature:g}"
