"""WASI preview 1: what a program is given, and how it ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.compat.conftest import package

#: A program that does what it is told, with fixed addresses: "hello" at 100, a buffer at 300, its length at 20.
GUEST = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_dir_name" (func $name (param i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "\\64\\00\\00\\00\\05\\00\\00\\00") (data (i32.const 100) "hello")
  (data (i32.const 200) "\\2c\\01\\00\\00\\64\\00\\00\\00") (data (i32.const 1000) "new.txtold.txt")
  (func (export "write") (param i32) (result i32)
    (call $write (local.get 0) (i32.const 0) (i32.const 1) (i32.const 20)))
  (func (export "read") (param i32) (result i32)
    (call $read (local.get 0) (i32.const 200) (i32.const 1) (i32.const 20)))
  (func (export "count") (result i32) (i32.load (i32.const 20)))
  (func (export "exit") (param i32) (call $exit (local.get 0)))
  (func (export "args") (result i32) (call $args (i32.const 2000) (i32.const 300)))
  (func (export "env") (result i32) (call $env (i32.const 2000) (i32.const 300)))
  (func (export "create") (param i32) (result i32)
    (call $open (local.get 0) (i32.const 0) (i32.const 1000) (i32.const 7) (i32.const 1) (i64.const 64) (i64.const 0)
      (i32.const 0) (i32.const 3000)))
  (func (export "open") (param i32 i64) (result i32)
    (call $open (local.get 0) (i32.const 0) (i32.const 1007) (i32.const 7) (i32.const 0) (local.get 1) (i64.const 0)
      (i32.const 0) (i32.const 3000)))
  (func (export "fd") (result i32) (i32.load (i32.const 3000)))
  (func (export "unlink") (param i32) (result i32) (call $unlink (local.get 0) (i32.const 1007) (i32.const 7)))
  (func (export "mkdir") (param i32) (result i32) (call $mkdir (local.get 0) (i32.const 1000) (i32.const 7)))
  (func (export "prestat") (param i32) (result i32) (call $prestat (local.get 0) (i32.const 3100)))
  (func (export "name") (param i32) (result i32)
    (call $name (local.get 0) (i32.const 300) (i32.load (i32.const 3104)))))"""

READ, WRITE = 2, 64
EPERM, EBADF = 63, 8


class Program:
    """The guest, with a world."""

    def __init__(self, w: Any, config: Any) -> None:
        engine = w.Engine()
        linker = w.Linker(engine)
        linker.define_wasi()
        self.store = w.Store(engine)
        self.store.set_wasi(config)
        self.exports = linker.instantiate(self.store, w.Module(engine, GUEST)).exports(self.store)

    def __call__(self, name: str, *arguments: int) -> Any:
        return self.exports[name](self.store, *arguments)

    def buffer(self, size: int) -> bytes:
        return bytes(self.exports["memory"].read(self.store, 300, 300 + size))


def test_output_to_files(w: Any, tmp_path: Path) -> None:
    config = w.WasiConfig()
    config.stdout_file, config.stderr_file = str(tmp_path / "out"), str(tmp_path / "err").encode()
    program = Program(w, config)
    assert [program("write", fd) for fd in (1, 2, 1, 0, 3)] == [0, 0, 0, EBADF, EBADF]
    assert ((tmp_path / "out").read_text(), (tmp_path / "err").read_text()) == ("hellohello", "hello")


def test_output_to_functions(w: Any) -> None:
    out: list[bytes] = []
    config = w.WasiConfig()
    config.stdout_custom, config.stderr_custom = out.append, len
    program = Program(w, config)
    assert (program("write", 1), program("count"), out) == (0, 5, [b"hello"]) and type(out[0]) is bytes
    assert (program("write", 2), program("count")) == (0, 5)


def test_functions_that_fail(w: Any, capfd: pytest.CaptureFixture[str]) -> None:
    def fail(data: bytes) -> None:
        raise KeyError("because")

    for callback, error in ((lambda data: -28, 51), (fail, 29), (3, 29)):  # ENOSPC, EIO
        config = w.WasiConfig()
        config.stdout_custom = callback
        program = Program(w, config)
        assert (program("write", 1), program("count")) == (error, 0)
    assert "because" in "".join(capfd.readouterr())


def test_input(w: Any, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("input")
    for path in (str(tmp_path / "in"), tmp_path / "in", os.fsencode(tmp_path / "in")):
        config = w.WasiConfig()
        config.stdin_file = path
        program = Program(w, config)
        assert (program("read", 0), program("count"), program.buffer(6)) == (0, 5, b"input\0")
    program = Program(w, w.WasiConfig())
    assert (program("read", 0), program("count"), program("write", 1), program("count")) == (0, 0, 0, 5)


def test_files_that_cannot_be_opened(w: Any, tmp_path: Path) -> None:
    config = w.WasiConfig()
    for name in ("stdin_file", "stdout_file", "stderr_file"):
        with pytest.raises(w.WasmtimeError):
            setattr(config, name, str(tmp_path / "none" / "file"))
    for path in (tmp_path / "none", Path(__file__)):
        with pytest.raises(w.WasmtimeError):
            config.preopen_dir(str(path), "/d")


def test_arguments_and_environment(w: Any) -> None:
    config = w.WasiConfig()
    config.argv, config.env = ["a", "ü"], [("X", "1"), ["Y", "2"]]
    program = Program(w, config)
    assert (program("args"), program.buffer(6)) == (0, "a\0ü\0\0".encode())
    assert (program("env"), program.buffer(8)) == (0, b"X=1\0Y=2\0")
    for name in ("argv", "env", "stdin_file", "stdout_custom"):
        with pytest.raises(AttributeError):
            getattr(config, name)
    for name in ("argv", "env"):
        with pytest.raises(TypeError):
            setattr(w.WasiConfig(), name, 3)


def test_what_is_inherited(w: Any) -> None:
    config = w.WasiConfig()
    for what in ("argv", "env", "stdin", "stdout", "stderr"):
        getattr(config, f"inherit_{what}")()
    program = Program(w, config)
    first = sys.orig_argv[0].encode() + b"\0"
    assert (program("args"), program.buffer(len(first))) == (0, first)


@pytest.mark.parametrize("spelling", ["none", "mutable", "by name", "perms", "perms by name"])
def test_directories(w: Any, tmp_path: Path, spelling: str) -> None:
    arguments: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "none": ((), {}),
        "mutable": ((True,), {}),
        "by name": ((), {"fs_mutable": True}),
    }
    if "perms" in spelling:
        if not hasattr(w, "DirPerms"):
            pytest.skip("this version of the package has another spelling")
        both = (w.DirPerms.READ_WRITE, w.FilePerms.READ_WRITE)
        arguments |= {"perms": (both, {}), "perms by name": ((), {"dir_perms": both[0], "file_perms": both[1]})}
    (tmp_path / "old.txt").write_text("old")
    config = w.WasiConfig()
    config.preopen_dir(str(tmp_path), "/dir", *arguments[spelling][0], **arguments[spelling][1])
    program = Program(w, config)
    assert (program("prestat", 3), program("name", 3), program.buffer(5), program("prestat", 4)) == (
        0, 0, b"/dir\0", EBADF,
    )  # fmt: skip
    assert program("create", 3) == 0 and program("write", program("fd")) == 0
    assert program("open", 3, READ) == 0 and program("read", program("fd")) == 0 and program.buffer(3) == b"old"
    assert program("unlink", 3) == 0
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("new.txt", "hello")]


@pytest.mark.parametrize("spelling", ["mutable", "by name", "directory", "files", "both"])
def test_directories_that_are_read_only(w: Any, tmp_path: Path, spelling: str) -> None:
    arguments: dict[str, dict[str, Any]] = {"mutable": {"fs_mutable": False}, "by name": {"fs_mutable": False}}
    if spelling not in arguments:
        if not hasattr(w, "DirPerms"):
            pytest.skip("this version of the package has another spelling")
        directory, files = {"dir_perms": w.DirPerms.READ_ONLY}, {"file_perms": w.FilePerms.READ_ONLY}
        arguments |= {"directory": directory, "files": files, "both": directory | files}
    (tmp_path / "old.txt").write_text("old")
    config = w.WasiConfig()
    if spelling == "mutable":
        config.preopen_dir(str(tmp_path), "/dir", False)
    else:
        config.preopen_dir(str(tmp_path), "/dir", **arguments[spelling])
    program = Program(w, config)
    refused = [program("create", 3), program("open", 3, WRITE), program("mkdir", 3), program("unlink", 3)]
    assert refused == [EPERM] * 4
    assert program("open", 3, READ) == 0 and program("read", program("fd")) == 0 and program.buffer(3) == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["old.txt"]


def test_directories_by_number(w: Any, tmp_path: Path) -> None:
    config = w.WasiConfig()
    for name, mutable in (("a", True), ("b", False), ("c", True)):
        (tmp_path / name).mkdir()
        config.preopen_dir(str(tmp_path / name), f"/{name}", mutable)
    program = Program(w, config)
    for fd, name in ((3, b"/a"), (4, b"/b"), (5, b"/c")):
        assert (program("prestat", fd), program("name", fd), program.buffer(2)) == (0, 0, name)
    assert [program("create", fd) for fd in (3, 4, 5)] == [0, EPERM, 0]


@pytest.mark.parametrize("status", [0, 1, 42, 125])
def test_programs_that_exit(tiered: Any, status: int) -> None:
    program = Program(tiered, tiered.WasiConfig())
    with pytest.raises(tiered.ExitTrap) as caught:
        program("exit", status)
    assert caught.value.code == status and f"Exited with i32 exit status {status}" in str(caught.value)


@pytest.mark.parametrize("status", [126, 255, -1])
def test_statuses_that_are_errors(w: Any, status: int) -> None:
    with pytest.raises(w.WasmtimeError, match="invalid exit status") as caught:
        Program(w, w.WasiConfig())("exit", status)
    assert not isinstance(caught.value, w.ExitTrap)


def test_several_instances(tiered: Any) -> None:
    w, out = tiered, []
    engine = w.Engine()
    linker, store, module = w.Linker(engine), w.Store(engine), w.Module(engine, GUEST)
    linker.define_wasi()
    config = w.WasiConfig()
    config.stdout_custom = out.append
    store.set_wasi(config)
    first, second = (linker.instantiate(store, module).exports(store) for _ in range(2))
    second["memory"].write(store, b"other", 100)
    for exports in (first, second, first):
        assert exports["write"](store, 1) == 0
    assert out == [b"hello", b"other", b"hello"]


def test_a_world_that_comes_late(w: Any) -> None:
    engine = w.Engine()
    linker, store, out = w.Linker(engine), w.Store(engine), []
    linker.define_wasi()
    exports = linker.instantiate(store, w.Module(engine, GUEST)).exports(store)
    config = w.WasiConfig()
    config.stdout_custom = out.append
    store.set_wasi(config)
    assert exports["write"](store, 1) == 0 and out == [b"hello"]


def test_functions_of_wasi(w: Any) -> None:
    engine = w.Engine()
    linker, store = w.Linker(engine), w.Store(engine)
    linker.define_wasi()
    with pytest.raises(w.WasmtimeError):
        w.Linker(engine).instantiate(store, w.Module(engine, GUEST))
    function = linker.get(store, "wasi_snapshot_preview1", "fd_write")
    assert function.type(store).params == [w.ValType.i32()] * 4
    with pytest.raises(w.WasmtimeError):
        linker.get(store, "wasi_unstable", "fd_write")


def test_without_a_world() -> None:
    # The package ends the process.
    import wasmloom.compat.wasmtime as w

    engine = w.Engine()
    linker, store = w.Linker(engine), w.Store(engine)
    linker.define_wasi()
    exports = linker.instantiate(store, w.Module(engine, GUEST)).exports(store)
    with pytest.raises(w.WasmtimeError, match="set_wasi"):
        exports["write"](store, 1)


def test_guests_see_no_terminal(tmp_path: Path) -> None:
    """Programs that think they talk to a terminal show prompts."""
    text = """(module (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $f (param i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "kind") (param i32) (result i32) (drop (call $f (local.get 0) (i32.const 8)))
        (i32.load8_u (i32.const 8))))"""
    program = f"""
import importlib, sys
w = importlib.import_module(sys.argv[1])
engine = w.Engine()
linker, store = w.Linker(engine), w.Store(engine)
linker.define_wasi()
config = w.WasiConfig()
config.stdin_file, config.stdout_custom = {os.devnull!r}, lambda data: None
store.set_wasi(config)
exports = linker.instantiate(store, w.Module(engine, '''{text}''')).exports(store)
print([exports["kind"](store, fd) for fd in (0, 1, 2)])
"""
    names = ["wasmloom.compat.wasmtime"]
    with contextlib.suppress(pytest.skip.Exception):
        names.append(package().__name__)
    for name in names:
        ran = subprocess.run([sys.executable, "-c", program, name], capture_output=True, text=True, check=True)
        assert ran.stdout == "[0, 0, 0]\n", name


def test_where_a_program_exits(tiered: Any) -> None:
    w = tiered
    engine = w.Engine()
    store = w.Store(engine)
    store.set_wasi(w.WasiConfig())
    linker = w.Linker(engine)
    linker.define_wasi()
    module = w.Module(
        engine,
        """(module $m (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (func $inner (call $exit (i32.const 7)) (unreachable))
          (func (export "_start") (call $inner) (unreachable)))""",
    )
    with pytest.raises(w.ExitTrap) as error:
        linker.instantiate(store, module).exports(store)["_start"](store)
    assert error.value.code == 7
    text = str(error.value)
    assert "Exited with i32 exit status 7" in text and "m!inner" in text and text.index("0:") < text.index("1:")
