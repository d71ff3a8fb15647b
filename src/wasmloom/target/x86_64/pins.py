"""Registers that hold slots in the baseline tier's code: which there are, and how code is made for any of them.

Handlers have the first seven parameters of their calling convention. Those behind them have registers, too, some of
which are all alike: the number of such a register is in a field of the instructions that use it, and nothing else of
them depends on it (those with low numbers of the general ones would have shorter instructions, and two of the high ones
longer addresses). So code for one of them becomes code for another by exclusive or with the difference of their
numbers. No instruction that LLVM emits uses one of them without naming it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

#: The parameters behind those of handlers: LLVM's type, and the register. Some are in the way only.
PARAMETERS = (
    ("i64", "rdx"), ("i64", "rcx"), ("i64", "r8"), ("i64", "r9"), ("i64", "r11"), ("i64", "rax"), ("ptr nest", "r10"),
    *(("<2 x double>", f"xmm{number}") for number in range(1, 7)),
)  # fmt: skip

#: Those that are alike, of integers and of floats, in the order of their numbers.
INTEGERS = ("r8", "r9", "r10", "r11")
FLOATS = ("xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6")

_NUMBERS = {"r8": 0, "r9": 1, "r10": 2, "r11": 3} | {f"xmm{number}": number for number in range(1, 7)}
_REGISTER = re.compile(r"%(r8|r9|r10|r11|xmm[1-6])([dwb]?)\b")
_LAST = re.compile(r"[\s,](%\w+)\s*$")
#: What writes nothing but flags, or goes elsewhere.
_READING = re.compile(r"\s*(cmp|test|bt[lqw]|v?u?comis|v?ptest|jmp|push|i?div[bwlq]\s|i?mul[bwlq]\s+[^,]*$)")
_COPY = re.compile(rf"\s*v?mov[lqaup][ps]?[ds]?\s+{_REGISTER.pattern},")

#: The bits of an instruction's byte at which there may be a register's number.
FIELDS = (0, 3)


def number(register: str) -> int:
    """The number of one of the registers that are alike: what its field has, less what all of them have."""
    return _NUMBERS[register]


def named(line: str) -> set[str]:
    """The registers that are alike which a line of assembly names."""
    return {match[1] for match in _REGISTER.finditer(line)}


def written(line: str) -> set[str]:
    """Those that a line of assembly gives another value: its last operand, if that is a register.

    Not what it copies from another one of them: when both are the same nothing changes.
    """
    match = _LAST.search(line)
    return named(match[1]) if match and not _READING.match(line) and not _COPY.match(line) else set()


def renamed(line: str, names: Mapping[str, str]) -> str:
    """A line of assembly with other registers in the place of those."""
    return _REGISTER.sub(lambda match: f"%{names.get(match[1], match[1])}{match[2]}", line)
