"""Functions that are compiled when they are first called: stubs that others can call before there is code.

Each function has a stub, which notes the function's number and jumps through a slot (`wasmloom.target.code`). At first
the slot holds the address of ``wl_lazy`` (`wasmloom.target.stubs`), which has the function compiled; then it holds the
address of the function's code.

Invariants: the stubs' pages are never written once they can be executed. A slot changes by one aligned store of a word,
so a thread that jumps meanwhile sees one address or the other. Stubs are like code: whatever holds an address of one
holds `memory` (see `wasmloom.runtime.codememory`).
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence

from wasmloom.compiler.objects import PAGE, ObjectError
from wasmloom.contract.layout import FIELD_BYTES
from wasmloom.runtime.codememory import CodeMemory
from wasmloom.target import code


class LazyFunctions:
    """The stubs of some functions, by number."""

    def __init__(self, functions: Sequence[int], otherwise: int, first: int = 0) -> None:
        """`otherwise`: the address that stubs jump to until there is code; they tell it a function's number, counted
        from `first`. Raises `ObjectError`."""
        pages = -(-len(functions) * code.LAZY_STUB_SIZE // PAGE) * PAGE
        try:
            self.memory = CodeMemory(pages + FIELD_BYTES * len(functions))
        except OSError as error:
            raise ObjectError(f"no memory for {len(functions)} stubs of functions: {error}") from None
        base: int = self.memory.address
        self._positions = {function: position for position, function in enumerate(functions)}
        self._slots = base + pages
        #: The address of each function's stub, in their order, for callers that have the function's struct.
        self.through = range(base, base + len(functions) * code.LAZY_STUB_SIZE, code.LAZY_STUB_SIZE)
        for position, function in enumerate(functions):
            at, slot = position * code.LAZY_STUB_SIZE, pages + FIELD_BYTES * position
            code.write_lazy_stub(self.memory, at, first + function, slot - at)
        with memoryview(self.memory) as view:
            view[pages:] = array("Q", [otherwise] * len(functions)).tobytes()
        self.memory.make_executable(pages)

    def stub(self, function: int) -> int:
        """The address of a function's stub for callers that have the instance as environment."""
        return self.through[self._positions[function]] + code.LAZY_STUB_ENTRY

    def set(self, function: int, address: int) -> None:
        """Make a function's stub jump to its code."""
        slot = self._slots + FIELD_BYTES * self._positions[function]
        ctypes.c_uint64.from_address(slot).value = address
