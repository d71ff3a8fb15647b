"""The size of a slot stands in one place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "wasmloom"
FOLDERS = ("semantics", "runtime", "interpreter", "compiler", "tiers", "host")
GENERATED = {"_layout.pxd", "_handlers.pxd"}
#: Where 8 isn't the size of a slot or of a field, and what it is instead.
OTHERS = {
    "8 * SLOT_BYTES": "bits of a byte",
    "self.bits // 8": "bits of a byte",
    "type_bits(kind) // 8": "bits of a byte",
    "type_bits(type) // 8": "bits of a byte",
    "8 * width": "bits of a byte",
    "guest.max_chain // 8": "an eighth",
    "position += 8": "an address in a table of lines",
}


def sizes(text: str) -> Iterator[str]:
    """The expressions of a source that compute with the literal 8, or shift by 3, as one does with sizes and places."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, (ast.BinOp, ast.AugAssign)):
            continue
        operands = [node.left, node.right] if isinstance(node, ast.BinOp) else [node.value]
        literals = {operand.value for operand in operands if isinstance(operand, ast.Constant)}
        if isinstance(node.op, (ast.Mult, ast.FloorDiv, ast.Div, ast.Add, ast.Sub)):
            found = 8 in literals
        else:
            found = isinstance(node.op, (ast.LShift, ast.RShift)) and 3 in literals
        if found:
            yield ast.unparse(node)


def sizes_in_declarations(text: str) -> Iterator[str]:
    """The lines of a ``.pxd`` file that do."""
    for line in text.split("\n"):
        if re.search(r"\b8 [*+-]|[*+-] 8\b|(<<|>>) 3\b|// 8\b", line.partition("#")[0]):
            yield line


@pytest.mark.parametrize("folder", FOLDERS)
def test_sizes_have_names(folder: str) -> None:
    """`SLOT_BYTES`, or `FIELD_BYTES` for what isn't a value; nobody computes with the number."""
    said = []
    for path in sorted((SOURCE / folder).rglob("*.p[yx]*")):
        if path.name in GENERATED or path.suffix not in (".py", ".pxd"):
            continue
        read = sizes if path.suffix == ".py" else sizes_in_declarations
        said += [(path.name, found) for found in read(path.read_text(encoding="utf-8")) if found not in OTHERS]
    assert not said


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("malloc(8 * count)", 1),
        ("at = fp + 8 * (i + 1)", 1),
        ("words = size >> 3", 1),
        ("at += 8", 1),
        ("f'{at * 8}'", 1),
        ("x = SLOT_BYTES * count", 0),
        ("x = 1 << 8", 0),
        ("x = uint64_t[8]", 0),
    ],
)
def test_sizes_are_found(text: str, count: int) -> None:
    assert len(list(sizes(text))) == count
    assert len(list(sizes_in_declarations("    return x >> 3  # 8 * y"))) == 1


def test_exceptions_are_there() -> None:
    """Nothing is excepted that has gone."""
    found = {size for folder in FOLDERS for path in (SOURCE / folder).rglob("*.py") for size in sizes(path.read_text())}
    assert found == set(OTHERS)
