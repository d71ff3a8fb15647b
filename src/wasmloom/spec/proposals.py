"""What files that aren't core modules, or aren't modules at all, are told."""

from __future__ import annotations

from wasmloom.errors import CompileError

#: What a file of the component model is told, by whatever reads it.
COMPONENT = "this is a component; only core modules are supported, such as those that it is made of"


def unknown_opcode(first: int, number: int, offset: int) -> CompileError:
    """The error for an opcode that has no row; `number` is -1 when there is nothing after the first byte."""
    return CompileError(f"illegal opcode {first:02x}" + (f" {number:02x}" if number >= 0 else ""), offset)
