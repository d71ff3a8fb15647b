"""How much faster two threads of a guest are than one, and how long threads take to wake each other.

Each thread is an instance in a store of its own, in a Python thread; they share a memory. Programs take elapsed time,
which is what threads are for; their start is part of it.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Any

from wasmloom_bench import harness
from wasmloom_bench.context import Context
from wasmloom_bench.peers import TIERS
from wasmloom_bench.results import Missing

#: Program → argument, argument of a quick run, and what it has computed with either.
PROGRAMS = {"mandelbrot": (800, 240), "stealing": (17, 12)}
ROUNDS = 2000


def mandelbrot(size: int) -> int:
    """What mandelbrot.wat computes, by Python."""
    total = 0
    for y in range(size):
        for x in range(size):
            c = complex(x * 2 / size - 1.5, y * 2 / size - 1)
            z, n, rr, ii = 0j, 0, 0.0, 0.0
            while n < 100 and (not n or rr + ii <= 4):
                z = complex(rr - ii + c.real, 2 * z.real * z.imag + c.imag)
                rr, ii = z.real * z.real, z.imag * z.imag
                n += 1
            total += n
    return total


def stealing(size: int) -> int:
    """What stealing.wat computes, by Python."""
    x = size
    for _ in range(200):
        x = (x * 31 + 7) % 65521
    return x << size


def runner(wl: Any, module: Any, threads: int, argument: int, expected: int) -> Callable[[], float]:
    """Measures one run with so many threads. Raises `harness.WrongAnswer`."""

    def sample() -> float:
        memory = wl.SharedMemory(1, 1)
        guests = [wl.Instance(module, {"env": {"memory": memory}}).exports.work for _ in range(threads)]
        workers = [
            threading.Thread(target=guest, args=(number, threads, argument)) for number, guest in enumerate(guests)
        ]
        begin = time.perf_counter()
        for worker in workers[1:]:
            worker.start()
        guests[0](0, threads, argument)
        for worker in workers[1:]:
            worker.join()
        taken = time.perf_counter() - begin
        harness.check(f"{threads} threads", "the sum", int.from_bytes(memory.read(8, 8), "little"), expected)
        return taken

    return sample


def python_ping(rounds: int) -> float:
    """The same as ping.wat by Python's own means: seconds for a pair of wake-ups."""
    turns = [threading.Semaphore(1), threading.Semaphore(0)]

    def work(number: int) -> None:
        for _ in range(rounds):
            turns[number].acquire()
            turns[1 - number].release()

    other = threading.Thread(target=work, args=(1,))
    begin = time.perf_counter()
    other.start()
    work(0)
    other.join()
    return (time.perf_counter() - begin) / rounds


def measure(context: Context) -> None:
    """Measure everything."""
    import wasmloom as wl

    tiers = [tier for tier in TIERS if context.wants(tier)]
    table = context.table(
        "speed-up",
        "Two threads of a guest",
        clock="elapsed time",
        pairs=[(f"{tier}, 2 threads", f"{tier}, 1 thread") for tier in tiers],
    )
    compute: dict[str, Callable[[int], int]] = {"mandelbrot": mandelbrot, "stealing": stealing}
    for name in context.each(table, [*PROGRAMS], 0.8):
        argument = PROGRAMS[name][context.quick]
        expected = functools.cache(compute[name])(argument)
        text = (harness.PROGRAMS / "threads" / f"{name}.wat").read_text()
        samplers: dict[str, Callable[[], float]] = {}
        for tier in tiers:
            try:
                module = wl.Module(text, wl.Engine(tier=tier))
            except wl.WasmError as error:
                table.missing.append(Missing(tier, str(error), name))
                continue
            for threads in (1, 2):
                sampler = runner(wl, module, threads, argument, expected)
                sampler()  # translated, and what is compiled meanwhile
                samplers[f"{tier}, {threads} thread{'s' * (threads > 1)}"] = sampler
        context.measure(table, name, samplers)
    table.notes.append("Each thread is an instance in a store of its own; starting the threads counts.")

    pairs = context.table("waking", "Two threads wake each other", clock="elapsed time", per="pair of wake-ups")
    text = (harness.PROGRAMS / "threads" / "ping.wat").read_text()
    rounds = ROUNDS // 4 if context.quick else ROUNDS
    samplers = {}
    for tier in tiers:
        run = runner(wl, wl.Module(text, wl.Engine(tier=tier)), 2, rounds, 2)
        samplers[tier] = lambda run=run: run() / rounds  # type: ignore[misc]
    samplers["Python's semaphores"] = lambda: python_ping(rounds)
    pairs.pairs = [(tier, "Python's semaphores") for tier in tiers]
    for name in context.each(pairs, ["ping-pong"]):
        context.measure(pairs, name, samplers)
    pairs.notes.append("A wait is a call of a host function, with the GIL; a wake-up goes through the kernel.")
