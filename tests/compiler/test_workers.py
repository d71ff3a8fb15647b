"""Compiling in worker processes: results, failures, interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from pickle import PicklingError

import pytest

import wasmloom
from tests.compiler import work
from tests.patience import comes
from wasmloom.compiler import workers as crew
from wasmloom.compiler.workers import (
    Abandoned,
    Budget,
    TooSlow,
    compile_parts,
    most_behind,
    processors,
    worker_processes,
)
from wasmloom.errors import CompileError

ROOT = Path(__file__).resolve().parent.parent.parent
#: Where the package is: in the project or, when it has been installed, elsewhere.
PACKAGE = str(Path(wasmloom.__file__).resolve().parents[1])


@pytest.fixture(autouse=True)
def workers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """They don't end while a test, or a child that it waits for, stands still."""
    monkeypatch.setattr(crew, "IDLE", 60.0)


@pytest.mark.parametrize("workers", [None, 1, 2, 3])
def test_results_in_order(workers: int | None) -> None:
    progress: list[tuple[int, int]] = []
    parts = [bytes([i]) for i in range(7)]
    results = compile_parts(parts, work.double, workers, lambda done, total: progress.append((done, total)))
    assert results == [part * 2 for part in parts]
    assert progress == [(done, 7) for done in range(8)]


def test_no_thread_for_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*arguments: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("wasmloom.system.threads.start", start)
    monkeypatch.setattr(crew, "_crew", crew._Crew())
    with pytest.raises(CompileError, match="can't start a thread"):
        compile_parts([1, 2], work.where, 2)


def test_parts_that_take_too_long_are_done_in_a_cheaper_way() -> None:
    """A worker that uses up a part's time is ended, and another does what is cheaper; other parts don't notice."""
    budget = Budget(lambda part: 0.1, lambda part: part * 10)
    parts = [2, 3, 4, 5]
    assert compile_parts(parts, work.spin, 2, budget=budget) == [b"2", b"30", b"4", b"50"]
    assert parts == [2, 3, 4, 5]
    with pytest.raises(TooSlow, match="longer to compile than it may"):
        compile_parts(parts, work.spin, 2, budget=Budget(lambda part: 0.1, lambda part: None))
    unlimited = Budget[int](lambda part: 0.0, lambda part: None)
    assert compile_parts([3], work.spin, 1, isolated=True, budget=unlimited) == [b"3"]


def test_nothing_to_do() -> None:
    progress: list[tuple[int, int]] = []
    assert compile_parts([], work.double, None, lambda *state: progress.append(state)) == []
    assert progress == [(0, 0)]


def test_order_does_not_depend_on_time() -> None:
    assert compile_parts(range(5), work.slower_first, 2) == [b"0", b"1", b"2", b"3", b"4"]


def test_where_it_runs() -> None:
    mine = str(os.getpid()).encode()
    assert compile_parts([1], work.where, 4) == [mine]
    assert compile_parts([1, 2], work.where, 1) == [mine, mine]
    assert mine not in compile_parts([1, 2], work.where, 2)
    assert processors() >= 1


def test_a_partial_function_and_large_messages() -> None:
    assert compile_parts(["1", "2"], partial(str.encode, encoding="utf-16-le"), 2) == [b"1\0", b"2\0"]
    parts = [bytes([i]) * 3_000_000 for i in range(4)]
    assert compile_parts(parts, work.double, 2) == [part * 2 for part in parts]
    assert compile_parts(range(3), work.large, 2) == [bytes([i]) * 5_000_000 for i in range(3)]


def test_output_does_not_get_in_between() -> None:
    assert compile_parts([b"a", b"b"], work.noisy, 2) == [b"a", b"b"]


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_of_the_function(workers: int) -> None:
    with pytest.raises(KeyError, match="part one"):
        compile_parts([0, 1, 2, 3], work.fail, workers)


def test_errors_that_cannot_travel() -> None:
    with pytest.raises(CompileError, match="Unpicklable: it has a lock"):
        compile_parts([0, 1], work.fail_strangely, 2)


def test_dead_workers() -> None:
    with pytest.raises(CompileError, match=r"ended with signal 9 \(Killed\): last words"):
        compile_parts([0, 1, 2, 3], work.die, 2)
    with pytest.raises(CompileError, match="ended with status 3"):
        compile_parts([0, 1], work.leave, 2)


def test_functions_that_workers_cannot_import() -> None:
    with pytest.raises((AttributeError, TypeError, ValueError, PicklingError), match="<lambda>"):
        compile_parts([0, 1], lambda part: b"", 2)


def test_without_a_python_it_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for executable in (None, "", "/usr/bin/server"):
        monkeypatch.setattr(sys, "executable", executable)
        assert compile_parts([1, 2], work.where, 2) == [str(os.getpid()).encode()] * 2


def test_python_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python3")
    with pytest.raises(CompileError, match="can't start a worker process"):
        compile_parts([1, 2], work.where, 2)


USE = """
import sys
sys.path[:0] = {path!r}
from wasmloom.compiler.workers import compile_parts
from tests.compiler import work
from tests.patience import comes
print(*map(bytes.decode, compile_parts({parts!r}, work.{function}, 2)))
"""


def use(parts: list[object], function: str) -> str:
    return USE.format(path=[str(ROOT), PACKAGE], parts=parts, function=function)


def environment() -> dict[str, str]:
    """Without a path for Python: workers get the caller's."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.mark.parametrize("how", ["command", "input", "file"])
def test_any_kind_of_program(how: str, tmp_path: Path) -> None:
    """It doesn't matter where the main module is from, and that it is not guarded against being imported."""
    text = use([b"ab", b"cd"], "double")
    (tmp_path / "script.py").write_text(text)
    # In the current folder are modules that nobody wants.
    for name in ("pickle", "wasmloom", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('wrong module')")
    command = {"command": ["-P", "-c", text], "input": ["-P", "-"], "file": ["-P", "script.py"]}[how]
    done = subprocess.run(
        [sys.executable, *command],
        input=text if how == "input" else "",
        capture_output=True, text=True, cwd=tmp_path, timeout=300, env=environment(),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "abab cdcd\n", "")


def wait_for(condition: Callable[[], object], message: str) -> None:
    assert comes(condition), message


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        others = len(os.listdir(f"/proc/{process}/task")) > 1  # its main thread may be gone before them
    except OSError:
        return False
    return state != "Z" or others


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_interrupted_callers_leave_nothing(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C goes to the caller's whole group, as a terminal does it; the others are just its end."""
    caller = subprocess.Popen(
        [sys.executable, "-c", use([str(tmp_path)] * 3, "hang")],
        stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment(),
    )  # fmt: skip
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2 or caller.poll() is not None, "workers don't start")
    os.killpg(caller.pid, number)
    _, errors = caller.communicate(timeout=300)
    assert caller.returncode == -number
    if number == signal.SIGINT:
        assert errors.count("Traceback") == 1 and errors.rstrip().endswith("KeyboardInterrupt")
    workers = [int(path.name) for path in tmp_path.iterdir()]
    assert len(workers) == 2
    wait_for(lambda: not any(map(is_running, workers)), f"workers still there after {number.name}")


def test_workers_are_out_of_the_terminals_reach() -> None:
    assert compile_parts([1, 2], work.ignore_interrupts, 2) == [b"True", b"True"]


def test_interruption_by_progress(tmp_path: Path) -> None:
    """What `progress` raises ends everything."""

    def progress(done: int, total: int) -> None:
        if done == 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        compile_parts(range(20), work.slower_first, 2, progress)


# --- all calls share the workers ---


def test_workers_are_used_again_and_end_when_nothing_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "_crew", crew._Crew())
    first = compile_parts([1], work.where, isolated=True)
    assert compile_parts([1], work.where, isolated=True) == first
    assert compile_parts([b"x"], work.double, isolated=True) == [b"xx"]
    monkeypatch.setattr(crew, "IDLE", 0.01)
    compile_parts([1, 2], work.where, 2)  # whoever waits has been called, and waits anew
    compile_parts([1], work.where, isolated=True)
    wait_for(lambda: not worker_processes() or not any(map(is_running, worker_processes())), "workers stay")


def test_large_bytes_are_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker keeps those of the last function, whatever functions they are in."""
    send, sent = crew._Worker._send, []

    def note(worker: crew._Worker, message: bytes) -> None:
        sent.append(len(message))
        send(worker, message)

    monkeypatch.setattr(crew._Worker, "_send", note)
    monkeypatch.setattr(crew, "_crew", crew._Crew())
    whole, other = bytes(1_000_000), b"xyz" * 1_000_000
    for part in range(3):
        assert compile_parts([part], partial(work.first, whole), isolated=True) == [b"1000000 bytes, 0"]
    assert sum(sent) < 1_100_000
    assert compile_parts([1, 2], partial(work.first, other), 1, isolated=True) == [
        b"3000000 bytes, 121",
        b"3000000 bytes, 122",
    ]
    assert compile_parts([1], partial(work.first, whole), isolated=True) == [b"1000000 bytes, 0"]
    assert compile_parts([7], partial(work.first, b"little more"), isolated=True) == [b"11 bytes, 109"]
    assert sum(sent) < 5_100_000


def in_threads(count: int, function: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=function, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_few_workers_whoever_wants_them() -> None:
    counts: list[int] = []

    def some(number: int) -> None:
        assert len(compile_parts([number, number], work.where, 2, behind=number % 2 == 0)) == 2
        counts.append(len(worker_processes()))

    before = len(worker_processes())
    in_threads(20, some)
    assert 1 <= max(counts) <= before + processors() + most_behind()


def test_what_nobody_waits_for_comes_last(tmp_path: Path) -> None:
    """However much of it there is, the rest doesn't wait."""
    waiting = [partial(compile_parts, [str(tmp_path)], work.hang, isolated=True, behind=True) for _ in range(10)]
    stop = threading.Event()

    def wait(number: int) -> None:
        with pytest.raises(Abandoned):
            waiting[number](abandoned=stop.is_set)

    threads = [threading.Thread(target=wait, args=(i,)) for i in range(10)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(list(tmp_path.iterdir())) == most_behind(), "nothing begins")
    assert compile_parts([b"x"], work.double, isolated=True) == [b"xx"]
    hanging = [int(path.name) for path in tmp_path.iterdir()]
    assert len(hanging) == most_behind()
    stop.set()
    for thread in threads:
        thread.join()
    wait_for(lambda: not any(map(is_running, hanging)), "what was abandoned goes on")


def test_what_nobody_waits_for_is_done_at_a_low_priority() -> None:
    """By workers that do nothing else, since priority can't be raised again."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    for behind in (True, False, True, False):
        (facts,) = compile_parts([0], work.scheduling, 1, isolated=True, behind=behind)
        priority, scheduler, memory = eval(facts)
        assert (priority > own) == (scheduler == os.SCHED_BATCH) == behind
        assert not behind or memory >= 1 << 28
    processes = worker_processes()
    assert len(processes) == len(set(processes)) >= 2  # each kind was there twice


def test_a_worker_that_dies_while_it_waits_is_replaced() -> None:
    (number,) = compile_parts([1], work.where, isolated=True)
    os.kill(int(number), signal.SIGKILL)
    wait_for(lambda: not is_running(int(number)), "it lives")
    assert compile_parts([b"x"] * 3, work.double, 2) == [b"xx"] * 3


FORK = USE.partition("print(")[0] + """
import os, signal
from wasmloom.compiler import workers
workers.IDLE = 60.0
(first,) = compile_parts([1], work.where, isolated=True)
child = os.fork()
if child == 0:
    (own,) = compile_parts([1], work.where, isolated=True)
    os._exit(0 if own != first else 1)
assert os.waitpid(child, 0)[1] == 0
assert compile_parts([1], work.where, isolated=True) == [first]  # the child has left it alone
child = os.fork()
if child == 0:  # lives on, with what it has of the parent
    signal.pause()
print(child, first.decode(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_forked_children_have_workers_of_their_own_and_keep_none_alive() -> None:
    text = FORK.format(path=[str(ROOT), PACKAGE])
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, env=environment()) as caller:
        assert caller.stdout is not None
        child, worker = map(int, caller.stdout.readline().split())
        try:
            assert caller.wait(300) == -signal.SIGKILL
            wait_for(lambda: not is_running(worker), "the worker outlives its caller")
        finally:
            os.kill(child, signal.SIGKILL)


def test_processes_go_without_python_code() -> None:
    """A signal handler that runs in a finaliser loses what it raises."""
    process = crew._Process([sys.executable, "-c", "pass"])
    process.wait()
    called: list[str] = []
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
    try:
        del process
    finally:
        sys.setprofile(before)
    assert called == []
