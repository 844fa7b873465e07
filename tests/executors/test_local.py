"""The local executor: the contract, and what hostile or unlucky jobs do to it."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path

import psutil
import pytest

from bilevel import supervisor
from bilevel.conformance.executor import PATIENCE, ExecutorSuite, finish, python
from bilevel.errors import ExecutorError
from bilevel.executors import folder
from bilevel.executors.local import LocalExecutor
from bilevel.model import Job
from patience import soon


class TestLocal(ExecutorSuite):
    def executor(self, root: Path, slots: int = 1) -> LocalExecutor:
        return LocalExecutor(root, slots)


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[LocalExecutor]:
    with closing(LocalExecutor(tmp_path / "jobs")) as executor:
        yield executor


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """No test here leaves a process, whether it is still a descendant or not."""
    yield
    assert living(tmp_path) == []


def living(folder: Path) -> list[str]:
    """Processes of jobs that an executor below the folder started, by the TMPDIR it gives them."""
    found = []
    for process in psutil.process_iter():
        try:
            inside = process.environ().get("TMPDIR", "").startswith(f"{folder}/")
            if inside and process.status() != psutil.STATUS_ZOMBIE:
                found.append(str(process))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # It ended meanwhile, or is another user's.
    return found


def test_what_stays_of_a_job(tmp_path: Path, executor: LocalExecutor) -> None:
    code = "import os; os.makedirs('a/b'); os.chmod('a', 0); print('hello')"
    finish(executor, Job((sys.executable, "x/train.py"), files={"x/train.py": code}))
    left = sorted(p.relative_to(executor.root) for p in executor.root.rglob("*") if p.is_file())
    assert [str(path) for path in left] == ["0000/files/x/train.py", "0000/run.log"]
    assert (executor.root / "0000" / "run.log").read_text() == "hello\n"
    assert not (executor.root / "0000" / "work").exists()


def test_what_an_earlier_host_left_is_cleared(executor: LocalExecutor) -> None:
    stale = executor.root / "0000" / "work" / "stale.txt"
    stale.parent.mkdir(parents=True)
    stale.write_text("old")
    (executor.root / "0000" / "run.log").write_text("old")
    (result,) = finish(executor, python("import os; print(os.listdir())"))
    assert result.output == "[]\n"


@pytest.mark.parametrize(
    "trouble",
    [PermissionError(1, "Operation not permitted"), OSError(39, "Directory not empty")],
)
def test_a_folder_that_cannot_be_deleted_costs_no_result(
    executor: LocalExecutor,
    trouble: OSError,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    delete = shutil.rmtree

    def failing(path: Path) -> None:
        if path.name in ("work", "tmp"):
            raise trouble
        delete(path)

    monkeypatch.setattr(shutil, "rmtree", failing)
    results = finish(executor, *[python("print('kept')")] * 2)
    assert [(r.exit, r.output) for r in results] == [(0, "kept\n")] * 2
    executor.close()
    assert executor.wait(0) == []
    first = caplog.messages[0]
    assert str(executor.root / "0000" / "work") in first
    assert str(trouble.strerror) in first


def test_a_result_file_that_cannot_be_read_is_absent_and_named(
    executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unreadable(path: Path, limit: int = 0) -> str:
        if path.name == "metrics.json":
            raise PermissionError(13, "Permission denied")
        return path.read_text()

    monkeypatch.setattr(folder, "tail", unreadable)
    job = python("open('metrics.json', 'w').close(); print('kept')", collect=("metrics.json",))
    (result,) = finish(executor, job)
    assert (result.output, result.files) == ("kept\n", {})
    assert "metrics.json, which a job left, counts as absent" in caplog.text


def test_no_secret_reaches_a_job(executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("OPENAI_API_KEY", "HF_TOKEN", "MY_SECRET", "DB_PASSWORD", "AWS_CREDENTIALS", "OTHER")
    for name in names:
        monkeypatch.setenv(name, "hush-hush")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    (result,) = finish(executor, python("import os; print(dict(os.environ))"))
    assert "hush-hush" not in result.output
    env = eval(result.output)  # The job's own print of a dict of strings.
    assert env["CUDA_VISIBLE_DEVICES"] == "3"
    assert env["TMPDIR"] == str(executor.root / "0000" / "tmp")
    assert {"PATH", "HOME"} <= set(env)


def test_gpus_are_dealt_to_the_slots(tmp_path: Path) -> None:
    code = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    with closing(LocalExecutor(tmp_path, slots=3, gpus=("0", "1"))) as executor:
        results = finish(executor, *[python(code + "; __import__('time').sleep(0.5)")] * 3)
    assert sorted(result.output for result in results) == ["0\n", "0\n", "1\n"]


def test_a_gigabyte_of_output_is_cut(executor: LocalExecutor) -> None:
    code = "s = 'x' * 2**20\nfor _ in range(1024): print(s)"
    (result,) = finish(executor, python(code, max_output=2**23))
    assert result.killed == "output"
    assert (executor.root / "0000" / "run.log").stat().st_size == 2**23
    assert len(result.output) == 2**20


def test_output_over_the_limit_counts_even_if_the_job_ends_before_a_look_at_it(
    executor: LocalExecutor,
) -> None:
    (result,) = finish(executor, python("print('x' * 5000)", max_output=1000))
    assert (result.killed, len(result.output)) == ("output", 1000)


# Processes that ignore SIGTERM and are ever again replaced by a child in a session of its own, so
# that a list of them is out of date as soon as it is made. They end by themselves where a test
# fails to.
BOMB = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
until = time.monotonic() + 600
for _ in range(5):
    os.fork()
while time.monotonic() < until:
    time.sleep(0.02)
    if os.fork():
        os._exit(0)
    os.setsid()
"""


def test_a_fork_bomb_is_cleared(executor: LocalExecutor) -> None:
    executor.submit(
        1, Job(("sh", "-c", '"$0" -c "$1" & sleep 600', sys.executable, BOMB), timeout=1)
    )
    ((_, result),) = executor.wait(PATIENCE)
    assert (result.killed, result.output) == ("timeout", "")


def test_a_job_that_kills_its_supervisor_is_a_result(executor: LocalExecutor) -> None:
    code = (
        "import os, subprocess, sys; "
        "subprocess.Popen(['sleep', '600'], start_new_session=True); "
        "print('bye', flush=True); os.kill(os.getppid(), 9); __import__('time').sleep(600)"
    )
    (result,) = finish(executor, python(code))
    assert result.exit == -9
    assert "bye\n" in result.output
    assert "the process that watches this job got signal 9" in result.output


# A job that leaves processes which share its lock on a file, and kills its supervisor.
ORPHANS = """
import fcntl, os, subprocess, sys, time
lock = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
fcntl.flock(lock, fcntl.LOCK_EX)
def leave(*command, **fields):
    subprocess.Popen(command, start_new_session=True, pass_fds=[lock], **fields)
{}
os.kill(os.getppid(), 9)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper, which only Linux has")
@pytest.mark.parametrize(
    "orphans",
    [
        "leave('sleep', '600')",
        "for _ in range(30): leave('sleep', '600')",  # Some still in the midst of exec.
        "leave('sleep', '600', env={}, cwd='/')",  # One that has nothing of the job's about it.
        "leave(sys.executable, '-c', sys.argv[2]); time.sleep(0.5)",  # A fork bomb.
    ],
)
def test_nothing_outlives_a_supervisor_that_is_killed(
    executor: LocalExecutor, tmp_path: Path, orphans: str
) -> None:
    (result,) = finish(executor, python(ORPHANS.format(orphans), str(tmp_path / "lock"), BOMB))
    assert result.exit == -9
    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # Raises where any of them still runs.


@pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper, which only Linux has")
def test_nothing_outlives_a_guard_that_is_killed(executor: LocalExecutor, tmp_path: Path) -> None:
    guard = "int(open(f'/proc/{os.getppid()}/stat').read().split()[3])"
    kill = f"leave('sleep', '600'); os.kill({guard}, 9); time.sleep(600)"
    (result,) = finish(executor, python(ORPHANS.format(kill), str(tmp_path / "lock")))
    assert (result.exit, result.killed) == (-9, "")
    assert "the process that watches this job got signal 9" in result.output
    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.skipif(not supervisor.LISTED, reason="this kernel does not list children")
def test_children_are_found_with_and_without_the_kernels_list() -> None:
    # The kernel lists a child with the thread that started it.
    with (
        subprocess.Popen(["sleep", "60"]) as child,
        ThreadPoolExecutor(1) as pool,
        pool.submit(subprocess.Popen, ["sleep", "60"]).result() as of_thread,
    ):
        listed, scanned = supervisor.children(os.getpid()), supervisor.scanned()(os.getpid())
        child.kill()
        of_thread.kill()
    assert {child.pid, of_thread.pid} <= set(listed) & set(scanned)
    assert supervisor.children(child.pid) == []


def test_a_supervisor_that_fails_is_told(
    executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("raise ZeroDivisionError('boom')")
    monkeypatch.setattr("bilevel.executors.local.SUPERVISOR", tmp_path / "broken.py")
    executor.submit(1, python(""))
    with pytest.raises(ExecutorError, match=r"(?s)supervisor of job 1 failed.*boom"):
        executor.wait(PATIENCE)
    assert executor.wait(0.0) == []


HOST = """
import sys, time
from pathlib import Path
from bilevel import supervisor
from bilevel.conformance.executor import DAEMON, python
from bilevel.executors.local import LocalExecutor

executor = LocalExecutor(Path(sys.argv[1]), slots=2)
executor.submit(1, python(DAEMON + "time.sleep(600)", sys.argv[2]))
executor.submit(2, python("import time; time.sleep(600)"))
while not Path(sys.argv[2]).exists():
    executor.wait(0.05)
print("ready", flush=True)
executor.wait(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_job_outlives_its_host(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-c", HOST, str(tmp_path / "jobs"), str(tmp_path / "beat")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "ready\n"
        assert len(living(tmp_path)) >= 3
        host.send_signal(number)
        host.wait(PATIENCE)
        soon(lambda: not living(tmp_path))


def test_ctrl_c_while_waiting_loses_nothing(executor: LocalExecutor) -> None:
    executor.submit(1, python("import time; time.sleep(1); print('done')"))
    previous = signal.setitimer(signal.ITIMER_REAL, 0.3)
    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            executor.wait(PATIENCE)
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *previous)
    ((key, result),) = executor.wait(PATIENCE)
    assert (key, result.exit, result.output) == (1, 0, "done\n")


def test_closing_gives_what_was_stopped(executor: LocalExecutor) -> None:
    executor.submit(1, python("import time; time.sleep(600)"))
    executor.close()
    ((key, result),) = executor.wait(0.0)
    assert (key, result.exit, result.killed) == (1, -9, "stopped")
    assert not (executor.root / "0001" / "work").exists()


def test_results_come_in_the_order_of_ending(tmp_path: Path) -> None:
    with closing(LocalExecutor(tmp_path, slots=3)) as executor:
        for key, seconds in ((1, 4.0), (2, 0.0), (3, 2.0)):
            executor.submit(key, Job(("sleep", str(seconds))))
        time.sleep(6.0)
        assert [key for key, _ in executor.wait(PATIENCE)] == [2, 3, 1]


def test_a_job_costs_little_besides_itself(executor: LocalExecutor) -> None:
    keys = count()

    def cost() -> float:
        begun = time.monotonic()
        executor.submit(next(keys), Job(("true",)))
        executor.wait(PATIENCE)
        return time.monotonic() - begun

    soon(lambda: cost() < 0.15)  # Other work on the machine only ever adds to it.


def test_waiting_for_a_job_does_not_spin(executor: LocalExecutor) -> None:
    executor.submit(1, Job(("sleep", "600"), timeout=600))

    def spent() -> float:
        busy = psutil.Process().children(recursive=True)
        before = sum(sum(process.cpu_times()[:2]) for process in busy)
        executor.wait(1.0)
        return sum(sum(process.cpu_times()[:2]) for process in busy) - before

    soon(lambda: spent() < 0.1)  # The first look may see it start.


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (Job(()), "has no command"),
        (Job(("true",), folder="/nowhere"), "folder is /nowhere, but there is none"),
        (Job(("true",), link=("data",)), "`link` names 'data', but None has none"),
        (Job(("true",), files={"a": "x", "a/b": "y"}), "cannot be made"),
        (Job(("true",), files={"a": "half \ud83d"}), "no UTF-8 text can hold"),
    ],
)
def test_a_job_that_cannot_be_set_up_is_refused(
    executor: LocalExecutor, job: Job, words: str
) -> None:
    with pytest.raises(ExecutorError, match=words):
        executor.submit(1, job)
    assert executor.wait(0.0) == []
    (result,) = finish(executor, python("print(1)"))
    assert result.output == "1\n"


def test_a_key_is_used_once_at_a_time(tmp_path: Path) -> None:
    with closing(LocalExecutor(tmp_path, slots=2)) as executor:
        executor.submit(1, Job(("sleep", "600")))
        with pytest.raises(ExecutorError, match="job 1 was submitted already"):
            executor.submit(1, Job(("true",)))
        with pytest.raises(ExecutorError, match="slots is 0"):
            LocalExecutor(tmp_path, slots=0)


class TestFolder:
    def source(self, tmp_path: Path) -> Path:
        source = tmp_path / "task"
        source.mkdir()
        (source / "train.py").write_text("x")
        return source

    def copy(self, tmp_path: Path, job: Job) -> list[str]:
        work = tmp_path / "work"
        folder.make(work, job, tmp_path / "jobs")
        return sorted(str(p.relative_to(work)) for p in work.rglob("*"))

    def test_what_is_never_copied(self, tmp_path: Path) -> None:
        source = self.source(tmp_path)
        for name in (".git", ".bilevel", "__pycache__", ".venv", "node_modules", "env/lib", "a/b"):
            (source / name).mkdir(parents=True)
            (source / name / "x").write_text("x")
        (source / "env" / "pyvenv.cfg").write_text("")
        os.mkfifo(source / "pipe")
        assert self.copy(tmp_path, Job((), str(source))) == ["a", "a/b", "a/b/x", "train.py"]

    def test_the_executors_own_folder_is_not_copied(self, tmp_path: Path) -> None:
        source = self.source(tmp_path)
        (source / "jobs" / "0001").mkdir(parents=True)
        folder.make(source / "jobs" / "0002" / "work", Job((), str(source)), source / "jobs")
        assert [p.name for p in (source / "jobs" / "0002" / "work").iterdir()] == ["train.py"]

    def test_patterns_name_files_or_paths(self, tmp_path: Path) -> None:
        source = self.source(tmp_path)
        for name in ("data/a.bin", "data/b.txt", "other/a.bin", "checkpoints/x"):
            (source / name).parent.mkdir(exist_ok=True)
            (source / name).write_text("x")
        job = Job((), str(source), exclude=("data/*.bin", "checkpoints/"))
        names = ["data", "data/b.txt", "other", "other/a.bin", "train.py"]
        assert self.copy(tmp_path, job) == names

    def test_links_point_into_the_copy_or_out_of_it_never_to_the_original(
        self, tmp_path: Path
    ) -> None:
        source = self.source(tmp_path)
        (tmp_path / "data").mkdir()
        (source / "inside").symlink_to("train.py")
        (source / "absolute").symlink_to(source / "train.py")
        (source / "outside").symlink_to("../data")
        self.copy(tmp_path, Job((), str(source)))
        work = tmp_path / "work"
        for name in ("inside", "absolute"):
            assert (work / name).resolve() == work / "train.py"
        assert (work / "outside").resolve() == tmp_path / "data"

    def test_a_file_replaces_a_link_and_does_not_follow_it(self, tmp_path: Path) -> None:
        source = self.source(tmp_path)
        (tmp_path / "shared.py").write_text("shared")
        (source / "model.py").symlink_to("../shared.py")
        self.copy(tmp_path, Job((), str(source), {"model.py": "mine"}))
        assert (tmp_path / "shared.py").read_text() == "shared"
        assert (tmp_path / "work" / "model.py").read_text() == "mine"

    def test_a_large_folder_is_refused_by_its_largest_part(self, tmp_path: Path) -> None:
        source = self.source(tmp_path)
        (source / "data").mkdir()
        with (source / "data" / "big.bin").open("wb") as file:
            file.truncate(3 * 2**30)
        with pytest.raises(ExecutorError, match="3072 MiB in 'data'; put that into `link`"):
            self.copy(tmp_path, Job((), str(source)))
        assert list((tmp_path / "work").iterdir()) == []

    def test_the_end_of_a_huge_file_is_read_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        with path.open("wb") as file:
            file.truncate(2**36)
            file.seek(0, os.SEEK_END)
            file.write("é end".encode())
        begun = time.process_time()
        assert folder.tail(path).endswith("é end")
        assert time.process_time() - begun < 1.0
