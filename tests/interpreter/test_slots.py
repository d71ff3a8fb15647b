"""Slots of a frame follow from what the values' kinds take: a dry run with a kind that takes two.

The kind is made up in a process of its own, before the translator fills its tables. It is given the one type that
modules can name already and nothing executes: no instruction makes or takes such values, but locals, parameters,
blocks, branches, calls and returns carry them.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from wasmloom.text.parser import parse_module

#: Makes up the kind, translates the module that it reads, and prints the functions' bytecode, an empty line between.
DRY_RUN = """
import sys
from wasmloom.semantics import kinds
from wasmloom.spec.types import V128
wide = kinds.Kind("v128", 5, 128, kinds.Register.FLOAT, "v128")
kinds.KINDS["v128"] = kinds.NUMBERS[V128] = wide
from wasmloom.binary.decoder import decode_module
from wasmloom.interpreter.code_space import new_code_space
from wasmloom.interpreter.disassembler import disassemble
from wasmloom.validation import validate_module
module = decode_module(sys.stdin.buffer.read())
validate_module(module)
space = new_code_space(module)
print("\\n".join(disassemble(space, i) for i in range(module.num_bodies)))
"""

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
    ran = subprocess.run(
        [sys.executable, "-c", DRY_RUN], input=parse_module(MODULE).binary, capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode()
    return dict(zip(names, ran.stdout.decode().strip().split("\n\n"), strict=True))


def instructions(text: str) -> list[str]:
    """The handlers and fields of a function, without offsets and the address of the callee's code."""
    return [re.sub(r" code=\w+", "", line.split(None, 2)[2]) for line in text.splitlines()]


def test_locals_lie_one_behind_the_other(bytecode: dict[str, str]) -> None:
    """Parameters in 0-1, 2, 3-4; locals in 5, 6-7, 8, all zeroed; the record is behind them."""
    enter, move, add, *_ = instructions(bytecode["locals"])
    assert enter == "enter.4 frame=120 record=s9 zeroed=4"
    assert move == "move dst=s6 source=s0 count=2"
    assert add == "i32.add.ss.s dst=s8 a=s2 b=s8"


def test_results_and_arguments_have_room_for_their_kinds(bytecode: dict[str, str]) -> None:
    """What is returned, and what a call puts where the callee's frame begins."""
    assert instructions(bytecode["swap"]) == [
        "enter.0 frame=80 record=s3 zeroed=0",
        "copy dst=s5 source=s2",
        "move dst=s6 source=s0 count=2",
        "return_many record=s3 source=s5 count=3",
    ]
    assert instructions(bytecode["calls"])[1:6] == [
        "move dst=s7 source=s0 count=2",  # behind two values that wait: of two slots and one
        "const dst=s9 value=9",
        "call delta=7",
        "move dst=s4 source=s0 count=2",  # the results are dropped; what waited becomes arguments
        "const dst=s6 value=7",
    ]
    assert instructions(bytecode["calls"])[6:8] == ["call delta=4", "move dst=s0 source=s5 count=2"]


def test_branches_move_values_down_by_their_slots(bytecode: dict[str, str]) -> None:
    """A branch leaves an operand of one slot behind; its values go to where the label has them."""
    assert instructions(bytecode["branch"])[2:4] == ["copy dst=s5 source=s2", "move dst=s6 source=s0 count=2"]
    assert instructions(bytecode["branch"])[7] == "move dst=s0 source=s6 count=2"


def test_payloads_are_counted_in_slots(bytecode: dict[str, str]) -> None:
    """An exception of an i32, a value of two slots and an i64 has four words."""
    assert instructions(bytecode["throws"])[1:4] == [
        "const dst=s6 value=1",
        "move dst=s7 source=s0 count=2",
        "const dst=s9 value=2",
    ]
    assert instructions(bytecode["throws"])[4].endswith("imm1=4")
