"""What runs late: finalisers in dying cycles, coroutines that are closed, hooks at the end.

What they can reach works, or says no; a process never ends by a signal.
"""

from __future__ import annotations

import pytest

from tests.compiler.tiers import ENGINES
from tests.processes import run_program

BEGIN = """
import asyncio, atexit, gc, sys, weakref
import wasmloom as wl
from tests.compiler.tiers import engine_of
engine = engine_of(sys.argv[1])
module = wl.Module('''(module
  (type $f (func)) (type $k (cont $f))
  (import "host" "call" (func $call))
  (import "host" "tell" (func $tell (param i32)))
  (tag $stop (export "stop"))
  (memory (export "memory") 1)
  (table $objects (export "objects") 4 externref)
  (global $count (export "count") (mut i32) (i32.const 0))
  (elem declare func $call $work)
  (func $work (suspend $stop))
  (func (export "nop"))
  (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "host") (call $call))
  (func $deep (export "deep") (call $deep))
  (func (export "keep") (param externref) (table.set $objects (i32.const 0) (local.get 0)))
  (func (export "kept") (result externref) (table.get $objects (i32.const 0)))
  (func (export "begin") (result (ref $k)) (cont.new $k (ref.func $work)))
  (func (export "stacks") (local i32) (loop
    (block $s (result (ref $k)) (resume $k (on $stop $s) (cont.new $k (ref.func $work))) (unreachable)) (drop)
    (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 50)))))
  (func (export "wait") (block $b (try_table (catch_all $b) (call $call)))
    (i32.store (i32.const 0) (i32.const 1))
    (call $tell (i32.load (i32.const 0)))))''', engine)

told = []
def instance_of(call):
    made = wl.Instance(module, {"host": {"call": call, "tell": told.append}})
    for _ in range(3):
        made.exports.nop()  # the tier "auto" changes over
    return made

def outcome(function, *arguments):
    try:
        return function(*arguments)
    except (wl.WasmError, AttributeError) as error:
        return f"{type(error).__name__}"

def use(instance, told):
    '''Everything that a guest can do.'''
    exports = instance.exports
    told.append(outcome(exports.load, 0))
    told.append(outcome(exports.load, 100000))
    told.append(outcome(exports.host))
    told.append(outcome(exports.deep))
    told.append(outcome(exports.stacks))
    continuation = exports.begin()
    told.append(type(continuation.resume(on=exports.stop)).__name__)
    told.append(exports.count.value + exports.memory[0] + len(exports.objects))
"""

USED = "[0, 'Trap', None, 'Trap', None, 'Suspension', 4]"

FINALISER = """
class Late:
    def __del__(self):
        use(self.instance, told)

def make():
    instance = instance_of(lambda: gc.collect())
    late = Late()
    late.instance = instance
    late.view = memoryview(instance.exports.memory)
    late.suspended = instance.exports.begin().resume(on=instance.exports.stop)
    instance.exports.keep(late)

told.clear()
make()
gc.collect()
print(told)
"""

#: What the collector's finalisers leave behind is only reached by weak references that they make; and then everything
#: may have been cleared or not.
CLEARED = """
class Loose:
    __slots__ = ()  # not an object of the garbage collector: goes in the middle of its clearing
    def __del__(self):
        for reference in references:
            instance = reference()
            if instance is not None:
                tried.append(outcome(use, instance, []))
                tried.append(outcome(lambda: instance.exports.kept()))

class Late:
    def __del__(self):
        references.append(weakref.ref(self.instance))

def make():
    loose = [Loose()]
    def call(): return None if loose else None
    late = Late()
    late.before = Loose()
    late.instance = instance_of(call)
    late.after = [Loose()]
    late.instance.exports.keep(late)
    late.instance.exports.objects[1] = Loose()
    late.instance.exports.objects[2] = [Loose(), late]

tried, references = [], []
for _ in range(2):
    make()
gc.collect()
print(len(references), len(tried) > 0)
"""

CLOSED = """
def make():
    kept = []
    async def call():
        kept
        await asyncio.sleep(100)
    instance = instance_of(call)
    coroutine = instance.exports.wait.call_async()
    async def main():
        task = asyncio.ensure_future(coroutine)
        kept.extend((task, instance))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    loop.run_until_complete(main())
    loop.close()

told.clear()
make()
gc.collect()
print(told)
"""

HOOK = """
instance = None
def hook():
    told.clear()
    use(instance, told)
    print(told)
atexit.register(hook)
instance = instance_of(lambda: None)
"""

AT_THE_END = """
class Late:
    def __init__(self):
        self.me, self.use, self.instance, self.print = self, use, instance_of(lambda: None), print
        self.kept = globals().copy()
    def __del__(self):
        told = []
        global wl, outcome
        wl, outcome = self.kept["wl"], self.kept["outcome"]
        self.use(self.instance, told)
        self.print(told)
late = Late()
"""


PROGRAM = BEGIN + FINALISER + CLEARED + CLOSED + HOOK + AT_THE_END


@pytest.mark.parametrize("name", ENGINES)
def test_late_calls(name: str) -> None:
    assert run_program(PROGRAM, name).splitlines() == [USED, "2 True", "[1]", USED, USED]
