"""Prints a function's bytecode."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from wasmloom.interpreter.families import Reach
from wasmloom.interpreter.handlers import HandlerSet
from wasmloom.interpreter.isa import FIELD_KINDS, HEADER, Field, Handler
from wasmloom.interpreter.machine import handler_addresses
from wasmloom.interpreter.stack_handlers import CLAUSE, CLAUSE_SWITCH

if TYPE_CHECKING:
    from wasmloom.interpreter.code_space import CodeSpace


def _number(code: bytes, start: int, field: Field) -> int:
    """The number in a field of what begins at `start`."""
    kind = FIELD_KINDS[field.kind]
    at = start + field.offset
    return int.from_bytes(code[at : at + kind.width], "little", signed=kind.signed)


def _text(code: bytes, start: int, field: Field) -> str:
    number = _number(code, start, field)
    if field.kind in ("slot", "dst"):
        return f"{field.name}=s{number}"
    if field.kind == "target":
        return f"→ {start + field.base + number:04x}"
    if field.kind == "ptr":
        return f"{field.name}={number:#x}"
    return f"{field.name}={number}"


def _instruction(code: bytes, start: int, handler: Handler) -> tuple[str, int]:
    """The text of the instruction at `start`, and its size."""
    # Results that stay in the accumulator have a destination field, too, but it means nothing.
    shape = handler.shape
    is_unused = "dst" if handler.name.endswith(tuple(f".a{reach.suffix}" for reach in Reach)) else "array"
    shown = [field for field in shape.fields if field.kind not in (is_unused, "array")]
    text = f"{handler.name} " + " ".join(_text(code, start, field) for field in shown)
    if not shape.has_array:
        return text.rstrip(), shape.size
    if shape.name == "resume":
        count = _number(code, start, shape.field("clause_count"))
        first = start + shape.field("clauses").offset
        clauses = (_clause(code, start, first + CLAUSE.size * i) for i in range(count))
        return f"{text} {' '.join(clauses)}", shape.size + CLAUSE.size * count
    count = _number(code, start, shape.field("count")) + 1
    first = shape.field("targets").offset
    targets = (start + _number(code, start, Field("target", "target", first + 4 * i)) for i in range(count))
    return f"{text} → {' '.join(f'{target:04x}' for target in targets)}", (shape.size + 4 * count + 7) & ~7


def _clause(code: bytes, start: int, at: int) -> str:
    """A handler clause of a `resume` that begins at `start`."""
    tag = _number(code, at, CLAUSE.field("tag"))
    if _number(code, at, CLAUSE.field("kind")) == CLAUSE_SWITCH:
        return f"(on tag={tag} switch)"
    values, target = _number(code, at, CLAUSE.field("values")), start + _number(code, at, CLAUSE.field("target"))
    return f"(on tag={tag} values=s{values} → {target:04x})"


@cache
def _handlers() -> dict[int, Handler]:
    """All handlers by their addresses, which stay; making them takes longer than printing a function."""
    return dict(zip(handler_addresses(), HandlerSet().handlers, strict=True))


def instructions(code: bytes) -> Iterator[tuple[int, Handler, str]]:
    """The instructions of a function's bytecode: offset, handler and text of each."""
    handlers = _handlers()
    at = 0
    while at < len(code):
        handler = handlers[int.from_bytes(code[at : at + HEADER], "little")]
        text, size = _instruction(code, at, handler)
        yield at, handler, text
        at += size


def disassemble(space: CodeSpace, index: int) -> str:
    """The bytecode of function `index` (of those defined in the module), one instruction a line.

    Each line has the offset in the bytecode, the offset in the module of the instruction that it came from, the
    handler and its fields; ``s3`` is slot 3 of the frame. Raises IndexError.
    """
    code, code_map = space.bytecode(index)
    origins = dict(code_map)
    lines = [f"  {at:04x}  @{origins[at]:06x}  {text}" for at, _, text in instructions(code)]
    return "\n".join(lines) + "\n"
