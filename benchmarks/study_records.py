"""How long a reader waits for a study's report, and how large its records are.

    python benchmarks/study_records.py

The records are FABRICATED: each run is the log of one of two recorded runs, under another name and
with noise on its scores, so that a study of any size is there in a minute. Results mean nothing;
size and time are those of a real one. Measured are two shapes: ten arms, of
which three need no LLM, three repeats; and six arms without an LLM, twenty repeats, seven tasks.
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from bilevel.archive import read_log
from bilevel.model import Record, Run, Trial
from bilevel.study.export import export
from bilevel.study.file import load
from bilevel.study.harness import is_free
from bilevel.study.inventory import shipped
from bilevel.study.provenance import Provenance
from bilevel.study.results import Place, places
from bilevel.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent
STUDIES = ("studies/gpt-pilot.toml", "studies/free.toml")
WITH_LLM = ROOT / "results" / "gpt-30-levels" / "run.json"
WITHOUT = ROOT / "results" / "compare" / "gpt" / "runs" / "tpe-0.json.gz"
NOISE = 0.01

Log = tuple[Run, Sequence[Record]]
T = TypeVar("T")


def main() -> None:
    for name in STUDIES:
        with tempfile.TemporaryDirectory() as folder:
            measure(ROOT / name, Path(folder))


def measure(path: Path, folder: Path) -> None:
    """Fabricate the study's records, and print what they weigh and take."""
    file, templates = load(path), {True: read_log(WITHOUT), False: read_log(WITH_LLM)}
    workspace = Workspace(folder / "home")
    logs = {
        place: fabricated(templates[is_free(file.arms[place.arm])], place) for place in places(file)
    }
    for run, records in logs.values():
        workspace.store.restore(run, [(None, record) for record in records])
    known = Provenance(sources=shipped(run for run, _ in logs.values()))
    took, written = timed(
        lambda: export(workspace, file, logs, known, folder / "records", os.environ)
    )
    study = file.study
    print(
        f"{study.name}, fabricated: {len(study.tasks)} tasks x {len(study.arms)} arms x "
        f"{study.repeats} repeats = {len(logs)} runs of {study.evals} evaluations"
    )
    print(
        f"  export {took:.1f} s; {written.size / 1e6:.2f} MB in {len(written.paths)} files; a run "
        f"{sum(written.sizes) / len(logs):,.0f} bytes, {min(written.sizes):,} to "
        f"{max(written.sizes):,}"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = ("study", "report", str(folder / "records"), "--out", str(folder / "report"))
    took, _ = timed(
        lambda: subprocess.run(
            [sys.executable, "-m", "bilevel", *words], check=True, stdout=subprocess.DEVNULL
        )
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    made = [p for p in (folder / "report").rglob("*") if p.is_file()]
    print(
        f"  report {took:.1f} s, of which at work {cpu:.1f} s; {len(made)} files, "
        f"{sum(p.stat().st_size for p in made) / 1e6:.1f} MB"
    )


def fabricated(template: Log, place: Place) -> Log:
    """A log that stands for a run, with noise on its scores."""
    run, records = template
    rng = random.Random(repr(place))
    noisy = [
        replace(r, score=r.score + rng.gauss(0, NOISE))
        if isinstance(r, Trial) and r.score is not None
        else r
        for r in records
    ]
    name = f"{Path(place.task).stem}-{place.arm}-{place.repeat}"
    return replace(run, id=name, task=Path(place.task).stem, seed=place.seed), noisy


def timed(act: Callable[[], T]) -> tuple[float, T]:
    """Seconds that it took, and what came of it."""
    start = time.perf_counter()
    result = act()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
