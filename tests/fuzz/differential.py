"""Runs random programs in all tiers of wasmloom and in the `wasmtime` package, and compares all that can be seen.

``python -m tests.fuzz.differential --count 10000 --seed 1`` prints each difference, made smaller, as text modules with
the calls that lead to it; ``--case N`` runs one case, ``--save FOLDER`` keeps the modules of those that differ. With
``--minutes M`` it goes on for that long, ``--log FILE`` gets a line of counts every minute.

Compared bit for bit are results, kinds of traps, the calls that host functions see, and afterwards every exported
global, memory and table; between the tiers backtraces and what exceptions carry, too. NaNs are equal to each other
where the specification leaves their bits open: programs replace them before they can be seen (see `tests.fuzz.bodies`).
The same programs without those replacements ("raw") are compared between the tiers; where only raw ones differ, the
difference is one of NaNs' bits, and is counted apart.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import hashlib
import math
import multiprocessing
import os
import signal
import struct
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from queue import Empty
from typing import Any, NamedTuple

import wasmloom as wl
from tests.fuzz.choices import Choices, shrink
from tests.fuzz.generator import HOST_FUNCTIONS, OBJECTS, Program, generate
from tests.fuzz.operands import NUMBERS
from tests.tiers import replacing
from wasmloom.baseline.copier import set_batch
from wasmloom.baseline.mixing import set_mixing, turn_entries
from wasmloom.compiler.compiled import CompiledModule
from wasmloom.compiler.facts import Facts
from wasmloom.compiler.units import compile_unit
from wasmloom.host.fixed import fill
from wasmloom.runtime.collector import collect_always
from wasmloom.spec.types import FUNCREF, FuncType, GlobalType, MemoryType, TableType
from wasmloom.tiers.change import change_soon

#: What happened, step by step: results, traps, host calls, and the state at the end.
Outcome = list[tuple[Any, ...]]


class Variant(NamedTuple):
    """One way to run a program: settings of the engine."""

    tier: str = "interpreter"
    translation: str = "lazy-translation"
    fuel: bool = False
    stack_switching: str = "native"
    memory: str = "auto"
    threshold: int | None = None
    #: The call, of the guest or of the host, from which on bytecode is to go on as compiled code, after so many loops.
    change: int | None = None
    loops: int = 0
    #: Whether only functions that have run by then are compiled, and others when they are called.
    partly: bool = False
    #: How code and handlers take turns (`wasmloom.baseline.mixing`): anew at each call, of the guest or of the host.
    mixing: int = 0
    #: So much bytecode waits for its code (see `wasmloom.baseline.copier`). Programs are small.
    batch: int = 256
    #: Which functions and loops have compiled code beside bytecode, or before it, by chance; at `change` some more.
    crossing: int | None = None
    deterministic: bool = False
    stack_limit: int = 1 << 20
    #: Whether a collection comes before each object that is made.
    collecting: bool = False

    def engine(self) -> wl.Engine:
        set_batch(self.batch)
        settings = self._asdict()
        for name in ("change", "loops", "partly", "mixing", "batch", "crossing", "stack_limit", "collecting"):
            del settings[name]
        return wl.Engine(**settings, cache=False)

    def at(self, case: int) -> Variant:
        """The same for a case: when what is to change does so, and which functions have compiled code."""
        return self._replace(
            change=self.change and 1 + case % LAST_CHANGE,
            loops=case // LAST_CHANGE % LAST_LOOP,
            crossing=self.crossing and 1 + case,
            mixing=self.mixing and 1 + case,
        )

    def __str__(self) -> str:
        return (
            ", ".join(
                f"{name}={value!r}" for name, value in self._asdict().items() if value != self._field_defaults[name]
            )
            or "interpreter"
        )


#: The interpreter's ways, and those of what compiles.
VARIANTS: tuple[Variant, ...] = (
    Variant(),
    Variant(translation="eager", fuel=True, memory="checked"),
    Variant(translation="lazy", fuel=True),
    Variant(translation="eager", memory="checked"),
)
COMPILED: tuple[Variant, ...] = (
    Variant("compiler"),
    Variant("compiler", fuel=True, memory="checked"),
    Variant("auto", threshold=1),
    Variant("compiler", stack_switching="libcall"),
    Variant("auto", threshold=0, memory="checked"),
)
#: Code copied for bytecode: all of it before anything runs, or that of some functions while others are interpreted.
BASELINE: tuple[Variant, ...] = (
    Variant("baseline", translation="eager"),
    Variant("baseline", fuel=True, memory="checked"),
    Variant("baseline", translation="eager", fuel=True, memory="checked"),
    Variant("baseline", translation="lazy"),
)
#: What pays fuel as it is interpreted must pay for the same where it is copied.
PAYING: tuple[Variant, ...] = (
    Variant(translation="eager", fuel=True, memory="checked"),
    Variant("baseline", translation="eager", fuel=True),
    Variant("baseline", translation="eager", fuel=True, memory="checked", mixing=1),
)
#: And so must what is compiled, whole, in the middle of a call, or function by function.
PAYING_COMPILED: tuple[Variant, ...] = (
    Variant("compiler", fuel=True, memory="checked"),
    Variant("compiler", fuel=True, stack_switching="libcall"),
    Variant("auto", threshold=1 << 30, memory="checked", fuel=True, change=1),
    Variant(fuel=True, crossing=1, change=1),
)
#: With any number of `change`; from bytecode, or from the code that is made of it at once.
CHANGING: tuple[Variant, ...] = (
    Variant("auto", threshold=1 << 30),
    Variant("auto", threshold=1 << 30, stack_switching="libcall", translation="lazy"),
    Variant("auto", threshold=1 << 30, memory="checked", fuel=True),
    Variant("auto", threshold=1 << 30, batch=0),
    Variant("auto", threshold=1 << 30, memory="checked", fuel=True, batch=0),
)
#: With any number of `crossing` and of `change`.
CROSSING: tuple[Variant, ...] = (
    Variant(),
    Variant("baseline"),
    Variant(fuel=True, memory="checked"),
    Variant("baseline", fuel=True, translation="lazy"),
)
#: The ways that are the same in all that can be seen, NaNs' bits and the depth of calls included.
DETERMINISTIC: tuple[Variant, ...] = tuple(
    variant._replace(deterministic=True, fuel=True)
    for variant in (
        Variant(translation="eager", memory="checked"),
        Variant(),
        Variant("baseline", translation="eager", mixing=1),
        Variant("baseline", crossing=1, change=1),
        Variant("compiler"),
        Variant("compiler", stack_switching="libcall", memory="checked"),
        Variant("auto", threshold=1 << 30, change=1),
        Variant("auto", threshold=1 << 30, change=1, batch=0, memory="checked"),
    )
)
#: Changes come at one of so many calls.
LAST_CHANGE = 6
#: And after fewer than so many loops.
LAST_LOOP = 3
HANG_SECONDS = 60.0
REENTRIES = 2
#: The end after so many cases that differ, and how many programs may be tried to make one smaller.
MAX_DIFFERING = 20
ATTEMPTS = 3000
#: How a call can end.
ENDINGS = ("result", "trap", "host error", "exception")
#: A number for another mix of the same case.
SECOND = 1 << 32
#: So many objects of a graph are looked at.
NODES = 100
#: Fuel that is never used up; the step that says what is left of it.
PLENTY = 1 << 30
LEFT = "fuel left"
#: Where counts say how many programs have run.
PROGRAMS = "programs"


class HostError(Exception):
    """Raised by the host function "fail"."""


def bits(value: float) -> str:
    """The bits of a float, as f64; NaNs are all the same."""
    return "nan" if math.isnan(value) else struct.pack(">d", value).hex()


def plain(value: Any) -> Any:
    """A value that both engines give, comparable; references only by whether they are null."""
    return bits(value) if isinstance(value, float) else value if isinstance(value, int) else value is None


def shape(roots: Sequence[Any]) -> list[Any]:
    """A graph of objects, comparable: they are numbered as they are found, and each is the list of what it has."""
    numbers: dict[Any, int] = {}
    found: list[Any] = []

    def known(value: Any) -> Any:
        if isinstance(value, wl.Struct | wl.Array):
            if value not in numbers:
                numbers[value] = len(numbers)
                found.append(value)
            return ("object", numbers[value])
        if isinstance(value, float):
            return bits(value)
        return value if isinstance(value, int | bytes) or value is None else type(value).__name__

    steps: list[Any] = [[known(root) for root in roots]]
    for value in found:  # which grows meanwhile
        if len(steps) > NODES:
            break
        steps.append((type(value).__name__, *map(known, value)))
    return steps


def signed(value: int, width: int) -> int:
    value &= (1 << width) - 1
    return value - (value >> width - 1 << width)


class Host:
    """The host functions, the same for both engines. `log` gets what they see; `reenter` is called by "again"."""

    def __init__(self, log: Outcome) -> None:
        self.log = log
        self.reenter: Callable[[int], int] | None = None
        #: What the engine raises for an exception that the guest doesn't catch.
        self.exception: type[Exception] = HostError
        self.depth = 0
        #: Called at each call, if there is somebody.
        self.on_call: Callable[[], None] | None = None

    def see(self, name: str, *arguments: float) -> None:
        self.log.append((name, *(bits(a) if isinstance(a, float) else a for a in arguments)))
        if self.on_call is not None:
            self.on_call()

    def tick(self) -> None:
        self.see("tick")

    def mix(self, x: int) -> int:
        self.see("mix", x)
        return signed(x * 7 + 3, 32)

    def swap(self, x: int, y: float) -> tuple[float, int]:
        self.see("swap", x, y)
        return y, signed(x ^ 0x5555555555555555, 64)

    def same(self, x: float) -> float:
        self.see("same", x)
        return x

    def sum(self, a: int, b: int, c: float, d: float, e: int) -> int:
        self.see("sum", a, b, c, d, e)
        return signed(a + 3 * b + 5 * e, 32)

    def fail(self, x: int) -> None:
        self.see("fail", x)
        if x & 7 == 7:
            raise HostError

    def again(self, x: int) -> int:
        self.see("again", x)
        if self.reenter is None or self.depth >= REENTRIES:
            return -1
        self.depth += 1
        try:
            return self.reenter(x)
        except self.exception as error:
            # Going back to the guest as an exception is not something that wasmtime's Python package does.
            if getattr(error, "trap_code", None) is not None:
                raise
            return -2
        finally:
            self.depth -= 1


# --- wasmloom ---------------------------------------------------------------------------------------------------------


def payload(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """What an exception carries, comparable; references only by whether they are null."""
    return tuple(
        struct.pack(">d", v).hex() if isinstance(v, float) else v if isinstance(v, int) else v is None for v in values
    )


def frames(trap: wl.Trap) -> tuple[Any, ...]:
    """A backtrace, comparable: continuations are numbered from the innermost."""
    numbers: dict[int | None, int] = {}
    return tuple((f.func_index, f.offset, numbers.setdefault(f.continuation, len(numbers))) for f in trap.frames)


def compile_used(module: wl.Module) -> None:
    """Compile what has run of a module, as `Module.begin_behind` does with a large one, but in this process."""
    options = module.engine.code_options()._replace(quick=True)
    used = module.code_space.used()
    made = CompiledModule(
        module.decoded,
        [compile_unit(Facts(module.decoded), options, used, True)],
        options,
        sorted(set(range(len(module.decoded.body_starts))).difference(used)),
    )
    fill(module, compiled=made)


def modules_of(program: Program, variant: Variant) -> list[wl.Module]:
    """The modules of a program, in an engine of that kind."""
    engine = variant.engine()
    before = set_mixing(variant.mixing)
    try:
        return [wl.Module(data, engine) for data in program.modules]
    finally:
        set_mixing(before)


@contextlib.contextmanager
def crossing(seed: int | None) -> Iterator[None]:
    """With a seed, let engines mix, and give some functions of each module compiled code when it is instantiated."""
    replacing.force(seed is not None, None if seed is None else lambda module: replacing.some_of(module, seed))
    try:
        yield
    finally:
        replacing.force(False)


def run_wasmloom(
    program: Program,
    variant: Variant,
    limit: int | None = None,
    memory_limit: int | None = None,
    modules: Sequence[wl.Module] | None = None,
) -> Outcome:
    """What a program does in wasmloom. With a `limit`, that is its fuel, and what is left of it the last step.

    `modules`: its `modules_of`, if they are there. Traps and exceptions have a third part, what only our tiers can say.
    """
    with crossing(variant.crossing):
        return _run(program, variant, limit, memory_limit, modules)


def _run(
    program: Program,
    variant: Variant,
    limit: int | None,
    memory_limit: int | None,
    modules: Sequence[wl.Module] | None,
) -> Outcome:
    """See `run_wasmloom`."""
    log: Outcome = []
    modules = modules_of(program, variant) if modules is None else modules
    fuel = limit or 1 << 40 if variant.fuel else None
    store = wl.Store(modules[0].engine, fuel=fuel, memory_limit=memory_limit, stack_limit=variant.stack_limit)
    collect_always(store, variant.collecting)
    host = Host(log)
    imports: dict[str, Any] = {"env": {name: getattr(host, name) for name in HOST_FUNCTIONS}}
    instances: list[wl.Instance] = []
    left = variant.change
    calls = 0

    def count_call() -> None:
        nonlocal left, calls
        calls += 1
        for module in modules if variant.mixing else ():
            turn_entries(module.code_space, variant.mixing + calls)
        if left is not None:
            left -= 1
            if left == 0 and variant.crossing is not None:
                for module in store.modules.values():
                    replacing.some_of(module, variant.crossing + 1)
            elif left == 0:
                for module in store.modules.values() if variant.partly else ():
                    compile_used(module)
                change_soon(store, variant.loops)

    host.on_call = count_call
    for number, module in enumerate(modules):
        try:
            instances.append(wl.Instance(module, imports, store=store))
        except wl.Trap as trap:
            return [*log, ("trap", trap.code, frames(trap))]
        imports[f"m{number}"] = instances[-1].exports
        host.reenter = getattr(instances[-1].exports, "again", None)
        host.exception = wl.WasmException
    for call in program.calls:
        try:
            count_call()
            result = instances[call.module].exports[call.name](*call.arguments)
            results = result if isinstance(result, tuple) else (result,)
            log.append(("result", *map(plain, results)))
        except wl.Trap as trap:
            log.append(("trap", trap.code, frames(trap)))
        except HostError:
            log.append(("host error",))
        except wl.WasmException as error:
            log.append(("exception", None, payload(error.payload)))
    for instance in instances:
        for export in instance.module.exports:
            item: Any = instance.exports[export.name] if export.kind != "func" else None
            if export.name.startswith(OBJECTS):
                log.append((OBJECTS, export.name, shape(
                    [item[i] for i in range(len(item))] if export.kind == "table" else [item.value]
                )))
            elif isinstance(export.type, GlobalType) and export.type.content in NUMBERS:
                log.append((export.name, plain(item.value)))
            elif isinstance(export.type, MemoryType):
                log.append((export.name, hashlib.sha1(memoryview(item)).hexdigest()))
            elif isinstance(export.type, TableType) and export.type.element == FUNCREF:
                log.append((export.name, [item[i] is None for i in range(len(item))]))
    if store.change_failed is not None:
        raise store.change_failed
    if limit is not None:
        log.append((LEFT, store.fuel))
    return log


# --- wasmtime ---------------------------------------------------------------------------------------------------------

#: wasmtime's name of a trap → ours.
TRAPS = {
    "UNREACHABLE": "unreachable",
    "INTEGER_DIVISION_BY_ZERO": "integer divide by zero",
    "INTEGER_OVERFLOW": "integer overflow",
    "BAD_CONVERSION_TO_INTEGER": "invalid conversion to integer",
    "MEMORY_OUT_OF_BOUNDS": "out of bounds memory access",
    "TABLE_OUT_OF_BOUNDS": "out of bounds table access",
    "INDIRECT_CALL_TO_NULL": "uninitialized element",
    "BAD_SIGNATURE": "indirect call type mismatch",
    "NULL_REFERENCE": "null reference",
    "STACK_OVERFLOW": "call stack exhausted",
    "HEAP_MISALIGNED": "unaligned atomic",
    "ARRAY_OUT_OF_BOUNDS": "out of bounds array access",
    "CAST_FAILURE": "cast failure",
}
#: Traps of ours that wasmtime doesn't tell apart → the one that stands for them.
SAME_TRAP = {
    "undefined element": "out of bounds table access",
    "null function reference": "null reference",
    "null exception reference": "null reference",
    "null structure reference": "null reference",
    "null array reference": "null reference",
    "null i31 reference": "null reference",
}


class Peer:
    """The wasmtime package, with an engine that is kept."""

    def __init__(self) -> None:
        import wasmtime

        self.wasmtime = wasmtime
        config = wasmtime.Config()
        for feature in (
            *("tail_call", "function_references", "gc", "multi_memory", "reference_types", "bulk_memory"),
            *("exceptions", "threads", "wide_arithmetic", "memory64"),
        ):
            setattr(config, f"wasm_{feature}", True)
        config.cranelift_opt_level = "none"
        config.parallel_compilation = False
        self.engine = wasmtime.Engine(config)
        self.numbers = [getattr(wasmtime.ValType, str(type))() for type in NUMBERS]

    def run(self, program: Program) -> Outcome:
        """What a program does in wasmtime."""
        host = Host([])
        try:
            return self.run_with(program, host)
        finally:
            host.reenter = None  # its store keeps the host functions alive, and it the store

    def run_with(self, program: Program, host: Host) -> Outcome:
        wasmtime = self.wasmtime
        log = host.log
        host.exception = wasmtime.Trap
        store = wasmtime.Store(self.engine)
        linker = wasmtime.Linker(self.engine)
        for name, type in HOST_FUNCTIONS.items():
            linker.define(store, "env", name, wasmtime.Func(store, self.func_type(type), getattr(host, name)))
        instances = []
        for number, data in enumerate(program.modules):
            try:
                instance = linker.instantiate(store, wasmtime.Module(self.engine, data))
            except wasmtime.Trap as trap:
                return [*log, ("trap", TRAPS[trap.trap_code.name])]
            instances.append(instance)
            linker.define_instance(store, f"m{number}", instance)
            again = instance.exports(store).get("again")
            host.reenter = None if again is None else lambda x, again=again: again(store, x)
        for call in program.calls:
            try:
                result = instances[call.module].exports(store)[call.name](store, *call.arguments)
                results = result if isinstance(result, list) else [result]
                log.append(("result", *map(plain, results)))
            except wasmtime.Trap as trap:
                code = trap.trap_code
                log.append(("exception", None) if code is None else ("trap", TRAPS[code.name]))
            except HostError:
                log.append(("host error",))
        for instance in instances:
            for name, item in instance.exports(store).items():
                # Others the package can't read.
                if name.startswith(OBJECTS):
                    continue
                if isinstance(item, wasmtime.Global) and item.type(store).content in self.numbers:
                    log.append((name, plain(item.value(store))))
                elif isinstance(item, wasmtime.Memory):
                    log.append((name, hashlib.sha1(item.get_buffer_ptr(store)).hexdigest()))
                elif isinstance(item, wasmtime.Table) and item.type(store).element == wasmtime.ValType.funcref():
                    items = [item.get(store, i) for i in range(item.size(store))]
                    log.append((name, [not isinstance(item, wasmtime.Func) for item in items]))
        return log

    def func_type(self, type: FuncType) -> Any:
        make = self.wasmtime.ValType
        return self.wasmtime.FuncType(
            [getattr(make, str(t))() for t in type.params], [getattr(make, str(t))() for t in type.results]
        )


# --- comparison -------------------------------------------------------------------------------------------------------


def comparable(outcome: Outcome) -> Outcome:
    """An outcome in the terms that both engines have."""
    return [
        (step[0], SAME_TRAP.get(step[1], step[1])) if step[0] in ("trap", "exception") else step
        for step in outcome
        if step[0] != OBJECTS
    ]


def first_difference(expected: Outcome, found: Outcome) -> str | None:
    """Where two outcomes differ, or None."""
    for number, (wanted, got) in enumerate(zip(expected, found, strict=False)):
        if wanted != got:
            return f"step {number}: expected {wanted}, got {got}"
    if len(found) != len(expected):
        return f"{len(found)} steps instead of {len(expected)}"
    return None


def difference(
    peer: Peer | None, program: Program, variants: Sequence[Variant], limit: int | None = None
) -> str | None:
    """Where the first variant differs from the peer, or another one from the first; None: nowhere.

    `limit`: their fuel.
    """
    own: Outcome | None = None
    for variant in variants:
        try:
            found = run_wasmloom(program, variant, limit)
        except Exception:
            return f"{variant}: {traceback.format_exc(limit=-3)}"
        if own is not None:
            what = first_difference(own, found)
        else:
            own = found
            what = None
            if peer is not None:
                what = first_difference(peer.run(program), comparable(found))
        if what is not None:
            return f"{variant}, {what}"
    return None


def difference_in_fuel(program: Program, case: int, copied: bool) -> str | None:
    """Where variants that pay fuel differ in what they have paid in the end, or in what happens when it runs out."""
    paying = [variant._replace(mixing=variant.mixing and 1 + case) for variant in PAYING]
    if not copied:
        paying += [variant.at(case) for variant in (PAYING_COMPILED[0], PAYING_COMPILED[1 + case // 4 % 3])]
    return difference_by_fuel(program, case, paying)


def difference_by_fuel(program: Program, case: int, paying: Sequence[Variant]) -> str | None:
    """Where variants differ with plenty of fuel, or with some of what they need."""
    last = run_wasmloom(program, paying[0], PLENTY)[-1]
    used = PLENTY - last[1] if last[0] == LEFT else 0
    for limit in (PLENTY, used * (case % 7 + 1) // 8):
        what = limit and difference(None, program, paying, limit)
        if what:
            return f"fuel {limit}: {what}"
    return None


class Form(NamedTuple):
    """What programs are like, and what runs them: raw ones, and those with continuations, run in our tiers only.

    `copied`: what runs them is the interpreter and code copied for bytecode, and no other. `deterministic`: engines
    that must agree on what is left of fuel, and where it or the stack ends, too.
    """

    raw: bool = False
    stacks: bool = False
    copied: bool = False
    deterministic: bool = False

    def program(self, choices: Choices) -> Program:
        return generate(choices, self.raw, self.stacks)

    def variants(self, case: int) -> tuple[Variant, ...]:
        """Some of the variants: interpreted, with fuel and without, copied, and compiled."""
        interpreted = (VARIANTS[case % 2 * 3], VARIANTS[1 + case // 2 % 2])
        copied = BASELINE[case // 2 % len(BASELINE)]
        mixed = BASELINE[case // 3 % len(BASELINE)]._replace(mixing=1 + case)
        changing = CHANGING[case % 5 % len(CHANGING)]._replace(
            change=1 + case % LAST_CHANGE, loops=case // LAST_CHANGE % LAST_LOOP, partly=case // 5 % 2 == 1
        )
        crossing = CROSSING[case % 7 % len(CROSSING)]._replace(crossing=case, change=1 + case // 2 % LAST_CHANGE)
        mixed, changing, crossing = (v._replace(collecting=case % 3 > 0) for v in (mixed, changing, crossing))
        if self.copied:
            return (*interpreted, copied, mixed, mixed._replace(mixing=SECOND + case, translation="eager"))
        if self.raw:
            return (interpreted[0], copied, mixed, COMPILED[0], crossing)
        if self.stacks:
            compiled = (COMPILED[0], COMPILED[3 if case % 3 else 1 + case % 2])
            return (*interpreted[: 1 + case % 2], copied, mixed, *compiled, changing, crossing)
        return (*interpreted, copied, mixed, COMPILED[0], COMPILED[1 + case % (len(COMPILED) - 1)], changing, crossing)

    @property
    def own(self) -> bool:
        """Whether only our tiers run the programs."""
        return self.raw or self.stacks or self.copied or self.deterministic

    def difference(self, peer: Peer | None, choices: Choices, case: int) -> str | None:
        """Where the engines differ, or None."""
        program = self.program(choices)
        if self.deterministic:
            chosen = (DETERMINISTIC[case % 2], *DETERMINISTIC[2 + case % 2 :: 2])
            engines = [variant.at(case)._replace(stack_limit=4096 << case % 3) for variant in chosen]
            return difference_by_fuel(program, case, engines)
        what = difference(None if self.own else peer, program, self.variants(case))
        pays = not self.raw and (self.copied or case % 4 == 0)
        return difference_in_fuel(program, case, self.copied) if what is None and pays else what


PLAIN = Form()


def choices_of(seed: int, case: int) -> Choices:
    return Choices(f"{seed}:{case}")


class Found(NamedTuple):
    """A case that differs, and in which form; in raw form only, that is about NaNs' bits."""

    what: str
    form: Form


def forms(form: Form) -> tuple[Form, ...]:
    """The forms of a case's program."""
    if form.stacks:
        return (form._replace(raw=form.deterministic),)
    return (form, form._replace(raw=True)) if not form.deterministic else (form._replace(raw=True),)


def run_case(peer: Peer | None, seed: int, case: int, first: Form = PLAIN) -> tuple[Found | None, Choices]:
    """What differs in a case, and the decisions that made it. `first`: its first form."""
    for form in forms(first):
        choices = choices_of(seed, case)
        what = form.difference(peer, choices, case)
        if what is not None:
            return Found(what, form), choices
    return None, choices


def differs(peer: Peer | None, numbers: list[int], case: int, form: Form) -> bool:
    """Whether the program that some decisions make differs, in this form only."""
    if form.raw and form._replace(raw=False).difference(peer, Choices(recorded=numbers), case) is not None:
        return False
    return form.difference(peer, Choices(recorded=numbers), case) is not None


def show(program: Program) -> str:
    """A program as text."""
    from wasmloom.text.printer import print_module

    return "\n".join([*map(print_module, program.modules), *(f";; {call}" for call in program.calls)])


# --- many cases, in processes that may die ----------------------------------------------------------------------------


def work(place: Any, queue: Any, seed: int, cases: range, attempts: int, form: Form) -> None:
    """Run cases; differences and counts go into the queue.

    `place` has the number of the current case, and how many programs have run.
    """
    peer = None if form.own else Peer()
    seen: Counter[str] = Counter()
    for number, case in enumerate(cases):
        place[:] = (case, place[1] + 1)
        try:
            found, choices = run_case(peer, seed, case, form)
            if found is not None:

                def fails(numbers: list[int], case: int = case, own: Form = found.form) -> bool:
                    place[1] += 1
                    return differs(peer, numbers, case, own)

                small = Choices(recorded=shrink(choices.taken, fails, attempts))
                again = found.form.difference(peer, small, case)
                text = show(found.form.program(Choices(recorded=small.taken)))
                queue.put((case, Found(f"{found.what}\nmade smaller: {again}\n{text}", found.form)))
            if number % 8 == 0:
                steps = run_wasmloom(form.program(choices_of(seed, case)), VARIANTS[0])
                seen.update(step[1] if step[0] == "trap" else step[0] for step in steps if step[0] in ENDINGS)
        except Exception:
            queue.put((case, Found(traceback.format_exc(limit=-3), Form())))
        seen[PROGRAMS] += 1
        if number % 32 == 31:
            queue.put((None, seen))
            seen = Counter()
    queue.put((None, seen))


def _dies(form: Form, case: int, numbers: list[int]) -> bool:
    """Whether a process that runs a program dies or hangs."""

    def run() -> None:
        faulthandler.disable()
        with contextlib.suppress(Exception):
            difference(None, form.program(Choices(recorded=numbers)), form.variants(case))
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(HANG_SECONDS / 4)
    if process.is_alive():
        process.kill()
    process.join()
    return process.exitcode != 0


def autopsy(queue: Any, seed: int, case: int, attempts: int, first: Form) -> None:
    """Make a program smaller that ends its process."""
    for form in forms(first):
        choices = choices_of(seed, case)
        form.program(choices)
        if _dies(form, case, choices.taken):
            small = shrink(choices.taken, partial(_dies, form, case), attempts // 10)
            queue.put(show(form.program(Choices(recorded=small))))
            return
    queue.put("not again")


def fuzz(
    cases: range, seed: int, jobs: int, stop: int = MAX_DIFFERING, attempts: int = ATTEMPTS, form: Form = PLAIN
) -> Iterator[tuple[int | None, Any]]:
    """Run cases; yields (case, `Found`), and (None, counts since the last ones).

    After `stop` cases that differ it ends; `attempts` programs are tried to make one smaller. `form`: the first form
    of programs.
    """
    context = multiprocessing.get_context("forkserver")  # tests before may have left threads
    queue = context.Queue()
    workers: list[tuple[Any, Any, range]] = []

    def start(cases: range) -> None:
        place = context.RawArray("q", (cases.start, 0))
        process = context.Process(target=work, args=(place, queue, seed, cases, attempts, form))
        process.start()
        workers.append((process, place, cases))

    def examined(case: int, how: str) -> Found:
        results = context.Queue()
        process = context.Process(target=autopsy, args=(results, seed, case, attempts, form))
        process.start()
        small = ""
        while process.is_alive() and not small:
            with contextlib.suppress(Empty):
                small = results.get(timeout=0.2)
        process.join()
        return Found(f"{how}\n{small}", form)

    for job in range(jobs):
        start(cases[job::jobs])
    changed: dict[int, tuple[int, float]] = {}
    differing = 0
    try:
        while workers:
            while not queue.empty():
                found = queue.get()
                differing += found[0] is not None
                yield found
            if differing >= stop:
                return
            for worker in list(workers):
                process, place, own = worker
                last, since = changed.get(process.pid, (-1, 0.0))
                if place[1] != last:
                    changed[process.pid] = (place[1], time.monotonic())
                hangs = process.is_alive() and place[1] == last and time.monotonic() - since > HANG_SECONDS
                if process.is_alive() and not hangs:
                    continue
                workers.remove(worker)
                if hangs:
                    process.kill()
                process.join()
                if process.exitcode:
                    differing += 1
                    how = "it hangs" if hangs else f"the process died: exit code {process.exitcode}"
                    yield place[0], examined(place[0], how)
                    rest = range(place[0] + own.step, own.stop, own.step)
                    if rest:
                        start(rest)
            time.sleep(0.02)
        while not queue.empty():
            yield queue.get()
    finally:
        for process, _, _ in workers:
            process.terminate()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--stop", type=int, default=MAX_DIFFERING, help="end after so many cases that differ")
    parser.add_argument("--attempts", type=int, default=ATTEMPTS, help="programs tried to make one smaller")
    parser.add_argument("--case", type=int, help="run this case only, in this process")
    parser.add_argument("--minutes", type=float, help="go on for that long instead of for a count")
    parser.add_argument("--log", type=Path, help="file that gets a line of counts every minute")
    parser.add_argument("--stacks", action="store_true", help="programs with continuations, in our tiers only")
    parser.add_argument("--copied", action="store_true", help="only interpreted, and in code copied for bytecode")
    parser.add_argument("--deterministic", action="store_true", help="in our tiers only, when they are to be")
    parser.add_argument("--save", type=Path, help="folder for the modules of cases that differ")
    args = parser.parse_args()
    form = Form(stacks=args.stacks, copied=args.copied, deterministic=args.deterministic)
    if args.case is not None:
        print(show(form.program(choices_of(args.seed, args.case))))
        found, _ = run_case(None if form.own else Peer(), args.seed, args.case, form)
        print("no difference" if found is None else f"{found.form}: {found.what}")
        return int(found is not None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the processes end, too
    begin = noted = time.monotonic()
    counts = Counter(differ=0, raw=0)
    seen: Counter[str] = Counter()

    def summary() -> str:
        took = time.monotonic() - begin
        done = seen[PROGRAMS]
        kind = "programs with continuations" if args.stacks else "programs"
        return (
            f"{done} {kind} in {took:.0f} s ({done / took:.1f} a second), seed {args.seed}: "
            f"{counts['differ']} differ, {counts['raw']} only in NaNs' bits"
        )

    cases = range(args.first, args.first + (args.count if args.minutes is None else 1 << 40))
    for case, what in fuzz(cases, args.seed, args.jobs, args.stop, args.attempts, form):
        now = time.monotonic()
        if args.log and now - noted > 60:
            noted = now
            with args.log.open("a") as log:
                log.write(f"{time.strftime('%H:%M:%S')} {summary()}\n")
        if args.minutes is not None and now - begin > 60 * args.minutes:
            break
        if case is None:
            seen += what
            continue
        counts["raw" if what.form.raw else "differ"] += 1
        print(f"case {case}{' (raw)' if what.form.raw else ''}: {what.what}\n", flush=True)
        if args.save:
            args.save.mkdir(parents=True, exist_ok=True)
            for number, module in enumerate(what.form.program(choices_of(args.seed, case)).modules):
                (args.save / f"case-{case}-m{number}.wasm").write_bytes(module)
    endings = ", ".join(f"{number} {how}" for how, number in seen.most_common(18) if how != PROGRAMS)
    print(f"of every eighth: {endings}\n{summary()}")
    return 1 if counts["differ"] or counts["raw"] else 0


if __name__ == "__main__":
    sys.exit(main())
