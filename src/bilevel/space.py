"""The parameters of a task: their types, bounds and scales."""

from __future__ import annotations

import difflib
import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from bilevel.errors import InvalidCandidate

Value = int | float | str | bool
Values = Mapping[str, Value]
Kind = Literal["float", "int", "choice", "text"]


@dataclass(frozen=True)
class Param:
    """One parameter.

    name: as the task spells it. kind: float, int, choice or text (a source file is a text value).
    default: the value of the baseline. low, high: inclusive bounds of a number, in its own unit.
    log: steps are ratios, not differences. step: grid of a number, counted from `low`; a ratio
    when `log` (2 keeps to powers of two); `check` gives each of its numbers as one and the same
    float. choices: allowed values of a choice. doc: one line for whoever proposes values.
    """

    name: str
    kind: Kind
    default: Value
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Value, ...] = ()
    doc: str = ""

    def check(self, value: Value) -> Value:
        """The value in this parameter's own type. Raises InvalidCandidate with the rule broken."""
        if self.kind == "choice":
            return self._check_choice(value)
        if self.kind == "text":
            if not isinstance(value, str):
                raise InvalidCandidate(f"{self.name} is {value!r} but must be a text")
            return self._ended(value) if self.multiline else value
        return self._check_number(value)

    def _ended(self, text: str) -> str:
        """The text with the default's end, as what differs in blank lines there is no other."""
        default = str(self.default)
        return text.rstrip() + default[len(default.rstrip()) :]

    def _check_choice(self, value: Value) -> Value:
        for choice in self.choices:
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return choice
        options = ", ".join(map(repr, self.choices))
        raise InvalidCandidate(f"{self.name} is {value!r} but must be one of {options}")

    def _check_number(self, value: Value) -> Value:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidCandidate(f"{self.name} is {value!r} but must be a number ({self.kind})")
        # One plain number from here on: a subclass could be another at each look.
        value = float(value) if isinstance(value, float) else int(value)
        if not abs(value) <= sys.float_info.max:
            raise InvalidCandidate(f"{self.name} is {value} but must be finite")
        if self.kind == "int":
            if value != int(value):
                raise InvalidCandidate(f"{self.name} is {value} but must be a whole number")
            value = int(value)
        low, high = self.bounds
        if not low <= value <= high:
            raise InvalidCandidate(
                f"{self.name} is {value} but its range is {low:g} to {high:g}; "
                "give a value in it or widen the range in the task file"
            )
        if self.step is not None:
            near = float(self.snap(value))
            if not math.isclose(near, value, rel_tol=1e-9, abs_tol=1e-12):
                raise InvalidCandidate(
                    f"{self.name} is {value} but moves in {'ratios' if self.log else 'steps'} of "
                    f"{self.step:g} from {low:g}; the nearest is {near:g}"
                )
            value = near if self.kind == "float" else value
        return float(value) if self.kind == "float" else value

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value of a number; infinite where none is given."""
        low = -math.inf if self.low is None else self.low
        return low, math.inf if self.high is None else self.high

    def snap(self, value: float) -> Value:
        """The nearest number that bounds and grid allow."""
        low, high = self.bounds
        value = min(max(value, low), high)
        if self.step is not None and self.low is not None:
            value = self._on_grid(value, self.low, high)
        return round(value) if self.kind == "int" else value

    def _on_grid(self, value: float, low: float, high: float) -> float:
        """The nearest number of the grid, as it is written: 0.3, not 0.1 * 3."""
        assert self.step is not None
        if self.log:
            most = math.floor(math.log(high / low, self.step) + 1e-9)
            exact = low * self.step ** min(round(math.log(value / low, self.step)), most)
            near = float(f"{exact:.{sys.float_info.dig}g}")
        else:
            most = math.floor((high - low) / self.step + 1e-9)
            exact = low + self.step * min(round((value - low) / self.step), most)
            near = round(exact, max(_decimals(low), _decimals(self.step)))
        return min(max(near, low), high) + 0.0  # never -0.0

    def grid(self, most: int = 64) -> tuple[Value, ...]:
        """All values, in order, of a choice or of a number on a grid; empty when over `most`."""
        if self.kind == "choice":
            return self.choices if len(self.choices) <= most else ()
        if self.step is None or self.low is None or self.high is None:
            return ()
        if self.log:
            count = math.floor(math.log(self.high / self.low, self.step) + 1e-9) + 1
            numbers = [self.low * self.step**i for i in range(min(count, most + 1))]
        else:
            count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
            numbers = [self.low + self.step * i for i in range(min(count, most + 1))]
        return tuple(self.snap(n) for n in numbers) if count <= most else ()

    @property
    def multiline(self) -> bool:
        """Whether its values are texts of several lines, as the source of a function is."""
        return self.kind == "text" and "\n" in str(self.default)

    def show(self, value: Value) -> str:
        """The value as a person writes it: `2**19` for a power of two on a log scale."""
        if self.kind == "int" and self.log and not isinstance(value, str) and value >= 64:
            number = int(value)
            if number == value and number & (number - 1) == 0:
                return f"2**{number.bit_length() - 1}"
        return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def _decimals(number: float) -> int:
    """How many decimals it is written with."""
    exponent = Decimal(repr(float(number))).as_tuple().exponent
    return max(0, -int(exponent))


@dataclass(frozen=True)
class Space:
    """The parameters that a search may change, in the order of the task."""

    params: tuple[Param, ...]

    def __post_init__(self) -> None:
        names = [p.name for p in self.params]
        twice = {n for n in names if names.count(n) > 1}
        if twice:
            raise InvalidCandidate(f"parameter {sorted(twice)[0]} is defined twice; name it once")

    def __iter__(self) -> Iterator[Param]:
        return iter(self.params)

    def __len__(self) -> int:
        return len(self.params)

    def __getitem__(self, name: str) -> Param:
        for param in self.params:
            if param.name == name:
                return param
        near = difflib.get_close_matches(name, self.names, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(self.names)}"
        raise InvalidCandidate(f"there is no parameter {name!r}{hint}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.params)

    def defaults(self) -> dict[str, Value]:
        """The baseline's values, all parameters."""
        return {p.name: p.default for p in self.params}

    def check(self, values: Values) -> dict[str, Value]:
        """All parameters in the space's order, each in its own type.

        Raises InvalidCandidate when one is missing, unknown, or breaks its parameter's rule.
        """
        for name in values:
            self[name]
        missing = [n for n in self.names if n not in values]
        if missing:
            raise InvalidCandidate(f"{missing[0]} has no value; give every parameter one")
        return {p.name: p.check(values[p.name]) for p in self.params}

    def key(self, values: Values) -> str:
        """The identity of a configuration: equal exactly for equal values."""
        # As floats, for 0, 0.0 and -0.0 are one value of a float.
        numbers = {p.name for p in self.params if p.kind == "float"}
        return json.dumps(
            [float(values[n]) + 0.0 if n in numbers else values[n] for n in self.names]
        )

    def changed(self, before: Values, after: Values) -> tuple[str, ...]:
        """Names whose values differ, in the space's order."""
        return tuple(n for n in self.names if before[n] != after[n])
