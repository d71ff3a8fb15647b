"""Compiled modules: from a decoded module to code in memory.

A module is compiled in units (`wasmloom.compiler.units`), by worker processes when there are several; the objects go
into the disk cache. Loading returns the addresses that instances take into their functions, and keeps what backtraces
need: which function and which offset of the module an address belongs to.
"""

from __future__ import annotations

import hashlib
import json
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from wasmloom.compiler.cache import Cache, image_key, most_key, whole_module
from wasmloom.compiler.identity import require_llvm
from wasmloom.compiler.images import Image, link
from wasmloom.compiler.lazily import LazyFunctions
from wasmloom.compiler.objects import LoadedCode, ObjectError, load, undefined
from wasmloom.compiler.parts import Part, compile_here, compile_part, compile_some_part
from wasmloom.compiler.perf import describe, wanted
from wasmloom.compiler.workers import Budget, compile_parts
from wasmloom.compiler.workforce import Abandoned, NoWorker, processors
from wasmloom.errors import CompileError, UnsupportedError
from wasmloom.messages import listed, printable
from wasmloom.runtime import forks, native_stacks
from wasmloom.runtime.codememory import CodeBudget, CodeMemory
from wasmloom.runtime.frames import NOWHERE, FrameState, GuestFrame, TypedPlace, func_name
from wasmloom.runtime.hooks import set_walk_compiled
from wasmloom.spec.types import FuncType
from wasmloom.system import log
from wasmloom.system.locks import Lock
from wasmloom.system.registry import Registry
from wasmloom.target import backend
from wasmloom.validation import validate_module
from wasmloom.validation.frames import types_at

if TYPE_CHECKING:
    from wasmloom.binary.decoder import DecodedModule
    from wasmloom.compiler.cache import Entry
    from wasmloom.compiler.facts import Facts
    from wasmloom.compiler.options import Options
    from wasmloom.compiler.osr import OsrEntry
    from wasmloom.interpreter.code_space import CodeSpace

T = TypeVar("T")

#: Bytes of function bodies that LLVM gets at a time; fewer if there would be less than one unit for each worker, but
#: not so few that starting the worker takes longer.
UNIT_BYTES = 1 << 15
LEAST_UNIT_BYTES = 1 << 12

#: Bytes of function bodies that are compiled at once while a guest waits for one of them.
LAZY_BYTES = 1 << 11

#: Seconds to wait before what a guest waits for is compiled once more, after a failure: memory may be short for a
#: while, or a process may have been killed.
PAUSES = (0.0, 0.2, 1.0)

#: More lines of IR than this for each byte of a body no program has; calls have one for each parameter and result, too.
LINES_PER_BYTE = 8

#: Functions of so many bytes are heavy for LLVM (`wasmloom.compiler.units`), and compiled in a way that takes less time
#: for each byte.
HEAVY_BYTES = 250_000
CHEAPER = 5

#: Bytes of function bodies from which on compiling takes so long that parts are kept, for the case of an interruption.
WORTH_KEEPING = 1 << 17

#: Bytes of function bodies that LLVM may get in this process, where nothing can interrupt it.
SMALL = 1 << 12

#: Seconds of processor time for a part, and for each byte of its bodies: several times what any program needs. What
#: takes longer, whatever the reason, is compiled again in the cheapest way. Most such functions are known beforehand:
#: see `wasmloom.compiler.units`.
SECONDS = 3.0
SECONDS_PER_BYTE = 1.5e-4

#: What `wasmloom.target.stubs` defines and objects refer to: LLVM's name → ours.
_EXTERNALS = {
    "wl_on_host": "wl_on_host",
    "wl_compiled_trap": "wl_compiled_trap",
    "wl_loop_interrupt": "wl_loop_interrupt",
    backend.STACK_CHECK_FAILED: "wl_morestack",
    "wl_fiber_start": "wl_fiber_start",
    "wl_runtime": "wl_runtime",
    "wl_switch_call": "wl_switch_call",
}

#: The table of a module's canonical types.
TYPE_IDS = "wl_type_ids"

#: All compiled modules, so a backtrace finds the one that an address belongs to.
_modules: Registry[CompiledModule] = Registry()


class CompiledModule:
    """The compiled code of a module: what is known of it, and its `memory`.

    Whoever lets something run the code holds `memory`, in which all that has been loaded for the module stays, and not
    this object (see `wasmloom.runtime.codememory`).

    `functions` has the address of each function defined in the module, `array_calls` by type index that of the function
    that calls such code with arguments in memory. Functions that the objects don't have are `missing`: they are
    compiled when they are first called (`compile_function`), or given later (`add`).
    """

    def __init__(
        self,
        module: DecodedModule,
        objects: Sequence[bytes] | Image,
        options: Options,
        missing: Sequence[int] = (),
        budget: CodeBudget | None = None,
        mixes: bool = False,
    ) -> None:
        """Load what `compile_module` has given for the options. Raises `ObjectError`, `WasmError` beyond the budget.

        `mixes`: what is missing is bytecode, and stays so until it is added; all functions have stubs (`through`).
        """
        self.module = module
        self.missing = set(missing)
        self._adding = Lock()
        self._options = options
        self._facts: Facts | None = None
        self._osr_entries: dict[tuple[int, int], int] = {}
        #: Function and offset in its bytecode → the address of the OSR entry for that place.
        self.positions: dict[tuple[int, int], int] = {}
        #: Code of `osr_entry`.
        self._pieces: list[LoadedCode] = []
        # The ids of types are the process's own: code finds them in this table.
        ids = struct.pack(f"{len(module.type_ids)}Q", *module.type_ids)
        table = CodeMemory(max(len(ids), 1))
        memoryview(table)[: len(ids)] = ids
        stubs = native_stacks.stub_addresses()
        self._externals = {name: stubs[ours] for name, ours in _EXTERNALS.items()}
        self._externals[TYPE_IDS] = table.address
        count = len(module.func_types) - module.num_imported_funcs
        self._lazy: LazyFunctions | None = None
        if mixes and count:
            self._lazy = LazyFunctions(range(count), stubs["wl_crossing"], module.num_imported_funcs)
        elif missing and not mixes:
            self._lazy = LazyFunctions(missing, stubs["wl_lazy"])
        lazy_stubs = {index: self._lazy.stub(index) for index in missing} if self._lazy else {}
        externals = self._externals | {f"wf.{index}": stub for index, stub in lazy_stubs.items()}
        self.loaded = objects.load(externals) if isinstance(objects, Image) else load(objects, externals)
        self.memory = self.loaded.memory
        self.memory.attach(table)
        if self._lazy:
            self.memory.attach(self._lazy.memory)
        if budget is not None:
            self.memory.limit_by(budget)
        self.functions = self.loaded.addresses("wf", count)
        for index, stub in lazy_stubs.items():
            self.functions[index] = stub
        if 0 in self.functions:
            raise ObjectError(f"no code for function {self.functions.index(0)}")
        #: In stores that mix: the address of each function's stub for callers that have its struct.
        self.through = self._lazy.through if mixes and self._lazy else range(0)
        if mixes and self._lazy:
            for index in sorted(set(range(count)).difference(missing)):
                self._lazy.set(index, self.functions[index])
        calls = self.loaded.addresses("wt", module.num_types)
        self.array_calls = {
            index: calls[index] for index, sub in enumerate(module.types) if isinstance(sub.composite, FuncType)
        }
        self._take(self.loaded)
        _modules.add(self)

    def after_fork(self) -> None:
        """In a forked child: no other thread has the lock any more."""
        self._adding = Lock()

    def _take(self, loaded: LoadedCode) -> None:
        """Make loaded code known to profilers."""
        if wanted():
            describe(loaded, self.symbol_name, function_name=self.function_name)

    def osr_entry(self, space: CodeSpace, index: int, at: int, abandoned: Callable[[], bool] | None = None) -> int:
        """The address of the code by which function `index` goes on from an offset in its bytecode.

        Compiles it if need be, and tries again what fails, since a guest waits: see `patiently`, and `compile_parts`
        for `abandoned`. Raises `UnsupportedError`, `ObjectError`, `CompileError`, `MemoryError`.
        """
        address = self.positions.get((index, at))
        if address is None:
            with forks.importing:
                from wasmloom.compiler.osr import entry_at

            entry = entry_at(space, index, at)
            address = self._osr_entries.get((index, entry.place))
            if address is None:
                part = Part((index,), entry=entry)
                address = patiently(lambda: self.add_osr_entry(entry, self._compile_now(part, abandoned)), abandoned)
            self.positions[(index, at)] = address
        return address

    def _compile_now(self, part: Part, abandoned: Callable[[], bool] | None) -> bytes:
        """The object of a part: in this process if it doesn't take long, or if there is no other."""
        require_llvm()  # the compiler may not have been imported yet, and would be that of the files now
        if _size(self.module, part.functions) <= SMALL and forks.has_llvm():
            return compile_here(self.facts, self._options, part)
        function = partial(compile_part, self.module.data, self._options)
        budget = _budget(self.module)
        try:
            return compile_parts([part], function, 1, isolated=True, abandoned=abandoned, budget=budget)[0]
        except NoWorker:
            if not forks.has_llvm():
                raise
            # A guest waits, and has nowhere else to go: better without interruption than not at all.
            return compile_here(self.facts, self._options, part)

    def has(self, index: int) -> bool:
        """Whether a function has code."""
        return index not in self.missing

    def add_osr_entry(self, entry: OsrEntry, data: bytes | Image) -> int:
        """Load a compiled entry; returns its address. Raises `ObjectError`, also for one that nothing can arrive at."""
        if not data:
            raise ObjectError(f"nothing arrives at offset 0x{entry.place:x} of function {entry.function}")
        loaded = self._load(data if isinstance(data, Image) else [data])
        address = self._osr_entries[(entry.function, entry.place)] = loaded.symbols[f"wo.{entry.function}"]
        return address

    def _load(self, objects: list[bytes] | Image) -> LoadedCode:
        functions = {f"wf.{number}": address for number, address in enumerate(self.functions)}
        externals = self._externals | functions
        loaded = objects.load(externals) if isinstance(objects, Image) else load(objects, externals)
        self.memory.attach(loaded.memory)
        self._pieces.append(loaded)
        self._take(loaded)
        return loaded

    @property
    def facts(self) -> Facts:
        """What is known of the module as a whole."""
        if self._facts is None:
            with forks.importing:
                from wasmloom.compiler.facts import Facts

            self._facts = Facts(self.module)
        return self._facts

    def compile_function(self, index: int, abandoned: Callable[[], bool] | None = None) -> int:
        """The address of a function's code; compiles it if it is missing, with what it calls directly.

        A guest stands there and can't go on without it: see `patiently`, and `compile_parts` for `abandoned`. Raises
        `UnsupportedError`, `ObjectError`, `CompileError`, `MemoryError`.
        """
        pieces = [[index], self._with_callees(index)] if index in self.missing else []

        def attempt() -> None:
            if index not in self.missing:
                return
            functions = pieces.pop() if len(pieces) > 1 else pieces[0]  # the others may never be called
            try:
                self.add(functions, [self._compile_now(Part(tuple(functions)), abandoned)])
            except UnsupportedError:
                if functions == [index]:
                    raise
                attempt()

        patiently(attempt, abandoned)
        return self.functions[index]

    def _with_callees(self, index: int) -> list[int]:
        """A missing function and others that it will call, up to `LAZY_BYTES`: they will probably be next."""
        functions = [index]
        size = _size(self.module, functions)
        for caller in functions:
            for callee in sorted(self.facts.calls[caller]):
                number = callee - self.module.num_imported_funcs
                more = _size(self.module, [number]) if number in self.missing else LAZY_BYTES
                if size + more < LAZY_BYTES and number not in functions:
                    functions.append(number)
                    size += more
        return functions

    def add(self, functions: Sequence[int], objects: list[bytes] | Image) -> None:
        """Load compiled functions; those that are there already, or never were missing, stay. Raises `ObjectError`."""
        loaded = self._load(objects)
        with self._adding:
            for index in functions:
                if index in self.missing and self._lazy is not None:
                    self.functions[index] = loaded.symbols[f"wf.{index}"]
                    self._lazy.set(index, self.functions[index])
                    self.missing.discard(index)

    @property
    def code_size(self) -> int:
        """Bytes of compiled code."""
        return self.loaded.code_end - self.loaded.base

    def symbol_name(self, symbol: str) -> str:
        """What people should read for a symbol."""
        kind, _, number = symbol.partition(".")
        if kind not in ("wf", "wo"):
            return symbol
        return self.function_name(int(number) + self.module.num_imported_funcs)

    def function_name(self, index: int) -> str:
        """What people should read for a function, of the module's index space."""
        return func_name(self.module, index) or f"wasm-function[{index}]"

    def places(self, address: int, fault: bool = False) -> list[tuple[int, int]]:
        """The function (of the module's index space) and the offset in the module of the code at an address; before it
        those that stand there in the place of calls, innermost first. Nothing if the address isn't in a function.

        `fault`: of the access to guest memory that faulted there, not of the call there.
        """
        loaded = self.loaded
        if not loaded.contains(address):
            loaded = next((piece for piece in self._pieces if piece.contains(address)), loaded)
        found = loaded.function_at(address)
        if found is None or not found.name.startswith(("wf.", "wo.")):
            return []
        own = int(found.name[3:]) + self.module.num_imported_funcs
        chain = loaded.chain_at(address, found, fault) or [(None, 0)]
        return [(own if function is None else function, offset) for function, offset in chain]

    def place_near(self, address: int) -> tuple[CompiledModule, int, int] | None:
        """The module, function and offset of the last instruction before an address that is known; of the function
        itself if there is none. None: the address isn't in a function."""
        loaded = next((piece for piece in (self.loaded, *self._pieces) if piece.contains(address)), self.loaded)
        found = loaded.function_at(address)
        if found is None or not found.name.startswith(("wf.", "wo.")):
            return None
        own = int(found.name[3:]) + self.module.num_imported_funcs
        number = loaded.object_at(address)
        place = None if number is None else loaded.line_table(number).place_near(address, found.address)
        function, offset = place or (None, self.module.body_starts[own - self.module.num_imported_funcs])
        return self, own if function is None else function, offset

    def state_at(self, function: int, offset: int) -> FrameState:
        """What a frame holds where it stands: see `CodeSpace.state_at`. Only LLVM knows where the values are."""
        types = types_at(validate_module(self.module, bodies=False), function, offset)
        locals, operands = (
            tuple(TypedPlace(type, NOWHERE) for type in found) for found in (types.locals, types.operands)
        )
        return FrameState(locals, types.unset, operands, types.awaited)


def patiently(attempt: Callable[[], T], abandoned: Callable[[], bool] | None = None) -> T:
    """What `attempt` gives, which compiles and loads what a guest waits for; tried again when it fails (`PAUSES`).

    Raises `Abandoned`, `UnsupportedError`, and what the last attempt raises.
    """
    for pause in PAUSES:
        try:
            return attempt()
        except (Abandoned, UnsupportedError):
            raise
        except (CompileError, ObjectError, MemoryError, OSError):
            time.sleep(pause)
        if abandoned is not None and abandoned():
            raise Abandoned("nobody waits for it any more")
    return attempt()


def walk_compiled(
    ip: int, fp: int, fault: bool, cont: int, limit: int, known: dict[Any, Any] | None = None
) -> list[GuestFrame]:
    """The Wasm frames from a trap, or a call of the host, to the bottom of its entry, innermost first.

    `ip` is a return address, or the instruction that faulted if there was a `fault`; `fp` is the frame pointer of its
    function, `cont` the address of the running continuation. `known` keeps what has been found out about code.
    """
    from wasmloom.interpreter.frames import walk

    seen: dict[Any, list[tuple[CompiledModule, int, int]]] = {} if known is None else known
    frames: list[GuestFrame] = []
    near: tuple[CompiledModule, ...] = ()
    for place, running in native_stacks.frames(ip, fp, cont, limit):
        if place == 0:
            frames += walk(*native_stacks.waiting_frames(running), running, limit - len(frames), running, None, known)
            continue
        key = place, fault
        if key not in seen:
            # The byte before a return address belongs to the call.
            seen[key] = _describe(place if fault else place - 1, fault, near)
        found = seen[key]
        fault = False  # only the innermost frame can have faulted
        for each in found:  # none: a piece of `wasmloom.target.stubs`
            frames.append(GuestFrame(*each, running))
            near = each[:1]
        if len(frames) >= limit:
            break
    return frames[:limit]


set_walk_compiled(walk_compiled)


def place_near(address: int, known: dict[Any, Any]) -> tuple[CompiledModule, int, int] | None:
    """See `CompiledModule.place_near`. `known` keeps what has been found out about code."""
    key = place_near, address
    if key not in known:
        places = (compiled.place_near(address) for compiled in list(_modules))
        known[key] = next((place for place in places if place is not None), None)
    found: tuple[CompiledModule, int, int] | None = known[key]
    return found


def _describe(address: int, fault: bool, near: tuple[CompiledModule, ...]) -> list[tuple[CompiledModule, int, int]]:
    """The module, function and offset of an address, which is looked for `near` first: there may be many modules.

    Several where functions stand in the place of calls, innermost first.
    """
    for compiled in chain(near, _modules):
        places = compiled.places(address, fault)
        if places:
            return [(compiled, *place) for place in places]
    return []


def units(module: DecodedModule, functions: Iterable[int], most: int = UNIT_BYTES) -> list[list[int]]:
    """Functions defined in a module, in pieces of about `most` bytes that are compiled one by one; one at least."""
    pieces: list[list[int]] = [[]]
    size = 0
    for index in functions:
        own = module.body_ends[index] - module.body_starts[index]
        # A large one may be compiled in a cheaper way, alone.
        if pieces[-1] and (size >= most or own >= UNIT_BYTES):
            pieces.append([])
            size = 0
        pieces[-1].append(index)
        size += own
    return pieces


def perhaps_too_large(module: DecodedModule) -> list[int]:
    """Functions that `wasmloom.compiler.lowering` could refuse for their size: these aren't left for later."""
    with forks.importing:
        from wasmloom.compiler import lowering
        from wasmloom.compiler.inlining import GROWTH_PART

    signatures = [sub.composite for sub in module.types if isinstance(sub.composite, FuncType)]
    widest = max((len(one.params) + len(one.results) for one in signatures), default=0)
    # What stands in the place of calls counts, too.
    least = lowering.MOST_LINES * GROWTH_PART // ((GROWTH_PART + 1) * (LINES_PER_BYTE + widest))
    bodies = zip(module.body_starts, module.body_ends, strict=True)
    return [index for index, (start, end) in enumerate(bodies) if end - start >= least]


def _size(module: DecodedModule, functions: Iterable[int]) -> int:
    return sum(module.body_ends[index] - module.body_starts[index] for index in functions)


def _cheaper(part: Part) -> Part | None:
    """The same, compiled in the cheapest way."""
    return None if part.plainly else part._replace(plainly=True)


def _budget(module: DecodedModule) -> Budget[Part]:
    """See `SECONDS`."""

    def seconds(part: Part) -> float:
        return 0.0 if part.plainly else SECONDS + SECONDS_PER_BYTE * _size(module, part.functions)

    return Budget(seconds, _cheaper)


def compile_module(
    module: DecodedModule,
    options: Options,
    cache: Cache | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    isolated: bool = False,
    left: list[int] | None = None,
) -> list[bytes] | Image:
    """The code of a module: from the cache, or compiled. Raises `UnsupportedError`, and `CompileError`.

    `left`: gets the functions that are too large to be compiled, which the code is without, where others would raise
    `UnsupportedError` (see `can_leave`). See `wasmloom.compiler.workers` for `workers`, `progress` and `isolated`.
    """
    found = cached(module, options, cache, left)
    if found is not None:
        return found
    functions = range(len(module.body_starts))
    begun = None
    if cache is not None and _size(module, functions) >= WORTH_KEEPING:
        begun = _Begun(image_key(module.digest, options), cache)
    objects = _compile(module, options, functions, True, [], workers, progress, isolated, begun=begun, left=left)
    kept = keep(module, options, cache, objects, left or [])
    if begun is not None:
        begun.forget()
    return kept or objects


class _Begun:
    """The parts of a module that have been compiled already, in the cache: what is interrupted goes on from there."""

    def __init__(self, key: str, cache: Cache) -> None:
        self._key = key
        self._cache = cache
        self._kept: set[str] = set()

    def key(self, functions: Sequence[int]) -> str:
        """The key of a part."""
        return hashlib.sha256(f"{self._key} {functions}".encode()).hexdigest()

    def get(self, functions: Sequence[int]) -> bytes | None:
        """A part, if it is there."""
        key = self.key(functions)
        found = self._cache.get(key) if self._cache.has(key) else None
        if found is None:
            return None
        self._kept.add(key)
        return found[0]

    def keep(self, functions: Sequence[int], compiled: bytes) -> None:
        """Keep a part."""
        key = self.key(functions)
        self._kept.add(key)
        self._cache.put(key, [compiled])

    def forget(self) -> None:
        """Remove all parts."""
        for key in self._kept:
            self._cache.remove(key)


def compile_behind(
    module: DecodedModule,
    options: Options,
    functions: Sequence[int] | None,
    first: bool,
    entries: list[OsrEntry],
    abandoned: Callable[[], bool] | None = None,
) -> tuple[list[bytes], list[bytes]]:
    """The objects of some functions of a module and of entries; `first`: with what there is once in a module.

    By one other process, so this one's threads hardly notice, and after everything that a guest waits for. See
    `compile_parts` for `abandoned`. Raises as `compile_module` does.
    """
    objects = _compile(module, options, functions, first, entries, 1, None, True, True, abandoned)
    count = len(objects) - len(entries)
    return objects[:count], objects[count:]


def compile_some(
    module: DecodedModule, options: Options, functions: Sequence[int], first: bool, entries: list[OsrEntry]
) -> tuple[list[bytes], list[bytes]]:
    """The same, for a caller who waits for it."""
    objects = _compile(module, options, functions if first or functions else None, first, entries, 1, None, False)
    count = len(objects) - len(entries)
    return objects[:count], objects[count:]


def can_leave(module: DecodedModule) -> bool:
    """Whether functions of a module may stay bytecode where the others are compiled: its stores mix then, and what runs
    on the stacks of continuations can't."""
    return not module.has_continuations


def too_large(module: DecodedModule, left: Sequence[int]) -> str:
    """What people should read about functions that `compile_module` has left."""
    names = [f"{module.num_imported_funcs + index}" for index in left]
    for place, index in enumerate(left):
        name = func_name(module, module.num_imported_funcs + index)
        names[place] += f" ({printable(name)})" if name else ""
    return f"too large for the compiler, so bytecode: function {listed(names, str)}"


def cached(
    module: DecodedModule, options: Options, cache: Cache | None, left: list[int] | None = None
) -> Image | None:
    """The code of a module from the cache, where it is as good as the options want, or better; with `left` also what is
    without functions that are too large."""
    entry = None if cache is None else whole_module(cache, module.digest, options)
    if entry is None and cache is not None and left is not None:
        entry = cache.open(most_key(module.digest, options))
        if entry is not None:
            left += json.loads(entry.read(2))
    return None if entry is None else Image(entry)


def keep(
    module: DecodedModule, options: Options, cache: Cache | None, objects: list[bytes], left: Sequence[int] = ()
) -> Image | None:
    """Put all objects of a module into the cache, as an image, and return that; None where it can't be kept.

    `left`: the functions that the objects are without.
    """
    if cache is None:
        return None
    key = kept_key(module, options, left)
    try:
        blobs = link_pieces([objects])
        if left:
            blobs.append(json.dumps(left).encode())
    except ObjectError as error:
        if log.CACHE:
            log.tell(f"cache: not kept {key}: {error}")
        return None
    if not cache.put(key, blobs, mapped=True):
        return None
    if not left:
        cache.note_whole(len(module.data))
    entry = cache.open(key)
    return None if entry is None else Image(entry)


def kept_key(module: DecodedModule, options: Options, left: Sequence[int]) -> str:
    """The key of what `keep` keeps."""
    return (most_key if left else image_key)(module.digest, options)


def link_pieces(pieces: Sequence[Sequence[bytes]]) -> list[bytes | memoryview]:
    """The blobs of images of pieces of a module's code, the objects of each: see `images_of`. Raises `ObjectError`.

    They may refer to any function of the module.
    """
    linked = []
    for objects in pieces:
        functions = sorted(name for name in undefined(objects) if name.startswith("wf."))
        linked.append(link(objects, [*_EXTERNALS, TYPE_IDS, *functions]))
    return [mapped for mapped, _ in linked] + [head for _, head in linked]


def images_of(entry: Entry, count: int) -> list[Image]:
    """The images in an entry whose first blobs are from `link_pieces`, of so many pieces."""
    return [Image(entry, number, count + number) for number in range(count)]


def _compile(
    module: DecodedModule,
    options: Options,
    functions: Sequence[int] | None,
    first: bool,
    entries: list[OsrEntry],
    workers: int | None,
    progress: Callable[[int, int], None] | None,
    isolated: bool,
    behind: bool = False,
    abandoned: Callable[[], bool] | None = None,
    begun: _Begun | None = None,
    left: list[int] | None = None,
) -> list[bytes]:
    """The objects of functions (None: there is none of them to compile), then those of entries.

    `left`: see `compile_module`; there are no entries then.
    `progress` is called with the cost of what has been done and of everything (`_cost`).
    """
    require_llvm()
    function = partial(compile_part if left is None else compile_some_part, module.data, options)
    pieces: list[list[int]] = []
    if functions is not None:
        share = _size(module, functions) // (processors() if workers is None else max(1, workers))
        pieces = units(module, functions, min(UNIT_BYTES, max(LEAST_UNIT_BYTES, share)))
    parts = [Part(tuple(piece), first and number == 0) for number, piece in enumerate(pieces)]
    count = len(parts)
    if count + len(entries) == 1:
        workers = 1
    done: dict[int, bytes] = {}
    if begun is not None:
        done = {number: found for number, piece in enumerate(pieces) if (found := begun.get(piece)) is not None}
    costs = [_cost(module, piece) for piece in pieces]
    # The most costly first, so no worker is left alone with one in the end.
    order = sorted((number for number in range(count) if number not in done), key=costs.__getitem__, reverse=True)
    if workers == 1 and sum(_size(module, piece) for piece in pieces) > SMALL:
        isolated = True  # where it can be interrupted

    def finished(place: int, compiled: bytes) -> None:
        if place >= len(order):
            return
        done[order[place]] = compiled
        if begun is not None and compiled:
            begun.keep(pieces[order[place]], compiled)

    def show(*_: int) -> None:
        if progress is not None:
            progress(sum(costs[number] for number in done), sum(costs))

    places = (Part((entry.function,), entry=entry) for entry in entries)
    compiled = compile_parts(
        [*(parts[n] for n in order), *places],
        function,
        workers,
        show,
        isolated,
        behind,
        abandoned,
        _budget(module),
        finished,
    )
    if left is None or all(done.values()):
        return [done[number] for number in range(count)] + compiled[len(order) :]
    # What is in a unit with a function that is too large, one by one.
    refused = [number for number in range(count) if not done[number]]
    again = [Part((), True) for number in refused if parts[number].first]
    again += [Part((index,)) for number in refused for index in pieces[number] if len(pieces[number]) > 1]
    left += [pieces[number][0] for number in refused if len(pieces[number]) == 1]
    more = compile_parts(again, function, workers, None, isolated, budget=_budget(module))
    left += [part.functions[0] for part, compiled in zip(again, more, strict=True) if not compiled]
    left.sort()
    return [compiled for compiled in (*done.values(), *more) if compiled]


def _cost(module: DecodedModule, functions: list[int]) -> int:
    """About how long LLVM takes for a unit, in bytes of usual functions."""
    return sum(
        size if size < HEAVY_BYTES else size // CHEAPER
        for size in (module.body_ends[index] - module.body_starts[index] for index in functions)
    )
