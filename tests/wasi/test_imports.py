"""Programs that import more than WASI."""

from __future__ import annotations

import asyncio
import io

import pytest

import wasmloom as wl

PROGRAM = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "env" "answer" (func $answer (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\08\\00\\00\\00\\01\\00\\00\\00")
  (func (export "_start")
    (i32.store8 (i32.const 8) (call $answer))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))))"""


def test_imports_of_its_own(tier: str) -> None:
    output = io.BytesIO()
    with wl.Wasi(stdout=output) as wasi:
        assert wasi.run(wl.Module(PROGRAM), {"env": {"answer": lambda: 42}}) == 0
        instance = wasi.instantiate(wl.Module(PROGRAM), {"env": {"answer": lambda: 43}})
        assert wasi.start(instance) == 0
        with pytest.raises(wl.LinkError, match=r"unknown imports: env\.answer \(func\)"):
            wasi.run(wl.Module(PROGRAM))
        with pytest.raises(TypeError, match="by their names"):
            wasi.run(wl.Module(PROGRAM), [print, print])
    assert output.getvalue() == b"*+"


def test_functions_that_wait() -> None:
    output = io.BytesIO()

    async def answer() -> int:
        await asyncio.sleep(0)
        return 65

    with wl.Wasi(stdout=output) as wasi:
        assert asyncio.run(wasi.run_async(wl.Module(PROGRAM), {"env": {"answer": answer}})) == 0
    assert output.getvalue() == b"A"


def test_own_functions_come_before_those_of_wasi() -> None:
    seen = []

    def write(*arguments: int) -> int:
        seen.append(arguments)
        return 0

    imports = {"env": {"answer": lambda: 1}, "wasi_snapshot_preview1": {"fd_write": write}}
    with wl.Wasi() as wasi:
        wasi.run(wl.Module(PROGRAM), imports)
    assert seen == [(1, 0, 1, 32)]
