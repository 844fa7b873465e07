"""A study as files that others can read: its own file, every run's log, and which run is which."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from bilevel import codec
from bilevel.errors import StoreError
from bilevel.model import Record, Run
from bilevel.results import replacing
from bilevel.study.file import StudyFile, parse
from bilevel.study.results import Logs, Place, places

FILE, INDEX, RUNS = "study.toml", "study.json", "runs"


def export(file: StudyFile, logs: Logs, folder: Path) -> list[Path]:
    """Write the study's file and every run's log into a folder, from which `exported` reads them.

    `bilevel replay` takes a log.
    """
    (folder / RUNS).mkdir(parents=True, exist_ok=True)
    written = [folder / FILE]
    with replacing(folder / FILE) as fresh:
        fresh.write_text(file.text, encoding="utf-8", newline="")
    index = []
    for place, (run, records) in logs.items():
        name = f"{_plain(place.task)}-{_plain(place.arm)}-{place.repeat}.json.gz"
        written.append(folder / RUNS / name)
        with replacing(written[-1]) as fresh:
            fresh.write_bytes(gzip.compress(codec.dump_log(run, records).encode(), mtime=0))
        index.append({"task": place.task, "arm": place.arm, "seed": place.seed, "file": name})
    document = {"name": file.study.name, "file": file.path, "hash": file.hash, "runs": index}
    with replacing(folder / INDEX) as fresh:
        fresh.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return [*written, folder / INDEX]


def exported(folder: Path) -> tuple[StudyFile, dict[Place, tuple[Run, list[Record]]]]:
    """The study and the logs that `export` wrote. Raises StoreError or ConfigError."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        text = (folder / FILE).read_bytes().decode()
        file = parse(text, Path(index["file"]))
        at = {(p.task, p.arm, p.seed): p for p in places(file)}
        logs = {
            at[e["task"], e["arm"], e["seed"]]: codec.load_log(
                gzip.decompress((folder / RUNS / e["file"]).read_bytes()).decode()
            )
            for e in index["runs"]
        }
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"{folder} holds no whole exported study ({error!r}); make one with "
            "`bilevel study export FILE --out FOLDER`"
        ) from error
    return file, logs


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "+._" else "_" for c in Path(name).stem or name)
