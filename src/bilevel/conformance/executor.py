"""What every executor keeps to."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path

from bilevel.conformance import refuses
from bilevel.errors import ExecutorError
from bilevel.model import Job, JobResult
from bilevel.protocols import Executor

PATIENCE = 120.0  # seconds that a job of these tests may take on a busy machine

# Starts a child that leaves its session and parent, ignores SIGTERM, and writes for ever.
DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            with open(sys.argv[1], "a") as file:
                file.write("x")
            time.sleep(0.01)
    os._exit(0)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
print("started", flush=True)
"""


def python(code: str, *arguments: str, timeout: float = PATIENCE, **fields: object) -> Job:
    """A job that runs Python code."""
    return Job((sys.executable, "-c", code, *arguments), timeout=timeout, **fields)  # type: ignore[arg-type]


def finish(executor: Executor, *jobs: Job) -> list[JobResult]:
    """The jobs' results, in their order, run as the slots allow."""
    results: dict[int, JobResult] = {}
    waiting = list(enumerate(jobs))
    deadline = time.monotonic() + PATIENCE
    while len(results) < len(jobs):
        assert time.monotonic() < deadline, "the jobs did not end"
        while waiting and len(jobs) - len(waiting) - len(results) < executor.slots:
            executor.submit(*waiting.pop(0))
        results |= dict(executor.wait(1.0))
    return [results[i] for i in range(len(jobs))]


def still(path: Path) -> bool:
    """Whether nothing writes to the file any more."""
    size = path.stat().st_size
    time.sleep(0.2)
    return path.stat().st_size == size


class ExecutorSuite:
    """`executor` makes one with that many slots, which keeps its files below a folder."""

    def executor(self, root: Path, slots: int = 1) -> Executor:
        raise NotImplementedError

    def test_output_exit_and_time_come_back(self, tmp_path: Path) -> None:
        code = "import sys, time; print('out'); print('err', file=sys.stderr); time.sleep(0.2)"
        with closing(self.executor(tmp_path)) as executor:
            good, bad, gone = finish(
                executor,
                python(code),
                python("raise SystemExit(3)"),
                python("import os; os.kill(os.getpid(), 9)"),
            )
        assert (good.exit, good.output, good.killed) == (0, "out\nerr\n", "")
        assert 0.2 <= good.seconds < PATIENCE
        assert (bad.exit, gone.exit) == (3, -9)

    def test_a_command_that_is_not_there_is_a_result(self, tmp_path: Path) -> None:
        with closing(self.executor(tmp_path)) as executor:
            (result,) = finish(executor, Job(("no-such-command-anywhere",)))
        assert result.exit == 127
        assert "no-such-command-anywhere" in result.output

    def test_the_job_has_its_own_copy_of_the_folder(self, tmp_path: Path) -> None:
        folder = tmp_path / "task"
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "a.txt").write_text("original")
        (folder / "train.py").write_text("raise SystemExit(9)")
        code = "open('sub/a.txt', 'a').write('+'); print(open('sub/a.txt').read())"
        job = Job((sys.executable, "train.py"), str(folder), {"train.py": code, "new/b": "b"})
        with closing(self.executor(tmp_path / "jobs")) as executor:
            first, second = finish(executor, job, job)
        assert (first.output, second.output) == ("original+\n", "original+\n")
        assert (folder / "sub" / "a.txt").read_text() == "original"
        assert not (folder / "new").exists()

    def test_linked_and_excluded_paths(self, tmp_path: Path) -> None:
        folder = tmp_path / "task"
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "big.bin").write_text("big")
        (folder / "notes.log").write_text("secret")
        code = "import os; print(os.listdir('.'), os.path.islink('data'), os.listdir('data'))"
        job = python(code, folder=str(folder), link=("data",), exclude=("*.log",))
        with closing(self.executor(tmp_path / "jobs")) as executor:
            (result,) = finish(executor, job)
        assert result.output == "['data'] True ['big.bin']\n"
        assert (folder / "data" / "big.bin").read_text() == "big"

    def test_files_are_collected(self, tmp_path: Path) -> None:
        code = "import os; open('m.json', 'w').write('{}'); os.symlink('/etc/hosts', 'hosts')"
        with closing(self.executor(tmp_path)) as executor:
            (result,) = finish(executor, python(code, collect=("m.json", "hosts", "absent")))
        assert result.files == {"m.json": "{}"}

    def test_an_old_file_of_the_folder_is_not_collected(self, tmp_path: Path) -> None:
        folder = tmp_path / "task"
        (folder / "logs").mkdir(parents=True)
        for name in ("run.log", "logs/out.json"):
            (folder / name).write_text("METRIC loss=-999\n")
        job = python("", folder=str(folder), collect=("run.log", "logs/out.json"))
        with closing(self.executor(tmp_path / "jobs")) as executor:
            (result,) = finish(executor, job)
        assert result.files == {}
        assert (folder / "run.log").read_text() == "METRIC loss=-999\n"

    def test_paths_that_leave_the_folder_are_refused(self, tmp_path: Path) -> None:
        folder = tmp_path / "task"
        folder.mkdir()
        (tmp_path / "outside").mkdir()
        (folder / "away").symlink_to(tmp_path / "outside")
        with closing(self.executor(tmp_path / "jobs")) as executor:
            for path in ("../x", "/tmp/x", "a/../../x", "away/x", ""):
                with refuses(ExecutorError):
                    executor.submit(1, python("", folder=str(folder), files={path: "x"}))
            for path in ("../outside", str(tmp_path / "outside"), "absent"):
                with refuses(ExecutorError):
                    executor.submit(1, python("", folder=str(folder), link=(path,)))
        assert list((tmp_path / "outside").iterdir()) == []

    def test_it_runs_as_many_at_once_as_it_has_slots(self, tmp_path: Path) -> None:
        with closing(self.executor(tmp_path, slots=2)) as executor:
            slow, quick = python("input() if 0 else __import__('time').sleep(600)"), python("")
            executor.submit(1, slow)
            executor.submit(2, quick)
            with refuses(ExecutorError):
                executor.submit(3, quick)
            assert [key for key, _ in executor.wait(PATIENCE)] == [2]
            executor.submit(3, quick)
            assert [key for key, _ in executor.wait(PATIENCE)] == [3]
            assert executor.wait(0.0) == []

    def test_a_timeout_kills_the_whole_tree_in_time(self, tmp_path: Path) -> None:
        beat = tmp_path / "beat"
        job = python(DAEMON + "time.sleep(600)", str(beat), timeout=4.0)
        with closing(self.executor(tmp_path / "jobs")) as executor:
            executor.submit(1, job)
            ((_, result),) = executor.wait(PATIENCE)
            assert result.killed == "timeout"
            assert result.exit == -9
            assert 4.0 <= result.seconds < PATIENCE
            assert result.output == "started\n"
            assert still(beat)

    def test_what_a_finished_job_leaves_is_killed(self, tmp_path: Path) -> None:
        beat = tmp_path / "beat"
        with closing(self.executor(tmp_path / "jobs")) as executor:
            (result,) = finish(executor, python(DAEMON, str(beat)))
            assert (result.exit, result.killed, result.output) == (0, "", "started\n")
            assert still(beat)

    def test_closing_kills_what_runs(self, tmp_path: Path) -> None:
        beat = tmp_path / "beat"
        executor = self.executor(tmp_path / "jobs")
        executor.submit(1, python(DAEMON + "time.sleep(600)", str(beat)))
        while not beat.exists():
            assert executor.wait(0.05) == []
        executor.close()
        assert still(beat)
        executor.close()

    def test_a_job_that_prints_without_end_is_killed(self, tmp_path: Path) -> None:
        code = "while True: print('x' * 100_000)"
        with closing(self.executor(tmp_path)) as executor:
            (result,) = finish(executor, python(code, max_output=2**20))
        assert result.killed == "output"
        assert 0 < len(result.output) <= 2**20

    def test_output_is_the_end_as_text_whatever_the_bytes(self, tmp_path: Path) -> None:
        code = (
            "import sys; w = sys.stdout.buffer.write; "
            "[w(b'\\xff' * 2**20) for _ in range(3)]; w(b'\\0 end')"
        )
        with closing(self.executor(tmp_path)) as executor:
            (result,) = finish(executor, python(code))
        assert result.exit == 0
        assert result.output.endswith("\ufffd\0 end")
        assert len(result.output) <= 2**20

    def test_stdin_is_empty(self, tmp_path: Path) -> None:
        with closing(self.executor(tmp_path)) as executor:
            (result,) = finish(executor, python("import sys; print(repr(sys.stdin.read()))"))
        assert result.output == "''\n"

    def test_the_environment_is_the_jobs_own(self, tmp_path: Path) -> None:
        with closing(self.executor(tmp_path)) as executor:
            code = "import os; print(os.environ['GIVEN'], 'PYTHONUNBUFFERED' in os.environ)"
            (result,) = finish(executor, python(code, env={"GIVEN": "yes"}))
        assert result.output == "yes True\n"

    def test_waiting_without_a_job_gives_nothing(self, tmp_path: Path) -> None:
        with closing(self.executor(tmp_path)) as executor:
            assert executor.wait(0.0) == []
