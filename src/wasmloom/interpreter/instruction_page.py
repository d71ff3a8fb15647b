"""The table of all executed instructions in the documentation: ``python -m wasmloom.interpreter.instruction_page``."""

from __future__ import annotations

from wasmloom.contract.traps import EXPECTED_SHARED_MEMORY, MEMORY_OUT_OF_BOUNDS, TRAP_REASONS
from wasmloom.interpreter.handlers import HandlerSet
from wasmloom.semantics.features import EXECUTED
from wasmloom.semantics.registry import OPERATIONS
from wasmloom.spec.instructions import INSTRUCTIONS

_HEADER = """# Instructions

Every instruction that this version executes, made from the instruction table and the definitions by
`python -m wasmloom.interpreter.instruction_page`. *Handlers* counts the operand and result variants of the
interpreter, fused ones not included; instructions without a number have handlers of their own, or become part of
others.

| opcode | instruction | type | traps | handlers |
|---|---|---|---|---|
"""


def table() -> str:
    """The table as Markdown."""
    counts: dict[str, int] = {}
    handlers = HandlerSet()
    for handler in handlers.handlers[: len(handlers.handlers) - len(handlers.fused)]:
        name = handler.name.removeprefix("br_if.").removeprefix("br_if_not.")
        mnemonic = name if name in OPERATIONS else ".".join(name.split(".")[:2])
        counts[mnemonic] = counts.get(mnemonic, 0) + 1
    rows = []
    for row in INSTRUCTIONS:
        if row.feature not in EXECUTED:
            continue
        opcode = f"{row.prefix:02X} {row.opcode}" if row.prefix else f"{row.opcode:02X}"
        typing = f"@{row.rule}" if row.rule else f"{' '.join(row.params)} → {' '.join(row.results)}".strip()
        operation = OPERATIONS.get(row.mnemonic)
        codes = operation.traps if operation else ()
        accesses = operation is not None and operation.kind in ("load", "store", "atomic")
        if accesses and EXPECTED_SHARED_MEMORY not in codes:
            codes = (*codes, MEMORY_OUT_OF_BOUNDS)
        traps = ", ".join(TRAP_REASONS[code] for code in codes)
        count = counts.get(row.mnemonic, "") if operation else ""
        rows.append(f"| `{opcode}` | `{row.mnemonic}` | {typing} | {traps} | {count} |")
    return _HEADER + "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(table(), end="")
