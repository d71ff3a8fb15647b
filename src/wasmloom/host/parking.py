"""The host functions that wait in shared memories: ``memory.atomic.wait32`` and ``memory.atomic.wait64``.

Both translators lower these instructions to calls of them, behind a load that traps where a wait has to (see
`_wait` in `wasmloom.interpreter.value_translator` and in `wasmloom.compiler.lowering`). So a guest waits as in any host
function: Ctrl-C and the store's timeout end it, in `call_async` other tasks run meanwhile, and backtraces show it.

Source: threads proposal, "Wait".
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import ref

from wasmloom.contract.layout import WAITS
from wasmloom.host.shared_memory import SharedMemory
from wasmloom.host.waits import FOREVER, Wait, wait_here
from wasmloom.runtime.sharing import Parked, park
from wasmloom.spec.types import I32, I64, FuncType

#: Address, expected value and timeout as the instructions have them, and the offset; unsigned numbers come signed.
TYPE = FuncType((I64, I64, I64, I64), (I32,))
#: What the instructions return.
_WOKEN, _NOT_EQUAL, _TIMED_OUT = 0, 1, 2

_MASK = (1 << 64) - 1


def waits_in(memory: SharedMemory, store: object) -> list[tuple[str, Callable[..., Any]]]:
    """The functions that wait in a memory for guests of a store, each with its name; in the order of `WAITS`."""
    home: Callable[[], Any] = ref(store)

    def make(width: int) -> Callable[[int, int, int, int], Any]:
        def wait(address: int, expected: int, timeout: int, offset: int) -> int | Coroutine[Any, Any, int]:
            place = memory.address + (address + offset & _MASK)
            parked = park(place, width, expected & _MASK)
            if parked is None:
                return _NOT_EQUAL
            until = FOREVER if timeout < 0 else time.monotonic_ns() + timeout
            how = Wait(((parked, select.POLLIN),), until)
            if home().can_wait:
                return _in_loop(parked, how)
            try:
                wait_here(how)
            finally:
                is_woken = parked.leave()
            return _WOKEN if is_woken else _TIMED_OUT

        return wait

    return [(f"memory.atomic.wait{8 * width}", make(width)) for width in WAITS]


async def _in_loop(parked: Parked, how: Wait) -> int:
    # It loads asyncio, which whoever awaits this has done.
    from wasmloom.host.awaiting import wait_in_loop

    try:
        await wait_in_loop(how)
    finally:
        is_woken = parked.leave()
    return _WOKEN if is_woken else _TIMED_OUT
