"""What of a module is worth compiling, by where ticks find its bytecode: functions, and loops in them.

A tick finds bytecode at a loop's back edge, or where a function begins. So functions are counted by the time that goes
into them, and by how often they are called: just what matters, since a call between bytecode and compiled code takes
longer than one within either.

Nothing is compiled alone that is called by what isn't, or calls it, all the time. A *group* is what is compiled
together, and runs as compiled code from one moment on: functions that ticks have often found, and those they call
directly that ticks have found at all; with the loops of them in which bytecode may stand for long. The hottest come
first. Each further group takes as much time spent in bytecode (`ROUND`): where little time goes, there is little to
gain.

What can't be compiled in company is tried alone, once; a module with too many failures is left alone.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

#: Ticks that find bytecode which could be compiled, before there is a group.
ROUND = 32
#: Ticks that make a function hot, or a loop; of a larger function, one for each so many bytes, not more than the last.
HOT = 3
HOT_BYTES = 1 << 10
HOT_MOST = 8
#: Bytes of function bodies in a group, beside the hottest one.
GROUP_BYTES = 1 << 16
#: Loops of a function that are compiled at once: each of them is the whole function once more.
LOOPS = 2
#: Groups that can't be compiled, before nothing of the module is tried any more.
FAILURES = 8
#: Looks at guests that can wait until somebody counts what they have found.
_WAITING = 1024


class Group(NamedTuple):
    """Functions, by number of those defined in the module, and loops, as (function, offset in its bytecode)."""

    functions: list[int]
    loops: list[tuple[int, int]]


class Heat:
    """What is known of a module.

    Guests' threads `note` what they have found, in the middle of calls: nothing there takes long, fails, or needs
    another thread. Everything else is called by one thread at a time, which holds `working`.
    """

    def __init__(
        self, process: int, size_of: Callable[[int], int], callees_of: Callable[[int], Iterable[int]]
    ) -> None:
        """`size_of` gives the bytes of a function's body, `callees_of` the functions that it calls directly."""
        #: Whose threads work on it: a forked child has none of them.
        self.process = process
        #: Held by the thread that has something compiled, or loads it: never one that a signal handler may interrupt.
        self.working = allocate_lock()
        #: Whether the cache has been asked, and what `wasmloom.tiers.hot` knows it by.
        self.asked = False
        self.kept: Any = None
        #: Functions with compiled code, and those that are being compiled, or can't be; the same of loops.
        self.compiled: set[int] = set()
        self.tried: set[int] = set()
        self.tried_loops: set[tuple[int, int]] = set()
        self.failures = 0
        self._size_of = size_of
        self._callees_of = callees_of
        self._found: deque[list[tuple[int, int]]] = deque(maxlen=_WAITING)
        self._unheeded = 0
        self._functions: Counter[int] = Counter()
        self._loops: Counter[tuple[int, int]] = Counter()
        self._alone: set[int] = set()

    def note(self, places: list[tuple[int, int]]) -> None:
        """Note places where ticks have found bytecode: functions, and offsets in it (loops; 0: the beginning)."""
        self._found.append(places)
        self._unheeded += sum(self._can_gain(place) for place in places)

    @property
    def is_due(self) -> bool:
        """Whether there may be something to do."""
        return not self.asked or (self._unheeded >= ROUND and self.failures < FAILURES)

    def _can_gain(self, place: tuple[int, int]) -> bool:
        if place[0] in self.tried:
            return place[1] != 0 and place[0] in self.compiled and place not in self.tried_loops
        return True

    def take(self) -> Group | None:
        """The group that is to be compiled next, which counts as tried now; None: nothing is worth it yet."""
        if self._unheeded < ROUND or self.failures >= FAILURES:
            return None
        self._unheeded = 0
        while self._found:
            for place in self._found.popleft():
                self._functions[place[0]] += 1
                if place[1]:
                    self._loops[place] += 1
        functions = self._choose()
        known = self.compiled.union(functions)
        loops = [
            loop
            for loop, count in self._loops.most_common()
            if count >= HOT and loop[0] in known and loop not in self.tried_loops
        ]
        of_function: Counter[int] = Counter()
        chosen = []
        for loop in loops:
            of_function[loop[0]] += 1
            if of_function[loop[0]] <= LOOPS:
                chosen.append(loop)
        if not functions and not chosen:
            return None
        self.tried.update(functions)
        self.tried_loops.update(chosen)
        return Group(functions, chosen)

    def _choose(self) -> list[int]:
        chosen: list[int] = []
        left = GROUP_BYTES

        def choose(function: int) -> None:
            nonlocal left
            size = self._size_of(function) if chosen else 0
            if size <= left:
                left -= size
                chosen.append(function)

        for function, count in self._functions.most_common():
            if count < HOT:
                break
            if function in self.tried or count < min(self._size_of(function) // HOT_BYTES, HOT_MOST):
                continue
            if function in self._alone:
                if not chosen:
                    return [function]
                continue
            choose(function)
        for caller in chosen:  # also those that are added on the way
            found = {callee for callee in self._callees_of(caller) if callee in self._functions}
            found.difference_update(self.tried, self._alone, chosen)
            for callee in sorted(found, key=lambda callee: (-self._functions[callee], callee)):
                choose(callee)
        return chosen

    def succeeded(self, group: Group) -> None:
        """A group runs as compiled code."""
        self.compiled.update(group.functions)

    def failed(self, group: Group) -> None:
        """A group can't be compiled. Its functions may be tried once more, each alone."""
        self.failures += 1
        if len(group.functions) > 1:
            self._alone.update(group.functions)
            self.tried.difference_update(group.functions)
            self.tried_loops.difference_update(group.loops)

    def give_up(self) -> None:
        """There is no room for more code: nothing more can be compiled."""
        self.failures = FAILURES

    def know(self, functions: Iterable[int]) -> None:
        """Functions have compiled code that came from elsewhere."""
        self.compiled.update(functions)
        self.tried.update(functions)
