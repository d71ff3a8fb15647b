"""Dumps of bytecode: every instruction is recognised, whatever its size."""

from __future__ import annotations

import re

import wasmloom as wl
from wasmloom.interpreter.disassembler import disassemble

LINE = re.compile(r"  ([0-9a-f]{4})  @([0-9a-f]{6})  (\S.*)")


def dump(text: str, index: int = 0) -> list[tuple[int, str]]:
    """The (offset, instruction) pairs of a function's dump."""
    lines = disassemble(wl.Module(text).code_space, index).splitlines()
    matches = [LINE.fullmatch(line) for line in lines]
    assert all(matches), lines
    return [(int(match[1], 16), match[3]) for match in matches if match is not None]


def test_branches_name_the_instructions_they_go_to() -> None:
    lines = dump("""(module (func (param i32) (result i32) (local i32)
        (block $a (block $b (block $c (br_table $a $b $c (local.get 0))) (local.set 1 (i32.const 3))))
        (loop $l (local.set 1 (i32.sub (local.get 1) (i32.const 1))) (br_if $l (local.get 1)))
        (local.get 1)))""")
    offsets = {offset for offset, _ in lines}
    targets = [
        int(target, 16) for _, text in lines for target in re.findall(r"(?<=→ )[0-9a-f]{4}|(?<= )[0-9a-f]{4}\b", text)
    ]
    assert len(targets) == 4
    # A fused instruction's second half is where a loop can't begin: all targets are instructions of their own.
    assert set(targets) <= offsets


def test_clauses_of_resume() -> None:
    lines = dump("""(module
        (type $f (func)) (type $k (cont $f)) (tag $a (param i32)) (tag $b)
        (func (param (ref $k))
          (block $h (result i32 (ref $k))
            (resume $k (on $a $h) (on $b switch) (local.get 0))
            (return))
          (unreachable)))""")
    (resume,) = [text for _, text in lines if text.startswith("resume")]
    assert "clause_count=2" in resume
    assert re.search(r"\(on tag=\d+ values=s\d+ → [0-9a-f]{4}\) \(on tag=\d+ switch\)", resume)
    assert lines[-1][1] == "unreachable"
