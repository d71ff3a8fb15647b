"""Atomic instructions: their immediates, in both formats, and their types."""

from __future__ import annotations

import pytest

import wasmloom as wl
from tests.binary.build import CODE, FUNC, TYPE, function, module, section, vec
from tests.semantics.accesses import ATOMICS, Access
from tests.validation.check import invalid, malformed, valid
from wasmloom.binary.decoder import decode_module
from wasmloom.binary.encoder import uleb
from wasmloom.spec.instructions import BY_MNEMONIC
from wasmloom.text.parser import parse_module
from wasmloom.text.printer import print_module
from wasmloom.validation import validate_module


def text_of(atomic: Access, arguments: str, address: str = "i32", memory: str = "(memory 1) (memory $m 1)") -> str:
    operands = " ".join(f"({type}.const 1)" for type in (address, *atomic.params))
    code = f"({atomic.name} {arguments} {operands})"
    return f"(module {memory} (func {f'(drop {code})' if atomic.result else code}))"


@pytest.mark.parametrize("atomic", ATOMICS, ids=lambda atomic: atomic.name)
def test_alignment_is_the_natural_one(atomic: Access) -> None:
    for memory in ("", "$m", "1"):
        valid(text_of(atomic, memory))
        valid(text_of(atomic, f"{memory} offset=4294967295 align={atomic.bytes}"))
    for align in {1, 2, 4, 8, 16} - {atomic.bytes}:
        assert invalid(text_of(atomic, f"align={align}")).reason == "atomic alignment must be natural"
    assert invalid(text_of(atomic, "offset=4294967296")).reason == "offset out of range"
    assert invalid(text_of(atomic, "", memory="")).reason == "unknown memory 0"
    assert invalid(text_of(atomic, "2")).reason == "unknown memory 2"


@pytest.mark.parametrize("atomic", ATOMICS, ids=lambda atomic: atomic.name)
def test_types(atomic: Access) -> None:
    """Those of 64-bit memories, too."""
    wide = text_of(atomic, "offset=4294967296", "i64", "(memory i64 1)")
    assert {"atomics", "memory64"} <= valid(wide).features.keys()
    assert f"{atomic.name} expected i64 but found i32" in invalid(text_of(atomic, "", memory="(memory i64 1)")).reason
    assert f"{atomic.name} expected i32 but found i64" in invalid(text_of(atomic, "", "i64")).reason
    for number, type in enumerate(atomic.params):
        other = "i64" if type == "i32" else "i32"
        operands = [f"({t}.const 1)" for t in ("i32", *atomic.params)]
        operands[1 + number] = f"({other}.const 1)"
        wrong = f"(module (memory 1) (func ({atomic.name} {' '.join(operands)}) unreachable))"
        assert f"{atomic.name} expected {type} but found {other}" in invalid(wrong).reason


@pytest.mark.parametrize("atomic", ATOMICS, ids=lambda atomic: atomic.name)
def test_text_survives(atomic: Access) -> None:
    """What the printer writes is the same module again; an alignment that isn't the natural one is kept, too."""
    for arguments in ("", "$m offset=12", "offset=1 align=32"):
        binary = parse_module(text_of(atomic, arguments)).binary
        text = print_module(binary)
        assert f"{atomic.name}{' ' if arguments else chr(10)}{arguments}" in text
        assert parse_module(text).binary == binary


def test_opcodes() -> None:
    """The numbers are those of the proposal: gaps behind the fence, then without gaps."""
    numbers = [BY_MNEMONIC[atomic.name].opcode for atomic in ATOMICS]
    assert sorted([*numbers, BY_MNEMONIC["atomic.fence"].opcode]) == [*range(4), *range(0x10, 0x4F)]
    for name, number in (
        ("i64.atomic.load", 0x11), ("i64.atomic.store32", 0x1D), ("i32.atomic.rmw8.sub_u", 0x27),
        ("i64.atomic.rmw.and", 0x2D), ("i64.atomic.rmw32.xor_u", 0x40), ("i32.atomic.rmw.xchg", 0x41),
        ("i64.atomic.rmw32.cmpxchg_u", 0x4E),
    ):  # fmt: skip
        row = BY_MNEMONIC[name]
        assert (row.prefix, row.opcode) == (0xFE, number)
    for number in (0x04, 0x0F, 0x4F, 0x80, 0x1FF):
        assert malformed(function(b"\xfe", uleb(number))).reason.startswith(f"illegal opcode fe {number:02x}")


def test_fence() -> None:
    """It has a byte that is zero, and needs no memory."""
    assert "atomics" in valid("(module (func atomic.fence))").features
    data = parse_module("(module (func atomic.fence))").binary
    at = data.index(b"\xfe\x03\x00")
    validate_module(decode_module(data))
    assert "atomic.fence\n" in print_module(data)
    bad = data[: at + 2] + b"\x01" + data[at + 3 :]
    error = malformed(bad)
    assert (error.reason, error.offset) == ("zero byte expected", at + 2)
    with pytest.raises(wl.CompileError, match="zero byte expected"):
        print_module(bad)


@pytest.mark.parametrize("memory", ["(memory 1 {} shared)", '(import "m" "n" (memory 1 {} shared))'])
def test_shared_memories_have_a_maximum(memory: str) -> None:
    valid(f"(module {memory.format(1)} (func (drop (i32.atomic.load (i32.const 0)))))")
    with pytest.raises(wl.ValidationError, match="shared memory must have maximum"):
        wl.Module(f"(module {memory.format('')})")


def test_cut_short() -> None:
    """Every prefix of an instruction is an error."""
    for code in (b"\xfe", b"\xfe\x10", b"\xfe\x10\x02", b"\xfe\x03", b"\xfe\x10\x42", b"\xfe\x10\x42\x00"):
        whole = b"\0" + code
        data = module(
            section(TYPE, vec(b"\x60\0\0")), section(FUNC, vec(b"\0")), section(CODE, vec(uleb(len(whole)) + whole))
        )
        assert malformed(data).reason == "unexpected end of section or function"
