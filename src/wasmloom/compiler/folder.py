"""Where the disk cache is, and a quick look for what isn't there. It loads nothing: most processes need no more.

Keys are digests of a module and of much else, which takes some milliseconds. So whoever puts all code of a module into
the cache leaves a *mark* there, an empty file that is named by the module's size. Where there is no mark there is no
such code; where there is one, there may be.
"""

from __future__ import annotations

import os

#: How names of marks end.
MARK = ".whole"


def default_directory() -> str:
    """The directory of the cache, from the environment (XDG Base Directory Specification)."""
    if chosen := os.environ.get("WASMLOOM_CACHE_DIR"):
        return chosen
    base = os.environ.get("XDG_CACHE_HOME", "")
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "wasmloom")


def mark(directory: str, size: int) -> str:
    """The path of the mark for modules of so many bytes."""
    return os.path.join(directory, f"{size}{MARK}")


def may_have_whole(size: int) -> bool:
    """Whether the cache may have all code of a module of so many bytes."""
    return os.path.exists(mark(default_directory(), size))
