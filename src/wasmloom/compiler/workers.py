"""Compiling parts of a module at the same time, in worker processes.

The LLVM in llvmlite holds one lock for everything, so threads gain nothing. A worker is a fresh Python process that
gets its work through pipes. The process pools of the standard library are not used, for these reasons:

* Their workers import the main module again (`spawn`, `forkserver`), which fails or does harm for scripts on standard
  input and in scripts without ``if __name__ == "__main__"``; forked workers inherit locks in any state, those of LLVM
  included, and suspended guests.
* Ctrl-C reaches all processes of a terminal. Their workers print tracebacks, and a busy one is waited for.

Our workers don't receive Ctrl-C, are killed when the caller is interrupted, and end by themselves as soon as the caller
is gone, for whatever reason.

All calls of `compile_parts` share the workers of this process (`_Crew`), however many engines and modules there are:
about one per processor, fewer for work that no caller waits for. Each belongs to a thread that passes it one part after
the other; both end after `IDLE` seconds without work. Workers for what no caller waits for have a low priority
(`_NICE`). It can't be raised again without privileges, so they do no other work. They may have half of the machine's
memory; what needs more isn't compiled.

Protocol, both directions: 8 bytes of length, little endian, then a pickle. The caller sends ("call", path, pickled
function), and then ("part", pickled argument, seconds) for each part, which the worker answers with (True, result) or
(False, exception). A worker that uses more seconds of processor time for a part is ended by a signal (`Budget`). Large
bytes in the function, which is where modules are, don't lie in its pickle: before it comes ("large", their number), and
then they themselves, as they are. The worker keeps them, so other functions of the same module don't bring it along
again.

Invariants:

* Signal handlers, which run in the main thread only, may raise anywhere in `compile_parts`, and may call it: what it
  shares with other threads is changed under a lock that nests, by single operations that leave it whole.
* A worker that is killed is one whose thread works for the batch that ends: it is in ``_Batch.workers`` only then.
* After a fork the child has none of the threads, and none of the workers: it begins with a crew of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import pickle
import queue
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from _thread import RLock
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import IO, Any, BinaryIO, Generic, NamedTuple, TypeVar

from wasmloom.compiler.workforce import Abandoned, NoWorker, most_behind, processors
from wasmloom.errors import CompileError
from wasmloom.system.apart import run_apart
from wasmloom.system.owned import go_quietly

T = TypeVar("T")

_LENGTH = struct.Struct("<Q")

#: Whether this process is a worker.
is_worker = False

#: What a worker runs: isolated from the current folder and the environment, with the caller's path instead.
_BOOTSTRAP = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from wasmloom.compiler.workers import serve; serve(int(sys.argv[1]), sys.argv[2] == 'behind')"
)
#: Bytes objects larger than this are sent separately.
LARGE = 1 << 14
#: Seconds that a worker is kept without work.
IDLE = 2.0
#: Seconds between two checks of a caller for what doesn't wake it.
_PATIENCE = 0.05
#: Seconds that a caller waits at most until workers that it has killed are gone.
_GRACE = 5.0
_PR_SET_PDEATHSIG = 1
#: The priority of workers for what no caller waits for, beside that of their caller. The first is for machines where
#: the guest has a processor of its own, so that only other programs compete: beside each of them a worker gets a third
#: of what they get. The other is for those with one processor, which the guest keeps busy: a worker gets a tenth of it.
#: With the lowest priority it would be a hundredth, and nothing would ever be ready.
_NICE = 5
_NICE_ALONE = 10


class TooSlow(CompileError):
    """A part has taken all of its processor time."""


class Budget(NamedTuple, Generic[T]):
    """How much processor time parts may take in a worker, and what is done instead of those that take more."""

    #: The seconds for a part; 0: any.
    seconds: Callable[[T], float]
    #: Another part with the same result, which takes less; None: there is none, and `TooSlow` ends it all.
    cheaper: Callable[[T], T | None]


def compile_parts(
    parts: Sequence[T],
    function: Callable[[T], bytes],
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    isolated: bool = False,
    behind: bool = False,
    abandoned: Callable[[], bool] | None = None,
    budget: Budget[T] | None = None,
    finished: Callable[[int, bytes], None] | None = None,
) -> list[bytes]:
    """The results of `function` for all `parts`, in their order.

    `function` is a function at the top level of an importable module, or a `functools.partial` of one: it and the parts
    are pickled. `workers` is the number of processes at most (default: `processors`); with 1, for a
    single part, and where no Python can be started, `function` runs in this process; if `isolated`, only the last. It
    does so apart: a signal handler's exception within llvmlite could leave its lock locked, or LLVM's objects to be
    freed in any order.
    `progress` is called in this thread with the number of parts done and of all parts, first with 0 done; before that,
    `finished` with the number of a part and its result. `behind`: no caller waits for it, so all other work comes
    first. `abandoned` is called now and then. The `budget` is that of workers: nothing can interrupt LLVM in this
    process.

    Raises what `function` raises, `CompileError` when a worker dies, `NoWorker`, and `Abandoned`; workers that are busy
    with it are killed then, as they are when this thread is interrupted.
    """
    total = len(parts)
    count = min(total, processors() if workers is None else max(1, workers))
    if progress is not None:
        progress(0, total)
    results: list[bytes] = []
    from wasmloom.runtime import forks  # the build imports this module before that one exists

    if not forks.has_llvm() and not _can_start():
        raise CompileError("this process was forked while another thread was compiling, so it can't compile")
    isolated = isolated or not forks.has_llvm()
    if (count <= 1 and not isolated) or total == 0 or not _can_start():
        for number, part in enumerate(parts):
            results.append(run_apart(partial(_ignoring, function, part)).get())
            if finished is not None:
                finished(number, results[-1])
            if progress is not None:
                progress(len(results), total)
        return results
    answers: dict[int, bytes] = {}
    batch = _Batch(list(parts), function, count, behind, budget)
    try:
        _crew.add(batch)
        while len(answers) < total:
            try:
                number, answer = batch.done.get(timeout=_PATIENCE)
            except queue.Empty:
                if abandoned is not None and abandoned():
                    raise Abandoned("no caller waits for this code any more") from None
                continue
            if isinstance(answer, BaseException):
                raise answer
            answers[number] = answer
            if finished is not None:
                finished(number, answer)
            if progress is not None:
                progress(len(answers), total)
    finally:
        _crew.end(batch)
    return [answers[number] for number in range(total)]


def _ignoring(function: Callable[[T], bytes], part: T, abandoned: Callable[[], bool]) -> bytes:
    return function(part)


def _can_start() -> bool:
    """Whether `sys.executable` is a Python: in programs that embed or bundle it, it is something else or empty."""
    return os.path.basename(sys.executable or "").startswith("python") and not getattr(sys, "frozen", False)


class _Batch:
    """The parts of one call."""

    def __init__(
        self,
        parts: list[Any],
        function: Callable[[Any], bytes],
        limit: int,
        behind: bool,
        budget: Budget[Any] | None = None,
    ) -> None:
        self.parts = parts
        self.budget = budget
        #: The first message to a worker, and the large bytes in it.
        function_text, self.large = _apart(function)
        self.greeting = _message(("call", sys.path, function_text))
        self.limit = limit
        self.behind = behind
        #: (number of a part, its result), or (-1, the exception that ends everything).
        self.done: queue.SimpleQueue[tuple[int, bytes | BaseException]] = queue.SimpleQueue()
        self.waiting = deque(range(len(parts)))
        #: Parts that threads have taken, and the workers that are busy with them.
        self.running = 0
        self.workers: list[_Worker] = []
        self.ended = False


class _Crew:
    """The workers of this process, and the threads that they belong to."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.batches: list[_Batch] = []
        #: Where threads wait that have nothing to do, and whether their workers are for what no caller waits for.
        self.idle: list[tuple[queue.SimpleQueue[None], bool]] = []
        self.threads = 0
        #: All workers, for a forked child.
        self.workers: list[_Worker] = []

    def add(self, batch: _Batch) -> None:
        """Queue a batch."""
        from wasmloom.system.threads import start  # the build imports this module before that one exists

        if sys.is_finalizing():
            raise NoWorker("Python is ending")  # and the threads have gone, wherever they stood
        with self.lock:
            self.batches.append(batch)
            most = max(batch.limit, processors() + most_behind())
            for _ in range(batch.limit):
                fitting = [one for one in self.idle if one[1] == batch.behind]
                if fitting or (self.idle and self.threads >= most):
                    one = fitting[-1] if fitting else self.idle[-1]
                    self.idle.remove(one)
                    one[0].put(None)
                elif self.threads < most:
                    try:
                        start(self._work)
                    except RuntimeError as error:  # there are too many, or Python ends
                        if self.threads == 0:
                            raise NoWorker(f"can't start a thread for a worker process: {error}") from error
                        break
                    self.threads += 1

    def end(self, batch: _Batch) -> None:
        """Forget a batch, and kill the workers that are busy with it; returns when they are gone."""
        with self.lock:
            batch.ended = True
            batch.waiting.clear()
            if batch in self.batches:
                self.batches.remove(batch)
            for worker in batch.workers:
                worker.kill()
        end = time.monotonic() + _GRACE
        while batch.running and time.monotonic() < end:
            time.sleep(0.002)

    def _next(self) -> tuple[_Batch, int] | None:
        """The next work; work that a caller waits for comes first."""
        behind = sum(batch.running for batch in self.batches if batch.behind)
        for batch in sorted(self.batches, key=lambda batch: batch.behind):
            if batch.waiting and batch.running < batch.limit and not (batch.behind and behind >= most_behind()):
                batch.running += 1
                return batch, batch.waiting.popleft()
        return None

    def _wait(self, inbox: queue.SimpleQueue[None], behind: bool) -> tuple[_Batch, int] | None:
        """The next work, once there is some; None after a long time without, and the thread should end."""
        while True:
            with self.lock:
                found = self._next()
                if found is not None:
                    return found
                self.idle.append((inbox, behind))
            try:
                inbox.get(timeout=IDLE)
            except queue.Empty:
                with self.lock:
                    if (inbox, behind) in self.idle:
                        self.idle.remove((inbox, behind))
                        self.threads -= 1
                        return None
                inbox.get()  # a caller has just come

    def _work(self) -> None:
        """A thread with its worker."""
        inbox: queue.SimpleQueue[None] = queue.SimpleQueue()
        worker: _Worker | None = None
        while (found := self._wait(inbox, worker is not None and worker.behind)) is not None:
            batch, number = found
            try:
                if worker is not None and not (worker.is_usable() and worker.behind == batch.behind):
                    self._dismiss(worker)
                    worker = None
                if worker is None:
                    worker = _Worker(batch.behind)
                    self.workers.append(worker)
                with self.lock:
                    busy = not batch.ended
                    if busy:
                        batch.workers.append(worker)
                if busy:
                    try:
                        batch.done.put((number, worker.do(batch, number)))
                    except TooSlow:
                        if not self._again(batch, number):
                            raise
                    finally:
                        with self.lock:
                            batch.workers.remove(worker)
            except BaseException as error:
                batch.done.put((-1, error))
            if worker is not None and not worker.is_usable():
                self._dismiss(worker)
                worker = None
            with self.lock:
                batch.running -= 1
            del batch, found
        if worker is not None:
            self._dismiss(worker)

    def _again(self, batch: _Batch, number: int) -> bool:
        """Have a part that was too slow done in a cheaper way, if there is one."""
        cheaper = None if batch.budget is None else batch.budget.cheaper(batch.parts[number])
        if cheaper is None:
            return False
        with self.lock:
            batch.parts[number] = cheaper
            if not batch.ended:
                batch.waiting.appendleft(number)
        return True

    def _dismiss(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        worker.close()


class _Process(subprocess.Popen[bytes]):
    """A worker's process. `_Worker` waits for it, so there is nothing left to do when this goes."""

    __del__ = go_quietly


class _Worker:
    """A process, seen from its caller. What it writes to standard error is kept, in case it dies."""

    def __init__(self, behind: bool) -> None:
        self.behind = behind
        self._executable = sys.executable
        self._killed = False
        self._greeting = b""
        #: The large bytes that it has been sent, and keeps.
        self._large: list[bytes] = []
        with contextlib.ExitStack() as stack:
            self.errors: IO[bytes] = stack.enter_context(open(os.memfd_create("errors"), "w+b"))
            try:
                self.process = _Process(
                    [sys.executable, "-I", "-c", _BOOTSTRAP, str(os.getpid()), "behind" if behind else "ahead"],
                    bufsize=0,  # a forked child has no copy of what has not been written yet
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self.errors,
                    process_group=0,  # out of reach of the terminal's Ctrl-C
                )
            except OSError as error:
                raise NoWorker(f"can't start a worker process: {error}") from error
            stack.pop_all()
        self._send(pickle.dumps(sys.path))

    def do(self, batch: _Batch, number: int) -> bytes:
        """The result for a part; raises what the call raised, and `CompileError` when the process has died."""
        if self._greeting is not batch.greeting:
            self._greeting = b""
            self.errors.seek(0)  # for the process as well: it writes through the same open file
            self.errors.truncate()
            if not _are_same(batch.large, self._large):
                self._large = []
                self._send(_message(("large", len(batch.large))))
                for content in batch.large:
                    self._send(_LENGTH.pack(len(content)))
                    self._send(content)
                self._large = batch.large
            self._send(batch.greeting)
            self._greeting = batch.greeting
        part = batch.parts[number]
        seconds = 0.0 if batch.budget is None else batch.budget.seconds(part)
        self._send(_message(("part", pickle.dumps(part, pickle.HIGHEST_PROTOCOL), seconds)))
        return self._receive()

    def _send(self, message: bytes) -> None:
        """Write `message`; raises `CompileError` when the other end is gone."""
        stream = self.process.stdin
        if stream is None:
            raise ValueError("a worker without input")
        rest = memoryview(message)
        try:
            while rest:
                rest = rest[stream.write(rest) :]
        except OSError:
            raise self._death() from None

    def _receive(self) -> bytes:
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
        if code == -signal.SIGPROF:
            return TooSlow("a part takes longer to compile than it may")
        self.errors.seek(max(0, self.errors.seek(0, os.SEEK_END) - 2000))
        last_words = self.errors.read().decode(errors="replace").strip()
        how = f"status {code}" if code >= 0 else f"signal {-code} ({signal.strsignal(-code)})"
        return CompileError(f"a compiling worker process ended with {how}" + (last_words and f": {last_words}"))

    def is_usable(self) -> bool:
        """Whether it still runs, and is the same Python that would be started now."""
        return not self._killed and self.process.poll() is None and self._executable == sys.executable

    def kill(self) -> None:
        """End the process, from another thread than that it belongs to."""
        self._killed = True
        self.process.kill()

    def close(self) -> None:
        """End the process, and wait until it is gone."""
        self.process.kill()
        with self.errors, contextlib.suppress(BrokenPipeError):
            self.process.__exit__(None, None, None)  # closes the pipes and waits

    def forget(self) -> None:
        """Leave the process alone, because it belongs to this one's parent."""
        self.process.returncode = 0
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


_crew = _Crew()


def worker_processes() -> list[int]:
    """The workers of this process (for tests and diagnostics)."""
    return [worker.process.pid for worker in list(_crew.workers)]


def _after_fork_in_child() -> None:
    global _crew
    crew, _crew = _crew, _Crew()
    for worker in crew.workers:
        worker.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)


class _Pickler(pickle.Pickler):
    """Leaves large bytes out: a reference is their number in `large`."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.large: list[bytes] = []

    def persistent_id(self, thing: object) -> int | None:
        if type(thing) is not bytes or len(thing) < LARGE:
            return None
        self.large.append(thing)
        return len(self.large) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, large: list[bytes]) -> None:
        super().__init__(io.BytesIO(content))
        self._large = large

    def persistent_load(self, number: int) -> bytes:
        return self._large[number]


def _apart(thing: object) -> tuple[bytes, list[bytes]]:
    """The pickle of something, without the large bytes in it, and these."""
    text = io.BytesIO()
    pickler = _Pickler(text)
    pickler.dump(thing)
    return text.getvalue(), pickler.large


def _are_same(some: list[bytes], others: list[bytes]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))


def _message(thing: object) -> bytes:
    content = pickle.dumps(thing, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(content)) + content


def _read_message(stream: IO[bytes]) -> bytes | None:
    """The next message, or None when the other side is gone."""
    length = _read(stream, _LENGTH.size)
    return None if length is None else _read(stream, *_LENGTH.unpack(length))


def _read(stream: IO[bytes], size: int) -> bytes | None:
    """So many bytes, or None where the other side ends before."""
    pieces: list[bytes] = []
    while size > 0:
        piece = stream.read(size)
        if not piece:
            return None
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _give_way() -> None:
    """Let everything else run first, and leave memory to it. Not SCHED_IDLE: where a guest keeps the only processor
    busy, nothing would ever be compiled."""
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    with contextlib.suppress(OSError):
        os.nice(_NICE if processors() > 1 else _NICE_ALONE)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with contextlib.suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (half if most < 0 else min(half, most), most))


def serve(caller: int, behind: bool) -> None:
    """The worker's side: answer calls until there are none. Ends the process at once when the caller is gone.

    `behind`: no caller waits for it.
    """
    requests = sys.stdin.buffer
    global is_worker
    is_worker = True
    if behind:
        _give_way()
    # A child that the caller forks off would keep the pipes open. The signal comes when the thread ends that started
    # this process, which is when nothing needs it any more.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != caller:
        os._exit(0)
    # The function's output must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    todo: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        while (content := _read_message(requests)) is not None:
            todo.put(content)
        os._exit(0)

    # A thread of its own notices the end of the caller while the main thread is busy in LLVM.
    threading.Thread(target=read, daemon=True).start()
    function: Callable[[Any], Any] = _nothing
    large: list[bytes] = []
    while True:
        kind, *content = pickle.loads(todo.get())
        if kind == "large":
            large.clear()  # before the new ones are there as well
            function = _nothing
            large += [todo.get() for _ in range(content[0])]
            continue
        try:
            if kind == "call":
                sys.path[:] = content[0]
                function = partial(_unusable, content[1], large)
                function = _Unpickler(content[1], large).load()
                continue
            # Nothing interrupts LLVM but the end of the process, which is what this signal does.
            signal.setitimer(signal.ITIMER_PROF, content[1])
            try:
                answer = _message((True, function(pickle.loads(content[0]))))
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
        except BaseException as error:
            if kind == "call":
                continue
            answer = _failure(error)
        _write(answers, answer)


def _nothing(part: object) -> bytes:
    raise ValueError("a part without a function")


def _unusable(function: bytes, large: list[bytes], part: object) -> bytes:
    """Replaces a function that can't be imported: every part gets the reason."""
    _Unpickler(function, large).load()
    raise ValueError("a function that can be imported now, but couldn't before")


def _failure(error: BaseException) -> bytes:
    """The answer for a call that raised `error`: the error if it can be pickled, otherwise its text."""
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
