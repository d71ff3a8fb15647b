"""The processor: everything that differs between kinds of processors, behind names that say what it is for.

Each processor has a folder with these modules (docs/processors.md says what is in each):

``registers``       how many parameters have a register; the calling convention of handlers
``inline_assembly`` inline assembly, for LLVM's IR: a function for each use
``stubs``           the assembly around compiled functions
``crossings``       the assembly between bytecode and compiled code
``code``            machine code that we write ourselves at run time: jumps to far functions, lazy stubs
``relocations``     what of the object format is the processor's
``backend``         what LLVM is told when it compiles for it
``pins``            registers that hold slots, and code for any of them
``pieces``          how a function's assembly is parted into what usually runs and what does not

and declarations for compiled modules, `signal_frame.pxd`, `stack_frame.pxd` and `thread.pxd`: these get them from
`wasmloom.target._processor`, which the build makes (`declarations`).

All other code imports the modules from here, where the folder is chosen. Only this folder names a register or an
instruction of a processor (a test checks that). It is below everything that generates, loads or runs code: of the rest
of the package it knows what generated code and the runtime agree on, `wasmloom.contract`, and no more.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wasmloom.target.x86_64 import (
        backend,
        code,
        crossings,
        inline_assembly,
        pieces,
        pins,
        registers,
        relocations,
        stubs,
    )

__all__ = [
    "FOLDER", "backend", "code", "crossings", "declarations", "inline_assembly", "pieces", "pins", "registers",
    "relocations", "stubs",
]  # fmt: skip

_MODULES = ("backend", "code", "crossings", "inline_assembly", "pieces", "pins", "registers", "relocations", "stubs")
_DECLARATIONS = ("signal_frame", "stack_frame", "thread")

#: What the kernel calls a processor → its folder.
_FOLDERS = {"x86_64": "x86_64"}

if os.uname().machine not in _FOLDERS:
    raise ImportError(f"wasmloom doesn't run on this processor, {os.uname().machine}: only on {', '.join(_FOLDERS)}")

FOLDER = _FOLDERS[os.uname().machine]


def __getattr__(name: str) -> object:
    """The processor's module of a name. It is loaded when it is first asked for: running bytecode needs few."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"wasmloom.target.{FOLDER}.{name}")


def declarations() -> str:
    """The Cython declarations of the processor: its folder's, and the numbers that Python modules have, too."""
    registers = import_module(f"wasmloom.target.{FOLDER}.registers")
    lines = ["# Generated from wasmloom/target/__init__.py"]
    lines += [f"from wasmloom.target.{FOLDER}.{name} cimport *" for name in _DECLARATIONS]
    lines += ["", "cdef enum:"]
    lines.append(f"    INTEGER_ARGUMENTS = {len(registers.INTEGER_ARGUMENTS)}")
    lines.append(f"    FLOAT_ARGUMENTS = {registers.FLOAT_ARGUMENTS}")
    return "\n".join(lines) + "\n"
