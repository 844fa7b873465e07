"""`bilevel show --log`: what the terminal showed while the run went, again."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from bilevel.cli.cli import app
from bilevel.codec import dump_log
from bilevel.render.live import Terminal
from threelevels import held, left


@pytest.mark.skipif(not held(), reason="this machine cannot lock a worker")
def test_a_finished_run_is_told_as_it_went(tmp_path: Path) -> None:
    run, records = left()
    console = Console(file=io.StringIO(), width=400)
    with Terminal(run, [], tmp_path, console) as terminal:
        for record in records:
            terminal.record(record)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for word in ("Level 1.5  ", "Level 2  session of cycle", "joins the stack", "leaves the stack"):
        assert word in shown
    (tmp_path / "run.json").write_text(dump_log(run, records))
    words = ["show", str(tmp_path / "run.json"), "--log"]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "400"})
    assert result.exit_code == 0, result.output
    assert result.output.startswith(shown)
    assert "sandbox " in result.output.removeprefix(shown)
