"""Slots that loops read are in registers, and nobody can tell."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest

import wasmloom as wl
from tests.baseline.test_stencils import GROUPS, unfused
from tests.conftest import needs_guard_pages
from tests.interpreter.shapes import INPUTS, LOCALS, Shape, parse, prologue
from tests.interpreter.test_instructions import check, shaped
from tests.interpreter.test_limits import module
from tests.semantics.modules import block, get, op, put
from wasmloom.baseline import roles
from wasmloom.baseline.generator import colliding
from wasmloom.baseline.plans import planned
from wasmloom.baseline.roles import Patch, exchanged, patched, patches, turned
from wasmloom.interpreter.disassembler import disassemble
from wasmloom.target import pins

pytestmark = pytest.mark.usefixtures("code_at_once")

#: Locals behind those of a shape: for its result, and for 0.
RESULT, ZERO = INPUTS + len(LOCALS), INPUTS + len(LOCALS) + 1


def looped(shape: Shape) -> Shape:
    """The same in a loop that has one turn. Its result takes a way that nothing is fused with."""
    start = len(prologue())
    code = shape.code[:start] + block("loop") + shape.code[start:]
    code += op("f64.reinterpret_i64") + op("i64.reinterpret_f64") + put(RESULT)
    code += get(ZERO) + op("br_if", 0) + op("end") + get(RESULT)
    fault = None if shape.fault is None else shape.fault + len(block("loop"))
    return shape._replace(code=code, fault=fault)


@needs_guard_pages
@pytest.mark.parametrize("group", range(GROUPS))
def test_operands_in_registers(group: int) -> None:
    rng = random.Random(group)
    instance, cases = shaped(unfused()[group::GROUPS], rng, 3, tier="baseline", wrap=looped)
    assert len(cases) > 100
    check(instance, cases, rng)
    reading = [case for case in cases if (part := parse(case.name)) is not None and "s" in part.kinds]
    pinned = [case for case in reading if planned(instance.module.code_space, case.function).pins]
    assert len(pinned) > 0.9 * len(reading)


def instance_of(text: str, imports: dict[str, dict[str, object]] | None = None) -> wl.Instance:
    engine = wl.Engine(tier="baseline")
    return wl.Instance(wl.Module(text, engine), imports or {}, store=wl.Store(engine))


def pins_of(instance: wl.Instance, index: int = 0) -> list[int]:
    instance.module.code_space.translate_all()
    return [slot for slot, _ in planned(instance.module.code_space, index).pins]


def test_without_loops_nothing_is_pinned() -> None:
    instance = instance_of('(module (func (export "f") (param i32) (result i32) local.get 0 local.get 0 i32.mul))')
    assert instance.exports.f(7) == 49
    assert not pins_of(instance)


def test_the_most_read_are_pinned() -> None:
    """Of more locals than there are registers, in the inner of two loops."""
    count = len(pins.INTEGERS)
    locals = range(1, count + 3)
    inner = "".join(f"local.get {i} i32.add " * i for i in locals)
    set_up = "".join(f"i32.const {i} local.set {i} " for i in locals)
    instance = instance_of(f"""(module (func (export "f") (param i32) (result i32)
      (local {"i32 " * (count + 3)})
      {set_up}
      (loop $outer
        (loop $inner
          i32.const 0 {inner} local.set {count + 3}
          (br_if $inner (i32.const 0)))
        (br_if $outer (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
      local.get {count + 3}))""")
    assert instance.exports.f(3) == sum(i * i for i in locals)
    assert sorted(pins_of(instance)) == [*locals][-count:]


def test_many_branches_to_one_loop() -> None:
    """Each is noted once, not for all before it: that would hang here."""
    engine = wl.Engine(tier="baseline")
    body = block("loop") + (get(0) + op("br_if", 0)) * 600_000 + op("end")
    instance = wl.Instance(wl.Module(module(body, locals=1), engine), {}, store=wl.Store(engine))
    instance.exports.f()
    assert pins_of(instance)


COUNTED = """
  (func $count (param i32 i64 f64) (result i64)
    (local $sum i64) (local $i i32)
    (loop $again
      BODY
      (local.set $sum (i64.add (local.get $sum) (i64.add (local.get 1) (i64.trunc_f64_s (local.get 2)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (local.get 0))))
    local.get $sum)
  (export "count" (func $count))
"""
#: What a turn of the loop does besides: registers are lost, or wouldn't be worth it, or the frame moves.
BODIES = {
    "nothing": "",
    "a call": "(drop (call $clobbers (i64.const 1)))",
    "a call by reference": "(drop (call_indirect (type $t) (i64.const 1) (i32.const 0)))",
    "the host": "(call $host)",
    "the runtime": "(drop (memory.grow (i32.const 0)))",
    "a branch table": "(block (block (block (br_table 0 1 2 (local.get $i)))))",
    "several values": "(block (result i64 i64) (i64.const 1) (i64.const 2) (br 0)) (drop) (drop)",
    "a handler": "(block $h (try_table (catch_all $h) (throw $e)))",
    "a continuation": """
      (block $on (result (ref $ct)) (resume $ct (on $yield $on) (cont.new $ct (ref.func $yields))) (unreachable))
      (resume $ct)""",
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("reads", [0, 30])
def test_values_outlast_what_else_happens(body: str, reads: int) -> None:
    """`reads`: so many more reads of locals in a turn, for which a pin is worth it whatever it costs."""
    more = "(drop (i64.add (local.get 1) (i64.trunc_f64_s (local.get 2))))" * reads
    text = f"""(module
      (type $t (func (param i64) (result i64)))
      (type $f (func)) (type $ct (cont $f))
      (import "env" "host" (func $host))
      (tag $e) (tag $yield)
      (memory 1)
      (table 1 funcref) (elem (i32.const 0) $clobbers)
      (elem declare func $yields)
      (func $yields (suspend $yield))
      (func $clobbers (type $t) (local i64 i64 i64 i64 i64)
        (loop $l
          (local.set 1 (i64.add (local.get 0) (local.get 1)))
          (local.set 2 (i64.add (local.get 1) (local.get 2)))
          (local.set 3 (i64.add (local.get 2) (local.get 3)))
          (local.set 4 (i64.add (local.get 3) (local.get 4)))
          (br_if $l (i64.lt_u (local.get 1) (i64.const 3))))
        (local.get 4))
      {COUNTED.replace("BODY", more + BODIES[body])})"""
    seen: list[int] = []
    instance = instance_of(text, {"env": {"host": lambda: seen.append(1)}})
    assert instance.exports.count(5, 1 << 40, 3.0) == 5 * ((1 << 40) + 3)
    assert len(seen) == (5 if body == "the host" else 0)
    index = 2
    assert "br_if" in disassemble(instance.module.code_space, index)
    found = pins_of(instance, index)
    if body == "a handler":  # the frame's address is another one where it is entered
        assert not found
    elif reads or body == "nothing":
        assert found


#: What leaves an i32 with all bits set on the stack, and comes from anywhere but an instruction's own result.
NEGATIVE = {
    "a parameter": "(local.get $given)",
    "a function": "(call $id (i32.const -1))",
    "a tail call": "(call $tail (local.get $given))",
    "the host": "(call $host)",
    "the host, several": "(call $hosts) (drop)",
    "a global of the host": "(global.get $global)",
    "growing": "(memory.grow (i32.const 1))",
    "an exception": "(block $h (result i32) (try_table (catch $e $h) (throw $e (i32.const -1))) (unreachable))",
    "an exception of the host": "(block $h (result i32) (try_table (catch $e $h) (call $throws)) (unreachable))",
    "a continuation": """
      (block $on (result i32 (ref $ct)) (resume $ct (on $yield $on) (cont.new $ct (ref.func $yields))) (unreachable))
      (drop)""",
}


@pytest.mark.parametrize("source", NEGATIVE)
def test_slots_hold_i32s_zero_extended(source: str) -> None:
    """Stencils take a register for an address as it is: nothing above its 32 bits may be set, or memory is left."""
    text = f"""(module
      (type $f (func)) (type $ct (cont $f))
      (import "env" "host" (func $host (result i32)))
      (import "env" "hosts" (func $hosts (result i32 i32)))
      (import "env" "throws" (func $throws))
      (import "env" "global" (global $global (mut i32)))
      (memory 1 1)
      (tag $e (export "e") (param i32))
      (tag $yield (param i32))
      (elem declare func $yields)
      (func $yields (suspend $yield (i32.const -1)))
      (func $id (param i32) (result i32) (local.get 0))
      (func $tail (param i32) (result i32) (return_call $id (local.get 0)))
      (func (export "f") (param $given i32) (result i64) (local $x i32) (local $sum i64) (local $i i32)
        (loop $l
          {NEGATIVE[source]} (local.set $x)
          {"(local.set $sum (i64.add (local.get $sum) (i64.extend_i32_u (local.get $x))))" * 10}
          (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3))))
        (local.get $sum)))"""

    def throws() -> None:
        raise wl.WasmException(instance.exports.e, -1)

    engine = wl.Engine(tier="baseline")
    store = wl.Store(engine)
    given = wl.Global(store, "mut i32", 0)
    given.value = -1
    host = {"host": lambda: -1, "hosts": lambda: (-1, -1), "throws": throws, "global": given}
    instance = wl.Instance(wl.Module(text, engine), {"env": host}, store=store)
    assert instance.exports.f(-1) == 30 * 0xFFFFFFFF
    assert pins_of(instance, 3) or "try_table" in NEGATIVE[source]


def control_flow(rng: random.Random, depth: int) -> str:
    """Random blocks, loops and branches between them; each statement takes fuel, and without it ends all."""
    parts: list[str] = []
    for _ in range(rng.randint(1, 4)):
        parts.append("(br_if $end (i32.eqz (local.tee 1 (i32.sub (local.get 1) (i32.const 1)))))")
        kind = rng.randrange(10)
        label = rng.randrange(depth + 1) if depth else 0
        value = f"(i64.add (local.get {rng.randint(2, 7)}) (local.get {rng.randint(2, 7)}))"
        if kind < 4:
            parts.append(f"(local.set {rng.randint(2, 7)} {value})")
        elif kind < 7 and depth < 5:
            parts.append(f"({rng.choice(('loop', 'loop', 'block'))} {control_flow(rng, depth + 1)})")
        elif kind == 7:
            parts.append(f"(br_if {label} (i32.wrap_i64 (i64.and {value} (i64.const 1))))")
        elif kind == 8:
            labels = " ".join(str(rng.randrange(depth + 1)) for _ in range(rng.randint(1, 4)))
            parts.append(f"(block (br_table {labels} (i32.wrap_i64 {value})))")
        else:
            parts.append(f"(local.set {rng.randint(2, 7)} (call $leaf {value}))")
    return " ".join(parts)


@pytest.mark.parametrize("seed", range(40))
def test_loops_of_any_shape(seed: int) -> None:
    """Wherever control comes from, a loop finds its pins right: its beginning, past it, out and in again."""
    rng = random.Random(seed)
    body = " ".join(control_flow(rng, 0) for _ in range(6))
    sums = " ".join(f"local.get {i} i64.const {2 * i + 1} i64.mul i64.add" for i in range(3, 8))
    text = f"""(module
      (func $leaf (param i64) (result i64) (i64.rotl (i64.xor (local.get 0) (i64.const 0x5bd1e995)) (i64.const 7)))
      (func (export "f") (param i64 i32) (result i64) (local i64 i64 i64 i64 i64 i64)
        (local.set 2 (local.get 0)) (local.set 3 (i64.const 1)) (local.set 5 (i64.const 5))
        (loop $whole (block $end {body} (br $whole)))
        local.get 2 {sums}))"""
    results = []
    for tier in ("interpreter", "baseline"):
        engine = wl.Engine(tier=tier)
        instance = wl.Instance(wl.Module(text, engine), store=wl.Store(engine))
        results.append([instance.exports.f(start, fuel) for start in (0, 1, -7) for fuel in (5, 60, 2000)])
    assert results[0] == results[1]


def test_results_in_the_other_class() -> None:
    """A slot that is pinned as an integer gets a float's bits."""
    instance = instance_of("""(module (func (export "f") (param i32) (result i64) (local i64 i64)
      (loop $l
        (local.set 1 (i64.reinterpret_f64 (f64.convert_i32_s (local.get 0))))
        (local.set 2 (i64.add (local.get 2) (i64.add (local.get 1) (local.get 1))))
        (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
      local.get 2))""")
    expected = sum(2 * struct.unpack("<Q", struct.pack("<d", i))[0] for i in range(1, 6))
    assert instance.exports.f(5) & 0xFFFFFFFFFFFFFFFF == expected & 0xFFFFFFFFFFFFFFFF


def test_patches_of_registers() -> None:
    register = pins.INTEGERS[0]
    bits = pins.number(register) ^ pins.number(exchanged(register))
    code = bytes((0x10, 0xC0, 0x33))
    other = bytes((0x10, 0xC0 ^ bits ^ bits << 3, 0x33 ^ bits << 3))
    found = list(patches(code, 1, register, other))
    assert found == [Patch(1, 0, 1), Patch(1, 3, 1), Patch(2, 3, 1)]
    assert patched(code, found, {1: (register, exchanged(register))}) == other
    assert patched(code, found, {0: (register, exchanged(register))}) == code
    assert [patch.packed for patch in found] == [0x11, 0x19, 0x29]
    with pytest.raises(ValueError, match="length"):
        list(patches(code, 0, register, code + b"\0"))
    with pytest.raises(ValueError, match="isn't the same"):
        list(patches(code, 0, register, bytes((0x10 ^ 0x40, 0xC0, 0x33))))


@pytest.mark.parametrize("registers", [pins.INTEGERS, pins.FLOATS])
def test_registers_that_are_alike(registers: tuple[str, ...]) -> None:
    assert {turned(registers[0], turn) for turn in range(len(registers))} == set(registers)
    assert exchanged(registers[0]) in registers


def test_registers_that_a_stencil_uses_for_something_else() -> None:
    """Where pins aren't kept: in the place of a role's register another one could be one that is written before."""
    first, second = roles.INTEGERS[:2]
    other = next(register for register in pins.INTEGERS if register not in roles.INTEGERS)
    kinds = {1: roles.Roles((roles.Role("a", False), roles.Role("b", False)), roles.Effect.AWAY)}

    def collide(mask: int, *lines: str) -> bool:
        return bool(colliding([f'.section hot.plain_1_{mask},"ax",@progbits', *lines], kinds))

    assert not collide(1, f"\tmovq %{first}, (%rcx)", f"\taddq $1, %{first}")
    assert collide(1, f"\tmovq 8(%rcx), %{other}")
    assert collide(1, f"\tmovl 8(%rcx), %{second}d")
    assert not collide(0, f"\tmovq 8(%rcx), %{second}")
    assert not collide(3, f"\tcmpq %{first}, %{second}", f"\tmovq %{first}, %{second}", f"\tdivq %{second}")
    assert collide(3, f"\taddl %eax, %{first}d")
    assert collide(3, f"\timulq %rax, %{second}")
    assert collide(3, f"\tdivsd %xmm0, %{pins.FLOATS[0]}")


#: What leaves for good, with the most read slots as operands; `$partner` is pinned, and so is what `$f` is in.
LEAVING = """(module
  (rec (type $body (func (param (ref null $k)) (result i64))) (type $k (cont $body)))
  (type $f (func (param i32 (ref $f)) (result i32)))
  (type $t (func (param i32 i32) (result i32)))
  (type $g (func (param i32) (result i32))) (type $kg (cont $g))
  (tag $swap (result i64)) (tag $yield (param i32) (result i32)) (tag $e (param i32))
  (global $pairs (mut i32) (i32.const 0))
  (table funcref (elem $down_table))
  (elem declare func $first $second $down $generate)
  (func $first (type $body) (param $partner (ref null $k)) (result i64) (local $done i32)
    (local.set $partner (cont.new $k (ref.func $second)))
    (loop $again
      (local.set $partner (switch $k $swap (local.get $partner)))
      (br_if $again
        (i32.lt_u (local.tee $done (i32.add (local.get $done) (i32.const 1))) (global.get $pairs))))
    (i64.extend_i32_u (local.get $done)))
  (func $second (type $body) (param $partner (ref null $k)) (result i64)
    (loop $again
      (local.set $partner (switch $k $swap (local.get $partner)))
      (br $again))
    (unreachable))
  (func (export "switch") (param $n i32) (result i64)
    (global.set $pairs (local.get $n))
    (resume $k (on $swap switch) (ref.null $k) (cont.new $k (ref.func $first))))
  (func $down (type $f) (local $i i32)
    (loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (local.get 0))) (local.get 0))))
    (if (i32.eqz (local.get 0)) (then (return (local.get $i))))
    (return_call_ref $f (i32.sub (local.get 0) (i32.const 1)) (local.get 1) (local.get 1)))
  (func (export "ref") (param $n i32) (result i32)
    (call $down (local.get $n) (ref.func $down)))
  (func $down_table (type $t) (local $i i32)
    (loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (local.get 0))) (local.get 0))))
    (if (i32.eqz (local.get 0)) (then (return (local.get $i))))
    (return_call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (local.get 1) (local.get 1)))
  (func (export "table") (param $n i32) (result i32)
    (call $down_table (local.get $n) (i32.const 0)))
  (func $generate (type $g) (local $sum i32)
    (loop $l
      (local.set $sum (i32.add (local.get $sum) (suspend $yield (local.get 0))))
      (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get $sum))
  (func (export "resume") (param $n i32) (result i32) (local $k (ref null $kg)) (local $x i32)
    (local.set $k (cont.new $kg (ref.func $generate)))
    (local.set $x (local.get $n))
    (loop $next (result i32)
      (block $got (result i32 (ref $kg))
        (resume $kg (on $yield $got) (local.get $x) (local.get $k))
        (return))
      (local.set $k) (local.set $x)
      (br $next)))
  (func (export "throw") (param $n i32) (result i32) (local $k (ref null $kg)) (local $x i32)
    (loop $l
      (local.set $k (cont.new $kg (ref.func $generate)))
      (local.set $x (i32.add (local.get $x) (call $thrown (local.get $n) (local.get $k))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $x))
  (func $thrown (param $n i32) (param $k (ref null $kg)) (result i32)
    (block $h (result i32)
      (try_table (catch $e $h) (drop (resume_throw $kg $e (local.get $n) (local.get $k))))
      (i32.const 0))))
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [("switch", lambda n: n), ("ref", lambda n: 0), ("table", lambda n: 0)]
    + [(name, lambda n: n * (n + 1) // 2) for name in ("resume", "throw")],
)
def test_what_leaves_reads_pins(name: str, expected: Callable[[int], int]) -> None:
    exports = instance_of(LEAVING).exports
    for n in (1, 2, 7, 100):
        assert exports[name](n) == expected(n)
