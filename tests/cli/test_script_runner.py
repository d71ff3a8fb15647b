"""The runner of test scripts counts what happens, whatever happens."""

from __future__ import annotations

import pytest

from wasmloom import Engine
from wasmloom.cli.script_runner import Outcome, run_script
from wasmloom.semantics import features


def run(text: str, **options: str) -> Outcome:
    return run_script(text.encode(), Engine(**options))  # type: ignore[arg-type]


MODULE = """(module
  (func (export "one") (result i32) (i32.const 1))
  (func (export "same") (param f32) (result f32) (local.get 0))
  (func (export "bad") (unreachable))
  (func $deep (export "deep") (call $deep))
  (func (export "extern") (param externref) (result externref) (local.get 0))
  (global (export "g") i64 (i64.const -1))
  (memory 1))
"""


@pytest.mark.parametrize(
    "command",
    [
        '(assert_return (invoke "one") (i32.const 1))',
        '(assert_return (invoke "one") (either (i32.const 2) (i32.const 1)))',
        '(assert_return (invoke "same" (f32.const nan:0x200000)) (f32.const nan:0x200000))',
        '(assert_return (invoke "same" (f32.const -nan)) (f32.const nan:canonical))',
        '(assert_return (invoke "extern" (ref.extern 3)) (ref.extern 3))',
        '(assert_return (invoke "extern" (ref.null extern)) (ref.null extern))',
        '(assert_return (get "g") (i64.const -1))',
        '(assert_trap (invoke "bad") "unreachable")',
        '(assert_trap (invoke "bad") "unreachable executed")',
        '(assert_exhaustion (invoke "deep") "call stack exhausted")',
        '(assert_malformed (module quote "(func (oops))") "unknown operator")',
        '(assert_malformed (module binary "\\00asm") "unexpected end")',
        '(assert_invalid (module (func (result i32))) "type mismatch")',
        '(assert_unlinkable (module (import "a" "b" (func))) "unknown import")',
        '(assert_trap (module (func $f unreachable) (start $f)) "unreachable")',
        '(module $N (func (export "f"))) (invoke $N "f")',
        '(module definition $D (func (export "f"))) (module instance $I $D) (invoke $I "f")',
        '(register "m") (module (import "m" "one" (func (result i32))))',
        '(module (import "spectest" "print_i32" (func (param i32))) (import "spectest" "memory" (memory 1 2))'
        ' (import "spectest" "table" (table 10 20 funcref)) (import "spectest" "global_f32" (global f32)))',
    ],
)
@pytest.mark.parametrize("translation", ["lazy-translation", "eager", "lazy"])
def test_what_holds(command: str, translation: str) -> None:
    outcome = run(MODULE + command, translation=translation)
    assert outcome.failures == [] and outcome.skips == 0
    assert outcome.passed >= 2


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ('(assert_return (invoke "one") (i32.const 2))', "one returned [(i32.const 0x00000001)]"),
        ('(assert_return (invoke "one") (i64.const 1))', "expected"),
        ('(assert_return (invoke "one"))', "expected []"),
        ('(assert_return (invoke "same" (f32.const nan:0x200000)) (f32.const nan:canonical))', "nan:canonical"),
        ('(assert_return (invoke "none"))', "there is no export 'none'"),
        ('(assert_return (invoke "one" (i32.const 1)) (i32.const 1))', "TypeError"),
        ('(assert_return (invoke "bad"))', "Trap: unreachable"),
        ('(assert_trap (invoke "bad") "out of bounds")', "trapped with 'unreachable'"),
        ('(assert_trap (invoke "one") "unreachable")', "expected a trap"),
        ('(assert_malformed (module quote "(func (result i32))") "unexpected token")', "expected a module that is"),
        ('(assert_invalid (module quote "(func (oops))") "type mismatch")', "expected a module that is invalid"),
        ('(assert_invalid (module (func)) "type mismatch")', "the module was accepted"),
        ('(assert_unlinkable (module) "unknown import")', "the module was linked"),
        ('(assert_trap (module) "unreachable")', "expected a trap"),
        ('(assert_exception (invoke "bad"))', "expected an exception"),
        ('(module (import "a" "b" (func)))', "LinkError"),
    ],
)
def test_what_fails(command: str, why: str) -> None:
    outcome = run(MODULE + command + '\n(assert_trap (module (func $f unreachable) (start $f)) "unreachable")')
    assert [line for line, _ in outcome.failures] == [MODULE.count("\n") + 1]
    assert why in outcome.failures[0][1]
    assert (outcome.passed, outcome.skips) == (2, 0)


def test_what_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "EXECUTED", features.EXECUTED - {"gc"})
    outcome = run(
        """(module $m (func (export "f") (ref.i31 (i32.const 0)) drop))
        (assert_return (invoke "f"))
        (register "m")
        (module (import "m" "f" (func)))
        (assert_return (invoke "f"))
        (assert_malformed (module quote "(func (ref.i31 i32))") "unexpected token")
        (assert_invalid (module (func (result i31ref))) "type mismatch")
        (threads $t)
        (module (func (export "f")))
        (assert_return (invoke "f"))
        (assert_malformed_custom (module quote "(module (@custom))") "missing section name")"""
    )
    assert outcome.failures == []
    assert outcome.skipped == {"gc is not supported yet": 5, "the command threads isn't known": 1}
    assert outcome.passed == 5


def test_an_unreadable_script_is_one_failure() -> None:
    outcome = run("(module)\n(assert_return (")
    assert [line for line, _ in outcome.failures] == [2]
    assert run("").passed == run("").failed == 0


SHARED = """
(module $Mem (memory (export "shared") 1 1 shared) (memory (export "own") 1 1) (func (export "f")))
(thread $T1 (shared (module $Mem))
  (register "mem" $Mem)
  (assert_unlinkable (module (memory (import "mem" "own") 1 1)) "unknown import")
  (assert_unlinkable (module (func (import "mem" "f"))) "unknown import")
  (module
    (memory (import "mem" "shared") 1 1 shared)
    (func (export "run") (result i32) (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1))))
  (assert_return (invoke "run") (i32.const 0))
  (assert_return (invoke "run") (i32.const 7)))
(thread (invoke "nothing"))
(thread $T2 (shared (module $Mem))
  (thread $T3 (shared (module $Mem))
    (register "mem" $Mem)
    (module
      (memory (import "mem" "shared") 1 1 shared)
      (func (export "run")
        (loop (br_if 0 (i32.ne (memory.atomic.notify (i32.const 0) (i32.const 1)) (i32.const 1)))
          (br_if 0 (i32.eqz (i32.atomic.rmw.add (i32.const 4) (i32.const 1)))))))
    (invoke "run"))
  (wait $T3)
  (wait $T3))
(wait $T1)
(wait $T2)
(register "mem" $Mem)
(thread (assert_unlinkable (module (memory (import "mem" "shared") 1 1 shared)) "unknown import"))
"""


@pytest.mark.parametrize("tier", ["interpreter", "compiler"])
def test_threads_share_memories_and_nothing_else(tier: str) -> None:
    outcome = run(SHARED, tier=tier)
    assert sorted(why for _, why in outcome.failures) == [
        "run returned [(i32.const 0x00000000)], expected [(i32.const 0x00000007)]",
        "there is no thread $T3",
    ]
    assert outcome.skipped == {"there is no module before this": 1}
    assert outcome.passed == 19
