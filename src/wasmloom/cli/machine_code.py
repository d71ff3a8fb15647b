"""The compiler's output for functions, as text for people."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wasmloom.compiler import units
from wasmloom.compiler.bodies import read_body
from wasmloom.compiler.facts import Facts
from wasmloom.compiler.options import Options
from wasmloom.messages import printable
from wasmloom.spec.instructions import INSTRUCTIONS

if TYPE_CHECKING:
    from wasmloom.binary.decoder import DecodedModule

_PLACE = re.compile(r"\t\.loc\s\d+ (\d+)")
_LABEL = re.compile(r"\.L\w+")
_CALLEE = re.compile(r"\bwf\.(\d+)(?!\w)")


def _is_code(line: str) -> bool:
    """Whether a line of assembly is an instruction."""
    return line[:1] == "\t" and line[1] not in ".#"


class MachineCode:
    """Texts of functions of a valid module, by their number among those defined in it. Raises `UnsupportedError`."""

    def __init__(self, module: DecodedModule, options: Options, names: dict[int, str]) -> None:
        self.module = module
        self.options = options
        self.names = names
        self.facts = Facts(module)

    def ir(self, number: int) -> str:
        """The LLVM IR of a function, with the rest of its unit."""
        return units.unit_text(self.facts, self.options, [number], False)

    def assembly(self, number: int) -> str:
        """The instructions of a function, below the Wasm instructions that they are for, each with its offset.

        Of LLVM's assembly only labels and instructions are kept.
        """
        mnemonics = {instr.offset: INSTRUCTIONS[instr.row].mnemonic for instr in read_body(self.module, number)[1]}
        lines = units.assembly(self.facts, self.options, [number]).splitlines()
        end = lines.index(f"\t.size\twf.{number}, .Lfunc_end0-wf.{number}")
        lines = lines[lines.index(f"wf.{number}:") + 1 : end]
        used = {name for line in lines if _is_code(line) for name in _LABEL.findall(line)}
        shown = []
        place = 0
        for line in lines:
            if found := _PLACE.match(line):
                now = int(found[1])
                if now != place and now:
                    shown.append(f"  0x{now:06x} {mnemonics.get(now, '')}")
                place = now
            elif _is_code(line):
                shown.append("      " + line.strip().replace("\t", " ") + self._callee(line))
            elif line.partition(":")[0] in used:
                shown.append(f"    {line}")
        return "\n".join(shown)

    def _callee(self, line: str) -> str:
        """A comment that names the function that an instruction calls."""
        found = _CALLEE.search(line)
        name = found and self.names.get(int(found[1]) + self.module.num_imported_funcs)
        return f"  # {printable(name)}" if name else ""
