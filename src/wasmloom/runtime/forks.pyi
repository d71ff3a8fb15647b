"""Types of the Python surface; see ``forks.py``."""

from _thread import RLock
from contextlib import AbstractContextManager
from typing import Protocol

class Remembered(Protocol):
    def after_fork(self) -> None: ...

importing: RLock

def remember(thing: Remembered) -> None: ...
def using_llvm() -> AbstractContextManager[None]: ...
def has_llvm() -> bool: ...
