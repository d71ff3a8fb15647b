"""What instructions that access memory do, in plain Python: the tests' reading of Core 3.0 (4.4.10) and of the threads
proposal. Nothing is shared with `wasmloom.semantics`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from tests.semantics.reference import WIDTH, Trapped

OUT_OF_BOUNDS = "out of bounds memory access"
UNALIGNED = "unaligned atomic"
NOT_SHARED = "expected shared memory"

_NAME = re.compile(
    r"(?P<type>[if]\d\d)\.(?P<atomic>atomic\.)?(?P<kind>load|store|rmw)(?P<width>\d*)(?:\.(?P<how>[a-z]+))?(?:_(?P<sign>[su]))?"
)
_HOW: dict[str, Callable[[int, int], int]] = {
    "add": lambda old, x: old + x,
    "sub": lambda old, x: old - x,
    "and": lambda old, x: old & x,
    "or": lambda old, x: old | x,
    "xor": lambda old, x: old ^ x,
    "xchg": lambda old, x: x,
}


class Access(NamedTuple):
    """An instruction: what its name says. `kind`: "load", "store", "rmw", "wait" or "notify"."""

    name: str
    type: str
    kind: str
    bytes: int
    atomic: bool = False
    how: str = ""
    signed: bool = False

    @property
    def params(self) -> tuple[str, ...]:
        """The types of the operands behind the address."""
        if self.kind == "wait":
            return (self.type, "i64")
        if self.kind == "load":
            return ()
        return (self.type, self.type) if self.how == "cmpxchg" else (self.type,)

    @property
    def result(self) -> str | None:
        """The type of the result."""
        return None if self.kind == "store" else "i32" if self.kind == "wait" else self.type

    @property
    def align(self) -> int:
        """Log2 of the natural alignment."""
        return self.bytes.bit_length() - 1

    def run(self, memory: bytearray, place: int, *operands: int) -> int | None:
        """Execute it at an effective address, with the bits of the operands. Gives the bits of the result."""
        if self.atomic and place % self.bytes:
            raise Trapped(UNALIGNED)
        if self.kind == "wait":
            raise Trapped(NOT_SHARED)
        if place + self.bytes > len(memory):
            raise Trapped(OUT_OF_BOUNDS)
        if self.kind == "notify":
            return 0
        old = int.from_bytes(memory[place : place + self.bytes], "little")
        mask = (1 << 8 * self.bytes) - 1
        new = old
        if self.how == "cmpxchg":
            new = operands[1] if old == operands[0] & mask else old
        elif self.kind == "rmw":
            new = _HOW[self.how](old, operands[0])
        elif self.kind == "store":
            (new,) = operands
        if self.kind != "load":
            memory[place : place + self.bytes] = (new & mask).to_bytes(self.bytes, "little")
        if self.kind == "store":
            return None
        if self.signed and old > mask >> 1:
            old -= mask + 1
        return old & (1 << WIDTH[self.type]) - 1


def access(name: str) -> Access:
    """The instruction with a name."""
    if name == "memory.atomic.notify":
        return Access(name, "i32", "notify", 4, True)
    if name.startswith("memory.atomic.wait"):
        return Access(name, f"i{name[-2:]}", "wait", int(name[-2:]) // 8, True)
    found = _NAME.fullmatch(name)
    assert found is not None, name
    width = int(found["width"] or WIDTH[found["type"]]) // 8
    atomic = found["atomic"] is not None
    return Access(name, found["type"], found["kind"], width, atomic, found["how"] or "", found["sign"] == "s")


_PACKED = {"i32": ("", "8", "16"), "i64": ("", "8", "16", "32")}
_ATOMICS = [
    *(f"{t}.atomic.load{w}{'_u' if w else ''}" for t in _PACKED for w in _PACKED[t]),
    *(f"{t}.atomic.store{w}" for t in _PACKED for w in _PACKED[t]),
    *(f"{t}.atomic.rmw{w}.{how}{'_u' if w else ''}" for t in _PACKED for w in _PACKED[t] for how in (*_HOW, "cmpxchg")),
    *("memory.atomic.notify", "memory.atomic.wait32", "memory.atomic.wait64"),
]
_PLAIN = [
    *(f"{t}.{kind}" for t in WIDTH for kind in ("load", "store")),
    *(f"{t}.load{w}_{sign}" for t in _PACKED for w in _PACKED[t] if w for sign in "su"),
    *(f"{t}.store{w}" for t in _PACKED for w in _PACKED[t] if w),
]
#: All atomic instructions that access memory, and all loads and stores of numbers.
ATOMICS: list[Access] = [access(name) for name in _ATOMICS]
PLAIN: list[Access] = [access(name) for name in _PLAIN]
