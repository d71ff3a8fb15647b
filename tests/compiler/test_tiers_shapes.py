"""Functions of unusual shapes in compiled code, and what ends loops from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of, exports_of

MASK = (1 << 64) - 1


@pytest.mark.parametrize("name", ENGINES)
def test_br_table_with_many_cases(name: str) -> None:
    """Every index below, at and above the number of targets; several indices for a target; values go along."""
    count = 700
    targets = [(7 * i) % 50 for i in range(count)]
    blocks = "".join(f"(block $b{i} (result i32) " for i in reversed(range(51)))
    ends = "".join(f") (i32.const {1000 + i}) i32.add br $out" if i < 50 else ")" for i in range(51))
    source = f"""(module (func (export "run") (param i32) (result i32)
      (block $out (result i32) {blocks}
        (br_table {" ".join(f"$b{target}" for target in targets)} $b50 (i32.const 5) (local.get 0)) {ends}
        (i32.const 77) i32.add)))"""
    run = exports_of(source, engine_of(name)).run
    for index in [*range(count + 3), 1 << 16, 0x7FFFFFFF, -1, -0x80000000]:
        wanted = 5 + 1000 + targets[index] if 0 <= index < count else 5 + 77
        assert run(index) == wanted, index


@pytest.mark.parametrize("name", ENGINES)
def test_thousands_of_locals(name: str) -> None:
    """All of them live across a call and a loop."""
    count = 3000
    sets = "".join(f"(local.set {i} (i64.add (local.get 0) (i64.const {i * i})))" for i in range(1, count))
    adds = "".join(f"(local.set $sum (i64.add (local.get $sum) (local.get {i})))" for i in range(1, count))
    source = f"""(module (func $nop (result i64) (i64.const 3))
      (func (export "run") (param i64) (result i64) (local {"i64 " * (count - 1)}) (local $sum i64)
        {sets}
        (loop $l (local.set $sum (i64.add (local.get $sum) (call $nop))) {adds}
          (local.set 0 (i64.sub (local.get 0) (i64.const 1)))
          (br_if $l (i64.ne (local.get 0) (i64.const 0))))
        (local.get $sum)))"""
    run = exports_of(source, engine_of(name)).run
    for x in (1, 2):
        assert run(x) == x * (3 + sum(x + i * i for i in range(1, count)))


@pytest.mark.parametrize("name", ENGINES)
def test_ten_thousand_instructions(name: str) -> None:
    """One long expression, and as many memory accesses, in a function each."""
    numbers = [(i * 2654435761) & 0xFFFF for i in range(3300)]
    operators = ("add", "xor", "sub", "mul", "rotl")
    chain = " ".join(f"(i64.const {n}) i64.{operators[i % 5]}" for i, n in enumerate(numbers))
    wanted = 12345
    for i, n in enumerate(numbers):
        kind = operators[i % 5]
        if kind == "rotl":
            wanted = wanted << n % 64 | wanted >> 64 - n % 64 if n % 64 else wanted
        else:
            wanted = {"add": wanted + n, "xor": wanted ^ n, "sub": wanted - n, "mul": wanted * n}[kind]
        wanted &= MASK
    accesses = "".join(f"(i32.store offset={4 * i} (local.get 0) (i32.load offset={4 * i + 4} (local.get 0)))"
                       for i in range(2500))  # fmt: skip
    source = f"""(module (memory (export "memory") 1)
      (func (export "chain") (param i64) (result i64) (local.get 0) {chain})
      (func (export "shift") (param i32) {accesses}))"""
    exports = exports_of(source, engine_of(name))
    assert exports.chain(12345) & MASK == wanted
    exports.memory.write(0, bytes(i * 37 & 0xFF for i in range(20000)))
    before = bytes(exports.memory.read(0, 20000))
    exports.shift(16)
    assert bytes(exports.memory.read(0, 20000)) == before[:16] + before[20 : 16 + 10004] + before[16 + 10000 :]
    with pytest.raises(wl.Trap, match="out of bounds"):
        exports.shift(65536 - 5000)


@pytest.mark.parametrize("name", ENGINES)
def test_blocks_nest_deeply(name: str) -> None:
    """With values that go through all of them."""
    depth = 600
    source = f"""(module (func (export "run") (param i32) (result i32)
      {"(block (result i32) (i32.add (i32.const 1) " * depth}
      (if (result i32) (local.get 0) (then (br {depth} (i32.const 9))) (else (i32.const 0))) {"))" * depth}))"""
    run = exports_of(source, engine_of(name)).run
    assert run(0) == depth
    assert run(1) == 9 + 1 - 1


CTRL_C = """
import os, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a script starts in the background ignores it
import wasmloom as wl
from tests.compiler.tiers import engine_of, exports_of
exports = exports_of('''(module (memory 1)
  (type $v (func)) (type $k (cont $v)) (tag $t) (elem declare func $g)
  (func (export "empty") (loop $l (br $l)))
  (func (export "stores") (loop $l (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1))) (br $l)))
  (func $tail (export "tail") (return_call $tail))
  (func $g (loop $l (suspend $t) (br $l)))
  (func (export "stacks") (local $k (ref null $k)) (local.set $k (cont.new $k (ref.func $g)))
    (loop $l (block $h (result (ref $k)) (resume $k (on $t $h) (local.get $k)) (unreachable)) (local.set $k) (br $l)))
  (func $spin (loop $l (br $l))) (elem declare func $spin)
  (func (export "inside") (resume $k (cont.new $k (ref.func $spin))))
  (func (export "one") (result i32) (i32.const 1)))''', engine_of(NAME))
for function in ("empty", "stores", "tail", "stacks", "inside"):
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        exports[function]()
        print("came back")
    except KeyboardInterrupt:
        print(function)
    timer.join()
    assert exports.one() == 1
"""


@pytest.mark.parametrize("name", ENGINES)
def test_ctrl_c_ends_loops(name: str) -> None:
    """Empty ones and others, on continuations too; afterwards the store works."""
    project = Path(__file__).resolve().parents[2]
    paths = [str(Path(wl.__file__).resolve().parents[1]), str(project)]
    result = subprocess.run(
        [sys.executable, "-c", CTRL_C.replace("NAME", repr(name))],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["empty", "stores", "tail", "stacks", "inside"]
