"""Runs random programs in wasmloom and in the `wasmtime` package, and compares everything that can be seen.

``python -m tests.fuzz.differential --count 10000 --seed 1`` prints each difference, made smaller, as text modules with
the calls that lead to it; ``--case N`` runs one case, ``--save FOLDER`` keeps the modules of those that differ.

Compared bit for bit are results, kinds of traps, the calls that host functions see, and afterwards every exported
global, memory and table. NaNs are equal to each other where the specification leaves their bits open (see
`tests.fuzz.bodies`).
"""

from __future__ import annotations

import argparse
import hashlib
import math
import multiprocessing
import os
import struct
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import wasmloom as wl
from tests.fuzz.choices import Choices, shrink
from tests.fuzz.generator import HOST_FUNCTIONS, Program, generate
from wasmloom.spec.types import F64, FuncType, GlobalType, MemoryType, TableType

#: What happened, step by step: results, traps, host calls, and the state at the end.
Outcome = list[tuple[Any, ...]]
#: Translation mode, whether code pays fuel, and the kind of memory.
Variant = tuple[str, bool, str]
VARIANTS: tuple[Variant, ...] = (
    ("lazy-translation", False, "auto"),
    ("eager", True, "checked"),
    ("lazy", True, "auto"),
    ("eager", False, "checked"),
)
HANG_SECONDS = 60.0
REENTRIES = 2
#: The end after so many cases that differ, and how many programs may be tried to make one smaller.
MAX_DIFFERING = 20
ATTEMPTS = 3000
#: How a call can end.
ENDINGS = ("result", "trap", "host error", "exception")


class HostError(Exception):
    """Raised by the host function "fail"."""


def bits(value: float, wide: bool = True) -> str:
    """A float's bits; NaNs are all the same."""
    return "nan" if math.isnan(value) else struct.pack(">d" if wide else ">f", value).hex()


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

    def see(self, name: str, *arguments: float) -> None:
        self.log.append((name, *(bits(a) if isinstance(a, float) else a for a in arguments)))

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


def run_wasmloom(
    program: Program, translation: str, fuel: bool, memory: str = "auto", limit: int | None = None
) -> Outcome:
    """What a program does in wasmloom. With a `limit`, that is its fuel, and what is left of it the last step."""
    log: Outcome = []
    engine = wl.Engine(translation=translation, fuel=fuel, memory=memory)
    store = wl.Store(engine, fuel=limit or 1 << 40 if fuel else None)
    host = Host(log)
    imports: dict[str, Any] = {"env": {name: getattr(host, name) for name in HOST_FUNCTIONS}}
    instances: list[wl.Instance] = []
    for number, data in enumerate(program.modules):
        try:
            instances.append(wl.Instance(wl.Module(data, engine), imports, store=store))
        except wl.Trap as trap:
            return [*log, ("trap", trap.code)]
        imports[f"m{number}"] = instances[-1].exports
        host.reenter = instances[-1].exports["again"]
        host.exception = wl.WasmException
    for call in program.calls:
        try:
            result = instances[call.module].exports[call.name](*call.arguments)
            log.append(("result", result if isinstance(result, tuple) else () if result is None else (result,)))
        except wl.Trap as trap:
            log.append(("trap", trap.code))
        except HostError:
            log.append(("host error",))
        except wl.WasmException:
            log.append(("exception",))
    for instance in instances:
        for export in instance.module.exports:
            item: Any = instance.exports[export.name] if export.kind != "func" else None
            if isinstance(export.type, GlobalType):
                value = item.value
                wide = export.type.content == F64
                log.append((export.name, bits(value, wide) if isinstance(value, float) else value))
            elif isinstance(export.type, MemoryType):
                log.append((export.name, hashlib.sha1(memoryview(item)).hexdigest()))
            elif isinstance(export.type, TableType):
                log.append((export.name, [item[i] is None for i in range(len(item))]))
    if limit is not None:
        log.append(("fuel left", store.fuel))
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
}
#: Traps of ours that wasmtime doesn't tell apart → the one that stands for them.
SAME_TRAP = {
    "undefined element": "out of bounds table access",
    "null function reference": "null reference",
    "null exception reference": "null reference",
}


class Peer:
    """The wasmtime package, with an engine that is kept."""

    def __init__(self) -> None:
        import wasmtime

        self.wasmtime = wasmtime
        config = wasmtime.Config()
        for feature in (
            *("tail_call", "function_references", "gc", "multi_memory", "reference_types", "bulk_memory"),
            "exceptions",
        ):
            setattr(config, f"wasm_{feature}", True)
        config.cranelift_opt_level = "none"
        config.parallel_compilation = False
        self.engine = wasmtime.Engine(config)

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
            again = instance.exports(store)["again"]
            host.reenter = lambda x, again=again: again(store, x)
        for call in program.calls:
            try:
                result = instances[call.module].exports(store)[call.name](store, *call.arguments)
                results = result if isinstance(result, list) else [] if result is None else [result]
                log.append(("result", tuple(results)))
            except wasmtime.Trap as trap:
                code = trap.trap_code
                log.append(("exception",) if code is None else ("trap", TRAPS[code.name]))
            except HostError:
                log.append(("host error",))
        for instance in instances:
            for name, item in instance.exports(store).items():
                if isinstance(item, wasmtime.Global):
                    value = item.value(store)
                    wide = item.type(store).content == wasmtime.ValType.f64()
                    log.append((name, bits(value, wide) if isinstance(value, float) else value))
                elif isinstance(item, wasmtime.Memory):
                    log.append((name, hashlib.sha1(item.get_buffer_ptr(store)).hexdigest()))
                elif isinstance(item, wasmtime.Table):
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
    return [(step[0], SAME_TRAP.get(step[1], step[1])) if step[0] == "trap" else step for step in outcome]


def difference(peer: Peer, program: Program, variants: tuple[Variant, ...]) -> str | None:
    """Where the engines differ, or None."""
    expected = peer.run(program)
    for translation, fuel, memory in variants:
        how = f"translation {translation}, {'with' if fuel else 'without'} fuel, memory {memory}"
        try:
            found = comparable(run_wasmloom(program, translation, fuel, memory))
        except Exception:
            return f"{how}: {traceback.format_exc(limit=-3)}"
        for number, (wanted, got) in enumerate(zip(expected, found, strict=False)):
            if wanted != got:
                return f"{how}, step {number}: expected {wanted}, got {got}"
        if len(found) != len(expected):
            return f"{how}: {len(found)} steps instead of {len(expected)}"
    return None


def variants_of(case: int) -> tuple[Variant, ...]:
    """Two of the variants: each case has one with fuel and one without."""
    return (VARIANTS[case % 2 * 3], VARIANTS[1 + case // 2 % 2])


def choices_of(seed: int, case: int) -> Choices:
    return Choices(f"{seed}:{case}")


def run_case(peer: Peer, seed: int, case: int) -> tuple[str | None, Choices, Program]:
    choices = choices_of(seed, case)
    program = generate(choices)
    return difference(peer, program, variants_of(case)), choices, program


def smaller(peer: Peer, taken: list[int], variants: tuple[Variant, ...], attempts: int) -> Program:
    """The smallest program found that still differs."""

    def differs(numbers: list[int]) -> bool:
        return difference(peer, generate(Choices(recorded=numbers)), variants) is not None

    return generate(Choices(recorded=shrink(taken, differs, attempts)))


def show(program: Program) -> str:
    """A program as text."""
    from wasmloom.text.printer import print_module

    return "\n".join([*map(print_module, program.modules), *(f";; {call}" for call in program.calls)])


# --- many cases, in processes that may die ----------------------------------------------------------------------------


def work(place: Any, queue: Any, seed: int, cases: range, attempts: int) -> None:
    """Run cases, with the number of the current one in `place`; differences and a summary go into the queue."""
    peer = Peer()
    seen: Counter[str] = Counter()
    for case in cases:
        place.value = case
        try:
            found, choices, program = run_case(peer, seed, case)
            if found is not None:
                small = smaller(peer, choices.taken, variants_of(case), attempts)
                queue.put((case, f"{found}\n{show(small)}"))
        except Exception:
            queue.put((case, traceback.format_exc(limit=-3)))
            continue
        if case % 8 == 0:
            steps = run_wasmloom(program, *VARIANTS[0])
            seen.update(step[1] if step[0] == "trap" else step[0] for step in steps if step[0] in ENDINGS)
    queue.put((None, seen))


def fuzz(
    count: int, seed: int, jobs: int, first: int = 0, stop: int = MAX_DIFFERING, attempts: int = ATTEMPTS
) -> Iterator[tuple[int | None, Any]]:
    """Run cases; yields (case, what differs), and (None, how calls ended) at the end of each process.

    After `stop` cases that differ it ends; `attempts` programs are tried to make one smaller.
    """
    context = multiprocessing.get_context("forkserver")  # tests before may have left threads
    queue = context.Queue()
    workers: list[tuple[Any, Any, range]] = []

    def start(cases: range) -> None:
        place = context.RawValue("q", cases.start)
        process = context.Process(target=work, args=(place, queue, seed, cases, attempts), daemon=True)
        process.start()
        workers.append((process, place, cases))

    for job in range(jobs):
        start(range(first + job, first + count, jobs))
    changed: dict[int, tuple[int, float]] = {}
    differing = 0
    while workers:
        while not queue.empty():
            found = queue.get()
            differing += found[0] is not None
            yield found
        if differing >= stop:
            for process, _, _ in workers:
                process.terminate()
            return
        for worker in list(workers):
            process, place, cases = worker
            last, since = changed.get(process.pid, (-1, 0.0))
            if place.value != last:
                changed[process.pid] = (place.value, time.monotonic())
            hangs = process.is_alive() and place.value == last and time.monotonic() - since > HANG_SECONDS
            if process.is_alive() and not hangs:
                continue
            workers.remove(worker)
            if hangs:
                process.kill()
            process.join()
            if process.exitcode:
                differing += 1
                yield place.value, "it hangs" if hangs else f"the process died: exit code {process.exitcode}"
                rest = range(place.value + cases.step, cases.stop, cases.step)
                if rest:
                    start(rest)
        time.sleep(0.02)
    while not queue.empty():
        yield queue.get()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--stop", type=int, default=MAX_DIFFERING, help="end after so many cases that differ")
    parser.add_argument("--attempts", type=int, default=ATTEMPTS, help="programs tried to make one smaller")
    parser.add_argument("--case", type=int, help="run this case only, in this process")
    parser.add_argument("--save", type=Path, help="folder for the modules of cases that differ")
    args = parser.parse_args()
    if args.case is not None:
        print(show(generate(choices_of(args.seed, args.case))))
        found, _, _ = run_case(Peer(), args.seed, args.case)
        print(found or "no difference")
        return int(found is not None)
    begin = time.monotonic()
    differing = 0
    seen: Counter[str] = Counter()
    for case, what in fuzz(args.count, args.seed, args.jobs, args.first, args.stop, args.attempts):
        if case is None:
            seen += what
            continue
        differing += 1
        print(f"case {case}: {what}\n", flush=True)
        if args.save:
            args.save.mkdir(parents=True, exist_ok=True)
            for number, module in enumerate(generate(choices_of(args.seed, case)).modules):
                (args.save / f"case-{case}-m{number}.wasm").write_bytes(module)
    took = time.monotonic() - begin
    print("of every eighth: " + ", ".join(f"{number} {how}" for how, number in seen.most_common(16)))
    rate = args.count / took
    print(f"{args.count} programs in {took:.0f} s ({rate:.0f} a second), seed {args.seed}: {differing} differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
