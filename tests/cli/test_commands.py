"""The `wasmloom` command, run as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import FOREVER
from wasmloom.cli.app import COMMANDS


def wasmloom(*arguments: str | Path, cwd: Path | None = None, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    # In another folder, a relative path to the package would lead nowhere.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path)}
    command = [sys.executable, "-m", "wasmloom", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, cwd=cwd, env=environment, check=False)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


WASI = """(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (call $exit (i32.add (i32.const 40) (i32.load (i32.const 0))))))"""
TRAPS = """(module
  (func $inner (unreachable))
  (func $outer (export "outer") (call $inner))
  (func (export "forever") (loop (br 0)))
  (func $deep (export "deep") (call $deep))
  (memory (export "memory") 1)
  (func (export "_start") (call $outer)))"""
ADD = """(module
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "swap") (param i64 f32) (result f32 i64) (local.get 1) (local.get 0))
  (func (export "nothing")))"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, text in (
        ("wasi.wat", WASI),
        ("traps.wat", TRAPS),
        ("add.wat", ADD),
        (
            "foreign.wat",
            '(module (import "env" "mystery" (func)) (memory (export "memory") 1) (func (export "_start")))',
        ),
        ("invalid.wat", "(module\n  (func (result i32)\n    (i64.const 1)))"),
        ("malformed.wat", "(module\n  (func (oops)))"),
        (
            "good.wast",
            '(module (func (export "f") (result i32) (i32.const 1)))\n(assert_return (invoke "f") (i32.const 1))',
        ),
        (
            "bad.wast",
            '(module (func (export "f") (result i32) (i32.const 1)))\n(assert_return (invoke "f") (i32.const 2))',
        ),
    ):
        (tmp_path / name).write_text(text)
    (tmp_path / "cut.wasm").write_bytes(b"\0asm\1\0\0\0\1\5")
    return tmp_path


def test_exit_status_is_the_guests(files: Path) -> None:
    assert wasmloom("run", files / "wasi.wat").returncode == 41
    done = wasmloom("run", files / "wasi.wat", "--one", "-t", "three")
    assert (done.returncode, done.stdout, done.stderr) == (44, "", "")


def test_all_that_follows_the_file_is_the_guests(files: Path) -> None:
    for arguments in (("-h",), ("--",), ("--version",), ("--", "-x"), ("--fuel", "0"), ("--nonsense", "run")):
        expected = 41 + len(arguments), "", ""
        for before in ((), ("--",), ("--fuel", "1000"), ("--env=A=--", "--")):
            done = wasmloom("run", *before, files / "wasi.wat", *arguments)
            assert (done.returncode, done.stdout, done.stderr) == expected, (before, arguments)


def test_binaries_run_too(files: Path) -> None:
    assert wasmloom("wat2wasm", files / "wasi.wat").returncode == 0
    assert (files / "wasi.wasm").read_bytes().startswith(b"\0asm")
    assert wasmloom("run", files / "wasi.wasm", "x").returncode == 42


def test_invoke(files: Path) -> None:
    for arguments, output in (
        (("add", "2", "-3"), "-1\n"),
        (("add", "0xffffffff", "1"), "0\n"),
        (("swap", "-7", "0.1"), "0.1\n-7\n"),
        (("nothing",), ""),
    ):
        done = wasmloom("run", "--invoke", arguments[0], files / "add.wat", *arguments[1:])
        assert (done.returncode, done.stdout, done.stderr) == (0, output, "")
    done = wasmloom("run", "--invoke", "add", files / "add.wat", "1")
    assert done.returncode == 2 and "add takes 2 arguments" in done.stderr
    done = wasmloom("run", "--invoke", "add", files / "add.wat", "1", "x")
    assert done.returncode == 2 and "'x'" in done.stderr
    done = wasmloom("run", "--invoke", "missing", files / "add.wat")
    assert done.returncode == 1 and "missing" in done.stderr


def test_traps_print_the_backtrace(files: Path) -> None:
    done = wasmloom("run", files / "traps.wat")
    assert done.returncode == 134
    assert done.stderr.startswith("error: trap: ") and "unreachable" in done.stderr
    assert "inner" in done.stderr and "outer" in done.stderr and "offset 0x" in done.stderr
    assert "Traceback" not in done.stderr
    done = wasmloom("run", "--invoke", "deep", files / "traps.wat")
    assert done.returncode == 134 and "call stack exhausted" in done.stderr


def test_limits(files: Path) -> None:
    done = wasmloom("run", "--fuel", "100000", "--invoke", "forever", files / "traps.wat")
    assert done.returncode == 134 and "fuel" in done.stderr
    done = wasmloom("run", "--timeout", "0.2", "--invoke", "forever", files / "traps.wat")
    assert done.returncode == 134 and "timeout" in done.stderr
    assert wasmloom("run", "--timeout", "-1", files / "wasi.wat").returncode == 2


WAITS = """(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "\\01")  ;; a subscription to the monotonic clock
  (data (i32.const 24) "\\ff\\ff\\ff\\ff\\ff")
  (data (i32.const 64) "\\50\\00\\00\\00\\08")  ;; an iovec
  (func (export "sleep") (drop (call $poll (i32.const 0) (i32.const 128) (i32.const 1) (i32.const 256))))
  (func (export "input") (drop (call $read (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 256)))))"""


@pytest.mark.parametrize("function", ["sleep", "input"])
def test_time_limits_hold_while_the_guest_waits(tmp_path: Path, function: str) -> None:
    (tmp_path / "waits.wat").write_text(WAITS)
    command = [sys.executable, "-m", "wasmloom", "run", "--timeout", "0.2", "--invoke", function]
    reader, writer = os.pipe()
    try:
        done = subprocess.run(
            [*command, str(tmp_path / "waits.wat")],
            stdin=reader,
            stderr=subprocess.PIPE,
            timeout=FOREVER,
            check=False,
        )
    finally:
        os.close(reader)
        os.close(writer)
    assert done.returncode == 134 and b"timeout" in done.stderr


#: Says so when it runs, and never ends.
SAYS = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\08\\00\\00\\00\\01\\00\\00\\00!")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
    (loop (br 0))))"""


def test_interruption(tmp_path: Path) -> None:
    (tmp_path / "says.wat").write_text(SAYS)
    command = [sys.executable, "-m", "wasmloom", "run", str(tmp_path / "says.wat")]
    # A process that a script started in the background ignores the signal, and so would its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    signal.signal(signal.SIGINT, before)
    try:
        assert process.stdout is not None and process.stdout.read(1) == b"!"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=FOREVER)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert b"Traceback" not in errors


@pytest.mark.parametrize(
    ("command", "file", "words"),
    [
        ("run", "foreign.wat", ("error: link: ", "env.mystery")),
        ("run", "add.wat", ("error: link: ", "_start")),
        ("run", "missing.wasm", ("error: cannot read: ", "missing.wasm")),
        ("run", "invalid.wat", ("error: invalid: ", "line 3")),
        ("validate", "invalid.wat", ("error: invalid: ", "line 3")),
        ("validate", "malformed.wat", ("error: malformed: ", "line 2")),
        ("validate", "cut.wasm", ("error: malformed: ", "offset 0x")),
        ("inspect", "cut.wasm", ("error: malformed: ", "offset 0x")),
        ("wat2wasm", "malformed.wat", ("error: malformed: ", "line 2")),
        ("wasm2wat", "cut.wasm", ("error: malformed: ", "offset 0x")),
        ("wast", "missing.wast", ("error: cannot read: ",)),
    ],
)
def test_errors_are_one_line(files: Path, command: str, file: str, words: tuple[str, ...]) -> None:
    done = wasmloom(command, files / file)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    for word in (*words, file):
        assert word in done.stderr


def test_validate(files: Path) -> None:
    done = wasmloom("validate", "add.wat", "wasi.wat", cwd=files)
    assert (done.returncode, done.stdout, done.stderr) == (0, "add.wat: valid\nwasi.wat: valid\n", "")
    done = wasmloom("validate", "add.wat", "cut.wasm", "wasi.wat", cwd=files)
    assert (done.returncode, done.stdout) == (1, "add.wat: valid\nwasi.wat: valid\n")


def test_conversions_round_trip(files: Path) -> None:
    assert wasmloom("wat2wasm", files / "add.wat", "-o", files / "a.wasm").returncode == 0
    text = wasmloom("wasm2wat", files / "a.wasm").stdout
    assert text.startswith("(module")
    (files / "b.wat").write_text(text)
    assert wasmloom("wat2wasm", files / "b.wat", "-o", files / "b.wasm").returncode == 0
    assert (files / "a.wasm").read_bytes() == (files / "b.wasm").read_bytes()
    done = wasmloom("run", "--invoke", "add", "-", "1", "2", stdin=(files / "a.wasm").read_bytes())
    assert done.stdout == "3\n"


def test_inspect(files: Path) -> None:
    done = wasmloom("inspect", "--functions", files / "wasi.wat")
    assert done.returncode == 0
    for word in ("import", "proc_exit", "_start", "memory", "code"):
        assert word in done.stdout
    # What can't be run can still be looked at.
    (files / "simd.wat").write_text('(module (func (export "f") (param v128) (drop (ref.i31 (i32.const 0)))))')
    done = wasmloom("inspect", files / "simd.wat")
    assert done.returncode == 0 and "f: func [v128] -> []" in done.stdout
    assert "exceptions" not in done.stdout
    old, new = "(func (try (do) (catch_all)))", "(func (try_table))"
    for functions, said in ((old, "old (try)"), (new, "new (try_table)"), (old + new, "old (try) and new (try_table)")):
        (files / "exceptions.wat").write_text(functions)
        done = wasmloom("inspect", files / "exceptions.wat")
        assert f"exceptions: {said}\n" in done.stdout
    done = wasmloom("inspect", "--bytecode", "--func", "add", files / "add.wat")
    assert done.returncode == 0 and "add" in done.stdout
    done = wasmloom("inspect", "--func", "99", files / "add.wat")
    assert done.returncode == 1 and "99" in done.stderr


def test_wast(files: Path) -> None:
    done = wasmloom("wast", files / "good.wast")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"{files / 'good.wast'}: 2 passed, 0 failed, 0 skipped",
        "2 passed, 0 failed, 0 skipped",
    ]
    done = wasmloom("wast", files / "good.wast", files / "bad.wast")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "3 passed, 1 failed, 0 skipped"
    assert f"{files / 'bad.wast'}:2: " in done.stderr


def test_kinds_of_memory(files: Path) -> None:
    for kind in ("auto", "checked"):
        assert wasmloom("run", "--memory", kind, files / "wasi.wat", "x").returncode == 42
        assert wasmloom("wast", "--memory", kind, files / "good.wast").returncode == 0
    done = wasmloom("run", "--memory", "none", files / "wasi.wat")
    assert done.returncode == 2 and "unknown memory 'none'" in done.stderr


def test_usage(files: Path) -> None:
    assert wasmloom("--version").stdout.startswith("wasmloom ")
    for arguments in ((), ("--help",)):
        done = wasmloom(*arguments)
        assert all(name in done.stdout + done.stderr for name in COMMANDS)
    for arguments in (("nonsense",), ("run",), ("run", "--tier", "x", files / "add.wat"), ("run", "--nonsense")):
        done = wasmloom(*arguments)
        assert done.returncode == 2 and "error: " in done.stderr
    for name in COMMANDS:
        assert wasmloom(name, "--help").returncode == 0


def test_the_version_loads_little() -> None:
    code = "import sys; from wasmloom.cli import main; main(['--version']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'argparse'" not in done.stdout and "'llvmlite'" not in done.stdout


def test_a_closed_pipe_is_not_an_error(files: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "wasmloom", "wasm2wat", str(files / "add.wat")],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert done.returncode == 1 and done.stderr == b""
