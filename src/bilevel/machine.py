"""What a run is made on, and from which commit of the sources."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from pathlib import Path

COMMIT = "commit"  # the one fact that is not the machine's
SECONDS = 10.0  # after which git has no answer


def machine() -> dict[str, str]:
    """What the run is made on, in a few facts that matter when results are compared.

    COMMIT among them, where bilevel is a checkout and no installed package.
    """
    facts = {
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "cores": str(len(os.sched_getaffinity(0))),
    }
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        facts["processor"] = names[0].partition(":")[2].strip() if names else platform.machine()
    found = commit_of(Path(__file__).parents[2])
    return facts | ({COMMIT: found} if found else {})


@cache
def commit_of(root: Path) -> str:
    """The commit of a checkout, as it was when first asked, "" where git knows none.

    root: its top, for an installed package may lie in a checkout of something else. Ends in
    "with changes" where `src` is not as committed.
    """
    if not (root / ".git").exists():
        return ""
    try:
        found = _git(root, "rev-parse", "HEAD").strip()
        changed = _git(root, "status", "--porcelain", "--", "src")
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{found} with changes" if changed else found


def _git(root: Path, *words: str) -> str:
    # Variables such as GIT_DIR, which a hook has set, would name another checkout.
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        ["git", "-C", str(root), *words],
        env={**own, "GIT_OPTIONAL_LOCKS": "0"},  # nothing is written, so no lock is in the way
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    ).stdout
