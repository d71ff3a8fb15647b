"""Hostile input: damaged modules must end in a clear error or in a correct run, never in a crash or a hang.

    python -m tests.fuzz.mutate --count 100000

Takes the modules of the official scripts (and a few of its own), truncates and changes their bytes, and compiles,
instantiates and calls what comes out of it in worker processes, with fuel or a timeout. Case number and seed determine
a case entirely; ``--case N`` runs one in this process, and ``--save FOLDER`` keeps the bytes of those that failed.

A case fails when it raises anything but a `WasmError`, kills its process, or doesn't end in time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import wasmloom as wl
from tests.fuzz import corpus
from wasmloom.host.engine import TIERS, TRANSLATIONS
from wasmloom.spec.types import F32, F64, I32, I64, V128, FuncType, GlobalType, MemoryType, TableType, ValType

#: Seconds after which a case counts as hanging: a thousand times what one usually takes.
HANG_SECONDS = 20.0
FUEL = 20_000
TIMEOUT_SECONDS = 0.05
MEMORY_LIMIT = 64 << 20
#: Call at most this many exports.
MAX_CALLS = 8
#: Traps that come from the limits above.
ENDED_BY_US = ("all fuel consumed", "timeout")

#: Bytes that mean much in the binary format: section numbers, opcodes, type codes, limits of LEB128.
TELLING_BYTES = bytes((*range(32), 0x3F, 0x40, 0x41, 0x5E, 0x60, 0x6F, 0x70, 0x7E, 0x7F, 0x80, 0xFB, 0xFC, 0xFE, 0xFF))
#: Numbers that are worth trying as arguments.
TELLING_NUMBERS = (0, 1, 2, 7, 255, 65535, 65536, (1 << 31) - 1, -1, -(1 << 31))


class Failure(NamedTuple):
    """A case that ended as none may."""

    case: int
    what: str


# --- mutation -----------------------------------------------------------------------------------------------------


def truncate(rng: random.Random, data: bytearray, modules: Sequence[bytes]) -> None:
    """Cut off the end."""
    del data[rng.randrange(len(data)) :]


def flip_bit(rng: random.Random, data: bytearray, modules: Sequence[bytes]) -> None:
    """Invert one bit."""
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def replace_byte(rng: random.Random, data: bytearray, modules: Sequence[bytes]) -> None:
    """Put a telling byte in the place of another."""
    data[rng.randrange(len(data))] = rng.choice(TELLING_BYTES)


def any_byte(rng: random.Random, data: bytearray, modules: Sequence[bytes]) -> None:
    """Put any byte in the place of another."""
    data[rng.randrange(len(data))] = rng.randrange(256)


def insert_bytes(rng: random.Random, data: bytearray, modules: Sequence[bytes]) -> None:
    """Insert a few telling bytes."""
    at = rng.randrange(len(data) + 1)
    data[at:at] = bytes(rng.choices(TELLING_BYTES, k=rng.randint(1, 4)))


def delete_bytes(rng: random.Random, data: bytearray, modules: Sequence[bytes]) -> None:
    """Remove a few bytes."""
    at = rng.randrange(len(data))
    del data[at : at + rng.randint(1, 4)]


def repeat_bytes(rng: random.Random, data: bytearray, modules: Sequence[bytes]) -> None:
    """Double a short range."""
    at = rng.randrange(len(data))
    data[at:at] = data[at : at + rng.randint(1, 16)]


def stretch_number(rng: random.Random, data: bytearray, modules: Sequence[bytes]) -> None:
    """Put a long LEB128 number in the place of a byte."""
    at = rng.randrange(len(data))
    data[at : at + 1] = rng.choice(
        (b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x7f", b"\x80\x80\x80\x80\x00", b"\x80\x80\x04", b"\xff\xff\x03")
    )


def splice(rng: random.Random, data: bytearray, modules: Sequence[bytes]) -> None:
    """Copy a range of another module over this one."""
    other = rng.choice(modules)
    at, start, length = rng.randrange(len(data)), rng.randrange(len(other)), rng.randint(1, 32)
    data[at : at + length] = other[start : start + length]


#: Changes that keep the length come more often: a module whose sizes are wrong is refused before its code is looked at.
MUTATIONS = (flip_bit, replace_byte, any_byte) * 5 + (
    *(insert_bytes, delete_bytes, repeat_bytes, stretch_number, splice, truncate),
)


def mutated(case: int, seed: int, modules: Sequence[bytes]) -> bytes:
    """The bytes of a case."""
    rng = random.Random(f"{seed}:{case}")
    data = bytearray(rng.choice(modules))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        if len(data) > 8:
            rng.choice(MUTATIONS)(rng, data, modules)
    if rng.random() < 0.9:  # what fails at the first eight bytes teaches nothing
        data[:8] = b"\0asm\1\0\0\0"
    return bytes(data)


# --- running one case -----------------------------------------------------------------------------------------------


class Runner:
    """Runs cases, with engines that it keeps; one for each worker process."""

    def __init__(self, seed: int, modules: Sequence[bytes], tier: str) -> None:
        self.seed = seed
        self.modules = modules
        self.counted = [wl.Engine(tier=tier, translation=mode, fuel=True, cache=False) for mode in TRANSLATIONS]
        self.timed = [wl.Engine(tier=tier, translation=mode, cache=False) for mode in TRANSLATIONS]

    def run(self, case: int) -> str:
        """Run a case and say how it ended. Raises what no engine should raise."""
        rng = random.Random(case)
        timed = case % 16 == 0
        engine = rng.choice(self.timed if timed else self.counted)
        store = wl.Store(
            engine,
            fuel=None if timed else FUEL,
            timeout=TIMEOUT_SECONDS if timed else None,
            memory_limit=MEMORY_LIMIT,
        )
        try:
            module = wl.Module(mutated(case, self.seed, self.modules), engine)
        except wl.ValidationError:
            return "invalid"
        except wl.UnsupportedError:
            return "not supported yet"
        except wl.CompileError:
            return "malformed"
        try:
            instance = wl.Instance(module, self.imports(module, store), store=store)
        except wl.LinkError:
            return "not linked"
        except wl.Trap:
            return "trapped"
        except wl.WasmError:
            return "beyond a limit"
        return self.call_exports(rng, instance)

    def imports(self, module: wl.Module, store: wl.Store) -> dict[str, dict[str, object]]:
        """Something of the right type for each import that can be made from outside."""
        rng = random.Random(0)
        given: dict[str, dict[str, object]] = {}
        for wanted in module.imports:
            type = wanted.type
            made: object = None
            if isinstance(type, FuncType):
                results = tuple(a_value(rng, result) for result in type.results)
                made = lambda *arguments, results=results: results[0] if len(results) == 1 else results or None  # noqa: E731
            elif isinstance(type, MemoryType):
                made = wl.Memory(store, type)
            elif isinstance(type, TableType) and type.element.is_nullable:
                made = wl.Table(store, type)
            elif isinstance(type, GlobalType) and type.content.is_defaultable:
                made = wl.Global(store, type, a_value(rng, type.content))
            if made is not None:
                given.setdefault(wanted.module, {})[wanted.name] = made
        return given

    def call_exports(self, rng: random.Random, instance: wl.Instance) -> str:
        """Use the first few exports; how the last call ended."""
        outcome = "ran"
        for name in list(instance.exports)[:MAX_CALLS]:
            export = instance.exports[name]
            try:
                if isinstance(export, wl.Func) and all(param.is_defaultable for param in export.type.params):
                    export(*(a_value(rng, param) for param in export.type.params))
                    outcome = "ran"
                elif isinstance(export, wl.Memory):
                    bytes(memoryview(export)[:64])
                    export.grow(rng.choice((0, 1)))
                elif isinstance(export, wl.Table):
                    [export[i] for i in range(min(len(export), 4))]
                elif isinstance(export, wl.Global):
                    repr(export.value)
            except wl.Trap as trap:
                outcome = "out of fuel or time" if trap.code in ENDED_BY_US else "trapped"
            except wl.WasmError:
                outcome = "beyond a limit"
        return outcome


def a_value(rng: random.Random, type: ValType) -> Any:
    """A value of a defaultable type; null for references."""
    if type in (I32, I64):
        return rng.choice(TELLING_NUMBERS)
    if type in (F32, F64):
        return rng.choice((0.0, -0.0, 1.5, -1e30, float("nan"), float("inf")))
    return rng.randbytes(16) if type == V128 else None


# --- many cases, in processes that may die --------------------------------------------------------------------------


def work(connection: Connection, place: Any, seed: int, modules: Sequence[bytes], tier: str, cases: range) -> None:
    """A worker: run `cases`, leaving the number of the current one in `place`, and send what came of them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    runner = Runner(seed, modules, tier)
    outcomes: Counter[str] = Counter()
    failures: list[Failure] = []
    for case in cases:
        place.value = case
        try:
            outcomes[runner.run(case)] += 1
        except BaseException:  # whatever it is, it is a finding
            failures.append(Failure(case, traceback.format_exc(limit=-3)))
        if len(failures) >= 20:
            break
    connection.send((outcomes, failures))
    connection.close()


class Worker:
    """A worker process that is started again behind a case that kills it."""

    def __init__(self, seed: int, modules: Sequence[bytes], tier: str, cases: range) -> None:
        self.context = multiprocessing.get_context("forkserver")  # tests before may have left threads
        self.given, self.cases = (seed, modules, tier), cases
        self.outcomes: Counter[str] = Counter()
        self.failures: list[Failure] = []
        self.start()

    def start(self) -> None:
        """Run what is left of the cases in a new process."""
        self.place = self.context.RawValue("q", -1)
        self.connection, end = self.context.Pipe(duplex=False)
        self.process = self.context.Process(target=work, args=(end, self.place, *self.given, self.cases))
        self.process.start()
        end.close()
        self.seen, self.since = -1, time.monotonic()

    def poll(self) -> bool:
        """Look after the process; False when all is done."""
        if self.connection.poll(0.05):
            try:
                outcomes, failures = self.connection.recv()
            except EOFError:  # it died
                self.process.join()
                self.give_up_case(died(self.process.exitcode or 0))
                return self.restart()
            self.outcomes += outcomes
            self.failures += failures
            self.process.join()
            return False
        if self.place.value != self.seen:
            self.seen, self.since = self.place.value, time.monotonic()
        elif time.monotonic() - self.since > HANG_SECONDS:
            self.process.kill()
            self.process.join()
            self.give_up_case(f"still running after {HANG_SECONDS:.0f} seconds")
            return self.restart()
        return True

    def give_up_case(self, what: str) -> None:
        """Note the current case as failed. What its process had counted is lost."""
        self.failures.append(Failure(self.place.value, what))
        done = self.place.value - self.cases.start
        self.outcomes["lost with a process"] += done // self.cases.step

    def restart(self) -> bool:
        """Go on behind the current case."""
        self.cases = range(self.place.value + self.cases.step, self.cases.stop, self.cases.step)
        if not self.cases or len(self.failures) >= 20:
            return False
        self.start()
        return True


def died(exitcode: int) -> str:
    """What an exit code says."""
    return f"killed by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"the process ended with {exitcode}"


def fuzz(
    count: int, seed: int, modules: Sequence[bytes], jobs: int, tier: str = "auto"
) -> tuple[Counter[str], list[Failure]]:
    """Run cases 0 to `count` - 1: how many ended how, and those that failed."""
    workers = [Worker(seed, modules, tier, range(job, count, jobs)) for job in range(jobs)]
    running = list(workers)
    while running:
        running = [worker for worker in running if worker.poll()]
    outcomes: Counter[str] = sum((worker.outcomes for worker in workers), Counter())
    return outcomes, sorted(failure for worker in workers for failure in worker.failures)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--spec", type=Path, help="folder with the official scripts")
    parser.add_argument("--module", type=Path, action="append", default=[], help="a module to start from; repeatable")
    parser.add_argument("--tier", choices=TIERS, default="auto")
    parser.add_argument("--case", type=int, help="run this case only, in this process")
    parser.add_argument("--save", type=Path, help="folder for the bytes of failed cases")
    args = parser.parse_args()

    modules = [path.read_bytes() for path in args.module] or corpus.own_modules()
    if args.spec:
        modules += corpus.script_modules(args.spec)
    if args.case is not None:
        data = mutated(args.case, args.seed, modules)
        if args.save:
            save(args.save, args.case, data)
        print(Runner(args.seed, modules, args.tier).run(args.case))
        return 0
    start = time.monotonic()
    outcomes, failures = fuzz(args.count, args.seed, modules, args.jobs, args.tier)
    took = time.monotonic() - start
    for failure in failures:
        print(f"case {failure.case}: {failure.what}", file=sys.stderr)
        if args.save:
            save(args.save, failure.case, mutated(failure.case, args.seed, modules))
    for outcome, number in outcomes.most_common():
        print(f"{number:8} {outcome}")
    print(
        f"{sum(outcomes.values()) + len(failures)} cases from {len(modules)} modules in {took:.1f} s "
        f"({args.count / took:.0f} a second), seed {args.seed}: {len(failures)} failed"
    )
    return 1 if failures else 0


def save(folder: Path, case: int, data: bytes) -> None:
    """Keep the bytes of a case."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"case-{case}.wasm").write_bytes(data)


if __name__ == "__main__":
    sys.exit(main())
