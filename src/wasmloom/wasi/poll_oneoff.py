"""WASI's `poll_oneoff`: wait for clocks, and for files to become readable or writable."""

from __future__ import annotations

import array
import fcntl
import os
import select
import stat
import termios
import time
from typing import NamedTuple

from wasmloom.host.waits import TURN, Steps, Wait
from wasmloom.wasi.abi import (
    EVENT,
    EVENT_HANGUP,
    SUBSCRIPTION,
    SUBSCRIPTION_CLOCK,
    SUBSCRIPTION_CLOCK_ABSTIME,
    SUBSCRIPTION_FD,
    Errno,
    EventType,
    WasiError,
)
from wasmloom.wasi.context import Context
from wasmloom.wasi.descriptors import Descriptor, HostFile
from wasmloom.wasi.memory import pack, span
from wasmloom.wasi.process import host_clock

#: The most subscriptions of one call: more than files can be open, but bounded.
MAX_SUBSCRIPTIONS = 1 << 16
#: One wait of the host lasts no longer than this (nanoseconds); then the clocks are read again.
_LONGEST_WAIT = 3600 * 10**9

#: Clocks that go on while the guest sleeps: realtime and monotonic.
_SLEEP_CLOCKS = 2


#: Kind of subscription → event of the host's poll.
_POLL = {EventType.FD_READ: select.POLLIN, EventType.FD_WRITE: select.POLLOUT}


class _Event(NamedTuple):
    userdata: int
    errno: Errno
    kind: EventType
    nbytes: int = 0
    flags: int = 0


class _Timer(NamedTuple):
    deadline: int
    userdata: int


class Waiting:
    """The subscriptions of one call, sorted by what they wait for."""

    def __init__(self) -> None:
        self.events: list[_Event] = []
        #: the host's clock → its subscriptions, in the order of their deadlines once `sort` has been called
        self.timers: dict[int, list[_Timer]] = {}
        #: host file descriptor → (userdata, kind) of its subscriptions
        self.files: dict[int, list[tuple[int, EventType]]] = {}
        #: the files, pinned, with the events for the host's poll
        self.pinned: dict[int, tuple[Descriptor, int]] = {}

    def add_clock(self, context: Context, userdata: int, union: bytes) -> None:
        """Subscribe to a clock."""
        clock, timeout, _precision, flags = SUBSCRIPTION_CLOCK.unpack(union)
        if flags & ~SUBSCRIPTION_CLOCK_ABSTIME:
            self.events.append(_Event(userdata, Errno.EINVAL, EventType.CLOCK))
        elif clock >= _SLEEP_CLOCKS:
            self.events.append(_Event(userdata, Errno.ENOTSUP, EventType.CLOCK))
        else:
            host = host_clock(clock)
            start = -context.offsets[clock] if flags & SUBSCRIPTION_CLOCK_ABSTIME else time.clock_gettime_ns(host)
            self.timers.setdefault(host, []).append(_Timer(start + timeout, userdata))

    def add_file(self, context: Context, userdata: int, kind: EventType, union: bytes) -> None:
        """Subscribe to a file's becoming readable or writable."""
        (number,) = SUBSCRIPTION_FD.unpack(union)
        try:
            file = context.table.pin(number)
        except WasiError as error:
            self.events.append(_Event(userdata, error.errno, kind))
            return
        if not isinstance(file, HostFile):
            # A Python file object can't be polled; a read or write will find out.
            file.unpin()
            self.events.append(_Event(userdata, Errno.SUCCESS, kind, 1))
            return
        host = file.fileno()
        _, wanted = self.pinned.get(host, (file, 0))
        if wanted:
            file.unpin()  # it is pinned already
        self.pinned[host] = (file, wanted | _POLL[kind])
        self.files.setdefault(host, []).append((userdata, kind))

    def unpin(self) -> None:
        """Unpin the files."""
        while self.pinned:
            _, (file, _) = self.pinned.popitem()
            file.unpin()

    def sort(self) -> None:
        """Sort the subscriptions, when all have been made."""
        for timers in self.timers.values():
            timers.sort()

    def look(self) -> bool:
        """Check for events. Returns whether there is one."""
        if self.files:
            poll = select.poll()
            for host, (_, wanted) in self.pinned.items():
                poll.register(host, wanted)
            for host, ready in poll.poll(0):
                self._add_ready(host, ready)
        for clock, timers in self.timers.items():
            now = time.clock_gettime_ns(clock)
            for timer in timers:
                if timer.deadline > now:
                    break
                self.events.append(_Event(timer.userdata, Errno.SUCCESS, EventType.CLOCK))
        return bool(self.events)

    def next_wait(self) -> Wait:
        """The `Wait` until the next `look`."""
        longest = min(
            (timers[0].deadline - time.clock_gettime_ns(clock) for clock, timers in self.timers.items()),
            default=_LONGEST_WAIT,
        )
        return Wait(tuple(self.pinned.values()), time.monotonic_ns() + min(longest, _LONGEST_WAIT))

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
    """The number of bytes that can be read without waiting; 0 where the host can't tell."""
    count = array.array("i", [0])
    try:
        status = os.fstat(host)
        if stat.S_ISREG(status.st_mode):
            # The host's count has 32 bits.
            return max(status.st_size - os.lseek(host, 0, os.SEEK_CUR), 0)
        fcntl.ioctl(host, termios.FIONREAD, count)
    except OSError:
        return 0
    return max(count[0], 0)


def poll_oneoff(context: Context, subscriptions: int, events: int, count: int, result: int) -> Steps:
    """Wait until one of the subscribed events happens, and store all that have."""
    if not 0 < count <= MAX_SUBSCRIPTIONS:
        raise WasiError(Errno.EINVAL)
    memory = context.memory
    span(memory, events, count * EVENT.size)
    span(memory, result, context.layout.size.size)
    records = bytes(span(memory, subscriptions, count * SUBSCRIPTION.size))
    waiting = Waiting()
    try:
        for userdata, tag, union in SUBSCRIPTION.iter_unpack(records):
            if tag == EventType.CLOCK:
                waiting.add_clock(context, userdata, union)
            elif tag in (EventType.FD_READ, EventType.FD_WRITE):
                waiting.add_file(context, userdata, EventType(tag), union)
            else:
                raise WasiError(Errno.EINVAL)
        waiting.sort()
        del memory
        yield TURN
        while not waiting.look():
            yield waiting.next_wait()
    finally:
        waiting.unpin()
    _store(context, waiting, events, result)


def _store(context: Context, waiting: Waiting, events: int, result: int) -> None:
    memory = context.memory
    for i, event in enumerate(waiting.events):
        pack(memory, EVENT, events + i * EVENT.size, *event)
    pack(memory, context.layout.size, result, len(waiting.events))
