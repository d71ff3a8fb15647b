"""The table of https://github.com/wasmi-labs/wasmi/issues/339, rebuilt with programs of our own under the same names.

    python benchmarks/wasmi_table.py

Low, estimate and high for each contender. The C programs of ``benchmarks/programs`` are compiled to one module
(ziglang from PyPI), which `compile_and_validate` and `instantiate` take; the others call one function:

* tiny_keccak: a 256-bit Keccak hash of 4096 bytes;
* rev_complement: the reverse complement of 10 kB of FASTA text;
* regex_redux: nine patterns counted in the same text;
* count_until: a loop of 100 000 turns;
* factorial_recursive, factorial_optimized: 25! modulo 2^64;
* recursive_ok: 8000 nested calls; recursive_trap: a trap 1000 calls deep;
* host_calls: 1000 calls of a Python function.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import random
import re
import time
from collections.abc import Callable

import contenders
import harness

VARIANTS = re.findall(r'"([acgt\[\]|]+)"', (harness.PROGRAMS / "regex_redux.c").read_text())


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


def kernel() -> bytes:
    """The module made of the C programs."""
    return harness.build_c(sorted(harness.PROGRAMS.glob("*.c")))


def kernel_runs(engine: harness.Engine, wasm: bytes) -> dict[str, Callable[[], object]]:
    """The rows that use the C programs, answers checked."""
    guest = engine.instantiate(wasm)
    text = fasta()

    keccak = guest.function("keccak")
    guest.function("keccak_setup")(254)
    keccak(6)
    digest = guest.read(guest.function("keccak_digest")(), 32)
    harness.check(engine.name, "tiny_keccak", digest, hashlib.sha3_256(bytes([254]) * 4096).digest())

    guest.function("rev_setup")()
    guest.write(guest.function("rev_input")(), text)
    reverse = guest.function("rev_complement")
    expected = reverse_complement(text)
    harness.check(engine.name, "rev_complement", reverse(len(text)), len(expected), 32)
    got = guest.read(guest.function("rev_output")(), len(expected))
    harness.check(engine.name, "rev_complement", got, expected)

    guest.write(guest.function("regex_input")(), text)
    redux = guest.function("regex_redux")
    # nine counts in base 1000 don't fit 64 bits: both sides wrap around
    harness.check(engine.name, "regex_redux", redux(len(text)), pattern_counts(text), 64)
    return {
        "tiny_keccak": lambda: keccak(1),
        "rev_complement": lambda: reverse(len(text)),
        "regex_redux": lambda: redux(len(text)),
    }


def control_runs(engine: harness.Engine, wasm: bytes) -> dict[str, Callable[[], object]]:
    """The rows that use the text module, answers checked."""
    guest = engine.instantiate(wasm, {("env", "host_call"): ("I", "I", lambda value: value)})
    factorial = math.factorial(25)
    calls: dict[str, tuple[int, int, int]] = {  # argument, answer, bits
        "count_until": (100_000, 100_000, 32),
        "factorial_recursive": (25, factorial, 64),
        "factorial_optimized": (25, factorial, 64),
        "recursive_ok": (8000, 0, 32),
        "host_calls": (1000, 0, 64),
    }
    runs: dict[str, Callable[[], object]] = {}
    for name, (argument, answer, bits) in calls.items():
        function = guest.function(name)
        harness.check(engine.name, name, function(argument), answer, bits)
        runs[name] = lambda function=function, argument=argument: function(argument)  # type: ignore[misc]

    trapping, trap = guest.function("recursive_trap"), engine.trap

    def recursive_trap() -> None:
        try:
            trapping(1000)
        except trap:
            return
        raise harness.WrongAnswer(f"{engine.name}: recursive_trap did not trap")

    runs["recursive_trap"] = recursive_trap
    return runs


ROWS = (
    *("compile_and_validate", "instantiate", "tiny_keccak", "rev_complement", "regex_redux", "count_until"),
    *("factorial_recursive", "factorial_optimized", "recursive_ok", "recursive_trap", "host_calls"),
)


#: Wasmtime compiles in several threads.
CLOCKS = {"compile_and_validate": time.perf_counter}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    contenders.add_options(parser, contenders=("wasmloom", "wasm3", "wasmtime"))
    args = parser.parse_args()

    report = harness.Report("The wasmi table: [low estimate high]", [])
    engines = contenders.chosen(args, report.missing)
    names = [engine.name for engine in engines]
    pairs = contenders.compared(engines)
    report.columns = ["benchmark", *names, *(contenders.over(pair) for pair in pairs)]
    wasm, control = kernel(), harness.assemble((harness.PROGRAMS / "control.wat").read_text())
    runs: dict[str, dict[str, Callable[[], object]]] = {row: {} for row in ROWS}
    for engine in engines:
        runs["compile_and_validate"][engine.name] = lambda engine=engine: engine.compile(wasm)  # type: ignore[misc]
        if engine.name == "wasm3":  # it loads a parsed module only once, so this includes parsing
            runs["instantiate"][engine.name] = lambda engine=engine: engine.instantiate(wasm)  # type: ignore[misc]
        else:
            module = engine.compile(wasm)
            runs["instantiate"][engine.name] = lambda engine=engine, module=module: engine.instantiate(  # type: ignore[misc]
                wasm, None, module
            )
        for row, run in (kernel_runs(engine, wasm) | control_runs(engine, control)).items():
            runs[row][engine.name] = run
    at_least = 0.001 if args.quick else 0.05
    with harness.silenced():  # wasm3 prints the backtrace of each trap
        figures = {
            row: harness.alternate(contestants, args.rounds, at_least, CLOCKS.get(row, time.thread_time))
            for row, contestants in runs.items()
        }
    for row, taken in figures.items():
        ratios = (f"{taken[a].estimate / taken[b].estimate:.2f}" for a, b in pairs)
        report.add(row, *(harness.interval(taken[name]) for name in names), *ratios)
    report.notes += [
        f"The module of the first five rows has {len(wasm)} bytes.",
        "wasm3 doesn't validate, translates at a function's first use, and its instantiate includes parsing.",
        "Wasmtime compiles to machine code before it runs anything.",
    ]
    report.show(engines)


if __name__ == "__main__":
    main()
