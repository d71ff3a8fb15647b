"""Programs with their answers, for all contenders that take a module: our own, and those of two public collections.

* Our own: ``programs/*.c`` and ``programs/wide`` in C, ``programs/control.wat`` in the text format. They are built when
  a run begins (ziglang from PyPI).
* https://github.com/wasmi-labs/wasmi-benchmarks: the text modules of ``res/wat``, one exported function ``run``.
* https://github.com/wasmi-labs/rust-benchmarks: ``cases/*/out.wasm``, compiled from Rust: ``setup``, then ``run``.

The public ones are read from folders that ``--programs`` or WASMLOOM_SUITES names; what isn't there is missing.
"""

from __future__ import annotations

import functools
import hashlib
import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from wasmloom_bench import harness, native

#: The call to time, and the check to make after it.
Prepared = tuple[Callable[[], object], Callable[[], None]]

BITS = {"i": 32, "I": 64, "F": None}


class Workload(Protocol):
    """A program to run in each contender."""

    @property
    def name(self) -> str:
        """What tables call it."""

    def prepare(self, engine: Any) -> Prepared:
        """Instantiate, and give the call to time. Raises `harness.Unsupported` and `harness.WrongAnswer`."""


def instantiate(
    engine: Any,
    wasm: bytes,
    sources: Sequence[Path] = (),
    python: Mapping[str, Callable[..., Any]] | None = None,
    imports: harness.Imports | None = None,
) -> harness.Guest:
    """A guest of any contender: of the module, of the C `sources`, or of `python` functions.

    Raises `harness.Inapplicable` where there is no such form.
    """
    if isinstance(engine, native.Native):
        if not sources:
            raise harness.Inapplicable("not a program in C")
        return engine.load(sources, wasm)
    if isinstance(engine, native.Python):
        if not python:
            raise harness.Inapplicable("not written in Python")
        return engine.load(python)
    return engine.instantiate(wasm, imports)  # type: ignore[no-any-return]


# --- our own ----------------------------------------------------------------------------------------------------------

KERNEL_SOURCES = tuple(sorted(harness.PROGRAMS.glob("*.c")))
WIDE_SOURCES = (*sorted((harness.PROGRAMS / "wide").glob("*.c")), harness.PROGRAMS / "memory.c")

VARIANTS = re.findall(r'"([acgt\[\]|]+)"', (harness.PROGRAMS / "regex_redux.c").read_text())


@functools.cache
def kernel() -> bytes:
    """The module of the C programs. Raises `harness.Unsupported` without a compiler."""
    return harness.build_c(KERNEL_SOURCES)


@functools.cache
def control() -> bytes:
    """The module of loops, recursion and calls."""
    return harness.assemble((harness.PROGRAMS / "control.wat").read_text())


@functools.cache
def wide(target: str = "mvp") -> bytes:
    """The module of programs with pointers, for all contenders ("mvp"), or to compare "wasm32" and "wasm64".

    Raises `harness.Unsupported` without a compiler.
    """
    if target == "mvp":
        return harness.build_c(WIDE_SOURCES)
    return harness.build_c(WIDE_SOURCES, cpu="generic", target=target)


@functools.cache
def fasta(size: int = 10_000) -> bytes:
    """A text in FASTA format with three sequences, `size` nucleotides in all; the searched patterns occur in it."""
    rng = random.Random(339)
    lines = []
    for name in ("ONE", "TWO", "THREE"):
        letters = "".join(rng.choices("acgt", k=size // 3))
        for _ in range(5):
            at = rng.randrange(len(letters))
            letters = letters[:at] + rng.choice(("agggtaaa", "tttaccct", "agcgtaaa", "ttaaccct")) + letters[at:]
        lines += [f">{name} made up", *(letters[i : i + 60] for i in range(0, len(letters), 60))]
    return ("\n".join(lines) + "\n").encode()


def reverse_complement(text: bytes) -> bytes:
    """What rev_complement must compute."""
    result = []
    for part in text.decode().split(">")[1:]:
        name, _, letters = part.partition("\n")
        turned = letters.replace("\n", "")[::-1].translate(str.maketrans("acgt", "TGCA"))
        result += [f">{name}", *(turned[i : i + 60] for i in range(0, len(turned), 60))]
    return ("\n".join(result) + "\n").encode()


def pattern_counts(text: bytes) -> int:
    """What regex_redux must compute."""
    total = 0
    for variant in VARIANTS:
        total = total * 1000 + len(re.findall(variant.encode(), text))
    return total


@dataclass(frozen=True)
class Kernel:
    """A program of ``programs/*.c``."""

    name: str

    def prepare(self, engine: Any) -> Prepared:
        guest = instantiate(engine, kernel(), KERNEL_SOURCES)
        run: Callable[[], object]
        run = getattr(self, f"_{self.name}")(engine, guest)
        return run, lambda: None

    def _tiny_keccak(self, engine: Any, guest: harness.Guest) -> Callable[[], object]:
        keccak = guest.function("keccak")
        guest.function("keccak_setup")(254)
        keccak(6)
        digest = guest.read(guest.function("keccak_digest")(), 32)
        harness.check(engine.name, self.name, digest, hashlib.sha3_256(bytes([254]) * 4096).digest())
        return harness.prepared(keccak, 1)

    def _rev_complement(self, engine: Any, guest: harness.Guest) -> Callable[[], object]:
        text = fasta()
        guest.function("rev_setup")()
        guest.write(guest.function("rev_input")(), text)
        reverse = guest.function("rev_complement")
        expected = reverse_complement(text)
        harness.check(engine.name, self.name, reverse(len(text)), len(expected), 32)
        got = guest.read(guest.function("rev_output")(), len(expected))
        harness.check(engine.name, self.name, got, expected)
        return harness.prepared(reverse, len(text))

    def _regex_redux(self, engine: Any, guest: harness.Guest) -> Callable[[], object]:
        text = fasta()
        guest.write(guest.function("regex_input")(), text)
        redux = guest.function("regex_redux")
        # nine counts in base 1000 don't fit 64 bits: both sides wrap around
        harness.check(engine.name, self.name, redux(len(text)), pattern_counts(text), 64)
        return harness.prepared(redux, len(text))


def _count_until(limit: int) -> int:
    count = 0
    while True:
        count += 1
        if count == limit:
            return count


def _factorial_recursive(n: int) -> int:
    return 1 if n == 0 else n * _factorial_recursive(n - 1) & 0xFFFF_FFFF_FFFF_FFFF


def _factorial_optimized(n: int) -> int:
    product = 1
    while n > 1:
        product = product * n & 0xFFFF_FFFF_FFFF_FFFF
        n -= 1
    return product


@dataclass(frozen=True)
class Control:
    """A function of ``programs/control.wat``: its argument and answer."""

    name: str
    argument: int
    answer: int
    bits: int
    python: Callable[..., Any] | None = None

    def prepare(self, engine: Any) -> Prepared:
        functions = None if self.python is None else {self.name: self.python}
        guest = instantiate(engine, control(), (), functions)
        run = harness.prepared(guest.function(self.name), self.argument)
        harness.check(engine.name, self.name, run(), self.answer, self.bits)
        return run, lambda: None


@dataclass(frozen=True)
class Trapping:
    """Calls nested a thousand deep, and a trap in the innermost."""

    name: str = "recursive_trap"

    def prepare(self, engine: Any) -> Prepared:
        trapping, trap = instantiate(engine, control()).function(self.name), engine.trap

        def run() -> None:
            try:
                trapping(1000)
            except trap:
                return
            raise harness.WrongAnswer(f"{engine.name}: {self.name} did not trap")

        run()
        return run, lambda: None


@dataclass(frozen=True)
class HostCalls:
    """A thousand calls of a Python function."""

    name: str = "host_calls"

    def prepare(self, engine: Any) -> Prepared:
        wasm = harness.assemble((harness.PROGRAMS / "host_calls.wat").read_text())
        imports = {("env", "host_call"): ("I", "I", lambda value: value)}
        run = harness.prepared(instantiate(engine, wasm, (), None, imports).function(self.name), 1000)
        harness.check(engine.name, self.name, run(), 0, 64)
        return run, lambda: None


#: The rows of https://github.com/wasmi-labs/wasmi/issues/339 that run something.
WASMI: tuple[Workload, ...] = (
    Kernel("tiny_keccak"),
    Kernel("rev_complement"),
    Kernel("regex_redux"),
    Control("count_until", 100_000, 100_000, 32, _count_until),
    Control("factorial_recursive", 25, math.factorial(25), 64, _factorial_recursive),
    Control("factorial_optimized", 25, math.factorial(25), 64, _factorial_optimized),
    Control("recursive_ok", 8000, 0, 32),
    Trapping(),
    HostCalls(),
)

#: The number of primes below 65536, which `sieve` counts.
PRIMES = 6542
#: Program of ``programs/wide`` → how often it does its work in a call.
WIDE = {
    "list": 50, "tree": 8, "hash": 20, "quicksort": 20, "multiply": 6, "sieve": 10, "words": 80, "machine": 60_000,
}  # fmt: skip


class Agreement:
    """An answer that isn't known otherwise: all contenders must give the same."""

    def __init__(self, known: object = None) -> None:
        self._known = known

    def check(self, contender: str, what: str, got: object, bits: int) -> None:
        """Raises `harness.WrongAnswer` when it isn't what was known or has come before."""
        if self._known is None:
            self._known = got
        harness.check(contender, what, got, self._known, bits)


@dataclass(frozen=True)
class Wide:
    """A program of ``programs/wide``, see `wide`."""

    name: str
    count: int
    agreement: Agreement
    target: str = "mvp"

    def prepare(self, engine: Any) -> Prepared:
        run = harness.prepared(instantiate(engine, wide(self.target), WIDE_SOURCES).function(self.name), self.count)
        self.agreement.check(engine.name, self.name, run(), 32)
        return run, lambda: None


def pointers() -> list[Wide]:
    """The programs with pointers."""
    return [Wide(name, count, Agreement(count * PRIMES if name == "sieve" else None)) for name, count in WIDE.items()]


#: What represents the others in a quick run.
QUICK = (
    "counter-local", "fibonacci-rec", "json-parse", "nbody", "tiny-keccak", "word-count", "tiny_keccak", "regex_redux",
    "count_until", "factorial_recursive", "recursive_ok", "host_calls", "list", "quicksort", "words",
    "compile_and_validate", "instantiate",
)  # fmt: skip


# --- public ones ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wat:
    """A text module with one function: its argument, and the answer (letter for the type, then value)."""

    name: str
    argument: int
    answer: tuple[str, object]

    def path(self, suite: Path) -> Path:
        """Where the suite keeps it."""
        return suite / "res" / "wat" / f"{self.name}.wat"

    def wasm(self, suite: Path) -> bytes:
        """The module."""
        return harness.assemble(self.path(suite).read_text())

    def prepare(self, engine: Any, suite: Path) -> Prepared:
        """The timed call, and the check to make once after it."""
        run = harness.prepared(instantiate(engine, self.wasm(suite)).function("run"), self.argument)
        kind, expected = self.answer
        return run, lambda: harness.check(engine.name, self.name, run(), expected, BITS[kind])


@dataclass(frozen=True)
class Rust:
    """A compiled Rust program: ``setup(size)`` gives its data, which the other functions take."""

    name: str
    size: int | None
    answers: Sequence[tuple[str, str, object]] = ()  # function, type letter, value
    input: str | None = None  # file in the suite to copy to `input_ptr`; its length is the size
    output: str | None = None  # file that `output_ptr` must equal

    def path(self, suite: Path) -> Path:
        """Where the suite keeps it."""
        return suite / "cases" / self.name / "out.wasm"

    def wasm(self, suite: Path) -> bytes:
        """The module."""
        return self.path(suite).read_bytes()

    def prepare(self, engine: Any, suite: Path) -> Prepared:
        """The timed call, and the check to make once after it."""
        guest = instantiate(engine, self.wasm(suite))
        given = (suite / self.input).read_bytes() if self.input else b""
        size = len(given) if self.input else self.size
        data = guest.function("setup")(*([] if size is None else [size]))
        if self.input:
            guest.write(guest.function("input_ptr")(data), given)
        run = harness.prepared(guest.function("run"), data)

        def verify() -> None:
            for function, kind, expected in self.answers:
                harness.check(engine.name, self.name, guest.function(function)(data), expected, BITS[kind])
            if self.output:
                wanted = (suite / self.output).read_bytes()
                got = guest.read(guest.function("output_ptr")(data), len(wanted))
                harness.check(engine.name, self.name, got, wanted)

        return run, verify


def fibonacci(n: int) -> int:
    """The n-th Fibonacci number modulo 2^64."""
    a, b = 0, 1
    for _ in range(n):
        a, b = b, (a + b) & 0xFFFF_FFFF_FFFF_FFFF
    return a


#: The programs with the sizes and answers of the suites' own drivers.
CASES: tuple[Wat | Rust, ...] = (
    Wat("counter-local", 1_000_000, ("i", 0)),
    Wat("counter-param", 1_000_000, ("i", 0)),
    Wat("counter-global", 500_000, ("i", 0)),
    Wat("fibonacci-rec", 30, ("I", fibonacci(30))),
    Wat("fibonacci-iter", 2_000_000, ("I", fibonacci(2_000_000))),
    Wat("fibonacci-tail", 1_000_000, ("I", fibonacci(1_000_000))),
    Wat("bulk-ops", 5_000, ("I", 0)),
    Rust("argon2", 3_000, [("output", "I", 0x76318FB48BBA1258)]),
    Rust("compression", None, [("len_compressed", "I", 97_649)], input="res/alice29.txt"),
    Rust("json-parse", None, [("node_count", "I", 37_778)], input="res/citm_catalog.json"),
    Rust("mandelbrot", 150, [("output", "I", 5_595_328)]),
    Rust("matrix-mul", 400),
    Rust("nbody", 400),
    Rust("prime-sieve", 10_000_000, [("len_primes", "I", 664_579), ("largest_prime", "I", 9_999_991)]),
    Rust("regex-redux", None, [("output", "i", 2)], input="cases/reverse-complement/input.txt"),
    Rust(
        "reverse-complement",
        None,
        input="cases/reverse-complement/input.txt",
        output="cases/reverse-complement/output.txt",
    ),
    Rust("sort", 1_000_000),
    Rust("sort-dyn", 400_000),
    Rust("spectralnorm", 500, [("output", "F", 1.2742241159529095)]),
    Rust("tiny-keccak", None),
    Rust("word-count", None, [("len_unique_words", "I", 2213), ("len_special_chars", "I", 6314)], "res/alice29.txt"),
)


@dataclass(frozen=True)
class Public:
    """A program of a public collection, found in a folder."""

    case: Wat | Rust
    suite: Path

    @property
    def name(self) -> str:
        return self.case.name

    def prepare(self, engine: Any) -> Prepared:
        return self.case.prepare(engine, self.suite)


def public(folders: Sequence[Path]) -> tuple[list[Public], list[str]]:
    """The programs that one of the folders (or a folder in it) has, and the names of those that are nowhere."""
    places = [place for folder in folders for place in (folder, *_folders(folder))]
    found, absent = [], []
    for case in CASES:
        suite = next((place for place in places if case.path(place).exists()), None)
        if suite is None:
            absent.append(case.name)
        else:
            found.append(Public(case, suite))
    return found, absent


def module(folders: Sequence[Path], name: str) -> Path | None:
    """A module of wasmi-benchmarks' ``res/wasm``, or one that lies in one of the folders under this name."""
    for folder in folders:
        for place in (folder, *_folders(folder)):
            for path in (place / "res" / "wasm" / name, place / name):
                if path.exists():
                    return path
    return None


def _folders(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if path.is_dir())
