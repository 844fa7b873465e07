"""The report of a study: one HTML page, the same in Markdown with its figures, and all as JSON.

Nothing in it is worded by hand, and no clock is read: the same data gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bilevel.describe import one_line
from bilevel.results import replacing
from bilevel.study.analysis import TaskResult, analyse
from bilevel.study.data import StudyData
from bilevel.study.figures import Pen
from bilevel.study.provenance import by_build, by_machine, mixtures
from bilevel.study.report_document import Figure, html, markdown
from bilevel.study.report_sections import Extra, sections
from bilevel.study.verdicts import Answer, answers

FOLDER = "figures"


def write_report(
    data: StudyData, out: Path, extra: Extra | None = None, png: bool = False
) -> list[Path]:
    """Write report.html, report.md, its figures, and statistics.json; the paths written.

    png: whether each figure is written as a PNG, too. Raises MissingExtra without scipy or
    matplotlib, OSError when a file cannot be written.
    """
    results, found = analyse(data), answers(data)
    blocks = [*sections(data, results, found, extra or Extra(), Pen(png))]
    files = {
        "report.html": html(f"Study {one_line(data.name)}", blocks).encode(),
        "report.md": markdown(blocks, FOLDER).encode(),
        "statistics.json": _json(data, results, found).encode(),
    }
    for block in blocks:
        if isinstance(block, Figure):
            files[f"{FOLDER}/{block.name}.svg"] = _standing_alone(block.svg).encode()
            if block.png:
                files[f"{FOLDER}/{block.name}.png"] = block.png
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with replacing(out / name) as fresh:
            fresh.write_bytes(content)
    return [out / name for name in files]


def _json(data: StudyData, results: Sequence[TaskResult], found: Sequence[Answer]) -> str:
    """All that was worked out, unrounded."""
    document = {
        "study": data.name,
        "file_hash": data.file_hash,
        "began": data.began,
        "builds": {sha: b.version for sha, b in data.builds.items()},
        "mixed": {
            "builds": [asdict(m) for m in mixtures(data, by_build)],
            "machines": [asdict(m) for m in mixtures(data, by_machine)],
        },
        "tasks": [asdict(r) for r in results],
        "hypotheses": [asdict(a) for a in found],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _standing_alone(svg: str) -> str:
    """A figure as a file: dark ink on white, whatever the page around it."""
    return svg.replace("<svg ", '<svg style="color: #1b1b1b; background: #ffffff" ', 1) + "\n"
