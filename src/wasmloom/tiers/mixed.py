# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""One mixed world: functions get compiled code one by one, for all stores of their module.

A store that *mixes* (`Store.mixes`) never changes over as a whole: one with a module that is to mix (`Module.mixes`).
Its functions begin as bytecode, or stencils, and stay entered through their cells. `replace` gives some of them
compiled code, at any time, whatever runs: from then on their cells lead to it. A loop may lead there, too (OSR), for
frames that are already in it. Nothing is converted, and nobody waits. How calls cross, in both directions:
`wasmloom.target.crossings`.

The interface, for what decides (`wasmloom.tiers.policy`, `wasmloom.tiers.hot`):

``let_mix(store, on)``          lets a store that nothing runs in begin to mix, or end it
``begin(module, functions, loops)``   work to be done in any thread or process, in the form of `Module.begin_behind`:
                                its argument tells whether nobody wants it any more; it returns what is called with the
                                module, with the GIL, and makes the code run
``replace(module, functions, loops)``  both at once
``load(module, functions, image, groups)``  what has been compiled before
``compiles(module, function)``  whether a function can have compiled code beside bytecode
``replaced(module)``            the functions that have

Functions are numbers among those defined in the module; loops are (function, offset in its bytecode), as
`CodeSpace.loops_of` returns them. A function whose loops are replaced should be replaced as well: else each call of
it runs bytecode up to the loop.

What stays bytecode: functions with instructions of continuations, and whatever runs on the stacks of continuations:
they have no native stack, and `native` sees that. So no stack that is suspended has frames of compiled code. The first
stack of a call that waits (`call_async`) has one beside it (see `wasmloom.tiers.waiting`), but for calls that began
before the store mixed, or when there was no memory for it.

Compiled code calls each function of a module through a stub with a slot (`wasmloom.compiler.lazily`): first it holds
``wl_crossing``, then the code. References to functions lead to such a stub, too, by one word, ``register_call``; its
environment is always the `WlFunction`. So all that ever changes in a running store are single words, each of which is
right before and after: cells, slots, ``register_call``, words of loops. Each function of a group that is compiled
together is one such word, so the group runs from one moment on, but for some calls meanwhile.

Invariants:

* Compiled code, and whatever else such a word leads to, is held by the code space (`CodeSpace.held`), which each store
  holds that has functions of it. Nothing of it is freed before.
* Where a cell leads to compiled code there is a way to bytecode, for stacks that can't cross: the function's, or the
  stub that has it translated.
* The words of loops change after the stencils of their function have been made: the copier reads them.
* All changes are made with the GIL held.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.cpython.ref import Py_REFCNT
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.wasmloom.binary.decoder import DecodedModule
from cython.cimports.wasmloom.contract._layout import WlFunction, WlInstance
from cython.cimports.wasmloom.interpreter.code_space import CodeSpace
from cython.cimports.wasmloom.runtime import guests
from cython.cimports.wasmloom.runtime.codememory import CodeMemory
from cython.cimports.wasmloom.runtime.guests import Guest, Parked
from cython.cimports.wasmloom.runtime.hooks import stubs
from cython.cimports.wasmloom.runtime.store import Store, interpreter_tier
from cython.cimports.wasmloom.system._capi import __sync_synchronize

from wasmloom.contract.layout import (
    PASSED_AS_I32,
    PASSED_IN_ARGS,
    PASSING_HEAD,
    SLOT_BYTES,
    offset,
    size,
)
from wasmloom.runtime import forks
from wasmloom.semantics.kinds import Register, by_name
from wasmloom.spec.types import FuncType
from wasmloom.target import code, registers

if TYPE_CHECKING:
    from wasmloom.compiler.compiled import CompiledModule
    from wasmloom.compiler.images import Image
    from wasmloom.compiler.options import Options
    from wasmloom.compiler.osr import OsrEntry

_FUNCTIONS = cython.typedef(cython.pointer(cython.pointer(WlFunction)))
#: Bytes of a page, to which code is aligned.
_PAGE = 4096


# --- how parameters travel ---


def passing(type: FuncType) -> bytes:
    """How parameters and results of a function type travel: see `PASSING_HEAD`."""
    with forks.importing:
        from wasmloom.compiler.abi import signature

    own = signature(type)
    where = []
    next_of = {Register.INTEGER: 0, Register.FLOAT: len(registers.INTEGER_ARGUMENTS)}
    for position, name in enumerate(own.params):
        kind = by_name(name)
        if position not in own.registers:
            where += [PASSED_IN_ARGS] * kind.slots
            continue
        is_i32 = kind.register == Register.INTEGER and kind.bits == 32
        where.append(next_of[kind.register] | (PASSED_AS_I32 if is_i32 else 0))
        next_of[kind.register] += 1
    floats = next_of[Register.FLOAT] > len(registers.INTEGER_ARGUMENTS)
    head = struct.pack("<HHB", own.param_places[len(own.params)], own.result_places[len(own.results)], floats)
    return head.ljust(PASSING_HEAD, b"\0") + bytes(where)


@cython.cfunc
def _passings(space: CodeSpace) -> tuple:
    """How parameters travel for each type of a module: all of it in one object, which the space holds, where in it for
    each type, and of how many words its parameters or its results are, whichever are more."""
    if not space.held:
        with forks.importing:
            from wasmloom.errors import UnsupportedError

        found: list = []
        starts: list = []
        words: list = []
        at = 0
        for sub in space.module.types:
            bytes_of_it = b""
            if isinstance(sub.composite, FuncType):
                with suppress(UnsupportedError):  # nothing calls it
                    bytes_of_it = passing(sub.composite)
            starts.append(at)
            words.append(max(struct.unpack_from("<HH", bytes_of_it)) if bytes_of_it else 0)
            found.append(bytes_of_it)
            at += len(bytes_of_it)
        space.held.append((b"".join(found), starts, words))
    return space.held[0]


# --- instances ---


@cython.cfunc
@cython.exceptval(-1, check=False)
def join(store: Store, instance: cython.pointer(WlInstance), module: object) -> cython.int:
    """Let compiled code call the functions of a new instance in a store that mixes."""
    space: CodeSpace = module.code_space
    decoded: DecodedModule = space.module
    functions: _FUNCTIONS = cython.cast(_FUNCTIONS, instance.functions)
    blob: bytes
    i: uint32_t
    blob, starts, _ = _passings(space)
    for i in range(decoded.num_imported_funcs, decoded.num_funcs):
        at: uint64_t = starts[decoded.func_type[i]]
        functions[i].passing = PyBytes_AS_STRING(blob) + at
        functions[i].register_call = stubs.crossing_function
    if module.mixed is not None:
        _lead(instance, decoded, module.mixed.through)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _lead(instance: cython.pointer(WlInstance), decoded: DecodedModule, through: object) -> cython.int:
    """Let compiled callers reach an instance's functions by their stubs. Other threads may call them meanwhile."""
    functions: _FUNCTIONS = cython.cast(_FUNCTIONS, instance.functions)
    i: uint32_t
    stub: uint64_t
    for i in range(decoded.num_imported_funcs, decoded.num_funcs):
        stub = through[i - decoded.num_imported_funcs]
        functions[i].register_call = cython.cast(cython.p_void, stub)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _lead_all(module: object) -> cython.int:
    """The same for all instances of a module in all stores that mix."""
    guest: cython.pointer(Guest) = guests.first_guest
    store: Store
    i: uint64_t
    space = module.code_space
    while guest != cython.NULL:
        # The store's first field of these is cleared before it goes (`Store.__dealloc__`).
        if guest.ctx.store != cython.NULL and Py_REFCNT(cython.cast(object, guest.ctx.store)) > 0:
            store = cython.cast(Store, guest.ctx.store)
            if store.mixes:
                for i in range(store.instances.count):
                    known = store.module_at.get(cython.cast(uint64_t, store.instances.items[i]))
                    if known is not None and known.code_space is space:
                        _lead(
                            cython.cast(cython.pointer(WlInstance), store.instances.items[i]),
                            module.decoded,
                            module.mixed.through,
                        )
        guest = guest.next
    return 0


def let_mix(store: Store, on: cython.bint) -> object:
    """Let a store mix, or not any more, so that it may change over as a whole. Raises `ValueError` while something runs
    in it, or when it has changed over."""
    i: uint64_t
    parked: cython.pointer(Parked)
    store.lock()
    try:
        parked = store.guest.parked
        while parked != cython.NULL and parked.beside == cython.NULL:
            parked = parked.next
        if (
            store.guest.entry != cython.NULL
            or parked != cython.NULL
            or store.tier != cython.address(interpreter_tier)
        ):
            raise ValueError("the store can't mix, or stop to do so, now")
        if on and not store.mixes:
            for i in range(store.instances.count):
                address = cython.cast(uint64_t, store.instances.items[i])
                join(store, cython.cast(cython.pointer(WlInstance), store.instances.items[i]), store.module_at[address])
        store.mixes = on
    finally:
        store.unlock()
    return None


# --- replacing ---


def compiles(module: Any, function: int) -> bool:
    """Whether a function can have compiled code beside bytecode: it has no instruction of continuations."""
    with forks.importing:
        from wasmloom.compiler.bodies import switches_stacks

    return not switches_stacks(module.decoded, function)


def options_of(module: Any) -> Options:
    """How a module's functions are compiled where they have code beside bytecode."""
    return module.engine.code_options()._replace(quick=True, mixed=module.decoded.has_continuations)


def replaced(module: Any) -> list[int]:
    """The functions of a module that have compiled code in stores that mix."""
    if module.mixed is None:
        return []
    return [i for i in range(len(module.decoded.body_starts)) if module.mixed.has(i)]


class Made(NamedTuple):
    """What has been compiled of a module: the objects of functions, and those of loops' entries, one each."""

    functions: list[int]
    loops: list[tuple[int, int]]
    entries: list[OsrEntry]
    objects: list[bytes]
    more: list[bytes]


class Known(NamedTuple):
    """The same from the cache: images, one of the functions (None: there are none), and one for each loop."""

    functions: list[int]
    loops: list[tuple[int, int]]
    entries: list[OsrEntry]
    image: Image | None
    more: list[Image]


def begin(
    module: Any,
    functions: Iterable[int],
    loops: Iterable[tuple[int, int]] = (),
    keep: Callable[[Made], None] | None = None,
) -> Any:
    """Give functions, and loops, compiled code: see the module's docstring, and `Module.begin_behind`.

    What can't have any is left out; also what is no loop. `keep` is called with what has been compiled, before it runs,
    in the thread that does the work. Raises `ValidationError` for functions of modules that are validated lazily.
    """
    wanted = _wanted(module, functions)
    places, entries = _entries(module, loops)
    decoded, options = module.decoded, options_of(module)
    first = module.mixed is None

    def work(abandoned: Callable[[], bool]) -> Callable[[Any], None]:
        with forks.importing:
            from wasmloom.compiler.compiled import compile_behind

        some = wanted if first or wanted else None
        made, more = compile_behind(decoded, options, some, first, entries, abandoned)
        if keep is not None:
            keep(Made(wanted, places, entries, made, more))
        return lambda module: _end(module, wanted, made, places, entries, more, first)

    return work


def replace(
    module: Any, functions: Iterable[int], loops: Iterable[tuple[int, int]] = (), *, behind: bool = False
) -> None:
    """Give functions, and loops, compiled code now. `behind`: another process compiles, whatever the size."""
    with forks.importing:
        from wasmloom.compiler.compiled import compile_some

    if behind:
        begin(module, functions, loops)(lambda: False)(module)
        return
    wanted = _wanted(module, functions)
    places, entries = _entries(module, loops)
    first = module.mixed is None
    options = options_of(module)
    made, more = compile_some(module.decoded, options, wanted, first, entries)
    _end(module, wanted, made, places, entries, more, first)


def _wanted(module: Any, functions: Iterable[int]) -> list[int]:
    """The functions that can be given compiled code and have none, validated and translated."""
    known = module.mixed
    wanted = sorted({i for i in functions if (known is None or not known.has(i)) and compiles(module, i)})
    space: CodeSpace = module.code_space
    for i in wanted:
        space.translate(i)
    return wanted


def _entries(module: Any, loops: Iterable[tuple[int, int]]) -> tuple[list[tuple[int, int]], list[OsrEntry]]:
    """Those of some places that are loops which can have compiled code, and their entries."""
    with forks.importing:
        from wasmloom.compiler.osr import entry_at

    space: CodeSpace = module.code_space
    places = []
    for i, at in loops:
        if compiles(module, i) and at in space.loops_of(i):
            space.translate(i)
            places.append((i, at))
    return places, [entry_at(space, i, at) for i, at in places]


def load(
    module: Any, functions: Sequence[int], image: Image, groups: Iterable[Known]
) -> tuple[set[int], set[tuple[int, int]]]:
    """Let a module have what was compiled before: an image of some functions, or of none, with what there is once in a
    module, and groups. Returns the functions and loops that have code now.

    What the module has already stays as it is, and so do entries that don't fit. Raises what `begin` and its work
    raise.
    """
    _end(module, functions, image, [], [], [], True)
    loops: set = set()
    known: set = set(functions)
    for made in groups:
        new = [i for i in made.functions if not module.mixed.has(i)]
        fitting: dict = dict(zip(*_entries(module, [loop for loop in made.loops if loop not in loops]), strict=True))
        rows = [row for row in zip(made.loops, made.entries, made.more, strict=True) if fitting.get(row[0]) == row[1]]
        _end(
            module, new, made.image, [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows],
            False,
        )  # fmt: skip
        known.update(made.functions)
        loops.update(row[0] for row in rows)
    return known, loops


def use(module: Any, made: list[bytes] | Image, left: Sequence[int]) -> None:
    """Let a module run what has been compiled of it as a whole, but for some functions. Raises as `load` does."""
    functions = sorted(set(range(len(module.decoded.body_starts))).difference(left))
    _end(module, functions, made, [], [], [], True)


def _end(
    module: Any,
    functions: Sequence[int],
    made: list[bytes] | Image | None,
    places: Sequence[tuple[int, int]],
    entries: Sequence[OsrEntry],
    more: Sequence[bytes | Image],
    first: bool,
) -> None:
    """Load what has been compiled, and let it run. Raises `ObjectError`, and `WasmError` beyond the engine's budget.

    Another thread may have done the same meanwhile; what came first stays.
    """
    with forks.importing:
        from wasmloom.compiler.compiled import CompiledModule

    space: CodeSpace = module.code_space
    compiled: CompiledModule | None = module.mixed
    _passings(space)  # what the space holds first
    options = options_of(module)
    if compiled is None:
        if not first:
            raise ValueError("not the first code of a module that has none")
        missing = sorted(set(range(len(module.decoded.body_starts))).difference(functions))
        compiled = CompiledModule(module.decoded, made, options, missing, module.engine.code_budget, mixes=True)
        if module.mixed is None:
            space.held.append(compiled.memory)
            module.use_mixed(compiled)
            _lead_all(module)
        compiled = module.mixed
    elif functions:
        compiled.add(functions, made)
    _use(space, compiled, functions)
    if places:
        _use_loops(space, compiled, places, entries, more)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _use(space: CodeSpace, compiled: object, functions: object) -> cython.int:
    """Let cells lead to compiled code, where there is some."""
    blob: bytes
    decoded: DecodedModule = space.module
    index: uint32_t
    type: uint32_t
    at: uint64_t
    call: uint64_t
    address: uint64_t
    blob, starts, words = _passings(space)
    calls: dict = compiled.array_calls
    addresses: list = compiled.functions
    missing: set = compiled.missing
    for i in functions:
        if i in missing:
            continue
        index = i
        type = decoded.func_type[decoded.num_imported_funcs + index]
        at, call, address = starts[type], calls[type], addresses[i]
        space.use_compiled(
            index,
            cython.cast(cython.p_void, call),
            cython.cast(cython.p_void, address),
            PyBytes_AS_STRING(blob) + at,
            words[type],
        )
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _use_loops(space: CodeSpace, compiled: object, places: object, entries: object, more: list) -> cython.int:
    """Let loops lead to their OSR entries."""
    memory: CodeMemory
    word: cython.pointer(uint64_t)
    pages: uint64_t = -(-len(places) * code.LOOP_STUB_SIZE // _PAGE) * _PAGE
    record: uint64_t
    stub: uint64_t
    if space.coder is not None:
        space.coder.make(True)
    # Where nothing arrives there is no code.
    reached = [number for number, data in enumerate(more) if data]
    places = [places[number] for number in reached]
    addresses = [compiled.add_osr_entry(entries[number], more[number]) for number in reached]
    if not places:
        return 0
    memory = CodeMemory(pages + size("WlLoop") * cython.cast(uint64_t, len(places)))
    view = memoryview(memory)
    for number, (index, at) in enumerate(places):
        record = pages + size("WlLoop") * number
        word = space.word_at(index, at)
        fields = {
            "entry": cython.cast(uint64_t, stubs.osr),
            "code": addresses[number],
            "first": word[0],
            "frame": space.frame_size(index) // SLOT_BYTES,
            "record": space.record_slot(index),
        }
        for name, value in fields.items():
            struct.pack_into("<Q", view, record + offset("WlLoop", name), value)
        code.write_loop_stub(view, code.LOOP_STUB_SIZE * number, record - code.LOOP_STUB_SIZE * number)
    view.release()
    memory.make_executable(pages)
    compiled.memory.attach(memory)
    __sync_synchronize()
    for number, (index, at) in enumerate(places):
        stub = cython.cast(uint64_t, memory.base) + code.LOOP_STUB_SIZE * cython.cast(uint64_t, number)
        word = space.word_at(index, at)
        word[0] = stub
    return 0
