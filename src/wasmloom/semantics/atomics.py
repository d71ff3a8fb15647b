"""The definitions of the atomic instructions. All are sequentially consistent, and LLVM's (builders' `atomic_…`).

These instructions trap if they aren't aligned (the caller of a definition checks that). The second argument, `place`,
is a function that checks the bounds and returns the checked address. Nothing here asks whether the memory is shared: in
one that isn't the same instructions are right, and programs that have them are made for those that are.

Source: threads proposal, "Atomic Memory Instructions" (execution).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from wasmloom.contract.traps import EXPECTED_SHARED_MEMORY, UNALIGNED_ATOMIC
from wasmloom.semantics.registry import operation

V = Any
"""A builder's value: it has a `type`, "i32" or "i64"."""
Place = Callable[[], V]


def _narrow(b: V, x: V, width: str) -> V:
    return x if x.type == width else b.convert("trunc", x, width)


def _widened(b: V, x: V, type: str) -> V:
    return x if x.type == type else b.convert("zext", x, type)


def _load(width: str, type: str) -> Any:
    def define(b: V, place: Place) -> V:
        return _widened(b, b.atomic_load(width, place()), type)

    return define


def _store(width: str) -> Any:
    def define(b: V, place: Place, x: V) -> None:
        b.atomic_store(_narrow(b, x, width), place())

    return define


def _modify(opcode: str, width: str, type: str) -> Any:
    """Write the result of an operation on the old value and an operand; return the old value."""

    def define(b: V, place: Place, x: V) -> V:
        return _widened(b, b.atomic_modify(opcode, _narrow(b, x, width), place()), type)

    return define


def _compare_exchange(width: str, type: str) -> Any:
    """Write the last operand if the accessed bits of the old value are the expected ones; return the old value."""

    def define(b: V, place: Place, expected: V, x: V) -> V:
        old = b.atomic_compare_exchange(_narrow(b, expected, width), _narrow(b, x, width), place())
        return _widened(b, old, type)

    return define


for _type, _bits in (("i32", (32, 8, 16)), ("i64", (64, 8, 16, 32))):
    for _width in _bits:
        _narrower = "" if _type == f"i{_width}" else str(_width)
        _suffix = "_u" if _narrower else ""
        _register = partial(operation, kind="atomic", traps=(UNALIGNED_ATOMIC,) if _width > 8 else ())
        _register(f"{_type}.atomic.load{_narrower}{_suffix}")(_load(f"i{_width}", _type))
        _register(f"{_type}.atomic.store{_narrower}")(_store(f"i{_width}"))
        for _name in ("add", "sub", "and", "or", "xor", "xchg"):
            _register(f"{_type}.atomic.rmw{_narrower}.{_name}{_suffix}")(_modify(_name, f"i{_width}", _type))
        _register(f"{_type}.atomic.rmw{_narrower}.cmpxchg{_suffix}")(_compare_exchange(f"i{_width}", _type))


@operation("memory.atomic.notify", kind="atomic", traps=(UNALIGNED_ATOMIC,))
def notify(b: V, place: Place, count: V) -> V:
    """The runtime looks for those that wait. In a memory that isn't shared there can't be any."""
    address = place()
    b.atomic_load("i32", address)  # the bounds are those of an access
    return b.convert("trunc", b.runtime("notify", address, b.wide(count)), "i32")


@operation(
    "memory.atomic.wait32", "memory.atomic.wait64", kind="atomic", traps=(UNALIGNED_ATOMIC, EXPECTED_SHARED_MEMORY)
)
def wait(b: V, place: Place, expected: V, timeout: V) -> V:
    """Trap, whatever the address: no thread could wake one that waits in a memory that isn't shared.

    Where a memory is shared, both translators read the place, and call a host function (`wasmloom.host.parking`), which
    can wait wherever host functions can.
    """
    b.trap_if(b.const("i1", 1), EXPECTED_SHARED_MEMORY)
    return b.const("i32", 0)
