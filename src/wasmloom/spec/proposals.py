"""Instructions outside the instruction table that we know by name only, so modules with them are refused by name.

They belong to proposals whose instructions the engine has no representation for.
"""

from __future__ import annotations

from wasmloom.errors import CompileError, UnsupportedError

#: Feature → how the mnemonics of its instructions begin; a beginning that doesn't end in a dot or underscore is whole.
FOREIGN_MNEMONICS: dict[str, tuple[str, ...]] = {
    "legacy exception handling": ("try", "rethrow", "delegate"),
}

#: Feature → its opcodes: first bytes, and prefixed ones as (prefix, number).
FOREIGN_OPCODES: dict[str, frozenset[int | tuple[int, int]]] = {
    "legacy exception handling": frozenset((0x06, 0x07, 0x09, 0x18, 0x19)),
}


def foreign_opcode(first: int, number: int) -> str | None:
    """The feature of an opcode, given its first byte and, for prefixed ones, the number after it."""
    for feature, opcodes in FOREIGN_OPCODES.items():
        if first in opcodes or (first, number) in opcodes:
            return feature
    return None


def unknown_opcode(first: int, number: int, offset: int) -> CompileError:
    """The error for an opcode that has no row; `number` is -1 when there is nothing after the first byte."""
    text = f"{first:02x}" if number < 0 else f"{first:02x} {number:02x}"
    feature = foreign_opcode(first, number)
    if feature is not None:
        return UnsupportedError(f"{feature} is not supported yet: opcode {text}", offset)
    return CompileError(f"illegal opcode {text}", offset)


def foreign_feature(word: str) -> str | None:
    """The feature that the instruction `word` belongs to, None when it isn't one of these."""
    for feature, beginnings in FOREIGN_MNEMONICS.items():
        for beginning in beginnings:
            if word == beginning or (beginning[-1] in "._" and word.startswith(beginning)):
                return feature
    return None

#: What a file of the component model is told, by whatever reads it.
COMPONENT = "this is a component; only core modules are supported, such as those that it is made of"
