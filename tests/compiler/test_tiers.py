"""Both tiers compute the same, bit for bit, and compiled traps are precise."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of, exports_of, outcome_of
from tests.semantics.modules import Functions, const, get, narrowed, op, put, widened
from tests.semantics.operands import OPERANDS
from tests.semantics.test_memory import CONTENTS, LOADS, PLACES, STORES, access
from tests.semantics.test_numeric import BINARY, UNARY
from wasmloom.spec.instructions import BY_MNEMONIC

MASK = (1 << 64) - 1


# --- numeric instructions ---------------------------------------------------------------------------------------------


def numeric_code(name: str, constant: int | None) -> tuple[list[str], bytes]:
    """Locals and code of a function over the bits of the operands; the last may be a constant."""
    row = BY_MNEMONIC[name]
    count = len(row.params)
    code = b"".join(get(k) + narrowed(type) + put(count + k) for k, type in enumerate(row.params))
    for k, type in enumerate(row.params):
        code += get(count + k) if constant is None or k < count - 1 else const(type, constant)
    return list(row.params), code + op(name) + widened(row.results[0])


@pytest.mark.parametrize("names", [UNARY, BINARY], ids=["unary", "binary"])
def test_numeric_instructions_give_the_same_bits(names: list[str]) -> None:
    """With operands from locals, and with every third one as a constant."""
    functions = Functions(["i64"] * len(BY_MNEMONIC[names[0]].params), "i64")
    runs: list[tuple[str, int, list[tuple[int, ...]]]] = []
    for name in names:
        types = BY_MNEMONIC[name].params
        runs.append((name, functions.add(*numeric_code(name, None)), list(product(*(OPERANDS[t] for t in types)))))
        for constant in OPERANDS[types[-1]][::3]:
            others = product(*(OPERANDS[t][::2] for t in types[:-1]))
            operands = [(*values, constant) for values in others]
            runs.append((f"{name} {constant:#x}", functions.add(*numeric_code(name, constant)), operands))
    one, other = (functions.instance(engine_of(name)).exports for name in ("interpreter", "compiler"))
    wrong = []
    for what, index, operands in runs:
        expected, found = one[str(index)], other[str(index)]
        for values in operands:
            wanted, got = outcome_of(expected, *values), outcome_of(found, *values)
            if wanted != got:
                wrong.append(f"{what} of {', '.join(map(hex, values))}: {wanted} interpreted, {got} compiled")
    assert not wrong, f"{len(wrong)} differ, such as\n" + "\n".join(wrong[:10])


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["compiler", "checked"])
@pytest.mark.parametrize("names", [LOADS, STORES], ids=["loads", "stores"])
def test_accesses_at_the_edges(names: list[str], kind: str) -> None:
    """Every width, at constant and other addresses, in two memories: values, contents, and the places of traps."""
    functions = Functions(["i64", "i64"], "i64", memories=2)
    runs = []
    for name, memory, (address, offset) in product(names, (0, 1), PLACES):
        for constant in (False, True):
            code = const("i32", address) if constant else get(0) + op("i32.wrap_i64")
            if names is STORES:
                code += get(1) + narrowed(BY_MNEMONIC[name].params[1]) + access(name, offset, memory) + get(1)
            else:
                code += access(name, offset, memory) + widened(BY_MNEMONIC[name].results[0])
            runs.append((name, memory, address, functions.add([], code)))
    outcomes = []
    for tier in ("interpreter", kind):
        exports = functions.instance(engine_of(tier)).exports
        memories = [exports.memory0, exports.memory1]
        for memory in memories:
            memory.write(0, CONTENTS)
        seen: list[Any] = []
        for name, number, address, index in runs:
            seen.append((name, address, *outcome_of(exports[str(index)], address, 0x1122334455667788 + index)))
            if names is STORES:
                seen.append(bytes(memories[number].read(65536 - 16, 16)) + bytes(memories[number].read(0, 160)))
                memories[number].write(65536 - 16, CONTENTS[-16:])
                memories[number].write(0, CONTENTS[:160])
        outcomes.append(seen)
    wrong = [(wanted, got) for wanted, got in zip(*outcomes, strict=True) if wanted != got]
    assert not wrong, wrong[:5]


def test_memories_grow_while_code_uses_them() -> None:
    """Pointers that the code holds stay good, and the new pages are there at once."""
    source = """(module (memory (export "memory") 1 40) (memory 1 40)
      (func $grow (result i32) (i32.add (memory.grow 0 (i32.const 1)) (memory.grow 1 (i32.const 1))))
      (func (export "run") (param $n i32) (result i64) (local $i i32) (local $s i64)
        (loop $l
          (i32.store (i32.mul (local.get $i) (i32.const 65536)) (local.get $i))
          (i64.store 1 (i32.add (i32.mul (local.get $i) (i32.const 65536)) (i32.const 65528)) (i64.const 3))
          (local.set $s (i64.add (local.get $s) (i64.extend_i32_s (call $grow))))
          (local.set $s (i64.add (local.get $s) (i64.load 1 (i32.const 65528))))
          (local.set $s (i64.add (local.get $s) (i64.extend_i32_u
            (i32.load (i32.mul (local.get $i) (i32.const 65536))))))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $l (i32.lt_u (local.get $i) (local.get $n))))
        (local.get $s)))"""
    found = []
    for name in ENGINES:
        exports = exports_of(source, engine_of(name))
        found.append([outcome_of(exports.run, 30), outcome_of(exports.run, 50), len(exports.memory)])
    assert found[0][0] == ("result", 30 * 3 + 3 * sum(range(30)) + 2 * 30)
    assert found[0][1][:2] == ("trap", "out of bounds memory access")
    assert all(other == found[0] for other in found)


# --- traps are precise ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [65536, 65532, 65528])
@pytest.mark.parametrize(
    "body",
    [
        "(global.set $g (i32.const 1)) (drop (i32.load (local.get 0))) (global.set $g (i32.const 2))",
        "(global.set $g (i32.const 1)) (i32.store (local.get 0) (i32.const 1)) (global.set $g (i32.const 2))",
        """(table.set $t (i32.const 0) (ref.func $f)) (drop (i32.load (local.get 0)))
           (table.set $t (i32.const 0) (ref.null func))""",
        "(i32.store (local.get 0) (i32.const 1)) (table.set $t (i32.const 0) (ref.func $f))",
        """(i32.store (i32.const 0) (i32.const 1)) (drop (i32.load (local.get 0)))
           (i32.store (i32.const 0) (i32.const 2))""",
        """(i32.store (local.get 0) (i32.const 1)) (i32.store offset=4 (local.get 0) (i32.const 1))
           (i32.store (local.get 0) (i32.const 2))""",
        "(global.set $g (i32.add (i32.load (local.get 0)) (i32.load offset=4 (local.get 0))))",
        "(i32.store (local.get 0) (i32.xor (i32.load (local.get 0)) (i32.const 5)))",
        "(if (i32.eqz (i32.load8_u (local.get 0))) (then (global.set $g (i32.load offset=4 (local.get 0)))))",
        """(loop $l (global.set $g (i32.add (global.get $g) (i32.const 1))) (drop (i32.load (local.get 0)))
           (i32.store (i32.const 8) (global.get $g)) (local.set 0 (i32.add (local.get 0) (i32.const 4))) (br $l))""",
    ],
)
def test_state_and_place_after_a_fault(body: str, address: int) -> None:
    """Everything before the access that traps has happened, nothing behind it has."""
    found = []
    for name in ENGINES:
        guest = exports_of(
            f"""(module (memory (export "memory") 1) (table $t (export "table") 1 funcref)
              (global $g (export "global") (mut i32) (i32.const 0)) (func $f (export "run") (param i32) {body}))""",
            engine_of(name),
        )
        outcome = outcome_of(guest.run, address)
        found.append((outcome, bytes(memoryview(guest.memory)), guest["global"].value, guest.table[0] is None))
    assert all(other == found[0] for other in found)
    assert address != 65536 or found[0][0][0] == "trap"


def test_backtraces_are_the_same() -> None:
    """Through calls of every kind, the host and continuations, for every kind of trap."""
    traps = {
        "unreachable": "(unreachable)",
        "divide": "(drop (i32.div_s (i32.const 1) (local.get 0)))",
        "overflow": "(drop (i32.div_s (i32.const 0x80000000) (i32.sub (local.get 0) (i32.const 1))))",
        "convert": "(drop (i32.trunc_f32_s (f32.const nan)))",
        "load": "(drop (f64.load (i32.const -1)))",
        "store": "(i64.store8 offset=1 (i32.const 65535) (i64.const 0))",
        "fill": "(memory.fill (i32.const 65535) (i32.const 0) (i32.const 2))",
        "table": "(drop (table.get 0 (i32.const 9)))",
        "undefined": "(call_indirect (type $f) (i32.const 0) (i32.const 9))",
        "uninitialized": "(call_indirect (type $f) (i32.const 0) (i32.const 1))",
        "mismatch": "(call_indirect (i32.const 0))",
        "null": "(call_ref $f (i32.const 0) (ref.null $f))",
        "suspend": "(suspend $t)",
        "consumed": "(resume $k (ref.null $k))",
    }
    cases = "".join(f'(func ${name} (export "{name}") (type $f) {body})' for name, body in traps.items())
    source = f"""(module (type $f (func (param i32))) (type $v (func)) (type $k (cont $v))
      (import "" "host" (func $host (param i32))) (tag $t) (memory 1)
      (table 3 funcref) (elem (i32.const 0) $indirect) (elem declare func $inner $outer) {cases}
      (table $of (export "of") {len(traps)} funcref)
      (elem (table $of) (i32.const 0) func {" ".join(f"${name}" for name in traps)})
      (global $number (mut i32) (i32.const 0))
      (func $inner (call_indirect $of (type $f) (i32.const 0) (global.get $number)))
      (func $outer (resume $k (cont.new $k (ref.func $inner))) (nop))
      (func $indirect (type $f) (resume $k (cont.new $k (ref.func $outer))))
      (func $tail (type $f) (return_call_indirect (type $f) (local.get 0) (i32.const 0)))
      (func (export "again") (param i32) (call $tail (local.get 0)) (nop))
      (func (export "run") (param i32) (global.set $number (local.get 0)) (call $host (i32.const 1))))"""
    found = []
    for name in ENGINES:
        exports: Any = None

        def host(x: int) -> None:
            exports.again(x)  # noqa: B023

        exports = exports_of(source, engine_of(name), {"": {"host": host}})
        seen = []
        for trap in range(len(traps)):
            outcome = outcome_of(exports.run, trap)
            numbers: dict[int | None, int] = {}
            frames = [frame._replace(continuation=numbers.setdefault(frame.continuation, len(numbers)))
                      for frame in outcome[2]]  # fmt: skip
            seen.append((outcome[1], frames))
        found.append(seen)
    names = [frame.func_name for frame in found[0][0][1]]
    assert names[:5] == ["unreachable", "inner", "outer", "indirect", "again"] and names[-1] == "run"
    for name, other in zip(ENGINES, found, strict=True):
        assert other == found[0], name


@pytest.mark.parametrize("name", list(ENGINES))
def test_a_timeout_ends_loops(name: str) -> None:
    """Loops with and without calls, and recursion that never ends in a tail call."""
    exports = exports_of(
        """(module (func $nop)
          (func (export "empty") (loop $l (br $l)))
          (func (export "calls") (loop $l (call $nop) (br $l)))
          (func (export "table") (param i32) (loop $l (br_table $l $l $l (local.get 0))))
          (func $tail (export "tail") (param i32) (return_call $tail (i32.add (local.get 0) (i32.const 1)))))""",
        engine_of(name),
        timeout=0.03,
    )
    for function, arguments in (("empty", ()), ("calls", ()), ("table", (1,)), ("tail", (0,))):
        with pytest.raises(wl.Trap, match="timeout"):
            exports[function](*arguments)


@pytest.mark.parametrize(
    "rest",
    ["(block)", "(loop)", "(if (i32.const 1) (then))", "(try_table (nop))", "(try (do (nop)) (catch_all))"],
)
@pytest.mark.parametrize("name", ENGINES)
def test_what_lies_between_an_access_and_a_block_is_kept(name: str, rest: str) -> None:
    """An access ends where the block of the code ends, which is marked behind it: that replaces nothing."""
    source = f"""(module (memory 1) (func (export "run") (param i32) (result i32)
      (i32.store (i32.const 8) (local.get 0)) (i32.eqz (local.get 0)) {rest} (i32.add (i32.load (i32.const 8)))))"""
    run = exports_of(source, engine_of(name, fuel=True), fuel=1000).run
    assert [run(0), run(5)] == [1, 5]
