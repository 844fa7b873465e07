"""The child process at its worst: scripts that stand in for the server. No weights needed."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from bilevel.errors import LLMUnavailable
from bilevel.llm import launch
from bilevel.llm.launch import ModelServer
from patience import PATIENCE


def start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, patience: float = PATIENCE
) -> ModelServer:
    path = tmp_path / "stand_in.py"
    path.write_text(textwrap.dedent(script))
    monkeypatch.setattr(launch, "SCRIPT", path)
    return ModelServer(Path("/x.gguf"), "tiny", threads=1, context=64, patience=patience)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import time; time.sleep(60)", r"did not load the model within 2 s \(still running"),
        ("raise SystemExit(3)", r"ended .*\(exit status 3; its log says: nothing\)"),
        ("input(); raise RuntimeError('bad file')", "ended while .*RuntimeError: bad file"),
        (
            "raise ImportError('libgomp.so.1: cannot open')",
            "libgomp.*; install the OpenMP library: apt-get install libgomp1",
        ),
        (
            """
            import socket, time
            s = socket.create_server(("127.0.0.1", 0))
            print('{"url": "http://127.0.0.1:%d"}' % s.getsockname()[1], flush=True)
            time.sleep(60)
            """,
            r"did not answer within 2 s",
        ),
        ("""print('{"url": "http://127.0.0.1:1"}')""", "ended before it answered"),
    ],
)
def test_a_server_that_does_not_come_up_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    before = set(psutil.Process().children())
    with pytest.raises(LLMUnavailable, match=message) as caught:
        start(tmp_path, monkeypatch, script, 2.0 if "sleep" in script else PATIENCE)
    assert "the server of tiny" in str(caught.value)
    assert set(psutil.Process().children()) == before


def test_the_child_gets_its_key_by_stdin_and_no_other_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted")
    script = """
        import json, os, sys
        key = json.loads(input())["key"]
        held = key in str(sys.argv) + str(os.environ) or "sk-planted" in os.environ.values()
        sys.exit(f"held {held}, policy {os.environ['OMP_WAIT_POLICY']}, key {key}")
        """
    with pytest.raises(LLMUnavailable, match=r"held False, policy PASSIVE, key \*\*\*"):
        start(tmp_path, monkeypatch, script)


@pytest.mark.parametrize("thread", [False, True])
def test_the_child_ends_with_a_killed_parent_even_while_it_loads(
    tmp_path: Path, thread: bool
) -> None:
    """The stand-in model loads for ever, and without letting Python run, as xllamacpp does."""
    (tmp_path / "xllamacpp.py").write_text(
        "import ctypes\nclass CommonParams:\n"
        "    def __init__(self): ctypes.PyDLL(None).sleep(600)\n"
        if not thread
        else "import time\nclass CommonParams:\n    def __init__(self): time.sleep(600)\n"
    )
    parent = tmp_path / "parent.py"
    parent.write_text(
        textwrap.dedent(
            f"""
            import threading
            from pathlib import Path
            from bilevel.llm.launch import ModelServer
            def serve():
                ModelServer(Path("/x.gguf"), "tiny", threads=1, context=64, patience=60)
            if {thread}:
                threading.Thread(target=serve).start()
            else:
                serve()
            """
        )
    )
    process = subprocess.Popen(
        [sys.executable, str(parent)], env={**os.environ, "PYTHONPATH": str(tmp_path)}
    )
    child = _wait_for_child(process.pid)
    time.sleep(0.5)  # It has read its settings and loads.
    assert child.is_running()
    process.kill()
    process.wait()
    child.wait(PATIENCE)


def _wait_for_child(pid: int) -> psutil.Process:
    for _ in range(200):
        for child in psutil.Process(pid).children():
            if "server.py" in " ".join(child.cmdline()):
                return child
        time.sleep(0.05)
    raise AssertionError("no child was started")
