"""Why we are behind where we are: one row each, with patterns for the table, the program and the pair.

The first row that matches counts. What nobody has looked into says so.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

_REASONS = (
    ("*/wasmi", "compile_and_validate", "*/wasm3", "wasm3 doesn't validate, and translates a function when it is "
     "first called."),
    ("*/wasmi", "recursive_trap", "*", "the trap names all of its thousand frames; Wasmtime names 20, wasm3 none."),
    ("tiers/*", "*", "baseline/Liftoff", "stencils keep values in slots, and only a function's hottest in registers."),
    ("real/commands*", "*,000,000", "auto*", "Python's start, and a loop that is entered once: to go on in its "
     "middle, code must be made, also when the module's code is cached."),
    ("real/packages*", "*", "auto/V8", "the first functions are compiled when much of the program is over."),
    ("real/*", "*", "baseline/Liftoff", "starting Python, and slots (see above)."),
    ("startup/modules", "*", "*/wasm3", "wasm3 only reads the sections: it doesn't validate."),
    ("startup/modules", "*", "*/Wasmtime, validation only", "this makes a module that can run, too."),
    ("startup/import", "*", "*", "some sixty modules of machine code are loaded where the other package loads one."),
    ("memory/bytes", "import", "*", "some sixty modules of machine code are loaded where the other package loads one."),
    ("simd/*", "sha256", "*", "12 of the loop's 57 instructions are moves: eight variables change places each round."),
    ("simd/*", "scan", "*", "a loop of ten instructions, two of which look whether the guest is to be interrupted."),
    ("calls/await", "*", "*/Python", "a guest's await includes one of Python's."),
    ("calls/inside", "*", "interpreter/Wasmtime", "an interpreter beside compiled code."),
    ("calls/buffers", "*", "*/wasm3", "bounds, buffers of any kind, and memories that may move are looked at."),
    ("calls/*", "*", "*/Python", "a call of a Python function from Python crosses no border."),
    ("real/*", "*1,000", "*", "Python, and the import of some sixty modules, take nearly all of it."),
    ("real/*", "*", "*/wasmi", "the command starts in a millisecond; Python and its packages take longer."),
    ("switching/short", "call_ref instead", "*/V8", "V8 puts the function in the place of its call, and drops what the "
     "loop does."),
    ("compile/optimising", "*", "*", "LLVM is a slow compiler; see measurements.md."),
    ("objects/programs", "strings", "*/V8", "copies of more than 16 elements call the runtime, and arrays of more than "
     "8 KiB have a mapping each, whose pages the system has to find."),
    ("*", "*", "*/C", "C can't be interrupted or limited, and is compiled with this processor's instructions."),
)  # fmt: skip

#: Said where no row matches.
UNKNOWN = "not looked into yet."


def reason(table: str, row: str, pair: tuple[str, str]) -> str:
    """Why the first of the pair is behind the second there."""
    for tables, programs, contenders, why in _REASONS:
        if fnmatchcase(table, tables) and fnmatchcase(row, programs) and fnmatchcase("/".join(pair), contenders):
            return why
    return UNKNOWN
