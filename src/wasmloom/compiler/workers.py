"""Compiling parts of a module at the same time, in worker processes.

LLVM as llvmlite has it holds one lock for everything, so that threads gain nothing. A worker is a fresh Python process
that is fed through pipes. The process pools of the standard library are not used, for these reasons:

* Their workers import the main module again (`spawn`, `forkserver`), which fails or does harm with scripts on standard
  input and in scripts without ``if __name__ == "__main__"``; forked workers inherit locks in any state, those of LLVM
  included, and suspended guests.
* Ctrl-C reaches all processes of a terminal. Their workers print tracebacks, and a busy one is waited for.

Here, workers don't hear of Ctrl-C, are killed when the caller is interrupted, and end by themselves as soon as the
caller is gone, however it went.

Protocol, both directions: 8 bytes of length, little endian, then a pickle. A worker first reads the pickled `sys.path`
without a length, then what to call, then arguments one by one. It answers each with (True, result) or
(False, exception).
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import IO, Any, BinaryIO, TypeVar

from wasmloom.errors import CompileError

T = TypeVar("T")

_LENGTH = struct.Struct("<Q")

#: Whether this process is a worker.
is_worker = False

#: What a worker runs: isolated from the current folder and the environment, with the caller's path instead.
_BOOTSTRAP = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from wasmloom.compiler.workers import serve; serve()"
)


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def compile_parts(
    parts: Sequence[T],
    function: Callable[[T], bytes],
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    isolated: bool = False,
) -> list[bytes]:
    """The results of `function` for all `parts`, in their order.

    `function` is a function at the top level of an importable module, or a `functools.partial` of one: it and the parts
    are pickled. `workers` is the number of processes at most (default: `processors`); with 1, for a
    single part, and where no Python can be started, `function` runs in this process; if `isolated`, only the last.
    `progress` is called in this
    thread with the number of parts done and of all parts, first with 0 done.

    Raises what `function` raises, and `CompileError` when a worker dies; the other workers are killed then, as they are
    when this thread is interrupted.
    """
    total = len(parts)
    count = min(total, processors() if workers is None else max(1, workers))
    if progress is not None:
        progress(0, total)
    results: list[bytes] = []
    if (count <= 1 and not isolated) or total == 0 or not _can_start():
        for part in parts:
            results.append(function(part))
            if progress is not None:
                progress(len(results), total)
        return results
    answers: dict[int, bytes] = {}
    pool = _Pool(list(parts), function)
    try:
        pool.start(count)
        while len(answers) < total:
            number, answer = pool.done.get()
            if isinstance(answer, BaseException):
                raise answer
            answers[number] = answer
            if progress is not None:
                progress(len(answers), total)
    finally:
        pool.stop()
    return [answers[number] for number in range(total)]


def _can_start() -> bool:
    """Whether `sys.executable` is a Python: in programs that embed or bundle it, it is something else or empty."""
    return os.path.basename(sys.executable or "").startswith("python") and not getattr(sys, "frozen", False)


class _Pool:
    """Processes, each with a thread that hands it one part after the other."""

    def __init__(self, parts: Sequence[Any], function: Callable[[Any], bytes]) -> None:
        self.parts = parts
        self.greeting = pickle.dumps(sys.path) + _message(function)
        #: (number of a part, its result), or (-1, the exception that ends everything).
        self.done: queue.SimpleQueue[tuple[int, bytes | BaseException]] = queue.SimpleQueue()
        self.waiting = iter(range(len(parts)))
        self.lock = threading.Lock()
        self.workers: list[_Worker] = []
        self.threads: list[threading.Thread] = []

    def start(self, count: int) -> None:
        for _ in range(count):
            worker = _Worker()
            self.workers.append(worker)
            thread = threading.Thread(target=self._feed, args=(worker,), name="wasmloom-compile", daemon=True)
            self.threads.append(thread)
            thread.start()

    def _feed(self, worker: _Worker) -> None:
        try:
            worker.send(self.greeting)
            while True:
                with self.lock:
                    number = next(self.waiting, None)
                if number is None:
                    return
                worker.send(_message(self.parts[number]))
                self.done.put((number, worker.receive()))
        except BaseException as error:
            self.done.put((-1, error))

    def stop(self) -> None:
        """End all processes, busy or not, and wait until they are gone."""
        for worker in self.workers:
            worker.process.kill()
        for thread in self.threads:
            thread.join()
        for worker in self.workers:
            worker.close()


class _Worker:
    """A process, seen from its caller. What it writes to standard error is kept, for when it dies."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            self.errors: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())
            try:
                self.process = subprocess.Popen(
                    [sys.executable, "-I", "-c", _BOOTSTRAP],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self.errors,
                    process_group=0,  # out of reach of the terminal's Ctrl-C
                )
            except OSError as error:
                raise CompileError(f"can't start a worker process: {error}") from error
            stack.pop_all()

    def send(self, message: bytes) -> None:
        """Write `message`; raises `CompileError` when nobody is there."""
        stream = self.process.stdin
        if stream is None:
            raise ValueError("a worker without input")
        try:
            stream.write(message)
            stream.flush()
        except OSError:
            raise self._death() from None

    def receive(self) -> bytes:
        """The result of the call; raises what the call raised, and `CompileError` when the process has died."""
        stream = self.process.stdout
        if stream is None:
            raise ValueError("a worker without output")
        content = _read_message(stream)
        if content is None:
            raise self._death()
        success, answer = pickle.loads(content)
        if not success:
            raise answer
        result: bytes = answer
        return result

    def _death(self) -> CompileError:
        code = self.process.wait()
        self.errors.seek(max(0, self.errors.seek(0, os.SEEK_END) - 2000))
        last_words = self.errors.read().decode(errors="replace").strip()
        how = f"status {code}" if code >= 0 else f"signal {-code} ({signal.strsignal(-code)})"
        return CompileError(f"a worker process that compiles ended with {how}" + (last_words and f": {last_words}"))

    def close(self) -> None:
        with self.errors, suppress(BrokenPipeError):
            self.process.__exit__(None, None, None)  # closes the pipes and waits


def _message(thing: object) -> bytes:
    content = pickle.dumps(thing, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(content)) + content


def _read_message(stream: IO[bytes]) -> bytes | None:
    """The next message, or None when the other side is gone."""
    length = stream.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(length)
    content = stream.read(size)
    return content if len(content) == size else None


def serve() -> None:
    """The worker's side: answer calls until there are none. Ends the process at once when the caller is gone."""
    requests = sys.stdin.buffer
    global is_worker
    is_worker = True
    # What the function prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    todo: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        while (content := _read_message(requests)) is not None:
            todo.put(content)
        os._exit(0)

    # A thread of its own notices the end of the caller while the main thread is busy in LLVM.
    threading.Thread(target=read, daemon=True).start()
    function = None
    while True:
        content = todo.get()
        try:
            if function is None:
                function = pickle.loads(content)
                continue
            answer = _message((True, function(pickle.loads(content))))
        except BaseException as error:
            answer = _failure(error)
        _write(answers, answer)


def _failure(error: BaseException) -> bytes:
    """The answer for a call that raised `error`: as it is where it can be pickled, otherwise its text."""
    try:
        message = _message((False, error))
        pickle.loads(message[_LENGTH.size :])
        return message
    except Exception:
        return _message((False, CompileError(f"{type(error).__name__}: {error}")))


def _write(stream: BinaryIO, message: bytes) -> None:
    try:
        stream.write(message)
        stream.flush()
    except OSError:
        os._exit(0)  # the caller is gone
