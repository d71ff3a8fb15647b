"""Types of the Python surface; see ``gc_statistics.py``."""

from typing import NamedTuple

class GcStatistics(NamedTuple):
    collections: int
    seconds: float
    longest: float
    pauses: tuple[float, ...]
    allocated: int
    live: int
    heap: int
