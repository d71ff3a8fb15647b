"""Functions that would keep LLVM busy: they are compiled in a cheaper way, whose results are the same, or refused."""

from __future__ import annotations

from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import exports_of, outcome_of
from wasmloom.binary.decoder import decode_module
from wasmloom.compiler import backends, compiled, loops, lowering, units, workers
from wasmloom.compiler.facts import Facts
from wasmloom.compiler.lowering import FunctionLowering
from wasmloom.compiler.options import Options
from wasmloom.compiler.parts import Part
from wasmloom.compiler.units import Care
from wasmloom.host.engine import STACK_SWITCHING
from wasmloom.text.parser import parse_module


def is_heavy(text: str) -> bool:
    return care(text) == Care.HEAVY


def care(text: str) -> Care:
    return units._unit(Facts(decode_module(parse_module(text).binary)), Options(), [0], True)[1]


def nested(depth: int) -> str:
    return f"(module (func (local i32) {'(loop ' * depth} {'(br_if 0 (local.get 0)))' * depth}))"


def dispatching(cases: int) -> str:
    """A loop around a `br_table`, as interpreters have them; every case may begin the next round."""
    labels = " ".join(f"$c{k}" for k in range(cases))
    bodies = "".join(
        f""") (local.set $x (i32.add (i32.xor (local.get $x) (i32.const {k * 77 % 1000})) (i32.const {k})))
        (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))) (br $out)"""
        for k in range(cases)
    )
    return f"""(module (func (export "run") (param $n i32) (result i32) (local $x i32)
      (block $out (loop $next {" ".join(f"(block $c{k}" for k in reversed(range(cases)))}
        (br_table {labels} $out (i32.rem_u (local.get $x) (i32.const {cases}))) {bodies}))
      (local.get $x)))"""


def straight(body: str) -> str:
    return f"(module (memory 1) (func (param i32) (result i32) local.get 0 {body}))"


def conditions(count: int, locals: int) -> str:
    body = "".join(f"(if (local.get 0) (then (local.set {i % locals} (i32.const {i}))))" for i in range(count))
    return f"(module (func (local {'i32 ' * locals}) {body}))"


def test_what_is_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_heavy(nested(units.HEAVY_DEPTH - 1)) and is_heavy(nested(units.HEAVY_DEPTH + 2))
    monkeypatch.setattr(units, "HEAVY_JOINS", 10_000)
    assert not is_heavy(conditions(20, 20)) and is_heavy(conditions(100, 100))
    monkeypatch.setattr(units, "HEAVY_TEXT", 20_000)
    calls = "(call_indirect (i32.const 0))"
    assert not is_heavy(f"(module (table 1 funcref) (func {calls * 2}))")
    assert is_heavy(f"(module (table 1 funcref) (func {calls * 20}))")


def test_what_has_vectors() -> None:
    """What is mostly functions that load vectors is spared some passes; nothing else is, and everything comes first."""
    vectors = "(func (param i32) (result v128) (v128.load (local.get 0)))"
    numbers = "(func (param i32) (result i32) (i32.load (local.get 0)))"
    text = f"(module (memory 1) {vectors} {numbers * 3})"
    assert care(f"(module (memory 1) {vectors})") == Care.VECTORS
    facts = Facts(decode_module(parse_module(text).binary))
    assert units._unit(facts, Options(), [0, 1, 2, 3], True)[1] == Care.NONE
    loops = f"{'(loop ' * (units.HEAVY_DEPTH + 2)} (br_if 0 (i32.const 1)) {')' * (units.HEAVY_DEPTH + 2)}"
    assert is_heavy(f"(module (memory 1) (func (drop (v128.load (i32.const 0))) {loops}))")


def test_many_ways_to_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """They cost one pass the cube of their number: it is left out. A table names a place as often as it likes."""
    assert care(dispatching(units.MANY_WAYS // 2)) == Care.NONE
    text = dispatching(units.MANY_WAYS + 1)
    assert care(text) == Care.MANY_WAYS
    once = f"(module (func (block (br_table {'0 ' * 3000} (i32.const 1)))))"
    assert care(once) == Care.NONE
    passes: list[tuple[str, ...] | None] = []
    real = backends.chosen()

    class Noting:
        def compile(self, text: str, names: tuple[str, ...] | None, level: int, assembly: bool = False) -> bytes:
            passes.append(names)
            return real.compile(text, names, level, assembly)

    monkeypatch.setattr(units, "chosen", Noting)
    monkeypatch.setattr(compiled, "SMALL", 1 << 20)
    found = {
        tier: exports_of(text, wl.Engine(tier=tier, cache=False)).run(500) for tier in ("interpreter", "compiler")
    }
    assert found["interpreter"] == found["compiler"]
    assert [names and "instcombine" not in names and "sroa" in names for names in passes] == [True]
    monkeypatch.setattr(units, "HEAVY_WAYS", units.MANY_WAYS)
    assert care(text) == Care.HEAVY


def test_what_else_is_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = units.HEAVY_OPERANDS + 1
    assert is_heavy(f"(module (func (param {'i64 ' * wide}) (call 0 {'(i64.const 1)' * wide})))")
    monkeypatch.setattr(units, "HEAVY_BLOCKS", 50)
    divide, load = "i32.const 4 i32.div_s ", "i32.const 1 i32.add i32.load "
    assert not is_heavy(straight(divide * 5)) and is_heavy(straight(divide * 50))
    monkeypatch.setattr(units, "HEAVY_BLOCK", 100)
    assert not is_heavy(straight(load * 5)) and is_heavy(straight(load * 50))


def test_what_is_slow_all_the_same_is_compiled_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is that LLVM can't do in time: the same function at its lowest level, with the same result."""
    monkeypatch.setattr(compiled, "SMALL", 0)
    monkeypatch.setattr(compiled, "SECONDS", 1e-6)
    monkeypatch.setattr(compiled, "SECONDS_PER_BYTE", 0.0)
    sent: list[Part] = []
    do = workers._Worker.do

    def noting(self: workers._Worker, batch: workers._Batch, number: int) -> bytes:
        sent.append(batch.parts[number])
        return do(self, batch, number)

    monkeypatch.setattr(workers._Worker, "do", noting)
    # Enough for some ticks of the system's clock, which measures the time.
    text = straight("i32.const 3 i32.mul i32.const 5 i32.xor " * 1000).replace("(func", '(func (export "run")')
    expected = exports_of(text, wl.Engine(tier="interpreter")).run(7)
    assert exports_of(text, wl.Engine(tier="compiler", cache=False)).run(7) == expected
    assert [part.plainly for part in sent] == [False, True]


@pytest.mark.parametrize("processors", [1, 2, 4])
def test_small_modules_are_shared_by_the_processors(processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker gets less than it takes to start one, and none more than a unit."""
    body = "(i32.const 1000)" + "(i32.add (i32.const 1000))" * 250  # a kilobyte
    module = decode_module(parse_module(f"(module {f'(func (result i32) {body})' * 17})").binary)
    asked: list[int] = []

    def none(parts: Any, *rest: Any) -> list[bytes]:
        asked.append(len(parts))
        *_, finished = rest
        for number in range(len(parts)):
            finished(number, b"")
        return [b""] * len(parts)

    monkeypatch.setattr(compiled, "compile_parts", none)
    monkeypatch.setattr(compiled, "processors", lambda: processors)
    compiled.compile_module(module, Options())
    compiled.compile_module(module, Options(), workers=1)
    assert asked == [{1: 1, 2: 2, 4: 4}[processors], 1]


def test_results_that_are_the_same_on_every_way_need_no_phi() -> None:
    """A thousand branches out of a block with a thousand results: the text grows with their sum."""

    def text(branches: int) -> str:
        types = "i32 " * 50
        return f"""(module (func (export "run") (param i32) (result i32)
          {"(i32.const 7)" * 49} (local.get 0)
          {f"(block (param {types}) (result {types}) (br_if 0 (i32.eqz (local.get 0))))" * branches}
          {"(i32.add)" * 49}))"""

    def lines(branches: int) -> int:
        facts = Facts(decode_module(parse_module(text(branches)).binary))
        return units.unit_text(facts, Options(), [0], False).count("\n")

    assert lines(40) - lines(20) < 20 * 10
    for tier in ("interpreter", "compiler"):
        assert exports_of(text(20), wl.Engine(tier=tier, cache=False)).run(5) == 49 * 7 + 5


def blocks(text: str) -> list[int]:
    """How many lines the blocks of the module's first function have."""
    lines = units.unit_text(Facts(decode_module(parse_module(text).binary)), Options(), [0], False).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("define") and "@wf.0" in line)
    body = lines[first : lines.index("}", first)]
    labels = [i for i, line in enumerate(body) if line.endswith(":")]
    return [end - begin for begin, end in zip(labels, [*labels[1:], len(body)], strict=True)]


def test_long_blocks_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Straight code has blocks of a bounded length, and gives the same; what is cut counts as heavy."""
    rotate = "i32.const 3 i32.add i32.const 5 i32.rotl "
    monkeypatch.setattr(lowering, "LONGEST_BLOCK", 100)
    monkeypatch.setattr(units, "HEAVY_BLOCK", 100)
    assert len(blocks(straight(rotate * 300))) > 5 and max(blocks(straight(rotate * 300))) < 120
    assert is_heavy(straight(rotate * 300)) and not is_heavy(straight(rotate * 30))
    monkeypatch.undo()
    text = straight(rotate * (lowering.LONGEST_BLOCK // 2 + 500)).replace("(func", '(func (export "run")')
    assert is_heavy(text)
    found = {
        tier: wl.Instance(wl.Module(text, wl.Engine(tier=tier, cache=False))).exports.run(7)
        for tier in ("interpreter", "compiler")
    }
    assert found["interpreter"] == found["compiler"]


def known(count: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How much lowering copies of what it knows."""
    copied = 0
    open_block = FunctionLowering.open

    def counting(self: FunctionLowering, *args: Any) -> Any:
        nonlocal copied
        label = open_block(self, *args)
        copied += len(label.current) + len(label.memo)
        return label

    with monkeypatch.context() as patch:
        patch.setattr(FunctionLowering, "open", counting)
        units.unit_text(Facts(decode_module(parse_module(conditions(count, count)).binary)), Options(), [0], True)
    return copied


def test_what_lowering_knows_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert known(3000, monkeypatch) < 3 * known(1500, monkeypatch)


def test_locals_written_in_loops_far_inside_each_other() -> None:
    """Beyond a depth nothing is known of locals: the results are right all the same."""
    depth = loops.MOST_LOOPS + 20
    text = f"""(module (func (export "run") (param $n i32) (result i32) (local $a i32) (local $b i32)
      (local.set $a (i32.const 1))
      {"(loop " * depth}
        (local.set $b (i32.add (local.get $b) (local.get $a)))
        (local.set $a (i32.mul (local.get $a) (i32.const 3)))
        (br_if {depth - 1} (local.tee $n (i32.sub (local.get $n) (i32.const 1))))
      {") " * depth}
      (i32.add (local.get $a) (local.get $b))))"""
    a, b = 1, 0
    for _ in range(7):
        a, b = a * 3, b + a
    for tier in ("interpreter", "compiler"):
        assert exports_of(text, wl.Engine(tier=tier, cache=False)).run(7) == a + b


#: Calls of all kinds, exceptions, traps, and a continuation that suspends.
PROGRAM = """(module
  (type $f (func (param i32) (result i32))) (type $k (cont $f))
  (tag $e (param i32)) (tag $y (param i32) (result i32))
  (memory 1) (table 1 funcref) (elem (i32.const 0) $twice)
  (func $twice (param i32) (result i32) (i32.add (local.get 0) (local.get 0)))
  (func $throws (param i32) (if (i32.gt_s (local.get 0) (i32.const 3)) (then (throw $e (local.get 0)))))
  (func $worker (param $n i32) (result i32) (local $s i32)
    (loop $l
      (local.set $s (i32.add (local.get $s) (suspend $y (local.get $n))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $s))
  (elem declare func $worker)
  (func $many (param i32 i64 f32 f64 i32 i32 i32 i32 i32 i64) (result i64 i32)
    (i64.add (local.get 1) (local.get 9)) (i32.add (local.get 0) (local.get 8)))
  (func $down (param i32) (result i32)
    (if (result i32) (local.get 0)
      (then (return_call $down (i32.sub (local.get 0) (i32.const 1)))) (else (i32.const 77))))
  (func (export "switches") (param $n i32) (result i32) (local $k (ref null $k)) (local $sum i32) (local $v i32)
    (local.set $k (cont.new $k (ref.func $worker)))
    (local.set $v (local.get $n))
    (loop $next (result i32)
      (block $got (result i32 (ref $k))
        (resume $k (on $y $got) (local.get $v) (local.get $k))
        (return (i32.add (local.get $sum))))
      (local.set $k)
      (local.set $v (i32.mul (i32.const 3)))
      (local.set $sum (i32.add (local.get $sum) (local.get $v)))
      (br $next)))
  (func (export "catches") (param i32) (result i32)
    (block $h (result i32) (try_table (catch $e $h) (call $throws (local.get 0))) (i32.const -1)))
  (func (export "calls") (param i32) (result i64 i32 i32)
    (call $many (local.get 0) (i64.const 5) (f32.const 1) (f64.const 2) (i32.const 1) (i32.const 2) (i32.const 3)
      (i32.const 4) (i32.const 50) (i64.const 0x100000000))
    (call $down (call_indirect (type $f) (local.get 0) (i32.const 0))))
  (func (export "traps") (param i32) (result i32)
    (i32.load (i32.mul (local.get 0) (i32.const 16384))))
  (func (export "divides") (param i32) (result i32)
    (i32.div_s (i32.const 100) (i32.sub (local.get 0) (i32.const 4)))))"""


@pytest.mark.parametrize("switching", STACK_SWITCHING)
def test_heavy_functions_do_what_others_do(switching: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "HEAVY_TEXT", 0)
    heavy = exports_of(PROGRAM, wl.Engine(tier="compiler", cache=False, stack_switching=switching))
    other = exports_of(PROGRAM, wl.Engine(tier="interpreter"))
    for name in ("switches", "catches", "calls", "traps", "divides"):
        for n in (1, 2, 4, 5, 9):
            assert outcome_of(getattr(heavy, name), n) == outcome_of(getattr(other, name), n), (name, n)


def test_functions_that_would_need_too_much_memory_are_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowering, "MOST_LINES", 200)
    text = f'(module (func (export "f") (result i32) {"(call 0) (drop) " * 200} (i32.const 1)))'
    with pytest.warns(RuntimeWarning, match="too large for the compiler"):
        module = wl.Module(text, wl.Engine(tier="compiler", cache=False))
    assert module.mixed is not None and not module.mixed.has(0)
