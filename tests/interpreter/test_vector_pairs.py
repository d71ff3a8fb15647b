"""Fused instructions with vectors do what their parts do: those are run as stencils, which are never fused."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.compiler.tiers import engine_of, outcome_of
from tests.interpreter.shapes import about_vectors
from tests.interpreter.test_instructions import handler_set
from wasmloom import Instance, Module
from wasmloom.interpreter.disassembler import disassemble
from wasmloom.semantics.registry import OPERATIONS

pytestmark = pytest.mark.usefixtures("code_at_once")

GROUPS = 8
#: Operands in an accumulator, by type, that no fused instruction has made.
_MADE = {"v128": "(v128.not (local.get $v))", "i32": "(i32.wrap_i64 (local.get $l))"}
_LOCALS = {"v128": ("$x", "$y"), "i32": ("$p", "$q")}
_COPIES = "(local.set $x (local.get $y)) (local.set $y (local.get $z))"
_ONES = "(v128.const i64x2 -1 -1)"


def pairs() -> list[str]:
    return [name for name in (h.name for h in handler_set().handlers) if "+" in name and about_vectors(name)]


def code(name: str) -> str:
    """What becomes an instruction without "+": the operand in an accumulator is `{}`."""
    if name == "const_vector":
        return "(v128.const i32x4 0x80000001 7 -3 0x7F7F0180)"
    parts = name.split(".")
    mnemonic, kinds = ".".join(parts[:2]), parts[2]
    given = []
    for position, (type, kind) in enumerate(zip(OPERATIONS[mnemonic].params, kinds, strict=True)):
        local = _LOCALS[type.name][position]
        given.append({"s": f"(local.get {local})", "a": "{}", "i": "(i32.const 3)"}[kind])
    return f"({mnemonic} {' '.join(given)})"


def made(name: str) -> str:
    """The same with an operand."""
    if name == "const_vector":
        return code(name)
    types = {kind.name for kind in OPERATIONS[".".join(name.split(".")[:2])].params}
    return code(name).format(_MADE["i32" if types == {"i32"} or ".load" in name else "v128"])


def body(name: str) -> str:
    """The code of a function that has a fused instruction, and gives a vector."""
    first, second = name.split("+")
    if second == "copy_vector":
        return f"{_COPIES} (v128.xor (local.get $x) (local.get $y))"
    if second.startswith("br_if"):
        condition = made(first) if ".ne." in second else f"(i32.eqz {made(first)})"
        if not second.endswith(".back"):
            return f"(block $out (br_if $out {condition}) (local.set $x (local.get $y))) (local.get $x)"
        # What is looked at is all ones in every second round, else zero.
        flip = f"(local.set $v (v128.xor (local.get $v) {_ONES})) (local.set $x (i8x16.add (local.get $x) {_ONES}))"
        return f"(local.set $v (v128.const i64x2 0 0)) (loop $again {flip} (br_if $again {condition})) (local.get $x)"
    whole = code(second).format(made(first))
    return f"{whole} (local.get $x)" if ".store" in second else whole


def functions(names: list[str]) -> Iterator[str]:
    for number, name in enumerate(names):
        yield (
            f'(func (export "{number}") (param $x v128) (param $y v128) (param $z v128) (param $v v128)'
            f" (param $p i32) (param $q i32) (param $l i64) (result v128) {body(name)})"
        )


@pytest.mark.parametrize("group", range(GROUPS))
def test_pairs(group: int) -> None:
    names = pairs()[group::GROUPS]
    assert len(names) > 50
    rng = random.Random(group)
    text = f'(module (memory (export "m") 1) {" ".join(functions(names))})'
    fused, parted = (Instance(Module(text, engine_of(tier))) for tier in ("interpreter", "baseline"))
    contents = rng.randbytes(65536)
    for number, name in enumerate(names):
        listing = disassemble(fused.module.code_space, number)
        assert name in listing.split(), f"{name}:\n{listing}"
        for at in (16, 65536 - 64, 65535):
            # Numbers that are near each other, infinities and NaNs among them, where they are taken for floats.
            numbers = [b"".join(rng.choice((b"\x00", b"\x01", b"\x80", b"\x7f", b"\xff")) for _ in range(16))]
            numbers += [rng.randbytes(16) for _ in range(3)]
            outcomes = []
            for instance in (fused, parted):
                instance.exports.m.write(0, contents)
                outcome = outcome_of(instance.exports[str(number)], *numbers, at, 2, at)
                outcomes.append((outcome, bytes(instance.exports.m.read(0, 65536))))
            assert outcomes[0] == outcomes[1], (name, at)
            if at != 65536 - 64:  # where it depends on what is added
                accesses = ".load" in name or ".store" in name
                assert (outcomes[0][0][0] == "trap") == (accesses and at == 65535), (name, at)
