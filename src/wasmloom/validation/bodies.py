"""Checking all function bodies of a module, by several threads if there are many bytes.

Bodies are independent of each other, and are checked without the GIL. Threads take them in pieces, in their order, each
with a validator of its own. The outcome is that of checking one after the other: what is wrong with the first body in
order, and the first use of each feature.
"""

from __future__ import annotations

import os
from _thread import allocate_lock
from collections.abc import Iterator
from contextlib import suppress

from wasmloom.binary.decoder import DecodedModule
from wasmloom.errors import CompileError
from wasmloom.system.apart import PATIENCE
from wasmloom.system.threads import start
from wasmloom.validation.validator import Validator

#: Bytes of bodies that a thread takes at a time: a few milliseconds of work.
PIECE = 1 << 16
#: Bytes of bodies, for each thread, from which on several threads are worth it: on a machine that is busy with other
#: things, waiting for one that doesn't get a processor may take longer than its share of less.
WORTH = 1 << 21
#: Threads at most: each needs its tables of the module.
MOST = 4


def check_bodies(validator: Validator) -> None:
    """Check all function bodies; the rules of the module have been checked.

    Raises what `Validator.check_function` raises for the first body that is wrong, and what a signal handler raises.
    """
    module = validator.module
    size = module.body_ends[-1] - module.body_starts[0] if module.num_bodies else 0
    others = min(len(os.sched_getaffinity(0)), MOST, size // WORTH) - 1
    if others < 1:
        validator.check_bodies(0, module.num_bodies)
        return
    known = set(validator.features)
    work = _Work(module)
    helpers: list[_Helper] = []
    try:
        with suppress(RuntimeError, MemoryError):  # no more threads: this one does the rest
            for _ in range(others):
                helpers.append(_Helper(work, validator.another()))
        work.check(validator)
        for helper in helpers:
            helper.wait()
    finally:
        work.stopped = True
    if os.getpid() != work.process:  # a signal handler has forked, and the child has no other threads
        validator.check_bodies(0, module.num_bodies)
        return
    if work.failures:
        raise min(work.failures, key=lambda failure: failure[0])[1]
    for helper in helpers:
        for name, use in helper.validator.features.items():
            if name not in validator.features or (name not in known and use[1] < validator.features[name][1]):
                validator.features[name] = use


class _Work:
    """The bodies of a module, for threads to share."""

    def __init__(self, module: DecodedModule) -> None:
        self.process = os.getpid()
        self.stopped = False
        #: Where the pieces begin in which something was wrong, and what. Pieces are taken in order, and all that have
        #: been taken are finished: so nothing before the first of these is wrong.
        self.failures: list[tuple[int, BaseException]] = []
        self._pieces = iter(list(_pieces(module)))

    def check(self, validator: Validator) -> None:
        """Check pieces until there are none left, or one is wrong."""
        for first, end in self._pieces:  # taking the next one is a single operation
            try:
                validator.check_bodies(first, end)
            except (CompileError, MemoryError) as error:
                self.failures.append((first, error))
            if self.failures or self.stopped:
                break


def _pieces(module: DecodedModule) -> Iterator[tuple[int, int]]:
    first = size = 0
    for number, (begin, end) in enumerate(zip(module.body_starts, module.body_ends, strict=True)):
        size += end - begin
        if size >= PIECE:
            yield first, number + 1
            first, size = number + 1, 0
    yield first, module.num_bodies


class _Helper:
    """Another thread, and its validator."""

    def __init__(self, work: _Work, validator: Validator) -> None:
        self.work = work
        self.validator = validator
        self._finished = allocate_lock()
        self._finished.acquire()
        start(self._run)

    def _run(self) -> None:
        try:
            self.work.check(self.validator)
        except BaseException as error:
            self.work.failures.append((0, error))
        self._finished.release()

    def wait(self) -> None:
        """Wait until it has finished, or isn't there any more: this process is a child of that one."""
        while not self._finished.acquire(timeout=PATIENCE) and os.getpid() == self.work.process:
            pass
