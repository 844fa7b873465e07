"""A Python function as a task: `f(values, seed)` gives the metric, or a dict of metrics."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bilevel.errors import ConfigError, InvalidCandidate
from bilevel.model import Job, JobResult, Objective, Outcome
from bilevel.space import Space, Value, Values
from bilevel.tasks import callfn, outcome
from bilevel.tasks.briefs import brief
from bilevel.tasks.manifest import FunctionSection, TaskManifest
from bilevel.tasks.params import of_function

__all__ = ["FunctionTask", "from_manifest"]

CALL_FILE = "bilevel_call.json"
MAX_WORDS = 600
_TARGET = re.compile(r"(?:[^:]+\.py|[A-Za-z_][\w.]*):[A-Za-z_]\w*")


@dataclass
class FunctionTask:
    """A function that is called in a process of its own, so that it may crash or hang.

    It says by InvalidCandidate that it refuses values which the space allows.

    target: `module:name`, a module that a fresh Python can import or that lies in `folder`, or
    `file.py:name`. folder: copied for each call; without one, only the file itself is there.
    locked: values that the function gets and proposers see, but may not change.
    seeded: whether the result depends on the seed; if not, the function always gets 0.
    inline: the function is quick and trusted, and is called in the program's own process.
    deterministic: whether the same values and seed give the same metric to the last bit.
    """

    target: str
    space: Space
    objective: Objective
    name: str = ""
    seeded: bool = False
    inline: bool = False
    deterministic: bool = False
    goal: str = ""
    folder: Path | None = None
    locked: Mapping[str, Value] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    link: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    timeout: float = 600.0
    baselines: int = 2
    confirms: int = 5
    _files: Mapping[str, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Raises ConfigError when the target is malformed, or its file is missing or inline."""
        if not _TARGET.fullmatch(self.target):
            raise ConfigError(
                f"target is {self.target!r} but must be module:function or file.py:function"
            )
        place, _, function = self.target.rpartition(":")
        if not self.name:
            self.name = function
        if place.endswith(".py"):
            if self.inline:
                raise ConfigError(
                    f"target is {self.target!r} but an inline function must be module:function, "
                    "of an installed package; name it so, or set inline = false"
                )
            self._files = self._source(place)

    def _source(self, place: str) -> dict[str, str]:
        path = Path(place) if self.folder is None else self.folder / place
        try:
            text = path.read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"target names {path}, which cannot be read: {error}") from error
        return {path.name if self.folder is None else place: text}

    def brief(self) -> str:
        """The goal, the metric, the time limit and the locked values, in a few lines."""
        return brief(self.goal, self.objective, None if self.inline else self.timeout, self.locked)

    def job(self, values: Values, seed: int) -> Job:
        """A call of the function with these values; pure.

        Raises InvalidCandidate for values outside the space.
        """
        place, _, function = self.target.rpartition(":")
        call = {
            "target": f"{next(iter(self._files), place)}:{function}",
            "values": self._whole(values),
            "seed": seed if self.seeded else 0,
            "metric": self.objective.metric,
        }
        return Job(
            command=(sys.executable, "-m", "bilevel.tasks.callfn", CALL_FILE),
            folder=None if self.folder is None else str(self.folder),
            files={**self._files, CALL_FILE: json.dumps(call, indent=1)},
            env=dict(self.env),
            link=self.link,
            exclude=self.exclude,
            timeout=self.timeout,
        )

    def read(self, result: JobResult) -> Outcome:
        """What the function returned; a raise, a hang or a missing metric is a failure; pure."""
        _, refusal, words = result.output.rpartition(callfn.REFUSAL)
        if result.exit == callfn.REFUSED and refusal and not result.killed:
            return _refused(words)
        return outcome.read(result, self.objective)

    def call(self, values: Values, seed: int) -> Outcome:
        """The function's outcome, called here: as `read` gives it, by the same text.

        What the function raises, except for InvalidCandidate, is let through. Raises ConfigError
        when the function cannot be imported.
        """
        function = self._function()
        try:
            result = function(self._whole(values), seed if self.seeded else 0)
        except InvalidCandidate as error:
            return _refused(str(error))
        text = callfn.report(result, self.objective.metric)
        return outcome.read(JobResult(0, text, 0.0), self.objective)

    def _function(self) -> Callable[[dict[str, Any], int], Any]:
        try:
            return callfn.resolve(self.target)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"target {self.target} cannot be imported: {error}; an inline function belongs to "
                "an installed package; install it, or set inline = false"
            ) from error

    def _whole(self, values: Values) -> dict[str, Value]:
        """Locked and checked values. Raises InvalidCandidate for values outside the space."""
        # Twice, for a float of a class of its own can become another number in the first check.
        return {**self.locked, **self.space.check(self.space.check(values))}


def _refused(words: str) -> Outcome:
    text = "".join(c if c.isprintable() or c == "\n" else " " for c in words).strip()
    return Outcome("invalid", None, error=text[:MAX_WORDS] or "the function refused the values")


def from_manifest(manifest: TaskManifest, folder: Path, where: str) -> FunctionTask:
    """The task that a task.toml in `folder` describes. Raises ConfigError for a broken rule."""
    section = manifest.function
    assert isinstance(section, FunctionSection), "parse() holds this"
    parameters = of_function(manifest.params, where)
    return FunctionTask(
        target=section.target,
        space=parameters.space,
        objective=manifest.task.objective,
        name=manifest.task.name,
        seeded=section.seeded,
        inline=section.inline,
        deterministic=manifest.noise.deterministic,
        goal=manifest.task.goal,
        folder=folder.resolve(),
        locked=parameters.locked,
        env=section.env,
        link=section.link,
        exclude=section.exclude,
        timeout=section.timeout,
        baselines=manifest.noise.baselines,
        confirms=manifest.noise.confirms,
    )
