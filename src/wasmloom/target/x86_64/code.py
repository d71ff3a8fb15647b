"""Machine code that is written at run time, byte by byte: jumps, for the loader and for functions compiled later.

Displacements count from the end of the instruction that has them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: Every instruction is a multiple of so many bytes: what line tables count addresses in.
INSTRUCTION_UNIT = 1

#: How far a signed 32-bit displacement reaches: calls and jumps, and accesses relative to the instruction.
NEAR = 1 << 31

#: ``jmp *displacement(%rip)``, filled up with ``int3``.
_FAR_JUMP = struct.Struct("<HiH")
#: ``movl $number, %r11d``; ``jmp *displacement(%rip)``; four bytes that are never reached.
_LAZY_STUB = struct.Struct("<HI HiI")
_LOAD, _JUMP, _FILL = 0xBB41, 0x25FF, 0xCCCCCCCC

#: Sizes of what the functions below write, in bytes.
FAR_JUMP_SIZE = _FAR_JUMP.size
LAZY_STUB_SIZE = _LAZY_STUB.size


def write_far_jump(memory: Buffer, at: int, distance: int) -> None:
    """Write a jump to the address in a slot, which is at a distance from the jump's start."""
    _FAR_JUMP.pack_into(memory, at, _JUMP, distance - 6, _FILL & 0xFFFF)


def write_lazy_stub(memory: Buffer, at: int, number: int, distance: int) -> None:
    """Write the same with a function's number, which ``wl_lazy`` finds in R11 (see `stubs`)."""
    _LAZY_STUB.pack_into(memory, at, _LOAD, number, _JUMP, distance - 12, _FILL)
