"""Traps, their backtraces, exhausted stacks, and re-entrancy."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import wasmloom as wl


def run(text: str, imports: Any = None, **more: Any) -> Any:
    return wl.Instance(wl.Module(f"(module {text})"), imports, **more).exports


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("unreachable", "unreachable"),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", "integer divide by zero"),
        ("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", "integer overflow"),
        ("(drop (i32.trunc_f32_s (f32.const nan)))", "invalid conversion to integer"),
        ("(drop (i32.load (i32.const 65533)))", "out of bounds memory access"),
        ("(drop (i32.load offset=0xffffffff (i32.const -1)))", "out of bounds memory access"),
        ("(i64.store8 (i32.const 65536) (i64.const 0))", "out of bounds memory access"),
        ("(memory.fill (i32.const 65536) (i32.const 0) (i32.const 1))", "out of bounds memory access"),
        ("(memory.copy (i32.const 0) (i32.const -1) (i32.const 1))", "out of bounds memory access"),
        ("(memory.copy (i32.const 0) (i32.const 2) (i32.const -1))", "out of bounds memory access"),
        ("(memory.init $d (i32.const 0) (i32.const 0) (i32.const 4))", "out of bounds memory access"),
        ("(data.drop $d) (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))", "out of bounds memory access"),
        ("(drop (table.get $t (i32.const 2)))", "out of bounds table access"),
        ("(table.fill $t (i32.const 1) (ref.null func) (i32.const 2))", "out of bounds table access"),
        ("(table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 2))", "out of bounds table access"),
        ("(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 2))", "out of bounds table access"),
        ("(elem.drop $e) (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1))", "out of bounds table access"),
        ("(call_indirect $t (i32.const 2))", "undefined element"),
        ("(call_indirect $t (i32.const 0))", "uninitialized element"),
        ("(call_ref $v (ref.null $v))", "null function reference"),
        ("(drop (ref.as_non_null (ref.null func)))", "null reference"),
    ],
)
def test_codes(body: str, code: str) -> None:
    exports = run(f"""(type $v (func)) (memory 1) (data $d "abc") (table $t 2 funcref) (func $x) (elem $e func $x)
      (func $inner {body}) (func (export "f") (call $inner)) (func (export "ok") (result i32) (i32.const 1))""")
    for _ in range(2):
        with pytest.raises(wl.Trap) as trap:
            exports.f()
        assert trap.value.code == code
        assert [frame.func_name for frame in trap.value.frames] == ["inner", "f"]
        assert str(trap.value).startswith(f"{code}\nwasm backtrace:\n  0: inner at offset 0x")
        assert exports.ok() == 1


def test_frames() -> None:
    exports = run("""(func $a (param i32) (if (local.get 0) (then (call $b))))
      (func $b (unreachable)) (func (export "f") (call $a (i32.const 1)))""")
    with pytest.raises(wl.Trap) as trap:
        exports.f()
    frames = trap.value.frames
    assert [(frame.func_index, frame.func_name) for frame in frames] == [(1, "b"), (0, "a"), (2, "f")]
    offsets = [frame.offset for frame in frames]
    assert None not in offsets
    assert len(set(offsets)) == 3


def test_frames_of_several_instances() -> None:
    inner = wl.Instance(wl.Module('(module $inner (func $boom (unreachable)) (func (export "f") (call $boom)))'))
    outer = wl.Instance(
        wl.Module('(module $outer (import "e" "f" (func $f)) (func $mid (call $f)) (func (export "g") (call $mid)))'),
        {"e": inner},
    )
    with pytest.raises(wl.Trap) as trap:
        outer.exports.g()
    assert [(frame.module, frame.func_name) for frame in trap.value.frames] == [
        ("inner", "boom"),
        ("inner", "f"),
        ("outer", "mid"),
        ("outer", "g"),
    ]


REENTRANT = """(import "e" "host" (func $host (param i32)))
  (func $inner (param i32) (call $host (local.get 0)))
  (func (export "f") (param i32) (call $inner (local.get 0)))
  (func $boom (export "boom") (unreachable))"""


def test_frames_through_host_functions() -> None:
    def host(n: int) -> None:
        if n:
            exports.f(n - 1)
        else:
            exports.boom()

    exports = run(REENTRANT, {"e": {"host": host}})
    with pytest.raises(wl.Trap) as trap:
        exports.f(1)
    assert [frame.func_name for frame in trap.value.frames] == [
        "boom",
        "e.host",
        "inner",
        "f",
        "e.host",
        "inner",
        "f",
    ]
    assert trap.value.frames[1].offset is None
    with pytest.raises(wl.Trap) as trap:
        exports.boom()
    assert [frame.func_name for frame in trap.value.frames] == ["boom"]


def test_a_caught_trap_leaves_the_outer_call_intact() -> None:
    def host(n: int) -> None:
        with pytest.raises(wl.Trap):
            exports.boom()

    exports = run(
        """(import "e" "host" (func $host (param i32)))
      (func (export "f") (param i32 i32) (result i32) (local i32)
        (local.set 2 (i32.mul (local.get 0) (local.get 1)))
        (call $host (i32.const 1)) (i32.add (local.get 2) (i32.const 1)))
      (func $boom (export "boom") (unreachable))""",
        {"e": {"host": host}},
    )
    assert exports.f(6, 7) == 43


# --- the value stack ---

DEEP = """(func $deep (export "deep") (param i32) (result i32)
    (if (result i32) (local.get 0)
      (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))
      (else (i32.const 0))))
  (func $forever (export "forever") (call $forever))
  (func $wide (export "wide") (param i64) (result i64) (local i64 i64 i64 i64)
    (local.set 1 (i64.mul (local.get 0) (i64.const 3)))
    (local.set 4 (i64.add (local.get 0) (i64.const 5)))
    (if (i64.ne (local.get 0) (i64.const 0)) (then (local.set 2 (call $wide (i64.sub (local.get 0) (i64.const 1))))))
    (i64.add (local.get 2) (i64.sub (local.get 4) (local.get 1))))"""


def wide(n: int) -> int:
    return sum(i + 5 - 3 * i for i in range(n + 1))


def test_recursion_and_exhaustion() -> None:
    exports = run(DEEP, store=wl.Store(stack_limit=16 << 20))
    for depth in (0, 1, 10, 1000, 50_000, 200_000):
        assert exports.deep(depth) == depth
    assert exports.wide(20_000) == wide(20_000)
    with pytest.raises(wl.Trap) as trap:
        exports.forever()
    assert trap.value.code == "call stack exhausted"
    assert 0 < len(trap.value.frames) <= 1000
    assert {frame.func_name for frame in trap.value.frames} == {"forever"}
    assert exports.deep(1000) == 1000


@pytest.mark.parametrize("limit", [4096, 100_000, 1 << 20])
def test_stack_limit(limit: int) -> None:
    exports = run(DEEP, store=wl.Store(stack_limit=limit))

    def fits(depth: int) -> bool:
        try:
            return bool(exports.deep(depth) == depth)
        except wl.Trap as trap:
            assert trap.code == "call stack exhausted"
            return False

    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    # A frame of compiled code can be that of three calls: two functions stand in a third.
    assert limit // 100 < low < limit * 3 // 8
    assert fits(low)


def test_arguments_that_do_not_fit_the_stack() -> None:
    types = "i64 " * 1000
    exports = run(f'(func (export "f") (param {types}) (result i64) (local.get 999))', store=wl.Store(stack_limit=4096))
    with pytest.raises(wl.Trap, match="call stack exhausted"):
        exports.f(*range(1000))


def test_frames_survive_moves_of_the_stack() -> None:
    """Each nested entry goes deep enough to make the stack move below the frames of the outer ones."""
    log = []

    def host(depth: int, n: int) -> int:
        log.append(depth)
        assert exports.deep(depth) == depth
        return exports.mix(n, depth * 3) if n else 0

    exports = run(
        f"""(import "e" "host" (func $host (param i32 i32) (result i32)))
      (func $mix (export "mix") (param i32 i32) (result i32) (local i32 i32)
        (local.set 2 (i32.add (local.get 0) (local.get 1)))
        (local.set 3 (call $host (local.get 1) (i32.sub (local.get 0) (i32.const 1))))
        (i32.add (i32.add (local.get 3) (local.get 2)) (i32.const 1)))
      {DEEP}""",
        {"e": {"host": host}},
    )
    depths = [100 * 3**i for i in range(6)]
    expected = sum(n + depth + 1 for n, depth in zip(range(6, 0, -1), depths, strict=True))
    assert exports.mix(6, 100) == expected
    assert log == depths


def test_nesting_of_host_and_guest_is_bounded() -> None:
    script = f"""
import sys, threading
import wasmloom as wl
sys.setrecursionlimit(10**6)
exports = wl.Instance(wl.Module('''(module {REENTRANT})'''), {{"e": {{"host": lambda n: exports.f(n + 1)}}}}).exports
def check():
    try:
        exports.f(0)
    except wl.Trap as trap:
        assert trap.code == "call stack exhausted", trap
        assert "e.host" in str(trap)
        assert trap.frames[1].func_name == "inner"
    except RecursionError:
        pass  # Python's own limit comes first in some versions
    else:
        raise AssertionError
check()
for size in (256 << 10, 1 << 20):
    threading.stack_size(size)
    thread = threading.Thread(target=check)
    thread.start()
    thread.join()
print("done")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_tail_calls_run_in_constant_stack() -> None:
    exports = run(
        """(func $loop (export "loop") (param i32) (result i32)
      (if (result i32) (local.get 0)
        (then (return_call $loop (i32.sub (local.get 0) (i32.const 1))))
        (else (i32.const 7))))""",
        store=wl.Store(stack_limit=4096),
    )
    assert exports.loop(1_000_000) == 7


def test_subtype_check_of_call_indirect_takes_the_slow_path() -> None:
    exports = run("""(type $a (func (result i32))) (type $b (func (result i64)))
      (func $f (type $a) (i32.const 3)) (table funcref (elem $f))
      (func (export "right") (result i32) (call_indirect (type $a) (i32.const 0)))
      (func (export "wrong") (result i64) (call_indirect (type $b) (i32.const 0)))""")
    assert exports.right() == 3
    with pytest.raises(wl.Trap, match="indirect call type mismatch"):
        exports.wrong()
