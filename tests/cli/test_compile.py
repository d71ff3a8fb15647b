"""`wasmloom compile`, and what `wasmloom inspect` shows of the compiler, run as processes."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_commands import ADD
from tests.patience import FOREVER, attempts, comes

SWITCHES = """(module
  (type $f (func)) (type $k (cont $f)) (tag $t)
  (func $body (suspend $t))
  (elem declare func $body)
  (func $main (export "main") (call $run))
  (func $run
    (loop) ;; what has one stands in no caller's code
    (block $on (result (ref $k)) (resume $k (on $t $on) (cont.new $k (ref.func $body))) (return))
    (drop)))"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "add.wat").write_text(ADD)
    (tmp_path / "switches.wat").write_text(SWITCHES)
    (tmp_path / "invalid.wat").write_text("(module\n  (func (result i32)\n    (i64.const 1)))")
    return tmp_path


def large(count: int) -> str:
    """A module that takes LLVM a while, in several units."""
    step = "(local.set 0 (i64.mul (i64.add (local.get 0) (local.get 1)) (i64.const 0x123456789abcdef)))"
    functions = f"(func (param i64 i64) (result i64) {step * 1200} (local.get 0))" * count
    return f"(module {functions})"


def environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path, "WASMLOOM_CACHE_DIR": str(folder / "cache")}


def wasmloom(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wasmloom", *arguments],
        capture_output=True, text=True, check=False, cwd=folder, env={**environment(folder), **more},
    )  # fmt: skip


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "cache").glob("*.code"))


def test_compile_fills_the_cache(files: Path) -> None:
    done = wasmloom(files, "compile", "add.wat", "switches.wat", "--workers", "1")
    assert (done.returncode, done.stderr) == (0, "")
    for line, name in zip(done.stdout.splitlines(), ("add.wat", "switches.wat"), strict=True):
        assert re.fullmatch(rf"{name}: compiled: \d+\.\d KiB of code, \d+\.\d\d s", line)
    assert len(entries(files)) == 2
    again = wasmloom(files, "compile", "add.wat")
    assert "add.wat: in the cache already: " in again.stdout
    # `run` finds it there, and no other code is needed.
    ran = wasmloom(files, "run", "--tier", "compiler", "--invoke", "add", "add.wat", "1", "2", WASMLOOM_LOG="cache")
    assert ran.stdout == "3\n" and "cache: hit " in ran.stderr and len(entries(files)) == 2
    # Other options are other code.
    assert wasmloom(files, "compile", "--stack-switching", "libcall", "--fuel", "add.wat").returncode == 0
    assert len(entries(files)) == 3
    cleared = wasmloom(files, "compile", "--clear-cache")
    assert cleared.returncode == 0 and cleared.stdout.startswith("removed ") and not entries(files)


def test_compile_goes_on_after_errors(files: Path) -> None:
    done = wasmloom(files, "compile", "invalid.wat", "missing.wasm", "add.wat")
    assert done.returncode == 1 and len(entries(files)) == 1
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == ["error"] * 2
    assert "invalid: invalid.wat: " in done.stderr and "line 3" in done.stderr and "missing.wasm" in done.stderr
    assert wasmloom(files, "compile").returncode == 2
    (files / "cache" / "in the way").mkdir()
    other = wasmloom(files, "compile", "add.wat", WASMLOOM_CACHE_DIR=str(files / "add.wat"))
    assert other.returncode == 1 and "not kept" in other.stderr


def test_progress_is_for_terminals(files: Path) -> None:
    assert "\r" not in wasmloom(files, "compile", "add.wat").stderr
    (files / "large.wat").write_text(large(2))
    command = [sys.executable, "-m", "wasmloom", "compile", "large.wat"]

    def shown(number: int) -> bytes:
        """What the terminal gets, with a cache that has nothing."""
        leader, terminal = pty.openpty()
        streams = {"stdout": subprocess.PIPE, "stderr": terminal}
        cache = {"WASMLOOM_CACHE_DIR": str(files / str(number))}
        with subprocess.Popen(command, **streams, cwd=files, env={**environment(files), **cache}) as process:
            os.close(terminal)
            output = b""
            try:
                while part := os.read(leader, 1000):
                    output += part
            except OSError:  # Linux: nobody has the terminal open any more
                pass
            os.close(leader)
        assert process.returncode == 0 and b"\n" not in output
        return output

    # The thread that draws may come when it is done already.
    assert any(b"large.wat: compiling, 0 %" in shown(number) for number in attempts())


@pytest.mark.parametrize(("functions", "count"), [(1, 1), (12, 2)])
def test_interruption_ends_everything(files: Path, functions: int, count: int) -> None:
    (files / "large.wat").write_text(large(functions))
    # It may be done before it is interrupted.
    assert any(is_interrupted(files, count) for _ in attempts())


def is_interrupted(files: Path, count: int) -> bool:
    """Whether compilation is still going on when it is. That ends, and so do its workers."""
    shutil.rmtree(files / "cache", ignore_errors=True)
    # A process that a script started in the background ignores the signal, and so would its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "wasmloom", "compile", "--workers", "2", "large.wat"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=files, env=environment(files), start_new_session=True,
    )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    try:
        # LLVM runs in processes of their own, even if it is one.
        tasks = Path(f"/proc/{process.pid}/task")
        workers: list[str] = []
        for _ in attempts(0.01):
            if process.poll() is not None or len(workers) >= count:
                break
            with contextlib.suppress(OSError):  # a thread has just ended
                workers = [child for task in tasks.iterdir() for child in (task / "children").read_text().split()]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=FOREVER)
    finally:
        process.kill()
        process.wait()
    if process.returncode == 0:
        return False
    assert len(workers) == count, "workers didn't start"
    assert process.returncode == 130 and output + errors.strip() == b""
    # They end with it, but not in the same moment.
    return comes(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


@pytest.mark.parametrize("functions", [1, 12])
def test_the_timeout_of_a_run_holds_while_its_module_is_compiled(files: Path, functions: int) -> None:
    (files / "large.wat").write_text(large(functions))

    def is_stopped() -> bool:
        """Whether it isn't done before somebody looks at the time."""
        shutil.rmtree(files / "cache", ignore_errors=True)
        done = wasmloom(files, "run", "--tier", "compiler", "--timeout", "0.05", "large.wat")
        stopped = done.returncode == 134 and done.stderr.startswith("error: trap: large.wat: timeout")
        return stopped and done.stderr.count("\n") == 1 and not entries(files)

    assert any(is_stopped() for _ in attempts())


def test_machine_code_is_shown(files: Path) -> None:
    done = wasmloom(files, "inspect", "--assembly", "switches.wat", "--function", "main")
    assert done.returncode == 0
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[0] == "function 1 main: func [] -> []"
    assert "callq wf.2  # run" in lines and "cmpq %fs:112, %rsp" in lines
    assert not [line for line in lines[2:] if line.startswith((".cfi", ".section", "#"))]
    call = next(i for i, line in enumerate(lines) if re.fullmatch("0x[0-9a-f]{6} call", line))
    assert call < lines.index("callq wf.2  # run")
    # Switching is part of the function, or a call.
    assert "jmpq *%r10" in wasmloom(files, "inspect", "--assembly", "switches.wat", "--func", "run").stdout
    libcall = wasmloom(files, "inspect", "--assembly", "switches.wat", "--func", "run", "--stack-switching", "libcall")
    assert "jmpq *%r10" not in libcall.stdout and "wl_switch_call" in libcall.stdout
    copied = wasmloom(files, "inspect", "--assembly", "--tier", "baseline", "add.wat").stdout
    assert "enter.0 frame=" in copied
    assert "jmp wl_enter_slow@PLT" in copied
    everything = wasmloom(files, "inspect", "--assembly", "--bytecode", "--llvm", "add.wat").stdout
    assert everything.count("function ") == 3
    for number in range(3):
        assert f"@wf.{number}(" in everything


def test_labels_of_machine_code_are_complete(files: Path) -> None:
    shown = wasmloom(files, "inspect", "--assembly", "switches.wat").stdout
    for text in shown.split("function ")[1:]:
        defined = set(re.findall(r"^ +(\.L\w+):", text, re.M))
        assert defined == set(re.findall(r"^      .*(\.L(?:BB|tmp)\w+)", text, re.M))


def test_cached_code_runs_without_llvm(files: Path) -> None:
    assert wasmloom(files, "compile", "add.wat").returncode == 0
    program = (
        "import sys; from wasmloom.cli import main\n"
        "main(['run', '--tier', 'compiler', '--invoke', 'add', 'add.wat', '1', '2'])\n"
        "print('llvmlite' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=files, env=environment(files)
    )
    assert (done.stdout, done.stderr) == ("3\nFalse\n", "")


def test_what_is_missing_is_not_the_module_s_fault(files: Path) -> None:
    program = (
        "import sys; from wasmloom.cli import main; from wasmloom.compiler import backends\n"
        "backends.fast_library = backends.has_llvmlite = lambda: None\n"
        "from wasmloom.compiler import identity\n"
        "sys.exit(main(['compile', 'add.wat']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=files, env=environment(files)
    )
    assert done.returncode == 1 and "cannot compile: add.wat: compiling needs llvmlite" in done.stderr
