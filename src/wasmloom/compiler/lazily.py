"""Functions that are compiled when they are first called: entries that others can call before there is code.

Each function has an entry of its own, a piece of code that loads the function's number into R11 and jumps through a
slot. The slot first holds the address of ``wl_lazy`` (`wasmloom.compiler.stubs`), which has the function compiled, and
then that of the function's code.

Invariants: the entries' pages are never written once they can be executed. A slot changes by one aligned store of a
word, so that a thread that jumps meanwhile sees one address or the other. The entries are as code is: whoever holds an
address of one holds `memory` (see `wasmloom.runtime.codememory`).
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence

from wasmloom.compiler.objects import PAGE, ObjectError
from wasmloom.runtime.codememory import CodeMemory

#: ``movl $number, %r11d``; ``jmpq *distance(%rip)``; four bytes that are never reached.
_ENTRY = struct.Struct("<HI HiI")
_LOAD, _JUMP, _FILL = 0xBB41, 0x25FF, 0xCCCCCCCC
#: How far an entry's end, from where the jump counts, is from its start.
_END = 12


class LazyFunctions:
    """The entries of some functions, by number."""

    def __init__(self, functions: Sequence[int], compiler: int) -> None:
        """`compiler`: the address that entries jump to until there is code. Raises `ObjectError`."""
        code = -(-len(functions) * _ENTRY.size // PAGE) * PAGE
        try:
            self.memory = CodeMemory(code + 8 * len(functions))
        except OSError as error:
            raise ObjectError(f"no memory for {len(functions)} entries of functions: {error}") from None
        base: int = self.memory.address
        self._slots: dict[int, int] = {}
        #: The address of each function's entry.
        self.entries: dict[int, int] = {}
        for position, function in enumerate(functions):
            at, slot = position * _ENTRY.size, code + 8 * position
            _ENTRY.pack_into(self.memory, at, _LOAD, function, _JUMP, slot - at - _END, _FILL)
            self.entries[function] = base + at
            self._slots[function] = base + slot
            self.set(function, compiler)
        self.memory.make_executable(code)

    def set(self, function: int, address: int) -> None:
        """Let a function's entry lead to its code."""
        ctypes.c_uint64.from_address(self._slots[function]).value = address
