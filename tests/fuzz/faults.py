"""Random functions full of memory accesses of which any may fault: every tier must name the same one.

``python -m tests.fuzz.faults --count 1000 --seed 1`` prints each difference, made smaller; ``--case N`` shows one.

Addresses are parameters and their sums with constants, so that calls choose which access faults. Values go through what
compilers merge with loads and stores: arithmetic, conversions, comparisons, `select`, both arms of an `if` that do the
same. What a NaN's bits could change isn't used: arithmetic on floats is rounded to an integer.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import Any

import wasmloom as wl
from tests.fuzz.choices import Choices, shrink
from wasmloom.baseline.mixing import set_mixing

#: Settings of the engines that must say the same.
SETTINGS: tuple[dict[str, Any], ...] = (
    {"tier": "interpreter"},
    {"tier": "compiler"},
    {"tier": "compiler", "memory": "checked"},
    {"tier": "baseline", "translation": "eager"},
    {"tier": "baseline", "translation": "eager", "memory": "checked", "fuel": True},
)

INTEGERS, FLOATS = ("i32", "i64"), ("f32", "f64")
TYPES = (*INTEGERS, *FLOATS)
#: The parameters that addresses are made of; the local that has a value of each type; bits that decide branches.
ADDRESSES = 5
VALUE = {"i32": 5, "i64": 7, "f32": 8, "f64": 9}
BITS, COUNTERS = 6, 10
CALLS = 12

_WIDTHS = {"i32": ("8", "16"), "i64": ("8", "16", "32")}
_INTEGER = ("add", "sub", "and", "or", "xor", "mul", "shl", "shr_u", "shr_s", "rotl")
_BINARY = {"i32": _INTEGER, "i64": _INTEGER, "f32": ("add", "sub", "mul", "div", "min"), "f64": ("add", "mul", "max")}
_COMPARE = {t: ("eq", "ne", "lt_s", "lt_u", "ge_s") if t in INTEGERS else ("eq", "lt", "ge") for t in TYPES}
#: Conversions: result, operand, instruction.
_CONVERT = (
    *(("i32", "i32", f"i32.{name}") for name in ("eqz", "extend8_s", "extend16_s", "clz", "popcnt")),
    *(("i32", "i64", f"i32.wrap_i64 (i64.{name}") for name in ("extend32_s", "clz", "ctz")),
    *(("i64", "i32", f"i64.extend_i32_{sign}") for sign in "su"),
    *(("i64", "i64", f"i64.{name}") for name in ("extend8_s", "extend32_s")),
    *((t, other, f"{t}.reinterpret_{other}") for t, other in zip(TYPES, (*FLOATS, *INTEGERS), strict=True)),
    *((t, other, f"{t}.convert_{other}_{sign}") for t in FLOATS for other in INTEGERS for sign in "su"),
    *((t, other, f"{t}.trunc_sat_{other}_s") for t in INTEGERS for other in FLOATS),
    *((t, t, f"{t}.{name}") for t in FLOATS for name in ("neg", "abs")),
    *(("f64", "f32", "f64.promote_f32"), ("f32", "f64", "f32.demote_f64")),
)  # fmt: skip

#: Parameters of functions that are called with constants in most places, which compilers load as early as they like:
#: more integers than registers take.
MANY = ("i32", "i64", "f32", "f64", "i32", "i64", "i32", "i32", "i32", "i32")
#: What leaves the function and comes back, or doesn't; {} stands for arguments of `MANY`.
LEAVING = (
    "(call $many {})",
    "(call_indirect (type $many) {} (i32.const 0))",
    "(call_ref $many {} (ref.func $many))",
    "(resume $cont {} (cont.new $cont (ref.func $many)))",
    "(memory.fill (i32.const 200) (i32.const 1) (i32.const 3))",
    "(drop (memory.grow (i32.const 0)))",
    "(drop (table.grow (ref.null func) (i32.const 0)))",
    "(block $caught (try_table (catch_all $caught) (throw $tag (i32.const 1) (i64.const 2))))",
    "(if (local.get 5) (then (return_call $last {})))",
)
#: What they need of a module with a memory and the global $g_i32.
CALLEES = f"""(type $many (func (param {" ".join(MANY)}))) (type $cont (cont $many)) (tag $tag (param i32 i64))
(table funcref (elem $many))
(func $many (type $many) (global.set $g_i32 (local.get 4)))
(func $last (param {" ".join(MANY)}) (result i32) (i32.load (local.get 6)))"""


class Function:
    """Makes one function, as text."""

    def __init__(self, choices: Choices) -> None:
        self.c = choices
        self.calls = choices.chance(50)

    def module(self) -> str:
        body = f"{self.body(3)}\n{self.body(2)}"
        globals = "\n".join(f"(global $g_{t} (mut {t}) ({t}.const 5))" for t in TYPES)
        return f"""(module (memory (export "memory") 1)
{globals}
{CALLEES}
(func $id (param i32) (result i32) (i32.add (local.get 0) (i32.const 3)))
(func $sink (param i32) (global.set $g_i32 (local.get 0)))
(data (i32.const 0) "\\01\\02\\03\\04\\05\\06\\07\\08\\3f\\40\\41\\3f")
(func (export "f") (param {"i32 " * 7}) (result i32) (local i64 f32 f64 {"i32 " * 4})
{body}
(local.get {VALUE["i32"]})))"""

    # --- addresses and accesses ---

    def address(self) -> str:
        c = self.c
        base = f"(local.get {c.below(ADDRESSES)})"
        kind = c.below(100)
        if kind < 75:
            return base
        if kind < 90:
            return f"(i32.add {base} (i32.const {c.pick((1, 4, 8, 64))}))"
        return f"(i32.and {base} (i32.const {c.pick((-1, -4, 0xFFFF0, 255))}))"

    def offset(self) -> str:
        return f"offset={self.c.pick((0, 0, 0, 4, 8, 1, 100))}"

    def load(self, type: str) -> str:
        name = "load"
        if type in INTEGERS and self.c.chance(50):
            name = f"load{self.c.pick(_WIDTHS[type])}_{self.c.pick('us')}"
        return f"({type}.{name} {self.offset()} {self.address()})"

    def width(self, type: str) -> str:
        return self.c.pick(_WIDTHS[type]) if type in INTEGERS and self.c.chance(40) else ""

    def update(self, type: str) -> str:
        """Load, compute, store in the same place."""
        c = self.c
        address, offset, width = self.address(), self.offset(), self.width(type)
        load = f"({type}.load{width}{'_u' if width else ''} {offset} {address})"
        value = self.rounded(type, f"({type}.{c.pick(_BINARY[type])} {load} {self.value(type, 1)})")
        return f"({type}.store{width} {offset} {address} {value})"

    # --- values ---

    def rounded(self, type: str, value: str) -> str:
        """A float without the bits of a NaN."""
        if type in INTEGERS:
            return value
        integer = f"i{type[1:]}"
        return f"({type}.convert_{integer}_s ({integer}.trunc_sat_{type}_s {value}))"

    def value(self, type: str, depth: int) -> str:
        c = self.c
        kind = c.below(100)
        if depth <= 0 or kind < 40:
            if kind % 10 < 6:
                return self.load(type)
            if kind % 10 < 8:
                return f"(local.get {VALUE[type]})"
            return f"(global.get $g_{type})" if c.chance(40) else f"({type}.const {c.pick((0, 1, 3, 255, -1, 1000))})"
        if kind < 65:
            operation, x, y = c.pick(_BINARY[type]), self.value(type, depth - 1), self.value(type, depth - 1)
            return self.rounded(type, f"({type}.{operation} {x} {y})")
        if kind < 74:
            x, y = self.value(type, depth - 1), self.value(type, depth - 1)
            return f"(select {x} {y} {self.condition(depth - 1)})"
        if kind < 82:
            condition, x, y = self.condition(depth - 1), self.value(type, depth - 1), self.value(type, depth - 1)
            return f"(if (result {type}) {condition} (then {x}) (else {y}))"
        if kind < 85 and self.calls and type == "i32":
            return f"(call $id {self.value('i32', depth - 1)})"
        _, operand, instruction = c.pick([row for row in _CONVERT if row[0] == type])
        end = ")" * (1 + instruction.count("("))
        return f"({instruction} {self.value(operand, depth - 1)}{end}"

    def condition(self, depth: int) -> str:
        c = self.c
        if c.chance(50):
            return f"(i32.and (local.get {BITS}) (i32.const {1 << c.below(16)}))"
        type = c.pick(TYPES)
        return f"({type}.{c.pick(_COMPARE[type])} {self.value(type, depth)} {self.value(type, depth)})"

    # --- statements ---

    def body(self, depth: int) -> str:
        return "\n".join(self.statement(depth) for _ in range(self.c.pick((1, 2, 3, 3, 5))))

    def statement(self, depth: int) -> str:
        c = self.c
        kind, type = c.below(100), c.pick(TYPES)
        if kind < 25:
            return f"({type}.store{self.width(type)} {self.offset()} {self.address()} {self.value(type, 2)})"
        if kind < 42:
            return self.update(type)
        if kind < 55 or depth <= 0:
            return f"(local.set {VALUE[type]} {self.value(type, 3)})"
        if kind < 60:
            return f"(drop {self.load(type)})"
        if kind < 65:
            return f"(global.set $g_{type} {self.value(type, 2)})"
        if kind < 68 and self.calls:
            return f"(call $sink {self.value('i32', 2)})"
        if kind < 75 and self.calls:
            return self.before() + c.pick(LEAVING).format(self.many())
        if kind < 85:
            return self.branches(depth)
        if kind < 92:
            counter = COUNTERS + depth
            step = f"(local.tee {counter} (i32.sub (local.get {counter}) (i32.const 1)))"
            start = f"(local.set {counter} (i32.const {c.pick((1, 2, 3, 4, 9))}))"
            return f"{start} (loop {self.body(depth - 1)} (br_if 0 {step}))"
        if kind < 96:
            return f"(block (br_if 0 {self.condition(2)}) {self.body(depth - 1)})"
        table = f"(br_table 0 1 2 (i32.and (local.get {BITS}) (i32.const 3)))"
        return f"(block (block (block {table}) {self.body(depth - 1)}) {self.body(depth - 1)})"

    def before(self) -> str:
        """An access before a call whose value isn't needed for it."""
        type = self.c.pick(TYPES)
        keep = self.c.pick(("(drop {})", f"(local.set {VALUE[type]} {{}})", f"(global.set $g_{type} {{}})"))
        return keep.format(self.load(type))

    def many(self) -> str:
        """Arguments of `MANY`: constants most of them."""
        return " ".join(
            f"({type}.const {self.c.below(100)})" if self.c.chance(75) else self.value(type, 1) for type in MANY
        )

    def branches(self, depth: int) -> str:
        """An `if`, whose arms may begin or end with the same."""
        c = self.c
        condition, then = self.condition(2), self.body(depth - 1)
        otherwise = self.body(depth - 1) if c.chance(60) else ""
        if otherwise and c.chance(40):
            same = self.body(depth - 1)
            then, otherwise = (then + same, otherwise + same) if c.chance(50) else (same + then, same + otherwise)
        return f"(if {condition} (then {then}) (else {otherwise}))"


def arguments(choices: Choices) -> tuple[int, ...]:
    """Arguments of a call: addresses that are there, except one or two."""
    addresses = [choices.pick((0, 8, 16, 40, 100)) for _ in range(ADDRESSES)]
    for _ in range(choices.pick((1, 1, 1, 2, 0))):
        addresses[choices.below(ADDRESSES)] = choices.pick((65536, 65535, 65533, 65529, 100_000, -1, 65536 - 100))
    return (*addresses, choices.below(1 << 16), choices.below(1 << 16))


def outcomes(module: bytes, calls: list[tuple[int, ...]], engine: wl.Engine) -> list[object]:
    """How calls end, one after the other in an instance: a result, or where it trapped."""
    store = wl.Store(engine, fuel=1 << 40 if engine.fuel else None)
    function = wl.Instance(wl.Module(module, engine), store=store).exports["f"]
    found: list[object] = []
    for call in calls:
        try:
            found.append(function(*call))
        except wl.Trap as trap:
            found.append((trap.code, *((frame.func_index, frame.offset) for frame in trap.frames)))
    return found


def differences(choices: Choices, engines: list[wl.Engine], counts: Counter[str] | None = None) -> list[str]:
    """Calls of a random function that don't end as in the first engine."""
    from wasmloom.text.parser import parse_module

    module = parse_module(Function(choices).module()).binary
    calls = [arguments(choices) for _ in range(CALLS)]
    wanted, *others = (outcomes(module, calls, engine) for engine in engines)
    if counts is not None:
        counts["functions"] += 1
        counts["calls"] += len(calls)
        counts["faults"] += sum(isinstance(outcome, tuple) for outcome in wanted)
    return [
        f"f{call}: expected {one}, got {another}"
        for other in others
        for call, one, another in zip(calls, wanted, other, strict=True)
        if one != another
    ]


def choices_of(seed: int, case: int) -> Choices:
    return Choices(f"faults {seed}:{case}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--case", type=int, help="show this case only")
    parser.add_argument("--tier", help="only this one, and the interpreter")
    args = parser.parse_args()
    chosen = [s for s in SETTINGS if args.tier in (None, s["tier"]) or s is SETTINGS[0]]
    engines = [wl.Engine(cache=False, **settings) for settings in chosen]
    counts: Counter[str] = Counter(differ=0)
    cases = range(args.first, args.first + args.count) if args.case is None else (args.case,)
    for case in cases:
        choices = choices_of(args.seed, case)
        set_mixing(case if case % 2 else 0)
        found = differences(choices, engines, counts)
        if args.case is not None:
            print(Function(choices_of(args.seed, case)).module())
        if found:
            counts["differ"] += 1
            small = shrink(choices.taken, lambda taken: bool(differences(Choices(recorded=taken), engines)), 1500)
            less = differences(Choices(recorded=small), engines)
            print(f"case {case}: {found[0]}\nmade smaller: {less[0]}")
            print(Function(Choices(recorded=small)).module())
    print(", ".join(f"{number} {name}" for name, number in counts.items()))
    return 1 if counts["differ"] else 0


if __name__ == "__main__":
    sys.exit(main())
