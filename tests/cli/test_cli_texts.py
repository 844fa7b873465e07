"""A run whose only parameter is a source: what the person sees of it."""

import json
import sys
from pathlib import Path

from typer.testing import CliRunner

from bilevel.cli.cli import app

# Rooms in which hardly any item fits are avoided: 3.3 where best fit has 4.7.
SOURCE = """\
def priority(item, bins):
    ":smile: [bold]"
    return [item - room - (40 if 3 < room - item < 20 else 0) for room in bins]
"""


def test_best_prints_a_source_as_it_is(tmp_path: Path) -> None:
    reply = {"changes": [{"name": "PRIORITY", "value": SOURCE}], "hypothesis": "First fit."}
    (tmp_path / "reply.json").write_text(json.dumps(reply))
    program = tmp_path / "program.py"
    program.write_text(f"print(open({str(tmp_path / 'reply.json')!r}).read())")
    llm = f"command:{sys.executable} {program}"
    home = ("--home", str(tmp_path))

    def said(*words: str) -> str:
        result = CliRunner().invoke(app, (*words, *home), env={"COLUMNS": "60"})
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    said("run", "packing-weibull", "--levels", "1", "--evals", "1", "--confirms", "0", "--llm", llm)
    assert said("best").partition("\n")[2] == f"PRIORITY = *\n{SOURCE}"
