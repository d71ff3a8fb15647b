"""Kinds of values: what depends on a type is looked up, and a type without a kind is an error."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import wasmloom as wl
from wasmloom.semantics import registry
from wasmloom.semantics.features import EXECUTED
from wasmloom.semantics.kinds import KINDS, by_name, of_type
from wasmloom.semantics.llvm import Value, lanes_of, llvm_type, type_bits, with_lanes
from wasmloom.semantics.registry import OPERATIONS, Operation, operation
from wasmloom.semantics.structs import StructBuilder
from wasmloom.spec.instructions import INSTRUCTIONS
from wasmloom.spec.types import EXTERNREF, F32, F64, FUNCREF, I32, I64, V128

SOURCES = Path(wl.__file__).parent


def test_every_executed_instruction_is_about_kinds() -> None:
    for row in INSTRUCTIONS:
        if row.feature in EXECUTED:
            for name in (*row.params, *row.results):
                assert by_name(name).bits in (32, 64, 128)


def test_kinds_of_types() -> None:
    assert [of_type(type).name for type in (I32, I64, F32, F64, V128, FUNCREF, EXTERNREF)] == [
        "i32", "i64", "f32", "f64", "v128", "ref", "ref",
    ]  # fmt: skip
    assert [kind.code for kind in KINDS.values()] == list(range(len(KINDS)))
    assert {kind.name: kind.slots for kind in KINDS.values()} == dict.fromkeys(KINDS, 1) | {"v128": 2}
    assert [kind.name for kind in KINDS.values() if kind.is_vector] == ["v128"]
    assert [kind.name for kind in KINDS.values() if kind.is_float] == ["f32", "f64"]


def test_what_has_no_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="v256"):
        by_name("v256")
    with pytest.raises(ValueError, match="0x78"):
        of_type(0x78)  # i8 is a type of fields, not of values
    for name in ("v256", "i", "f16", "i0", "int"):
        with pytest.raises(ValueError, match=name):
            llvm_type(name)
        with pytest.raises(ValueError, match=name):
            type_bits(name)


def test_types_of_vectors() -> None:
    assert [llvm_type(name) for name in ("v128", "<16 x i8>", "<4 x f32>", "<2 x f64>", "<4 x i1>")] == [
        "<2 x i64>", "<16 x i8>", "<4 x float>", "<2 x double>", "<4 x i1>",
    ]  # fmt: skip
    assert [lanes_of(name) for name in ("v128", "<16 x i8>", "f32")] == [(0, "v128"), (16, "i8"), (0, "f32")]
    assert [with_lanes(name, "i1") for name in ("<4 x f32>", "i64")] == ["<4 x i1>", "i1"]
    with pytest.raises(ValueError, match="v128"):
        type_bits("v128")


@pytest.mark.parametrize("defined", OPERATIONS.values(), ids=lambda defined: defined.mnemonic)
def test_truth_values_are_declared(defined: Operation) -> None:
    """What a definition says of its result is what it gives."""
    builder = StructBuilder(lambda b, code: None)
    operands: list[object] = [Value(f"%{i}", kind.type) for i, kind in enumerate(defined.params)]
    if defined.lane_immediate:
        operands.append(Value("1", "i64") if defined.lane_immediate == "lane" else bytes(16))
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
