"""`wasmloom run --snapshot-on`, `resume`, and `inspect` of snapshots."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_commands import wasmloom

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
    done = wasmloom(*given, "--invoke", "say", "--save", folder / "b.wlsnap", kept, "10")
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
        (("run", "--snapshot-on", "NEVER", "--invoke", "say", "a.wat"), 2, "takes END"),
        (("run", "--snapshot-to", "x", "a.wat"), 2, "needs --snapshot-on"),
    ],
)
def test_errors(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], status: int, words: str
) -> None:
    monkeypatch.chdir(folder)
    done = wasmloom(*arguments)
    assert done.returncode == status and words in done.stderr and "Traceback" not in done.stderr
