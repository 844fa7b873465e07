"""A training script as a task: its upper-case constants are the parameters."""

from __future__ import annotations

import difflib
import io
import re
import sys
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bilevel.errors import ConfigError
from bilevel.model import Job, JobResult, Objective, Outcome
from bilevel.space import Space, Value, Values
from bilevel.tasks import outcome
from bilevel.tasks.briefs import brief
from bilevel.tasks.constants import Source
from bilevel.tasks.manifest import ScriptSection, TaskManifest
from bilevel.tasks.metrics import compile_pattern
from bilevel.tasks.params import of_script

__all__ = ["ScriptTask", "from_manifest", "read_source"]

_COOKIE = re.compile(r"^([ \t\f]*#.*?coding[:=][ \t]*)([-\w.]+)", re.ASCII)
_BLANK = re.compile(r"^[ \t\f]*(?:[#\r].*)?$")


@dataclass
class ScriptTask:
    """A script that is run with edited constants, each time in its own copy of its folder.

    source: the script as it was when the task was loaded; jobs use that text, whatever happens to
    the file later. locked: constants that proposers see and may not change.
    """

    name: str
    folder: Path
    source: Source
    space: Space
    objective: Objective
    section: ScriptSection = field(default_factory=ScriptSection)
    goal: str = ""
    locked: Mapping[str, Value] = field(default_factory=dict)
    baselines: int = 2
    confirms: int = 5
    deterministic: bool = False

    @property
    def seeded(self) -> bool:
        """Whether the run's seed reaches the script, by a constant, an argument or a variable."""
        texts = [*self.section.command, *self.section.env.values()]
        return self.section.seed is not None or any("{seed}" in text for text in texts)

    def brief(self) -> str:
        """The goal, the metric, the time limit and the locked constants, in a few lines."""
        lines = [f"The job runs {self.section.file} with your values for its constants."]
        if self.section.seed is not None:
            lines.append(f"{self.section.seed} is the random seed, and is set for each run.")
        return brief(self.goal, self.objective, self.section.timeout, self.locked, lines)

    def job(self, values: Values, seed: int) -> Job:
        """The script's folder with the edited script in it; pure.

        Raises InvalidCandidate for values outside the space.
        """
        section = self.section
        wanted = self.space.check(values)
        if section.seed is not None:
            wanted[section.seed] = seed
        places = {"{python}": sys.executable, "{seed}": str(seed)}
        command = section.command or ("{python}", section.file)
        return Job(
            command=tuple(_filled(part, places) for part in command),
            folder=str(self.folder),
            files={section.file: _as_utf8(self.source.edit(wanted))},
            env={name: _filled(text, places) for name, text in section.env.items()},
            link=section.link,
            exclude=section.exclude,
            timeout=section.timeout,
            max_output=int(section.max_output_mb * 2**20),
            collect=section.collect,
        )

    def read(self, result: JobResult) -> Outcome:
        """What the script printed, by the rules of `metrics` and `outcome`; pure."""
        pattern = self.section.pattern
        compiled = None if pattern is None else compile_pattern(pattern, self.objective.metric)
        return outcome.read(result, self.objective, compiled)

    def patch(self, values: Values) -> str:
        """A unified diff from the user's script to the edited one; empty when nothing differs.

        Raises InvalidCandidate for values outside the space.
        """
        edited = self.source.edit(self.space.check(values))
        return diff(self.source.text, edited, self.section.file)


def from_manifest(manifest: TaskManifest, folder: Path, where: str) -> ScriptTask:
    """The task that a task.toml in `folder` describes; `where` names it in messages.

    Raises ConfigError when the script is missing or a rule is broken.
    """
    section = manifest.script or ScriptSection()
    source = read_source(folder / section.file)
    for linked in section.link:
        if not (folder / linked).exists():
            raise ConfigError(
                f"{where}: link names {linked!r}, but {folder} has none; make it or remove the name"
            )
    if section.pattern is not None:
        compile_pattern(section.pattern, manifest.task.metric)
    if section.seed is not None:
        _check_seed(section.seed, source, where)
    parameters = of_script(manifest.params, source, where, section.seed)
    return ScriptTask(
        name=manifest.task.name or folder.resolve().name or "task",
        folder=folder.resolve(),
        source=source,
        space=parameters.space,
        objective=manifest.task.objective,
        section=section,
        goal=manifest.task.goal,
        locked=parameters.locked,
        baselines=manifest.noise.baselines,
        confirms=manifest.noise.confirms,
        deterministic=manifest.noise.deterministic,
    )


def _check_seed(name: str, source: Source, where: str) -> None:
    if name not in source:
        raise ConfigError(f"{where}: script.seed: {source.explain(name)}")
    if source[name].kind != "int":
        raise ConfigError(
            f"{where}: script.seed is {name}, which is {source[name].text} in {source.file} "
            "but must be a whole number"
        )


def read_source(path: Path) -> Source:
    """A Python script in the encoding it declares. Raises ConfigError if it cannot be read."""
    try:
        raw = path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        # Not utf-8-sig, which would lose the byte order mark.
        return Source(raw.decode(encoding.removesuffix("-sig")), path.name)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path} does not exist; set file in [script] of task.toml to your script"
        ) from error
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as Python: {error}") from error


def diff(before: str, after: str, file: str) -> str:
    """A unified diff that `git apply` and `patch -p1` take."""
    lines: list[str] = []
    for line in difflib.unified_diff(_lines(before), _lines(after), f"a/{file}", f"b/{file}", n=3):
        lines.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return "".join(lines)


def _lines(text: str) -> list[str]:
    # Not splitlines, which also cuts at form feeds and other characters that diff does not.
    lines = [f"{line}\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _filled(text: str, places: Mapping[str, str]) -> str:
    for place, value in places.items():
        text = text.replace(place, value)
    return text


def _as_utf8(text: str) -> str:
    """The script with its encoding comment changed to UTF-8, in which jobs' files are written."""
    lines = text.split("\n", 2)
    for index, line in enumerate(lines[:2]):
        cookie = _COOKIE.match(line)
        if cookie is not None and cookie[2].lower() not in ("utf-8", "utf8"):
            lines[index] = _COOKIE.sub(r"\1utf-8", line)
        if cookie is not None or not _BLANK.match(line):
            break
    return "\n".join(lines)
