# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Calls that can wait: the guest waits in a host function, outside of the store, until the results arrive.

The whole state of a guest is on its own stacks. How it gets out of the store and back is the tier's to know: see
`wasmloom.tiers.waiting`.

Such a call runs on stacks of its own, so that other calls can use the store meanwhile. The first stack is a
continuation from the store's pool, with a root stack for compiled code, if there may be any. Continuations that the
guest has resumed are parked with it, as a chain.

Invariants:

* A parked guest is in the store's list (``guest.parked``), where the collector finds its references; a running one is
  not.
* Stacks are ended exactly once: by `end` for the first one when the call is over (the others have ended before), or by
  `give_up` for all of them while the guest is parked.
* The list and the stacks are only touched with the store locked, because another thread's collector walks them without
  the GIL. So a `Parked` has memory of its own. If a task goes while another thread has the store, its `Parked` stays in
  the list, without ``owner``, until a later call ends it (`_reap`).
* A parked stack holds no address in the thread's stack, except one that `wl_native_continue` replaces. ``args`` holds
  nothing of a parked guest, because other guests use it.
"""

from __future__ import annotations

import cython
from cython.cimports.cpython.object import PyObject
from cython.cimports.cpython.sequence import PySequence_Fast_ITEMS
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy
from cython.cimports.wasmloom.contract._layout import (
    CONT_ACTIVE,
    SLOT_BYTES,
    WlCont,
    WlContext,
    WlException,
    WlFunction,
)
from cython.cimports.wasmloom.host.bridge import HostFunction, call_from_host, free_room, room_for, take_results
from cython.cimports.wasmloom.host.conversions import from_word
from cython.cimports.wasmloom.host.signatures import Signature
from cython.cimports.wasmloom.host.tags import new_tag, word_of_exception
from cython.cimports.wasmloom.interpreter.frames import calling_instance
from cython.cimports.wasmloom.runtime import hooks
from cython.cimports.wasmloom.runtime.entries import count_call, fail, leave, restore, save
from cython.cimports.wasmloom.runtime.guests import Entry, Guest, Parked, c_stack_left
from cython.cimports.wasmloom.runtime.stacks import end_stack, take
from cython.cimports.wasmloom.runtime.store import Store, interpreter_tier
from cython.cimports.wasmloom.system._capi import pthread_self, seal
from cython.cimports.wasmloom.system.allocation import calloc
from cython.cimports.wasmloom.tiers.backtraces import backtrace_of_parked
from cython.cimports.wasmloom.tiers.frames import frames_of_parked
from cython.cimports.wasmloom.tiers.waiting import interpreted, stand_up, waiting_for, waiting_of

from wasmloom.contract.traps import HOST_WAIT, OUT_OF_MEMORY, UNCAUGHT_EXCEPTION
from wasmloom.errors import WasmException
from wasmloom.runtime.collector import statistics
from wasmloom.runtime.frames import GuestFrame
from wasmloom.spec.canon import intern_func_type
from wasmloom.spec.types import FuncType

_HOST_WAIT = cython.declare(uint64_t, HOST_WAIT)
_OUT_OF_MEMORY = cython.declare(uint64_t, OUT_OF_MEMORY)
_UNCAUGHT_EXCEPTION = cython.declare(uint64_t, UNCAUGHT_EXCEPTION)

#: The result of a call that hasn't begun.
_NOT_BEGUN = cython.declare(object, object())


@cython.cfunc
@cython.exceptval(0, check=True)
def _cancellation(store: Store) -> uint64_t:
    """The exception that cancels a store's guests. No guest knows its tag, so only `catch_all` catches it."""
    exception: cython.pointer(WlException)
    if store.cancellation == 0:
        exception = cython.cast(cython.pointer(WlException), store.allocate(cython.sizeof(WlException)))
        exception.tag = new_tag(store, intern_func_type(FuncType((), ()), store.types))
        store.cancellation = cython.cast(uint64_t, exception)
    return store.cancellation


@cython.cfunc
@cython.exceptval(check=False)
def _end_root(guest: cython.pointer(Guest), parked: cython.pointer(Parked)) -> cython.void:
    """End the first stack of a guest."""
    waiting_of(parked).release(guest, parked)
    end_stack(guest, parked.root)
    parked.root = parked.current = cython.NULL


@cython.cfunc
@cython.exceptval(check=False)
def _end_all(guest: cython.pointer(Guest), parked: cython.pointer(Parked)) -> cython.void:
    """Take a guest out of the list of those that wait, and end all its stacks."""
    cont: cython.pointer(WlCont) = parked.current
    parent: cython.pointer(WlCont)
    _unlink(guest, parked)
    while cont != parked.root:
        parent = cython.cast(cython.pointer(WlCont), cont.parent)
        end_stack(guest, cont)
        cont = parent
    _end_root(guest, parked)


@cython.cfunc
@cython.exceptval(check=False)
def _unlink(guest: cython.pointer(Guest), parked: cython.pointer(Parked)) -> cython.void:
    """Take a guest out of the list of those that wait."""
    if parked.previous != cython.NULL:
        parked.previous.next = parked.next
    else:
        guest.parked = parked.next
    if parked.next != cython.NULL:
        parked.next.previous = parked.previous


@cython.cfunc
@cython.exceptval(check=False)
def _reap(guest: cython.pointer(Guest)) -> cython.void:
    """End the guests whose tasks went while another thread had the store. Call with the store locked."""
    parked: cython.pointer(Parked) = guest.parked
    following: cython.pointer(Parked)
    while parked != cython.NULL:
        following = parked.next
        if parked.owner == cython.NULL:
            _end_all(guest, parked)
            free(parked)
        parked = following


@cython.no_gc_clear
@cython.cclass
class GuestTask:
    """One call of a function that can wait.

    `start`, `send` and `throw` run it until it waits for an awaitable (True; see `awaitable`) or has ended (False; see
    `result`), or raise what ends it: what the function would raise in a plain call.
    """

    def __cinit__(self, function: object) -> None:
        self.function = function
        self.store = self.function._store
        self.parked = cython.cast(cython.pointer(Parked), calloc(1, cython.sizeof(Parked)))
        if self.parked == cython.NULL:
            raise MemoryError
        self.parked.owner = cython.cast(cython.p_void, self)
        self.result = _NOT_BEGUN

    def __dealloc__(self) -> None:
        # The code that drives a task closes it; this is for a task that was abandoned.
        if self.is_parked:
            if self.store.owner != 0 and self.store.owner != pthread_self():
                self.store.orphans = True
                self.parked.owner = cython.NULL
                return
            self.give_up()
        free(self.parked)

    # --- what Python sees ---

    def start(self, args: tuple[object, ...]) -> bool:
        """Begin the call. Raises `RuntimeError` when it has begun."""
        function: cython.pointer(WlFunction) = self.function.pointer
        signature: Signature = self.function.signature
        few = cython.declare(uint64_t[16])  # WORDS_ON_STACK
        words: cython.pointer(uint64_t) = few
        entry = cython.declare(Entry)
        room: uint32_t = max(signature.param_slots, signature.result_slots)
        code: uint64_t
        if self.result is not _NOT_BEGUN:
            raise RuntimeError("this call has begun")
        self.store.lock()
        try:
            self.result = None
            if self.store.orphans:
                self.store.orphans = False
                _reap(self.store.guest)
            if self.store.calls_left and self.store.guest.entry == cython.NULL:
                count_call(self.store)
            words = room_for(room, few)
            self.function.take(PySequence_Fast_ITEMS(args), len(args), words)
            if function.instance == cython.NULL:
                return self.start_host(words)
            self.begin(room)
            try:
                self.enter(cython.address(entry))
            except BaseException:
                self.end()
                raise
            code = waiting_of(self.parked).take_arguments(
                self.store, self.parked, words, signature.param_slots, room
            )
            if code:
                leave(self.store, cython.address(entry))
                self.end()
                raise self.store.trap(code)
            code = waiting_of(self.parked).begin(self.store, cython.address(entry), function)
            return self.left(cython.address(entry), code)
        finally:
            self.store.unlock()
            free_room(words, few)

    def send(self, value: object) -> bool:
        """Go on with what the awaitable gave. Raises `RuntimeError` when it waits for nothing."""
        host: HostFunction = self.host
        signature: Signature
        few = cython.declare(uint64_t[16])  # WORDS_ON_STACK
        words: cython.pointer(uint64_t) = few
        entry = cython.declare(Entry)
        self.store.lock()
        try:
            # Coroutines don't call this twice, but anyone can get at their frames; and it may be running, or have
            # ended.
            if host is None or self.host is not host:
                raise RuntimeError("this call waits for nothing")
            signature = host.signature
            self.store.guest.heap.holds += 1  # until the results are where the collector sees them
            try:
                words = room_for(signature.result_slots, few)
                if signature.n_results:
                    take_results(self.store, host, value, words)
                if self.host is not host:
                    raise RuntimeError("this call waits for nothing")
                self.host = None
                self.awaitable = None
                if not self.is_parked:
                    self.result = self.function.finish(words)
                    return False
                self.enter(cython.address(entry))
                waiting_of(self.parked).take_results(self.store, self.parked, words, signature.result_slots)
            finally:
                self.store.guest.heap.holds -= 1
            return self.go_on(cython.address(entry), signature.result_slots, 0)
        except BaseException:
            self.give_up()
            raise
        finally:
            self.store.unlock()
            free_room(words, few)

    def ask(self) -> bool:
        """Call the host function again that the guest waits for, and go on with what it returns.

        For a guest that has come out of a snapshot: nothing else would resume it. One that waits for no host function
        just goes on. What the function raises leaves the guest as it is. Raises `RuntimeError` for a guest that waits
        for an awaitable, or not in bytecode.
        """
        host: HostFunction = self.host
        signature: Signature
        few = cython.declare(uint64_t[16])  # WORDS_ON_STACK
        words: cython.pointer(uint64_t) = few
        entry = cython.declare(Entry)
        current: cython.pointer(WlCont)
        frame: uint64_t
        waits: cython.int
        self.store.lock()
        try:
            if (
                not self.is_parked
                or self.awaitable is not None
                or waiting_of(self.parked) != cython.address(interpreted)
            ):
                raise RuntimeError("this call doesn't wait for an answer")
            if host is None:
                if self.store.tier != cython.address(interpreter_tier):
                    raise RuntimeError("this guest can only go on as bytecode, and its store runs compiled code now")
                self.enter(cython.address(entry))
                self.call = None
                return self.left(cython.address(entry), stand_up(self.store, cython.address(entry)))
            signature = host.signature
            current = self.parked.current
            frame = cython.cast(uint64_t, current.stack_base) + current.fp
            words = room_for(max(signature.param_slots, signature.result_slots), few)
            memcpy(
                words, cython.cast(cython.p_void, frame), SLOT_BYTES * cython.cast(uint64_t, signature.param_slots)
            )
            self.store.asks = True
            try:
                waits = call_from_host(
                    self.store, host, words, True, calling_instance(frame, cython.cast(uint64_t, current.ip))
                )
            finally:
                self.store.asks = False
            if waits:
                self.awaitable = self.store.awaited
                self.store.awaited = None
                return True
            try:
                if self.host is not host or not self.is_parked:
                    raise RuntimeError("this call has been discarded meanwhile")
                self.enter(cython.address(entry))
                self.host = None
                waiting_of(self.parked).take_results(self.store, self.parked, words, signature.result_slots)
            finally:
                self.store.guest.heap.holds -= 1
            return self.go_on(cython.address(entry), signature.result_slots, 0)
        finally:
            self.store.unlock()
            free_room(words, few)

    def throw(self, error: BaseException, cancels: bool) -> bool:
        """Go on with an exception that the awaitable raised.

        The guest's handlers see a `WasmException`, and an exception that `cancels` the call: that one goes through the
        guest as an exception with a tag of its own, and is raised if it comes out. Other exceptions end the guest.
        """
        entry = cython.declare(Entry)
        word: uint64_t
        self.store.lock()
        try:
            self.awaitable = None
            if not self.is_parked or self.store.interrupting or self.host is None:
                raise error
            if isinstance(error, WasmException):
                word = word_of_exception(self.store, error)
            elif cancels and waiting_of(self.parked).may_catch(self.parked):
                word = _cancellation(self.store)
                self.cancelled = error
            else:
                raise error
            self.enter(cython.address(entry))
            self.host = None
            return self.go_on(cython.address(entry), 0, word)
        except BaseException:
            self.give_up()
            raise
        finally:
            self.store.unlock()

    def discard(self) -> None:
        """End the guest if it still waits. None of its code runs any more."""
        self.store.lock()
        self.give_up()
        self.store.unlock()

    @property
    def waits_for(self) -> str:
        """The name of the host function that the guest waits for, if it does."""
        return "" if self.host is None else self.host.name

    @property
    def arguments(self) -> tuple[object, ...]:
        """What the guest has called the host function with that it waits for; () when it waits for none in bytecode."""
        signature: Signature
        words: cython.pointer(uint64_t)
        i: uint32_t
        found: list = []
        self.store.lock()
        try:
            if self.is_parked and self.host is not None and waiting_of(self.parked) == cython.address(interpreted):
                signature = self.host.signature
                words = cython.cast(
                    cython.pointer(uint64_t), self.parked.current.stack_base + self.parked.current.fp
                )
                for i in range(signature.n_params):
                    found.append(from_word(self.store, signature.types[i], words + signature.places[i]))
            return tuple(found)
        finally:
            self.store.unlock()

    @property
    def frames(self) -> tuple[object, ...]:
        """The frames of the waiting guest, innermost (the host function's) first; () when it doesn't wait."""
        self.store.lock()
        try:
            return backtrace_of_parked(self.store, self.parked, self.host) if self.is_parked else ()
        finally:
            self.store.unlock()

    @property
    def places(self) -> list[GuestFrame]:
        """As `frames`, with what they are frames of."""
        self.store.lock()
        try:
            return frames_of_parked(self.store, self.parked, self.host) if self.is_parked else []
        finally:
            self.store.unlock()

    # --- in and out of the store; the store is locked in all of these ---

    @cython.cfunc
    def start_host(self, words: cython.pointer(uint64_t)) -> object:
        """Begin the call when the function itself is a host function."""
        host: HostFunction = cython.cast(
            HostFunction, cython.cast(cython.pointer(PyObject), self.function.pointer.object)
        )
        if call_from_host(self.store, host, words, True, 0):
            self.host = host
            self.awaitable = self.store.awaited
            self.store.awaited = None
            return True
        try:
            self.result = self.function.finish(words)
        finally:
            self.store.guest.heap.holds -= 1
        return False

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, room: uint64_t) -> cython.int:
        """Make the guest's first stack, with room for so many words."""
        guest: cython.pointer(Guest) = self.store.guest
        root: cython.pointer(WlCont) = take(guest, False)  # the collector doesn't see the arguments yet
        if root == cython.NULL:
            raise self.store.trap(_OUT_OF_MEMORY)
        root.state = CONT_ACTIVE
        root.parent = cython.NULL
        root.first_tag = cython.NULL
        root.last = root
        root.catch_top = 0
        self.parked.root = self.parked.current = root
        try:
            waiting_for(self.store, self.function.pointer).prepare(self.store, self.parked, room)
        except BaseException:
            self.end()
            raise
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def enter(self, entry: cython.pointer(Entry)) -> cython.int:
        """Make the guest's innermost stack the running one."""
        has_waited: cython.bint = self.is_parked
        save(self.store, entry)
        if not c_stack_left():
            raise hooks.too_deep(self.store, cython.cast(uint64_t, entry))
        entry.base = 0
        entry.bottom = self.parked.root
        entry.may_wait = True
        entry.parked = self.parked
        if has_waited:
            self.unpark()
        waiting_of(self.parked).enter(self.store, entry, has_waited)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def go_on(self, entry: cython.pointer(Entry), slots: uint32_t, pending: uint64_t) -> cython.bint:
        """Let the guest go on behind the call of the host function; returns what `left` does."""
        self.call = None  # that one is over
        return self.left(
            entry, waiting_of(self.parked).go_on(self.store, entry, self.function.pointer, slots, pending)
        )

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def left(self, entry: cython.pointer(Entry), code: uint64_t) -> cython.bint:
        """Handle the `code` that the guest has left with. Returns whether it waits or has ended; raises what ended
        it."""
        store: Store = self.store
        ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
        signature: Signature = self.function.signature
        current: cython.pointer(WlCont)
        few = cython.declare(uint64_t[16])  # WORDS_ON_STACK
        words: cython.pointer(uint64_t) = few
        if code == _HOST_WAIT:
            current = cython.cast(cython.pointer(WlCont), ctx.current)
            waiting_of(self.parked).stop(store, self.parked)
            self.host = cython.cast(
                HostFunction,
                cython.cast(
                    cython.pointer(PyObject), cython.cast(cython.pointer(WlFunction), ctx.host_function).object
                ),
            )
            self.awaitable = store.awaited
            store.awaited = None
            restore(store, entry)
            self.parked.current = current
            self.park()
            return True
        cancelled = self.cancelled
        self.cancelled = None
        self.host = None
        try:
            try:
                if code == 0:
                    words = room_for(signature.result_slots, few)
                    memcpy(
                        words,
                        waiting_of(self.parked).results(store, self.parked),
                        SLOT_BYTES * cython.cast(uint64_t, signature.result_slots),
                    )
                    leave(store, entry)
                elif cancelled is not None and code == _UNCAUGHT_EXCEPTION and ctx.exception == store.cancellation:
                    leave(store, entry)
                    raise cancelled
                else:
                    fail(store, code, entry)
            finally:
                self.end()
            self.result = self.function.finish(words)
        finally:
            free_room(words, few)
        return False

    @cython.cfunc
    @cython.exceptval(check=False)
    def park(self) -> cython.void:
        """Put the guest into the store's list of those that wait."""
        guest: cython.pointer(Guest) = self.store.guest
        self.parked.previous = cython.NULL
        self.parked.next = guest.parked
        if guest.parked != cython.NULL:
            guest.parked.previous = self.parked
        guest.parked = self.parked
        self.is_parked = True

    @cython.cfunc
    @cython.exceptval(check=False)
    def unpark(self) -> cython.void:
        """Take the guest out of that list."""
        _unlink(self.store.guest, self.parked)
        self.is_parked = False

    @cython.cfunc
    @cython.exceptval(check=False)
    def end(self) -> cython.void:
        """End the first stack of a guest that has left; it doesn't run any more."""
        _end_root(self.store.guest, self.parked)

    @cython.cfunc
    @cython.exceptval(check=False)
    def give_up(self) -> cython.void:
        """End all stacks of a parked guest."""
        self.awaitable = self.cancelled = self.host = None
        if self.is_parked:
            self.is_parked = False
            _end_all(self.store.guest, self.parked)


seal(GuestTask)


def new_task(function: Func) -> GuestTask:
    """One call of a function that can wait; see `GuestTask`."""
    if not isinstance(function, Func):
        raise TypeError(f"expected a Func, not {type(function).__name__}")
    return GuestTask.__new__(GuestTask, function)


def stacks_in_use(store: Store) -> int:
    """How many of the continuations that a store has allocated are in use (for tests and diagnostics)."""
    store.lock()
    _reap(store.guest)
    store.unlock()
    return statistics(store)["continuations"]


def parked_tasks(store: Store) -> list[GuestTask]:
    """The calls of a store that wait, the one that began to wait last first."""
    found: list = []
    parked: cython.pointer(Parked)
    store.lock()
    _reap(store.guest)
    parked = store.guest.parked
    while parked != cython.NULL:
        found.append(cython.cast(object, cython.cast(cython.pointer(PyObject), parked.owner)))
        parked = parked.next
    store.unlock()
    return found
