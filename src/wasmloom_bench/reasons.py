"""Why we are behind where we are: one row each, with patterns for the table, the program and the pair.

The first row that matches counts. What nobody has looked into says so.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

_REASONS = (
    ("*/wasmi", "compile_and_validate", "*/wasm3", "wasm3 doesn't validate, and translates a function when it is "
     "first called."),
    ("startup/modules", "*", "*/wasm3", "wasm3 only reads the sections: it doesn't validate."),
    ("startup/modules", "*", "*/Wasmtime, validation only", "this is validation and a module that can run, that "
     "validation alone; by one thread here, where memory for the module's tables is made, too."),
    ("startup/import", "*", "*", "forty modules of machine code are loaded where the other package loads one."),
    ("*", "fibonacci-tail", "*/V8", "V8 turns the tail call to the function itself into a loop that has no look at the "
     "interrupt in it."),
    ("*", "sort*", "*/V8", "V8's code has fewer bounds to check, because it knows what the loop has checked."),
    ("simd/*", "sha256", "*", "12 of the loop's 57 instructions are moves: eight variables change places each round."),
    ("simd/*", "scan", "*", "a loop of ten instructions, two of which look whether the guest is to be interrupted."),
    ("calls/*", "*", "*/Python", "a call of a Python function from Python crosses no border."),
    ("*", "*", "*/C", "C has no bounds checks, no interrupts and all of the processor's registers."),
    ("memory/*", "import", "*", "the engine is some forty modules of machine code, besides the Python modules that the"
     " package uses."),
    ("real/*", "*1,000", "*", "starting: Python, and the import of forty modules, take nearly all of it."),
    ("real/*", "*", "*/wasmi", "a command in Rust starts in a millisecond; Python and its packages take longer."),
    ("compile/optimising", "*", "*", "LLVM is a slow compiler: its passes and back end do more than Cranelift's."),
    ("tiers/*", "*", "auto/*", "part of the time was measured before all of the program was compiled."),
)  # fmt: skip

#: Said where no row matches.
UNKNOWN = "not looked into yet."


def reason(table: str, row: str, pair: tuple[str, str]) -> str:
    """Why the first of the pair is behind the second there."""
    for tables, programs, contenders, why in _REASONS:
        if fnmatchcase(table, tables) and fnmatchcase(row, programs) and fnmatchcase("/".join(pair), contenders):
            return why
    return UNKNOWN
