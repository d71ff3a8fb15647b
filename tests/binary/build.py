"""Modules from raw sections, for what the encoder would never write."""

from __future__ import annotations

from wasmloom.binary.encoder import uleb

HEADER = b"\0asm\1\0\0\0"

TYPE, IMPORT, FUNC, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEM, CODE, DATA, DATA_COUNT, TAG = range(1, 14)


def section(id: int, contents: bytes) -> bytes:
    """A section with its size."""
    return bytes([id]) + uleb(len(contents)) + contents


def vec(*items: bytes) -> bytes:
    """A vector of items that are encoded already."""
    return uleb(len(items)) + b"".join(items)


def module(*sections: bytes) -> bytes:
    """A module of whole sections."""
    return HEADER + b"".join(sections)


def body(*instructions: bytes, declarations: bytes = b"\0") -> bytes:
    """A function body with its size; `end` is appended."""
    contents = declarations + b"".join(instructions) + b"\x0b"
    return uleb(len(contents)) + contents


def function(*instructions: bytes, type: bytes = b"\x60\0\0", declarations: bytes = b"\0", extra: bytes = b"") -> bytes:
    """A module with one function; `extra` are the sections between those of functions and code."""
    return module(
        section(TYPE, vec(type)),
        section(FUNC, vec(b"\0")),
        extra,
        section(CODE, vec(body(*instructions, declarations=declarations))),
    )
