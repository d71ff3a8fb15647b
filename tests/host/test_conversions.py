"""Conversions go by kinds: the host asks nothing of a type's name or number."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import wasmloom as wl
from wasmloom.spec.types import EXNREF, EXTERNREF, F32, F64, FUNCREF, I32, I64, ValType, ref_type

HOST = Path(wl.__file__).parent / "host"
#: Names of types, and what begins a string with one, that no source of the host compares with.
NUMBERS = {"i32", "i64", "f32", "f64", "v128"}
#: Where kinds are told apart: their numbers, in the order that the table of conversions has.
KINDS = {"signatures.py", "signatures.pxd", "conversions.py", "conversions.pxd"}


def comparisons(path: Path) -> list[str]:
    """What a source compares with the name of a number type, or with its number."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare):
            for operand in ast.walk(node):
                name = operand.id if isinstance(operand, ast.Name) else None
                if name is not None and name.removeprefix("_").lower() in NUMBERS:
                    found.append(ast.unparse(node))
                if isinstance(operand, ast.Constant) and operand.value in NUMBERS:
                    found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", sorted(HOST.glob("*.py")), ids=lambda path: path.stem)
def test_nothing_is_asked_of_types(path: Path) -> None:
    if path.name not in KINDS:
        assert comparisons(path) == []


def test_comparisons_are_found(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text("if type == I32 or name in ('i64', 'f32'):\n    pass\nkind = _type == _F64\n")
    assert len(comparisons(source)) == 4


@pytest.mark.parametrize(
    ("type", "value"),
    [(I32, -1), (I64, -(1 << 63)), (F32, 0.5), (F64, 0.1), (EXTERNREF, "text"), (EXTERNREF, None), (FUNCREF, None),
     (EXNREF, None), (ref_type(0x72, True), None), (ref_type(0x73, True), None), (ref_type(0x6E, True), None)],
    ids=str,
)  # fmt: skip
def test_values_come_back(type: ValType, value: Any) -> None:
    """Of each kind, through a global; references to what Python has no class for are None."""
    made = wl.Global(wl.Store(), type, value)
    assert made.value == value


@pytest.mark.parametrize("type", [ref_type(0x72, True), ref_type(0x74, True)], ids=str)
def test_types_without_conversion_take_none_only(type: ValType) -> None:
    with pytest.raises(TypeError, match="takes only None from Python, not int 1"):
        wl.Global(wl.Store(), type, 1)
