"""The processor's part of the object format: its number, and the kinds of relocations.

Format: System V ABI, AMD64 supplement, chapter 4. These are the kinds that LLVM emits in the small code model.
"""

from __future__ import annotations

import struct

from wasmloom.target.relocation import Goal, Relocation

#: The processor's number in file headers (``EM_X86_64``).
MACHINE = 62

_SIGNED_32 = struct.Struct("<i")
_UNSIGNED_32 = struct.Struct("<I")
_UNSIGNED_64 = struct.Struct("<Q")
_WORD = 0xFFFFFFFFFFFFFFFF

#: How most relocations are written, all of them relative: displacements in instructions.
DISPLACEMENT = _SIGNED_32

#: The relocation that does nothing.
NONE = 0

#: All other kinds that are supported, by number.
KINDS = {
    1: Relocation("R_X86_64_64", Goal.SYMBOL, False, _UNSIGNED_64, _WORD),
    2: Relocation("R_X86_64_PC32", Goal.SYMBOL, True, DISPLACEMENT),
    4: Relocation("R_X86_64_PLT32", Goal.CALL, True, DISPLACEMENT),
    9: Relocation("R_X86_64_GOTPCREL", Goal.SLOT, True, DISPLACEMENT),
    10: Relocation("R_X86_64_32", Goal.SYMBOL, False, _UNSIGNED_32),
    11: Relocation("R_X86_64_32S", Goal.SYMBOL, False, _SIGNED_32),
    24: Relocation("R_X86_64_PC64", Goal.SYMBOL, True, _UNSIGNED_64, _WORD),
    41: Relocation("R_X86_64_GOTPCRELX", Goal.SLOT, True, DISPLACEMENT),
    42: Relocation("R_X86_64_REX_GOTPCRELX", Goal.SLOT, True, DISPLACEMENT),
}
