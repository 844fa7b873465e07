"""What a run is made on."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine() -> dict[str, str]:
    """What the run is made on, in a few facts that matter when results are compared."""
    facts = {
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "cores": str(len(os.sched_getaffinity(0))),
    }
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        facts["processor"] = names[0].partition(":")[2].strip() if names else platform.machine()
    return facts
