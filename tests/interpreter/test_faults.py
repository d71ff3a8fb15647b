"""A guest that leaves its memory traps exactly where it was, whatever the instruction.

On guard pages it faults; memories that are checked, and all but memory 0 of a module, never let it get so far.
"""

from __future__ import annotations

import random

import pytest

import wasmloom as wl
from tests.conftest import MEMORY_KINDS
from tests.interpreter.shapes import INPUTS, about_vectors, is_wide
from tests.interpreter.test_instructions import CONTENTS, SIZE, handler_set, shaped

GROUPS = 8
#: Offsets of the access, all beyond the memory: just behind its end, and far out.
OFFSETS = (SIZE, 0x80000000, 0xFFFFFFFF)
#: The same of memories with addresses of 64 bits.
FAR_OFFSETS = (1 << 32, (1 << 36) - 1, 1 << 63, (1 << 64) - 1)


def accesses() -> list[str]:
    """The handlers that touch guest memory. Where all memories are checked, each stands for the checked form.

    Those of vectors are in `tests.semantics.test_vectors`.
    """
    names = [
        handler.name
        for handler in handler_set().handlers
        if handler.faults or (handler.name.endswith((".m", ".wm")) and ".atomic." not in handler.name)
    ]
    return [name for name in names if not about_vectors(name)]


def test_there_are_many() -> None:
    names = accesses()
    assert len(names) > 200
    for wanted in (
        "i32.load.s.a", "f64.load.a.s.m", "i64.store16.is", "f32.store.aa", "i32.load8_u.i.a", "i64.store.ss.wm",
        "f32.load.s.a.w",
    ):  # fmt: skip
        assert wanted in names


@pytest.mark.usefixtures("code_at_once")
@pytest.mark.parametrize("tier", ["interpreter", "baseline"])
@pytest.mark.parametrize("kind", MEMORY_KINDS)
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("group", range(GROUPS))
def test_every_access_traps_where_it_is(group: int, wide: bool, kind: str, tier: str) -> None:
    rng = random.Random(group)
    names = [name for name in accesses()[group::GROUPS] if is_wide(name) is wide]
    wrong = []
    for offset in (*OFFSETS, *(FAR_OFFSETS if wide else ())):
        instance, cases = shaped(names, rng, offset, kind, tier, wide=wide)
        assert [case.name for case in cases] == names
        for case in cases:
            for inputs in (
                [0] * INPUTS,
                [0xFFFFFFFF] * INPUTS,
                [rng.getrandbits(40) for _ in range(INPUTS)],
                [rng.getrandbits(64) for _ in range(INPUTS)],
            ):
                try:
                    instance.exports[str(case.function)](*inputs)
                    wrong.append(f"{case.name}, offset {offset:#x}: no trap")
                except wl.Trap as trap:
                    (frame,) = trap.frames
                    if (trap.code, frame.offset, frame.func_index) != (
                        "out of bounds memory access",
                        case.place,
                        case.function,
                    ):
                        wrong.append(f"{case.name}: {trap.code} at {frame}, expected offset {case.place:#x}")
    assert not wrong, f"{len(wrong)} wrong, such as\n" + "\n".join(wrong[:10])


@pytest.mark.parametrize("kind", MEMORY_KINDS)
def test_a_store_across_the_end_writes_nothing_outside(kind: str) -> None:
    instance = wl.Instance(
        wl.Module(
            """(module (memory (export "m") 1)
                 (func (export "store") (param i32) (i64.store (local.get 0) (i64.const -1)))
                 (func (export "load") (param i32) (result i32) (i32.load16_u (local.get 0))))""",
            wl.Engine(memory=kind),
        )
    )
    for address in range(SIZE - 7, SIZE):
        with pytest.raises(wl.Trap, match="out of bounds memory access"):
            instance.exports.store(address)
    instance.exports.store(SIZE - 8)
    assert instance.exports.load(SIZE - 2) == 0xFFFF
    assert instance.exports.m.read(0, SIZE) == bytes(SIZE - 8) + b"\xff" * 8


@pytest.mark.parametrize("kind", MEMORY_KINDS)
def test_memory_grows_into_what_was_out_of_bounds(kind: str) -> None:
    instance = wl.Instance(
        wl.Module(
            """(module (memory $first 1 2) (memory $second 1 2)
                 (func (export "first") (result i32)
                   (if (i32.eq (memory.grow $first (i32.const 1)) (i32.const -1)) (then (unreachable)))
                   (i32.load $first (i32.const 65536)))
                 (func (export "second") (result i32)
                   (if (i32.eq (memory.grow $second (i32.const 1)) (i32.const -1)) (then (unreachable)))
                   (i32.load $second (i32.const 65536)))
                 (func (export "peek") (result i32) (i32.load $second (i32.const 65536))))""",
            wl.Engine(memory=kind),
        )
    )
    with pytest.raises(wl.Trap, match="out of bounds memory access"):
        instance.exports.peek()
    assert instance.exports.first() == 0
    assert instance.exports.second() == 0
    assert instance.exports.peek() == 0


@pytest.mark.parametrize(
    "source",
    [
        "(global.get $g)",
        "(call $host)",
        "(call $same (i32.const -1))",
        "(local.get $p)",
        "(select (i32.const -1) (local.get $p) (i32.const 1))",
        "(i32.wrap_i64 (i64.const -1))",
        "(i32.reinterpret_f32 (f32.const -nan:0x7fffff))",
        "(table.grow $t (ref.null func) (i32.const 100))",
        "(memory.grow (i32.const 65536))",
        "(if (result i32) (local.get $p) (then (i32.const -1)) (else (local.get $p)))",
        "(i32.sub (i32.const 0) (i32.const 1))",
        "(i32.load $other (i32.const 0))",
        "(i32.load8_s $other (i32.const 0))",
        "(i32.trunc_sat_f32_s (f32.const -1))",
        "(i32.extend8_s (i32.const 255))",
        "(global.get $mutable)",
        "(call_indirect $t (param i32) (result i32) (i32.const -1) (i32.const 0))",
        "(call_ref $id (i32.const -1) (ref.func $same))",
    ],
)
@pytest.mark.parametrize("kind", MEMORY_KINDS)
def test_addresses_are_unsigned(source: str, kind: str) -> None:
    """-1 plus an offset is behind the memory, never before or at its beginning, whatever made the -1."""
    engine = wl.Engine(memory=kind)
    store = wl.Store(engine)
    instance = wl.Instance(
        wl.Module(
            f"""(module
              (type $id (func (param i32) (result i32)))
              (import "env" "host" (func $host (result i32)))
              (import "env" "g" (global $g i32))
              (memory $first 1 1) (memory $other 1) (table $t 1 10 funcref) (elem (table $t) (i32.const 0) func $same)
              (global $mutable (mut i32) (i32.const -1))
              (data (memory $other) (i32.const 0) "\\ff\\ff\\ff\\ff")
              (func $same (type $id) (local.get 0))
              (func (export "load") (param $p i32) (result i64) (i64.load $first offset=1 {source}))
              (func (export "byte") (param $p i32) (result i32) (i32.load8_u $first offset=1 {source}))
              (func (export "far") (param $p i32) (result f32) (f32.load $other offset=0xffffffff {source}))
              (func (export "store") (param $p i32) (i64.store8 $first offset=3 {source} (i64.const 1))))""",
            engine,
        ),
        {"env": {"host": lambda: -1, "g": wl.Global(store, "i32", -1)}},
        store=store,
    )
    for name in ("load", "byte", "far", "store"):
        with pytest.raises(wl.Trap, match="out of bounds memory access"):
            instance.exports[name](-1)


@pytest.mark.parametrize("kind", MEMORY_KINDS)
def test_contents_are_as_they_were(kind: str) -> None:
    """A fault leaves the store as it was, and it goes on working."""
    rng = random.Random(1)
    instance, cases = shaped(["i32.store.ss", "i64.store.sa", "i32.load.s.a"], rng, SIZE, kind)
    memory = instance.exports.memory0
    memory.write(0, CONTENTS)
    for case in cases * 100:
        with pytest.raises(wl.Trap):
            instance.exports[str(case.function)](*[0] * INPUTS)
    assert memory.read(0, SIZE) == CONTENTS
