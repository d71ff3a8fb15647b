"""Listings show the code that is put together for bytecode."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable

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


needs_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86-64 assembly")


def listing(source: str, names: Callable[[int], str | None] = lambda slot: None) -> list[str]:
    module = wl.Module(source, wl.Engine(tier="baseline"))
    return code_listing(module.code_space, 0, names).splitlines()


def listed(source: str) -> dict[str, list[str]]:
    """The lines of each instruction, by its handler's name."""
    parts: dict[str, list[str]] = {}
    name = ""
    for line in listing(source):
        if line.startswith("    "):
            parts[name].append(line.strip())
        elif not line.startswith("  pins:"):
            name = line[6:].split()[0]
            parts[name] = []
    return parts


@needs_x86
def test_code_stands_below_its_bytecode() -> None:
    parts = listed(SOURCE)
    assert "jmp wl_enter_slow@PLT" in parts["enter.1"]
    assert parts["memory_grow"] == ["(left to its handler)"]
    assert f"movabsq ${0x123456789ABCDEF0}, %rax" in parts["const"]
    added = parts["i32.add.si.s+br_if.i32.lt_s.ai.back"]
    assert "movl $77, %esi" in added
    assert "cmpl $1000, %esi" in added
    # What seldom runs is last.
    assert added.index("jmp wl_loop_slow@PLT") == len(added) - 1
    # An offset that no displacement has room for.
    assert [body for name, body in parts.items() if name.startswith("i32.load.")] == [["(left to its handler)"]]
    assert parts["return.a"][-1] == "jmpq *%rax"


def test_only_functions_have_some() -> None:
    module = wl.Module(SOURCE, wl.Engine(tier="baseline"))
    with pytest.raises(IndexError):
        code_listing(module.code_space, 1)


PINNED = """
(module
  (memory 1)
  (func (param i32 i32) (result i32) (local f64)
    (loop
      (local.set 2 (f64.mul (local.get 2) (f64.add (local.get 2) (f64.load (local.get 0)))))
      (i32.store (local.get 0) (i32.add (local.get 1) (local.get 0)))
      (if (i32.eqz (local.get 1)) (then (call 1)))
      (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 8)))))
    (i32.trunc_sat_f64_s (local.get 2)))
  (func))
"""


@needs_x86
def test_pins_and_entries() -> None:
    lines = listing(PINNED, {0: "$address", 2: "$sum"}.get)
    pins = dict(re.findall(r"(\w+) = (s\d+)", lines[0]))
    assert lines[0].startswith("  pins: ") and sorted(pins.values()) == ["s0", "s1", "s2"]
    assert "= s0 ($address)" in lines[0] and "= s2 ($sum)" in lines[0] and re.search(r"= s1(,|$)", lines[0])
    register = {slot: name for name, slot in pins.items()}
    assert register["s0"].startswith("r") and register["s2"].startswith("xmm")
    parts = listed(PINNED)
    # They are loaded at the beginning, read, and written behind what writes the slot.
    assert f"movq 0(%r13), %{register['s0']}" in parts["enter.1"]
    assert any(f"%{register['s1']}" in line for line in parts["i32.add.ss.a+i32.store.sa"])
    assert f"movq %rsi, %{register['s0']}" in parts["i32.sub.si.s+br_if.i32.ne.ai.back"]
    # The function's beginning, the loop's, and what follows the call.
    entries = [line[7:].split()[0] for line in lines if line.startswith(">")]
    assert entries[0] == "enter.1" and len(entries) == 3
    assert "i32.sub.si.s+br_if.i32.ne.ai.back" in entries
