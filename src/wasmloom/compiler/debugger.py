# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""GDB's JIT interface: telling a debugger about code in memory.

The debugger finds two C symbols in this module: a function in which it has a breakpoint, and a descriptor with a list
of ELF images in memory (GDB manual, chapter "JIT Compilation Interface"). They are in this module's ``.pxd``. Nothing
here checks an image: it comes from `wasmloom.compiler.elf.write_image`.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy
from cython.cimports.wasmloom.system.allocation import malloc

# The descriptor's `action_flag`.
_REGISTER: cython.uint = 1
_UNREGISTER: cython.uint = 2


@cython.cclass
class Description:
    """Tells the debugger about a copy of an ELF image, while this object lives."""

    def __cinit__(self, image: bytes) -> None:
        size: cython.size_t = len(image)
        entry: cython.pointer(WlJitEntry) = cython.cast(
            cython.pointer(WlJitEntry), malloc(cython.sizeof(WlJitEntry) + size)
        )
        if entry == cython.NULL:
            raise MemoryError("no memory to describe code to a debugger")
        content: cython.p_char = cython.cast(cython.p_char, entry) + cython.sizeof(WlJitEntry)
        memcpy(content, cython.cast(cython.p_char, image), size)
        entry.symfile_addr = content
        entry.symfile_size = size
        entry.prev_entry = cython.NULL
        entry.next_entry = __jit_debug_descriptor.first_entry
        if entry.next_entry != cython.NULL:
            entry.next_entry.prev_entry = entry
        __jit_debug_descriptor.first_entry = entry
        self.entry = entry
        _announce(entry, _REGISTER)

    def __init__(self, image: bytes) -> None:
        """See the class; `__cinit__` does the work."""

    def __dealloc__(self) -> None:
        entry: cython.pointer(WlJitEntry) = self.entry
        if entry == cython.NULL:
            return
        if entry.next_entry != cython.NULL:
            entry.next_entry.prev_entry = entry.prev_entry
        if entry.prev_entry != cython.NULL:
            entry.prev_entry.next_entry = entry.next_entry
        else:
            __jit_debug_descriptor.first_entry = entry.next_entry
        _announce(entry, _UNREGISTER)
        free(entry)


@cython.cfunc
def _announce(entry: cython.pointer(WlJitEntry), action: cython.uint) -> cython.void:
    """Run into the debugger's breakpoint."""
    __jit_debug_descriptor.relevant_entry = entry
    __jit_debug_descriptor.action_flag = action
    __jit_debug_register_code()
    __jit_debug_descriptor.relevant_entry = cython.NULL
    __jit_debug_descriptor.action_flag = 0
