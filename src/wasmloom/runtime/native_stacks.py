# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Native stacks, which compiled code runs on: their memory, entries on them, and the runtime calls about them.

Every entry from the host into compiled code has a stack of its own, as large as the store's ``stack_limit``; every
continuation that has begun has a small one. Calls that can wait keep theirs while they wait (`wasmloom.host.tasks`).
Stacks are reserved address space, and only touched pages take memory: a suspended continuation mostly costs the page
with its innermost frames. There are no guard pages. Functions compare the stack pointer with the stack's limit exactly
(`STACK_CHECK` in `wasmloom.target.backend`), and below the limit there is room for a signal handler's frame
(`SIGNAL_RESERVE`).

The same comparison counts memory. A stack's limit begins a page below its top. When a function needs more, the limit
moves down towards the stack's floor, and the difference is charged. It never moves up: a stack in the pool keeps the
pages that it has touched.

The stacks of continuations lie one behind the other in large regions. The tops of all stacks are staggered, so the
innermost frames of many don't compete for the same lines of the processor's caches.

Invariants:

* A stack is in exactly one place: running or suspended (its continuation's ``control`` points to it), or in the pool.
* Root stacks are taken and released with the GIL held, and, unlike all else here, not only by the store's owner.
* ``control`` of a stack's `WlCont` is where the stack begins, both for roots and for continuations.
* While the guest is in a host call, ``guest_sp`` is where its running stack ends, callee-saved registers included:
  the collector finds every reference between there and the top.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy
from cython.cimports.posix.mman import (
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    PROT_READ,
    PROT_WRITE,
    munmap,
)
from cython.cimports.wasmloom.contract._layout import (
    BOUND_SHIFT,
    CONT_ACTIVE,
    CONT_FRESH,
    CONT_SUSPENDED,
    NEXT_REVISION,
    ON_LABEL,
    ON_SWITCH,
    RT_LIBCALL_RESUME,
    RT_LIBCALL_SUSPEND,
    RT_LIBCALL_SWITCH,
    RT_NATIVE_BEGIN,
    RT_NATIVE_BIND,
    RT_NATIVE_GROW,
    RT_NATIVE_RENEW,
    SLOT_BYTES,
    WlCont,
    WlContext,
    WlControl,
    WlFunction,
)
from cython.cimports.wasmloom.runtime.codememory import in_code
from cython.cimports.wasmloom.runtime.faults import set_compiled_redirect
from cython.cimports.wasmloom.runtime.guests import Guest, Parked, charge, running_here, uncharge
from cython.cimports.wasmloom.runtime.heap import Heap, Pin
from cython.cimports.wasmloom.runtime.hooks import set_runtime_call, stubs
from cython.cimports.wasmloom.runtime.native_stacks import (
    FIRST_ROOT,
    MAX_ARGUMENTS,
    ROOT_BYTES,
    STACK_PAGE,
    Convert,
    Region,
    RootStack,
)
from cython.cimports.wasmloom.runtime.stacks import (
    bound_of,
    chain_is_full,
    collect,
    grow_bound,
    is_interpreted,
    is_worn,
    last_of,
    look_first,
    renew,
    state_of,
    waiting_bytes,
    waiting_instance,
)
from cython.cimports.wasmloom.system.allocation import malloc, mmap
from cython.cimports.wasmloom.target._processor import (
    SIGNAL_RESERVE,
    WAITING_FRAME,
    frame_pointer,
    outer_frame,
    program_counter,
    return_address,
    set_first_argument,
    set_program_counter,
)

from wasmloom.contract import traps

_OUT_OF_MEMORY = cython.declare(uint64_t, traps.OUT_OF_MEMORY)
_STACK_EXHAUSTED = cython.declare(uint64_t, traps.STACK_EXHAUSTED)
_CHAIN_EXHAUSTED = cython.declare(uint64_t, traps.CHAIN_EXHAUSTED)
_MEMORY_OUT_OF_BOUNDS = cython.declare(uint64_t, traps.MEMORY_OUT_OF_BOUNDS)
_NULL_CONTINUATION = cython.declare(uint64_t, traps.NULL_CONTINUATION_REFERENCE)
_UNHANDLED_TAG = cython.declare(uint64_t, traps.UNHANDLED_TAG)
_CONSUMED = cython.declare(uint64_t, traps.CONTINUATION_CONSUMED)

# Declared in native_stacks.pxd.
convert = cython.NULL

#: At most this many references can be shown to the collector when a stack begins.
_PINS = cython.declare(uint64_t, 8)
#: Regions double in size from the first to the last of these numbers of stacks.
_FIRST_REGION = cython.declare(uint64_t, 16)
_LAST_REGION = cython.declare(uint64_t, 4096)
#: The stacks' tops are staggered in steps of a cache line, in this many steps.
_COLOURS = cython.declare(uint64_t, 24)
_LINE = cython.declare(uint64_t, 64)
_CONTROL_BYTES = cython.declare(uint64_t, 64)
#: Bytes from a `RootStack` to the end of its memory.
_ROOT_TOP = cython.declare(uint64_t, 128)


# --- functions ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def set_adapter(function: cython.pointer(WlFunction)) -> cython.void:
    """Let compiled code call a function that isn't compiled."""
    function.register_call = stubs.adapter
    function.environment = function
    function.array_call = stubs.array_adapter


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def runs_compiled(cont: cython.pointer(WlCont)) -> cython.bint:
    """Whether a continuation that can be resumed is one of compiled code."""
    if state_of(cont) == CONT_FRESH:
        return is_compiled(cython.cast(cython.pointer(WlFunction), cont.function))
    return cont.control != cython.NULL or is_interpreted(cont)


@cython.cfunc
@cython.exceptval(check=False)
def set_convert(function: Convert) -> cython.void:
    """Register the function that makes a native stack of a suspended stack of bytecode."""
    global convert
    convert = function


# --- stacks ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _map(size: uint64_t) -> cython.p_char:
    """Map address space, which becomes memory when it is touched; NULL when there is none."""
    memory: cython.p_void = mmap(
        cython.NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0
    )
    return cython.NULL if memory == MAP_FAILED else cython.cast(cython.p_char, memory)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def usable_top(control: cython.pointer(WlControl)) -> cython.p_char:
    """The address where a native stack begins. It grows downwards."""
    return cython.cast(cython.p_char, control)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _new_region(guest: cython.pointer(Guest)) -> cython.bint:
    """Map memory for more stacks."""
    last: cython.pointer(Region) = cython.cast(cython.pointer(Region), guest.native_regions)
    count: uint64_t = _FIRST_REGION
    size: uint64_t
    region: cython.pointer(Region)
    if last != cython.NULL:
        count = min(_LAST_REGION, 2 * (last.size // guest.native_stack_size))
    size = count * guest.native_stack_size + 4096
    region = cython.cast(cython.pointer(Region), _map(size))
    if region == cython.NULL:
        return False
    region.next = last
    region.size = size
    region.used = 4096
    guest.native_regions = region
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _new_stack(guest: cython.pointer(Guest)) -> cython.pointer(WlControl):
    """A stack for a continuation that begins; NULL when there is no memory."""
    region: cython.pointer(Region) = cython.cast(cython.pointer(Region), guest.native_regions)
    control: cython.pointer(WlControl) = cython.cast(cython.pointer(WlControl), guest.ctx.free_stacks)
    base: cython.p_char
    number: uint64_t
    if control != cython.NULL:
        guest.ctx.free_stacks = control.next
        return control
    if not charge(guest, STACK_PAGE):
        return cython.NULL
    if region == cython.NULL or region.used + guest.native_stack_size > region.size:
        if not _new_region(guest):
            uncharge(guest, STACK_PAGE)
            return cython.NULL
        region = cython.cast(cython.pointer(Region), guest.native_regions)
    base = cython.cast(cython.p_char, region) + region.used
    number = region.used // guest.native_stack_size
    region.used += guest.native_stack_size
    control = cython.cast(
        cython.pointer(WlControl), base + guest.native_stack_size - _CONTROL_BYTES - _LINE * (number % _COLOURS)
    )
    control.floor = base + SIGNAL_RESERVE
    control.limit = max(control.floor, base + guest.native_stack_size - STACK_PAGE)
    return control


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def stack_with_room(guest: cython.pointer(Guest), size: uint64_t) -> cython.pointer(WlControl):
    """A stack that has room for `size` bytes beyond what continuations need; NULL when there is no memory."""
    region: cython.pointer(Region)
    control: cython.pointer(WlControl)
    total: uint64_t = (size + guest.native_stack_size + 2 * 4096) & ~cython.cast(uint64_t, 4095)
    if size <= guest.native_stack_size >> 2:
        return _new_stack(guest)
    # A region for one stack goes behind the newest one in the list: stacks are taken from the newest, and its size says
    # how large the next one becomes.
    if guest.native_regions == cython.NULL and not _new_region(guest):
        return cython.NULL
    if not charge(guest, size + STACK_PAGE):
        return cython.NULL
    region = cython.cast(cython.pointer(Region), _map(total))
    if region == cython.NULL:
        uncharge(guest, size + STACK_PAGE)
        return cython.NULL
    region.size = region.used = total
    region.next = cython.cast(cython.pointer(Region), guest.native_regions).next
    cython.cast(cython.pointer(Region), guest.native_regions).next = region
    control = cython.cast(cython.pointer(WlControl), cython.cast(cython.p_char, region) + total - _CONTROL_BYTES)
    control.floor = cython.cast(cython.p_char, region) + 4096 + SIGNAL_RESERVE
    control.limit = max(control.floor, cython.cast(cython.p_char, control) - size - STACK_PAGE)
    return control


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _grow(ctx: cython.pointer(WlContext), address: cython.p_char) -> uint64_t:
    """See `native_grow` in `wasmloom.contract.layout`. The stack's size doubles, if there is enough left."""
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    control: cython.pointer(WlControl) = cython.cast(
        cython.pointer(WlControl), cython.cast(cython.pointer(WlCont), ctx.current).control
    )
    has: uint64_t = cython.cast(cython.p_char, control) - control.limit
    lowest: cython.p_char
    if address <= control.floor:
        return _STACK_EXHAUSTED
    lowest = max(control.floor, min(address - STACK_PAGE, control.limit - has))
    if not charge(guest, control.limit - lowest):
        lowest = max(control.floor, address - STACK_PAGE)
        if not charge(guest, control.limit - lowest):
            return _OUT_OF_MEMORY
    control.limit = lowest
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def prepare_context(guest: cython.pointer(Guest)) -> cython.bint:
    """Make a context ready for compiled code; False when there is no memory."""
    if guest.ctx.args == cython.NULL:
        guest.ctx.args = malloc(SLOT_BYTES * MAX_ARGUMENTS)
    return guest.ctx.args != cython.NULL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def values_bytes(guest: cython.pointer(Guest)) -> uint64_t:
    """The address space of a value stack that doesn't move.

    There is room for a function's words beyond the limit: compiled code writes the arguments of bytecode before that
    looks at it.
    """
    return (guest.max_stack + 2 * SLOT_BYTES * MAX_ARGUMENTS + 4095) & ~cython.cast(uint64_t, 4095)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def map_values(guest: cython.pointer(Guest)) -> cython.p_char:
    """Map such a stack: all the address space that it may ever need. NULL when there is none."""
    return _map(values_bytes(guest))


@cython.cfunc
@cython.exceptval(check=False)
def give_values(guest: cython.pointer(Guest), root: cython.pointer(RootStack)) -> cython.bint:
    """Let a root stack have a value stack, for calls that can wait. False when there is no memory."""
    if root.values == cython.NULL:
        if not charge(guest, STACK_PAGE):
            return False
        root.values = map_values(guest)
        if root.values == cython.NULL:
            uncharge(guest, STACK_PAGE)
            return False
        root.values_size = STACK_PAGE
    return True


@cython.cfunc
@cython.exceptval(check=False)
def _unmap(guest: cython.pointer(Guest), root: cython.pointer(RootStack)) -> cython.void:
    """Free a root stack, if there is one, and the value stack that it has."""
    if root != cython.NULL:
        if root.values != cython.NULL:
            munmap(root.values, values_bytes(guest))
        munmap(root.base, root.size)


@cython.cfunc
@cython.exceptval(check=False)
def free_native_stacks(guest: cython.pointer(Guest)) -> cython.void:
    """Free all native stacks of a guest, and the remains of calls that will never go on."""
    region: cython.pointer(Region) = cython.cast(cython.pointer(Region), guest.native_regions)
    next_region: cython.pointer(Region)
    root: cython.pointer(RootStack)
    next_root: cython.pointer(RootStack)
    parked: cython.pointer(Parked) = guest.parked
    next_parked: cython.pointer(Parked)
    while parked != cython.NULL:
        next_parked = parked.next
        _unmap(guest, cython.cast(cython.pointer(RootStack), parked.native_stack))
        _unmap(guest, cython.cast(cython.pointer(RootStack), parked.beside))
        free(parked)
        parked = next_parked
    root = cython.cast(cython.pointer(RootStack), guest.root_stacks)
    while region != cython.NULL:
        next_region = region.next
        munmap(region, region.size)
        region = next_region
    while root != cython.NULL:
        next_root = cython.cast(cython.pointer(RootStack), root.control.next)
        _unmap(guest, root)
        root = next_root
    free(guest.ctx.args)
    guest.native_regions = cython.NULL
    guest.root_stacks = cython.NULL
    guest.ctx.args = cython.NULL
    guest.ctx.free_stacks = cython.NULL


# --- entries ---


@cython.cfunc
@cython.exceptval(check=False)
def new_root(guest: cython.pointer(Guest)) -> cython.pointer(RootStack):
    """A stack for entries from the host; NULL when there is no memory.

    A store's first stack doesn't count towards its memory limit.
    """
    root: cython.pointer(RootStack)
    size: uint64_t
    base: cython.p_char
    if not prepare_context(guest):
        return cython.NULL
    size = (guest.max_stack + SIGNAL_RESERVE + _ROOT_TOP + _LINE * _COLOURS + 4095) & ~cython.cast(uint64_t, 4095)
    if guest.has_root and not charge(guest, ROOT_BYTES):
        return cython.NULL
    base = _map(size)
    if base == cython.NULL:
        if guest.has_root:
            uncharge(guest, ROOT_BYTES)
        return cython.NULL
    root = cython.cast(
        cython.pointer(RootStack),
        base + size - _ROOT_TOP - _LINE * (cython.cast(uint64_t, base) // size % _COLOURS),
    )
    root.size = size
    root.base = base
    root.control.floor = cython.cast(cython.p_char, root) - guest.max_stack
    root.control.limit = max(
        root.control.floor, cython.cast(cython.p_char, root) - (ROOT_BYTES if guest.has_root else FIRST_ROOT)
    )
    root.uncounted = cython.cast(cython.p_char, root) - root.control.limit - (ROOT_BYTES if guest.has_root else 0)
    guest.has_root = True
    return root


@cython.cfunc
@cython.exceptval(check=False)
def free_roots(guest: cython.pointer(Guest)) -> cython.void:
    """Free the stacks in the pool for entries: a guest has reached its memory limit."""
    root: cython.pointer(RootStack) = cython.cast(cython.pointer(RootStack), guest.root_stacks)
    following: cython.pointer(RootStack)
    while root != cython.NULL:
        following = cython.cast(cython.pointer(RootStack), root.control.next)
        uncharge(guest, cython.cast(cython.p_char, root) - root.control.limit - root.uncounted + root.values_size)
        if root.uncounted > 0:
            guest.has_root = False
        _unmap(guest, root)
        root = following
    guest.root_stacks = cython.NULL


# --- runtime calls ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _collect_for(
    guest: cython.pointer(Guest), cont: cython.pointer(WlCont), first: uint64_t, count: uint64_t
) -> cython.void:
    """Collect abandoned stacks, before a continuation begins with some values.

    The collector must see these values and all stacks. In the middle of a `switch` it couldn't: the running stacks are
    cut off then.
    """
    pins = cython.declare(Pin[8])  # _PINS
    heap: cython.pointer(Heap) = cython.address(guest.heap)
    bottom: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), guest.ctx.current)
    before: cython.pointer(Pin) = heap.pins
    i: uint64_t
    while bottom.parent != cython.NULL:
        bottom = cython.cast(cython.pointer(WlCont), bottom.parent)
    if bottom != guest.entry.bottom or heap.holds or count > _PINS - 1:
        return
    pins[0].word = cont.reference
    for i in range(count):
        pins[i + 1].word = cython.cast(cython.pointer(uint64_t), guest.ctx.args)[i] if i else first
    for i in range(count + 1):
        pins[i].next = heap.pins
        heap.pins = cython.address(pins[i])
    collect(cython.address(guest.ctx))
    heap.pins = before


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _begin(
    ctx: cython.pointer(WlContext), cont: cython.pointer(WlCont), words: cython.pointer(uint64_t), count: uint64_t
) -> uint64_t:
    """See `native_begin` in `wasmloom.contract.layout`."""
    args: cython.pointer(uint64_t) = cython.cast(cython.pointer(uint64_t), ctx.args)
    kept: cython.pointer(uint64_t) = cython.cast(cython.pointer(uint64_t), cont.stack_base)
    control: cython.pointer(WlControl)
    bound: uint64_t = bound_of(cont)
    i: uint64_t
    if is_interpreted(cont):
        kept = cython.cast(cython.pointer(uint64_t), cont.stack_base + cont.fp) + cont.values + bound
        for i in range(count):
            kept[i] = args[i] if i else words[0]
        size: uint64_t = cont.fp + SLOT_BYTES * (cont.values + bound + count)
        return 0 if convert(cython.cast(cython.pointer(Guest), ctx), cont, size) else _OUT_OF_MEMORY
    if cont.control == cython.NULL:
        if ctx.free_stacks == cython.NULL and chain_is_full(cython.cast(cython.pointer(Guest), ctx)):
            return _CHAIN_EXHAUSTED
        control = _new_stack(cython.cast(cython.pointer(Guest), ctx))
        if control == cython.NULL:
            _collect_for(cython.cast(cython.pointer(Guest), ctx), cont, words[0], count)
            control = _new_stack(cython.cast(cython.pointer(Guest), ctx))
        if control == cython.NULL:
            return _OUT_OF_MEMORY
        control.cont = cont
        control.sp = usable_top(control)
        control.fp = cython.cast(cython.p_char, cython.address(control.fp))
        control.pc = cython.cast(cython.p_char, stubs.fiber_start)
        cont.control = control
    if bound:
        # Backwards, so none is overwritten before it has moved.
        i = count
        while i > 0:
            i -= 1
            args[bound + i] = args[i] if i else words[0]
        memcpy(args, kept, SLOT_BYTES * bound)
        words[0] = args[0]
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _bind(ctx: cython.pointer(WlContext), words: cython.pointer(uint64_t), count: uint64_t) -> uint64_t:
    """See `native_bind` in `wasmloom.contract.layout`."""
    cont: cython.pointer(WlCont) = cython.cast(
        cython.pointer(WlCont), words[0] & (NEXT_REVISION - 1)
    )
    if words[0] == 0:
        return _NULL_CONTINUATION
    if cont.reference != words[0]:
        return _CONSUMED
    bound: uint64_t = bound_of(cont)
    place: cython.p_char
    if is_interpreted(cont):
        place = cont.stack_base + cont.fp + SLOT_BYTES * (cont.values + bound)  # the frame has room for them
    else:
        if SLOT_BYTES * (bound + count) > cython.cast(uint64_t, cont.stack_end - cont.stack_base) and not grow_bound(
            cython.cast(cython.pointer(Guest), ctx), cont, SLOT_BYTES * (bound + count)
        ):
            return _OUT_OF_MEMORY
        place = cont.stack_base + SLOT_BYTES * bound
    cont.reference += NEXT_REVISION
    memcpy(place, words + 1, SLOT_BYTES * count)
    cont.state += count << BOUND_SHIFT
    look_first(cont)
    if is_worn(cont):
        cont = renew(cython.cast(cython.pointer(Guest), ctx), cont)
        if cont == cython.NULL:
            return _OUT_OF_MEMORY
    words[0] = cont.reference
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _renew(ctx: cython.pointer(WlContext)) -> uint64_t:
    """See `native_renew` in `wasmloom.contract.layout`."""
    cont: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), ctx.current)
    return 0 if renew(cython.cast(cython.pointer(Guest), ctx), cont) != cython.NULL else _OUT_OF_MEMORY


# --- switches by calls (stack_switching="libcall") ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _prepare(
    ctx: cython.pointer(WlContext),
    cont: cython.pointer(WlCont),
    words: cython.pointer(uint64_t),
    count: uint64_t,
    last: cython.pointer(cython.pointer(WlCont)),
) -> uint64_t:
    """Make a consumed continuation ready for n values, as `prepare` in `wasmloom.compiler.switching` does.

    Returns a trap code, the values as `native_begin` leaves them, and the last stack of the chain.
    """
    code: uint64_t
    last[0] = cont
    if cont.last == cont:
        return 0
    if cont.state != CONT_SUSPENDED:
        code = _begin(ctx, cont, words, count)
        if code:
            return code
    last[0] = last_of(cont)
    last[0].last = last[0]
    last[0].state = CONT_SUSPENDED
    cont.last = cont
    cont.state = CONT_SUSPENDED
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _attach(
    last: cython.pointer(WlCont), parent: cython.p_void, clauses: cython.p_char, resumer: cython.p_void
) -> cython.void:
    """Link a chain to a parent and the clauses of its `resume`."""
    last.parent = parent
    last.resume = clauses
    last.resumer = resumer
    last.first_tag = cython.NULL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def prepare_resume(
    ctx: cython.pointer(WlContext), words: cython.pointer(uint64_t), count: uint64_t, clauses: cython.p_char
) -> uint64_t:
    """See `libcall_resume` in `wasmloom.contract.layout`."""
    cont: cython.pointer(WlCont) = cython.cast(
        cython.pointer(WlCont), words[0] & (NEXT_REVISION - 1)
    )
    last: cython.pointer(WlCont)
    code: uint64_t
    if words[0] == 0:
        return _NULL_CONTINUATION
    if cont.reference != words[0]:
        return _CONSUMED
    cont.reference += NEXT_REVISION
    code = _prepare(ctx, cont, words + 1, count, cython.address(last))
    if code:
        return code
    _attach(last, ctx.current, clauses, cython.cast(cython.p_void, words[2]))
    ctx.current = cont
    words[0] = cython.cast(uint64_t, last.control)
    words[2] = 0
    words[3] = 0
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _find_handler(
    current: cython.pointer(WlCont), tag: cython.p_void, kind: uint32_t, reason: cython.pointer(uint64_t)
) -> cython.pointer(WlCont):
    """The stack whose parent has a clause of the kind for the tag, and its number from 1; NULL when there is none."""
    child: cython.pointer(WlCont) = current
    clause: cython.pointer(uint32_t)
    i: uint64_t
    while child.parent != cython.NULL:
        clause = cython.cast(cython.pointer(uint32_t), child.resume + cython.sizeof(uint64_t))
        for i in range(cython.cast(cython.pointer(uint64_t), child.resume)[0]):
            mine = cython.cast(cython.pp_char, cython.cast(cython.p_char, child.resumer) + clause[0])[0]
            if mine == tag and clause[1] == kind:
                reason[0] = i + 1
                return child
            clause += 2
        child = cython.cast(cython.pointer(WlCont), child.parent)
    return cython.NULL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _cut(ctx: cython.pointer(WlContext), child: cython.pointer(WlCont)) -> cython.pointer(WlCont):
    """Suspend the running chain above `child`; returns the parent."""
    running: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), ctx.current)
    parent: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), child.parent)
    if child != running:
        running.last = child
        child.last = cython.NULL
        child.state = CONT_ACTIVE
    child.parent = cython.NULL
    return parent


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _renew_if_worn(ctx: cython.pointer(WlContext)) -> uint64_t:
    if is_worn(cython.cast(cython.pointer(WlCont), ctx.current)):
        return _renew(ctx)
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _libcall_suspend(
    ctx: cython.pointer(WlContext), words: cython.pointer(uint64_t), tag: cython.p_void
) -> uint64_t:
    """See `libcall_suspend` in `wasmloom.contract.layout`."""
    child: cython.pointer(WlCont)
    code: uint64_t = _renew_if_worn(ctx)
    if code:
        return code
    child = _find_handler(cython.cast(cython.pointer(WlCont), ctx.current), tag, ON_LABEL, words + 2)
    if child == cython.NULL:
        return _UNHANDLED_TAG
    words[1] = words[0]
    words[0] = cython.cast(uint64_t, child.control)
    words[3] = cython.cast(cython.pointer(WlCont), ctx.current).reference
    ctx.current = _cut(ctx, child)
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _libcall_switch(
    ctx: cython.pointer(WlContext), words: cython.pointer(uint64_t), tag: cython.p_void, count: uint64_t
) -> uint64_t:
    """See `libcall_switch` in `wasmloom.contract.layout`."""
    cont: cython.pointer(WlCont) = cython.cast(
        cython.pointer(WlCont), words[0] & (NEXT_REVISION - 1)
    )
    child: cython.pointer(WlCont)
    last: cython.pointer(WlCont)
    own: cython.pointer(WlControl)
    control: cython.pointer(WlControl)
    saved = cython.declare(WlControl)
    clauses: cython.p_char
    resumer: cython.p_void
    own_reference: uint64_t
    code: uint64_t = _renew_if_worn(ctx)
    if code:
        return code
    if words[0] == 0:
        return _NULL_CONTINUATION
    child = _find_handler(cython.cast(cython.pointer(WlCont), ctx.current), tag, ON_SWITCH, words + 2)
    if child == cython.NULL:
        return _UNHANDLED_TAG
    if cont.reference != words[0]:
        return _CONSUMED
    cont.reference += NEXT_REVISION
    clauses = child.resume
    resumer = child.resumer
    own = cython.cast(cython.pointer(WlControl), child.control)
    own_reference = cython.cast(cython.pointer(WlCont), ctx.current).reference
    if count:
        cython.cast(cython.pointer(uint64_t), ctx.args)[count] = own_reference
    else:
        words[1] = own_reference
    code = _prepare(ctx, cont, words + 1, count + 1, cython.address(last))
    if code:
        return code  # the running chain, which is still linked, ends
    _attach(last, _cut(ctx, child), clauses, resumer)
    # The parent's resume point moves to the target; the target's is where the switch goes.
    control = cython.cast(cython.pointer(WlControl), last.control)
    saved.sp, saved.fp, saved.pc = control.sp, control.fp, control.pc
    control.sp, control.fp, control.pc = own.sp, own.fp, own.pc
    own.sp, own.fp, own.pc = saved.sp, saved.fp, saved.pc
    ctx.current = cont
    words[0] = cython.cast(uint64_t, own)
    words[2] = 0
    words[3] = 0
    return 0


# --- faults ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _redirect(context: cython.p_void, address: cython.p_void) -> cython.bint:
    """Send a thread that faulted in compiled code to where traps leave it. Async-signal-safe.

    The trap's place is the instruction that faulted. It isn't a return address, so it is looked up differently.
    """
    guest: cython.pointer(Guest)
    if not in_code(program_counter(context)):
        return False
    guest = running_here()
    if guest == cython.NULL:
        return False
    guest.ctx.trap_code = _MEMORY_OUT_OF_BOUNDS
    guest.ctx.trap_ip = cython.cast(cython.p_char, program_counter(context))
    guest.ctx.trap_fault = 1
    guest.ctx.trap_fp = frame_pointer(context)
    guest.ctx.trap_instance = cython.NULL
    set_first_argument(context, guest)
    set_program_counter(context, stubs.leave)
    return True


def stub_addresses() -> dict[str, int]:
    """Addresses of the pieces of `wasmloom.target.stubs` that compiled code refers to."""
    return {
        "wl_on_host": cython.cast(uint64_t, stubs.on_host),
        "wl_compiled_trap": cython.cast(uint64_t, stubs.trap),
        "wl_lazy": cython.cast(uint64_t, stubs.lazy),
        "wl_loop_interrupt": cython.cast(uint64_t, stubs.loop_interrupt),
        "wl_morestack": cython.cast(uint64_t, stubs.morestack),
        "wl_switch_call": cython.cast(uint64_t, stubs.switch_call),
        "wl_runtime": cython.cast(uint64_t, stubs.runtime),
        "wl_fiber_start": cython.cast(uint64_t, stubs.fiber_start),
        "wl_fiber_return": cython.cast(uint64_t, stubs.fiber_return),
        "wl_native_return": cython.cast(uint64_t, stubs.native_return),
        "wl_crossing": cython.cast(uint64_t, stubs.crossing),
    }


def frames(ip: int, fp: int, cont: int, limit: int) -> list[tuple[int, int]]:
    """Return addresses from a frame to the bottom of its entry, with the continuation that each runs on.

    The first is `ip`, a place in the innermost function, `fp` that function's frame pointer. The address 0 stands for
    the frames of bytecode that wait at the bottom of a continuation's stack (see `waiting_frames`).
    """
    place: uint64_t = ip
    frame: uint64_t = fp
    running: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), cython.cast(uint64_t, cont))
    found: list = []
    while (
        len(found) < limit
        and place != cython.cast(uint64_t, stubs.native_return)
        and place != cython.cast(uint64_t, stubs.native_back)
    ):
        if place == cython.cast(uint64_t, stubs.fiber_return) or place == cython.cast(
            uint64_t, stubs.frames_bottom
        ):
            running = cython.cast(cython.pointer(WlCont), running.parent)
        elif cython.cast(uint64_t, stubs.frames) < place <= cython.cast(uint64_t, stubs.frames_return):
            if waiting_bytes(running):
                found.append((0, cython.cast(uint64_t, running)))
        elif place == cython.cast(uint64_t, stubs.frames_start):
            found.append((0, cython.cast(uint64_t, running)))
            running = cython.cast(cython.pointer(WlCont), running.parent)
        else:
            found.append((place, cython.cast(uint64_t, running)))
        place = return_address(frame)
        frame = outer_frame(frame)
    return found


def in_compiled(ip: int) -> bool:
    """Whether a trap's place is in compiled code: an instruction, or a return address, which may lie behind the end of
    code, and is bytecode's record if what passes on its arguments finds no room."""
    place: uint64_t = ip
    return in_code(place) or in_code(place - 1) or place == cython.cast(uint64_t, stubs.native_back)


def bytecode_below(ip: int, fp: int) -> tuple[int, int, int]:
    """What waits for compiled code in an entry that mixes: bytecode that has called it, or a frame that went on as it.

    The arguments are those of `frames`. Returns the return ip and the frame's address of the callee, and the address
    where the native stack goes on: see `wasmloom.target.crossings`.
    """
    place: uint64_t = ip
    frame: uint64_t = fp
    record: cython.pointer(uint64_t)
    while place != cython.cast(uint64_t, stubs.native_back):
        place = return_address(frame)
        frame = outer_frame(frame)
    record = cython.cast(cython.pointer(uint64_t), frame)
    return (record - 1)[0], (record - 2)[0], frame + 16


def compiled_below(top: int) -> tuple[int, int]:
    """Where compiled code waits for bytecode, whose record is at an address: as the arguments of `frames`."""
    frame: uint64_t = top + WAITING_FRAME
    return return_address(frame), outer_frame(frame)


def waiting_frames(cont: int) -> tuple[int, int, int]:
    """The innermost frame of bytecode that waits on a continuation's native stack.

    Returns the addresses of a place in its call, of the frame, and of its instance.
    """
    place: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), cython.cast(uint64_t, cont))
    return cython.cast(uint64_t, place.ip), place.fp, cython.cast(uint64_t, waiting_instance(place))


set_runtime_call(RT_LIBCALL_RESUME, cython.cast(cython.p_void, prepare_resume))
set_runtime_call(RT_LIBCALL_SUSPEND, cython.cast(cython.p_void, _libcall_suspend))
set_runtime_call(RT_LIBCALL_SWITCH, cython.cast(cython.p_void, _libcall_switch))
set_runtime_call(RT_NATIVE_BEGIN, cython.cast(cython.p_void, _begin))
set_runtime_call(RT_NATIVE_BIND, cython.cast(cython.p_void, _bind))
set_runtime_call(RT_NATIVE_GROW, cython.cast(cython.p_void, _grow))
set_runtime_call(RT_NATIVE_RENEW, cython.cast(cython.p_void, _renew))
set_compiled_redirect(_redirect)
