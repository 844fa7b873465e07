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
from bilevel.study.report_document import Figure, html, markdown
from bilevel.study.report_sections import Extra, sections
from bilevel.study.verdicts import Answer, answers

FOLDER = "figures"


def write_report(data: StudyData, out: Path, extra: Extra | None = None) -> list[Path]:
    """Write report.html, report.md, its figures, and statistics.json; the paths written.

    Raises MissingExtra without scipy or matplotlib, OSError when a file cannot be written.
    """
    results, found = analyse(data), answers(data)
    blocks = [*sections(data, results, found, extra or Extra())]
    texts = {
        "report.html": html(f"Study {one_line(data.name)}", blocks),
        "report.md": markdown(blocks, FOLDER),
        "statistics.json": _json(data, results, found),
    }
    for block in blocks:
        if isinstance(block, Figure):
            texts[f"{FOLDER}/{block.name}.svg"] = _standing_alone(block.svg)
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with replacing(out / name) as fresh:
            fresh.write_text(text, encoding="utf-8", newline="")
    return [out / name for name in texts]


def _json(data: StudyData, results: Sequence[TaskResult], found: Sequence[Answer]) -> str:
    """All that was worked out, unrounded."""
    document = {
        "study": data.name,
        "file_hash": data.file_hash,
        "tasks": [asdict(r) for r in results],
        "hypotheses": [asdict(a) for a in found],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _standing_alone(svg: str) -> str:
    """A figure as a file: dark ink on white, whatever the page around it."""
    return svg.replace("<svg ", '<svg style="color: #1b1b1b; background: #ffffff" ', 1) + "\n"
