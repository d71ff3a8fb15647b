"""Saying on a terminal how far slow work is, and how long it will take."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress

from wasmloom.messages import printable

#: Seconds between two drawings.
_PAUSE = 0.2
#: Seconds of work before an estimate means anything.
_SOON = 1.0


def time_left(seconds: float, done: int, left: int) -> float | None:
    """The seconds that the rest takes, when `done` of it took so long; None where nothing can be said yet."""
    if done <= 0 or seconds < _SOON:
        return None
    return seconds * left / done


def duration(seconds: float) -> str:
    """A duration for people, as exact as an estimate is."""
    if seconds < 55:
        return f"{max(5, round(seconds / 5) * 5)} s"
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


class Progress:
    """Shows how far it is, in one line on standard error, if that is a terminal; the line goes in the end.

    Use it as a context, and call it with the work done and all work. `delay`: seconds without a line. A thread draws,
    because work may take long from one call to the next.
    """

    def __init__(self, label: str, delay: float = 0.0) -> None:
        self.label = printable(label)
        #: Whether there was anything to do.
        self.called = False
        self._delay = delay
        self._done = self._total = self._before = 0
        self._start = time.monotonic()
        self._shown = False
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, done: int, total: int) -> None:
        """So much of the work is done."""
        if not self.called:
            self._start, self._before = time.monotonic(), done
        self.called = True
        self._done, self._total = done, total

    def line(self) -> str:
        """What is shown now."""
        if not self.called or self._total == 0:
            return f"{self.label}: compiling"
        text = f"{self.label}: compiling, {100 * self._done // self._total} %"
        left = time_left(time.monotonic() - self._start, self._done - self._before, self._total - self._done)
        return text if left is None else f"{text}, about {duration(left)} left"

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            self._thread = threading.Thread(target=self._draw, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ends.set()
        if self._thread is not None:
            self._thread.join()
            if self._shown:
                self._write("\r\x1b[K")

    def _draw(self) -> None:
        if self._ends.wait(self._delay):
            return
        while not self._ends.is_set():
            self._shown = True
            self._write(f"\r{self.line()[: _columns() - 1]}\x1b[K")
            self._ends.wait(_PAUSE)

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the terminal may have gone
            sys.stderr.write(text)
            sys.stderr.flush()


def _columns() -> int:
    """The terminal's width; a terminal that doesn't know says 0."""
    with suppress(OSError, ValueError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    return 80
