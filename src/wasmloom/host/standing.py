# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Stacks of guests that stand still, as data, and what such stacks are built of: for snapshots.

A stack of bytecode is what its frames are (`FrameImage`): the function, the place in the module, and typed values.
Where a frame returns to, its exception records and the shims of tail calls follow from the place
(`CodeSpace.wait_at`), so they are no part of it. Stacks of compiled code can't be read.

Reading changes nothing. Building begins with stacks of the right size and all zero (`new_stack`); then their words are
written, and at last what a stack is (`Waiting`). Invariants: the collector is held from the first `new_stack` on until
the last stack is complete (`Making` does that); who builds has checked that the words are what code at the place
expects. Addresses are numbers here, of this process, and never leave it.
"""

from __future__ import annotations

from array import array
from typing import Any, NamedTuple

import cython
from cython.cimports.cpython import array as carray
from cython.cimports.cpython.object import PyObject
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.wasmloom.contract._handlers import SIZE_ENTER
from cython.cimports.wasmloom.contract._layout import (
    BOUND_SHIFT,
    CONT_ACTIVE,
    CONT_FRESH,
    CONT_SUSPENDED,
    NEXT_REVISION,
    SLOT_BYTES,
    WlCont,
    WlContext,
    WlException,
    WlFunction,
    WlTag,
)
from cython.cimports.wasmloom.host.bridge import Func, func_at, host_of
from cython.cimports.wasmloom.host.continuations import Continuation
from cython.cimports.wasmloom.host.graph import Making, Reading
from cython.cimports.wasmloom.host.signatures import Signature, signature_of
from cython.cimports.wasmloom.host.tags import Reference, Tag, exception_of
from cython.cimports.wasmloom.host.tasks import GuestTask
from cython.cimports.wasmloom.interpreter.frames import CALLER, Below, Cursor, to_caller
from cython.cimports.wasmloom.interpreter.machine import cont_return_code, leave_code
from cython.cimports.wasmloom.runtime.guests import STANDS_AT_LOOP, STANDS_NOWHERE, Entry, Guest, Parked
from cython.cimports.wasmloom.runtime.stacks import (
    bound_of,
    end_stack,
    give_memory,
    last_of,
    new_exception,
    state_of,
    take,
)
from cython.cimports.wasmloom.runtime.store import Store, interpreter_tier
from cython.cimports.wasmloom.system._capi import seal

from wasmloom.contract.layout import CALLED_BY_COMPILED
from wasmloom.contract.traps import OUT_OF_MEMORY
from wasmloom.errors import WasmError
from wasmloom.host.tasks import new_task
from wasmloom.interpreter.code_space import find
from wasmloom.interpreter.frames import offset_of, shims
from wasmloom.runtime.frames import CONSTANT, FrameState
from wasmloom.semantics.kinds import SLOT_BITS, of_type
from wasmloom.spec.canon import func_type
from wasmloom.spec.types import ValType

_CALLED_BY_COMPILED = cython.declare(uint64_t, CALLED_BY_COMPILED)
_OUT_OF_MEMORY = cython.declare(uint64_t, OUT_OF_MEMORY)
_ADDRESS = cython.declare(uint64_t, NEXT_REVISION - 1)
_CALL = "compiled code has no frames that can be read: make the engine with snapshots=True"


class TailImage(NamedTuple):
    """A tail call that has left its instance: the address of the instance, the function, the place in the module."""

    instance: int
    function: int
    offset: int


class FrameImage(NamedTuple):
    """A frame: the address of its instance, the function, and where in the module it stands.

    Locals and operands are pairs of a type and a value: the bits of a number, or what `Reading` makes of a reference.
    `own`: what code keeps for itself. `tails`: the tail calls between it and what it has called, the first one first.
    """

    instance: int
    function: int
    offset: int
    locals: tuple[tuple[ValType, Any], ...]
    operands: tuple[tuple[ValType, Any], ...]
    own: tuple[int, ...]
    tails: tuple[TailImage, ...]


class StackImage(NamedTuple):
    """A stack: its frames, the outermost first; `tails` are below all of them."""

    tails: tuple[TailImage, ...]
    frames: tuple[FrameImage, ...]


class GuestImage(NamedTuple):
    """A guest that has called the host: its stacks, the innermost first; the host function, and its arguments.

    `task`: that of the call, None: a plain call. `host` None: it has been interrupted where a loop or a function
    begins.
    """

    task: Any
    host: Func | None
    args: tuple[tuple[ValType, Any], ...]
    stacks: tuple[StackImage, ...]


class ContinuationImage(NamedTuple):
    """A continuation that hasn't begun (`function`), or its stacks, the innermost first. `bound`: what `cont.bind` has
    put there, of the function, or of the operands that it awaits."""

    function: Func | None
    bound: tuple[tuple[ValType, Any], ...]
    stacks: tuple[StackImage, ...]


# --- reading ---


@cython.cfunc
def _value(told: Reading, type: object, words: cython.pointer(cython.const[uint64_t]), where: str) -> object:
    """The value in some slots: the bits of a number, or what stands for a reference."""
    i: cython.int
    kind = of_type(type)
    if kind.is_reference:
        return told.reference(words[0], type, where)
    bits = 0
    for i in range(kind.slots):
        bits |= cython.cast(object, words[i]) << SLOT_BITS * i
    return bits & ((1 << kind.bits) - 1)  # the upper half of an f32's slot is arbitrary


@cython.cfunc
def _values(
    told: Reading, types: tuple, words: cython.pointer(cython.const[uint64_t]), slots: uint64_t, where: str
) -> tuple:
    """The first values of some types that follow each other, as many as there are in so many slots."""
    at: uint64_t = 0
    found: list = []
    for type in types:
        if at >= slots:
            break
        found.append((type, _value(told, type, words + at, where)))
        at += of_type(type).slots
    return tuple(found)


@cython.final
@cython.no_gc_clear
@cython.cclass
class StackReader:
    """What is known while the stacks of a store are read: the same for all of them. Made by `stack_reader`."""

    store: Store
    told: Reading
    known: dict
    states: dict
    near: object

    def __cinit__(self, store: Store, told: Reading) -> None:
        self.store = store
        self.told = told
        self.known = {}
        self.states = {}
        self.near = None

    @cython.cfunc
    def tails(self, fp: uint64_t, return_ip: uint64_t) -> tuple:
        """The tail calls below a frame, the first one first."""
        found: list = []
        for ip, instance in reversed(shims(fp, return_ip)):
            _, _, function, offset = self.place(ip - 1)
            found.append(TailImage(instance, function, offset))
        return tuple(found)

    @cython.cfunc
    def place(self, ip: uint64_t) -> tuple:
        """The code space, the function (of those defined there, and of the module), and the offset of an address."""
        place = self.known.get(ip)
        if place is None:
            position = find(ip, self.near)
            if position is None:
                raise WasmError("a Continuation.resume of the host is in progress: that isn't part of snapshots")
            self.near = position[0]
            place = self.known[ip] = (
                position[0],
                position[1],
                position[1] + position[0].module.num_imported_funcs,
                offset_of(position, self.known),
            )
        return place

    @cython.cfunc
    def stack(
        self, ip: uint64_t, fp: uint64_t, instance: uint64_t, bound: uint64_t, callee: uint64_t
    ) -> object:
        """A stack from where it stands. Without an instance, `ip` is the return ip of a callee that has no frame, and
        `callee` its instance, 0 of a host function.

        `bound`: so many slots of what the innermost frame awaits are there.
        """
        cursor = cython.declare(Cursor)
        below: Below = CALLER
        tails: tuple = ()
        frames: list = []
        return_ip: uint64_t
        record: uint64_t
        cursor.ip = ip
        cursor.fp = fp
        cursor.instance = instance
        if instance == 0:
            cursor.instance = callee
            tails = self.tails(fp, ip)
            below = to_caller(cython.address(cursor), ip)
        while below == CALLER:
            place = self.place(cursor.ip)
            frames.append(self.frame(place, cursor.fp, cursor.instance, bound, tails))
            bound = 0
            record = place[0].record_slot(place[1])
            return_ip = cython.cast(cython.pointer(uint64_t), cursor.fp)[record]
            tails = self.tails(cursor.fp, return_ip)
            below = to_caller(cython.address(cursor), return_ip)
        return StackImage(tails, tuple(reversed(frames)))

    @cython.cfunc
    def interrupted(self, task: object, entry: cython.pointer(Entry)) -> object:
        """A guest that stands where a loop or a function begins, which the context describes."""
        store: Store = self.store
        ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
        current: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), ctx.current)
        ip: uint64_t = cython.cast(uint64_t, ctx.trap_ip)
        fp: uint64_t = cython.cast(uint64_t, ctx.trap_fp)
        if store.guest.stands == STANDS_AT_LOOP:
            stack = self.going_on(ip, fp, cython.cast(uint64_t, ctx.trap_instance))
        else:
            stack = self.beginning(
                store.guest.stands_before, ip, fp, cython.cast(uint64_t, ctx.trap_instance)
            )
        return GuestImage(task, None, (), self.chain(current, entry.bottom, stack))

    @cython.cfunc
    def going_on(self, ip: uint64_t, fp: uint64_t, instance: uint64_t) -> object:
        """A stack whose innermost frame is about to go on where a loop or its function begins."""
        space, index, at = find(ip, None)
        # The walk finds the place by its address.
        place = (space, index, index + space.module.num_imported_funcs, space.offset_at(index, at))
        before = self.known.get(ip)
        self.known[ip] = place
        stack = self.stack(ip, fp, instance, 0, 0)
        self.known[ip] = before
        return stack

    @cython.cfunc
    def beginning(self, enters: uint64_t, return_ip: uint64_t, fp: uint64_t, instance: uint64_t) -> object:
        """A stack whose innermost function is about to begin: its arguments are there, and nothing else is."""
        words: cython.pointer(uint64_t) = cython.cast(cython.pointer(uint64_t), fp)
        space, index, _ = find(enters, None)
        function = index + space.module.num_imported_funcs
        if self.store.guest.deterministic:
            raise WasmError("a deterministic guest that is about to begin a function isn't part of snapshots")
        offset = space.offset_at(index, SIZE_ENTER)  # a loop's, where one begins at once
        state: FrameState = space.state_at(function, offset)
        params = len(func_type(space.module.func_type_ids[function]).params)
        locals: list = []
        for i, place in enumerate(state.locals):
            zero = None if of_type(place.type).is_reference else 0
            of = f"in function {function}, parameter {i}"
            locals.append((place.type, self.at(words, place, of) if i < params else zero))
        # Operands that are there before a loop, without a single instruction of bytecode, are constants.
        operands: list = []
        for place in state.operands:
            operands.append((place.type, self.at(words, place, f"in function {function}, an operand")))
        below = self.stack(return_ip, fp, 0, 0, instance)
        frame = FrameImage(instance, function, offset, tuple(locals), tuple(operands), (), ())
        return StackImage(below.tails, (*below.frames, frame))

    @cython.cfunc
    def frame(self, where: tuple, fp: uint64_t, instance: uint64_t, bound: uint64_t, tails: tuple) -> object:
        """A frame at a place; see `stack`. `tails`: the tail calls between it and what it has called."""
        words: cython.pointer(uint64_t) = cython.cast(cython.pointer(uint64_t), fp)
        slot: uint64_t
        space, _, function, offset = where
        key = (space, function, offset)
        state: FrameState = self.states.get(key)
        if state is None:
            state = self.states[key] = space.state_at(function, offset)
        of: str = f"in function {function}, a local"
        locals: list = []
        operands: list = []
        own: list = []
        for i, place in enumerate(state.locals):
            locals.append((place.type, None if i in state.unset else self.at(words, place, of)))
        there = len(state.operands) - state.awaited
        of = f"in function {function}, an operand"
        for place in state.operands[:there]:
            operands.append((place.type, self.at(words, place, of)))
        if bound and state.awaited:
            slot = state.operands[there].slot
            types = tuple([place.type for place in state.operands[there:]])
            operands += _values(self.told, types, words + slot, bound, of)
        for slot in state.own:
            own.append(words[slot])
        return FrameImage(instance, function, offset, tuple(locals), tuple(operands), tuple(own), tails)

    @cython.cfunc
    def at(self, words: cython.pointer(uint64_t), place: object, of: str) -> object:
        """The value of a local or an operand."""
        slot: uint64_t
        if place.slot == CONSTANT:
            return None if of_type(place.type).is_reference else place.bits
        if place.slot < 0:
            raise WasmError("a frame holds a value where it can't be read")
        slot = place.slot
        return _value(self.told, place.type, words + slot, of)

    @cython.cfunc
    def chain(
        self, cont: cython.pointer(WlCont), last: cython.pointer(WlCont), first: object
    ) -> tuple:
        """The stacks from one, which is `first`, to the last one that waits for it, the innermost first."""
        found: list = [first]
        while cont != last:
            cont = cython.cast(cython.pointer(WlCont), cont.parent)
            if cont == cython.NULL:
                break
            if cont.control != cython.NULL:
                raise WasmError(_CALL)
            found.append(
                self.stack(
                    cython.cast(uint64_t, cont.ip) - 1,
                    cython.cast(uint64_t, cont.stack_base) + cont.fp,
                    cython.cast(uint64_t, cont.instance),
                    0,
                    0,
                )
            )
        return tuple(found)

    @cython.cfunc
    def calling(
        self,
        task: object,
        function: cython.pointer(WlFunction),
        base: uint64_t,
        ip: uint64_t,
        fp: uint64_t,
        current: cython.pointer(WlCont),
        bottom: cython.pointer(WlCont),
    ) -> object:
        """A guest that has called a host function from a stack whose memory begins at `base`."""
        signature: Signature = host_of(function).signature
        words: cython.pointer(uint64_t) = cython.cast(cython.pointer(uint64_t), base + fp)
        of = f"in a call of {host_of(function).name}, an argument"
        args = _values(self.told, tuple(signature.type.params), words, signature.param_slots, of)
        stack = self.stack(ip, base + fp, 0, 0, 0)
        return GuestImage(task, func_at(self.store, function), args, self.chain(current, bottom, stack))


seal(StackReader)


def stack_reader(store: Store, told: Reading) -> StackReader:
    """What reads the stacks of a store, with what tells references. Use it with the store locked, and then no more."""
    return StackReader.__new__(StackReader, store, told)


def guests_of(reader: StackReader) -> list[GuestImage]:
    """The guests of a store that have called the host: those that wait, the first one first, and the one that runs;
    that one may also have been interrupted.

    Call with the store locked. Raises `WasmError` for what can't be read: entries nested in host functions, compiled
    code, calls that have been cancelled.
    """
    store: Store = reader.store
    guest: cython.pointer(Guest) = store.guest
    ctx: cython.pointer(WlContext) = cython.address(guest.ctx)
    parked: cython.pointer(Parked) = guest.parked
    entry: cython.pointer(Entry) = guest.entry
    task: GuestTask
    before: cython.bint = store.interrupting
    owner: object = None
    found: list = []
    if before and guest.stands == STANDS_NOWHERE:
        raise WasmError("a signal handler or finaliser can't take a snapshot of the store whose guest it interrupted")
    store.interrupting = True  # nothing may enter the guest meanwhile: its stacks could move
    try:
        while parked != cython.NULL:
            if parked.owner != cython.NULL:
                task = cython.cast(GuestTask, cython.cast(cython.pointer(PyObject), parked.owner))
                if task.cancelled is not None:
                    raise WasmError("a call that has been cancelled and waits all the same isn't part of snapshots")
                if parked.native_stack != cython.NULL or parked.beside != cython.NULL:
                    raise WasmError(_CALL)
                if task.host is None:
                    stack = reader.going_on(
                        cython.cast(uint64_t, parked.current.ip),
                        cython.cast(uint64_t, parked.current.stack_base) + parked.current.fp,
                        cython.cast(uint64_t, parked.current.instance),
                    )
                    found.append(GuestImage(task, None, (), reader.chain(parked.current, parked.root, stack)))
                    parked = parked.next
                    continue
                found.append(
                    reader.calling(
                        task,
                        cython.cast(cython.pointer(WlFunction), parked.current.function),
                        cython.cast(uint64_t, parked.current.stack_base),
                        cython.cast(uint64_t, parked.current.ip),
                        parked.current.fp,
                        parked.current,
                        parked.root,
                    )
                )
            parked = parked.next
        found.reverse()
        if entry != cython.NULL:
            if entry.outer != cython.NULL:
                raise WasmError("calls of guests that are nested in host functions aren't part of snapshots")
            if entry.native_stack != cython.NULL or entry.beside != cython.NULL:
                raise WasmError(_CALL)
            if entry.may_wait:
                owner = cython.cast(object, cython.cast(cython.pointer(PyObject), entry.parked.owner))
            if guest.stands != STANDS_NOWHERE:
                found.append(reader.interrupted(owner, entry))
                return found
            if ctx.host_function == cython.NULL:
                raise WasmError("a guest that runs can only be part of a snapshot while it calls a host function")
            found.append(
                reader.calling(
                    owner,
                    cython.cast(cython.pointer(WlFunction), ctx.host_function),
                    cython.cast(uint64_t, ctx.stack_base),
                    cython.cast(uint64_t, ctx.host_ip),
                    ctx.host_fp,
                    cython.cast(cython.pointer(WlCont), ctx.current),
                    entry.bottom,
                )
            )
        return found
    finally:
        store.interrupting = before


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _cont_of(word: uint64_t) -> cython.pointer(WlCont):
    return cython.cast(cython.pointer(WlCont), word & _ADDRESS)


def word_of(value: object) -> int:
    """What tells continuations and exceptions of a guest apart: the word of a reference.

    0 for what the guest doesn't have: a continuation that has been consumed, an exception that Python has made.
    """
    reference: object
    if isinstance(value, Continuation):
        return cython.cast(Continuation, value).reference.pin.word if value.alive else 0
    reference = getattr(value, "reference", None)
    return cython.cast(Reference, reference).pin.word if isinstance(reference, Reference) else 0


def continuation_image(value: Continuation, reader: StackReader, where: str) -> ContinuationImage:
    """What a continuation is that is alive. Call with the store locked.

    Raises `WasmError` for one of compiled code.
    """
    store: Store = value.reference._store
    cont: cython.pointer(WlCont) = _cont_of(value.reference.pin.word)
    signature: Signature
    function: Func
    before: cython.bint = store.interrupting
    store.interrupting = True
    try:
        if cont.control != cython.NULL:
            raise WasmError(_CALL)
        if state_of(cont) == CONT_FRESH:
            function = func_at(store, cython.cast(cython.pointer(WlFunction), cont.function))
            signature = function.signature
            words = cython.cast(cython.pointer(uint64_t), cont.stack_base)
            return ContinuationImage(
                function, _values(reader.told, tuple(signature.type.params), words, bound_of(cont), where), ()
            )
        stack = reader.stack(
            cython.cast(uint64_t, cont.ip) - 1,
            cython.cast(uint64_t, cont.stack_base) + cont.fp,
            cython.cast(uint64_t, cont.instance),
            bound_of(cont),
            0,
        )
        return ContinuationImage(None, (), reader.chain(cont, last_of(cont), stack))
    finally:
        store.interrupting = before


def exception_image(error: object, told: Reading, where: str) -> tuple[int, tuple[tuple[ValType, Any], ...]]:
    """The address of the tag, and the values, of an exception that a guest has made. Call with the store locked."""
    reference: Reference = error.reference
    exception: cython.pointer(WlException) = cython.cast(cython.pointer(WlException), reference.pin.word)
    signature: Signature = signature_of(cython.cast(cython.pointer(WlTag), exception.tag).type_id)
    words: cython.pointer(uint64_t) = cython.cast(cython.pointer(uint64_t), exception + 1)
    values = _values(told, tuple(signature.type.params), words, signature.param_slots, where)
    return cython.cast(uint64_t, exception.tag), values


# --- building ---


def stands_between(store: Store) -> bool:
    """Whether a guest has been interrupted: then the collector doesn't see what its innermost frame holds."""
    return store.guest.stands != STANDS_NOWHERE


def set_branch(store: Store, branch: str) -> None:
    """Say what tells a store apart from the others that are copies of the same one."""
    store.branch = branch


def runs_bytecode(store: Store) -> bool:
    """Whether guests of a store go on as bytecode."""
    return store.tier == cython.address(interpreter_tier)


def return_codes() -> tuple[int, int]:
    """What the outermost function of a call returns to, and that of a continuation."""
    leave: uint64_t = cython.cast(uint64_t, leave_code + SLOT_BYTES)
    return leave, cython.cast(uint64_t, cont_return_code + 1)


def new_stack(store: Store, slots: int) -> int:
    """A stack with room for so many slots, all zero: its address. Raises `Trap` without memory."""
    size: uint64_t = SLOT_BYTES * cython.cast(uint64_t, slots)
    cont: cython.pointer(WlCont) = take(store.guest, False)
    if cont == cython.NULL:
        raise store.trap(_OUT_OF_MEMORY)
    if not give_memory(store.guest, cont, size):
        end_stack(store.guest, cont)
        raise store.trap(_OUT_OF_MEMORY)
    memset(cont.stack_base, 0, cont.stack_end - cont.stack_base)
    cont.state = CONT_ACTIVE
    cont.parent = cont.resume = cont.resumer = cont.first_tag = cont.last = cont.function = cython.NULL
    cont.fp = cont.values = cont.catch_top = 0
    return cython.cast(uint64_t, cont)


def words_for(making: Making, type: ValType, value: object) -> list[int]:
    """The words of a value: of the bits of a number, or of what stands for a reference.

    Raises `ValueError` for bits that the type doesn't have, and for references what `Making.word` does.
    """
    word: uint64_t = 0
    i: cython.int
    found: list = []
    kind = of_type(type)
    if kind.is_reference:
        making.word(value, type, cython.address(word))
        return [word]
    if not isinstance(value, int) or not 0 <= value < 1 << kind.bits:
        raise ValueError(f"no value of the type {type}")
    for i in range(kind.slots):
        found.append(value >> SLOT_BITS * i & ((1 << SLOT_BITS) - 1))
    return found


def write_words(address: int, at: int, words: list[int]) -> None:
    """Write words to a stack, from a slot on. Raises `IndexError` beyond its end."""
    cont: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), cython.cast(uint64_t, address))
    packed: carray.array = array("Q", words)
    room: uint64_t = (cont.stack_end - cont.stack_base) // SLOT_BYTES
    first: uint64_t = at
    count: uint64_t = len(words)
    if first > room or count > room - first:
        raise IndexError("beyond the end of the stack")
    memcpy(cont.stack_base + SLOT_BYTES * first, packed.data.as_voidptr, SLOT_BYTES * count)


class Waiting(NamedTuple):
    """How a stack waits: where it goes on (`ip`, the slot of the frame, the address of the instance), the slot of its
    innermost exception record (0: none), and where values arrive, as a slot of the frame."""

    ip: int
    frame: int
    instance: int
    record: int
    values: int


def set_waiting(address: int, how: Waiting) -> None:
    """Say how a stack waits."""
    cont: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), cython.cast(uint64_t, address))
    cont.ip = cython.cast(cython.p_char, cython.cast(uint64_t, how.ip))
    cont.fp = SLOT_BYTES * cython.cast(uint64_t, how.frame)
    cont.instance = cython.cast(cython.p_void, cython.cast(uint64_t, how.instance))
    cont.catch_top = SLOT_BYTES * cython.cast(uint64_t, how.record)
    cont.values = how.values


def link(child: int, parent: int, resume: int) -> None:
    """Say that a stack waits for another one, which it has resumed by the instruction at an address."""
    cont: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), cython.cast(uint64_t, child))
    cont.parent = cython.cast(cython.p_void, cython.cast(uint64_t, parent))
    cont.resume = cython.cast(cython.p_char, cython.cast(uint64_t, resume))


def suspend(first: int, last: int, bound: int) -> None:
    """Make stacks that have been linked a suspended continuation, to which so many slots have been bound."""
    cont: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), cython.cast(uint64_t, first))
    slots: uint64_t = bound
    cont.state = CONT_SUSPENDED | slots << BOUND_SHIFT
    cont.last = cython.cast(cython.p_void, cython.cast(uint64_t, last))


def begin_with(address: int, function: Func, bound: int) -> None:
    """Make a stack a continuation that will run a function, to which so many slots have been bound."""
    cont: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), cython.cast(uint64_t, address))
    slots: uint64_t = bound
    cont.state = CONT_FRESH | slots << BOUND_SHIFT
    cont.function = function.pointer
    cont.instance = function.pointer.instance


def consume(value: Continuation) -> None:
    """Make a continuation whose stack `new_stack` has made one that has been consumed: references to it stay."""
    store: Store = value.reference._store
    cont: cython.pointer(WlCont) = _cont_of(value.reference.pin.word)
    cont.reference += NEXT_REVISION
    value.reference.pin.word = 0
    end_stack(store.guest, cont)


def new_exception_of(tag: Tag) -> object:
    """An exception with a tag whose values aren't there yet: see `fill_exception`."""
    store: Store = tag._store
    signature: Signature = signature_of(tag.pointer.type_id)
    exception: cython.pointer(WlException) = new_exception(store.guest, signature.param_slots)
    if exception == cython.NULL:
        raise store.trap(_OUT_OF_MEMORY)
    memset(exception + 1, 0, SLOT_BYTES * cython.cast(uint64_t, signature.param_slots))
    exception.tag = tag.pointer
    return exception_of(store, cython.cast(uint64_t, exception))


def fill_exception(error: object, words: list[int]) -> None:
    """Give an exception its values. Raises `ValueError` for another number of words than its tag says."""
    reference: Reference = error.reference
    exception: cython.pointer(WlException) = cython.cast(cython.pointer(WlException), reference.pin.word)
    signature: Signature = signature_of(cython.cast(cython.pointer(WlTag), exception.tag).type_id)
    packed: carray.array = array("Q", words)
    count: uint32_t = len(words)
    if count != signature.param_slots:
        raise ValueError("not the values of the exception's tag")
    memcpy(exception + 1, packed.data.as_voidptr, SLOT_BYTES * cython.cast(uint64_t, count))


def waiting_task(function: Func, host: Func | None, root: int, current: int, used: int) -> object:
    """The task of a call that waits for a host function, or (None) for nothing, on stacks that are complete; call with
    the store locked.

    `used`: slots of the innermost stack that are in use. Raises `TypeError` unless the one is a guest's function, and
    the other one the host's.
    """
    task: GuestTask
    cont: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), cython.cast(uint64_t, current))
    first: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), cython.cast(uint64_t, root))
    if function.pointer.instance == cython.NULL or (host is not None and host.pointer.instance != cython.NULL):
        raise TypeError("a call that waits is of a guest's function, for one of the host")
    task = new_task(function)
    cont.values = SLOT_BYTES * cython.cast(uint64_t, used)
    first.last = first
    task.result = None
    if host is not None:
        cont.function = host.pointer
        task.host = host_of(host.pointer)
    task.parked.root = first
    task.parked.current = cont
    task.park()
    return task
