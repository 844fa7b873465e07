"""The runs of a study decided again, with neither LLM nor jobs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bilevel.assemble import replayed
from bilevel.errors import BilevelError, ConfigError
from bilevel.replay import Replay
from bilevel.study.file import StudyFile
from bilevel.study.results import Logs, Place, run_names

__all__ = ["Again", "again", "chosen"]


@dataclass(frozen=True)
class Again:
    """A run decided again. replay: None where that could not be done; problem: why not."""

    name: str
    place: Place
    replay: Replay | None
    problem: str = ""

    @property
    def same(self) -> bool:
        """Whether it was decided again without a difference."""
        return self.replay is not None and self.replay.difference is None


def chosen(file: StudyFile, logs: Logs, wishes: Sequence[str]) -> dict[str, Place]:
    """By name, the runs that are there and wished for, all without a wish.

    wishes: names as `gpt-C-0`, perhaps with `*` for any text. Raises ConfigError where one names
    no run.
    """
    there = {name: place for place, name in run_names(file).items() if place in logs}
    for wish in wishes:
        if not any(fnmatchcase(name, wish) for name in there):
            near = difflib.get_close_matches(wish, there, n=1) or list(there)[:1]
            hint = f"there is {near[0]}, say" if near else "it has none yet"
            raise ConfigError(f"the study {file.study.name} has no run {wish}; {hint}")
    wanted = [n for n in there if not wishes or any(fnmatchcase(n, w) for w in wishes)]
    return {name: there[name] for name in wanted}


def again(logs: Logs, wanted: dict[str, Place]) -> Iterator[Again]:
    """Each of these runs decided again, as soon as it is."""
    for name, place in wanted.items():
        try:
            yield Again(name, place, replayed(*logs[place]))
        except BilevelError as error:
            yield Again(name, place, None, str(error))
