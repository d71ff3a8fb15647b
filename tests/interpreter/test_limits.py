"""Functions that are made to be hard to translate: large, deep, wide, or small with much to move.

Translation takes linear time and gives bytecode of linear size: what took longer would be a test here that hangs.
"""

from __future__ import annotations

import random

import pytest

import wasmloom as wl
from tests.semantics.modules import TYPES, block, const, get, op, put
from wasmloom.binary.encoder import encode_module, sleb, uleb
from wasmloom.spec.module import Code, Export, ModuleSyntax
from wasmloom.spec.types import FuncType, SubType

I32 = TYPES["i32"]
VOID = FuncType((), ())
#: Most bytes of bytecode that a byte of a function may become.
GROWTH = 40


def module(code: bytes, types: tuple[FuncType, ...] = (VOID,), locals: int = 0) -> bytes:
    """A module that exports one function, of the first type, as "f"."""
    syntax = ModuleSyntax()
    syntax.rec_groups = [(SubType(type),) for type in types]
    syntax.funcs = [0]
    syntax.code = [Code(((locals, I32),) if locals else (), code + op("end"))]
    syntax.exports = [Export("f", "func", 0)]
    return encode_module(syntax)


def typed_block(type_index: int) -> bytes:
    return op("block") + sleb(type_index)


def ones(count: int) -> bytes:
    return const("i32", 1) * count


def run(data: bytes) -> object:
    """The result of "f"; its bytecode has a decent size."""
    made = wl.Module(data)
    bytecode, _ = made.code_space.bytecode(0)
    assert len(bytecode) < GROWTH * len(data)
    return wl.Instance(made).exports.f()


def test_many_locals_wait_for_their_writes() -> None:
    """Locals at the bottom of a high stack are written one after the other: each search for them is short."""
    count = 20_000
    waiting = b"".join(map(get, range(count))) + const("i32", 0) * count
    writes = b"".join(const("i32", 1) + put(local) for local in range(count))
    assert run(module((waiting + writes + op("drop") * 2 * count) * 8, locals=count)) is None


@pytest.mark.parametrize("height", [0, 3])
def test_many_branches_move_many_values(height: int) -> None:
    """Each branch is a few bytes, and has a thousand values to move when something lies below them."""
    results = FuncType((), (I32,) * 1000)
    branches = (const("i32", 0) + op("br_if", 0)) * 5_000
    inside = const("i32", 5) * height + ones(1000) + branches + op("br", 0)
    code = typed_block(1) + inside + op("end") + op("drop") * 999 + put(0)
    assert run(module(code, (VOID, results), locals=1)) is None


def test_many_conditional_returns_of_many_values() -> None:
    results = FuncType((), (I32,) * 1000)
    code = const("i32", 5) + ones(1000) + (const("i32", 0) + op("br_if", 0)) * 5_000 + op("return")
    assert run(module(code, (results,))) == (1,) * 1000


def test_calls_make_many_values_to_move() -> None:
    """Values that a call makes, under and over a constant."""
    syntax = ModuleSyntax()
    wide = FuncType((), (I32,) * 999)
    more = FuncType((), (I32,) * 1000)
    syntax.rec_groups = [(SubType(type),) for type in (wide, more, VOID)]
    syntax.funcs = [0, 2]
    seven = const("i32", 7)
    over = typed_block(1) + seven + seven + op("call", 0) + op("br", 0) + op("end") + op("drop") * 1000
    under = typed_block(1) + seven + op("call", 0) + seven + op("br", 0) + op("end") + op("drop") * 1000
    syntax.code = [Code((), ones(999) + op("end")), Code((), (over + under) * 500 + op("end"))]
    syntax.exports = [Export("f", "func", 1)]
    data = encode_module(syntax)
    made = wl.Module(data)
    assert len(made.code_space.bytecode(1)[0]) < GROWTH * len(data)
    assert wl.Instance(made).exports.f() is None


def test_values_arrive_where_many_are_moved() -> None:
    """The values of wide branches, mixed of constants, locals and results, are the right ones."""
    wide = 14
    numbers = range(10, 10 + wide)
    setup = b"".join(const("i32", n) + put(k + 1) for k, n in enumerate(numbers))
    rng = random.Random(1)
    for _ in range(100):
        weights = rng.choice(((1, 1, 1), (1, 1, 12), (1, 0, 9)))
        values = b""
        for k, n in enumerate(numbers):
            values += rng.choices((const("i32", n), get(k + 1), get(0) + const("i32", n) + op("i32.add")), weights)[0]
        for branch in (
            const("i32", 1) + op("br_if", 0) + op("unreachable"),
            op("br", 0),
            get(0) + op("br_table", 0, 0),
        ):
            code = setup + typed_block(0) + const("i32", 3) * 2 + values + branch + op("end")
            assert run(module(code, (FuncType((), (I32,) * wide),), locals=wide + 1)) == tuple(numbers)


def test_many_values_stay_where_a_branch_is_not_taken() -> None:
    wide = 9
    inside = const("i32", 3) + b"".join(const("i32", n) for n in range(wide)) + get(0) + op("br_if", 0)
    inside += put(0) + op("br", 1)  # drops the last, leaves with nine others
    code = typed_block(0) + typed_block(0) + inside + op("end") + op("end")
    types = (FuncType((), (I32,) * wide),)
    assert run(module(code, types, locals=1)) == (3, *range(wide - 1))


def test_br_table_of_many_targets() -> None:
    """65520 targets, the most that there may be: each goes where it says."""
    count = 65_520
    names = 300
    targets = op("br_table") + uleb(count) + b"".join(uleb(i % names) for i in range(count + 1))
    syntax = ModuleSyntax()
    syntax.rec_groups = [(SubType(FuncType((I32,), (I32,))),)]
    syntax.funcs = [0]
    code = block("block") * names + get(0) + targets
    for name in range(names):
        code += op("end") + const("i32", name) + op("return")
    syntax.code = [Code((), code + op("unreachable") + op("end"))]
    syntax.exports = [Export("f", "func", 0)]
    f = wl.Instance(wl.Module(encode_module(syntax))).exports.f
    for i in (0, 1, 299, 300, 12_345, 65_518, 65_519, 65_520):
        assert f(i) == i % names
    for i in (65_521, 1 << 31, -1):
        assert f(i) == count % names  # the default is what comes after the last


def test_br_table_of_many_labels_with_values() -> None:
    depth, values = 2_000, 300
    results = FuncType((), (I32,) * values)
    code = (typed_block(1) + const("i32", 3)) * depth + ones(values) + const("i32", depth - 1)
    code += op("br_table", depth - 1, *range(depth))
    code += (op("end") + op("unreachable")) * (depth - 1) + op("end") + op("drop") * values
    assert run(module(code, (VOID, results))) is None


def test_many_nested_blocks() -> None:
    depth = 200_000
    assert run(module(block("block") * depth + op("end") * depth)) is None
    assert run(module((block("loop") + const("i32", 0) + op("br_if", 0)) * depth + op("end") * depth)) is None


def test_many_nested_ifs_with_values_below() -> None:
    depth = 4_000
    assert (
        run(module((get(0) * 10 + ones(1) + block("if")) * depth + (op("end") + op("drop") * 10) * depth, locals=1))
        is None
    )


def test_many_locals() -> None:
    """50000, the most that there may be."""
    last = 49_999
    types = (FuncType((), (I32, I32)),)
    code = get(last) + const("i32", 9) + put(last) + get(last)
    assert run(module(code, types, locals=last + 1)) == (0, 9)


def test_high_stacks() -> None:
    """As high as slots can be numbered, and a clear error beyond."""
    assert run(module(ones(60_000) + op("drop") * 60_000)) is None
    code = b"".join(const("i32", i % 64) for i in range(60_000)) + op("i32.add") * 59_999
    assert run(module(code, (FuncType((), (I32,)),))) == sum(i % 64 for i in range(60_000))
    for locals, height in ((0, 70_000), (50_000, 20_000)):
        data = module(ones(height) + op("drop") * height, locals=locals)
        with pytest.raises(wl.CompileError, match="too many slots") as caught:
            wl.Instance(wl.Module(data)).exports.f()
        assert caught.value.offset is not None
        with pytest.raises(wl.CompileError, match="too many slots"):
            wl.Module(data, wl.Engine(translation="eager"))


def test_a_large_function() -> None:
    step = get(0) + const("i32", 3) + op("i32.add") + op("local.tee", 1) + get(1) + op("i32.xor") + put(0)
    assert run(module(step * 300_000 + get(0), (FuncType((), (I32,)),), locals=2)) == 0
