"""Every instruction that accesses memories and tables, at every edge, in all tiers, compared with plain Python.

``python -m tests.fuzz.edges --seed 1 --minutes 10`` goes on for that long and prints what differs. A *round* is a
module with functions of one such instruction each (offsets, memories, tables and some of the operands are the
module's), and calls of them; after each call all of its memories and tables are compared.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import wasmloom as wl
from tests.fuzz.choices import Choices
from tests.semantics.accesses import ATOMICS, OUT_OF_BOUNDS, PLAIN, Access
from tests.semantics.reference import WIDTH, Trapped

PAGE = 65536
TABLE_OUT_OF_BOUNDS = "out of bounds table access"
DATA = bytes(range(1, 40))
ELEMENTS = 3
#: Engines: tier and kind of memory, and what else differs.
ENGINES: dict[str, dict[str, Any]] = {
    f"{tier}-{memory}": {"tier": tier, "memory": memory, **more}
    for (tier, more), memory in product(
        (("interpreter", {}), ("compiler", {}), ("auto", {"threshold": 1})), ("guarded", "checked")
    )
}
_NEAR = (0, 1, -1, 2, -2, 3, 4, -4, 7, 8, -8, 16, -16)
HUGE = (0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFF0000, 0xFFFFFFF0, 0xFFFFFFF8, 0xFFFFFFFC, 0xFFFFFFFE, 0xFFFFFFFF)
OFFSETS = (0, 0, 0, 1, 2, 4, 7, 8, 16, PAGE - 8, PAGE - 4, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE - 1)
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7F800001, 0x7FF4 << 48,
           0x123456789ABCDEF0, 1 << 63, (1 << 64) - 1)  # fmt: skip

Operand = int


class Model:
    """What the module's memories, tables and segments must hold."""

    def __init__(self, pages: Sequence[tuple[int, int]], tables: Sequence[tuple[int, int]]) -> None:
        self.memories = [bytearray(PAGE * count) for count, _ in pages]
        self.maxima = [maximum for _, maximum in pages]
        self.tables: list[list[int | None]] = [[None] * count for count, _ in tables]
        self.table_maxima = [maximum for _, maximum in tables]
        self.data = DATA
        self.elements = ELEMENTS

    def bounded(self, reason: str, *ranges: tuple[int, int, int]) -> None:
        """Trap unless all ranges (start, count, length of what is accessed) fit."""
        if any(start + count > length for start, count, length in ranges):
            raise Trapped(reason)


class Case(NamedTuple):
    """A function: `body` is text with ``{0}`` … for its operands, and `run` the same in Python.

    Kinds of operands: "address" in `memory`, "count" of bytes, "pages", "small" (of tables and segments), "value".
    `align`: what atomic accesses want.
    """

    name: str
    kinds: tuple[str, ...]
    types: tuple[str, ...]
    result: str | None
    body: str
    run: Callable[[Model, tuple[int, ...]], int | None]
    memory: int = 0
    offset: int = 0
    align: int = 1


def access_case(access: Access, memory: int, offset: int) -> Case:
    def run(model: Model, operands: tuple[int, ...]) -> int | None:
        return access.run(model.memories[memory], operands[0] + offset, *operands[1:])

    operands = " ".join(f"{{{i}}}" for i in range(1 + len(access.params)))
    immediates = f"{f' {memory}' if memory else ''}{f' offset={offset}' if offset else ''}"
    return Case(
        access.name,
        ("address", *("value" for _ in access.params)),
        ("i32", *access.params),
        access.result,
        f"({access.name}{immediates} {operands})",
        run,
        memory,
        offset,
        access.bytes if access.atomic else 1,
    )


def _fill(memory: int) -> Case:
    def run(model: Model, operands: tuple[int, ...]) -> None:
        to, value, count = operands
        data = model.memories[memory]
        model.bounded(OUT_OF_BOUNDS, (to, count, len(data)))
        data[to : to + count] = bytes((value & 0xFF,)) * count

    kinds = ("address", "value", "count")
    return Case("memory.fill", kinds, ("i32",) * 3, None, f"(memory.fill {memory} {{0}} {{1}} {{2}})", run, memory)


def _copy(to_memory: int, from_memory: int) -> Case:
    def run(model: Model, operands: tuple[int, ...]) -> None:
        to, source, count = operands
        target, origin = model.memories[to_memory], model.memories[from_memory]
        model.bounded(OUT_OF_BOUNDS, (to, count, len(target)), (source, count, len(origin)))
        target[to : to + count] = bytes(origin[source : source + count])

    body = f"(memory.copy {to_memory} {from_memory} {{0}} {{1}} {{2}})"
    return Case("memory.copy", ("address", "address", "count"), ("i32",) * 3, None, body, run, to_memory)


def _init(memory: int) -> Case:
    def run(model: Model, operands: tuple[int, ...]) -> None:
        to, source, count = operands
        data = model.memories[memory]
        model.bounded(OUT_OF_BOUNDS, (to, count, len(data)), (source, count, len(model.data)))
        data[to : to + count] = model.data[source : source + count]

    body = f"(memory.init {memory} 0 {{0}} {{1}} {{2}})"
    return Case("memory.init", ("address", "small", "small"), ("i32",) * 3, None, body, run, memory)


def _drop_data(model: Model, operands: tuple[int, ...]) -> None:
    model.data = b""


def _drop_elements(model: Model, operands: tuple[int, ...]) -> None:
    model.elements = 0


def _grow(memory: int) -> Case:
    def run(model: Model, operands: tuple[int, ...]) -> int:
        old = len(model.memories[memory]) // PAGE
        if old + operands[0] > model.maxima[memory]:
            return 0xFFFFFFFF
        model.memories[memory] += bytes(PAGE * operands[0])
        return old

    return Case("memory.grow", ("pages",), ("i32",), "i32", f"(memory.grow {memory} {{0}})", run, memory)


def _size(memory: int) -> Case:
    def run(model: Model, operands: tuple[int, ...]) -> int:
        return len(model.memories[memory]) // PAGE

    return Case("memory.size", (), (), "i32", f"(memory.size {memory})", run, memory)


def table_cases(table: int) -> list[Case]:
    """All table instructions. References are functions that give a number, null is 0 to the callers."""

    def get(model: Model, operands: tuple[int, ...]) -> int:
        model.bounded(TABLE_OUT_OF_BOUNDS, (operands[0], 1, len(model.tables[table])))
        return int(model.tables[table][operands[0]] is not None)

    def put(model: Model, operands: tuple[int, ...]) -> None:
        model.bounded(TABLE_OUT_OF_BOUNDS, (operands[0], 1, len(model.tables[table])))
        model.tables[table][operands[0]] = 1

    def fill(model: Model, operands: tuple[int, ...]) -> None:
        to, count = operands
        model.bounded(TABLE_OUT_OF_BOUNDS, (to, count, len(model.tables[table])))
        model.tables[table][to : to + count] = [None] * count

    def copy(model: Model, operands: tuple[int, ...], source_table: int) -> None:
        to, source, count = operands
        target, origin = model.tables[table], model.tables[source_table]
        model.bounded(TABLE_OUT_OF_BOUNDS, (to, count, len(target)), (source, count, len(origin)))
        target[to : to + count] = origin[source : source + count]

    def init(model: Model, operands: tuple[int, ...]) -> None:
        to, source, count = operands
        target = model.tables[table]
        model.bounded(TABLE_OUT_OF_BOUNDS, (to, count, len(target)), (source, count, model.elements))
        target[to : to + count] = [1] * count

    def grow(model: Model, operands: tuple[int, ...]) -> int:
        old = len(model.tables[table])
        if old + operands[0] > model.table_maxima[table]:
            return 0xFFFFFFFF
        model.tables[table] += [1] * operands[0]
        return old

    def size(model: Model, operands: tuple[int, ...]) -> int:
        return len(model.tables[table])

    one, two, three = ("small",), ("small",) * 2, ("small",) * 3
    some = "(ref.func $some)"
    cases = [
        ("table.get", one, "i32", f"(i32.eqz (ref.is_null (table.get {table} {{0}})))", get),
        ("table.set", one, None, f"(table.set {table} {{0}} {some})", put),
        ("table.fill", two, None, f"(table.fill {table} {{0}} (ref.null func) {{1}})", fill),
        ("table.init", three, None, f"(table.init {table} 0 {{0}} {{1}} {{2}})", init),
        ("table.grow", one, "i32", f"(table.grow {table} {some} {{0}})", grow),
        ("table.size", (), "i32", f"(table.size {table})", size),
    ]
    for other in (0, 1):
        body = f"(table.copy {table} {other} {{0}} {{1}} {{2}})"
        cases.append(("table.copy", three, None, body, lambda m, o, other=other: copy(m, o, other)))  # type: ignore[misc]
    return [Case(name, kinds, ("i32",) * len(kinds), result, body, run) for name, kinds, result, body, run in cases]


#: What doesn't depend on immediates with edges of their own.
BULK: list[Case] = [
    *(make(memory) for make in (_fill, _init, _grow, _size) for memory in (0, 1)),
    *(_copy(to, source) for to in (0, 1) for source in (0, 1)),
    *(case for table in (0, 1) for case in table_cases(table)),
    Case("data.drop", (), (), None, "(data.drop 0)", _drop_data),
    Case("elem.drop", (), (), None, "(elem.drop 0)", _drop_elements),
]
#: How often one of those is chosen that end the use of something.
_RARE = frozenset(("data.drop", "elem.drop", "memory.grow", "table.grow"))


class Function(NamedTuple):
    """A case with some of its operands fixed, exported under its position."""

    case: Case
    fixed: dict[int, int]


class Round:
    """One module and the calls made of it; `differs` is what an engine does otherwise, or None."""

    def __init__(self, choices: Choices, count: int) -> None:
        self.c = choices
        self.pages = [(first, first + choices.below(3)) for first in (choices.pick((1, 2, 0)), choices.pick((1, 2)))]
        self.sizes = [(first, first + choices.below(20)) for first in (choices.pick((10, 0)), choices.pick((5, 1)))]
        model = Model(self.pages, self.sizes)
        self.functions: list[Function] = []
        for _ in range(count):
            case = self.case()
            fixed = {i: self.operand(model, case, i) for i in range(len(case.kinds)) if choices.chance(30)}
            self.functions.append(Function(case, fixed))

    def case(self) -> Case:
        c = self.c
        if c.chance(25):
            case = c.pick(BULK)
            return case if case.name not in _RARE or c.chance(30) else c.pick(BULK)
        return access_case(
            c.pick(PLAIN if c.chance(50) else ATOMICS), c.below(2), c.pick(HUGE if c.chance(12) else OFFSETS)
        )

    def operand(self, model: Model, case: Case, position: int) -> int:
        """The bits of an operand."""
        c = self.c
        kind = case.kinds[position]
        if kind == "value":
            bits = c.pick(NUMBERS) if not c.chance(20) else c.bits(64)
            return bits & (1 << WIDTH[case.types[position]]) - 1
        if kind == "pages":
            return c.pick((0, 1, 2, PAGE - 1, PAGE, 0xFFFFFFFF))
        if kind == "small":
            lengths = [len(table) for table in model.tables] + [len(model.data), ELEMENTS]
            return (c.pick(HUGE if c.chance(10) else (0, 0, 1, *lengths)) + c.pick((0, 0, 0, *_NEAR[:6]))) & 0xFFFFFFFF
        length = len(model.memories[case.memory])
        if kind == "count":
            return c.pick(HUGE if c.chance(10) else (0, 0, 1, 2, 8, 16, 100, PAGE - 1, PAGE, length, length + 1))
        # What matters is where the access begins: offsets count.
        edge = c.pick((1 << 31, 1 << 32) if c.chance(10) else (0, 8, PAGE, length, length)) + c.pick(_NEAR)
        if c.chance(80):
            edge -= edge % case.align
        return (edge - (case.offset if c.chance(80) else 0)) & 0xFFFFFFFF

    def text(self) -> str:
        parts = [f'(memory (export "m{i}") {a} {b})' for i, (a, b) in enumerate(self.pages)]
        parts += [f'(table (export "t{i}") {a} {b} funcref)' for i, (a, b) in enumerate(self.sizes)]
        data = "".join(f"\\{byte:02x}" for byte in DATA)
        parts.append(f'(data "{data}") (elem func {"$some " * ELEMENTS}) (func $some (export "some"))')
        for number, (case, fixed) in enumerate(self.functions):
            params, operands = [], []
            for position, type in enumerate(case.types):
                whole = type.replace("f", "i")
                if position in fixed:
                    value = f"({whole}.const {fixed[position]})"
                else:
                    value = f"(local.get {len(params)})"
                    params.append(whole)
                operands.append(value if whole == type else f"({type}.reinterpret_{whole} {value})")
            body, result = case.body.format(*operands), ""
            if case.result is not None:
                whole = case.result.replace("f", "i")
                result = f"(result {whole})"
                body = body if whole == case.result else f"({whole}.reinterpret_{case.result} {body})"
            parts.append(f'(func (export "{number}") (param {" ".join(params)}) {result} {body})')
        return f"(module {' '.join(parts)})"

    def run(self, engine: wl.Engine, calls: int, counts: Counter[str]) -> str | None:
        """Make calls in an engine. Gives what differs."""
        model = Model(self.pages, self.sizes)
        exports = wl.Instance(wl.Module(self.text(), engine)).exports
        memories, tables = [exports.m0, exports.m1], [exports.t0, exports.t1]
        for number, memory in enumerate(memories):
            contents = bytes((i * 89 + (i >> 8) * 31 + 7 + number) & 0xFF for i in range(len(memory)))
            memory.write(0, contents)
            model.memories[number][:] = contents
        for _ in range(calls):
            number = self.c.below(len(self.functions))
            case, fixed = self.functions[number]
            operands = tuple(fixed[i] if i in fixed else self.operand(model, case, i) for i in range(len(case.kinds)))
            wanted: int | str | None
            got: int | str | None
            try:
                wanted = case.run(model, operands)
            except Trapped as trap:
                wanted = str(trap)
            try:
                got = exports[str(number)](*(value for i, value in enumerate(operands) if i not in fixed))
                if isinstance(got, int):
                    got &= (1 << WIDTH[case.result or "i64"]) - 1
            except wl.Trap as trap:
                got = trap.code
            counts["traps" if isinstance(wanted, str) else "results"] += 1
            what = f"{case.name} {operands} of {case.body}, constant {sorted(fixed)}"
            if got != wanted:
                return f"{what}: {got}, expected {wanted}"
            for k, memory in enumerate(memories):
                if memory.read(0, len(memory)) != model.memories[k]:
                    return f"{what}: memory {k} differs"
            for k, table in enumerate(tables):
                if [int(table[i] is not None) for i in range(len(table))] != [int(x or 0) for x in model.tables[k]]:
                    return f"{what}: table {k} differs"
        return None


def differences(name: str, seed: str, functions: int, calls: int, counts: Counter[str]) -> str | None:
    """One round in one engine."""
    engine = wl.Engine(cache=False, **ENGINES[name])
    return Round(Choices(seed), functions).run(engine, calls, counts)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--functions", type=int, default=120)
    parser.add_argument("--calls", type=int, default=3000)
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    end = time.monotonic() + 60 * options.minutes
    number = 0
    while time.monotonic() < end:
        for name in ENGINES:
            seed = f"{options.seed}.{number}"
            what = differences(name, seed, options.functions, options.calls, counts)
            if what is not None:
                counts["differ"] += 1
                print(f"{name}, seed {seed}: {what}", flush=True)
        number += 1
    print(f"{number} rounds in {len(ENGINES)} engines: {', '.join(f'{value} {key}' for key, value in counts.items())}")
    return 1 if counts["differ"] else 0


if __name__ == "__main__":
    sys.exit(main())
