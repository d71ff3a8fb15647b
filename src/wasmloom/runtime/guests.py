# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Guest contexts and the ticker: the thread that makes long-running guests look up.

Every `TICK_NS` the ticker sets ``interrupt`` and zeroes ``stack_limit`` in each running context. That sends the guest's
next loop back-edge or function entry to its slow path (`wasmloom.runtime.runtime_calls`), which handles signals and
deadlines. Guest code pays nothing else for Ctrl-C and timeouts. The ticker is a plain C thread: it never touches
Python.

Invariants:

* A `Guest` is never freed, only reused, so the ticker and the signal handler walk the list without a lock. New guests
  are linked in at the head, after they have been filled in, with the GIL held.
* The ticker's writes may be late: they may hit a context that has left the guest or got a new owner. Both fields only
  cause a slow path, which recomputes them from ``stack_end``.
* No wake-up is lost: an entry writes ``used`` and *then* reads ``ticker_state``, the ticker writes ``ticker_state``
  and then reads ``used``, each with a full barrier between (for entries, `leave_python`).
* The ticker writes to a thread's control block only while ``ticking`` is set and after it has seen ``running``. An
  entry that ends clears ``running`` and then waits until ``ticking`` is clear, so the thread still exists. Each
  needs a full barrier between its write and its read. A thread that ends an epoch does the same as the ticker, with
  ``nudging``; it has the GIL, as has whoever frees or reuses a guest.
* Entries are frequent and ticks are rare. So where the kernel has membarrier(2), the ticker's barriers act on all
  threads (``shares_barriers``), and an entry's read only has to follow its write in program order. That is settled
  before the ticker's thread begins.
* A thread that runs guest code holds the GIL exactly while ``keeps_gil`` is set, which only that thread changes.
  Between `enter_python` and `leave_python` it always holds it, and ``thread_state`` is NULL.
* Before a fork, guests in other threads come to where they could be left: in a host function (``thread_state`` is
  NULL), in `rest`, at the next tick, or where they wait for the GIL (``resting``). They go on only where no fork is
  wanted: a thread clears ``resting`` and *then* reads ``fork_wanted``, a fork does it the other way round, each with a
  full barrier between. The fork notes what it has seen (``can_end``), since a thread may just be looking whether it may
  go on. In the child only the forking thread exists: the ticker is forgotten, and `wasmloom.runtime.forks` ends the
  guests of other threads as if their host functions had raised. A guest that hasn't come there in time makes its store
  unusable in the child.
* A thread may end inside of a guest: while Python ends, a thread that asks for the GIL is ended on the spot (CPython
  3.11 to 3.13, ``pthread_exit``). It unwinds its own C stack, from which an unwinder can't reach guests' stacks, and
  nothing of ours on it needs unwinding. The destructor of its thread-specific key then hides it from the ticker while
  its control block still exists.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int64_t, uint32_t, uint64_t
from cython.cimports.libc.string import memset
from cython.cimports.posix.time import timespec
from cython.cimports.wasmloom.runtime.guests import (
    C_STACK_RESERVE,
    IDLE_TICKS,
    LONG_REST_NS,
    MOST_REST_NS,
    NO_THREAD,
    PARKED,
    REST_NS,
    SAMPLE_NS,
    TICK_NS,
    TICKING,
    AfterTick,
    Guest,
    WatchedHalf,
    WatchedWord,
    epoch_is_over,
    stack_key,
    wake,
)
from cython.cimports.wasmloom.system._capi import (
    CLOCK_MONOTONIC,
    PTHREAD_CREATE_DETACHED,
    SIG_SETMASK,
    SIGPROF,
    PyEval_SaveThread,
    __sync_bool_compare_and_swap,
    __sync_synchronize,
    clock_gettime,
    nanosleep,
    pthread_atfork,
    pthread_attr_destroy,
    pthread_attr_getstack,
    pthread_attr_init,
    pthread_attr_setdetachstate,
    pthread_attr_setstacksize,
    pthread_attr_t,
    pthread_create,
    pthread_getattr_np,
    pthread_getspecific,
    pthread_key_create,
    pthread_kill,
    pthread_self,
    pthread_setspecific,
    pthread_sigmask,
    pthread_t,
    sem_init,
    sem_post,
    sem_wait,
    sigfillset,
    sigset_t,
    wl_barrier_for_all,
    wl_share_barriers,
)
from cython.cimports.wasmloom.system.allocation import calloc
from cython.cimports.wasmloom.system.polling import set_is_late
from cython.cimports.wasmloom.target._processor import set_stack_limit_of

# Declared, with their types and those of the structs, in guests.pxd.
ticker_state = NO_THREAD
shares_barriers = False
first_guest = cython.NULL
first_free = cython.NULL
fork_wanted = 0
ticks = 0
profiled = 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _nothing() -> cython.void:
    pass


after_tick = _nothing


@cython.cfunc
@cython.exceptval(check=False)
def set_after_tick(function: AfterTick) -> cython.void:
    """Register what is to be done once after each tick."""
    global after_tick
    after_tick = function


@cython.cfunc
@cython.exceptval(check=False)
def new_guest() -> cython.pointer(Guest):
    """A zeroed guest context, from the pool when there is one; NULL when there is no memory."""
    global first_guest, first_free
    guest: cython.pointer(Guest) = first_free
    if guest != cython.NULL:
        first_free = guest.next_free
        guest.next_free = cython.NULL
        return guest
    guest = cython.cast(cython.pointer(Guest), calloc(1, cython.sizeof(Guest)))
    if guest != cython.NULL:
        guest.next = first_guest
        __sync_synchronize()
        first_guest = guest
    return guest


@cython.cfunc
@cython.exceptval(check=False)
def free_guest(guest: cython.pointer(Guest)) -> cython.void:
    """Return a guest context, which no thread runs any more, to the pool. Its stack is the caller's."""
    global first_free
    following: cython.pointer(Guest) = guest.next
    guest.running = 0
    memset(guest, 0, cython.sizeof(Guest))
    guest.next = following
    guest.next_free = first_free
    first_free = guest


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def now_ns() -> int64_t:
    """The monotonic clock in nanoseconds."""
    now = cython.declare(timespec)
    clock_gettime(CLOCK_MONOTONIC, cython.address(now))
    return cython.cast(int64_t, now.tv_sec) * 1000000000 + now.tv_nsec


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def in_guest_code() -> cython.bint:
    """Whether the calling thread runs guest code, and not a host function that it called. Async-signal-safe."""
    return running_here() != cython.NULL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def interrupt(guest: cython.pointer(Guest), mark: cython.pointer(uint32_t)) -> cython.void:
    """Send a running guest to its slow path. `mark` is the caller's: ``ticking`` or ``nudging``.

    The barrier for all threads fails where the kernel has none, or nobody has asked for it yet. Then each entry has a
    barrier of its own, or asks only after the mark can be seen.
    """
    watched: cython.pointer(WatchedHalf) = cython.cast(cython.pointer(WatchedHalf), mark)
    guest.ctx.interrupt = 1
    guest.ctx.stack_limit = cython.NULL
    watched[0] = 1
    __sync_synchronize()
    wl_barrier_for_all()
    if guest.running and guest.ctx.host_sp != cython.NULL:
        # What compiled code compares its stack pointer with: the highest number lets every comparison fail.
        set_stack_limit_of(guest.thread, ~cython.cast(uint64_t, 0))
    __sync_synchronize()
    watched[0] = 0


@cython.cfunc
@cython.exceptval(check=False)
def interrupt_late(epoch: cython.pointer(cython.const[uint64_t])) -> cython.void:
    """Interrupt the guests whose epoch deadline on this counter has come. They find their time over.

    Whoever begins a guest has the GIL from where it compares its deadline until it has set ``running``, and so has the
    caller of this: no guest is missed.
    """
    guest: cython.pointer(Guest) = first_guest
    while guest != cython.NULL:
        if guest.running and guest.epoch == epoch and epoch_is_over(guest):
            guest.deadline = 1
            interrupt(guest, cython.address(guest.nudging))
        guest = guest.next


@cython.cfunc
@cython.exceptval(check=False)
def nudge(guest: cython.pointer(Guest)) -> cython.void:
    """Send a guest that runs to its slow path, where it looks at what is wanted of it. Call with the GIL."""
    if guest.running:
        interrupt(guest, cython.address(guest.nudging))


@cython.cfunc
@cython.exceptval(check=False)
def interrupt_now(guest: cython.pointer(Guest)) -> cython.void:
    """Let a guest that runs find its time over; see `interrupt_late`."""
    if guest.running:
        guest.deadline = 1
        interrupt(guest, cython.address(guest.nudging))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _tick() -> cython.bint:
    """Interrupt all running guests. Returns whether any has run since the last tick."""
    global ticks
    busy: cython.bint = False
    guest: cython.pointer(Guest) = first_guest
    while guest != cython.NULL:
        if guest.used or guest.running:
            busy = True
            guest.used = 0
        if guest.running:
            guest.ticked = 1
            interrupt(guest, cython.address(guest.ticking))
        guest = guest.next
    ticks += 1
    return busy


@cython.cfunc
@cython.exceptval(check=False)
def set_profiled(guest: cython.pointer(Guest), on: cython.bint) -> cython.void:
    """Begin or end taking samples of a guest, which the caller keeps alive in between. Call with the GIL."""
    global profiled
    if on and not guest.profiled:
        guest.sample_weight = guest.host_weight = 0
        profiled += 1
    elif not on and guest.profiled:
        profiled -= 1
    guest.profiled = on


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sample() -> cython.void:
    """Note where the guests are that are profiled, and send them to where their frames can be read.

    In guest code the thread itself notes it, in a signal's handler (`wasmloom.runtime.sampling`). One that runs a host
    function gets no signal, which could end a system call of the host's early. The thread exists: see `interrupt`.
    """
    guest: cython.pointer(Guest) = first_guest
    watched: cython.pointer(WatchedHalf)
    while guest != cython.NULL:
        if guest.profiled and guest.running:
            watched = cython.cast(cython.pointer(WatchedHalf), cython.address(guest.ticking))
            watched[0] = 1
            __sync_synchronize()
            wl_barrier_for_all()
            if guest.running:
                if cython.cast(cython.pointer(WatchedWord), cython.address(guest.ctx.thread_state))[0] == 0:
                    if guest.ctx.host_function != cython.NULL:  # else it is Python code of ours that runs
                        guest.host_sampled = guest.ctx.host_function
                        guest.host_weight += 1
                else:
                    pthread_kill(guest.thread, SIGPROF)
            __sync_synchronize()
            watched[0] = 0
            interrupt(guest, cython.address(guest.ticking))
        guest = guest.next


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _tick_forever(argument: cython.p_void) -> cython.p_void:
    """The ticker's thread."""
    idle: cython.int = 0
    until_tick: cython.int = 0
    pause = cython.declare(timespec)
    pause.tv_sec = 0
    while True:
        pause.tv_nsec = SAMPLE_NS if profiled else TICK_NS
        nanosleep(cython.address(pause), cython.NULL)
        if profiled:
            _sample()
            until_tick += 1
            if until_tick < TICK_NS // SAMPLE_NS:
                continue
            until_tick = 0
        idle = 0 if _tick() else idle + 1
        if idle < IDLE_TICKS:
            continue
        idle = 0
        __sync_bool_compare_and_swap(cython.address(ticker_state), TICKING, PARKED)  # a full barrier
        if shares_barriers:
            wl_barrier_for_all()
        if _tick() and __sync_bool_compare_and_swap(cython.address(ticker_state), PARKED, TICKING):
            continue  # an entry came in between and saw no parked ticker
        # The thread that changed PARKED to TICKING has posted, or will.
        while sem_wait(cython.address(wake)) != 0:
            pass  # a signal woke the thread
    return cython.NULL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def wake_ticker() -> cython.void:
    """Make the ticker tick: start its thread, or wake it. Call when ``ticker_state`` is not ``TICKING``."""
    global shares_barriers
    attributes = cython.declare(pthread_attr_t)
    thread = cython.declare(pthread_t)
    everything = cython.declare(sigset_t)
    before = cython.declare(sigset_t)
    failed: cython.int
    if __sync_bool_compare_and_swap(cython.address(ticker_state), PARKED, TICKING):
        sem_post(cython.address(wake))
    elif __sync_bool_compare_and_swap(cython.address(ticker_state), NO_THREAD, TICKING):
        shares_barriers = wl_share_barriers()
        sem_init(cython.address(wake), 0, 0)
        pthread_attr_init(cython.address(attributes))
        pthread_attr_setdetachstate(cython.address(attributes), PTHREAD_CREATE_DETACHED)
        pthread_attr_setstacksize(cython.address(attributes), 65536)
        # The thread inherits the mask: signals for the process belong to Python's threads.
        sigfillset(cython.address(everything))
        pthread_sigmask(SIG_SETMASK, cython.address(everything), cython.address(before))
        failed = pthread_create(cython.address(thread), cython.address(attributes), _tick_forever, cython.NULL)
        pthread_sigmask(SIG_SETMASK, cython.address(before), cython.NULL)
        pthread_attr_destroy(cython.address(attributes))
        if failed:  # no thread available now; the next entry tries again
            __sync_bool_compare_and_swap(cython.address(ticker_state), TICKING, NO_THREAD)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _after_fork_in_child() -> cython.void:
    """Forget the threads that the fork didn't copy."""
    global ticker_state, fork_wanted
    guest: cython.pointer(Guest) = first_guest
    me: uint64_t = cython.cast(uint64_t, pthread_self())
    while guest != cython.NULL:
        guest.ticking = 0
        if guest.thread != me:
            guest.running = 0
        guest = guest.next
    ticker_state = NO_THREAD
    fork_wanted = 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _can_be_left(guest: cython.pointer(Guest)) -> cython.bint:
    """Whether the whole state of another thread's guest is in memory, where the thread that ends it finds it."""
    return (
        not cython.cast(cython.pointer(WatchedWord), cython.address(guest.running))[0]
        or cython.cast(cython.pointer(WatchedWord), cython.address(guest.resting))[0]
        or cython.cast(cython.pointer(WatchedWord), cython.address(guest.ctx.thread_state))[0] == 0
    )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _pause() -> cython.void:
    pause = cython.declare(timespec)
    pause.tv_sec = 0
    pause.tv_nsec = REST_NS
    nanosleep(cython.address(pause), cython.NULL)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def rest(guest: cython.pointer(Guest)) -> cython.void:
    """If a thread is about to fork, wait until it has. Call from guest code that can be left."""
    while fork_wanted:
        guest.resting = 1
        __sync_synchronize()
        while cython.cast(cython.pointer(WatchedWord), cython.address(fork_wanted))[0]:
            _pause()
        cython.cast(cython.pointer(WatchedWord), cython.address(guest.resting))[0] = 0
        __sync_synchronize()


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def end_rest(guest: cython.pointer(Guest)) -> cython.void:
    """Go on after a place where the guest could be left (``resting``): not in the middle of a fork."""
    cython.cast(cython.pointer(WatchedWord), cython.address(guest.resting))[0] = 0
    __sync_synchronize()
    rest(guest)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _before_fork() -> cython.void:
    """Wait until the guests of other threads can be left. The next tick reaches those that compute.

    Time in which the whole process stood still doesn't count: nor have the guests run in it.
    """
    global fork_wanted
    guest: cython.pointer(Guest) = first_guest
    me: uint64_t = cython.cast(uint64_t, pthread_self())
    waited: int64_t = 0
    began: int64_t
    fork_wanted = 1
    __sync_synchronize()
    while guest != cython.NULL:
        guest.can_end = _can_be_left(guest)
        if guest.thread == me or guest.can_end or waited >= cython.cast(int64_t, MOST_REST_NS):
            guest = guest.next
        else:
            began = now_ns()
            _pause()
            waited += min(now_ns() - began, cython.cast(int64_t, LONG_REST_NS))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _after_fork_in_parent() -> cython.void:
    global fork_wanted
    fork_wanted = 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _on_thread_end(limit: cython.p_void) -> cython.void:
    """Hide a thread that ends from the ticker. It has entered guests, and may end inside of one."""
    guest: cython.pointer(Guest) = first_guest
    me: uint64_t = cython.cast(uint64_t, pthread_self())
    while guest != cython.NULL:
        if guest.running and guest.thread == me:
            stop_running(guest)
        guest = guest.next


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def give_gil_back(guest: cython.pointer(Guest)) -> cython.void:
    """Release the GIL at a tick: the guest has run for as long as it may keep it. Call from guest code."""
    if guest.keeps_gil:
        PyEval_SaveThread()
        guest.keeps_gil = 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def stop_running(guest: cython.pointer(Guest)) -> cython.void:
    """End the outermost entry. When this returns, the ticker doesn't touch the calling thread any more."""
    cython.cast(cython.pointer(WatchedWord), cython.address(guest.running))[0] = 0
    if not shares_barriers:
        __sync_synchronize()
    while cython.cast(cython.pointer(WatchedWord), cython.address(guest.ticking))[0]:
        pass  # a few instructions on another processor
    guest.ctx.host_sp = cython.NULL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def running_here() -> cython.pointer(Guest):
    """The guest whose code the calling thread runs; NULL when it runs none. Async-signal-safe."""
    guest: cython.pointer(Guest) = first_guest
    me: uint64_t = cython.cast(uint64_t, pthread_self())
    while guest != cython.NULL:
        if guest.running and guest.thread == me and guest.ctx.thread_state != cython.NULL:
            return guest
        guest = guest.next
    return cython.NULL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def c_stack_left() -> cython.bint:
    """Whether the calling thread's C stack has room for another entry into a guest and the host code it may call."""
    attributes = cython.declare(pthread_attr_t)
    low: cython.p_void = cython.NULL
    size: cython.size_t = 0
    reserve: cython.size_t
    limit: cython.p_char = cython.cast(cython.p_char, pthread_getspecific(stack_key))
    if limit == cython.NULL:
        if pthread_getattr_np(pthread_self(), cython.address(attributes)) != 0:
            return True
        pthread_attr_getstack(cython.address(attributes), cython.address(low), cython.address(size))
        pthread_attr_destroy(cython.address(attributes))
        reserve = C_STACK_RESERVE if size >= 2 * C_STACK_RESERVE else size // 2
        limit = cython.cast(cython.p_char, low) + reserve
        pthread_setspecific(stack_key, limit)
    return cython.cast(cython.p_char, cython.address(attributes)) > limit


@cython.cfunc
@cython.exceptval(check=False)
def _is_late() -> cython.bint:
    """Whether the calling thread's guest, which waits for the host's own work, has no time left."""
    guest: cython.pointer(Guest) = running_here()
    return guest != cython.NULL and guest.deadline != 0 and now_ns() >= guest.deadline


def deadline_here() -> int | None:
    """When the first of the calls that the calling thread is inside of times out; None when nothing limits them.

    In nanoseconds of the monotonic clock. Guests nest when a host function enters another store; all their deadlines
    count.
    """
    first: int64_t = 0
    guest: cython.pointer(Guest) = first_guest
    me: uint64_t = cython.cast(uint64_t, pthread_self())
    while guest != cython.NULL:
        if guest.running and guest.thread == me and guest.deadline and (first == 0 or guest.deadline < first):
            first = guest.deadline
        guest = guest.next
    return first if first else None


def tick_count() -> int:
    """How often the ticker has looked at the guests (for tests and diagnostics)."""
    return ticks


def ticker_is_parked() -> bool:
    """Whether the ticker sleeps until the next guest runs, or doesn't exist (for tests and diagnostics)."""
    return ticker_state != TICKING


set_is_late(_is_late)
pthread_key_create(cython.address(stack_key), _on_thread_end)
pthread_atfork(_before_fork, _after_fork_in_parent, _after_fork_in_child)
