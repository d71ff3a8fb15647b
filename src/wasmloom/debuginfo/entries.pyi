"""Types of the Python surface of ``entries.py``."""

from typing import Any

class Unit:
    """See ``entries.py``."""

    name: str | None
    folder: str
    low: int
    ranges: list[tuple[int, int]]
    lines_at: int | None
    lines: Any
    functions: Any
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def version(self) -> int: ...

class Abbreviations: ...
