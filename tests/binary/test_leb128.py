"""LEB128 numbers: every encoding of a number decodes to it, everything else is refused where it goes wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.binary.build import GLOBAL, MEMORY, START, function, module, section, vec
from wasmloom.binary.decoder import decode_module
from wasmloom.errors import CompileError
from wasmloom.validation import validate_module

#: Header, section id, size, vector length: where the contents of a section with one entry begin.
ENTRY = 11


def padded(value: int, size: int) -> bytes:
    """`value` (unsigned, or signed when negative) in exactly `size` bytes."""
    groups = [(value >> (7 * k)) & 0x7F for k in range(size)]
    return bytes([g | 0x80 for g in groups[:-1]] + [groups[-1]])


def sizes(bits: int) -> st.SearchStrategy[int]:
    return st.integers(1, -(-bits // 7))


def reads_u32(encoded: bytes) -> int:
    """The number that the start section reads; the function that it names needn't exist for decoding."""
    start = decode_module(module(section(START, encoded))).start
    assert start is not None
    return start


def reads_u64(encoded: bytes) -> int:
    """The minimum of a 64-bit memory."""
    return decode_module(module(section(MEMORY, vec(b"\x04" + encoded)))).memories[0].limits.min


def accepts_const(opcode: bytes, type: bytes, encoded: bytes) -> bool:
    """Whether a constant takes exactly these bytes, in an initialiser and in a body."""
    init = decode_module(module(section(GLOBAL, vec(type + b"\0" + opcode + encoded + b"\x0b"))))
    validate_module(init)
    assert init.global_inits[0].code == opcode + encoded + b"\x0b"
    validate_module(decode_module(function(opcode + encoded, b"\x1a")))
    return True


@given(st.integers(0, 2**32 - 1), sizes(32))
def test_u32(value: int, size: int) -> None:
    if value >> (7 * size) == 0:
        assert reads_u32(padded(value, size)) == value


@given(st.integers(0, 2**64 - 1), sizes(64))
def test_u64(value: int, size: int) -> None:
    if value >> (7 * size) == 0:
        assert reads_u64(padded(value, size)) == value


@given(st.integers(-(2**31), 2**31 - 1), sizes(32))
def test_s32(value: int, size: int) -> None:
    if -(1 << (7 * size - 1)) <= value < 1 << (7 * size - 1):
        assert accepts_const(b"\x41", b"\x7f", padded(value, size))


@given(st.integers(-(2**63), 2**63 - 1), sizes(64))
def test_s64(value: int, size: int) -> None:
    if -(1 << (7 * size - 1)) <= value < 1 << (7 * size - 1):
        assert accepts_const(b"\x42", b"\x7e", padded(value, size))


@given(st.integers(2**32, 2**35 - 1))
def test_u32_too_large(value: int) -> None:
    with pytest.raises(CompileError, match="integer too large") as caught:
        reads_u32(padded(value, 5))
    assert caught.value.offset == 10 + 4


@given(st.integers(2**64, 2**70 - 1))
def test_u64_too_large(value: int) -> None:
    with pytest.raises(CompileError, match="integer too large") as caught:
        reads_u64(padded(value, 10))
    assert caught.value.offset == ENTRY + 1 + 9


@given(st.one_of(st.integers(2**31, 2**34 - 1), st.integers(-(2**34), -(2**31) - 1)))
def test_s32_too_large(value: int) -> None:
    with pytest.raises(CompileError, match="integer too large"):
        accepts_const(b"\x41", b"\x7f", padded(value, 5))


@given(st.one_of(st.integers(2**63, 2**69 - 1), st.integers(-(2**69), -(2**63) - 1)))
def test_s64_too_large(value: int) -> None:
    with pytest.raises(CompileError, match="integer too large"):
        accepts_const(b"\x42", b"\x7e", padded(value, 10))


@pytest.mark.parametrize(("encoded", "where"), [(b"\x80" * 5 + b"\0", 4), (b"\x81\x80\x80\x80\x80\0", 4)])
def test_u32_too_long(encoded: bytes, where: int) -> None:
    with pytest.raises(CompileError, match="integer representation too long") as caught:
        reads_u32(encoded)
    assert caught.value.offset == 10 + where


@given(st.integers(0, 4))
def test_cut_number(size: int) -> None:
    with pytest.raises(CompileError, match="unexpected end") as caught:
        reads_u32(b"\x80" * size)
    assert caught.value.offset == 10 + size


@given(st.binary(max_size=8))
def test_reader_agrees_with_arithmetic(data: bytes) -> None:
    """Any bytes: either the u32 that they spell, or an error."""
    end = next((k for k, byte in enumerate(data) if byte < 0x80), None)
    value = sum((byte & 0x7F) << (7 * k) for k, byte in enumerate(data[: end + 1])) if end is not None else None
    fits = value is not None and end is not None and end <= 4 and value < 2**32 and len(data) == end + 1
    try:
        assert reads_u32(data) == value
        assert fits
    except CompileError:
        assert not fits
