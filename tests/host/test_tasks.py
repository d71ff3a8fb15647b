"""Tasks of waiting guests, which whoever looks into a coroutine's frame can find."""

from __future__ import annotations

import asyncio

import pytest

from tests.compiler.tiers import ENGINES, engine_of, exports_of


@pytest.mark.parametrize("name", ENGINES)
def test_tasks_that_others_have_found(name: str) -> None:
    """The frame of a coroutine is anybody's: its task does nothing that it isn't ready for."""
    go_on = asyncio.Event()

    async def wait(number: int) -> int:
        await go_on.wait()
        return number + 1

    exports = exports_of(
        """(module (import "h" "wait" (func $wait (param i32) (result i32)))
          (func (export "f") (param i32) (result i32) (call $wait (local.get 0))))""",
        engine_of(name),
        {"h": {"wait": wait}},
    )

    async def main() -> None:
        coroutine = exports.f.call_async(3)
        running = asyncio.ensure_future(coroutine)
        await asyncio.sleep(0)
        task = coroutine.cr_frame.f_locals["task"]
        with pytest.raises(RuntimeError, match="begun"):
            task.start((4,))
        go_on.set()
        assert await running == 4
        with pytest.raises(RuntimeError, match="waits for nothing"):
            task.send(4)
        with pytest.raises(RuntimeError, match="begun"):
            task.start((4,))
        with pytest.raises(KeyError):
            task.throw(KeyError(), True)
        task.discard()
        assert await exports.f.call_async(3) == 4

    asyncio.run(main())
