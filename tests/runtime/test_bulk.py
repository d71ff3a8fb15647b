"""Bulk instructions against models of their own: bytearrays and lists."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import wasmloom as wl

PAGE = 65536
DATA = bytes(range(1, 40))
DATA_TEXT = "".join(f"\\{byte:02x}" for byte in DATA)
MODULE = wl.Module(f"""(module
  (memory (export "m") 1 3) (memory (export "n") 1) (data $d "{DATA_TEXT}")
  (table $t (export "t") 10 20 externref) (table $u (export "u") 5 externref)
  (elem $e externref (ref.null extern) (ref.null extern))
  (func (export "fill") (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
  (func (export "copy") (param i32 i32 i32) (memory.copy (local.get 0) (local.get 1) (local.get 2)))
  (func (export "copy2") (param i32 i32 i32) (memory.copy 1 0 (local.get 0) (local.get 1) (local.get 2)))
  (func (export "init") (param i32 i32 i32) (memory.init $d (local.get 0) (local.get 1) (local.get 2)))
  (func (export "drop") (data.drop $d))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "tfill") (param i32 externref i32) (table.fill $t (local.get 0) (local.get 1) (local.get 2)))
  (func (export "tcopy") (param i32 i32 i32) (table.copy $t $t (local.get 0) (local.get 1) (local.get 2)))
  (func (export "tcopy2") (param i32 i32 i32) (table.copy $u $t (local.get 0) (local.get 1) (local.get 2)))
  (func (export "tinit") (param i32 i32 i32) (table.init $t $e (local.get 0) (local.get 1) (local.get 2)))
  (func (export "edrop") (elem.drop $e))
  (func (export "tgrow") (param externref i32) (result i32) (table.grow $t (local.get 0) (local.get 1))))""")

addresses = st.one_of(
    st.integers(0, 64), st.integers(PAGE - 40, PAGE + 8), st.integers(0, 3 * PAGE), st.integers(2**32 - 50, 2**32 - 1)
)
counts = st.one_of(st.integers(0, 50), st.integers(0, PAGE), st.integers(2**32 - 100, 2**32 - 1))
small = st.one_of(st.integers(0, 24), st.integers(2**32 - 12, 2**32 - 1))


class Bulk(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.exports: Any = wl.Instance(MODULE).exports
        self.m, self.n = bytearray(PAGE), bytearray(PAGE)
        self.data = DATA
        self.t: list[object] = [None] * 10
        self.u: list[object] = [None] * 5
        self.elements = 2

    def check(self, name: str, fits: bool, *arguments: object) -> bool:
        if fits:
            self.exports[name](*arguments)
        else:
            with pytest.raises(wl.Trap, match=r"out of bounds (memory|table) access"):
                self.exports[name](*arguments)
        return fits

    @rule(to=addresses, byte=st.integers(0, 2**32 - 1), n=counts)
    def fill(self, to: int, byte: int, n: int) -> None:
        if self.check("fill", to + n <= len(self.m), to, byte, n):
            self.m[to : to + n] = bytes([byte & 0xFF]) * n

    @rule(to=addresses, source=addresses, n=counts)
    def copy(self, to: int, source: int, n: int) -> None:
        if self.check("copy", max(to, source) + n <= len(self.m), to, source, n):
            self.m[to : to + n] = self.m[source : source + n]

    @rule(to=addresses, source=addresses, n=counts)
    def copy_between(self, to: int, source: int, n: int) -> None:
        if self.check("copy2", to + n <= len(self.n) and source + n <= len(self.m), to, source, n):
            self.n[to : to + n] = self.m[source : source + n]

    @rule(to=addresses, source=small, n=small)
    def init(self, to: int, source: int, n: int) -> None:
        if self.check("init", to + n <= len(self.m) and source + n <= len(self.data), to, source, n):
            self.m[to : to + n] = self.data[source : source + n]

    @rule()
    def drop(self) -> None:
        self.exports.drop()
        self.data = b""

    @rule(pages=st.one_of(st.integers(0, 3), st.integers(2**32 - 2, 2**32 - 1)))
    def grow(self, pages: int) -> None:
        old = len(self.m) // PAGE
        fits = old + pages <= 3
        assert self.exports.grow(pages) == (old if fits else -1)
        if fits:
            self.m += bytes(pages * PAGE)

    @rule(to=small, value=st.integers(), n=small)
    def table_fill(self, to: int, value: int, n: int) -> None:
        if self.check("tfill", to + n <= len(self.t), to, value, n):
            self.t[to : to + n] = [value] * n

    @rule(to=small, source=small, n=small)
    def table_copy(self, to: int, source: int, n: int) -> None:
        if self.check("tcopy", max(to, source) + n <= len(self.t), to, source, n):
            self.t[to : to + n] = self.t[source : source + n]

    @rule(to=small, source=small, n=small)
    def table_copy_between(self, to: int, source: int, n: int) -> None:
        if self.check("tcopy2", to + n <= len(self.u) and source + n <= len(self.t), to, source, n):
            self.u[to : to + n] = self.t[source : source + n]

    @rule(to=small, source=small, n=small)
    def table_init(self, to: int, source: int, n: int) -> None:
        if self.check("tinit", to + n <= len(self.t) and source + n <= self.elements, to, source, n):
            self.t[to : to + n] = [None] * n

    @rule()
    def elem_drop(self) -> None:
        self.exports.edrop()
        self.elements = 0

    @rule(value=st.text(), n=small)
    def table_grow(self, value: str, n: int) -> None:
        fits = len(self.t) + n <= 20
        assert self.exports.tgrow(value, n) == (len(self.t) if fits else -1)
        if fits:
            self.t += [value] * n

    @invariant()
    def same(self) -> None:
        if hasattr(self, "exports"):
            assert self.exports.m[:] == self.m
            assert self.exports.n[:] == self.n
            assert list(self.exports.t) == self.t
            assert list(self.exports.u) == self.u


Bulk.TestCase.settings = settings(max_examples=40, stateful_step_count=20)
TestBulk = Bulk.TestCase


@given(st.integers(-(2**31), 2**32 - 1))
def test_loads_at_any_address(address: int) -> None:
    at = address & 0xFFFFFFFF
    assert LOADS.put(100, 0x0102030405060708) is None
    if at + 8 <= PAGE:
        assert LOADS.load(address) == int.from_bytes(LOADS.m[at : at + 8], "little", signed=True)
    else:
        with pytest.raises(wl.Trap, match="out of bounds memory access"):
            LOADS.load(address)
        with pytest.raises(wl.Trap, match="out of bounds memory access"):
            LOADS.put(address, -1)
    with pytest.raises(wl.Trap, match="out of bounds memory access"):
        LOADS.far(address)


LOADS: Any = wl.Instance(
    wl.Module("""(module (memory (export "m") 1)
      (func (export "load") (param i32) (result i64) (i64.load (local.get 0)))
      (func (export "put") (param i32 i64) (i64.store (local.get 0) (local.get 1)))
      (func (export "far") (param i32) (result i64) (i64.load offset=0xffffffff (local.get 0))))""")
).exports
