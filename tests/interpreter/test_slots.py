"""Slots of a frame follow from what the values' kinds take: vectors, which take two, in locals, parameters, results.

Blocks, branches, calls and exceptions carry them, too.
"""

from __future__ import annotations

import re

import pytest

from wasmloom.binary.decoder import decode_module
from wasmloom.interpreter.code_space import new_code_space
from wasmloom.interpreter.disassembler import disassemble
from wasmloom.text.parser import parse_module
from wasmloom.validation import validate_module

MODULE = """(module
  (type $two (func (param v128 i32) (result i32 v128)))
  (tag $e (param i32 v128 i64))
  (func $locals (param $a v128) (param $b i32) (param $c v128) (result i64)
    (local $d i64) (local $e v128) (local $f i32)
    (local.set $e (local.get $a))
    (local.set $f (i32.add (local.get $b) (local.get $f)))
    (i64.add (local.get $d) (i64.extend_i32_u (local.get $f))))
  (func $swap (type $two)
    (local.get 1) (local.get 0))
  (func $calls (param $a v128) (result v128)
    (local.get $a)
    (i32.const 7)
    (call $swap (local.get $a) (i32.const 9))
    drop
    drop
    (call $swap)
    (local.set $a)
    drop
    (local.get $a))
  (func $branch (param $a v128) (param $n i32) (result v128)
    (block $out (result i32 v128)
      (i64.const 1)
      (local.get $n)
      (local.get $a)
      (br_if $out (local.get $n))
      (local.set $a)
      drop
      drop
      (i32.const 3)
      (local.get $a))
    (local.set $a)
    drop
    (local.get $a))
  (func $throws (param $a v128)
    (local.get $a)
    (i32.const 1)
    (local.get $a)
    (i64.const 2)
    (throw $e)))"""


@pytest.fixture(scope="module")
def bytecode() -> dict[str, str]:
    """The functions' bytecode, by name."""
    names = re.findall(r"\(func \$(\w+)", MODULE)
    module = decode_module(parse_module(MODULE).binary)
    validate_module(module)
    space = new_code_space(module)
    return {name: disassemble(space, i) for i, name in enumerate(names)}


def instructions(text: str) -> list[str]:
    """The handlers and fields of a function, without offsets and the address of the callee's code."""
    return [re.sub(r" code=\w+", "", line.split(None, 2)[2]) for line in text.splitlines()]


def test_locals_lie_one_behind_the_other(bytecode: dict[str, str]) -> None:
    """Parameters in 0-1, 2, 3-4; locals in 5, 6-7, 8, all zeroed; the record is behind them."""
    enter, move, add, *_ = instructions(bytecode["locals"])
    assert enter == "enter.4 frame=120 record=s9 zeroed=4"
    assert move == "copy_vector dst=s6 source=s0"
    assert add == "i32.add.ss.s dst=s8 a=s2 b=s8"


def test_results_and_arguments_have_room_for_their_kinds(bytecode: dict[str, str]) -> None:
    """What is returned, and what a call puts where the callee's frame begins."""
    assert instructions(bytecode["swap"]) == [
        "enter.0 frame=80 record=s3 zeroed=0",
        "copy dst=s5 source=s2",
        "copy_vector dst=s6 source=s0",
        "return_many record=s3 source=s5 count=3",
    ]
    assert instructions(bytecode["calls"])[1:6] == [
        "copy_vector dst=s7 source=s0",  # behind two values that wait: of two slots and one
        "const dst=s9 value=9",
        "call delta=7",
        "copy_vector dst=s4 source=s0",  # the results are dropped; what waited becomes arguments
        "const dst=s6 value=7",
    ]
    last = ["call delta=4", "copy_vector+copy_vector dst=s0 source=s5 dst=s4 source=s0"]
    assert instructions(bytecode["calls"])[6:8] == last


def test_branches_move_values_down_by_their_slots(bytecode: dict[str, str]) -> None:
    """A branch leaves an operand of one slot behind; its values go to where the label has them."""
    assert instructions(bytecode["branch"])[2:4] == ["copy dst=s5 source=s2", "copy_vector dst=s6 source=s0"]
    assert instructions(bytecode["branch"])[7] == "copy_vector+copy_vector dst=s0 source=s6 dst=s5 source=s0"


def test_payloads_are_counted_in_slots(bytecode: dict[str, str]) -> None:
    """An exception of an i32, a value of two slots and an i64 has four words."""
    assert instructions(bytecode["throws"])[1:4] == [
        "const dst=s6 value=1",
        "copy_vector dst=s7 source=s0",
        "const dst=s9 value=2",
    ]
    assert instructions(bytecode["throws"])[4].endswith("imm1=4")
