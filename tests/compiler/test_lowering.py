"""What lowering writes: what is known isn't computed again, and what isn't known is."""

from __future__ import annotations

import re

from wasmloom.binary.decoder import decode_module
from wasmloom.compiler.facts import Facts
from wasmloom.compiler.options import Options
from wasmloom.compiler.units import assembly, unit_text
from wasmloom.target import inline_assembly
from wasmloom.text.parser import parse_module


def ir(body: str) -> str:
    """The IR of a function of two parameters and a local."""
    head = "(module (memory 1) (global $g (mut i32) (i32.const 0)) (func (param $x i32) (param $y i32) (local $z i32) "
    text = f"{head}{body}))"
    return unit_text(Facts(decode_module(parse_module(text).binary)), Options(), [0], False)


def vectors(body: str) -> tuple[str, str]:
    """The IR and the assembly of a function with a vector and an address, which gives a vector."""
    head = "(module (memory 1) (func (param $v v128) (param $p i32) (result v128) "
    facts = Facts(decode_module(parse_module(f"{head}{body}))").binary))
    return unit_text(facts, Options(), [0], False), assembly(facts, Options(), [0])


def reads(text: str, local: int) -> int:
    """How often a local's variable is read."""
    return len(re.findall(rf"= load i32, ptr %l{local}\n", text))


def test_a_local_is_read_once() -> None:
    """Parameters need no load at all, and a written value is used as it is."""
    text = ir("(local.set $z (i32.add (local.get $x) (local.get $x))) (i32.store (local.get $z) (local.get $z))")
    assert reads(text, 0) == reads(text, 2) == 0
    assert text.count(" = zext i32 ") == 1


def test_a_loop_reads_what_it_writes() -> None:
    """In a loop, locals have the value of the turn before; those that it doesn't write keep theirs."""
    text = ir(
        "(loop $l (loop) (block (local.set $x (i32.sub (local.get $x) (local.get $y)))) (br_if $l (local.get $x)))"
        " (global.set $g (local.get $y))"
    )
    assert reads(text, 0) == 2  # at the loop's beginning, and behind the block
    assert reads(text, 1) == 0


def test_arms_that_write_are_forgotten() -> None:
    """Behind an `if`, a local that an arm writes is read again; the other arm has the value from before."""
    text = ir(
        "(if (local.get $x) (then (local.set $y (i32.const 1))) (else (global.set $g (local.get $y))))"
        " (global.set $g (local.get $y)) (global.set $g (local.get $x))"
    )
    assert reads(text, 1) == 1
    assert reads(text, 0) == 0


def test_constants_of_the_instance_are_loaded_where_all_follows() -> None:
    """A global's cell is looked up once where one place comes before the other, and in each of two arms."""
    cell = r"= load ptr, ptr %\w+, align 8, !invariant.load"
    once = ir("(global.set $g (i32.const 1)) (if (local.get $x) (then (global.set $g (i32.const 2))))")
    twice = ir("(if (local.get $x) (then (global.set $g (i32.const 1))) (else (global.set $g (i32.const 2))))")
    assert len(re.findall(cell, once)) == 1
    assert len(re.findall(cell, twice)) == 2


def test_a_loaded_vector_has_the_lanes_that_are_asked_for() -> None:
    """LLVM doesn't change the type of a volatile load, and folds none of another type into an operation."""
    text, _ = vectors("(i32x4.add (local.get $v) (v128.load (local.get $p)))")
    assert "load volatile <4 x i32>" in text
    text, _ = vectors(
        "(local $l v128) (local.set $l (v128.load (local.get $p)))"
        " (i8x16.add (i16x8.mul (local.get $v) (local.get $l)) (local.get $l))"
    )
    assert text.count("load volatile") == text.count("load volatile <8 x i16>") == 1
    text, _ = vectors("(v128.load (local.get $p))")
    assert "load volatile <2 x i64>" in text


def test_a_vector_loaded_for_arithmetic_is_an_operand_in_memory() -> None:
    """Where the processor takes any address, and nothing else has the vector or comes between."""
    load = "(v128.load offset=7 (local.get $p))"
    text, code = vectors(f"(f32x4.div (local.get $v) {load})")
    assert ("load volatile" in text) == ("elementtype(<4 x float>)" not in text)
    if "elementtype" not in text:
        return
    assert len(re.findall(r"vdivps\t7\(", code)) == 1
    for kept in (
        f"(f32x4.div {load} (local.get $v))",
        f"(local $l v128) (f32x4.div (local.get $v) (local.tee $l {load}))",
        f"(f32x4.sub (local.get $v) (f32x4.sub {load} (local.get $v)))",
        f"(local.get $v) {load} (v128.store (local.get $p) (local.get $v)) f32x4.add",
        f"(local.get $v) {load} (block) f32x4.add",
    ):
        text, _ = vectors(kept)
        assert "elementtype" not in text and text.count("load volatile") == 1, kept


def test_addresses_of_vectors_are_displacements_in_loops() -> None:
    """A counter of 64 bits would need its upper half cut off for each of them."""
    _, code = vectors(
        """(local $i i32) (local.set $i (i32.const -4096))
        (loop $again
          (v128.store (i32.add (local.get $i) (i32.const 12288)) (v128.load (i32.add (local.get $i) (i32.const 8192))))
          (br_if $again (local.tee $i (i32.add (local.get $i) (i32.const 16)))))
        (local.get $v)"""
    )
    # For each access the address must not be computed: at most the counter is.
    assert len(re.findall(r"\n\t(?:and|lea)[lq]\t", code)) <= 1


def test_products_of_widened_bytes_are_added_up_by_one_instruction() -> None:
    """LLVM knows how few bits such products have, and would multiply and widen these instead."""
    bytes = "(i16x8.extend_low_i8x16_s (local.get $v))"
    text, code = vectors(f"(i32x4.dot_i16x8_s {bytes} (i16x8.extend_low_i8x16_s (v128.load (local.get $p))))")
    assert text.count(f"call <4 x i32> {inline_assembly.SUM_PRODUCTS}(") == 1
    assert code.count(inline_assembly.SUM_PRODUCTS.rpartition("sse2.")[2].replace(".", "")) == 1
