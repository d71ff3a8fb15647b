# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Continuations in Python: resumed, handled and iterated over by the host (stack-switching proposal).

```python
generator = instance.exports.start()                # returns a (ref $k): a Continuation
outcome = generator.resume(on=tag)                  # Suspension(tag, payload, continuation), or what it returned
total = generator.resume(on={tag: handler})         # handler(*payload) answers every suspension with tag
for value in wl.resume_iter(generator, tag): ...    # what it suspends with
```

The host becomes the parent of a continuation by way of a `Driver`: a frame of bytecode that consists of one `resume`
with a clause for every tag. So the guest's rules hold: clauses are searched from the innermost stack to the entry from
the host, and nothing can suspend across that.

Slots of the driver's frame: 0 the outcome (position of the tag, or how many there are when the continuation has
returned), 1 the continuation, from 2 on what goes in and what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from typing import Any, NamedTuple

import cython
from cython.cimports.cpython.sequence import PySequence_Fast_ITEMS
from cython.cimports.libc.stdint import int64_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy
from cython.cimports.wasmloom.contract import _handlers as h
from cython.cimports.wasmloom.contract._layout import NEXT_REVISION, SLOT_BYTES, WlCont, WlContext, WlInstance
from cython.cimports.wasmloom.host.bridge import results_of, take_arguments
from cython.cimports.wasmloom.host.conversions import from_word, set_conversion
from cython.cimports.wasmloom.host.signatures import KIND_CONT, Signature, signature_of
from cython.cimports.wasmloom.host.tags import Reference, Tag, hold, word_of_exception
from cython.cimports.wasmloom.interpreter.assembler import put16, put32, put64
from cython.cimports.wasmloom.interpreter.machine import handlers, sizes
from cython.cimports.wasmloom.runtime.entries import begin, call_bytecode, count_call, fail, leave
from cython.cimports.wasmloom.runtime.guests import Entry
from cython.cimports.wasmloom.runtime.hooks import stubs
from cython.cimports.wasmloom.runtime.native_stacks import prepare_resume, runs_compiled
from cython.cimports.wasmloom.runtime.store import Start, Store, compiler_tier
from cython.cimports.wasmloom.spec.canon import Types, new_types
from cython.cimports.wasmloom.system._capi import seal
from cython.cimports.wasmloom.system.allocation import calloc

from wasmloom.contract.traps import CONTINUATION_CONSUMED, TRAP_REASONS
from wasmloom.errors import Trap, WasmException
from wasmloom.spec.canon import composite_matches, func_type, intern_func_type, lasting, sub_type
from wasmloom.spec.types import ABSTRACT_HEAP_TYPES, CONCRETE, HEAP_SHIFT, FuncType, ValType

_OUTCOME = cython.declare(cython.int, 0)
_CONT = cython.declare(cython.int, 1)
_VALUES = cython.declare(cython.int, 2)
_ANY_CONT = ABSTRACT_HEAP_TYPES["cont"]
#: A store keeps this many drivers to use them again.
_MAX_DRIVERS = 64
#: A `resume` instruction of bytecode counts its clauses in 16 bits.
_MAX_TAGS = 0xFFFF


# Set by wasmloom.host.instance, which needs this module.
_resume_async = cython.declare(object, None)


def set_resume_async(function: Callable[..., Coroutine[object, object, object]]) -> None:
    """Register what resumes a continuation that can wait."""
    global _resume_async
    _resume_async = function


class Suspension(NamedTuple):
    """A continuation has suspended: the tag, the values that came with it, and the continuation of the rest."""

    tag: Any
    payload: tuple[Any, ...]
    continuation: Any


@cython.no_gc_clear
@cython.cclass
class Driver:
    """The bytecode with which the host resumes continuations of a signature, handling some tags."""

    def __cinit__(self, signature: Signature, throws: bool, tags: tuple) -> None:
        k: cython.int
        count: cython.int = len(tags)
        stub: cython.int = h.AT_RESUME_CLAUSES + h.SIZE_CLAUSE * count
        stub_size: cython.int = sizes[h.H_CONST] + sizes[h.H_LEAVE]
        clause: cython.p_char
        tag: Tag
        type: object = signature.type
        slots: cython.size_t = cython.sizeof(WlInstance)
        self.code = cython.cast(cython.p_char, calloc(1, stub + (count + 1) * stub_size))
        self.instance = cython.cast(cython.pointer(WlInstance), calloc(1, slots + count * cython.sizeof(cython.p_void)))
        if self.code == cython.NULL or self.instance == cython.NULL:
            raise MemoryError
        # Compiled code always passes a first value in a register, so there is always a place for it.
        self.room = _VALUES + max(signature.param_slots, signature.result_slots, 1)
        self.clauses = cython.cast(cython.pointer(uint32_t), calloc(2 * (max(count, 1) + 1), cython.sizeof(uint32_t)))
        if self.clauses == cython.NULL:
            raise MemoryError
        cython.cast(cython.pointer(uint64_t), self.clauses)[0] = count
        self.signatures = []
        self.kept = new_types()
        self.kept.keep(signature.type_id)
        cython.cast(cython.pointer(cython.p_void), self.code)[0] = handlers[h.H_RESUME_THROW if throws else h.H_RESUME]
        put16(self.code + h.AT_RESUME_CONT, _CONT)
        put16(self.code + h.AT_RESUME_VALUES, _VALUES)
        put16(self.code + h.AT_RESUME_COUNT, 0 if throws else signature.param_slots)
        put16(self.code + h.AT_RESUME_CLAUSE_COUNT, count)
        put16(self.code + h.AT_RESUME_RESULTS, signature.result_slots)
        put32(self.code + h.AT_RESUME_NEXT, stub + count * stub_size)
        for k in range(count):
            tag = tags[k]
            cython.cast(cython.pointer(cython.p_void), self.instance + 1)[k] = tag.pointer
            clause = self.code + h.AT_RESUME_CLAUSES + h.SIZE_CLAUSE * k
            put32(clause + h.AT_CLAUSE_TAG, slots + k * cython.sizeof(cython.p_void))
            put16(clause + h.AT_CLAUSE_VALUES, _VALUES)
            put32(clause + h.AT_CLAUSE_TARGET, stub + k * stub_size)
            self.clauses[2 * (k + 1)] = slots + k * cython.sizeof(cython.p_void)
            self.room = max(self.room, _VALUES + signature_of(tag.pointer.type_id).param_slots + 1)
            self.signatures.append(signature_of(intern_func_type(FuncType(tag.type.results, type.results), self.kept)))
        for k in range(count + 1):
            clause = self.code + stub + k * stub_size
            cython.cast(cython.pointer(cython.p_void), clause)[0] = handlers[h.H_CONST]
            put16(clause + h.AT_DST, _OUTCOME)
            put64(clause + h.AT_CONST_VALUE_IMM64, k)
            cython.cast(cython.pointer(cython.p_void), clause + sizes[h.H_CONST])[0] = handlers[h.H_LEAVE]

    def __dealloc__(self) -> None:
        free(self.code)
        free(self.clauses)
        free(self.instance)


seal(Driver)


@cython.cfunc
def _driver(store: Store, signature: Signature, throws: cython.bint, tags: tuple) -> Driver:
    """A driver, new or used before. Call with the store locked.

    The store keeps drivers, so neither they nor their keys may refer to it.
    """
    driver: Driver
    addresses: list = []
    if len(tags) > _MAX_TAGS:
        raise ValueError(f"a continuation is resumed with at most {_MAX_TAGS} tags, not {len(tags)}")
    for tag in tags:
        if not isinstance(tag, Tag):
            raise TypeError(f"a continuation's handlers are for tags, not for {tag!r:.60}")
        if cython.cast(Tag, tag)._store is not store:
            raise ValueError(f"{tag!r} belongs to another store")
        addresses.append(cython.cast(uint64_t, cython.cast(Tag, tag).pointer))
    key: object = (signature.type_id, throws, tuple(addresses))
    driver = store.drivers.get(key)
    if driver is None:
        driver = Driver.__new__(Driver, signature, throws, tags)
        if len(store.drivers) >= _MAX_DRIVERS:
            store.drivers.clear()
        store.drivers[key] = driver
    return driver


@cython.no_gc_clear
@cython.cclass
class Continuation:
    """A suspended computation of the guest, or one that hasn't begun. It can be resumed once.

    It comes out of the guest as a value of a type such as ``(ref $k)``, out of `resume` as part of a `Suspension`,
    and can be passed to the guest as an argument or result. The guest may resume it, too. One that is never
    resumed goes, with its stacks, when nothing refers to it.
    """

    @property
    def type(self) -> FuncType | None:
        """What it takes and what it returns; None when the guest gave it as a plain ``contref``."""
        return None if self.signature is None else lasting(self.signature.type)

    @property
    def store(self) -> Store:
        """The store that the continuation belongs to."""
        return self.reference.store

    @property
    def alive(self) -> bool:
        """Whether it can still be resumed: neither the host nor the guest has done so."""
        word: uint64_t = self.reference.pin.word
        return word != 0 and _cont_of(word).reference == word

    def resume(
        self, *args: object, on: Tag | Iterable[Tag] | Mapping[Tag, Callable[..., object]] = ()
    ) -> object | Suspension:
        """Run it, with `args`, until it returns or suspends.

        `on` is a tag or several: when the continuation suspends with one of them, the result is a `Suspension`. Or `on`
        maps tags to functions. Each is called with the payload; what it returns becomes the results of the guest's
        `suspend`, and so on until the continuation returns. A `WasmException` that the function raises is thrown in the
        guest where it has suspended. When the continuation returns, the result is what a call would return.

        Raises what a call raises, `Trap` for a continuation that is not `alive` any more and for a suspension with
        another tag, and `TypeError` when its type isn't known.
        """
        if isinstance(on, Mapping):
            return _handle(self.drive(False, args, tuple(on)), on)
        return self.drive(False, args, tags_of(on))

    def throw(
        self, error: WasmException, *, on: Tag | Iterable[Tag] | Mapping[Tag, Callable[..., object]] = ()
    ) -> object | Suspension:
        """As `resume`, but throw `error` in it where it has suspended. If it doesn't catch the error, this raises
        it."""
        if isinstance(on, Mapping):
            return _handle(self.drive(True, (error,), tuple(on)), on)
        return self.drive(True, (error,), tags_of(on))

    def resume_async(
        self, *args: object, on: Tag | Iterable[Tag] | Mapping[Tag, Callable[..., object]] = ()
    ) -> Coroutine[object, object, object]:
        """As `resume`, but so that the guest can wait: ``await k.resume_async(1, on=tag)``.

        Host functions that it calls may return awaitables, as in `Func.call_async`; so may the functions that `on` maps
        tags to. The continuation can be one that a call, a plain one or not, has returned. For each type of
        continuation and choice of tags, a store has a small instance from then on.
        """
        return _resume_async(self, False, args, on)

    def throw_async(
        self, error: WasmException, *, on: Tag | Iterable[Tag] | Mapping[Tag, Callable[..., object]] = ()
    ) -> Coroutine[object, object, object]:
        """As `throw`, but so that the guest can wait."""
        return _resume_async(self, True, (error,), on)

    @cython.cfunc
    def drive(self, throws: cython.bint, args: tuple, tags: tuple) -> object:
        """Resume with `args`, or throw what `args` is. Returns a `Suspension`, or the results."""
        signature: Signature = self.signature
        reference: Reference = self.reference
        store: Store = reference._store
        driver: Driver
        words: cython.pointer(uint64_t) = cython.NULL
        word: uint64_t
        ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
        depth: int64_t = store.guest.depth
        left: int64_t = ctx.depth_left
        if signature is None:
            raise TypeError("the guest passed this continuation as a plain contref: its type isn't known")
        if throws:
            if not isinstance(args[0], WasmException):
                raise TypeError(f"throw takes a WasmException, not {args[0]!r:.60}")
        elif len(args) != signature.n_params:
            raise TypeError(f"the continuation takes {signature.n_params} arguments {signature.type}, not {len(args)}")
        store.lock()
        try:
            driver = _driver(store, signature, throws, tags)
            words = cython.cast(cython.pointer(uint64_t), calloc(driver.room, 8))
            if words == cython.NULL:
                raise MemoryError
            if store.calls_left and store.guest.entry == cython.NULL:
                count_call(store)
            if not throws:
                take_arguments(store, signature, PySequence_Fast_ITEMS(args), 0, words + _VALUES, None)
            word = reference.pin.word
            if word == 0 or _cont_of(word).reference != word:
                raise Trap(TRAP_REASONS[CONTINUATION_CONSUMED])
            words[_CONT] = word
            if throws:  # no Python code runs from here on: it could change the context's exception
                store.guest.ctx.exception = word_of_exception(store, args[0])
            if store.guest.deterministic:  # a stack that begins has no more than it would have in the guest
                store.guest.depth = min(depth, ctx.depth_of_stack)
                ctx.depth_left = min(left, ctx.depth_of_stack)
            try:
                if store.tier == cython.address(compiler_tier) or runs_compiled(_cont_of(word)):
                    _run_compiled(store, signature, driver, throws, tags, words)
                else:
                    call_bytecode(store, driver.instance, driver.code, words, driver.room, driver.room)
            finally:
                store.guest.depth = depth
                ctx.depth_left = left
                if _cont_of(word).reference != word:
                    reference.pin.word = 0
            return _outcome(store, signature, driver, tags, words)
        finally:
            store.unlock()
            free(words)

    def __repr__(self) -> str:
        type = "of unknown type" if self.signature is None else str(self.signature.type)
        return f"<wasmloom.Continuation {type}{'' if self.alive else ', consumed'}>"


seal(Continuation)


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _cont_of(word: uint64_t) -> cython.pointer(WlCont):
    return cython.cast(cython.pointer(WlCont), word & (NEXT_REVISION - 1))


@cython.cfunc
@cython.exceptval(-1, check=False)
def _run_compiled(
    store: Store,
    signature: Signature,
    driver: Driver,
    throws: cython.bint,
    tags: tuple,
    words: cython.pointer(uint64_t),
) -> cython.int:
    """Resume a continuation of compiled code. Leaves the driver's frame as the bytecode would."""
    ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
    entry = cython.declare(Entry)
    start = cython.declare(Start)
    passed = cython.declare(uint64_t[4])
    args: cython.pointer(uint64_t)
    code: uint64_t
    reason: uint64_t
    count: uint64_t = 0 if throws else signature.param_slots
    tag: Tag
    begin(store, cython.address(entry), cython.address(compiler_tier), 0)
    args = cython.cast(cython.pointer(uint64_t), ctx.args)
    if throws:
        ctx.pending = ctx.exception
    memcpy(args, words + _VALUES, SLOT_BYTES * count)
    passed[0] = words[_CONT]
    passed[1] = words[_VALUES]
    passed[2] = cython.cast(uint64_t, driver.instance)
    code = prepare_resume(ctx, passed, count, cython.cast(cython.p_char, driver.clauses))
    if code:
        ctx.pending = 0
        leave(store, cython.address(entry))
        raise store.trap(code)
    passed[2] = passed[0]
    passed[0] = passed[1]
    start.code = cython.cast(cython.p_char, stubs.drive)
    start.function = ctx
    start.environment = cython.cast(cython.p_void, passed[2])
    start.words = passed
    start.top = entry.native_stack
    code = compiler_tier.run(store, cython.address(entry), cython.address(start))
    if code:
        return fail(store, code, cython.address(entry))
    reason = passed[0]
    if reason == 0:
        words[_OUTCOME] = len(tags)
        count = signature.result_slots
    else:
        tag = tags[reason - 1]
        words[_OUTCOME] = reason - 1
        count = signature_of(tag.pointer.type_id).param_slots
    memcpy(words + _VALUES, args, SLOT_BYTES * count)
    words[_VALUES] = passed[1]
    if reason:
        words[_VALUES + count] = passed[2]
    leave(store, cython.address(entry))
    return 0


@cython.cfunc
def _outcome(
    store: Store, signature: Signature, driver: Driver, tags: tuple, words: cython.pointer(uint64_t)
) -> object:
    """The outcome of a resumption, from the driver's frame."""
    which: cython.size_t = words[_OUTCOME]
    tag: Tag
    given: Signature
    rest: Continuation
    if which == cython.cast(cython.size_t, len(tags)):
        return results_of(store, signature, words + _VALUES)
    tag = tags[which]
    given = signature_of(tag.pointer.type_id)
    store.guest.heap.holds += 1
    try:
        rest = Continuation.__new__(Continuation)
        rest.reference = hold(store, words[_VALUES + given.param_slots])
        rest.signature = driver.signatures[which]
        rest.kept = driver.kept
        payload = tuple(
            [from_word(store, given.types[i], words + (_VALUES + given.places[i])) for i in range(given.n_params)]
        )
    finally:
        store.guest.heap.holds -= 1
    return Suspension(tag, payload, rest)


def tags_of(on: object) -> tuple[Tag, ...]:
    """A tag, or several, as a tuple. Raises `TypeError`."""
    if isinstance(on, Tag):
        return (on,)
    if not isinstance(on, Iterable):
        raise TypeError(f"on is a tag, tags, or a dict from tags to handlers, not {type(on).__name__}")
    return tuple(on)


def answer(count: int, value: object) -> tuple:
    """What a handler returned, as the results of the guest's `suspend`."""
    if count == 1:
        return (value,)
    if count == 0:
        if value is not None:
            raise TypeError(f"the tag has no results, but its handler returned {value!r:.60}")
        return ()
    if not isinstance(value, (tuple, list)) or len(value) != count:
        raise TypeError(f"the tag's handler must return a tuple of {count} values, not {value!r:.60}")
    return tuple(value)


def _handle(outcome: object, on: Mapping[Tag, Callable[..., object]]) -> object:
    """Answer suspensions until the continuation returns."""
    tags = tuple(on)
    rest: Continuation
    while isinstance(outcome, Suspension):
        rest = outcome.continuation
        try:
            value = on[outcome.tag](*outcome.payload)
        except WasmException as error:
            outcome = rest.drive(True, (error,), tags)
        else:
            outcome = rest.drive(False, answer(rest.signature.n_params, value), tags)
    return outcome


def resume_iter(continuation: Continuation, tag: Tag, *args: object) -> Generator[Any, Any, Any]:
    """Iterate over what a continuation suspends with, as a Python generator.

    It begins with `args`. Each suspension with `tag` yields the payload: a value, a tuple, or None. ``send(value)``
    passes the tag's results to the guest (a tuple when there are several; a plain `for` passes none, or null).
    ``throw(WasmException(…))`` throws in the guest where it has suspended. What the continuation returns is the
    generator's return value. Raises what `Continuation.resume` raises.
    """
    tags = (tag,)
    rest: Continuation = continuation
    outcome = rest.drive(False, args, tags)
    while isinstance(outcome, Suspension):
        rest = outcome.continuation
        payload = outcome.payload
        outcome = None
        try:
            sent = yield payload[0] if len(payload) == 1 else payload or None
        except WasmException as error:
            outcome = rest.drive(True, (error,), tags)
        else:
            outcome = rest.drive(False, answer(rest.signature.n_params, sent), tags)
    return outcome


def continuation_at(store: Store, address: int, type: FuncType) -> Continuation:
    """The object of the continuation at an address, which takes and returns what a type, made of canonical ones, says.

    For snapshots, which know that; with the store locked.
    """
    made: Continuation = Continuation.__new__(Continuation)
    keeper: Types = new_types()
    made.signature = signature_of(intern_func_type(type, keeper))
    made.kept = keeper
    made.reference = hold(store, cython.cast(cython.pointer(WlCont), cython.cast(uint64_t, address)).reference)
    return made


@cython.cfunc
def _continuation_object(store: Store, type: uint64_t, word: cython.pointer(cython.const[uint64_t])) -> object:
    """The `Continuation` for a reference that isn't null; with the store locked."""
    made: Continuation = Continuation.__new__(Continuation)
    made.reference = hold(store, word[0])
    if type >> HEAP_SHIFT >= CONCRETE:
        made.signature = signature_of(sub_type((type >> HEAP_SHIFT) - CONCRETE).composite.func - CONCRETE)
    return made


@cython.cfunc
@cython.exceptval(-1, check=False)
def _continuation_word(store: Store, type: uint64_t, value: object, word: cython.pointer(uint64_t)) -> cython.int:
    """The reference that a `Continuation` is.

    Continuation types are compared by what they take and return, as the labels of handlers are. Raises `TypeError`, and
    `ValueError` for a continuation of another store or one that has been consumed.
    """
    cont: Continuation
    if not isinstance(value, Continuation):
        raise TypeError(f"{ValType(type)} takes a wasmloom.Continuation, not {value!r:.60}")
    cont = value
    if cont.reference._store is not store:
        raise ValueError(f"{value!r} belongs to another store")
    if type >> HEAP_SHIFT >= CONCRETE:
        wanted = sub_type((type >> HEAP_SHIFT) - CONCRETE).composite.func - CONCRETE
        if cont.signature is None or not composite_matches(cont.signature.type_id, wanted):
            raise TypeError(f"{value!r} is not a {ValType(type)}, which is a continuation {func_type(wanted)}")
    elif type >> HEAP_SHIFT != _ANY_CONT:
        raise TypeError(f"{ValType(type)} takes only None from Python")
    if not cont.alive:
        raise ValueError(f"{value!r} can't be passed on")
    word[0] = cont.reference.pin.word
    return 0


set_conversion(KIND_CONT, _continuation_word, _continuation_object)
