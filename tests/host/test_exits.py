"""Python ends, or forks, while everything is in use that the engine has: workers, guests that wait, threads, signals.

Each program runs in a process of its own, whose status and standard error are what they would be without the engine.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.compiler.tiers import ENGINES
from tests.patience import FOREVER
from tests.processes import ROOT, run_program

BUSY = """
import asyncio, gc, os, signal, subprocess, sys, threading
import wasmloom as wl
from tests.compiler.tiers import engine_of
engine = engine_of(sys.argv[1])
body = "(local.set 0 (i32.add (local.get 0) (call $f (i32.const 1))))" * 40
large = f"(module {f'(func $f (param i32) (result i32) {body} (local.get 0))'}" + "".join(
    f"(func (param i32) (result i32) {body} (local.get 0))" for _ in range(300)) + ")"
module = wl.Module('''(module (import "a" "h" (func $h)) (import "a" "wait" (func $wait (result i32)))
  (global $flag (export "flag") (mut i32) (i32.const 0))
  (func (export "calls") (loop (global.set $flag (i32.const 1)) (call $h) (br 0)))
  (func (export "spin") (loop (global.set $flag (i32.const 1)) (br 0)))
  (func (export "waits") (result i32) (call $wait)))''', engine)

async def wait():
    await asyncio.Future()

def instance():
    return wl.Instance(module, {"a": {"h": lambda: None, "wait": wait}}).exports

def in_thread(function):
    threading.Thread(target=function, daemon=True).start()

# Workers compile, for somebody and for nobody.
in_thread(lambda: wl.Module(large, wl.Engine(tier="compiler", cache=False)))
behind = wl.Instance(wl.Module(module_text := "(module (func (export \\"spin\\") (loop (br 0))))",
                               wl.Engine(tier="auto", cache=False))).exports
in_thread(behind.spin)
# LLVM compiles in this process.
def compile_here():
    while True:
        wl.Module(module_text, wl.Engine(tier="compiler", cache=False))
in_thread(compile_here)
# Guests run in daemon threads, and wait: for an event loop that has gone, and for one that never was.
for name in ("calls", "spin"):
    exports = instance()
    in_thread(exports[name])
    while not exports.flag.value:
        pass
async def main():
    task = asyncio.ensure_future(instance().waits.call_async())
    await asyncio.sleep(0)
    kept.append(task)
kept = []
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
alone = instance().waits.call_async()
loop.call_soon(alone.send, None)
loop.run_until_complete(asyncio.sleep(0))
# Signals arrive, until the process is gone; by default they are ignored.
count = 0
def handler(number, frame):
    global count
    count += 1
signal.signal(signal.SIGURG, handler)
subprocess.Popen(["sh", "-c", "while kill -URG $PPID; do :; done"], stdout=subprocess.DEVNULL,
                 stderr=subprocess.DEVNULL)
while not count:
    pass
"""

#: How a program ends, its status, and the last line of its standard error.
ENDS = {
    "at its end": ("", 0, None),
    "by sys.exit": ("sys.exit(3)", 3, None),
    "by an exception": ("raise OverflowError('uncaught')", 1, "OverflowError: uncaught"),
}


#: What Python says of a signal that arrives when it has just given up its handlers.
_LATE_SIGNAL = re.compile(
    r"(?:Traceback \(most recent call last\):\n|Exception ignored .*\n|  .*\n)*"
    r"OSError: Signal \d+ ignored due to race condition\n"
)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", ENGINES)
def test_a_busy_process_ends(name: str, end: str) -> None:
    program, status, last = ENDS[end]
    # What asyncio, subprocess and Python itself say of what is left isn't about the engine.
    quiet = "\nkept[0]._log_destroy_pending = False\nwl.Store\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUSY + quiet + program, name],
        capture_output=True, text=True, timeout=FOREVER, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    lines = _LATE_SIGNAL.sub("", done.stderr).splitlines()
    if last is None:
        assert lines == [], done.stderr
    else:
        assert lines[0] == "Traceback (most recent call last):" and lines[-1] == last and len(lines) < 5, done.stderr


IMPORTS = """
import os, sys, threading
import wasmloom as wl
from tests.compiler.tiers import engine_of

SOURCE = '(module (func (export "f") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1))))'
reached = sys.argv[2]

def use():
    '''Run a guest; the tier "auto" changes over.'''
    f = wl.Instance(wl.Module(SOURCE, engine_of(sys.argv[1]))).exports.f
    assert [f(n) for n in range(4)] == [1, 2, 3, 4]

compiled = []
thread = threading.Thread(target=lambda: compiled.append(wl.Module(SOURCE, engine_of("compiler"))))
thread.start()
while reached not in sys.modules:
    pass
pid = os.fork()
if pid == 0:
    use()
    os._exit(7)
use()
thread.join()
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7 and len(compiled) == 1
print("parent")
"""


@pytest.mark.parametrize("reached", ["wasmloom.compiler.compiled", "wasmloom.compiler.lowering"])
@pytest.mark.parametrize("name", ["interpreter", "compiler", "auto"])
def test_a_fork_while_another_thread_imports_the_compiler(name: str, reached: str) -> None:
    assert run_program(IMPORTS, name, reached, PYTHONWARNINGS="ignore") == "parent\n"


#: A thread goes with the process, whatever it has locked; a finaliser uses the engine after that.
LOCKED = """
import os, sys, threading, time
import wasmloom as wl
from tests.compiler.tiers import engine_of
from wasmloom.runtime import forks
engine = engine_of(sys.argv[1])
text = '(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))'
module = wl.Module(text, engine)

class Last:
    def __init__(self):
        self.cycle = self
        self.add = wl.Instance(module, {}, store=wl.Store(engine)).exports.add

    def __del__(self, write=os.write, make=wl.Module, text=text, engine=engine, error=wl.WasmError):
        for _ in range(3):
            assert self.add(2, 3) == 5
        try:
            make(text, engine)
        except error as raised:
            write(1, str(raised).encode())

locked = threading.Event()

def work():
    with forks.importing, module._compiling:
        locked.set()
        time.sleep(1000)

threading.Thread(target=work, daemon=True).start()
locked.wait()
Last()
"""


@pytest.mark.parametrize("name", ENGINES)
def test_what_a_thread_has_locked_when_python_ends(name: str) -> None:
    """Nobody waits for it: calls do without, and what can't says why."""
    assert run_program(LOCKED, name) == "another thread was at it, and Python is ending"
