"""What a snapshot prepares when it is restored for the first time, so that later copies of it are made at once.

The contents of a memory become an `Image`: a file in memory that nothing can change any more. Restored memories map it
copy-on-write, so they share what they don't write. The file is closed when the last snapshot of it is gone; memories
keep what they have mapped.

A snapshot that is loaded isn't mapped from its own file: another process could change that, or cut it off, under
running guests and behind what has been checked.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
from array import array
from typing import TYPE_CHECKING, NamedTuple

from wasmloom.host.contents import begin_with
from wasmloom.snapshot.data import PIECE, Home, MemoryData, StoreData, TableData, references_of
from wasmloom.system.owned import OwnedDescriptor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wasmloom.host.externs import Memory
    from wasmloom.host.module import Module
    from wasmloom.spec.module import Import

#: How many file descriptors below the process's limit are left to the host.
_RESERVE = 64
_SEALS = ("F_SEAL_SEAL", "F_SEAL_SHRINK", "F_SEAL_GROW", "F_SEAL_WRITE")


class Image:
    """A memory's contents as a file that can be mapped. `length`: its bytes."""

    def __init__(self, descriptor: int, runs: tuple[tuple[int, bytes], ...]) -> None:
        self._owner = OwnedDescriptor(descriptor)
        self._descriptor = descriptor
        last, contents = runs[-1]
        self.length = last * PIECE + len(contents)
        os.ftruncate(descriptor, self.length)
        for first, contents in runs:
            left, at = memoryview(contents), first * PIECE
            while left:
                written = os.pwrite(descriptor, left, at)
                left, at = left[written:], at + written
        seals = 0
        for name in _SEALS:
            seals |= getattr(fcntl, name)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)

    @classmethod
    def of(cls, memory: MemoryData) -> Image | None:
        """The image of a memory. None where there is nothing in it, or the system has none: then contents are
        copied."""
        if not memory.runs or PIECE % mmap.PAGESIZE or not hasattr(os, "memfd_create"):
            return None
        try:
            descriptor = os.memfd_create("wasmloom-snapshot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError:
            return None
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit != resource.RLIM_INFINITY and descriptor >= limit - min(_RESERVE, limit // 4):
            os.close(descriptor)
            return None
        try:
            return cls(descriptor, memory.runs)
        except (OSError, OverflowError):  # the second one: it is longer than any memory, as `_fill` will say
            return None

    def map(self, memory: Memory) -> None:
        """Let a new memory, which is long enough, begin with this. Raises `WasmError` when the system has no room."""
        begin_with(memory, self._descriptor, self.length)


class Prepared(NamedTuple):
    """For each memory its image or None; for each table its functions as `set_functions` takes them, or None; the names
    of the host's objects, in the order in which they come first; and for each module what it imports."""

    images: tuple[Image | None, ...]
    tables: tuple[bytes | None, ...]
    names: tuple[str, ...]
    imports: tuple[tuple[Import, ...], ...]

    @classmethod
    def of(cls, data: StoreData, modules: Sequence[Module]) -> Prepared:
        """That of a snapshot."""
        imports = [tuple(map(m.decoded.import_at, range(m.decoded.num_imports))) for m in modules]
        names = dict.fromkeys(reference for reference in references_of(data) if isinstance(reference, str))
        return cls(tuple(map(Image.of, data.memories)), tuple(map(_packed, data.tables)), tuple(names), tuple(imports))


def _packed(table: TableData) -> bytes | None:
    words = array("I")
    for element in table.elements:
        if element is None:
            words.extend((0, 0))
        elif isinstance(element, Home):
            words.extend((element.instance + 1, element.function))
        else:
            return None
    return words.tobytes()
