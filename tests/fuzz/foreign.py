"""Compares the tiers and Wasmtime on modules that others have generated, such as ``wasm-tools smith`` does.

``python -m tests.fuzz.foreign FOLDER`` takes all ``*.wasm`` in the folder. Modules must not import anything, should end
(wasm-smith: `ensure_termination`), and have no NaN's bits in view (`canonicalize_nans`). All exported functions that
take and give nothing but numbers are called, in order, with values that are worth trying.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from pathlib import Path

import wasmloom as wl
from tests.fuzz.choices import Choices
from tests.fuzz.differential import COMPILED, PROGRAMS, VARIANTS, Peer, difference
from tests.fuzz.generator import Call, Program
from tests.fuzz.operands import INTERESTING, NUMBERS
from wasmloom.spec.types import F32, F64, FuncType, ValType

CALLS = 3


def argument(choices: Choices, type: ValType) -> float:
    """A value for a parameter."""
    if type in (F32, F64):
        return float(choices.pick((0, 1, -1, 0.5, 1e10, -(2.0**31), 2.0**63, -(2.0**40))))
    return choices.pick(INTERESTING[type])


def program(data: bytes, seed: str) -> Program | None:
    """Calls of a module's functions; None when this version doesn't execute it."""
    try:
        module = wl.Module(data)
    except wl.CompileError as error:
        if isinstance(error, wl.ValidationError):
            raise
        return None
    choices = Choices(seed)
    calls = []
    for export in module.exports:
        if isinstance(export.type, FuncType) and set(export.type.params + export.type.results) <= set(NUMBERS):
            for _ in range(CALLS if export.type.params else 1):
                calls.append(Call(0, export.name, tuple(argument(choices, type) for type in export.type.params)))
    return Program((data,), tuple(calls))


def main() -> int:
    peer = Peer()
    counts: Counter[str] = Counter()
    for path in sorted(Path(sys.argv[1]).glob("*.wasm")):
        try:
            made = program(path.read_bytes(), path.name)
            what = None if made is None else difference(peer, made, (*VARIANTS[:2], *COMPILED))
        except Exception:
            what = traceback.format_exc(limit=-3)
            made = Program((), ())
        if what is not None and "exhausted" in what:  # how deep one can call is each engine's own affair
            counts["too deep"] += 1
        elif what is not None:
            counts["differ"] += 1
            print(f"{path}: {what}", flush=True)
        counts["not executed" if made is None else PROGRAMS] += 1
    print(", ".join(f"{number} {name}" for name, number in counts.items()))
    return 1 if counts["differ"] else 0


if __name__ == "__main__":
    sys.exit(main())
