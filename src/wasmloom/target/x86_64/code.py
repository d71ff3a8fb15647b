"""Machine code that is written at run time, byte by byte: jumps, for the loader and for functions compiled later.

Displacements count from the end of the instruction that has them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from wasmloom.contract.layout import offset

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: Every instruction is a multiple of so many bytes: what line tables count addresses in.
INSTRUCTION_UNIT = 1

#: How far a signed 32-bit displacement reaches: calls and jumps, and accesses relative to the instruction.
NEAR = 1 << 31

#: ``jmp *displacement(%rip)``, filled up with ``int3``.
_FAR_JUMP = struct.Struct("<HiH")
#: ``movq instance(%r13), %r13``; ``movl $number, %r11d``; ``jmp *displacement(%rip)``.
_LAZY_STUB = struct.Struct("<I HI Hi")
_LOAD, _JUMP, _FILL = 0xBB41, 0x25FF, 0xCCCCCCCC
_LOAD_INSTANCE = 0x006D8B4D | offset("WlFunction", "instance") << 24
#: ``leaq displacement(%rip), %rsi``; ``jmp *(%rsi)``; as many bytes as are left.
_LOOP_STUB = struct.Struct("<HBi HIHB")
_LEA, _JUMP_THERE = 0x8D48, 0x26FF

#: Sizes of what the functions below write, in bytes.
FAR_JUMP_SIZE = _FAR_JUMP.size
LAZY_STUB_SIZE = _LAZY_STUB.size
LOOP_STUB_SIZE = _LOOP_STUB.size
#: Where a lazy stub is entered that has the instance already.
LAZY_STUB_ENTRY = 4


def write_far_jump(memory: Buffer, at: int, distance: int) -> None:
    """Write a jump to the address in a slot, which is at a distance from the jump's start."""
    _FAR_JUMP.pack_into(memory, at, _JUMP, distance - 6, _FILL & 0xFFFF)


def write_lazy_stub(memory: Buffer, at: int, number: int, distance: int) -> None:
    """Write the same with a function's number, which ``wl_lazy`` finds in R11 (see `stubs`).

    From its beginning on it takes a `WlFunction` for environment, from `LAZY_STUB_ENTRY` on the function's instance.
    """
    _LAZY_STUB.pack_into(memory, at, _LOAD_INSTANCE, _LOAD, number, _JUMP, distance - LAZY_STUB_SIZE)


def write_loop_stub(memory: Buffer, at: int, distance: int) -> None:
    """Write what the word of a loop's label leads to: code that puts the address at a distance from it into the
    interpreter's accumulator, and goes to where the word there says (see `WlLoop`)."""
    _LOOP_STUB.pack_into(memory, at, _LEA, 0x35, distance - 7, _JUMP_THERE, _FILL, _FILL & 0xFFFF, _FILL & 0xFF)
