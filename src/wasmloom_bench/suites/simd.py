"""Programs with vectors, compiled from C when a run begins.

The programs are in ``programs/vectors``: seven say which instructions they want, the others are plain C that the C
compiler's vectoriser has turned into vectors. What they compute is compared with what Python computes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import random
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wasmloom_bench import harness, workloads
from wasmloom_bench.context import Context

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


SOURCES = tuple(sorted((harness.PROGRAMS / "vectors").glob("*.c")))
CONTENDERS = ("interpreter", "baseline", "compiler", "Pulley", "Wasmtime", "V8")
PAIRS = [("interpreter", "Pulley"), ("compiler", "Wasmtime"), ("compiler", "V8"), ("baseline", "interpreter")]
QUICK = ("mandelbrot", "base64", "sha256", "dot_plain", "scan")


@functools.cache
def module() -> bytes:
    """The module of all programs. Raises `harness.Unsupported` without a compiler."""
    return harness.build_c(SOURCES, cpu=CPU)


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

    def prepare(self, engine: Any) -> workloads.Prepared:
        """The call to time, checked."""
        guest = workloads.instantiate(engine, module())
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
        return run, lambda: None


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
        Program("matrix", 100, array("f", small[0] + small[1]).tobytes(), product(small[0], small[1])),
        Program("base64", 1500, plain, base64.b64encode(plain)),
        Program("utf8", 1500, letters, result=1500),
        Program("sha256", 400, b"".join(map(padded, messages)), hashes(messages)),
        Program("blur", 200, image, blurred(image)),
        Program("dot", 2500, numbers, result=2500 * sum_of_products),
        Program("dot_plain", 1000, numbers, result=1000 * sum_of_products, works_on="dot"),
        Program("scan", 5000, text, result=5000 * text.index(b"!")),
        Program("saxpy", 5000, floats.tobytes(), sums.tobytes()),
    ]


def measure(context: Context) -> None:
    """Measure everything."""
    module()
    engines = context.engines(*CONTENDERS)
    table = context.table("programs", "Programs with vectors", PAIRS)
    for program in context.each(table, programs(), quick=QUICK):
        context.measure_programs(table, engines, program, divided=program.rounds)
    context.notes(table, engines)
    table.notes.append("Time is for the work done once; calls do it many times.")
