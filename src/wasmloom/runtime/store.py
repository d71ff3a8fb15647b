# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The store: everything that instances own at run time (Core 3.0, 4.2.4).

A `Store` owns the C side of instances: memories, tables, function and instance structs, the value stack. Python
objects such as `Func` or `Memory` are views of it that keep their store alive. The store keeps none of them, so the
store and all its memory go when the last view goes, without waiting for the garbage collector.

Threads. One thread at a time is inside a store; others wait for it without holding the GIL (`lock`). The same thread
may enter again through a host function: see `wasmloom.runtime.entries`.

Invariants:

* ``owner``, ``depth`` and ``waiting`` are only touched with the GIL held; guest code runs without it.
* Nothing holds an address in the value stack across a call that can enter the guest, because the stack may move.
  Offsets stay valid.
* A reference word is only made and read with the store locked, so that `sweep`, which runs when the last lock goes,
  finds all words that are in use.
* C structs live until the store is deallocated. That happens only when no Python object refers to it, so no thread is
  inside then.
* The garbage collector doesn't clear the store's parts (`no_gc_clear`), nor the objects that point into it. In a dying
  cycle it first runs all finalisers, in any order; nothing has been cleared then, and guests run as usual. Afterwards
  it empties the list and the dicts that the store holds, again in any order, which breaks the cycle. Code that still
  gets at the store (by a weak reference that a finaliser has made) gets an error: before this, ``keep`` is never empty,
  nor is ``references`` while a word of it is in use.
* ``keep`` holds what C structs point to (modules' code spaces, bytes and compiled code, host functions), each
  directly, not through a Python object whose attributes can be cleared first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import cython
from cython.cimports.cpython.object import PyObject
from cython.cimports.libc.stdint import INT64_MAX, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.posix.mman import munmap
from cython.cimports.wasmloom.contract._layout import (
    HOST_TAG,
    SLOT_BYTES,
    WlMemory,
    WlTable,
)
from cython.cimports.wasmloom.runtime import hooks
from cython.cimports.wasmloom.runtime.epochs import EpochCounter
from cython.cimports.wasmloom.runtime.gc_statistics import statistics_of
from cython.cimports.wasmloom.runtime.guests import (
    MANY_TICKS,
    NEVER,
    WHEN_BUSY,
    Guest,
    charge,
    epoch_is_over,
    free_guest,
    interrupt_late,
    interrupt_now,
    memory_fits,
    new_guest,
    nudge,
    uncharge,
)
from cython.cimports.wasmloom.runtime.heap import Heap, OnWords, no_type
from cython.cimports.wasmloom.runtime.native_stacks import free_native_stacks, free_roots
from cython.cimports.wasmloom.runtime.regions import free_region
from cython.cimports.wasmloom.runtime.stacks import collect, free_stacks
from cython.cimports.wasmloom.runtime.store import (
    CHAIN_FRAME,
    LOST,
    REFERENCE_BYTES,
    Pointers,
    SweepStore,
    Unchecked,
)
from cython.cimports.wasmloom.spec.canon import new_types
from cython.cimports.wasmloom.system._capi import (
    Py_XDECREF,
    PyDict_GET_SIZE,
    PyErr_Clear,
    PyErr_Fetch,
    PyGC_Disable,
    PyGC_Enable,
    PyList_GET_SIZE,
    PyThread_acquire_lock,
    PyThread_acquire_lock_timed,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_release_lock,
    pthread_self,
    size_of,
    wl_python_ends,
)
from cython.cimports.wasmloom.system.allocation import calloc, realloc
from cython.cimports.wasmloom.target._processor import SIGNAL_RESERVE

from wasmloom.contract.traps import (
    CHAIN_EXHAUSTED,
    HOST_LIMIT,
    OUT_OF_MEMORY,
    STACK_EXHAUSTED,
    TRAP_REASONS,
    UNHANDLED_TAG,
)
from wasmloom.errors import Trap, WasmError
from wasmloom.system import log
from wasmloom.system.interruption import look_up

_OUT_OF_MEMORY = cython.declare(uint64_t, OUT_OF_MEMORY)
_STACK_EXHAUSTED = cython.declare(uint64_t, STACK_EXHAUSTED)
_CHAIN_EXHAUSTED = cython.declare(uint64_t, CHAIN_EXHAUSTED)
_LOGS_GC = cython.declare(cython.bint, log.GC)
_HOST_LIMIT = cython.declare(uint64_t, HOST_LIMIT)

#: Trap code → text that follows the reason.
_DETAILS = {
    UNHANDLED_TAG: "no handler up to where the host called the guest, and nothing suspends across the host",
    CHAIN_EXHAUSTED: "too many continuations have resumed each other",
}

#: Deterministic stores: bytes of frames that the first function of a continuation may use; how many times as much
#: memory there is for what frames cost, and at least how much.
_DEPTH_OF_STACK = cython.declare(uint64_t, 65536)
_ROOM = cython.declare(uint64_t, 16)
_LEAST_ROOM = cython.declare(uint64_t, 8388608)
_UNLIMITED = cython.declare(uint64_t, (1 << 64) - 1)

#: Bytes of one stack that a store may use unless it says otherwise.
DEFAULT_STACK_LIMIT = 1 << 20
#: Bytes of everything but memories that a store may have allocated unless it says otherwise.
DEFAULT_MEMORY_LIMIT = 1 << 30
#: Bytes of the native stack of a continuation that runs compiled code, at most.
CONTINUATION_STACK = cython.declare(uint64_t, 233472)
#: A store of the tier "auto" is worth compiling after this many calls from the host.
MANY_CALLS = 500
#: The number of external references at which a store first looks for those that nothing in it holds any more.
_FIRST_SWEEP = cython.declare(cython.Py_ssize_t, 1)
#: Bytes of objects that guests may be given in a call before the store sweeps within it, in a store with little else.
_HANGING = cython.declare(uint64_t, 4 << 20)


@cython.cfunc
@cython.exceptval(check=False)
def push(array: cython.pointer(Pointers), item: cython.p_void) -> cython.bint:
    """Append to a C array. Returns False when there is no memory."""
    grown: cython.pointer(cython.p_void)
    room: uint64_t
    if array.count == array.room:
        room = array.room * 2 + 16
        grown = cython.cast(cython.pointer(cython.p_void), realloc(array.items, room * cython.sizeof(cython.p_void)))
        if grown == cython.NULL:
            return False
        array.items = grown
        array.room = room
    array.items[array.count] = item
    array.count += 1
    return True


@cython.cfunc
@cython.exceptval(check=False)
def _keep_words(store_pointer: cython.p_void, words: cython.pointer(uint64_t), count: uint64_t) -> cython.void:
    """Note which external references are among the words that the collector sees."""
    store: Store = cython.cast(Store, store_pointer)
    if cython.cast(Unchecked, cython.cast(cython.p_void, _keep))(store, words, count) < 0:
        PyErr_Clear()  # no memory: nothing else can go wrong with ints in dicts, and no Python code runs
        store.live_is_complete = False


@cython.cfunc
@cython.exceptval(-1, check=False)
def _keep(store: Store, words: cython.pointer(uint64_t), count: uint64_t) -> cython.int:
    i: uint64_t
    word: uint64_t
    last: uint64_t = 0
    for i in range(count):
        word = words[i]
        if word != last and store.first_reference <= word <= store.last_reference:
            last = word
            value = store.references.get(word)
            if value is not None:
                store.live[word] = value
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _sweep(store: Store) -> cython.int:
    """Forget the external references that nothing in the store holds; the caller has the dict that held them.

    No words are in transit: nothing is inside of the guest, or see `sweep_within`. The garbage collector is off
    meanwhile, because finalisers could enter the guest and move references to places that have been visited already.
    """
    heap: cython.pointer(Heap) = cython.address(store.guest.heap)
    collecting: cython.bint
    kept: cython.Py_ssize_t
    if heap.holds:
        return 0
    collecting = PyGC_Disable()
    try:
        store.first_reference = min(store.references, default=1)
        store.last_reference = max(store.references, default=0)
        store.live = {}
        store.live_is_complete = True
        heap.on_words = cython.cast(OnWords, cython.cast(cython.p_void, _keep_words))
        collect(cython.address(store.guest.ctx))
        heap.on_words = cython.NULL
    finally:
        if collecting:
            PyGC_Enable()
    if store.live_is_complete:
        uncharge(store.guest, REFERENCE_BYTES * (PyDict_GET_SIZE(store.references) - PyDict_GET_SIZE(store.live)))
        store.references = store.live
        # A sweep visits the whole heap, so each reference pays for some words of it. Where there is little to visit,
        # what a call leaves behind goes at once, whatever hangs on it.
        kept = PyDict_GET_SIZE(store.references)
        store.hanging_at = min(_HANGING, store.guest.memory_limit >> 2)
        store.hanging_at += REFERENCE_BYTES * kept + SLOT_BYTES * heap.scanned
        store.sweep_at = kept + 1 + ((heap.scanned + (heap.block_bytes >> 6) + 4 * kept) >> 6)
    store.live = None
    store.hanging = 0
    return 0


@cython.no_gc_clear
@cython.cclass
class Store:
    """Owns instances and what they are made of; one thread at a time runs in it.

    `engine`: a `wasmloom.Engine` (None: the default one). Limits, all but the last of which can be set later, too:
    `fuel`: how much the guest may execute, roughly one per instruction, for engines made with ``fuel=True``.
    `timeout`: seconds that one call into the store may take. `memory_limit`: bytes for everything that is allocated for
    the guest: memories, tables, stacks, continuations, exceptions, external references, and what hosts `charge`. By
    default memories have only their own maximum, and all else 1 GiB. `stack_limit`: bytes of one of the guest's stacks;
    it also limits a chain of stacks that have resumed each other, each counting as 64 bytes. Raises `ValueError` for
    limits that make no sense.

    Of an engine that is deterministic, `memory_limit` counts memories and tables only, and `stack_limit` what frames
    cost: see "Deterministic execution" in the guide.
    """

    def __cinit__(
        self,
        engine: object = None,
        *,
        fuel: int | None = None,
        timeout: float | None = None,
        memory_limit: int | None = None,
        stack_limit: int = DEFAULT_STACK_LIMIT,
    ) -> None:
        engine = hooks.engine_of(engine)
        self.guest = new_guest()
        if self.guest == cython.NULL:
            raise MemoryError
        self.guest.ctx.store = cython.cast(cython.p_void, self)
        self.guest.ctx.no_type = no_type
        self.guest.heap.logs = _LOGS_GC
        self.keep = [None]
        self.references = {}
        self.sweep_at = _FIRST_SWEEP
        self.module_at = {}
        self.item_types = {}
        self.callers = {}
        self.types = new_types()
        self.drivers = {}
        self.branch = ""
        self.wanted = []
        self.engine = engine
        self.counts_fuel = engine.fuel
        self.tier = cython.address(interpreter_tier)
        if engine.tier == "compiler" or engine.threshold == 0:
            self.tier = cython.address(compiler_tier)
        elif engine.tier == "auto":
            self.calls_left = MANY_CALLS if engine.threshold is None else engine.threshold + 1
            self.guest.change_when = WHEN_BUSY if engine.threshold is None else NEVER
            self.guest.change_at = MANY_TICKS
        self.checked = engine.checked
        if stack_limit < 4096:
            raise ValueError(f"stack_limit must be at least 4096 bytes, got {stack_limit}")
        self.limit_memory(None)
        self.guest.deterministic = engine.deterministic
        self.limit_memory(memory_limit)
        self.timeout = timeout
        self.set_limits()
        self.guest.max_stack = min(stack_limit, 1 << 40) & ~7
        self.guest.max_chain = self.guest.max_stack // CHAIN_FRAME
        most: uint64_t = min(self.guest.max_stack, CONTINUATION_STACK)
        if self.guest.deterministic:
            # What frames really take comes to its limit later than what they cost.
            self.guest.depth = self.guest.max_stack
            self.guest.ctx.depth_of_stack = min(self.guest.depth, _DEPTH_OF_STACK)
            self.is_timed = True
            self.guest.max_stack = max(_ROOM * self.guest.depth, _LEAST_ROOM)
            most = _ROOM * _DEPTH_OF_STACK
        self.guest.until_chain_check = self.guest.max_chain
        # An odd number of pages, so that the pages in use spread over all sets of the processor's TLBs.
        self.guest.native_stack_size = (most + SIGNAL_RESERVE + 4095) & ~4095 | 4096
        self.guest.ctx.fuel = INT64_MAX
        if fuel is not None:
            self.fuel = fuel

    def __init__(
        self,
        engine: object = None,
        *,
        fuel: int | None = None,
        timeout: float | None = None,
        memory_limit: int | None = None,
        stack_limit: int = DEFAULT_STACK_LIMIT,
    ) -> None:
        """See the class. `__cinit__` does the work, once, so no store is ever without its parts."""

    @property
    def modules(self) -> Mapping[int, object]:
        """The modules of its instances, by the address of the instance's struct; for tests and diagnostics."""
        return MappingProxyType(self.module_at)

    def __dealloc__(self) -> None:
        i: uint64_t
        table: cython.pointer(WlTable)
        memory: cython.pointer(WlMemory)
        if self.owner == LOST:  # it may be in any state, so nothing of it can be freed
            self.guest.ctx.store = cython.NULL
            return
        for i in range(self.memories.count):
            memory = cython.cast(cython.pointer(WlMemory), self.memories.items[i])
            free_region(memory)
        for i in range(self.tables.count):
            table = cython.cast(cython.pointer(WlTable), self.tables.items[i])
            free(table.elements)
        for i in range(self.blocks.count):
            free(self.blocks.items[i])
        free(self.memories.items)
        free(self.tables.items)
        free(self.instances.items)
        free(self.blocks.items)
        free(self.cells.items)
        self.drop_error()
        if self.door != cython.NULL:
            PyThread_free_lock(self.door)
        if self.guest != cython.NULL:
            free_stacks(self.guest)
            free_native_stacks(self.guest)
            if self.guest.reserved:
                munmap(self.guest.ctx.stack_base, self.guest.reserved)
            else:
                free(self.guest.ctx.stack_base)
            free_guest(self.guest)

    def __repr__(self) -> str:
        return f"<wasmloom.Store at 0x{id(self):x}: {self.instances.count} instances>"

    @property
    def fuel(self) -> int | None:
        """The fuel that is left, or None when the engine doesn't count fuel. Can be set."""
        return self.guest.ctx.fuel if self.counts_fuel else None

    @fuel.setter
    def fuel(self, amount: int) -> None:
        if not self.counts_fuel:
            raise ValueError("this store's engine doesn't count fuel: make it with Engine(fuel=True)")
        if amount < 0:
            raise ValueError(f"fuel must not be negative, got {amount}")
        self.guest.ctx.fuel = min(amount, INT64_MAX)

    @fuel.deleter
    def fuel(self) -> None:
        raise AttributeError("attribute 'fuel' of 'Store' objects can't be deleted")

    @property
    def timeout(self) -> float | None:
        """Seconds that one call into the store may take; None: any time. Can be set, for calls that begin later."""
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: object) -> None:
        if seconds is not None and not float(seconds) > 0:
            raise ValueError(f"timeout must be a positive number of seconds, or None for any time, got {seconds}")
        self._timeout = seconds
        self.timeout_ns = 0 if seconds is None else int(min(float(seconds) * 1e9 + 1, 4e18))
        self.is_timed = self.is_timed or self.timeout_ns != 0  # from then on calls forget the deadlines of others

    @timeout.deleter
    def timeout(self) -> None:
        raise AttributeError("attribute 'timeout' of 'Store' objects can't be deleted")

    @property
    def memory_limit(self) -> int | None:
        """Bytes for everything that is allocated for the guest, or None: memories don't count, and all else has 1 GiB.

        Can be set, also by host functions. What the guest has stays; if that is more, it gets nothing more.
        """
        if self.guest.deterministic:
            return self.guest.memories_limit if self.guest.memories_limit != _UNLIMITED else None
        return self.guest.memory_limit if self.guest.limits_memories else None

    @memory_limit.setter
    def memory_limit(self, size: object) -> None:
        self.lock()  # a guest in another thread would change the numbers meanwhile
        try:
            self.limit_memory(size)
        finally:
            self.unlock()

    @memory_limit.deleter
    def memory_limit(self) -> None:
        raise AttributeError("attribute 'memory_limit' of 'Store' objects can't be deleted")

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def limit_memory(self, size: object) -> cython.int:
        """Set the memory limit; see `charge_memory` for what memories do to it when they don't count."""
        limit: uint64_t = DEFAULT_MEMORY_LIMIT
        i: uint64_t
        if size is not None and size < 0:
            raise ValueError(f"memory_limit must not be negative, got {size}")
        if self.guest.deterministic:
            self.guest.memories_limit = _UNLIMITED if size is None else min(size, INT64_MAX)
            return 0
        if size is None:
            for i in range(self.memories.count):
                limit += cython.cast(cython.pointer(WlMemory), self.memories.items[i]).length
        else:
            limit = min(size, INT64_MAX)
        self.guest.limits_memories = size is not None
        self.guest.memory_limit = limit
        self.guest.memories_limit = _UNLIMITED
        self.hanging_at = min(_HANGING, limit >> 2)
        return 0

    @property
    def stack_limit(self) -> int:
        """Bytes of one stack that a guest may use."""
        return self.guest.max_stack

    @property
    def epoch_deadline(self) -> int | None:
        """The number of epochs (`Engine.epoch`) after which the store's time is over, or None. Can be set.

        When the engine's counter comes to it, running guests trap ("timeout") at once, and so do calls from then on.
        """
        return self.guest.epoch_deadline if self.guest.epoch != cython.NULL else None

    @epoch_deadline.setter
    def epoch_deadline(self, count: int | None) -> None:
        guest: cython.pointer(Guest) = self.guest
        counter: EpochCounter = self.engine.epochs
        if count is None:
            guest.epoch = cython.NULL
        elif count < 0:
            raise ValueError(f"epoch_deadline must not be negative, got {count}")
        else:
            guest.epoch_deadline = min(count, INT64_MAX)
            guest.epoch = cython.address(counter.now)
        self.is_timed = self.is_timed or guest.epoch != cython.NULL
        # For the guest that calls this, through a host function.
        if epoch_is_over(guest):
            interrupt_late(guest.epoch)
        elif guest.deadline == 1:
            guest.deadline = guest.time_deadline

    def interrupt(self) -> None:
        """End the call that runs in this store, if one does: it traps ("timeout"), as when its time is over.

        For other threads, and signal handlers. It takes no lock. A host function that the guest has called isn't ended,
        but finds no time left (`time_left`); guests that wait in an event loop are ended by cancelling their calls.
        Calls that begin later aren't concerned.
        """
        interrupt_now(self.guest)

    @epoch_deadline.deleter
    def epoch_deadline(self) -> None:
        raise AttributeError("attribute 'epoch_deadline' of 'Store' objects can't be deleted")

    def set_limits(
        self,
        *,
        memory_size: int | None = None,
        table_elements: int | None = None,
        instances: int | None = None,
        tables: int | None = None,
        memories: int | None = None,
    ) -> None:
        """Limit single memories and tables, and numbers of objects; None: unlimited. Replaces the limits of before.

        `memory_size`: bytes that each memory may have; `table_elements`: elements that each table may have. Beyond
        that, `memory.grow` and `table.grow` return -1, and everything else raises `WasmError`. `instances`: how many
        the store may have; `tables` and `memories`: how many instances may define together, from this call on. What
        exists stays. The sum of all bytes has a limit of its own (`memory_limit`, see the class). Raises `ValueError`
        for what is negative.
        """
        given = (memory_size, table_elements, instances, tables, memories)
        for limit in given:
            if limit is not None and limit < 0:
                raise ValueError(f"a limit must not be negative, got {limit}")
        memory_size, table_elements, instances, tables, memories = [
            INT64_MAX if limit is None else min(limit, INT64_MAX) for limit in given
        ]
        self.guest.most_bytes = memory_size
        self.guest.most_elements = table_elements
        self.most_instances, self.most_tables, self.most_memories = instances, tables, memories
        self.defined_tables = self.defined_memories = 0
        self.is_limited = min(instances, tables, memories) < INT64_MAX

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def count_defined(self, tables: uint64_t, memories: uint64_t) -> cython.int:
        """Count what another instance defines. Raises `WasmError` if that is too much."""
        for what, count, most in (
            ("instances", self.instances.count + 1, self.most_instances),
            ("tables", self.defined_tables + tables, self.most_tables),
            ("memories", self.defined_memories + memories, self.most_memories),
        ):
            if count > most:
                raise WasmError(f"the store would have {count} {what}, and its limit is {most}")
        self.defined_tables += tables
        self.defined_memories += memories
        return 0

    @property
    def deadline(self) -> int | None:
        """When the running call times out, on the clock of `time.monotonic_ns`; None when nothing limits it."""
        return self.guest.deadline if self.guest.entry != cython.NULL and self.guest.deadline else None

    def gc(self) -> None:
        """Free at once what nobody holds any more: continuations, exceptions, and Python objects that the guest had.

        This also happens automatically: what a call has left behind goes when the call ends; in a store that holds
        much, when enough has accumulated. Inside of a host function the running guests keep what is on their stacks,
        and external references wait for the outermost call's end. Raises what a signal handler raises while another
        thread has the store.
        """
        self.lock()
        if self.depth == 1 and self.guest.entry == cython.NULL:
            self.sweep_at = 0
        elif self.guest.heap.holds == 0 and not self.interrupting:
            collect(cython.address(self.guest.ctx))
        self.unlock()

    def snapshot(
        self, *, keep: Mapping[str, object] | None = None, persistent_id: Callable[[object], str | None] | None = None
    ) -> object:
        """The state of the store as a `wasmloom.Snapshot`; see `wasmloom.Snapshot.take`."""
        return hooks.take_snapshot(self, keep, persistent_id)

    def snapshot_soon(
        self,
        then: Callable[[object], object],
        *,
        keep: Mapping[str, object] | None = None,
        persistent_id: Callable[[object], str | None] | None = None,
    ) -> None:
        """Take a snapshot of the guest that runs, where it next comes to a loop or calls a function; call `then` with
        it.

        For signal handlers, timers and other threads: it takes no lock. It is the thread of the guest that calls
        `then`, in the middle of the call: `then` can't call into the store, and what it raises leaves the guest. So
        does the error of a snapshot that isn't possible. Where no guest runs, all of this happens at once. Guests of an
        engine that compiles them don't come to such places: see `snapshots` of `Engine`.
        """
        if not callable(then):
            raise TypeError(f"snapshot_soon takes a function, not {type(then).__name__}")
        self.wanted.append((then, keep, persistent_id))
        if self.guest.running:
            self.guest.wants_snapshot = 1
            nudge(self.guest)
        else:
            self.take_wanted()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def take_wanted(self) -> cython.int:
        """Take the snapshots that are wanted. What the first one raises leaves the others for later."""
        self.guest.wants_snapshot = 0
        while self.wanted:
            then, keep, persistent_id = self.wanted.pop(0)
            then(hooks.take_snapshot(self, keep, persistent_id))
        return 0

    @property
    def gc_statistics(self) -> object:
        """What the collector has done so far, a `GcStatistics`. Raises what `gc` does."""
        self.lock()
        try:
            return statistics_of(cython.address(self.guest.heap))
        finally:
            self.unlock()

    @property
    def can_wait(self) -> bool:
        """Whether the running call is a `call_async`: the host function that asks may return an awaitable."""
        return self.asks or (self.guest.entry != cython.NULL and self.guest.entry.may_wait)

    @property
    def tier_name(self) -> str:
        """The tier that its functions run in: "interpreter", "baseline" or "compiler"."""
        if self.tier == cython.address(interpreter_tier) and self.engine.tier == "baseline":
            return "baseline"
        if self.mixes and self.engine.tier == "compiler":
            return "compiler"  # but for functions that are too large
        return self.tier.name.decode("ascii")

    @property
    def memory_used(self) -> int:
        """Bytes that are allocated for the guest, of everything that `memory_limit` counts."""
        return self.guest.used_bytes

    # --- ownership by a thread ---

    @cython.final
    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lock(self) -> cython.int:
        """Take the store for the calling thread; nests. Raises what a signal handler raises while it waits."""
        me: cython.ulong = pthread_self()
        if PyList_GET_SIZE(self.keep) == 0:
            raise WasmError("this store is being freed: the garbage collector has begun to clear it")
        if self.owner != me:
            if self.owner != 0:
                self.wait_for_turn(me)
            self.owner = me
        self.depth += 1
        return 0

    @cython.final
    @cython.cfunc
    @cython.exceptval(check=False)
    def unlock(self) -> cython.void:
        """Undo one `lock`."""
        if self.depth > 1:
            self.depth -= 1
        elif PyDict_GET_SIZE(self.references) >= self.sweep_at:
            self.sweep_and_unlock()
        else:
            self.depth = 0
            self.owner = 0
            if self.waiting:
                PyThread_release_lock(self.door)

    @cython.cfunc
    @cython.exceptval(check=False)
    def sweep_and_unlock(self) -> cython.void:
        """Undo the last `lock`, after freeing external references that nothing holds any more."""
        before: dict = self.references  # goes when the store is free again: that can run any code  # noqa: F841
        if self.sweep_at == 0:
            free_roots(self.guest)
        if cython.cast(SweepStore, cython.cast(cython.p_void, _sweep))(self) < 0:
            PyErr_Clear()  # no memory: the next call tries again. No Python code runs in there
        self.depth = 0
        self.owner = 0
        if self.waiting:
            PyThread_release_lock(self.door)

    @cython.cfunc
    @cython.exceptval(check=False)
    def sweep_within(self) -> cython.void:
        """Free external references that nothing holds any more, while a guest calls the host: see `hanging`.

        Invariant: the host function's arguments are objects by now, and whatever converts values has locked the store.
        So while there is one lock, that of the call which runs the guest, no words are in transit: all that guests have
        is on their stacks (compiled code's registers are saved there), in their heap, globals and tables. Inside of
        nested calls the sweep waits. Unused objects go when this returns, which can run any code, as host functions
        can.
        """
        before: dict = self.references  # noqa: F841
        if self.depth != 1 or self.guest.entry == cython.NULL:
            return
        if cython.cast(SweepStore, cython.cast(cython.p_void, _sweep))(self) < 0:
            PyErr_Clear()  # as above
        self.sweep_at = 0  # the end of the call can free more: there are no stacks with old words then

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wait_for_turn(self, me: cython.ulong) -> cython.int:
        """Wait until no thread has the store."""
        if self.door == cython.NULL:
            self.door = PyThread_allocate_lock()
            if self.door == cython.NULL:
                raise MemoryError
            PyThread_acquire_lock(self.door, 1)
        while self.owner != 0:
            if self.owner == LOST:
                raise WasmError("a guest was running in this store, in another thread, when the process was forked")
            if wl_python_ends():
                # The owner never gets the GIL again: it has been ended, or will be as soon as it asks.
                raise WasmError("another thread is inside this store, and Python is ending")
            self.waiting += 1
            with cython.nogil:
                PyThread_acquire_lock_timed(self.door, 50000, 0)
            self.waiting -= 1
            look_up()
        return 0

    # --- what a store is made of ---

    @cython.cfunc
    def allocate(self, size: uint64_t) -> cython.p_void:
        """Zeroed memory that is freed with the store."""
        block: cython.p_void = calloc(1, size + 1)
        if block == cython.NULL or not push(cython.address(self.blocks), block):
            free(block)
            raise MemoryError
        return block

    @cython.ccall
    @cython.exceptval(-1, check=False)
    def charge(self, size: uint64_t) -> cython.int:
        """Count `size` bytes that are allocated for the guest against the memory limit; `release` undoes it.

        For host functions that keep something for a guest. Raises `WasmError` when there isn't enough left.
        """
        self.lock()
        try:
            if not charge(self.guest, size):
                raise self.over_limit(size)
        finally:
            self.unlock()
        return 0

    @cython.cfunc
    def over_limit(self, size: uint64_t) -> object:
        """The error for when there aren't `size` bytes left."""
        return WasmError(self._over_limit(size))

    def _over_limit(self, size: uint64_t) -> str:
        used: uint64_t = self.guest.used_bytes
        limit: uint64_t = self.guest.memory_limit
        if self.guest.deterministic and not memory_fits(self.guest, size):
            used, limit = self.guest.memories_used, self.guest.memories_limit
        return f"{size} more bytes would exceed the store's memory limit: {used} of {limit} are in use"

    @cython.cfunc
    def trap(self, code: uint64_t, frames: object = (), detail: str | None = None) -> object:
        """The trap for a code. When a guest has reached its limit, everything that nothing holds goes at the call's
        end."""
        if code == _OUT_OF_MEMORY:
            self.sweep_at = 0
        if self.guest.deterministic and code in (_OUT_OF_MEMORY, _STACK_EXHAUSTED, _CHAIN_EXHAUSTED):
            detail = detail or _DETAILS.get(code) or TRAP_REASONS[code]
            code = _HOST_LIMIT
        return Trap(TRAP_REASONS[code], frames, _DETAILS.get(code) if detail is None else detail)

    @cython.ccall
    @cython.exceptval(-1, check=False)
    def release(self, size: uint64_t) -> cython.int:
        """Undo a `charge` of `size` bytes. Raises `ValueError` for more than is in use."""
        self.lock()
        try:
            if size > self.guest.used_bytes:
                raise ValueError(f"{size} bytes were not charged")
            uncharge(self.guest, size)
        finally:
            self.unlock()
        return 0

    @cython.cfunc
    @cython.exceptval(0, check=True)
    def word_of(self, value: object) -> uint64_t:
        """The word of an external reference, which the store keeps alive."""
        count: cython.Py_ssize_t
        word: uint64_t
        if value is None:
            return 0
        count = PyDict_GET_SIZE(self.references)
        word = cython.cast(uint64_t, cython.cast(cython.p_void, value)) | HOST_TAG
        self.references[word] = value
        if PyDict_GET_SIZE(self.references) == count:
            return word
        if not charge(self.guest, REFERENCE_BYTES):
            del self.references[word]
            if self.guest.entry != cython.NULL:
                # The guest has reached its limit: there is no room for what a host function gives it.
                raise self.trap(_OUT_OF_MEMORY, (), self._over_limit(REFERENCE_BYTES))
            self.sweep_at = 0  # the outermost call's end frees what nothing holds any more
            raise self.over_limit(REFERENCE_BYTES)
        if self.guest.entry != cython.NULL:
            # The objects aren't the guest's memory, but freeing them can't wait for the end of a long call. This is
            # an estimate: the object itself as it comes in, by `sys.getsizeof`, not what it refers to.
            self.hanging += REFERENCE_BYTES + size_of(value)
        return word

    # --- exceptions that leave the guest ---

    @cython.final
    @cython.cfunc
    @cython.exceptval(check=False)
    def take_error(self) -> cython.void:
        """Take the exception that has been raised and leaves the guest, which is left with `HOST_EXCEPTION`."""
        error_type: cython.pointer(PyObject) = cython.NULL
        error_value: cython.pointer(PyObject) = cython.NULL
        error_traceback: cython.pointer(PyObject) = cython.NULL
        PyErr_Fetch(cython.address(error_type), cython.address(error_value), cython.address(error_traceback))
        self.drop_error()
        self.error_type, self.error_value, self.error_traceback = error_type, error_value, error_traceback

    @cython.final
    @cython.cfunc
    @cython.exceptval(check=False)
    def drop_error(self) -> cython.void:
        """Forget the exception that `take_error` has taken. Freeing it may run any code, which finds no exception
        here."""
        error_type: cython.pointer(PyObject) = self.error_type
        error_value: cython.pointer(PyObject) = self.error_value
        error_traceback: cython.pointer(PyObject) = self.error_traceback
        self.error_type = self.error_value = self.error_traceback = cython.NULL
        Py_XDECREF(error_type)
        Py_XDECREF(error_value)
        Py_XDECREF(error_traceback)
