"""Kinds of values: what depends on a type is looked up, and a type without a kind is an error."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import wasmloom as wl
from wasmloom.errors import UnsupportedError
from wasmloom.semantics import kinds, registry
from wasmloom.semantics.features import EXECUTED
from wasmloom.semantics.kinds import KINDS, Register, by_name, of_type
from wasmloom.semantics.llvm import Builder, Value, llvm_type, type_bits
from wasmloom.semantics.registry import OPERATIONS, Operation, operation
from wasmloom.spec.instructions import INSTRUCTIONS
from wasmloom.spec.types import EXTERNREF, F32, F64, FUNCREF, I32, I64, V128

SOURCES = Path(wl.__file__).parent


def test_every_executed_instruction_is_about_kinds() -> None:
    for row in INSTRUCTIONS:
        if row.feature in EXECUTED:
            for name in (*row.params, *row.results):
                assert by_name(name).bits in (32, 64)


def test_kinds_of_types() -> None:
    assert [of_type(type).name for type in (I32, I64, F32, F64, FUNCREF, EXTERNREF)] == [
        "i32", "i64", "f32", "f64", "ref", "ref",
    ]  # fmt: skip
    assert [kind.code for kind in KINDS.values()] == list(range(len(KINDS)))
    assert all(kind.slots == 1 for kind in KINDS.values())
    assert kinds.Kind("pair", 9, 128, Register.FLOAT, "f64").slots == 2


def test_what_has_no_kind_is_an_error() -> None:
    with pytest.raises(UnsupportedError, match="v128"):
        of_type(V128)
    with pytest.raises(ValueError, match="v128"):
        by_name("v128")
    with pytest.raises(ValueError, match="0x78"):
        of_type(0x78)  # i8 is a type of fields, not of values
    for name in ("v128", "i", "f16", "i0", "int"):
        with pytest.raises(ValueError, match=name):
            llvm_type(name)
        with pytest.raises(ValueError, match=name):
            type_bits(name)


@pytest.mark.parametrize("name", ["i8x16.add", "i8x16.eq", "v128.load", "i8x16.splat"])
def test_a_definition_for_types_without_a_kind_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="v128"):
        operation(name)(lambda b, *operands: operands[0])
    assert name not in OPERATIONS


@pytest.mark.parametrize("defined", OPERATIONS.values(), ids=lambda defined: defined.mnemonic)
def test_truth_values_are_declared(defined: Operation) -> None:
    """What a definition says of its result is what it gives."""
    builder = Builder(lambda b, code: None)
    operands = [Value(f"%{i}", kind.type) for i, kind in enumerate(defined.params)]
    if defined.kind == "value":
        result = defined.define(builder, *operands)
        assert defined.is_truth == (result.type == "i1")
        assert defined.is_truth or [result.type] == [kind.type for kind in defined.results]
    else:
        assert not defined.is_truth


def test_a_made_up_instruction_gets_its_truth_from_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name makes a comparison: `eq` of another meaning has no branches."""
    monkeypatch.setattr(registry, "OPERATIONS", {})
    operation("i32.eq")(lambda b, x, y: b.binary("xor", x, y))
    assert not registry.OPERATIONS["i32.eq"].is_compare


def test_nobody_looks_at_the_first_letter_of_a_type() -> None:
    """Where a string's first letter decides, a new type is silently taken for another."""
    found = []
    for path in (*SOURCES.glob("semantics/*.py"), *SOURCES.glob("interpreter/*.py"), *SOURCES.glob("compiler/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Compare) or not isinstance(node.left, ast.Subscript):
                continue
            letters = [right.value for right in node.comparators if isinstance(right, ast.Constant)]
            if isinstance(node.left.slice, ast.Constant) and any(letter in ("i", "f", "v") for letter in letters):
                found.append(f"{path.name}:{node.lineno}")
    assert found == []
