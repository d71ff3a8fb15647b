"""Whatever the bytes: the decoder and the validator end in a `CompileError` or accept, and stay usable."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.binary.build import HEADER, function
from wasmloom.binary.decoder import decode_module
from wasmloom.errors import CompileError
from wasmloom.text.parser import parse_module
from wasmloom.validation import validate_module

SEEDS = [
    parse_module(text).binary
    for text in (
        """(module (type $f (func (param i32) (result i32))) (import "m" "n" (func (type $f)))
          (table 3 funcref) (memory 1) (global (mut i64) (i64.const 7)) (export "e" (func 1)) (start 2)
          (elem (i32.const 0) 0 1) (data (i32.const 0) "hello") (data "passive")
          (func (type $f) (local i64 f32) (block (result i32) (br_if 0 (local.get 0) (i32.const 1))
            (call_indirect (type $f) (i32.const 0)) (loop (br_table 0 0 (i32.const 2))) (i32.load offset=4)))
          (func (memory.init 1 (i32.const 0) (i32.const 0) (i32.const 0)) (table.copy 0 0 (i32.const 0) (i32.const 0)
            (i32.const 0)) (if (i32.const 1) (then (nop)) (else (unreachable) (select) (drop)))))""",
        """(module
          (rec (type $s (sub (struct (field (mut (ref null $a))) (field i8)))) (type $a (array (mut (ref $s)))))
          (func (param (ref null $s)) (result anyref) (local (ref $s))
            (block (result (ref $s)) (br_on_cast 0 anyref (ref $s) (local.get 0)) (drop) (unreachable))
            (local.tee 1) (struct.get $s 0) (drop) (array.new_fixed $a 1 (local.get 1)))
          (func (drop (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
            (v128.const i64x2 0 1) (v128.const i64x2 1 0)))))""",
        """(module (type $f (func (param i32))) (type $k (cont $f)) (type $g (func)) (type $rest (cont $g))
          (tag $t (param i32)) (tag $u)
          (func (param (ref $k)) (block $h (result i32 (ref $rest)) (resume $k (on $t $h) (on $u switch) (i32.const 0)
            (local.get 0)) (return)) (drop) (drop) (try_table (catch_all 0) (throw $t (i32.const 1)))
            (drop (cont.bind $k $k (local.get 0))) (suspend $u)))""",
    )
]


def load(data: bytes) -> None:
    try:
        module = decode_module(data)
        module.names  # noqa: B018
        validate_module(module)
        module.syntax()
    except CompileError as error:
        assert error.offset is not None
        assert 0 <= error.offset <= len(data)


edits = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 3), st.integers(0, 255)), min_size=1, max_size=4)


@settings(max_examples=400)
@given(st.sampled_from(SEEDS), edits)
def test_edited_modules(seed: bytes, changes: list[tuple[int, int, int]]) -> None:
    data = bytearray(seed)
    for place, kind, value in changes:
        at = 8 + place % (len(data) - 8) if len(data) > 8 else 0
        if kind == 0 or at == len(data):
            data.insert(at, value)
        elif kind == 1:
            del data[at]
        else:
            data[at] = value if kind == 2 else data[at] ^ 1 << value % 8
    load(bytes(data))


def test_truncated_modules() -> None:
    for seed in SEEDS:
        for size in range(len(seed)):
            load(seed[:size])


@given(st.binary(max_size=60))
def test_any_sections(data: bytes) -> None:
    load(HEADER + data)


@given(st.binary(max_size=40))
def test_any_body(data: bytes) -> None:
    load(function(data))


def test_seeds_are_valid() -> None:
    """Damage is worth something only where what is damaged gets far."""
    for seed in SEEDS:
        validate_module(decode_module(seed))


def test_operands_are_bounded() -> None:
    """Where there are too many is said at the instruction, whatever would come behind it."""
    results = b"\x60\0" + b"\xe8\x07" + b"\x7f" * 1000
    validate_module(decode_module(function(b"\x10\0" * 1000, b"\0", type=results)))
    with pytest.raises(CompileError, match="too many operands") as error:
        validate_module(decode_module(function(b"\x10\0" * 20_000, type=results)))
    assert error.value.offset is not None
    assert error.value.offset < 2 * 5_000
