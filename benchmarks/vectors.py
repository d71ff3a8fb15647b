"""Execution time of programs with vectors (SIMD), compiled from C when the script starts (ziglang from PyPI).

    python benchmarks/vectors.py

The programs are in ``benchmarks/programs/vectors``: seven say which instructions they want, the others are plain C
that the compiler's vectoriser has turned into vectors. Lower is better. What they compute is compared with what Python
computes.

wasmloom's interpreter is set in relation to Pulley, Wasmtime's interpreter; its compiled code and its stencils
("baseline") to Wasmtime and V8. The stencils are also set in relation to the interpreter, whose handlers they are.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import random
import struct
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import contenders
import harness

#: The instructions that the programs may be compiled to.
CPU = "generic+simd128"


def _single(x: float) -> float:
    """A number rounded to 32 bits. So are sums and products of such numbers rounded once."""
    rounded: float = struct.unpack("f", struct.pack("f", x))[0]
    return rounded


def mandelbrot() -> bytes:
    """What ``mandelbrot.c`` counts for each point."""
    counts = bytearray()
    for y in range(48):
        for x in range(64):
            real, imaginary = x / 16 - 2.75, y / 16 - 1.5
            a, b, count = real, imaginary, 0
            while count < 50:
                a2, b2 = _single(a * a), _single(b * b)
                if _single(a2 + b2) > 4:
                    break
                count += 1
                b = _single(_single(_single(a + a) * b) + imaginary)
                a = _single(_single(a2 - b2) + real)
            counts.append(count)
    return bytes(counts)


def product(first: Sequence[float], second: Sequence[float], size: int = 64) -> bytes:
    """The product of two matrices of small integers, as ``matrix.c`` leaves it."""
    columns = [second[j::size] for j in range(size)]
    rows = [first[i * size : (i + 1) * size] for i in range(size)]
    pairs = (zip(row, column, strict=True) for row in rows for column in columns)
    return array("f", [sum(a * b for a, b in each) for each in pairs]).tobytes()


def blurred(image: bytes, width: int = 256, height: int = 64) -> bytes:
    """What ``blur.c`` makes of an image."""
    result = bytearray(width * height)
    for y in range(1, height - 1):
        sums = [sum(image[x + row * width] for row in (y - 1, y, y + 1)) for x in range(width)]
        for x in range(1, width - 1):
            result[y * width + x] = (sums[x - 1] + sums[x] + sums[x + 1]) // 9
    return bytes(result)


def padded(message: bytes) -> bytes:
    """A message with what SHA-256 puts behind it."""
    zeros = -(len(message) + 9) % 64
    return message + b"\x80" + bytes(zeros) + struct.pack(">Q", 8 * len(message))


def hashes(messages: Sequence[bytes]) -> bytes:
    """The hashes of messages, word by word, as ``sha256.c`` leaves them."""
    words = [struct.unpack(">8I", hashlib.sha256(message).digest()) for message in messages]
    return b"".join(struct.pack("<I", each[i]) for i in range(8) for each in words)


@dataclass(frozen=True)
class Program:
    """An exported function, how often it does its work in a call, what it reads, and what it must give.

    `works_on` is the name that its data have. `result` is what the function returns for so many rounds, `output` what
    it leaves.
    """

    name: str
    rounds: int
    input: bytes = b""
    output: bytes = b""
    result: int | None = None
    works_on: str = ""

    def prepare(self, engine: harness.Engine, module: object, wasm: bytes) -> Callable[[], object]:
        """The call to time, checked."""
        guest = engine.instantiate(wasm, None, module)
        place = self.works_on or self.name
        if self.input:
            guest.write(guest.function(f"{place}_input")(), self.input)
        run = harness.prepared(guest.function(self.name), self.rounds)
        got = run()
        if self.result is not None:
            harness.check(engine.name, self.name, got, self.result, 32)
        if self.output:
            left = guest.read(guest.function(f"{place}_output")(), len(self.output))
            harness.check(engine.name, self.name, left, self.output)
        return run


def programs() -> list[Program]:
    """The programs, with inputs and answers."""
    rng = random.Random(128)
    small = [[float(rng.randrange(16)) for _ in range(64 * 64)] for _ in range(2)]
    image = rng.randbytes(256 * 64)
    numbers = rng.randbytes(2 * 16 * 1024)
    signed = array("b", numbers)
    sum_of_products = sum(x * y for x, y in zip(signed[: 16 * 1024], signed[16 * 1024 :], strict=True))
    messages = [rng.randbytes(1024 - 9) for _ in range(4)]
    plain = rng.randbytes(12 * 1024)
    letters = "".join(rng.choice("abcdefghijklmnop äöüß € 😀 ") for _ in range(16 * 1024)).encode()[: 16 * 1024]
    letters = letters.decode(errors="ignore").encode()
    text = bytes(rng.choice(b"abcdefghijklmnop ") for _ in range(16 * 1024 - 7)) + b"!"
    floats = array("f", [rng.randrange(1 << 12) / 4 for _ in range(2 * 4096)])
    sums = array("f", [1.5 * x + y for x, y in zip(floats[:4096], floats[4096:], strict=True)])
    return [
        Program("mandelbrot", 100, output=mandelbrot()),
        Program("matrix", 100, array("f", small[0] + small[1]).tobytes(), product(*small)),
        Program("base64", 1500, plain, base64.b64encode(plain)),
        Program("utf8", 1500, letters, result=1500),
        Program("sha256", 400, b"".join(map(padded, messages)), hashes(messages)),
        Program("blur", 200, image, blurred(image)),
        Program("dot", 2500, numbers, result=2500 * sum_of_products),
        Program("dot_plain", 1000, numbers, result=1000 * sum_of_products, works_on="dot"),
        Program("scan", 5000, text, result=5000 * text.index(b"!")),
        Program("saxpy", 5000, floats.tobytes(), sums.tobytes()),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="comma-separated parts of program names")
    parser.add_argument("--rounds", type=int, default=7)
    contenders.add_options(
        parser, tiers=("interpreter", "baseline", "compiler"), contenders=contenders.NAMES_WITH_VECTORS
    )
    args = parser.parse_args()

    report = harness.Report("Programs with vectors", [])
    engines = contenders.chosen(args, report.missing)
    names = [engine.name for engine in engines]
    pairs = contenders.compared(engines)
    both = ("wasmloom baseline", "wasmloom interpreter")
    pairs += [both] if set(both) <= set(names) else []
    table = contenders.Ratios(report, names, pairs)
    wasm = harness.build_c(sorted((harness.PROGRAMS / "vectors").glob("*.c")), cpu=CPU)
    modules = {}
    for engine in engines.copy():
        try:
            modules[engine.name] = engine.compile(wasm)
        except harness.Unsupported as error:
            report.missing.append(harness.Missing(engine.name, str(error)))
            engines.remove(engine)
    for program in programs():
        if args.only and not any(part in program.name for part in args.only.split(",")):
            continue
        runs = {}
        for engine in engines:
            runs[engine.name] = program.prepare(engine, modules[engine.name], wasm)
            harness.warm_up(runs[engine.name], engine.warm_up)
        figures = harness.alternate(runs, args.rounds, 0.001 if args.quick else 0.05)
        times = {name: figure.estimate / program.rounds for name, figure in figures.items()}
        table.add(program.name, times)
    table.end()
    report.notes += [
        f"The module has {len(wasm)} bytes. Time is for the work done once; calls do it many times.",
        *contenders.notes(engines),
    ]
    report.show(engines)


if __name__ == "__main__":
    main()
