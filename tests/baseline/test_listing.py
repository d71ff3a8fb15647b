"""Listings show the code that is put together for bytecode."""

from __future__ import annotations

import platform

import pytest

import wasmloom as wl
from wasmloom.baseline.listing import code_listing

pytest.importorskip("llvmlite")

SOURCE = """
(module
  (memory 1)
  (func (param i32) (result i32) (local i64)
    (drop (memory.grow (i32.const 0)))
    (local.set 1 (i64.const 0x123456789abcdef0))
    (loop (br_if 0 (i32.lt_s (local.tee 0 (i32.add (local.get 0) (i32.const 77))) (i32.const 1000))))
    (i32.load offset=0xfffffff0 (local.get 0))))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86-64 assembly")
def test_code_stands_below_its_bytecode() -> None:
    module = wl.Module(SOURCE, wl.Engine(tier="interpreter"))
    parts: dict[str, list[str]] = {}
    for line in code_listing(module.code_space, 0).splitlines():
        if not line.startswith("    "):
            parts[line.split()[1]] = found = []
        else:
            found.append(line.strip())
    assert "jmp wl_enter_slow@PLT" in parts["enter.1"]
    assert parts["memory_grow"] == ["(left to its handler)"]
    assert f"movabsq ${0x123456789ABCDEF0}, %rax" in parts["const"]
    added = parts["i32.add.si.s+br_if.i32.lt_s.ai.back"]
    assert "movl $77, %esi" in added
    assert "cmpl $1000, %esi" in added
    # An offset that no displacement has room for.
    assert [body for name, body in parts.items() if name.startswith("i32.load.")] == [["(left to its handler)"]]
    assert parts["return.a"][-1] == "jmpq *%rax"


def test_only_functions_have_some() -> None:
    module = wl.Module(SOURCE, wl.Engine(tier="interpreter"))
    with pytest.raises(IndexError):
        code_listing(module.code_space, 1)
