"""Prints bytecode: what a function became."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wasmloom.interpreter.handlers import HandlerSet
from wasmloom.interpreter.isa import Field, Handler
from wasmloom.interpreter.machine import handler_addresses
from wasmloom.interpreter.stack_handlers import CLAUSE_SIZE, CLAUSE_SWITCH, CLAUSES_AT

if TYPE_CHECKING:
    from wasmloom.interpreter.code import CodeSpace

_WIDTHS = {"dst": 2, "slot": 2, "u16": 2, "u32": 4, "target": 4, "imm32": 4, "imm64": 8, "ptr": 8}
_SIGNED = ("target", "imm32")


def _number(code: bytes, at: int, kind: str) -> int:
    return int.from_bytes(code[at : at + _WIDTHS[kind]], "little", signed=kind in _SIGNED)


def _text(code: bytes, start: int, field: Field) -> str:
    number = _number(code, start + field.offset, field.kind)
    if field.kind in ("slot", "dst"):
        return f"{field.name}=s{number}"
    if field.kind == "target":
        return f"→ {start + field.base + number:04x}"
    if field.kind == "ptr":
        return f"{field.name}={number:#x}"
    return f"{field.name}={number}"


def _instruction(code: bytes, start: int, handler: Handler) -> tuple[str, int]:
    """The text of the instruction at `start`, and its size."""
    # Results that stay in the accumulator have a destination field all the same; it means nothing.
    fields = [field for field in handler.fields if not (field.kind == "dst" and handler.name.endswith((".a", ".a.m")))]
    text = f"{handler.name} " + " ".join(_text(code, start, field) for field in fields)
    if handler.size:
        return text.rstrip(), handler.size
    if handler.name.startswith("resume"):
        count = _number(code, start + handler.field("clauses").offset, "u16")
        entries = (start + CLAUSES_AT + CLAUSE_SIZE * i for i in range(count))
        return f"{text} {' '.join(_clause(code, start, entry) for entry in entries)}", CLAUSES_AT + CLAUSE_SIZE * count
    count = _number(code, start + 12, "u32") + 1
    targets = (start + _number(code, start + 16 + 4 * i, "target") for i in range(count))
    return f"{text} → {' '.join(f'{target:04x}' for target in targets)}", (16 + 4 * count + 7) & ~7


def _clause(code: bytes, start: int, at: int) -> str:
    """A handler clause of `resume` (see `wasmloom.interpreter.stack_handlers`)."""
    tag = _number(code, at, "u32")
    if _number(code, at + 4, "u16") == CLAUSE_SWITCH:
        return f"(on tag={tag} switch)"
    values, target = _number(code, at + 6, "u16"), start + _number(code, at + 8, "target")
    return f"(on tag={tag} values=s{values} → {target:04x})"


def disassemble(space: CodeSpace, index: int) -> str:
    """The bytecode of function `index` (of those defined in the module), one instruction a line.

    Each line has the offset in the bytecode, the offset in the module of the instruction that it came from, the
    handler and its fields; ``s3`` is slot 3 of the frame. Raises IndexError.
    """
    code, code_map = space.bytecode(index)
    handlers = dict(zip(handler_addresses(), HandlerSet().handlers, strict=True))
    origins = dict(code_map)
    lines = []
    at = 0
    while at < len(code):
        handler = handlers[int.from_bytes(code[at : at + 8], "little")]
        text, size = _instruction(code, at, handler)
        lines.append(f"  {at:04x}  @{origins[at]:06x}  {text}")
        at += size
    return "\n".join(lines) + "\n"
