"""WASI's `poll_oneoff`: wait for clocks, and for files to become readable or writable."""

from __future__ import annotations

import array
import fcntl
import select
import termios
import time
from collections.abc import Iterator
from functools import partial, reduce
from operator import or_
from typing import NamedTuple

from wasmloom.wasi.abi import (
    EVENT,
    EVENT_HANGUP,
    SUBSCRIPTION,
    SUBSCRIPTION_CLOCK,
    SUBSCRIPTION_CLOCK_ABSTIME,
    SUBSCRIPTION_FD,
    U32,
    Errno,
    EventType,
    FileType,
    WasiError,
)
from wasmloom.wasi.context import Context, Later
from wasmloom.wasi.descriptors import Descriptor, HostFile
from wasmloom.wasi.memory import pack, span
from wasmloom.wasi.process import host_clock

#: The most subscriptions of one call: more than files can be open, and bounded.
MAX_SUBSCRIPTIONS = 1 << 16
#: One wait of the host lasts no longer than this (nanoseconds); then the clocks are read again.
_LONGEST_WAIT = 3600 * 10**9

#: Clocks that go on while the guest sleeps: realtime and monotonic.
_SLEEP_CLOCKS = 2


#: What the host's poll calls it.
_POLL = {EventType.FD_READ: select.POLLIN, EventType.FD_WRITE: select.POLLOUT}


class _Event(NamedTuple):
    userdata: int
    errno: Errno
    kind: EventType
    nbytes: int = 0
    flags: int = 0


class _Timer(NamedTuple):
    userdata: int
    clock: int
    deadline: int

    def remaining(self) -> int:
        """Nanoseconds until this is due; negative when it was."""
        return self.deadline - time.clock_gettime_ns(self.clock)


class Waiting:
    """The subscriptions of one call, sorted by what they wait for."""

    def __init__(self) -> None:
        self.events: list[_Event] = []
        self.timers: list[_Timer] = []
        #: host file descriptor → (userdata, kind) of those who wait for it
        self.files: dict[int, list[tuple[int, EventType]]] = {}

    def add_clock(self, userdata: int, union: bytes) -> None:
        """Subscribe to a clock."""
        clock, timeout, _precision, flags = SUBSCRIPTION_CLOCK.unpack(union)
        if flags & ~SUBSCRIPTION_CLOCK_ABSTIME:
            self.events.append(_Event(userdata, Errno.EINVAL, EventType.CLOCK))
        elif clock >= _SLEEP_CLOCKS:
            self.events.append(_Event(userdata, Errno.ENOTSUP, EventType.CLOCK))
        else:
            host = host_clock(clock)
            start = 0 if flags & SUBSCRIPTION_CLOCK_ABSTIME else time.clock_gettime_ns(host)
            self.timers.append(_Timer(userdata, host, start + timeout))

    def add_file(self, context: Context, userdata: int, kind: EventType, union: bytes) -> None:
        """Subscribe to a file's becoming readable or writable."""
        (number,) = SUBSCRIPTION_FD.unpack(union)
        file = context.table.get(number)
        if file is None:
            self.events.append(_Event(userdata, Errno.EBADF, kind))
        elif isinstance(file, HostFile):
            self.files.setdefault(file.fileno(), []).append((userdata, kind))
        else:
            # A Python file object can't be asked; a read or write is what finds out.
            self.events.append(_Event(userdata, Errno.SUCCESS, kind, 1))

    def until_timer(self) -> int:
        """Nanoseconds until the next timer is due, at most `_LONGEST_WAIT`."""
        until = min((timer.remaining() for timer in self.timers), default=_LONGEST_WAIT)
        return min(max(until, 0), _LONGEST_WAIT)

    def wanted(self) -> Iterator[tuple[int, bool]]:
        """The host's file descriptors that are waited for, and whether to be written to."""
        for host, waiters in self.files.items():
            for kind in {kind for _, kind in waiters}:
                yield host, kind == EventType.FD_WRITE

    def look(self, longest: int = 0) -> bool:
        """Look what has happened; wait for it up to `longest` nanoseconds. Whether there is an event."""
        if self.files:
            poll = select.poll()
            for host, waiters in self.files.items():
                poll.register(host, reduce(or_, (_POLL[kind] for _, kind in waiters)))
            for host, ready in poll.poll(-(-longest // 10**6)):
                self._add_ready(host, ready)
        elif longest:
            time.sleep(longest / 1e9)
        for timer in self.timers:
            if timer.remaining() <= 0:
                self.events.append(_Event(timer.userdata, Errno.SUCCESS, EventType.CLOCK))
        return bool(self.events)

    def wait(self, context: Context) -> None:
        """Wait until there is at least one event. Raises `Trap` when the guest's time is over before that."""
        while True:
            longest = 0 if self.events else min(self.until_timer(), context.time_left() or _LONGEST_WAIT)
            if self.look(longest):
                return

    def _add_ready(self, host: int, ready: int) -> None:
        for userdata, kind in self.files[host]:
            wanted = _POLL[kind]
            if ready & select.POLLNVAL:
                self.events.append(_Event(userdata, Errno.EBADF, kind))
            elif ready & (wanted | select.POLLHUP | select.POLLERR):
                flags = EVENT_HANGUP if ready & select.POLLHUP else 0
                nbytes = _readable_bytes(host) if kind == EventType.FD_READ else 1
                self.events.append(_Event(userdata, Errno.SUCCESS, kind, nbytes, flags))


def _readable_bytes(host: int) -> int:
    """How many bytes can be read without waiting; 0 where the host can't tell."""
    count = array.array("i", [0])
    try:
        fcntl.ioctl(host, termios.FIONREAD, count)
    except OSError:
        return 0
    return max(count[0], 0)


def can_block(file: Descriptor) -> bool:
    """Whether reading from a file may have to wait for someone to write to it."""
    return isinstance(file, HostFile) and file.kind not in (FileType.REGULAR_FILE, FileType.DIRECTORY)


def wait_for_input(context: Context, file: Descriptor) -> None:
    """If the guest's time is limited, wait until a read can't block, or raise `Trap` when the time is over."""
    left = context.time_left()
    if left is None or not can_block(file):
        return
    poll = select.poll()
    poll.register(file.fileno(), select.POLLIN)
    while left is not None and not poll.poll(-(-left // 10**6)):
        left = context.time_left()


def poll_oneoff(context: Context, subscriptions: int, events: int, count: int, result: int) -> Later | None:
    """Wait until one of the subscribed events happens, and store all that have."""
    if not 0 < count <= MAX_SUBSCRIPTIONS:
        raise WasiError(Errno.EINVAL)
    memory = context.memory
    span(memory, events, count * EVENT.size)
    waiting = Waiting()
    records = bytes(span(memory, subscriptions, count * SUBSCRIPTION.size))
    for userdata, tag, union in SUBSCRIPTION.iter_unpack(records):
        if tag == EventType.CLOCK:
            waiting.add_clock(userdata, union)
        elif tag in (EventType.FD_READ, EventType.FD_WRITE):
            waiting.add_file(context, userdata, EventType(tag), union)
        else:
            raise WasiError(Errno.EINVAL)
    if context.asynchronous:
        return partial(_poll_async, context, waiting, events, result)
    waiting.wait(context)
    _store(context, waiting, events, result)
    return None


async def _poll_async(context: Context, waiting: Waiting, events: int, result: int) -> None:
    from wasmloom.wasi import awaiting

    await awaiting.wait(waiting)
    _store(context, waiting, events, result)


def _store(context: Context, waiting: Waiting, events: int, result: int) -> None:
    memory = context.memory
    for i, event in enumerate(waiting.events):
        pack(memory, EVENT, events + i * EVENT.size, *event)
    pack(memory, U32, result, len(waiting.events))
