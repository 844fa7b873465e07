"""Writes a commented task.toml for a training script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from bilevel.errors import ConfigError
from bilevel.tasks.constants import Constant, Source
from bilevel.tasks.printed import Guess, guess
from bilevel.tasks.script import read_source
from bilevel.tasks.suggest import Suggestion, is_seed, is_table, suggest

__all__ = ["draft", "write"]

HEADER = """\
# What `bilevel run` is to improve. Written by `bilevel init`: a first guess to read and to edit.
# {file} itself stays as it is; each job runs an edited copy of it, in a copy of this folder.
"""

SCRIPT_NOTES = """\
timeout = 600  # seconds; a job that takes longer is stopped, and counts as a failure
# command = ["{python}", "train.py", "--fast"]   # other than running the file; {seed} is the seed
# pattern = 'validation loss (\\S+)'             # a regular expression for other forms of output
# env = { OMP_NUM_THREADS = "1" }
# link = ["data"]                                # linked into the copy instead of copied
# exclude = ["checkpoints", "*.pt"]              # not copied
"""

NOISE = """\
[noise]
baselines = 2  # measurements of the default configuration, which show the noise (at least 2)
confirms = 5   # fresh measurements of the winner after the search
"""

PARAMS = """\
# The parameters: constants of {file} that the search may change. Delete a section, or set
# locked = true, to keep one as it is; a locked one is still shown to whoever proposes values.
#   low, high    bounds, included        log    steps are ratios: for rates and sizes
#   step         grid, from low on; with log a ratio, so that 2 keeps to doublings
#   choices      the allowed values, instead of bounds
#   doc          one line for whoever proposes values; else the comment in {file}
"""


def write(script: Path, force: bool = False) -> Path:
    """Writes task.toml beside a script; its path.

    Raises ConfigError if it exists and not `force`, and if the script is not there or has nothing
    to search.
    """
    if not script.is_file():
        raise ConfigError(f"there is no script {script}; give the path of your training script")
    target = script.with_name("task.toml")
    if target.exists() and not force:
        raise ConfigError(f"{target} exists; edit it, or overwrite it with --force")
    text = draft(read_source(script))
    target.write_bytes(text.encode())
    return target


def draft(source: Source) -> str:
    """The text of a task.toml for a script. Raises ConfigError if it has no constant to open."""
    seeds = [c.name for c in source.constants if is_seed(c)]
    seed = seeds[0] if seeds else None
    tables = {c.name.partition("[")[0] for c in source.constants if is_table(c)}
    open_: list[str] = []
    locked: list[str] = []
    for constant in source.constants:
        if constant.name != seed and constant.name.partition("[")[0] not in tables:
            suggestion = suggest(constant)
            section = "\n".join(_section(constant, suggestion))
            (locked if suggestion.why_locked else open_).append(section)
    if not open_:
        raise ConfigError(
            f"{source.file} has no upper-case constant to search; write its hyper-parameters as "
            "LEARNING_RATE = 0.01 at module level, outside of functions"
        )
    parts = [
        HEADER.format(file=source.file),
        _task(source, guess(source.tree)),
        _script(source, seed),
        NOISE,
        PARAMS.format(file=source.file),
        *(f"{section}\n" for section in open_ + locked),
    ]
    left_out = dict.fromkeys(sorted(tables), "is a table of numbers") | source.refused
    if left_out:
        parts.append(f"# Not parameters, of {source.file}:\n")
        parts[-1] += "".join(f"#   {name} {why}\n" for name, why in left_out.items())
    return "\n".join(parts)


def _task(source: Source, guessed: Guess) -> str:
    metric = guessed.metric or "val_loss"
    better = "higher" if guessed.direction == "max" else "lower"
    if guessed.metric is None:
        note = f"# {source.file} seems to print no line `name: number` for a metric; set its name."
    elif guessed.others:
        note = f"# {source.file} also prints {', '.join(guessed.others)}; set the one that matters."
    else:
        note = f"# Found in what {source.file} prints."
    goal = f"Make {metric} of {source.file} {better} by changing its constants only."
    return f"""\
[task]
name = {_text(Path(source.file).stem)}
kind = "script"
# For whoever proposes values: what is trained, on what, and what matters.
goal = {_text(goal)}
{note}
metric = {_text(metric)}
direction = "{guessed.direction}"  # or "{"min" if guessed.direction == "max" else "max"}"
# shown = ["num_steps"]  # other metrics it prints that proposers should see
"""


def _script(source: Source, seed: str | None) -> str:
    if seed is not None:
        line = f"seed = {_text(seed)}  # the constant that takes the run's seed\n"
    else:
        line = '# seed = "SEED"  # an int constant that takes the run\'s seed; none was found\n'
    return f"[script]\nfile = {_text(source.file)}\n{line}{SCRIPT_NOTES}"


def _section(constant: Constant, suggestion: Suggestion) -> Iterator[str]:
    key = _text(constant.name) if "[" in constant.name else constant.name
    yield f"[params.{key}]  # {_plain(constant.text)}"
    if suggestion.why_locked:
        yield f"locked = true  # {suggestion.why_locked}"
    if suggestion.hint:
        yield f"# {suggestion.hint}"
    if suggestion.low is not None and suggestion.high is not None:
        whole = constant.kind == "int"
        yield f"low = {_bound(suggestion.low, whole)}"
        yield f"high = {_bound(suggestion.high, whole)}"
    if suggestion.log:
        yield "log = true"
    if suggestion.step is not None:
        yield f"step = {suggestion.step}"
    if suggestion.choices:
        yield f"choices = [{', '.join(_text(c) for c in suggestion.choices)}]"
    if constant.doc:
        yield f"doc = {_text(constant.doc)}"


def _bound(number: float, whole: bool) -> str:
    if not whole:
        return f"{number:g}"
    exact = int(number)
    power = exact >= 64 and exact & (exact - 1) == 0
    return f"{exact}  # 2**{exact.bit_length() - 1}" if power else str(exact)


def _text(value: object) -> str:
    """A TOML value: strings as JSON, which TOML reads the same way."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(text: str) -> str:
    """An expression on one line, short enough for a comment."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 60 else f"{line[:57]}..."
