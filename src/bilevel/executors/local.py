"""Runs jobs on this machine, each in a folder of its own, watched by a process of its own.

Of a job's folder `ROOT/0007/`, `run.log` (its output, as it comes) and `files/` (what it was given)
stay; `work/`, the copy it ran in, and `tmp/` go when it ends, but for what cannot be deleted, of
which a warning tells. No process of a job outlives it, nor the host, however that ends (see
supervisor.py for what is covered). This is no sandbox: a job can read and write what its user can.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from bilevel import supervisor
from bilevel.errors import ExecutorError
from bilevel.executors import folder
from bilevel.model import Job, JobResult

log = logging.getLogger(__name__)
# All that a job sees of the host's environment: a list of what may pass, so that no key, token
# or password can.
PASSED = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
SUPERVISOR = Path(supervisor.__file__)


@dataclass
class _Running:
    key: int
    job: Job
    folder: Path
    slot: int
    process: subprocess.Popen[bytes]
    control: IO[bytes]
    reports: IO[bytes]
    started: float = field(default_factory=time.monotonic)
    report: bytes = b""


class LocalExecutor:
    """Runs up to `slots` jobs at a time below the folder `root`.

    gpus: dealt out to the slots by CUDA_VISIBLE_DEVICES; none given, the host's setting passes.
    """

    def __init__(self, root: Path, slots: int = 1, gpus: Sequence[str] = ()) -> None:
        if slots < 1:
            raise ExecutorError(f"slots is {slots}, but must be at least 1")
        self.root = root.resolve()
        self.slots = slots
        self._gpus = tuple(gpus)
        self._free = list(range(slots))
        self._running: dict[int, _Running] = {}
        self._ended: dict[int, JobResult] = {}
        self._selector = selectors.DefaultSelector()

    def submit(self, key: int, job: Job) -> None:
        """Start a job. Raises ExecutorError when all slots are taken or it cannot be started."""
        if not self._free:
            raise ExecutorError(f"all {self.slots} slots are taken; wait for a job to end")
        if key in self._running or key in self._ended:
            raise ExecutorError(f"job {key} was submitted already; give each job its own key")
        if not job.command:
            raise ExecutorError(f"job {key} has no command; give it one")
        place = self.root / f"{key:04d}"
        try:
            folder.remove(place)
            folder.make(place / "work", job, self.root)
            folder.write(place / "files", job)
            (place / "tmp").mkdir()
        except OSError as error:
            raise ExecutorError(
                f"the folder {place} of job {key} cannot be made ({error}); see to that file or "
                "disk, or put what is not needed into `exclude`"
            ) from error
        slot = self._free[0]
        self._start(key, job, place, slot)
        self._free.remove(slot)

    def wait(self, timeout: float) -> list[tuple[int, JobResult]]:
        """Jobs that ended within `timeout` seconds, in order of ending; empty if none did.

        Returns at once when none runs. Raises ExecutorError when a supervisor failed.
        """
        if self._running:
            ready = self._selector.select(0 if self._ended else timeout)
            self._finish([key.data for key, _ in ready])
        ended, self._ended = self._ended, {}
        return list(ended.items())

    def close(self) -> None:
        """Kill what still runs, with all its children; `wait` then gives it as "stopped"."""
        for running in self._running.values():
            running.control.close()
        self._finish(list(self._running.values()))

    def _start(self, key: int, job: Job, place: Path, slot: int) -> None:
        env = self._environment(place, slot)
        order = {
            "command": job.command,
            "cwd": str(place / "work"),
            "env": {**env, **job.env},
            "log": str(place / "run.log"),
            "timeout": job.timeout,
            "max_output": job.max_output,
        }
        try:
            with (place / "supervisor.log").open("wb") as trouble:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(SUPERVISOR)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=trouble,
                    env=env,
                    start_new_session=True,
                )
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        except OSError as error:
            raise ExecutorError(f"job {key} cannot be started ({error}); see to that") from error
        running = _Running(key, job, place, slot, process, process.stdin, process.stdout)
        self._selector.register(running.reports, selectors.EVENT_READ, running)
        self._running[key] = running

    def _environment(self, place: Path, slot: int) -> dict[str, str]:
        env = {name: os.environ[name] for name in PASSED if name in os.environ}
        if self._gpus:
            env["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        return {**env, "TMPDIR": str(place / "tmp"), "PYTHONUNBUFFERED": "1"}

    def _finish(self, ready: list[_Running]) -> None:
        """Turn jobs whose supervisor reports into results.

        Interrupted by Ctrl-C anywhere, it can be done again: a job is let go of last.
        """
        for running in ready:
            while chunk := os.read(running.reports.fileno(), 4096):
                running.report += chunk
            running.process.wait()
        for running in sorted(ready, key=_ended):
            if running.key not in self._ended:
                self._ended[running.key] = self._result(running)
            self._let_go(running)

    def _result(self, running: _Running) -> JobResult:
        said = running.folder / "run.log"
        output = folder.tail(said) if said.exists() else ""
        files = folder.collected(running.folder / "work", running.job)
        status = running.process.returncode
        if status < 0:
            # Most likely by its own job. The supervisor's guard has cleared what the job left.
            output += f"\nbilevel: the process that watches this job got signal {-status}\n"
        if running.report:
            report = json.loads(running.report)
            return JobResult(report["exit"], output, report["seconds"], report["killed"], files)
        if status < 0:
            seconds = time.monotonic() - running.started
            return JobResult(status, output, seconds, files=files)
        trouble = folder.tail(running.folder / "supervisor.log")
        self._let_go(running)
        raise ExecutorError(f"the supervisor of job {running.key} failed; report this:\n{trouble}")

    def _let_go(self, running: _Running) -> None:
        for name in ("work", "tmp"):
            _clear(running.folder / name, running.key)
        (running.folder / "supervisor.log").unlink(missing_ok=True)
        if self._running.pop(running.key, None) is not None:
            self._selector.unregister(running.reports)
            self._free.append(running.slot)
        running.control.close()
        running.reports.close()


def _clear(place: Path, key: int) -> None:
    """Delete a folder of a job that ended. What cannot be deleted stays, as its result is in."""
    try:
        folder.remove(place)
    except OSError as error:
        log.warning(
            "job %d left files in %s that cannot be deleted (%s); its result counts all the same, "
            "delete the folder yourself, or have the job leave no files of another user",
            key,
            place,
            error,
        )


def _ended(running: _Running) -> float:
    """When a job ended, on the monotonic clock."""
    ended: float = json.loads(running.report)["ended"] if running.report else time.monotonic()
    return ended
