"""What is run for an evaluation and how it ends, as tasks and executors hand it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bilevel.trials import Status


@dataclass(frozen=True)
class Job:
    """A command in a folder of its own.

    folder: copied for the job, None for an empty one. files: written over the copy, by relative
    path. link: relative paths that are linked, not copied. timeout: seconds of wall-clock time,
    after which the whole process tree is killed. max_output: bytes of output after which it is
    killed as well. collect: files whose ends are read back beside the output.
    """

    command: tuple[str, ...]
    folder: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    link: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    timeout: float = 600.0
    max_output: int = 64 * 2**20
    collect: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobResult:
    """How a job ended. exit: its status, negative for a signal.

    killed: the rule for which it was killed ("" if it was not); `timeout` or `output`.
    output: the end of stdout and stderr together, at most 1 MiB. files: the ends of `collect`.
    """

    exit: int
    output: str
    seconds: float
    killed: Literal["", "timeout", "output", "stopped"] = ""
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a task read from a job's result. value: the objective's metric, None unless ok."""

    status: Status
    value: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
