"""Misuse of the API: whatever a program does with the public objects must end in a result or a documented error.

    python -m tests.fuzz.misuse --seconds 1200 --tier compiler

Takes the public classes, their methods and properties, and the module's functions from the sources, with their
signatures, and calls them at random: with arguments that fit, with odd ones (other types, huge and negative numbers,
NaN, lone surrogates, objects of other stores and engines, consumed continuations, closed streams, containers that hold
themselves, objects whose special methods close, grow, resume or raise), in the wrong number, from two threads, and with
what earlier calls gave. A case is a sequence of such steps; its number and the seed determine it, except for threads.

Cases run in a process of their own; a crash or hang is reported with the case, and ``--case N`` runs one in this
process (``--verbose`` prints each step). A case fails when it kills its process, doesn't end in time, or raises what
tells of our insides: see `is_inside`.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import contextlib
import copy
import faulthandler
import gc
import importlib
import io
import itertools
import linecache
import math
import os
import pickle
import random
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import wasmloom as wl
from wasmloom.baseline.copier import set_batch
from wasmloom.host.engine import TIERS

#: Steps of a case, and seconds after which one counts as hanging: a thousand times what a case takes.
STEPS = 120
HANG_SECONDS = 60
#: Bytes of memory that a process of cases may take.
MEMORY = 3 << 30
#: Objects that a case keeps for later steps.
POOL = 80
ROOT = Path(__file__).resolve().parents[2]

#: What calls may raise: what is documented, what Python itself raises for odd arguments, and what our own objects do.
ALLOWED = (
    wl.WasmError, TypeError, ValueError, OverflowError, MemoryError, BufferError, RecursionError, AttributeError,
    LookupError, OSError, StopIteration, pickle.PicklingError, EOFError,
)  # fmt: skip
#: Errors that nobody raises on purpose about a missing key or attribute of our own objects.
IMPLICIT = (AttributeError, LookupError, ZeroDivisionError)
_NONE = re.compile(
    r"'NoneType' object (has no attribute|is not)|Cannot convert|has no attribute '_|cannot access local"
)


#: Methods of public classes that the package calls, with what it has checked; the guide doesn't know them.
INTERNAL = {
    "begin_behind", "begin_rest", "compiled_osr_entry", "compiled_function", "code_options", "of_guest", "bind_memory",
}  # fmt: skip


class EvilError(Exception):
    """What objects of ours raise in special methods."""


# --- what there is to call, from the sources ------------------------------------------------------------------------


class Callable_(NamedTuple):
    """A public function or method, or a class: its name, and names and annotations of its parameters."""

    owner: str
    name: str
    parameters: tuple[tuple[str, str], ...]
    keywords: tuple[tuple[str, str], ...]


class Surface(NamedTuple):
    """Everything public."""

    constructors: list[Callable_]
    functions: list[Callable_]
    methods: dict[str, list[Callable_]]
    properties: dict[str, list[str]]


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef, bound: bool) -> tuple[Any, Any]:
    def describe(arg: ast.arg) -> tuple[str, str]:
        return arg.arg, ast.unparse(arg.annotation) if arg.annotation else ""

    found = [describe(arg) for arg in (*node.args.posonlyargs, *node.args.args)][bound:]
    if node.args.vararg:
        found += [describe(node.args.vararg)] * 2
    return tuple(found), tuple(describe(arg) for arg in node.args.kwonlyargs)


def _source(module: str) -> ast.Module:
    path = ROOT / "src" / (module.replace(".", "/") + ".py")
    if not path.exists():
        path = path.with_suffix("") / "__init__.py"
    return ast.parse(path.read_text(encoding="utf-8"))


def _defining(module: str, name: str) -> str:
    """The module in which the name is defined that `module` may only hand on (``import … as …``)."""
    for node in _source(module).body:
        if isinstance(node, ast.ImportFrom) and name in [alias.asname for alias in node.names]:
            return _defining(str(node.module), name)
    return module


def surface() -> Surface:
    """The public surface, as the sources have it."""
    found = Surface([], [], {}, {})
    defined_in = {name: _defining(f"wasmloom.{home}", name) for name, home in wl._HOME_OF.items()}
    for home in sorted(set(defined_in.values())):
        module = importlib.import_module(home)
        for node in _source(home).body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef) or defined_in.get(node.name) != home:
                continue
            if isinstance(node, ast.FunctionDef):
                found.functions.append(Callable_("", node.name, *_parameters(node, False)))
                continue
            made: Any = ((), ())
            found.methods[node.name], found.properties[node.name] = [], []
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    found.properties[node.name].append(item.target.id)
                    if issubclass(getattr(module, node.name), tuple):
                        made = (*made[0], (item.target.id, ast.unparse(item.annotation))), ()
                if not isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                decorators = [ast.unparse(d) for d in item.decorator_list]
                if item.name in ("__init__", "__new__", "__cinit__"):
                    made = _parameters(item, True)
                elif any(d == "property" or d.endswith(".setter") for d in decorators):
                    found.properties[node.name].append(item.name)
                elif "cython.cfunc" not in decorators and not item.name.startswith("_") and item.name not in INTERNAL:
                    bound = "staticmethod" not in decorators
                    found.methods[node.name].append(Callable_(node.name, item.name, *_parameters(item, bound)))
            found.constructors.append(Callable_("", node.name, *made))
    return found


# --- arguments ------------------------------------------------------------------------------------------------------

SOURCES = (
    "(module)",
    """(module (import "a" "h" (func $h (param i32) (result i32))) (type $f (func (param i32) (result i32)))
      (type $k (cont $f)) (tag $e (export "e") (param i32 externref)) (tag $y (export "y") (param i32) (result i32))
      (memory (export "memory") 1 3) (table (export "t") 2 5 externref) (table (export "fs") 2 funcref)
      (global (export "g") (mut externref) (ref.null extern)) (global (export "n") (mut i64) (i64.const 4))
      (func $gen (param i32) (result i32) (local.set 0 (suspend $y (local.get 0)))
        (local.set 0 (call $h (local.get 0))) (suspend $y (local.get 0)))
      (elem declare func $gen $spin)
      (func (export "k") (result (ref null $k)) (cont.new $k (ref.func $gen)))
      (func (export "run") (param (ref null $k) i32) (result i32) (resume $k (local.get 1) (local.get 0)))
      (func (export "throw") (param i32 externref) (throw $e (local.get 0) (local.get 1)))
      (func (export "catch") (param i32) (result exnref)
        (block $b (result i32 externref exnref) (try_table (catch_ref $e $b) (drop (call $h (local.get 0))))
          (return (ref.null exn)))
        (return))
      (func (export "rethrow") (param exnref) (throw_ref (local.get 0)))
      (func (export "call") (param i32) (result i32) (call $h (local.get 0)))
      (func (export "echo") (param i32 i64 f32 f64 externref funcref) (result f64 externref funcref i64)
        (local.get 3) (local.get 4) (local.get 5) (local.get 1))
      (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
      (func $spin (export "spin") (param i32) (result i32)
        (loop $l (local.set 0 (i32.sub (local.get 0) (i32.const 1))) (br_if $l (local.get 0))) (local.get 0))
      (func $deep (export "deep") (param i32) (result i32)
        (if (result i32) (local.get 0) (then (call $deep (i32.sub (local.get 0) (i32.const 1))))
          (else (call $h (i32.const 0)))))
      (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
      (func (export "_start")))""",
    '(module (import "m" "memory" (memory 1)) (import "m" "t" (table 1 externref)) (import "m" "f" (func)) (start 0))',
    "(module (func (result i32)))",
    "(module (func (param i32)",
    "(component)",
)  # fmt: skip

ODD: tuple[Any, ...] = (
    None, True, 0, 1, -1, 2, 7, 65536, 2**31, -(2**31), 2**32 - 1, 2**63, -(2**63) - 1, 2**64, 10**30, 0.0, -1.5,
    math.nan, math.inf, 1e300, 1j, "", "a", "\ud800", "i32", "mut i64", "i32 -> i32", "externref", "x" * 1000, "\0",
    "memory", b"", b"\0asm\1\0\0\0", b"\0asm\x0d\0\1\0", b"(module)", bytearray(b"abc"), (), [], {}, (1, 2, 3),
    slice(1, 5), slice(None, None, -1), slice(0, 2**40), object, type, len, print, Ellipsis, ..., range(5),
)  # fmt: skip


class Case:
    """One case: its random numbers, and the objects that it has."""

    def __init__(self, seed: int, number: int, tier: str, verbose: bool) -> None:
        self.rng = random.Random(f"{seed} {number} {tier}")
        self.verbose = verbose
        self.pool: list[Any] = []
        self.depth = 0
        self.step = 0
        settings: dict[str, Any] = {"tier": tier, "cache": False}
        if tier == "auto":
            settings["threshold"] = self.rng.choice([0, 1, 3, 20])
        elif tier == "baseline":
            set_batch(self.rng.choice((0, 256, 1 << 15)))
        elif tier == "compiler":
            settings["stack_switching"] = self.rng.choice(["native", "libcall"])
        self.engines = [wl.Engine(**settings), wl.Engine(tier="interpreter", fuel=self.rng.random() < 0.5)]
        for engine in self.engines:
            store = wl.Store(engine, timeout=0.3, memory_limit=256 << 20)
            module = wl.Module(SOURCES[1], engine)
            instance = wl.Instance(module, {"a": {"h": self.host}}, store=store)
            self.pool += [engine, store, module, instance, instance.exports, instance.store]
            self.pool += [instance.exports[name] for name in instance.exports]

    def odd(self) -> Any:
        """Any value."""
        rng = self.rng
        kind = rng.randrange(10)
        if kind < 4:
            return rng.choice(ODD)
        if kind < 7:
            return rng.choice(self.pool)
        if kind == 7:
            return evil(self)
        if kind == 8:
            held: list[Any] = [rng.choice(self.pool), rng.choice(ODD)]
            held.append(held)
            return rng.choice([held, tuple(held), {"a": held, "self": held}, iter(held)])
        return rng.choice(
            [memoryview(bytearray(10)), io.BytesIO(b"x"), closed(), wl.EXTERNREF, wl.ValType(rng.choice(ODD[2:15]))]
        )

    def host(self, *args: Any) -> Any:
        """What guests import: does anything."""
        if self.depth < 4 and self.rng.random() < 0.6:
            self.act()
        kind = self.rng.randrange(8)
        if kind == 0:
            raise EvilError
        if kind == 1:
            error = self.find(wl.WasmException) or self.odd()
            raise error if isinstance(error, BaseException) else TypeError(error)
        return self.odd() if kind == 2 else args[0] if args else 5

    def find(self, *kinds: Any) -> Any:
        """An object of a class, or None."""
        found = [thing for thing in self.pool if isinstance(thing, kinds)]
        return self.rng.choice(found) if found else None

    def argument(self, name: str, annotation: str) -> Any:
        """A value for a parameter."""
        rng = self.rng
        if rng.random() < 0.3:
            return self.odd()
        fitting = [
            getattr(wl, word) for word in re.findall(r"\w+", annotation) if isinstance(getattr(wl, word, None), type)
        ]
        if fitting and rng.random() < 0.9:
            found = self.find(*fitting)
            if found is not None:
                return found
        if name in ("type", "element", "content"):
            return rng.choice(["i32", "externref", "mut i32", "i32 -> i32", "->", 1, wl.I64, wl.FUNCREF, self.odd()])
        if name == "on":
            tags = [thing for thing in self.pool if isinstance(thing, wl.Tag)]
            return rng.choice([(), tags, tags[:1], dict.fromkeys(tags, self.host), *tags, tags * 40])
        if name in ("function", "progress", "find"):
            return rng.choice([self.host, len, lambda: None, coroutine, evil(self)])
        if name == "imports":
            return rng.choice(
                [{"a": {"h": self.host}}, {"a": self.pool[3]}, {"m": self.find(wl.Exports)}, evil(self), self.odd()]
            )
        if name == "error":
            return self.find(wl.WasmException) or wl.WasmException(self.find(wl.Tag), 1, "a")
        if name == "data" and "object" not in annotation:
            return rng.choice([*SOURCES, *[source.encode() for source in SOURCES]])
        if name in ("stdin", "stdout", "stderr"):
            return rng.choice([None, b"in", io.BytesIO(), closed(), evil(self), self.odd()])
        if name in ("fd", "path", "preopens") or "int" not in annotation:
            return self.odd()
        return rng.choice([0, 1, 2, 3, 10, 65, 1000])

    def call(self, function: Callable[..., Any], what: Callable_) -> Any:
        """Call with arguments for its parameters, mostly in the right number."""
        rng = self.rng
        args = [self.argument(*parameter) for parameter in what.parameters]
        kwargs = {k: self.argument(k, a) for k, a in what.keywords if rng.random() < 0.4}
        while args and rng.random() < 0.15:
            args.pop()
        if rng.random() < 0.05:
            args.append(self.odd())
        if rng.random() < 0.03:
            kwargs[rng.choice(["x", "store", "init", "maximum"])] = self.odd()
        self.tell(what.owner, what.name, args, kwargs)
        return function(*args, **kwargs)

    def tell(self, *what: Any) -> None:
        """Print a step."""
        if self.verbose:
            print("  " * self.depth + str(self.step), *map(describe, what), flush=True)

    def act(self) -> None:
        """One step; raises `AssertionError` for what must not be raised."""
        self.depth += 1
        self.step += 1
        try:
            result = self.rng.choices(ACTIONS, WEIGHTS)[0](self)
            if result is not None and result is not NotImplemented and not is_internal(result):
                if len(self.pool) >= POOL:
                    self.pool[self.rng.randrange(6, len(self.pool))] = result
                else:
                    self.pool.append(result)
        except (EvilError, asyncio.CancelledError, GeneratorExit):
            pass
        except ALLOWED as error:
            if is_inside(error):
                raise AssertionError(f"step {self.step}: {type(error).__name__}: {error}") from error
        finally:
            self.depth -= 1


def is_internal(thing: object) -> bool:
    """Whether an object is of a class of ours that isn't public, such as a module's code, or a lock."""
    kind = type(thing)
    ours = kind.__module__.partition(".")[0] == "wasmloom"
    return kind.__module__ == "_thread" or (ours and kind.__name__ not in wl._HOME_OF)


def is_inside(error: BaseException) -> bool:
    """Whether an error tells of our insides: what nobody has raised on purpose, in code of ours."""
    trace = error.__traceback__
    last = None
    while trace is not None:
        last, trace = trace, trace.tb_next
    if last is None or "wasmloom" not in last.tb_frame.f_code.co_filename:
        return False
    if isinstance(error, TypeError | ValueError):
        return _NONE.search(str(error)) is not None
    if not isinstance(error, IMPLICIT):
        return False
    path = Path(last.tb_frame.f_code.co_filename)
    line = linecache.getline(str(path if path.is_absolute() else ROOT / path), last.tb_lineno)
    return "raise" not in line and "index(" not in line and "getattr(" not in line and "container" not in line


def describe(thing: object) -> str:
    """What an object is, without running any code of its own."""
    if type(thing) in (list, tuple):
        return f"[{', '.join(describe(item) for item in thing if item is not thing)}]"  # type: ignore[attr-defined]
    if type(thing) is dict:
        return f"{{{', '.join(f'{describe(k)}: {describe(v)}' for k, v in thing.items() if v is not thing)}}}"
    if type(thing) in (int, float, str, bytes, bool, type(None)):
        return f"{thing!r:.60}"
    return f"<{type(thing).__name__} {id(thing):x}>"


def closed() -> Any:
    """A closed stream."""
    stream = io.BytesIO(b"gone")
    stream.close()
    return stream


async def coroutine(*args: Any) -> Any:
    """A host function that waits."""
    await asyncio.sleep(0)
    return args[0] if args else None


def evil(case: Case) -> Any:
    """An object whose special methods do anything."""

    def do(self: Any, *args: Any) -> Any:
        if case.depth < 4 and case.rng.random() < 0.5:
            case.act()
        kind = case.rng.randrange(4)
        if kind == 0:
            raise EvilError
        return case.odd() if kind == 1 else case.rng.choice([1, 0, "a", 2.5, [1, 2], iter([1, 2])])

    names = (  # noqa: SIM905
        "__index__ __int__ __float__ __iter__ __next__ __len__ __getitem__ __contains__ __call__ __eq__ __hash__ "
        "__bool__ __str__ __fspath__ __getattr__ __await__ __enter__ __exit__ __del__ read write close keys items"
    ).split()
    chosen = case.rng.sample(names, case.rng.randrange(1, 6))
    bases = case.rng.choice([(object,), (object,), (int,), (str,), (dict,), (list,), (tuple,), (float,), (bytes,)])
    if bases != (object,):
        chosen = [name for name in chosen if name not in ("__getattr__", "__del__")]
    body: dict[str, Any] = dict.fromkeys(chosen, do)
    if "__del__" in body:
        body["__del__"] = lambda self: contextlib.suppress(BaseException).__enter__() and None
    return type("Evil", bases, body)()


# --- steps ----------------------------------------------------------------------------------------------------------

SURFACE = surface()


def construct(case: Case) -> Any:
    """Make an object."""
    what = case.rng.choice(SURFACE.constructors)
    if what.name == "Engine" and case.rng.random() < 0.7:
        what = case.rng.choice(SURFACE.constructors)
    return case.call(getattr(wl, what.name), what)


def method(case: Case) -> Any:
    """Call a method of an object that there is; some on what isn't an object of the class."""
    thing = case.rng.choice(case.pool)
    methods = SURFACE.methods.get(type(thing).__name__)
    if not methods:
        return None
    what = case.rng.choice(methods)
    unbound = getattr(type(thing), what.name)
    # Functions written in Python take any object for `self`: that is the language's.
    if case.rng.random() < 0.03 and not isinstance(unbound, types.FunctionType):
        return case.call(unbound, what._replace(parameters=(("self", ""), *what.parameters)))
    if what.name == "from_file":
        return None
    outcome = case.call(getattr(thing, what.name), what)
    if asyncio.iscoroutine(outcome):
        outcome = run(case, outcome)
    return outcome


def run(case: Case, waits: Any) -> Any:
    """Drive a coroutine, to the end or not."""
    kind = case.rng.randrange(4)
    if kind == 0:
        waits.close()
        return None
    if kind == 1:
        with contextlib.suppress(StopIteration):
            waits.send(None)
        return None
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(waits, 5))
    except TimeoutError:
        return None
    except RuntimeError as error:
        if "loop" in str(error) or "coroutine" in str(error) or "StopIteration" in str(error):
            return None
        raise
    finally:
        loop.close()


def function(case: Case) -> Any:
    """Call a function of the module."""
    what = case.rng.choice(SURFACE.functions)
    result = case.call(getattr(wl, what.name), what)
    if what.name == "resume_iter":
        return [value for value, _ in zip(result, range(3), strict=False)]
    return result


def guest(case: Case) -> Any:
    """Call a guest's function."""
    found = case.find(wl.Func)
    if found is None:
        return None
    args = []
    for t in found.type.params:
        word = str(t)
        if word.startswith("(ref"):
            args.append(case.find(wl.Continuation))
        elif word == "exnref":
            args.append(case.find(wl.WasmException))
        elif word == "funcref":
            args.append(case.rng.choice([None, case.find(wl.Func)]))
        else:
            args.append(case.rng.choice([1, 2, 3, 50, 2.5, case.odd()]) if case.rng.random() < 0.8 else case.odd())
    case.tell("call", found, args)
    try:
        return found(*args)
    except wl.WasmException as error:
        return error


def resume(case: Case) -> Any:
    """Resume a continuation as it should be."""
    found = case.find(wl.Continuation)
    tags = [
        thing for thing in case.pool if isinstance(thing, wl.Tag) and found is not None and thing.store is found.store
    ]
    if found is None:
        return None
    args = [case.rng.randrange(9) for _ in found.type.params] if found.type else []
    case.tell("resume", found, args)
    outcome = found.resume(*args, on=case.rng.choice([tags, dict.fromkeys(tags, case.host)]))
    return outcome.continuation if isinstance(outcome, wl.Suspension) else outcome


def attribute(case: Case) -> Any:
    """Read, set or delete an attribute."""
    thing = case.rng.choice(case.pool)
    names = SURFACE.properties.get(type(thing).__name__) or dir(type(thing))
    name = case.rng.choice([*names, "x", "__class__", "__dict__"])
    if isinstance(thing, type) or name in ("__module__", "__doc__") or type(thing).__name__ == "Evil":
        return None
    case.tell("attribute", thing, name)
    kind = case.rng.randrange(6)
    if kind == 0:
        setattr(thing, name, case.odd())
    elif kind == 1:
        delattr(thing, name)
    else:
        return getattr(thing, name)
    return None


SPECIAL: tuple[Callable[[Any, Case], Any], ...] = (
    lambda x, c: len(x), lambda x, c: repr(x), lambda x, c: str(x), lambda x, c: hash(x), lambda x, c: x == c.odd(),
    lambda x, c: x[c.argument("i", "int")], lambda x, c: x[c.odd()], lambda x, c: c.odd() in x,
    lambda x, c: list(itertools.islice(iter(x), 5)), lambda x, c: memoryview(x), lambda x, c: copy.copy(x),
    lambda x, c: copy.deepcopy(x), lambda x, c: pickle.dumps(x, c.rng.randrange(6)), lambda x, c: x(c.odd(), c.odd()),
    lambda x, c: x.__setitem__(c.argument("i", "int"), c.odd()), lambda x, c: x.__setitem__(c.odd(), c.odd()),
    lambda x, c: type(x)(), lambda x, c: type(x).__new__(type(x)), lambda x, c: type(x).__init__(x, c.odd(), c.odd()),
    lambda x, c: type("Sub", (type(x),), {}), lambda x, c: x.__setstate__((None, None)), lambda x, c: x.__reduce__(),
    lambda x, c: x.__enter__(), lambda x, c: x.__exit__(None, None, None), lambda x, c: setattr(x, "__class__", wl.Tag),
    lambda x, c: dir(x), lambda x, c: x < c.odd(), lambda x, c: isinstance(c.odd(), type(x)), lambda x, c: x.release(),
)  # fmt: skip


def special(case: Case) -> Any:
    """What operators and the standard library call."""
    thing = case.rng.choice(case.pool)
    which = case.rng.randrange(len(SPECIAL))
    case.tell("special", which, thing)
    return SPECIAL[which](thing, case)


def collect(case: Case) -> None:
    """Forget objects, and collect."""
    for _ in range(case.rng.randrange(4)):
        if len(case.pool) > 30:
            del case.pool[case.rng.randrange(6, len(case.pool))]
    if case.rng.random() < 0.3:
        gc.collect()


def threads(case: Case) -> None:
    """The same object, in two threads at a time."""
    if case.depth > 1:
        return
    wrong: list[BaseException] = []
    thing = case.find(wl.Continuation, wl.Func, wl.Memory, wl.Table, wl.Global, wl.Module, wl.Store)
    steps = [case.rng.choice([guest, resume, method, attribute, special]) for _ in range(4)]
    saved, case.pool = case.pool, [*case.pool[:8], *[thing] * 6, *[t for t in case.pool if isinstance(t, wl.Tag)]]

    def work(part: list[Callable[[Case], Any]]) -> None:
        for step in part:
            try:
                step(case)
            except (EvilError, asyncio.CancelledError, GeneratorExit):
                pass
            except ALLOWED as error:
                if is_inside(error):
                    wrong.append(error)
            except BaseException as error:
                wrong.append(error)

    made = [threading.Thread(target=work, args=(steps[k::2],)) for k in range(2)]
    for thread in made:
        thread.start()
    for thread in made:
        thread.join()
    case.pool = saved
    if wrong:
        raise AssertionError(f"in a thread: {wrong[0]!r}") from wrong[0]


ACTIONS: tuple[Callable[[Case], Any], ...] = (
    construct, method, function, guest, resume, attribute, special, collect, threads,
)  # fmt: skip
WEIGHTS = (5, 8, 1, 8, 4, 3, 5, 2, 1)


# --- cases ----------------------------------------------------------------------------------------------------------


def run_case(seed: int, number: int, tier: str, verbose: bool = False) -> None:
    """Run one case. Raises `AssertionError` for what must not be raised."""
    case = Case(seed, number, tier, verbose)
    while case.step < STEPS:
        case.act()


def work(seed: int, first: int, tier: str, seconds: float) -> None:
    """Run cases in this process, telling each before it begins."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    sys.unraisablehook = lambda unraisable: None  # what finalisers of ours raise is printed, by Python's rules
    faulthandler.enable()
    end = time.monotonic() + seconds
    for number in itertools.count(first):
        if time.monotonic() > end:
            break
        print(number, flush=True)
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        try:
            run_case(seed, number, tier)
        except BaseException:
            traceback.print_exc()
            print("failed", flush=True)
            os._exit(3)
        faulthandler.cancel_dump_traceback_later()


def fuzz(seed: int, seconds: float, tier: str) -> tuple[int, list[str]]:
    """Run cases for some time; gives how many, and what went wrong."""
    end = time.monotonic() + seconds
    failures: list[str] = []
    number = 0
    while (left := end - time.monotonic()) > 0.1:
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [sys.executable, "-m", "tests.fuzz.misuse", "--seed", str(seed), "--first", str(number), "--tier", tier,
                 "--seconds", str(min(left, 60)), "--work"],
                cwd=ROOT, stdout=subprocess.PIPE, stderr=output, stdin=subprocess.DEVNULL, text=True, check=False,
            )  # fmt: skip
            output.seek(0)
            told = [line for line in done.stdout.splitlines() if line.isdigit()]
            number = int(told[-1]) + 1 if told else number + 1
            if done.returncode:
                again = f"python -m tests.fuzz.misuse --seed {seed} --tier {tier} --case {number - 1} --verbose"
                failures.append(f"status {done.returncode}: {again}\n{output.read()[-6000:]}")
    return number, failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tier", choices=TIERS, default="interpreter")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--case", type=int, help="run one case here")
    parser.add_argument("--verbose", action="store_true", help="print each step")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case is not None:
        faulthandler.enable()
        run_case(given.seed, given.case, given.tier, given.verbose)
    elif given.work:
        work(given.seed, given.first, given.tier, given.seconds)
    else:
        count, failures = fuzz(given.seed, given.seconds, given.tier)
        kinds = Counter(failure.strip().splitlines()[-1] for failure in failures)
        print("\n\n".join(failures))
        print(f"{count} cases, {len(failures)} failures {dict(kinds)}")
        sys.exit(bool(failures))


if __name__ == "__main__":
    main()
