"""A small study of the toy task for tests, with a scripted LLM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bilevel.protocols import LLM
from bilevel.study.file import StudyFile, parse
from bilevel.study.harness import Study
from bilevel.study.registry import enter
from bilevel.workspace import Workspace
from comparable import write_task
from screens import Shown

TEXT = """\
[study]
name = "toy-study"
tasks = ["task.toml"]
arms = [{arms}]
repeats = {repeats}
evals = {evals}
llm = "scripted"
confirms = 1

[outer]
every = 2
cycles = 2
candidates = 1
screening = false

[[hypotheses]]
name = "H1"
claim = "The first arm beats the second."
arm = "{first}"
controls = ["{second}"]

[analysis]
reference = "{second}"
targets = {{ "task.toml" = 0.5 }}
"""


def text(*arms: str, repeats: int = 2, evals: int = 3) -> str:
    """The study's file."""
    listed = ", ".join(f'"{arm}"' for arm in arms)
    return TEXT.format(arms=listed, repeats=repeats, evals=evals, first=arms[0], second=arms[1])


def described(folder: Path, *arms: str, repeats: int = 2, evals: int = 3) -> StudyFile:
    """The study, its task beside it."""
    write_task(folder)
    return parse(text(*arms, repeats=repeats, evals=evals), folder / "study.toml")


def study(folder: Path, file: StudyFile) -> Study:
    """The study as `bilevel study run` opens it."""
    workspace = Workspace(folder / "state")
    record = enter(workspace, file)
    made = Study(workspace, file, record.began, record.lent())
    made.look()
    return made


def go(made: Study, llm: LLM | None = None) -> Shown:
    """Make what is left; without an LLM only arms that ask none can."""
    screen = Shown()
    made.go(answering(llm), screen)
    return screen


def answering(llm: LLM | None) -> Callable[[str], LLM]:
    def model(spec: str) -> LLM:
        from bilevel.cli.running import NoLLM

        return NoLLM() if llm is None else llm

    return model
