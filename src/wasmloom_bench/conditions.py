"""Under which conditions a run was made: machine, versions, commit, load."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

#: A checkout of the project, when the package is used from one (an editable installation).
CHECKOUT = Path(__file__).resolve().parent.parent.parent


def cpu_name() -> str:
    """The processor as the system calls it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def load() -> float:
    """How many processes have wanted to run, in the last minute."""
    return round(os.getloadavg()[0], 2)


def checkout(near: Path = CHECKOUT) -> Path | None:
    """The checkout of the project: the one that the package is in, or else the working directory, if it is one."""
    for folder in (near, Path.cwd()):
        if (folder / "setup.py").exists() and (folder / "src" / "wasmloom_bench").exists():
            return folder
    return None


def commit(folder: Path | None) -> str:
    """The commit of a checkout, with "and changes" when files differ from it; "unknown" where git can't tell."""
    if folder is None:
        return "unknown"
    try:
        short = _git(folder, "rev-parse", "--short=10", "HEAD")
        return f"{short} and changes" if _git(folder, "status", "--porcelain", "-uno") else short
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def conditions() -> dict[str, str]:
    """Name → text."""
    import wasmloom

    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": cpu_name(),
        "processors": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "wasmloom": wasmloom.__version__,
        "commit": commit(checkout()),
        "load at the start": str(load()),
    }
