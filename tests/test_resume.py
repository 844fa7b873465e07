"""kill -9 at any moment loses at most the job in flight; the resumed run decides the same."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bilevel.errors import ConfigError, RunBusy
from bilevel.model import Proposal, Record, Trial
from bilevel.replay import replay
from bilevel.workspace import Workspace
from patience import PATIENCE
from resumable import SCRIPT, Silent, reply
from worlds import Scripted

HERE = Path(__file__).parent


def start(home: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "resumable.py"), str(home), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def decided(home: Path) -> list[Record]:
    """Proposals and trials, without the seconds that jobs took."""
    records = Workspace(home / "state").records("tiny-1")
    return [
        {**vars(r), "seconds": 0} if isinstance(r, Trial) else r
        for r in records
        if isinstance(r, Proposal | Trial)
    ]  # type: ignore[return-value]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    home = tmp_path_factory.mktemp("whole")
    process = start(home)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    return decided(home)


@pytest.mark.parametrize("after", [1, 2, 3, 5, 7, 10, 13, 15])
def test_kill_and_resume(tmp_path: Path, whole: list[Record], after: int) -> None:
    process = start(tmp_path)
    assert process.stdout is not None
    for _ in range(after):
        assert process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    recorded = len(Workspace(tmp_path / "state").records("tiny-1"))
    assert recorded >= after
    again = start(tmp_path, "tiny-1")
    again.communicate(timeout=PATIENCE)
    assert again.returncode == 0
    assert decided(tmp_path) == whole


def test_the_recorded_run_replays(tmp_path: Path) -> None:
    start(tmp_path).communicate(timeout=PATIENCE)
    workspace = Workspace(tmp_path / "state")
    result = replay(workspace.store.run("tiny-1"), workspace.records("tiny-1"))
    assert result.difference is None
    assert result.decisions >= 5


def test_a_run_is_written_by_one_process_at_a_time(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    from bilevel.assemble import conduct

    workspace = Workspace(tmp_path / "state")
    with pytest.raises(RunBusy, match=str(process.pid)):
        conduct(workspace, workspace.store.run("tiny-1"), Scripted(reply), Silent())
    process.kill()
    process.communicate()


def test_a_task_that_changed_is_not_resumed(tmp_path: Path) -> None:
    start(tmp_path).communicate(timeout=PATIENCE)
    (tmp_path / "train.py").write_text(SCRIPT + "print('more')\n")
    from bilevel.assemble import conduct

    workspace = Workspace(tmp_path / "state")
    with pytest.raises(ConfigError, match="has changed since"):
        conduct(workspace, workspace.store.run("tiny-1"), Scripted(reply), Silent())
