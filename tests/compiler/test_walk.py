"""Walks through continuations agree: our backtraces, frame pointers read in a signal handler, gdb, and `perf`.

The guest goes three continuations deep, and each function calls (or resumes) the next; it is the same for all of them.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import wasmloom as wl
from wasmloom.runtime import native_stacks

#: `main` gets there; $end is what the innermost function does. What has a loop stands in no caller's code.
DEEP = """(module $deep
  (type $f (func (param i32))) (type $k (cont $f))
  (import "env" "stop" (func $stop (param i32)))
  (func $leaf (param i32) (local $i i64)
    (call $stop (local.get 0))
    (loop $again
      (br_if $again (i64.lt_u (local.tee $i (i64.add (local.get $i) (i64.const 1))) (i64.const ROUNDS))))
    END)
  (func $third (type $f) (call $leaf (i32.add (local.get 0) (i32.const 1))))
  (func $inner (param i32) (loop) (resume $k (i32.add (local.get 0) (i32.const 1)) (cont.new $k (ref.func $third))))
  (func $second (type $f) (call $inner (i32.add (local.get 0) (i32.const 1))))
  (func $first (type $f) (resume $k (i32.add (local.get 0) (i32.const 1)) (cont.new $k (ref.func $second))))
  (elem declare func $first $second $third)
  (func $main (export "main") (param i32)
    (resume $k (local.get 0) (cont.new $k (ref.func $first)))))"""
#: The guest's functions, innermost first, and on which of the continuations each runs.
CHAIN = ["leaf", "third", "inner", "second", "first", "main"]
SWITCHING = ["native", "libcall"]


def guest(rounds: int, end: str = "") -> str:
    return DEEP.replace("ROUNDS", str(rounds)).replace("END", end)


def compiled(text: str, switching: str, stop: Callable[[int], None] = lambda x: None) -> tuple[wl.Module, wl.Exports]:
    module = wl.Module(text, wl.Engine(tier="compiler", stack_switching=switching, cache=False))
    return module, wl.Instance(module, {"env": {"stop": stop}}).exports


@pytest.mark.parametrize("switching", SWITCHING)
def test_our_backtrace(switching: str) -> None:
    _, exports = compiled(guest(1, "unreachable"), switching)
    with pytest.raises(wl.Trap) as trap:
        exports.main(1)
    frames = trap.value.frames
    assert [frame.func_name for frame in frames] == CHAIN
    where = [frame.continuation for frame in frames]
    assert where[0] == where[1] and where[2] == where[3] and where[5] is None
    assert len({where[0], where[2], where[4]}) == 3 and None not in where[:5]


# --- a walk in a signal handler ---------------------------------------------------------------------------------------

#: Every tick of the processor's time, in the middle of whatever runs, it notes the place and the return addresses that
#: frame pointers lead to; but only in the code between `low` and `high`, and not beyond the code that entered it.
WALKER = """
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/time.h>
#include <ucontext.h>

enum { SAMPLES = 2000, DEPTH = 64 };
uint64_t samples[SAMPLES][DEPTH];
volatile int taken;
static uint64_t low, high, bottom;

static void on_tick(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    uint64_t place = registers[REG_RIP], *frame = (uint64_t *)registers[REG_RBP];
    if (place < low || place >= high || taken == SAMPLES)
        return;
    for (int depth = 0; depth < DEPTH - 1 && place != bottom; depth++) {
        samples[taken][depth] = place;
        place = frame[1];
        frame = (uint64_t *)frame[0];
    }
    taken++;
}

void walk(uint64_t from, uint64_t to, uint64_t last, int microseconds)
{
    struct sigaction action;
    struct itimerval timer = {{0, microseconds}, {0, microseconds}};
    low = from, high = to, bottom = last;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_tick;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    sigaction(SIGPROF, &action, 0);
    setitimer(ITIMER_PROF, &timer, 0);
}
"""


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("walker")
    (folder / "walker.c").write_text(WALKER)
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    library = folder / "walker.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, folder / "walker.c"], check=True)
    return ctypes.CDLL(str(library))


def sampled(walker: ctypes.CDLL, module: wl.Module, run: Callable[[], object]) -> Counter[tuple[str, ...]]:
    """What the signal handler has seen while `run` ran: the functions of each walk, innermost first, and how often."""
    code = module.compiled
    assert code is not None
    before = signal.getsignal(signal.SIGPROF)
    taken = ctypes.c_int.in_dll(walker, "taken")
    taken.value = 0
    arguments = (code.loaded.base, code.loaded.code_end, native_stacks.stub_addresses()["wl_native_return"])
    walker.walk(*(ctypes.c_uint64(argument) for argument in arguments), 500)
    try:
        run()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    samples = ((ctypes.c_uint64 * 64) * 2000).in_dll(walker, "samples")
    found: Counter[tuple[str, ...]] = Counter()
    for sample in list(samples)[: taken.value]:
        places = list(sample)
        places = places[: places.index(0)] if 0 in places else places
        # The first is an instruction, the others are return addresses.
        shown = [each for depth, place in enumerate(places) for each in code.places(place - (depth > 0))]
        found[tuple(module.func_name(function) or "?" for function, _ in shown)] += 1
        ctypes.memset(sample, 0, ctypes.sizeof(sample))
    return found


@pytest.mark.parametrize("switching", SWITCHING)
def test_frame_pointers_from_a_signal(walker: ctypes.CDLL, switching: str) -> None:
    module, exports = compiled(guest(3_000_000_000), switching)
    found = sampled(walker, module, lambda: exports.main(1))
    assert sum(found.values()) > 10, "no ticks"
    # All but those in a prologue or epilogue.
    (chain, count), *others = found.most_common()
    assert list(chain) == CHAIN
    assert count > 0.9 * sum(found.values()), others


SWITCHES = """(module
  (type $f (func)) (type $k (cont $f)) (tag $t)
  (func $yield (suspend $t))
  (func $body (loop $again (call $yield) (br $again)))
  (elem declare func $body)
  (func $drive (param i32) (local $k (ref null $k))
    (local.set $k (cont.new $k (ref.func $body)))
    (loop $again
      (block $on (result (ref $k)) (resume $k (on $t $on) (local.get $k)) (return))
      (local.set $k)
      (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  (func $main (export "main") (param i32) (call $drive (local.get 0))))"""


@pytest.mark.parametrize("switching", SWITCHING)
def test_frame_pointers_while_stacks_are_switched(walker: ctypes.CDLL, switching: str) -> None:
    """Wherever a tick hits, memory that isn't there is never read, and the walk is short and of this program."""
    module = wl.Module(SWITCHES, wl.Engine(tier="compiler", stack_switching=switching, cache=False))
    exports = wl.Instance(module).exports
    found = sampled(walker, module, lambda: exports.main(20_000_000))
    assert sum(found.values()) > 10, "no ticks"
    assert {name for chain in found for name in chain} <= {"yield", "body", "drive", "main"}
    both = (("yield", "body", "drive", "main"), ("drive", "main"))
    assert any(chain in found for chain in both)
    # In the middle of an exchange a walk can go round in a circle; in a prologue it misses the caller.
    complete = {*both, ("body", "drive", "main"), ("yield", "drive", "main"), ("yield", "body", "main")}
    assert sum(found[chain] for chain in complete) > 0.5 * sum(found.values()), found


# --- gdb and perf -----------------------------------------------------------------------------------------------------

PROGRAM = """
import signal, sys
sys.path[:0] = {path!r}
import wasmloom as wl
engine = wl.Engine(tier="compiler", stack_switching={switching!r}, cache=False)
instance = wl.Instance(wl.Module({text!r}, engine), {{"env": {{"stop": lambda x: {stop}}}}})
instance.exports.main(1)
"""


def program(text: str, switching: str, stop: str) -> list[str]:
    """The command that runs a guest in a process of its own; `stop` is what its import does."""
    package = str(Path(wl.__file__).resolve().parents[1])
    source = PROGRAM.format(path=[package], text=text, switching=switching, stop=stop)
    return [sys.executable, "-c", source]


@pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb")
@pytest.mark.parametrize("switching", SWITCHING)
def test_gdb(switching: str) -> None:
    """From a host function, through all stacks and the thread's own, to the process's start."""
    command = program(guest(1), switching, "signal.raise_signal(signal.SIGTRAP)")
    done = subprocess.run(
        ["gdb", "-nx", "-q", "-batch", "-ex", "run", "-ex", "backtrace", "--args", *command],
        capture_output=True, text=True, timeout=300, env={**os.environ, "WASMLOOM_PERF": "gdb"},
    )  # fmt: skip
    assert "exited with code" not in done.stdout, done.stderr  # the program failed, not gdb
    if "SIGTRAP" not in done.stdout:
        pytest.skip(f"gdb can't run programs here: {done.stdout}{done.stderr}")
    frames = [line for line in done.stdout.splitlines() if line.startswith("#")]
    guests = [found[1] for frame in frames if (found := re.search(r"in (\w+) \(\) at module\.wasm:\d+$", frame))]
    assert guests == CHAIN, done.stdout
    assert "main" in frames[-1] or "_start" in frames[-1]
    assert "Backtrace stopped" not in done.stdout


@pytest.mark.skipif(shutil.which("perf") is None, reason="no perf")
@pytest.mark.parametrize("switching", SWITCHING)
def test_perf(switching: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    data = tmp_path / "perf.data"
    command = ["perf", "record", "-e", "cpu-clock", "--call-graph", "fp", "-o", str(data)]
    process = subprocess.Popen(
        command + program(guest(3_000_000_000), switching, "print(__import__('os').getpid(), flush=True)"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "WASMLOOM_PERF": "map"},
    )  # fmt: skip
    output, errors = process.communicate(timeout=300)
    request.addfinalizer(lambda: Path(f"/tmp/perf-{output.strip()}.map").unlink(missing_ok=True))
    if not data.exists() or not data.stat().st_size:
        pytest.skip(f"perf can't record here: {errors}")
    script = subprocess.run(
        ["perf", "script", "-i", str(data), "-F", "ip,sym"], capture_output=True, text=True, timeout=300, check=True
    )
    chains: Counter[tuple[str, ...]] = Counter()
    for sample in script.stdout.split("\n\n"):
        names = [line.split()[1].partition("+")[0] for line in sample.splitlines() if len(line.split()) > 1]
        if "leaf" in names:
            chains[tuple(name for name in names if name in CHAIN)] += 1
    assert chains, script.stdout[:2000]
    (chain, count), *others = chains.most_common()
    assert list(chain) == CHAIN, script.stdout[:2000]
    assert count > 0.9 * sum(chains.values()), others
