"""The ends of processes and threads: daemon threads in guests while Python ends, forked children, small C stacks.

Each program runs in a process of its own, which must not end by a signal.
"""

from __future__ import annotations

import sys

import pytest

from tests.compiler.tiers import ENGINES
from tests.processes import run_program

BEGIN = """
import gc, os, sys, threading, time, traceback
import wasmloom as wl
from tests.compiler.tiers import engine_of
engine = engine_of(sys.argv[1])
module = wl.Module('''(module (import "a" "h" (func $h))
  (type $f (func)) (type $k (cont $f))
  (memory (export "memory") 1)
  (global $flag (export "flag") (mut i32) (i32.const 0))
  (elem declare func $c $s)
  (tag $t (export "t"))
  (func $c (call $h))
  (func $s (suspend $t))
  (func (export "nop"))
  (func (export "call") (call $h))
  (func (export "calls") (loop (call $h) (br 0)))
  (func (export "in_continuation") (resume $k (cont.new $k (ref.func $c))))
  (func (export "begin") (result (ref $k)) (cont.new $k (ref.func $s)))
  (func (export "spin") (loop (global.set $flag (i32.const 1)) (br 0)))
  (func (export "switches") (loop (global.set $flag (i32.const 1))
    (block $l (result (ref $k)) (resume $k (on $t $l) (cont.new $k (ref.func $s))) (unreachable)) (drop) (br 0)))
  (func $deep (export "deep") (param i32) (result i32) (if (result i32) (local.get 0)
    (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))
    (else (i32.const 0)))))''', engine)

def instance_of(h):
    made = wl.Instance(module, {"a": {"h": h}})
    for _ in range(2):
        made.exports.nop()  # the tier "auto" changes over
    return made.exports

def in_thread(function):
    threading.Thread(target=function, daemon=True).start()
"""

DAEMONS = """
def count(): pass
for name in ("spin", "switches", "calls", "spin", "calls"):
    in_thread(instance_of(count)[name])
def short():
    nop = instance_of(count).nop
    while True:
        nop()
in_thread(short)
busy = instance_of(count)
in_thread(busy.spin)
while not busy.flag.value:
    pass
class Late:
    def __del__(self):
        try:
            self.call()  # the store is another thread's, which never comes back
        except self.error:
            self.write(1, b"ended")
late = Late()
late.call, late.error, late.write = busy.nop, wl.WasmError, os.write
# Not in this module, whose names the threads' functions keep.
sys.modules["holder"] = type(os)("holder")
sys.modules["holder"].late = late
del late
"""


@pytest.mark.parametrize("name", ENGINES)
def test_daemon_threads_in_guests_while_python_ends(name: str) -> None:
    for _ in range(2):
        assert run_program(BEGIN + DAEMONS, name) == "ended"


FORK = """
reached, go_on = threading.Event(), threading.Event()
def h():
    reached.set()
    go_on.wait()

def forked(child):
    '''What a child prints, once it has ended with status 0.'''
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            child()
            sys.stdout.flush()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0

def use(exports):
    assert exports.deep(5000) == 5000
    assert type(exports.begin().resume(on=exports.t)) is wl.Suspension
    exports.memory.grow(1)
    exports.memory[0] = 1
    gc.collect()

suspended = instance_of(print)
rest = suspended.begin().resume(on=suspended.t).continuation
parent = []
for name in ("call", "in_continuation", "spin", "switches"):
    exports = instance_of(h)
    in_thread(exports[name])
    if name.startswith("s"):
        while not exports.flag.value:
            pass
    else:
        reached.wait()
        reached.clear()
    parent.append(exports)

    def child():
        for _ in range(3):
            use(exports)
        go_on.set()
        exports.call()
        use(instance_of(print))
        rest.resume()
        new = threading.Thread(target=use, args=(exports,))
        new.start()
        new.join()
    forked(child)
    forked(lambda: forked(child))
go_on.set()
assert parent[0].deep(10) == parent[1].deep(10) == 10
print("parent")
"""


@pytest.mark.parametrize("name", ENGINES)
def test_forked_children_use_what_other_threads_were_in(name: str) -> None:
    assert run_program(BEGIN + FORK, name, PYTHONWARNINGS="ignore").strip() == "parent"


#: A guest that waits for the GIL, to compare types or to have a function translated, is where it can be left.
WAITING = """
numbers = range(100 if sys.argv[1] == "interpreter" else 1)
checking = wl.Instance(wl.Module(f'''(module
  (rec (type $s (sub (func (result i32)))) (type $d (sub $s (func (result i32)))))
  (table 1 funcref) (elem (i32.const 0) $g) (func $g (type $d) (i32.const 7))
  {"".join(f"(func $f{n} {'(drop (call $g))' * 500})" for n in numbers)}
  (global $flag (export "flag") (mut i32) (i32.const 0)) (global $end (export "end") (mut i32) (i32.const 0))
  (func (export "one") (result i32) (i32.const 1))
  (func (export "compare") (global.set $flag (i32.const 1)) (loop
    (drop (call_indirect (type $s) (i32.const 0))) (br_if 0 (i32.eqz (global.get $end)))))
  (func (export "translate") (global.set $flag (i32.const 1)) {"".join(f"(call $f{n})" for n in numbers)}))''',
  engine)).exports
for name in ("compare", "translate"):
    checking.flag.value = 0
    in_thread(checking[name])
    while not checking.flag.value:
        pass
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if checking.one() == 1 else 2)
        print(os.waitpid(pid, 0)[1])
    checking.end.value = 1
"""


@pytest.mark.parametrize("name", ["interpreter", "compiler"])
def test_forks_while_guests_wait_for_the_gil(name: str) -> None:
    assert run_program(BEGIN + WAITING, name, PYTHONWARNINGS="ignore").split() == ["0"] * 8


#: A guest may be about to go on after one fork when the next one begins.
AGAIN = """
guests = []
for _ in range(2):
    guests.append(instance_of(print))
    in_thread(guests[-1].spin)
    while not guests[-1].flag.value:
        pass
children = []
for _ in range(60):
    children.append(os.fork())
    if children[-1] == 0:
        for guest in guests:
            guest.nop()
        os._exit(0)
print({os.waitpid(child, 0)[1] for child in children})
"""


@pytest.mark.parametrize("name", ENGINES)
def test_forks_one_right_after_the_other(name: str) -> None:
    assert run_program(BEGIN + AGAIN, name, PYTHONWARNINGS="ignore").strip() == "{0}"


#: A large copy can't be left: the fork doesn't wait for it for long, and the child's store says so.
LOST = """
import wasmloom.runtime.guests
big = wl.Instance(wl.Module('''(module (memory 1) (table $a 4000000 externref)
  (global $flag (export "flag") (mut i32) (i32.const 0))
  (func (export "one") (result i32) (i32.const 1))
  (func (export "copy") (global.set $flag (i32.const 1)) (loop
    (table.copy $a $a (i32.const 1) (i32.const 0) (i32.const 3999990)) (br 0))))''', engine)).exports
in_thread(big.copy)
while not big.flag.value:
    pass
pid = os.fork()
if pid == 0:
    try:
        print("answers" if big.one() == 1 else "?")
    except wl.WasmError as error:
        print(error)
    del big
    gc.collect()
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.mark.parametrize("name", ["interpreter", "compiler"])
def test_a_fork_in_the_middle_of_a_copy(name: str) -> None:
    said = run_program(BEGIN + LOST, name, PYTHONWARNINGS="ignore").strip()
    assert said in ("answers", "a guest was running in this store, in another thread, when the process was forked")


LOCKS = """
from wasmloom.compiler import compiled
source = "(module (func (export \\"f\\") (result i32) (i32.const 42)))"
shared = wl.Module(source, wl.Engine(tier="interpreter", cache=False))
compiling, finish = threading.Event(), threading.Event()
real = compiled.compile_module
def slow(*arguments, **settings):
    compiling.set()
    finish.wait()
    return real(*arguments, **settings)
compiled.compile_module = slow
in_thread(shared.compile)
compiling.wait()
pid = os.fork()
if pid == 0:
    compiled.compile_module = real
    shared.compile()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
finish.set()
# While another thread is in LLVM the child has it done by others.
from wasmloom.runtime import forks
inside, leave = threading.Event(), threading.Event()
def in_llvm():
    with forks.using_llvm():
        inside.set()
        leave.wait()
in_thread(in_llvm)
inside.wait()
pid = os.fork()
if pid == 0:
    assert not forks.has_llvm()
    made = wl.Instance(wl.Module(source, wl.Engine(tier="compiler", cache=False)))
    os._exit(made.exports.f())
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
assert forks.has_llvm()
leave.set()
print("parent")
"""


def test_a_fork_while_another_thread_compiles() -> None:
    assert run_program(BEGIN + LOCKS, "interpreter", PYTHONWARNINGS="ignore").strip() == "parent"


POOL = """
import multiprocessing
exports = instance_of(print)
def work(n):
    return exports.deep(n) + instance_of(print).deep(n)
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(work, [10, 100, 1000]))
"""


@pytest.mark.parametrize("name", ["interpreter", "compiler", "auto"])
def test_multiprocessing_by_fork(name: str) -> None:
    assert run_program(BEGIN + POOL, name).strip() == "[20, 200, 2000]"


SMALL = """
sys.setrecursionlimit(50000)
start = wl.Module('(module (import "a" "h" (func $h)) (start $h))', engine)

def instances():
    wl.Instance(start, {"a": {"h": instances}})

store = wl.Store(engine)
def functions():
    own()
own = wl.Func(store, "->", functions)

def guests():
    exports.call()
exports = instance_of(lambda: None if warm else again())

class Number:
    def __index__(self):
        return exports.deep(self)

def conversions():
    exports.deep(Number())

def coroutines():
    coroutine = waiting.call_async()
    coroutine.send(None)
waiting = wl.Func(store, "->", coroutines)

class Late:
    def __del__(self):
        exports.call()

def finalisers():
    global left
    left -= 1
    if left:
        Late()
left = 2000

def resumes():
    other.begin().resume(on={other.t: resumes})
other = instance_of(print)

warm = False
def tried(function):
    try:
        function()
    except (RecursionError, wl.Trap) as error:
        told.append(type(error).__name__)

sys.unraisablehook = lambda details: None
told = []
for function in (instances, functions, guests, conversions, coroutines, resumes, finalisers):
    again = finalisers if function is finalisers else guests
    for size in (128, 1024):
        threading.stack_size(size << 10)
        thread = threading.Thread(target=tried, args=(function,))
        thread.start()
        thread.join()
print(len(told) >= 10)
"""


@pytest.mark.parametrize("name", ENGINES)
def test_recursion_through_the_host_in_small_threads(name: str) -> None:
    program = BEGIN.replace("engine = ", "warm = True\nengine = ", 1) + SMALL
    assert run_program(program, name).strip() == "True"


SUBINTERPRETER = """
import sys
import wasmloom as wl
if sys.argv[1] == "after":
    wl.Store
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
code = '''
try:
    import wasmloom
    wasmloom.Store
except ImportError as error:
    assert "main interpreter" in str(error) or "does not support loading in subinterpreters" in str(error), error
else:
    raise SystemError("imported")
'''
one = interpreters.create()
result = interpreters.run_string(one, code)
assert result is None, result
interpreters.destroy(one)
wl.Store()
"""


@pytest.mark.parametrize(
    "when",
    [
        pytest.param(
            "before",
            # So does a program that only imports `typing`, `subprocess` and `asyncio` in the other one.
            marks=pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="CPython 3.12 aborts at its end"),
        ),
        "after",
    ],
)
def test_other_interpreters_of_the_process_cannot_import(when: str) -> None:
    """Before the main one has, and afterwards; it isn't disturbed."""
    assert run_program(SUBINTERPRETER, when) == ""


INTERRUPTED = """
import sys
import llvmlite.binding, llvmlite.ir, subprocess, asyncio  # not ours

def use():
    import wasmloom as wl
    engine = wl.Engine(tier="compiler", cache=False)
    text = '(module (memory 1) (func (export "f") (result i32) (i32.load (i32.const 1))))'
    assert wl.Instance(wl.Module(text, engine)).exports.f() == 0

class Interruption(BaseException):
    pass

lines = 0
def trace(frame, event, argument):
    global lines
    if not frame.f_code.co_filename.endswith(sys.argv[1]):
        return trace if frame.f_code.co_name == "<module>" else None
    lines += event == "line"
    if lines == int(sys.argv[2]):
        sys.settrace(None)
        raise Interruption
    return trace
sys.settrace(trace)
try:
    use()
except Interruption:
    use()
    print("twice")
"""


def test_an_import_that_is_interrupted_can_be_done_again() -> None:
    """In the middle of a module that registers what it has with another."""
    assert run_program(INTERRUPTED, "semantics/definitions.py", "60") == "twice\n"
