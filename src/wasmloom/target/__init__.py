"""The processor: whatever only one kind of processor has, behind names that say what it is for.

There is a folder for each processor, which has these modules (docs/architecture.md, "A second processor", says what is
in each):

``registers``       how many parameters have a register; the calling convention of handlers
``instructions``    inline assembly, for LLVM's IR: a function for each use
``stubs``           the assembly around compiled functions
``code``            machine code that we write ourselves at run time: jumps to far functions, entries
``relocations``     what of the object format is the processor's
``backend``         what LLVM is told when it compiles for it

and two of declarations, `signal_frame.pxd` and `thread.pxd`, for compiled modules: these get them from
`wasmloom.target._processor`, which the build makes (`declarations`).

All others import the modules from here, where the folder is chosen. Nothing but this folder names a register or an
instruction of a processor (a test looks). It is below everything that generates, loads or runs code: of the rest of the
package it knows what generated code and the runtime agree on, `wasmloom.contract`, and no more.
"""

from __future__ import annotations

import os

_MACHINE = os.uname().machine

if _MACHINE == "x86_64":
    FOLDER = "x86_64"
    from wasmloom.target.x86_64 import backend, code, instructions, registers, relocations, stubs
else:
    raise ImportError(f"wasmloom doesn't run on this processor, {_MACHINE}: only on x86-64")

__all__ = ["FOLDER", "NAME", "backend", "code", "declarations", "instructions", "registers", "relocations", "stubs"]

#: What messages call the processor.
NAME = registers.NAME


def declarations() -> str:
    """The Cython declarations of the processor: its folder's, and the numbers that Python modules have, too."""
    lines = ["# Generated from wasmloom/target/__init__.py"]
    lines += [f"from wasmloom.target.{FOLDER}.{name} cimport *" for name in ("signal_frame", "thread")]
    lines += ["", "cdef enum:"]
    lines.append(f"    INTEGER_ARGUMENTS = {len(registers.INTEGER_ARGUMENTS)}")
    lines.append(f"    FLOAT_ARGUMENTS = {registers.FLOAT_ARGUMENTS}")
    return "\n".join(lines) + "\n"
