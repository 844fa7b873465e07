"""Stand-ins for the programs that agents are: small executables that act as their CLIs do.

They are not the agents. Each writes down how it was called beside itself, then says what it was
made to say.
"""

import json
import os
import stat
import sys
from pathlib import Path

_SOURCE = """\
#!{python}
# A stand-in for tests, by no means the real {name}.
import json, os, pathlib, sys, time
prompt = sys.stdin.read()
log = pathlib.Path({log!r})
calls = len(log.read_text().splitlines()) if log.exists() else 0
seen = {{"argv": sys.argv[1:], "prompt": prompt, "cwd": os.getcwd(), "files": os.listdir()}}
seen["key"] = os.environ.get("STAND_IN_KEY")
file = pathlib.Path("../schema.json")
seen["schema"] = file.read_text() if file.exists() else None
with log.open("a") as file:
    file.write(json.dumps(seen) + "\\n")
said = {said!r}
{body}
"""
SAY = "print(said[min(calls, len(said) - 1)], end='')"


def stand_in(folder: Path, name: str, *said: str, body: str = SAY) -> Path:
    """An executable of that name in the folder, which says each text in turn, the last for ever."""
    folder.mkdir(parents=True, exist_ok=True)
    path, log = folder / name, str(folder / f"{name}.calls")
    text = _SOURCE.format(python=sys.executable, name=name, log=log, said=said, body=body)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def calls(folder: Path, name: str) -> list[dict[str, object]]:
    """How the stand-in was called, in order."""
    return [json.loads(line) for line in (folder / f"{name}.calls").read_text().splitlines()]


def claude_says(text: str, **fields: object) -> str:
    """What `claude -p --output-format json` prints, as its documentation has it."""
    return json.dumps(
        {
            "type": "result",
            "subtype": "success",
            "is_error": False,
            "duration_ms": 1998,
            "num_turns": 1,
            "result": text,
            "stop_reason": "end_turn",
            "session_id": "0e639165",
            "total_cost_usd": 0.0079825,
            "usage": {
                "input_tokens": 3,
                "cache_creation_input_tokens": 10,
                "cache_read_input_tokens": 15635,
                "output_tokens": 6,
            },
            "modelUsage": {"claude-x": {"outputTokens": 6}},
            **fields,
        }
    )


def codex_says(text: str) -> str:
    """What `codex exec --json` prints, as its documentation has it."""
    usage = {"input_tokens": 210, "cached_input_tokens": 69, "output_tokens": 7}
    events = [
        {"type": "thread.started", "thread_id": "01a0"},
        {"type": "turn.started"},
        {"type": "item.completed", "item": {"id": "item_0", "type": "reasoning", "text": "Hm."}},
        {"type": "item.completed", "item": {"id": "i", "type": "agent_message", "text": text}},
        {"type": "turn.completed", "usage": usage},
    ]
    return "\n".join(map(json.dumps, events)) + "\n"


def path_with(folder: Path) -> str:
    """A PATH on which the folder comes first."""
    return f"{folder}{os.pathsep}{os.environ['PATH']}"
