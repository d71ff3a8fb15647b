"""Constant folding computes what the handlers do."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wasmloom as wl
from wasmloom.semantics.fold import fold
from wasmloom.semantics.registry import OPERATIONS, Operation

FOLDED = [
    operation
    for operation in OPERATIONS.values()
    if operation.kind == "value"
    and all(kind.name in ("i32", "i64") for kind in (*operation.params, *operation.results))
]


@cache
def handlers() -> wl.Instance:
    """Every folded instruction on its parameters, so that it runs."""
    functions = []
    for operation in FOLDED:
        row = operation.instruction
        params = " ".join(row.params)
        gets = " ".join(f"(local.get {i})" for i in range(len(row.params)))
        functions.append(
            f'(func (export "{row.mnemonic}") (param {params}) (result {row.results[0]}) ({row.mnemonic} {gets}))'
        )
    return wl.Instance(wl.Module(f"(module {' '.join(functions)})"))


def words(type: str) -> st.SearchStrategy[int]:
    bits = int(type[1:])
    edges = [0, 1, 2, bits - 1, bits, (1 << bits) - 1, 1 << (bits - 1), (1 << (bits - 1)) - 1]
    return st.sampled_from(edges) | st.integers(0, (1 << bits) - 1)


@pytest.mark.parametrize("operation", FOLDED, ids=lambda operation: operation.mnemonic)
@given(data=st.data())
def test_folding_is_what_the_handler_does(operation: Operation, data: st.DataObject) -> None:
    row = operation.instruction
    operands = [data.draw(words(type)) for type in row.params]
    folded = fold(row.index, *operands)
    try:
        run = handlers().exports[row.mnemonic](*operands)
    except wl.Trap:
        assert folded is None
        return
    assert folded == run & ((1 << int(row.results[0][1:])) - 1)


def test_floats_are_left_to_the_machine() -> None:
    for name in ("f64.add", "f32.neg", "i32.trunc_f32_s", "f64.convert_i32_s", "f32.eq", "i32.reinterpret_f32"):
        row = OPERATIONS[name].instruction
        assert fold(row.index, *[0] * len(row.params)) is None


def test_constants_become_constants() -> None:
    module = wl.Module(
        '(module (func (export "f") (result i32) (i32.add (i32.mul (i32.const 6) (i32.const 7)) (i32.const -2))))'
    )
    _, code_map = module.code_space.bytecode(0)
    assert len(code_map) == 2  # enter, return
    assert wl.Instance(module).exports.f() == 40


def test_traps_stay_where_they_are() -> None:
    instance = wl.Instance(
        wl.Module('(module (func (export "f") (result i32) (i32.div_s (i32.const 1) (i32.const 0))))')
    )
    with pytest.raises(wl.Trap, match="integer divide by zero"):
        instance.exports.f()
