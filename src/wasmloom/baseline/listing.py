"""Prints code: for each instruction of a function's bytecode the assembly of its stencils, with their holes filled.

That is what the copier puts together, in LLVM's words. Not shown is where code lies, which calls go to the code of
their callee, and which slots are in registers. Needs llvmlite.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from wasmloom.baseline.generator import stencil_assembly
from wasmloom.baseline.holes import Symbol, symbol, value_range
from wasmloom.interpreter.disassembler import instructions
from wasmloom.interpreter.handlers import HandlerSet
from wasmloom.interpreter.isa import HEADER

if TYPE_CHECKING:
    from wasmloom.interpreter.code_space import CodeSpace

_HOLE = re.compile(r"\b(?:number|place|target|code|pointer|callee)\.[0-9.]*[0-9]")
_END = re.compile(r"\.Lend_\w+")


def _number(code: bytes, at: int, hole: Symbol, width: int, signed: bool) -> int:
    start = at + hole.offset
    return int.from_bytes(code[start : start + width], "little", signed=signed)


def _fits(code: bytes, at: int, text: str) -> bool:
    """Whether all numbers fit their holes."""
    for name in _HOLE.findall(text):
        hole = symbol(name)
        if hole is not None and hole.what == "number" and hole.small:
            low, high = value_range(hole)
            if not low <= _number(code, at, hole, hole.width, bool(hole.signed)) < high:
                return False
    return True


def _filler(code: bytes, at: int) -> Callable[[re.Match[str]], str]:
    """What stands in the place of a hole's name."""

    def fill(match: re.Match[str]) -> str:
        hole = symbol(match[0])
        assert hole is not None
        if hole.what == "number":
            return str(hole.scale * _number(code, at, hole, hole.width, bool(hole.signed)))
        if hole.what in ("target", "code"):
            return f"{hole.what}_{at + _number(code, at, hole, 4, True):04x}"
        return f"{hole.what}_{at + hole.offset:04x}"

    return fill


def code_listing(space: CodeSpace, index: int) -> str:
    """The code of function `index` (of those defined in the module), below the instructions that it is for.

    ``place_0010`` is the address of the bytecode at that offset, ``target_…`` as well, ``code_…`` that of its code,
    ``pointer_…`` what is in the bytecode there. Raises IndexError.
    """
    code, _ = space.bytecode(index)
    handlers = HandlerSet()
    numbers: dict[str, tuple[int, ...]]
    numbers = {handler.name: (number,) for number, handler in enumerate(handlers.handlers)}
    numbers |= {handlers.handlers[number].name: pair for pair, number in handlers.fused.items()}
    found = [(at, text, numbers[handler.name]) for at, handler, text in instructions(code)]
    assembly = stencil_assembly({number for _, _, pair in found for number in pair})
    lines = []
    for at, text, pair in found:
        lines.append(f"  {at:04x}  {text}")
        body: list[str] = []
        start = at
        for number in pair:
            variants = [assembly[number, name] for name in ("plain", "wide") if (number, name) in assembly]
            chosen = next((lines for lines in variants if _fits(code, start, "\n".join(lines))), None)
            if chosen is None:
                body = ["        (left to its handler)"]
                break
            fill = _filler(code, start)
            body += [_END.sub("following", _HOLE.sub(fill, line)) for line in chosen if not _END.fullmatch(line[:-1])]
            start += handlers.handlers[number].shape.size - HEADER
        lines += [f"    {line}" if line.endswith(":") else "      " + line.strip().replace("\t", " ") for line in body]
    return "\n".join(lines) + "\n"
