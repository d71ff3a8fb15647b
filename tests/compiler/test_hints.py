"""Branch hints: what the compiler makes of them, and sections that say nothing."""

from __future__ import annotations

import re

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of, exports_of
from wasmloom.binary.decoder import decode_module
from wasmloom.binary.encoder import custom_section, uleb
from wasmloom.binary.hints import BRANCH_HINT, parse_hints
from wasmloom.cli.machine_code import MachineCode
from wasmloom.text.parser import parse_module
from wasmloom.text.printer import print_module

LIKELY, UNLIKELY = f'(@{BRANCH_HINT} "\\01")', f'(@{BRANCH_HINT} "\\00")'
SOURCE = f"""
  (import "env" "f" (func $f))
  (func)
  (func (export "run") (param i32) (result i32) (local i64 f32)
    (block $a
      (block $b
        local.get 0 {LIKELY} br_if $a
        local.get 0 {UNLIKELY} br_if $b
        local.get 0 br_if $a)
      call $f)
    local.get 0 {UNLIKELY} if (result i32) i32.const 1 else i32.const 2 end)
"""
DATA = parse_module(SOURCE).binary


def weights(data: bytes, number: int) -> list[str]:
    """The weights of the conditional branches on a function's parameter, in order."""
    ir = MachineCode(decode_module(data), wl.Engine().code_options(), {}).ir(number)
    condition = re.findall(r"(%\w+) = icmp ne i32 %p0, 0", ir)
    return [prof for value, prof in re.findall(r"br i1 (%\w+), label %\w+, label %\w+(.*)", ir) if value in condition]


def test_hints_become_weights() -> None:
    assert weights(DATA, 1) == [", !prof !7", ", !prof !0", "", ", !prof !0"]
    plain = parse_module(SOURCE.replace(LIKELY, "").replace(UNLIKELY, "")).binary
    assert weights(plain, 1) == [""] * 4


@pytest.mark.parametrize("tier", ENGINES)
def test_results_are_the_same(tier: str) -> None:
    called: list[None] = []
    exports = exports_of(DATA, engine_of(tier), {"env": {"f": lambda: called.append(None)}})
    assert (exports.run(0), exports.run(1)) == (2, 1)
    assert len(called) == 1


@pytest.mark.parametrize(
    ("section", "found"),
    [
        (b"", {}),
        (b"\1\2\1\5\1\1", {2: {5: True}}),
        (b"\2\2\1\5\1\0\3\2\6\1\1\7\1\2", {2: {5: False}, 3: {6: True, 7: False}}),
        (b"\2\2\1\5\1\1\3\2\6", {2: {5: True}, 3: {}}),
        (b"\1\2\2\5\1\1\6\2\1\1", {2: {5: True}}),
        (b"\xff\xff\xff\xff\x0f", {}),
        (b"\1\0\xff\xff\xff\xff\x0f", {0: {}}),
    ],
)
def test_sections(section: bytes, found: dict[int, dict[int, bool]]) -> None:
    """What isn't well-formed ends what counts, and harms nobody."""
    assert parse_hints(b"x" + section, 1, 1 + len(section)) == found
    data = DATA.replace(custom_section(BRANCH_HINT, _hints(DATA)), custom_section(BRANCH_HINT, section))
    assert exports_of(data, engine_of("compiler"), {"env": {"f": int}}).run(1) == 1


def test_text_keeps_them() -> None:
    """As annotations, where these make the same section again; else as a custom section."""
    text = print_module(DATA)
    assert text.count(f"(@{BRANCH_HINT} ") == 3 and "@custom" not in text
    assert parse_module(text).binary == DATA
    whole = _hints(DATA)
    for other in (b"", whole[:-1], b"\1\2\1\5\1\1", b"\1\x09\0", whole.replace(b"\1\1", b"\1\2")):
        data = DATA.replace(custom_section(BRANCH_HINT, whole), custom_section(BRANCH_HINT, other))
        text = print_module(data)
        assert f'(@custom "{BRANCH_HINT}"' in text and f"(@{BRANCH_HINT}" not in text
        assert parse_module(text).binary == data
    moved = DATA.replace(custom_section(BRANCH_HINT, whole), b"") + custom_section(BRANCH_HINT, whole)
    assert f'(@custom "{BRANCH_HINT}"' in print_module(moved)


def test_many_hints_are_not_kept() -> None:
    most = 1 << 20
    section = b"\1\0" + uleb(most + 1) + b"\5\1\1" * (most - 1) + b"\6\1\1" + b"\7\1\1"
    assert parse_hints(section, 0, len(section)) == {0: {5: True, 6: True}}


def _hints(data: bytes) -> bytes:
    (found,) = (custom for custom in decode_module(data).custom_ranges if custom.name == BRANCH_HINT)
    return data[found.start : found.end]
