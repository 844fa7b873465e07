"""Runs one command to its end and leaves no process of it behind. A script of its own.

Stdin: one line of JSON, the fields of Job; then it stays open, and its end means that the host is
gone or wants the job stopped. Stdout: one line of JSON (exit, seconds, killed, ended) when all is
over. It imports little, and of the standard library only, to start quickly.

Covered on Linux: children that detach (setsid, double fork) come back to this process, which is
their subreaper; ones that ignore SIGTERM are killed; ones that fork as they are killed are frozen
first. All are over only when the kernel says that no child is left. A job that kills the process
that watches it meets a second one, the guard, to which all that is left of the job comes back then;
if the guard is killed, the first one ends the job. Elsewhere only the command's process group is
killed. Not covered: a job that kills both at once, and processes of another user.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable

POLL = 0.1  # seconds between two looks at the size of the output
PATIENCE = 30.0  # seconds after which processes that cannot be killed are left, on record
CANNOT = "bilevel cannot run"  # how the log of a command begins that could not be started
LINUX = sys.platform == "linux"
LISTED = os.access("/proc/thread-self/children", os.R_OK)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class Job:
    """What to run: as in model.Job, with absolute paths and the whole environment.

    given: the file that it reads as its stdin. errors: that of its stderr, "" for the log.
    """

    def __init__(
        self,
        command: list[str],
        cwd: str,
        env: dict[str, str],
        log: str,
        timeout: float,
        max_output: int,
        given: str = os.devnull,
        errors: str = "",
    ) -> None:
        self.command = command
        self.cwd = cwd
        self.env = env
        self.log = log
        self.timeout = timeout
        self.max_output = max_output
        self.given = given
        self.errors = errors


class Children:
    """The command, and whatever it started that came back to this process."""

    def __init__(self, main: int) -> None:
        self.main = main
        self.exit: int | None = None
        self.ended = 0.0

    def reap(self) -> bool:
        """Collect those that ended; whether any child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.main:
                self.exit = os.waitstatus_to_exitcode(status)
                self.ended = time.monotonic()

    def kill(self) -> int:
        """Kill all descendants; how many are left because they cannot be killed."""
        if not LINUX:
            send(-self.main, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE
        pause, left = 0.001, set[int]()
        while self.reap():
            if time.monotonic() > deadline:
                return len(left)
            left = self.frozen(deadline)
            for pid in left:
                send(pid, signal.SIGKILL)
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        return 0

    def frozen(self, deadline: float) -> set[int]:
        """All descendants, stopped, so that none can fork while the others are killed.

        Each is stopped on sight: once all are listed, those that fork for ever have moved on.
        """
        seen: set[int] = set()
        before = -1
        while before < len(seen) and time.monotonic() < deadline:
            before = len(seen)
            below = children if LISTED else scanned()
            queue = [os.getpid(), *seen]
            while queue:
                for pid in below(queue.pop()):
                    if pid not in seen:
                        send(pid, signal.SIGSTOP)
                        seen.add(pid)
                        queue.append(pid)
        return seen


def send(pid: int, number: int) -> None:
    # It may have ended by itself; another user's stays in the count of those left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def children(pid: int) -> list[int]:
    """Ids of the process's children, as the kernel lists them; none when it is gone.

    Zombies are among them: one whose first thread ended may have others that still run.
    """
    found: list[int] = []
    try:
        with os.scandir(f"/proc/{pid}/task") as threads:
            for thread in threads:
                with os.fdopen(os.open(f"{thread.path}/children", os.O_RDONLY), "rb") as file:
                    found += map(int, file.read().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def scanned() -> Callable[[int], list[int]]:
    """What `children` would give now, by the parents of all processes; for kernels without it."""
    below: dict[int, list[int]] = {}
    with os.scandir("/proc") if LINUX else contextlib.nullcontext(()) as entries:
        for pid in (int(entry.name) for entry in entries if entry.name.isdigit()):
            below.setdefault(parent(pid), []).append(pid)
    return lambda pid: below.get(pid, [])


def parent(pid: int) -> int:
    """The id of the process's parent, 0 when the process is gone."""
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except FileNotFoundError:
        return 0
    try:
        # The command's name stands in parentheses and may hold spaces and parentheses itself.
        return int(os.read(file, 4096).rpartition(b")")[2].split()[1])
    except ProcessLookupError:
        return 0
    finally:
        os.close(file)


def prctl(option: int, value: int) -> None:
    if LINUX and ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


def start(job: Job, log: int) -> int:
    """The id of the process that runs the command; it exits with 127 if it cannot be run."""
    supervisor = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            os._exit(127)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open(job.given, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(os.open(job.errors, os.O_WRONLY | os.O_CREAT, 0o644) if job.errors else log, 2)
        os.chdir(job.cwd)
        os.execvpe(job.command[0], job.command, job.env)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        os.write(log, f"{CANNOT} {job.command[0]!r}: {reason}\n".encode())
    finally:
        os._exit(127)


def guarded() -> int:
    """Go on as a child of a guard; the guard's id. The guard itself never returns.

    It ends as the child does, after killing what a child that was killed left of its job.
    """
    host, guard = os.getppid(), os.getpid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    watcher = os.fork()
    if watcher == 0:
        os.setsid()  # A signal to the guard's group is not meant for both.
        return guard
    os.close(1)  # The host reads until the child ends.
    woken = signals()
    children = Children(watcher)
    while children.reap() and children.exit is None:
        ready, _, _ = select.select([woken], [], [], POLL)
        told = ready and signal.SIGTERM in os.read(woken, 4096)
        if told or os.getppid() != host:
            send(watcher, signal.SIGTERM)
    children.kill()
    assert children.exit is not None
    if children.exit < 0:
        os.kill(guard, -children.exit)
    os._exit(children.exit)


def watch(job: Job, children: Children, log: int, woken: int, begun: float, parent: int) -> str:
    """Wait for the command's end, or for the rule for which it must be killed: its name."""
    deadline = begun + job.timeout
    while True:
        children.reap()
        now = time.monotonic()
        if children.exit is not None:
            return ""
        if now >= deadline:
            return "timeout"
        if os.fstat(log).st_size > job.max_output:
            return "output"
        if os.getppid() != parent:
            return ""  # The job killed the guard; or the host is gone, and there is nobody to tell.
        ready, _, _ = select.select([0, woken], [], [], min(POLL, deadline - now))
        if woken in ready and signal.SIGTERM in os.read(woken, 4096):
            return "stopped"
        if 0 in ready and not os.read(0, 4096):
            return "stopped"


def signals() -> int:
    """A pipe that becomes readable, with the signal's number, at SIGCHLD and SIGTERM."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    return woken


def main() -> None:
    with os.fdopen(0, "rb", closefd=False) as control:
        line = control.readline()
    if not line.endswith(b"\n"):
        return  # The host died before it had said what to run.
    job = Job(**json.loads(line))
    parent = guarded() if LINUX else os.getppid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    woken = signals()
    log = os.open(job.log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    begun = time.monotonic()
    children = Children(start(job, log))
    killed = watch(job, children, log, woken, begun, parent)
    left = children.kill()
    if os.fstat(log).st_size > job.max_output:
        os.ftruncate(log, job.max_output)
        killed = killed or "output"
    if left:
        os.write(log, f"\nbilevel could not kill {left} processes of this job\n".encode())
    ended = children.ended or time.monotonic()
    status = -signal.SIGKILL if children.exit is None else children.exit
    result = {"exit": status, "seconds": ended - begun, "killed": killed, "ended": ended}
    # Without a host nobody is left to be told.
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(result).encode() + b"\n")


if __name__ == "__main__":
    main()
