"""Instructions of a body as the compiler has them, and what is to be known of loops before they are lowered."""

from __future__ import annotations

from typing import NamedTuple

from wasmloom.spec.instructions import BY_MNEMONIC, INSTRUCTIONS

#: Rows of the instruction table: those that open a block, and those that end one.
OPENS = frozenset(BY_MNEMONIC[name].index for name in ("block", "loop", "if", "try_table", "try"))
CLOSES = frozenset(BY_MNEMONIC[name].index for name in ("end", "delegate"))
#: Those that others than the instruction before may lead to.
PARTS = CLOSES | {BY_MNEMONIC[name].index for name in ("else", "catch", "catch_all")}
_LOOP = BY_MNEMONIC["loop"].index
_WRITES = frozenset(BY_MNEMONIC[name].index for name in ("local.set", "local.tee"))

#: Of so many loops inside each other it is known which locals are written in them.
MOST_LOOPS = 100

#: A short loop has its body so often, one after the other: that spares the look at the interrupt flag in all but one
#: round, and moves of what one round gives to the next. Bytes of bodies that are short.
ROUNDS = 4
SHORT = 40
#: What isn't in a loop that is worth it: other loops, and what takes much longer than a round otherwise does.
_LONG = frozenset(
    row
    for name, row in ((row.mnemonic, row.index) for row in INSTRUCTIONS)
    if name in ("loop", "try_table", "try", "suspend", "switch", "throw", "throw_ref", "rethrow")
    or "call" in name
    or name.startswith(("memory.", "table.", "cont.", "resume"))
)


class Instr(NamedTuple):
    """An instruction: its row in the instruction table, its offset in the module, its immediates.

    `a` to `d` are those of `wasmloom.binary.reader` as unsigned 64-bit numbers; `items` is the vector immediate as a
    list of numbers (labels, value types) or of (kind, tag, label) clauses, None where there is none.
    """

    row: int
    offset: int
    a: int
    b: int
    c: int
    d: int
    items: list[int] | list[tuple[int, int, int]] | None


def rounds(body: list[Instr]) -> dict[int, int]:
    """The short loops of a body (see `ROUNDS`): by their offset, where what is in them begins in the list."""
    found: dict[int, int] = {}
    for start, instr in enumerate(body):
        if instr.row != _LOOP:
            continue
        depth = 1
        for inner in body[start + 1 : start + 1 + SHORT]:
            if inner.row in _LONG:
                break
            depth += (inner.row in OPENS) - (inner.row in CLOSES)
            if not depth:
                if inner.offset - instr.offset <= SHORT:
                    found[instr.offset] = start + 1
                break
    return found


def written_in_loops(body: list[Instr]) -> tuple[dict[int, set[int]], int]:
    """The locals that each loop writes, by its offset, for `MOST_LOOPS` loops inside each other; how deep they lie."""
    found: dict[int, set[int]] = {}
    # For each open block the loop around it, from outermost; what isn't in a loop is in one that isn't there.
    loops: list[tuple[int, set[int]]] = []
    blocks = [False]
    written: set[int] = set()
    deepest = 0
    for instr in body:
        row = instr.row
        if row in _WRITES:
            written.add(instr.a)
        elif row == _LOOP:
            loops.append((instr.offset, written))
            deepest = max(deepest, len(loops))
            blocks.append(True)
            written = set()
        elif row in OPENS:
            blocks.append(False)
        elif row in CLOSES and blocks.pop():
            offset, outer = loops.pop()
            if len(loops) < MOST_LOOPS:
                found[offset] = written
                outer |= written
                written = outer
            elif len(outer) < len(written):
                written |= outer
            else:
                outer |= written
                written = outer
    return found, deepest
