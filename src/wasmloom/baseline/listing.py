"""Prints code: for each instruction of a function's bytecode the assembly of its stencils, with their holes filled.

That is what the copier puts together, in LLVM's words. Not shown are addresses. Needs llvmlite.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from wasmloom.baseline.copier import stencil_variants
from wasmloom.baseline.generator import EXTRA, Listed, stencil_assembly
from wasmloom.baseline.holes import VARIANTS, Symbol, symbol
from wasmloom.baseline.plans import planned
from wasmloom.interpreter.disassembler import instructions
from wasmloom.target import pins

if TYPE_CHECKING:
    from wasmloom.interpreter.code_space import CodeSpace

_HOLE = re.compile(r"\b(?:number|place|target|code|pointer|callee)\.[0-9.]*[0-9]")
_END = re.compile(r"\.Lend_\w+")
#: A number that LLVM has added something to.
_SUM = re.compile(r"(?<![\w%])(-?\d+)([+-]\d+)(?=\()")
#: What is printed for a stencil that leaves an instruction to its handler.
_LEFT = "(left to its handler)"


def _number(code: bytes, at: int, hole: Symbol, width: int, signed: bool) -> int:
    start = at + hole.offset
    return int.from_bytes(code[start : start + width], "little", signed=signed)


def _filler(code: bytes, at: int) -> Callable[[re.Match[str]], str]:
    """What stands in the place of a hole's name, in a stencil whose fields count from an offset."""

    def fill(match: re.Match[str]) -> str:
        hole = symbol(match[0])
        assert hole is not None
        if hole.what == "number":
            return str(hole.scale * _number(code, at, hole, hole.width, bool(hole.signed)))
        if hole.what in ("target", "code"):
            return f"{hole.what}_{at + _number(code, at, hole, 4, True):04x}"
        return f"{hole.what}_{at + hole.offset:04x}"

    return fill


def _keys() -> Callable[[int], tuple[int, str, int]]:
    """What stencils are, by their numbers: number of the handler, variant, mask of roles."""
    starts = sorted(
        (stencil, number // len(VARIANTS), VARIANTS[number % len(VARIANTS)])
        for number, stencil in enumerate(stencil_variants())
        if stencil >= 0
    )

    def key(stencil: int) -> tuple[int, str, int]:
        start, number, variant = starts[bisect_right(starts, (stencil, 1 << 32)) - 1]
        return number, variant, stencil - start

    return key


def _wanted(made_for: dict[int, str], registers: int) -> dict[str, str]:
    """What takes the place of the registers that a stencil was made for; `registers` is a step's."""
    alike = {made: pins.FLOATS if made in pins.FLOATS else pins.INTEGERS for made in made_for.values()}
    numbers = {made: pins.number(made) ^ registers >> 4 * role & 15 for role, made in made_for.items()}
    return {
        made: next(other for other in alike[made] if pins.number(other) == number) for made, number in numbers.items()
    }


def _lines(assembly: Iterable[str], code: bytes, at: int, names: dict[str, str]) -> Iterator[str]:
    """A stencil's assembly with its holes filled, and its registers."""
    fill = _filler(code, at)
    for line in assembly:
        if not _END.fullmatch(line[:-1]):
            line = pins.renamed(_END.sub("following", _HOLE.sub(fill, line)), names)
            line = _SUM.sub(lambda found: str(int(found[1]) + int(found[2])), line)
            yield f"    {line}" if line.endswith(":") else "      " + line.strip().replace("\t", " ")


def _register(pin: int) -> str:
    """The register of a pin's number, from 1 on."""
    return (*pins.INTEGERS, *pins.FLOATS)[pin - 1]


def code_listing(space: CodeSpace, index: int, names: Callable[[int], str | None] = lambda slot: None) -> str:
    """The code of function `index` (of those defined in the module), below the instructions that it is for.

    The first line says which slots are in registers, too; `names` gives what a slot is called, if it has a name. ``>``
    marks entries, where control arrives from elsewhere: pins are loaded first. What seldom runs is last in an
    instruction. ``place_0010`` is the address of the bytecode at that offset, ``target_…`` as well, ``code_…`` that of
    its code, ``pointer_…`` what is in the bytecode there. Raises `IndexError`, and `ValueError` where there is no
    memory for code.
    """
    code, _ = space.bytecode(index)
    plan = planned(space, index)
    key = _keys()
    keys = [key(step.stencil) for step in plan.steps]
    assembly = stencil_assembly({number for number, _, _ in keys})
    leave = len(stencil_variants()) // len(VARIANTS) - len(EXTRA)
    starts = [at for at, _, _ in instructions(code)]
    usual: dict[int, list[str]] = {at: [] for at in starts}
    apart: dict[int, list[str]] = {at: [] for at in starts}
    start = 0
    for step, each in zip(plan.steps, keys, strict=True):
        if step.at is not None:
            start = starts[bisect_right(starts, step.at) - 1]
        if each[0] == leave:
            usual[start].append(f"      {_LEFT}")
            continue
        listed: Listed = assembly[each]
        wanted = _wanted(listed.made_for, step.registers)
        usual[start] += _lines(listed.usual, code, step.fields, wanted)
        apart[start] += _lines(listed.apart, code, step.fields, wanted)
    lines = []
    if plan.pins:
        shown = []
        for slot, pin in plan.pins:
            name = names(slot)
            shown.append(f"{_register(pin)} = s{slot}" + (f" ({name})" if name else ""))
        lines.append(f"  pins: {', '.join(shown)}")
    for at, _, text in instructions(code):
        lines.append(f"{'>' if at in plan.entries else ' '} {at:04x}  {text}")
        lines += usual[at] + apart[at]
    return "\n".join(lines) + "\n"
