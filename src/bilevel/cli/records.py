"""`bilevel replay`, `export` and `import`: a run's record checked, and taken from here to there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bilevel.cli.options import HERE, AllowWeak, Home, LogId, console, find, runnable, workspace_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bilevel.model import Record, Run, Trial


def replay(
    name: LogId = None,
    rerun_jobs: Annotated[
        bool,
        typer.Option(
            "--rerun-jobs",
            help="Do the evaluations again, too, and report each score that differs. Runs the "
            "task's code: of a run that came from others, only if you trust it.",
        ),
    ] = False,
    task: Annotated[
        str | None,
        typer.Option(help="With --rerun-jobs: where the task is, if not where the run found it."),
    ] = None,
    allow_weak_sandbox: AllowWeak = False,
    home: Home = HERE,
) -> None:
    """Decide a recorded run again, without LLM and without jobs; the first difference, if any.

    All levels are decided again: proposals, trials, steerings, sessions with their gate, and which
    mechanisms join and leave.
    """
    found, records = runnable(name, home, allow_weak_sandbox)
    same = _decide(found, records)
    if rerun_jobs:
        same = _evaluate(found, records, task) and same
    if not same:
        raise typer.Exit(1)


def export(
    name: Annotated[str, typer.Argument(help="A run's name, as `list` shows it.")],
    file: Annotated[
        Path,
        typer.Argument(
            help="Where to write it: a name ending in .jsonl.gz, or .jsonl.xz, smaller."
        ),
    ],
    home: Home = HERE,
) -> None:
    """Write a run to one file by which anybody can check it: all records, no secrets.

    Blotted out are the values of environment variables named like keys, and texts that have the
    form of a key, a token or a password, and the name of your folder. Look it through all the
    same: prompts, replies, task and errors are in it as they were.

    bilevel export gpt-1 gpt-1.jsonl.gz

    bilevel replay gpt-1.jsonl.gz
    """
    from bilevel.exporting import export as write
    from bilevel.exporting import secrets_of
    from bilevel.scrubbing import Scrubber

    workspace, found = find(name, home)
    done = write(workspace, found, file, Scrubber(secrets_of(found, os.environ), Path.home()))
    console.print(
        f"wrote {done.path}: {found.id}, LLM {found.llm}, {done.records} records, "
        f"{done.size:,} bytes; check it with: bilevel replay {done.path}",
        soft_wrap=True,
    )
    if done.replaced:
        places = ", ".join(f"{what} ({count})" for what, count in sorted(done.replaced.items()))
        console.print(f"blotted out: {places}", soft_wrap=True)
    if done.without_task:
        console.print(
            f"without its task, so that --rerun-jobs will need --task: {done.without_task}",
            style="yellow",
            soft_wrap=True,
        )


def import_run(
    file: Annotated[Path, typer.Argument(help="A file that `export` wrote.")],
    name: Annotated[str, typer.Option("--as", help="Another name for the run.")] = "",
    home: Home = HERE,
) -> None:
    """Take in a run from a file, once its checksum is verified; nothing of it is run."""
    from bilevel import __version__
    from bilevel.exporting import import_run as read

    done = read(workspace_at(home), file, name)
    here = "was here already, the same" if done.known else "is here now"
    console.print(
        f"{done.run.id} {here}: LLM {done.run.llm}, {done.records} records; "
        f"check it with: bilevel replay {done.run.id}",
        soft_wrap=True,
    )
    if done.version != __version__:
        console.print(
            f"it was made by bilevel {done.version}, and this is {__version__}: where prompts or "
            "rules differ, a replay differs too",
            style="yellow",
            soft_wrap=True,
        )


def _decide(found: Run, records: list[Record]) -> bool:
    """Whether all decisions come out as recorded, said on the console."""
    from bilevel.assemble import replayed
    from bilevel.levels import decided_text

    result = replayed(found, records)
    came = decided_text(records, result.decisions)
    if result.lapses:
        console.print(
            f"{result.lapses} of the gate's verdicts on speed came otherwise on this machine; "
            "the record's were taken",
            style="yellow",
            soft_wrap=True,
        )
    if result.difference is None:
        console.print(f"{found.id}: all came out as recorded: {came}", soft_wrap=True)
        return True
    difference = result.difference
    console.print(f"{found.id}: record {difference.number} differs: ", end="")
    console.print(difference.why, soft_wrap=True)
    console.print(f"before it came out as recorded: {came}", soft_wrap=True)
    console.print("recorded", difference.recorded)
    console.print("replayed", difference.replayed)
    return False


def _evaluate(found: Run, records: Sequence[Record], task: str | None) -> bool:
    """Whether all evaluations come out as recorded, said on the console."""
    from bilevel.model import Trial
    from bilevel.task_jobs import rerun_jobs

    trials = [r for r in records if isinstance(r, Trial)]
    differ = 0
    with console.status("evaluating") as status:

        def starting(trial: Trial) -> None:
            status.update(f"evaluating #{trial.id} of {len(trials)}")

        for pair in rerun_jobs(found, trials, task or found.source, starting):
            if not pair.same:
                differ += 1
                then, now = (_ended(found, t) for t in (pair.recorded, pair.again))
                console.print(f"#{pair.recorded.id} differs: recorded {then}, now {now}")
    if differ:
        console.print(f"{differ} of {len(trials)} evaluations differ from the record")
    else:
        console.print(f"all {len(trials)} evaluations came out as recorded")
    return not differ


def _ended(found: Run, trial: Trial) -> str:
    """The metric with all its digits, or how a failed trial ended."""
    if trial.score is None:
        return trial.status
    return f"{found.objective.metric} {found.objective.value(trial.score)!r}"
