"""`wasmloom run --snapshot-on`, `resume`, and `inspect` of snapshots."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_commands import wasmloom
from tests.patience import FOREVER

TEXT = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2) (global $n (mut i32) (i32.const 1)) (table 3 funcref) (data "x")
  (data (i32.const 0) "\\08\\00\\00\\00\\03\\00\\00\\00hi\\n")
  (data (i32.const 64) "file")
  (func (export "prepare") (param $by i32) (result i32)
    (global.set $n (i32.add (global.get $n) (local.get $by)))
    (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 0) (i64.const 2)
      (i64.const 0) (i32.const 0) (i32.const 32)))
  (func (export "say") (param $more i32) (result i32)
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
    (global.set $n (i32.add (global.get $n) (local.get $more))) (global.get $n))
  (func (export "stop") (call $exit (i32.const 7)))
  (func (export "fail") unreachable))"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.wat").write_text(TEXT)
    (tmp_path / "file").write_text("content")
    (tmp_path / "b.wat").write_text("(module)")
    given = ("--invoke", "prepare", "--dir", f"{tmp_path}::/d", "--snapshot-on", "END")
    done = wasmloom("run", *given, tmp_path / "a.wat", "4")
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    return tmp_path


def test_resume(folder: Path) -> None:
    kept = folder / "a.wlsnap"
    given = ("resume", "--dir", f"{folder}::/d")
    done = wasmloom(*given, "--invoke", "say", "--snapshot-on", "END", "--snapshot-to", folder / "b.wlsnap", kept, "10")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hi\n15\n", "")
    done = wasmloom(*given, "--invoke", "say", folder / "b.wlsnap", "1")
    assert done.stdout == "hi\n16\n"
    assert wasmloom(*given, "--invoke", "say", kept, "1").stdout == "hi\n6\n"  # it is what it was
    assert wasmloom(*given, "--invoke", "stop", kept).returncode == 7
    done = wasmloom(*given, "--invoke", "fail", kept)
    assert done.returncode == 134 and "trap: " in done.stderr and "unreachable" in done.stderr


def test_inspect(folder: Path) -> None:
    done = wasmloom("inspect", folder / "a.wlsnap")
    assert (done.returncode, done.stderr) == (0, "")
    for line in (
        "modules: 1", "instances: 1", "  0: 2 pages, 4096 bytes in use", "  0: 3 elements, 0 in use",
        "  descriptor 1: stream 'stdout'", "  descriptor 3: directory '/d'", "  descriptor 4: file '/d/file'",
    ):  # fmt: skip
        assert line in done.stdout


@pytest.mark.parametrize(
    "arguments, status, words",
    [
        (("resume", "a.wlsnap"), 2, "--invoke says what to call"),
        (("resume", "--invoke", "say", "a.wlsnap", "1"), 1, "the directory '/d' open"),
        (("resume", "--invoke", "none", "--dir", ".::/d", "a.wlsnap"), 1, "no instance has an exported function"),
        (("resume", "--invoke", "say", "--dir", ".::/d", "a.wlsnap"), 2, "takes 1 arguments"),
        (("resume", "--invoke", "say", "b.wat"), 1, "this isn't a snapshot"),
        (("resume", "--invoke", "say", "none"), 1, "cannot read"),
        (("run", "--snapshot-on", "END", "a.wat"), 2, "needs --invoke"),
        *(
            (("run", "--snapshot-on", when, "--invoke", "say", "a.wat"), 2, "--snapshot-on takes a signal")
            for when in ("NEVER", "AFTER=", "AFTER=-1", "AFTER=x", "CALL=", "SIG_DFL", "SIGNONE")
        ),
        (("run", "--snapshot-on", "SIGUSR1", "--tier", "compiler", "a.wat"), 2, "snapshots=True"),
        (("run", "--snapshot-to", "x", "a.wat"), 2, "needs --snapshot-on"),
    ],
)
def test_errors(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], status: int, words: str
) -> None:
    monkeypatch.chdir(folder)
    done = wasmloom(*arguments)
    assert done.returncode == status and words in done.stderr and "Traceback" not in done.stderr


BUSY = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\08\\00\\00\\00\\06\\00\\00\\00begin\\n")
  (data (i32.const 16) "\\20\\00\\00\\00\\01\\00\\00\\00")
  (func $say (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 40))))
  (func $loop (export "loop") (param $turns i64)
    (loop $l
      (local.set $turns (i64.sub (local.get $turns) (i64.div_u (i64.const 7) (i64.const 5))))
      (br_if $l (i64.gt_s (local.get $turns) (i64.const 0)))))
  (func $ask (drop (call $read (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 40)))
    (i32.store8 (i32.const 8) (i32.load8_u (i32.const 32))))
  (func (export "_start") (call $say) (call $loop (i64.const TURNS)) (call $ask) (call $say)))"""
#: Half a second of work, or more.
MANY = 1_000_000_000


def test_a_signal_in_the_middle_of_a_computation(tmp_path: Path) -> None:
    """The program goes on, and so does its copy, in another process, from there."""
    (tmp_path / "busy.wat").write_text(BUSY.replace("TURNS", str(MANY)))
    command = [sys.executable, "-m", "wasmloom", "run", "--snapshot-on", "SIGUSR1", str(tmp_path / "busy.wat")]
    path = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    ) as run:
        assert run.stdout is not None and run.stdout.readline() == b"begin\n"
        run.send_signal(signal.SIGUSR1)
        assert run.communicate(b"B", timeout=FOREVER)[0] == b"Begin\n"
    kept = tmp_path / "busy.wlsnap"
    shown = wasmloom("inspect", kept).stdout
    assert "\n  _start (5) at 0x" in shown
    # On a slow machine the signal may come later.
    assert ", computes:\n  loop (3) at 0x" in shown or ", waits for wasi_snapshot_preview1.fd_read (1):\n" in shown
    for letter in (b"C", b"D"):
        done = wasmloom("resume", kept, stdin=letter)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{letter.decode()}egin\n", "")


def test_after_some_time(tmp_path: Path) -> None:
    (tmp_path / "busy.wat").write_text(BUSY.replace("TURNS", str(MANY)))
    to = tmp_path / "there"
    done = wasmloom("run", "--snapshot-on", "AFTER=0.05s", "--snapshot-to", to, tmp_path / "busy.wat", stdin=b"B")
    assert (done.returncode, done.stdout, done.stderr) == (0, "begin\nBegin\n", "")
    again = tmp_path / "again"
    done = wasmloom("resume", "--snapshot-on", "AFTER=0.02", "--snapshot-to", again, to, stdin=b"C")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Cegin\n", "")
    assert wasmloom("resume", again, stdin=b"D").stdout == "Degin\n"


def test_at_a_call(tmp_path: Path) -> None:
    """The call is made again: with what the new process has."""
    (tmp_path / "busy.wat").write_text(BUSY.replace("TURNS", "1"))
    done = wasmloom("run", "--snapshot-on", "CALL=fd_read", tmp_path / "busy.wat", stdin=b"B")
    assert (done.returncode, done.stdout, done.stderr) == (0, "begin\nBegin\n", "")
    assert "waits for wasi_snapshot_preview1.fd_read" in wasmloom("inspect", tmp_path / "busy.wlsnap").stdout
    assert wasmloom("resume", tmp_path / "busy.wlsnap", stdin=b"C").stdout == "Cegin\n"
    done = wasmloom("run", "--snapshot-on", "CALL=nothing", tmp_path / "busy.wat")
    assert done.returncode == 1 and "WASI has no function" in done.stderr


SUM = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\08\\00\\00\\00\\02\\00\\00\\000\\n") (data (i32.const 16) "\\20\\00\\00\\00\\01\\00\\00\\00")
  (func (export "_start") (local $sum i32)
    (loop $more
      (drop (call $read (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 40)))
      (if (i32.eqz (i32.load (i32.const 40))) (then (return)))
      (local.set $sum (i32.add (local.get $sum) (i32.sub (i32.load8_u (i32.const 32)) (i32.const 48))))
      (i32.store8 (i32.const 8) (i32.add (i32.const 48) (local.get $sum)))
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 40)))
      (br $more))))"""


def test_one_step_in_each_process(tmp_path: Path) -> None:
    (tmp_path / "sum.wat").write_text(SUM)
    done = wasmloom("run", "--snapshot-on", "CALL=wasi_snapshot_preview1.fd_read", tmp_path / "sum.wat")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    kept, total = tmp_path / "sum.wlsnap", 0
    for digit in (1, 3, 4):
        total += digit
        done = wasmloom("resume", "--snapshot-on", "CALL=fd_read", kept, stdin=str(digit).encode())
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{total}\n", "")
