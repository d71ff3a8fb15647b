"""Programs that know what their frames hold: random functions, and a machine that does what they do.

Wherever frames can be looked at (in a call of the host, where a loop begins) the machine notes what all of them hold.
"""

from __future__ import annotations

import struct
from itertools import count
from typing import Any, NamedTuple

from tests.fuzz.choices import Choices

TYPES = ("i32", "i64", "f32", "f64", "externref", "funcref")
#: A reference to a function; every function has a local of that type, which may not be set yet.
CALLABLE = "(ref $v)"
#: What a reference is here that isn't null: its bits are an address.
SOME = "some"
#: More instructions than this aren't run.
MOST_STEPS = 3000

#: A type and bits: None where there is nothing to be read (yet).
Held = tuple[str, Any]
#: A name, then whatever belongs to it.
Instruction = tuple[Any, ...]


class Snapshot(NamedTuple):
    """What a frame holds."""

    locals: list[Held]
    operands: list[Held]


class TooLong(Exception):
    """The program runs too long to be of use."""


class Function:
    """A function that is being made, with those that it can call.

    Locals are the parameters, those that instructions read and write, the callable, and a counter for each loop.
    """

    def __init__(self, number: int, choices: Choices, callees: list[Function]) -> None:
        self.number = number
        self.choices = choices
        self.callees = callees
        self.params = [choices.pick(TYPES) for _ in range(choices.below(4))]
        self.results = [choices.pick(TYPES) for _ in range(choices.below(3))]
        self.variables = [*self.params, *(choices.pick(TYPES) for _ in range(choices.below(5)))]
        self.callable = len(self.variables)
        self.loops = 0
        self.stack: list[str] = []
        self.code = self.body(2, 0)
        if choices.below(2):
            self.code.insert(choices.below(len(self.code)), ("set callable",))
        self.code += [self.constant(type) for type in self.results]

    @property
    def locals(self) -> list[str]:
        return [*self.variables, CALLABLE, *["i32"] * self.loops]

    def counter(self, loop: int) -> int:
        return self.callable + 1 + loop

    # --- making it ---

    def constant(self, type: str) -> Instruction:
        self.stack.append(type)
        return ("constant", type, self.choices.below(9) - 4)

    def body(self, depth: int, least: int) -> list[Instruction]:
        """Some instructions that leave the operands below `least` alone."""
        code: list[Instruction] = []
        for _ in range(3 + self.choices.below(6)):
            code += self.some(depth, least)
        return code

    def some(self, depth: int, least: int) -> list[Instruction]:
        choices, stack = self.choices, self.stack
        kind = choices.below(12)
        if kind < 2 and self.variables:
            index = choices.below(len(self.variables))
            stack.append(self.variables[index])
            return [("local.get", index)]
        fitting = [i for i, type in enumerate(self.variables) if stack[least:] and type == stack[-1]]
        if kind == 2 and fitting:
            stack.pop()
            return [("local.set", choices.pick(fitting))]
        if kind == 3 and fitting:
            return [("local.tee", choices.pick(fitting))]
        if kind == 4 and len(stack) - least > 1 and stack[-1] == stack[-2] in ("i32", "i64"):
            return [("add", stack.pop())]
        if kind == 5 and stack[least:]:
            return [("drop", stack.pop())]
        if kind == 6 and stack[least:] and stack[-1] == "i64":
            stack.append("f32")
            return [("ask",)]
        if kind == 7:
            return [("look",)]
        if kind == 8 and self.callees:
            callee = choices.pick(self.callees)
            given = [self.constant(type) for type in callee.params]
            stack[len(stack) - len(given) :] = callee.results
            return [*given, ("call", callee)]
        if kind == 9 and depth:
            return [self.block(depth - 1, least)]
        if kind == 10 and depth:
            return [self.loop(depth - 1, least)]
        return [self.constant(choices.pick(TYPES))]

    def block(self, depth: int, least: int) -> Instruction:
        """A block that takes some operands, and gives what its body leaves."""
        base = least + self.choices.below(len(self.stack) - least + 1)
        params = self.stack[base:]
        code = self.body(depth, base)
        return ("block", params, self.stack[base:], code)

    def loop(self, depth: int, least: int) -> Instruction:
        """A loop of some rounds, each of which ends with operands of the types that it began with."""
        base = least + self.choices.below(len(self.stack) - least + 1)
        params, number = self.stack[base:], self.loops
        self.loops += 1
        code = self.body(depth, base)
        code += [("drop", self.stack.pop()) for _ in self.stack[base:]]
        code += [self.constant(type) for type in params]
        return ("loop", number, 1 + self.choices.below(3), params, code)

    # --- as text ---

    def text(self) -> str:
        head = " ".join((*(f"(param {type})" for type in self.params), *(f"(result {type})" for type in self.results)))
        declared = " ".join(f"(local {type})" for type in self.locals[len(self.params) :])
        return f"(func $f{self.number} {head} {declared} {' '.join(map(self.shown, self.code))} return)"

    def shown(self, instruction: Instruction) -> str:
        name, *rest = instruction
        if name == "constant":
            return constant(*rest)[0]
        if name == "add":
            return f"{rest[0]}.add"
        if name == "call":
            return f"call $f{rest[0].number}"
        if name in ("ask", "look"):
            return f"call ${name}"
        if name == "set callable":
            return f"(local.set {self.callable} (ref.func $target))"
        if name == "block":
            return f"block {typed(rest[0], rest[1])} {' '.join(map(self.shown, rest[2]))} end"
        if name == "loop":
            number, rounds, params, code = rest
            at = self.counter(number)
            less = f"(br_if 0 (local.tee {at} (i32.sub (local.get {at}) (i32.const 1))))"
            inside = " ".join(map(self.shown, code))
            return f"(local.set {at} (i32.const {rounds})) loop {typed(params, params)} {inside} {less} end"
        return name if name == "drop" else f"{name} {rest[0]}"


def typed(params: list[str], results: list[str]) -> str:
    return " ".join((*(f"(param {type})" for type in params), *(f"(result {type})" for type in results)))


def constant(type: str, number: int) -> tuple[str, Any]:
    """The text and the bits of a constant."""
    if type in ("i32", "i64"):
        return f"({type}.const {number})", number & mask(type)
    if type in ("f32", "f64"):
        value = number / 4
        code, bits = ("<f", "<I") if type == "f32" else ("<d", "<Q")
        return f"({type}.const {value})", struct.unpack(bits, struct.pack(code, value))[0]
    if type == "externref" or number % 2:
        return f"(ref.null {type.removesuffix('ref')})", 0
    return "(ref.func $target)", SOME


def mask(type: str) -> int:
    return (1 << int(type[1:])) - 1


def as_types(values: list[Held], types: list[str]) -> list[Held]:
    """Values where they are known by these types: those of a block's or a function's parameters or results."""
    return [(type, bits) for type, (_, bits) in zip(types, values, strict=True)]


class Running:
    """A frame of the machine; while it waits, `awaited` are the types that its callee gives."""

    def __init__(self, function: Function, arguments: list[Held]) -> None:
        given = as_types(arguments, function.params)
        unset = [(type, 0) for type in function.variables[len(arguments) :]]
        self.function = function
        self.locals: list[Held] = [*given, *unset, (CALLABLE, None), *[("i32", 0)] * function.loops]
        self.stack: list[Held] = []
        self.awaited: list[str] = []

    def snapshot(self) -> Snapshot:
        return Snapshot(list(self.locals), [*self.stack, *((type, None) for type in self.awaited)])


class Machine:
    """Runs functions. `looks` is what the frames hold in each call of the host, innermost first; `rounds` what they
    hold where each round of a loop begins, with function and loop."""

    def __init__(self) -> None:
        self.frames: list[Running] = []
        self.looks: list[list[Snapshot]] = []
        self.rounds: list[tuple[int, int, list[Snapshot]]] = []
        self.steps = 0

    def call(self, function: Function, arguments: list[Held]) -> list[Held]:
        frame = Running(function, arguments)
        self.frames.append(frame)
        self.run(frame, function.code)
        self.frames.pop()
        return as_types(frame.stack[len(frame.stack) - len(function.results) :], function.results)

    def seen(self) -> list[Snapshot]:
        return [frame.snapshot() for frame in reversed(self.frames)]

    def wait(self, frame: Running, awaited: list[str]) -> None:
        frame.awaited = awaited
        self.looks.append(self.seen())
        frame.awaited = []

    def run(self, frame: Running, code: list[Instruction]) -> None:
        stack, function = frame.stack, frame.function
        for name, *rest in code:
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise TooLong
            if name == "constant":
                bits = constant(*rest)[1]
                stack.append((CALLABLE if bits == SOME else rest[0], bits))
            elif name == "local.get":
                stack.append(frame.locals[rest[0]])
            elif name in ("local.set", "local.tee"):
                (frame.locals[rest[0]],) = as_types([stack.pop()], [function.variables[rest[0]]])
                if name == "local.tee":
                    stack.append(frame.locals[rest[0]])
            elif name == "add":
                type, bits = stack.pop()
                stack[-1] = (type, stack[-1][1] + bits & mask(type))
            elif name == "drop":
                stack.pop()
            elif name == "look":
                self.wait(frame, [])
            elif name == "ask":
                _, bits = stack.pop()
                self.wait(frame, ["i64", "f32"])
                stack += [("i64", bits), ("f32", constant("f32", 6)[1])]
            elif name == "call":
                at = len(stack) - len(rest[0].params)
                arguments = stack[at:]
                del stack[at:]
                frame.awaited = rest[0].results
                stack += self.call(rest[0], arguments)
                frame.awaited = []
            elif name == "set callable":
                frame.locals[function.callable] = (CALLABLE, SOME)
            elif name == "block":
                params, results, inside = rest
                base = len(stack) - len(params)
                stack[base:] = as_types(stack[base:], params)
                self.run(frame, inside)
                stack[base:] = as_types(stack[base:], results)
            else:
                number, rounds, params, inside = rest
                at, base = function.counter(number), len(stack) - len(params)
                for left in range(rounds, 0, -1):
                    frame.locals[at] = ("i32", left)
                    stack[base:] = as_types(stack[base:], params)
                    self.rounds.append((function.number, number, self.seen()))
                    self.run(frame, inside)
                stack[base:] = as_types(stack[base:], params)
                frame.locals[at] = ("i32", 0)


def program(seed: int, with_loops: bool = False) -> tuple[str, Machine]:
    """A module that exports "run", and a machine that has run it, to its end."""
    for attempt in count():
        try:
            text, machine = attempted(Choices(f"{seed}.{attempt}"))
        except TooLong:
            continue
        if machine.rounds or not with_loops:
            return text, machine
    raise AssertionError


def attempted(choices: Choices) -> tuple[str, Machine]:
    functions: list[Function] = []
    for number in range(1 + choices.below(3)):
        functions.append(Function(number, choices, list(functions)))
    last = functions[-1]
    arguments = [Function.constant(last, type) for type in last.params]
    machine = Machine()
    machine.call(last, [(type, constant(type, number)[1]) for _, type, number in arguments])
    given = " ".join(constant(type, number)[0] for _, type, number in arguments)
    text = f"""(module (type $v (func)) (func $look (import "m" "look"))
      (func $ask (import "m" "ask") (param i64) (result i64 f32)) (func $target (type $v)) (elem declare func $target)
      {" ".join(function.text() for function in functions)}
      (func (export "run") {given} (call $f{last.number}) {"(drop)" * len(last.results)}))"""
    return text, machine
