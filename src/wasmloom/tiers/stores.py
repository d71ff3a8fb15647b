# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The tier of a store: what its functions run as.

A store is in one tier as a whole. It begins in its engine's tier and changes over at most once, from bytecode to
compiled code. One that mixes never does (`wasmloom.tiers.mixed`); it begins to mix with its first module that is to.
`wasmloom.tiers.policy` decides when; `wasmloom.tiers.change` handles what is running at the time.
"""

from __future__ import annotations

from array import array

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.wasmloom.binary.decoder import DecodedModule
from cython.cimports.wasmloom.contract._layout import CONT_SUSPENDED, SLOT_BYTES, WlCont, WlFunction, WlInstance
from cython.cimports.wasmloom.interpreter.machine import host_stub
from cython.cimports.wasmloom.runtime.guests import MANY_TICKS, NEVER, WHEN_BUSY, WHEN_READY, Guest, Parked
from cython.cimports.wasmloom.runtime.heap import CONT_CLASS, Slab, block_at
from cython.cimports.wasmloom.runtime.native_stacks import MAX_ARGUMENTS, ROOT_BYTES, STACK_PAGE
from cython.cimports.wasmloom.runtime.stacks import inline_stack, mark_suspended, state_of
from cython.cimports.wasmloom.runtime.store import Store, compiler_tier, interpreter_tier, push
from cython.cimports.wasmloom.tiers.mixed import join, let_mix

from wasmloom.errors import UnsupportedError
from wasmloom.tiers.mixed import replace

#: Most ticks between two looks at a store whose stacks let it stay in bytecode.
_MOST_TICKS = cython.declare(uint64_t, 1000)
_FUNCTIONS = cython.typedef(cython.pointer(cython.pointer(WlFunction)))


def count_round(store: Store) -> None:
    """Count one more attempt to compile for the places where the store's bytecode stands (`Store.rounds`)."""
    store.rounds += 1


@cython.cfunc
def _code_of(store: Store, module: object) -> tuple:
    """The compiled code of a module, as `_use_code` takes it. Compiles it if need be; the store keeps it alive.

    Two arrays of words: for each function defined in the module the address of its code, and that of its `array_call`.
    """
    decoded: DecodedModule = module.decoded
    i: uint32_t
    compiled = module.compile()
    store.keep.append(compiled.memory)
    functions: list = compiled.functions
    call_of: dict = compiled.array_calls
    calls: list = []
    for i in range(decoded.num_imported_funcs, decoded.num_funcs):
        calls.append(call_of[decoded.func_type[i]])
    return decoded, array("Q", functions).tobytes(), array("Q", calls).tobytes()


@cython.cfunc
@cython.exceptval(-1, check=False)
def _make_stubs(store: Store, instance: cython.pointer(WlInstance), decoded: DecodedModule) -> cython.int:
    """Give an instance's functions code for interpreted callers: there are none, but a cell must point somewhere.

    This has no effect before `_use_code`.
    """
    functions: _FUNCTIONS = cython.cast(_FUNCTIONS, instance.functions)
    function: cython.pointer(WlFunction)
    i: uint32_t
    for i in range(decoded.num_imported_funcs, decoded.num_funcs):
        function = functions[i]
        if function.own_code == cython.NULL:
            function.own_code = host_stub(function)
            if not push(cython.address(store.blocks), function.own_code):
                free(function.own_code)
                function.own_code = cython.NULL
                raise MemoryError
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _use_code(
    instance: cython.pointer(WlInstance), decoded: DecodedModule, register_calls: bytes, calls: bytes
) -> cython.void:
    """Let an instance's functions run as compiled code. None of them is running."""
    functions: _FUNCTIONS = cython.cast(_FUNCTIONS, instance.functions)
    function: cython.pointer(WlFunction)
    code: cython.pp_void = cython.cast(cython.pp_void, PyBytes_AS_STRING(register_calls))
    call: cython.pp_void = cython.cast(cython.pp_void, PyBytes_AS_STRING(calls))
    i: uint32_t
    for i in range(decoded.num_funcs - decoded.num_imported_funcs):
        function = functions[decoded.num_imported_funcs + i]
        function.code_cell = cython.address(function.own_code)
        function.environment = instance
        function.array_call = call[i]
        function.register_call = code[i]


def compiled_code(store: Store) -> list[tuple[object, bytes, bytes]]:
    """The compiled code of all instances of a store, in their order, compiled if need be; for `use_compiled`.

    Compiling lets signal handlers and finalisers run, and these may make instances, so the code for those is included.
    Between this function's return and the use of the code, no Python code may run.
    """
    i: uint64_t = 0
    codes: list = []
    while i < store.instances.count:
        codes.append(_code_of(store, store.module_at[cython.cast(uint64_t, store.instances.items[i])]))
        i += 1
    return codes


def change_over(store: Store) -> None:
    """Run everything in a store as compiled code from now on; compile it if need be. No bytecode is running in it."""
    use_compiled(store, compiled_code(store))


def use_compiled(store: Store, codes: list[tuple[object, bytes, bytes]]) -> None:
    """Run everything in a store as compiled code from now on: `codes` is what `compiled_code` has just returned.

    Bytecode that is running or suspended, if there is any, goes on by `wasmloom.tiers.change`.

    All or nothing: raises MemoryError before anything has changed. No Python code runs in here, so no signal handler
    can come in between.
    """
    i: uint64_t
    if cython.cast(uint64_t, len(codes)) != store.instances.count:
        raise ValueError("not the code of all instances of the store")
    for i in range(store.instances.count):
        _make_stubs(store, cython.cast(cython.pointer(WlInstance), store.instances.items[i]), codes[i][0])
    for i in range(store.instances.count):
        _use_code(
            cython.cast(cython.pointer(WlInstance), store.instances.items[i]), codes[i][0], codes[i][1], codes[i][2]
        )
    mark_suspended(store.guest)
    store.tier = cython.address(compiler_tier)
    store.guest.change_when = NEVER


@cython.cfunc
@cython.exceptval(-1, check=False)
def _adopt_bytecode(store: Store, instance: cython.pointer(WlInstance), module: object) -> cython.int:
    """See `Tier.adopt`: new functions are translated when they are first called.

    A store that runs something now, and has to mix from this module on, begins at the next call from the host.
    """
    if module.mixes and not store.mixes and module.compiled is None and store.guest.entry == cython.NULL:
        begin_to_mix(store)
    if store.mixes:
        if store.engine.tier == "compiler" and module.mixed is None:  # beside one that is compiled in part
            replace(module, range(len(module.decoded.body_starts)))
        join(store, instance, module)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _adopt_compiled(store: Store, instance: cython.pointer(WlInstance), module: object) -> cython.int:
    """See `Tier.adopt`: compiles the module if need be. One that is compiled in part lets its store mix."""
    if module.mixes:
        if store.instances.count or store.guest.entry != cython.NULL:
            raise UnsupportedError("a module with functions that are too large to be compiled, in a store that has run")
        store.tier = cython.address(interpreter_tier)
        return _adopt_bytecode(store, instance, module)
    decoded, register_calls, calls = _code_of(store, module)
    _make_stubs(store, instance, decoded)
    _use_code(instance, decoded, register_calls, calls)
    return 0


def begin_to_mix(store: Store) -> None:
    """Let a store that nothing runs in mix bytecode and compiled code, and not change over any more."""
    let_mix(store, True)
    store.guest.change_when = NEVER
    store.calls_left = 0


def mixes(store: Store) -> bool:
    """Whether a store mixes bytecode and compiled code."""
    return store.mixes


def keeps_stacks(store: Store, many: int) -> bool:
    """Whether a store of bytecode is better off as it is, because of its stacks; with the store locked.

    It has `many` suspended continuations or more, or its memory limit leaves no room for what its stacks would be as
    native stacks, which are made when they go on. A native stack takes eleven times the memory of one of bytecode, and
    is in a page of its own.
    """
    guest: cython.pointer(Guest) = store.guest
    slab: cython.pointer(Slab) = guest.heap.slabs
    parked: cython.pointer(Parked) = guest.parked
    cont: cython.pointer(WlCont)
    room: uint64_t = guest.memory_limit - min(guest.used_bytes, guest.memory_limit)
    most: uint64_t = many
    count: uint64_t = 0
    needed: uint64_t = 0
    i: uint64_t
    while parked != cython.NULL:
        if parked.root != cython.NULL and parked.native_stack == cython.NULL and parked.beside == cython.NULL:
            needed += ROOT_BYTES + SLOT_BYTES * MAX_ARGUMENTS  # see `_settle_root` in wasmloom.tiers.change
        parked = parked.next
    while slab != cython.NULL and count < most:
        if slab.kind == CONT_CLASS:
            for i in range(slab.used):
                cont = cython.cast(cython.pointer(WlCont), block_at(slab, i))
                if state_of(cont) == CONT_SUSPENDED and cont.control == cython.NULL:
                    count += 1
                    needed += STACK_PAGE
                    if cont.stack_base != inline_stack(cont):
                        needed += cont.stack_end - cont.stack_base
        slab = slab.next
    return count >= most or needed > room


def ask_later(store: Store) -> None:
    """Have the tier of a store, which stays as it is for now, checked again when its guest has run for twice as long.

    So a guest whose stacks come and go is less and less likely to be seen in a moment with few of them. It is looked at
    every ten seconds at least.
    """
    store.guest.change_at = store.guest.ticks_seen + min(max(store.guest.ticks_seen, MANY_TICKS), _MOST_TICKS)
    if store.guest.change_when == WHEN_READY:
        store.guest.change_when = WHEN_BUSY


def check_again(store: Store) -> None:
    """Code for a store is ready: the next tick checks whether the guest can go on in it. Call from any thread."""
    if store.guest.change_when == WHEN_READY:
        store.guest.change_when = WHEN_BUSY


interpreter_tier.adopt = _adopt_bytecode
compiler_tier.adopt = _adopt_compiled
