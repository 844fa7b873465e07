"""A job's own folder: a copy of the task's, with links and files put in; and the ends of files."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from bilevel.errors import ExecutorError
from bilevel.model import Job

log = logging.getLogger(__name__)
COPY_LIMIT = 2**30  # bytes; beyond it, waiting for copies would be most of a run
TAIL = 2**20  # bytes
IGNORED = (
    ".git", ".hg", ".svn", ".bilevel", "__pycache__", "*.pyc", ".venv", ".tox", ".nox",
    "node_modules", ".hypothesis", ".pytest_cache", ".mypy_cache", ".ruff_cache",
    ".ipynb_checkpoints",
)  # fmt: skip


def make(work: Path, job: Job, skip: Path) -> None:
    """Make the folder `work` as the job wants it; `skip` is never copied.

    Raises ExecutorError when a path leaves the folder or the copy is too large, OSError when a
    file cannot be read or written.
    """
    work.mkdir(parents=True)
    source = None if job.folder is None else Path(job.folder).resolve()
    if source is not None:
        if not source.is_dir():
            raise ExecutorError(f"the job's folder is {source}, but there is none; correct it")
        _copy(source, work, job, skip)
    for relative in job.link:
        if source is None or not (source / relative).exists():
            raise ExecutorError(f"`link` names {relative!r}, but {source} has none; correct it")
        target = place(work, relative)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source / relative)
    write(work, job)


def write(folder: Path, job: Job) -> None:
    """Write the job's files below a folder. Raises ExecutorError when one would leave it."""
    for relative, text in job.files.items():
        target = place(folder, relative)
        if target.is_symlink():
            target.unlink()
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.write_bytes(text.encode())
        except UnicodeEncodeError as error:
            raise ExecutorError(
                f"the file {relative!r} holds {error.object[error.start]!r}, which no UTF-8 text "
                "can hold; replace it where the text comes in"
            ) from error


def place(folder: Path, relative: str) -> Path:
    """The path in the folder. Raises ExecutorError when it leaves it."""
    path = Path(relative)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ExecutorError(f"{relative!r} leaves the job's folder; give a relative path inside")
    target = folder / path
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise ExecutorError(
            f"{relative!r} leaves the job's folder by a symbolic link; give a path without one"
        )
    return target


def remove(path: Path) -> None:
    """Delete a folder with all that is in it, also what was made read-only. Absent is fine."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except PermissionError:
        for here, _, _ in os.walk(path):
            for entry in os.scandir(here):
                if entry.is_dir(follow_symlinks=False):
                    Path(entry).chmod(0o700)
        shutil.rmtree(path)


def tail(path: Path, limit: int = TAIL) -> str:
    """The file's last `limit` bytes as text, bytes that are no UTF-8 replaced."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - limit))
        return file.read(limit).decode(errors="replace")


def collected(work: Path, job: Job) -> dict[str, str]:
    """The ends of the files that the job was to leave, by path; those that it did not are absent.

    A symbolic link out of the folder counts as absent, and so does, with a warning, a file that
    cannot be read.
    """
    found = {}
    for relative in job.collect:
        path = (work / relative).resolve()
        try:
            if path.is_relative_to(work.resolve()) and path.is_file():
                found[relative] = tail(path)
        except OSError as error:
            log.warning(
                "%s, which a job left, counts as absent: it cannot be read (%s)", path, error
            )
    return found


def _copy(source: Path, work: Path, job: Job, skip: Path) -> None:
    """Copy what is not left out. Pipes, sockets and devices are not copied."""
    sizes: Counter[str] = Counter()
    chosen = []
    for path in _chosen(source, job, skip):
        relative, status = path.relative_to(source), path.lstat()
        chosen.append((path, work / relative, status.st_mode))
        if stat.S_ISREG(status.st_mode):
            sizes[relative.parts[0]] += status.st_size
        if sizes.total() > COPY_LIMIT:
            name, most = sizes.most_common(1)[0]
            raise ExecutorError(
                f"a job's copy of {source} may take {COPY_LIMIT >> 20} MiB, but it is larger, "
                f"with {most >> 20} MiB in {name!r}; put that into `link` or `exclude`"
            )
    for path, target, mode in chosen:
        if stat.S_ISDIR(mode):
            target.mkdir()
        elif stat.S_ISLNK(mode):
            target.symlink_to(_redirected(path, source, work))
        elif stat.S_ISREG(mode):
            shutil.copy2(path, target)


def _redirected(link: Path, source: Path, work: Path) -> Path:
    """Where the copy of a link points: into the copy, or by its absolute path out of it."""
    target = Path(os.path.normpath(link.parent / link.readlink()))
    return work / target.relative_to(source) if target.is_relative_to(source) else target


def _chosen(source: Path, job: Job, skip: Path) -> Iterator[Path]:
    """The paths to copy, each folder before what is in it."""
    # What the job is to leave must be its own: an old file of that name would pass for a result.
    left_out = {source / relative for relative in (*job.link, *job.collect)}
    patterns = (*IGNORED, *(pattern.rstrip("/") for pattern in job.exclude))

    def wanted(path: Path) -> bool:
        names = (path.name, path.relative_to(source).as_posix())
        if path in left_out or path == skip:
            return False
        return not any(fnmatchcase(n, pattern) for n in names for pattern in patterns)

    for here, folders, files in os.walk(source, onerror=_raise):
        folders[:] = sorted(
            name
            for name in folders
            if wanted(Path(here, name)) and not _is_environment(Path(here, name))
        )
        yield from (Path(here, name) for name in folders)
        yield from (Path(here, name) for name in sorted(files) if wanted(Path(here, name)))


def _is_environment(path: Path) -> bool:
    """Whether a folder is a virtual environment of Python, whatever its name."""
    return (path / "pyvenv.cfg").exists() and not path.is_symlink()


def _raise(error: OSError) -> None:
    raise error
