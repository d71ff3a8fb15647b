"""What a WASI program sees of the world."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any

import wasmloom as wl
from wasmloom.compat.wasmtime.errors import WasmtimeError
from wasmloom.compat.wasmtime.handles import Handle, Setting


class DirPerms(Enum):
    """What a program may do in a directory (of versions 24 to 45)."""

    READ_ONLY = 1
    WRITE_ONLY = 2
    READ_WRITE = 3


class FilePerms(Enum):
    """What a program may do with the files of a directory (of versions 24 to 45)."""

    READ_ONLY = 1
    WRITE_ONLY = 2
    READ_WRITE = 3


_WRITES = 2
_READS = 1
#: What a callback for output has as a type.
Callback = Callable[[bytes], int | None]
#: A path of the host's.
Path = str | bytes | os.PathLike[Any]
_OUTPUT_FILE = "The file, emptied before, that gets the program's standard"
_OUTPUT_FUNCTION = "A function that takes bytes, and returns how many (None: all), of the program's standard"


class _Quiet:
    """The host's file as a stream, which isn't a terminal to the guest."""

    def __init__(self, file: io.FileIO) -> None:
        self.readinto = file.readinto
        self.write = file.write

    def isatty(self) -> bool:
        """False, whatever the file is."""
        return False


def _called(callback: Callback, data: bytes) -> int:
    """Call a program's function for output. A negative result is an error number of the host's."""
    try:
        count = callback(data)
    except Exception:
        traceback.print_exc()
        raise OSError(errno.EIO, "the callback for output has raised an exception") from None
    if count is None:
        return len(data)
    if count < 0:
        raise OSError(-count, os.strerror(-count))
    return count


def _argv(values: Sequence[str]) -> list[str]:
    len(values)
    return [_text("argument", value) for value in values]


def _env(pairs: Iterable[Iterable[str]]) -> dict[str, str]:
    found = {}
    for name, value in pairs:
        found[_text("variable", name)] = _text("variable", value)
    return found


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"an {what} is a str, not {type(value).__name__}")
    return value


def _input(path: Path) -> _Quiet:
    try:
        return _Quiet(io.FileIO(os.fspath(path), "r"))
    except OSError as error:
        raise WasmtimeError(f"failed to set stdin file: {error}") from None


def _output(path: Path) -> _Quiet:
    try:
        return _Quiet(io.FileIO(os.fspath(path), "w"))
    except OSError as error:
        raise WasmtimeError(f"failed to set output file: {error}") from None


def _custom(callback: Callback) -> Callback:
    return lambda data: _called(callback, data)


class WasiConfig(Handle):
    """What a WASI program sees of the world; `Store.set_wasi` uses it up.

    Unless something else is said there are no arguments, variables and directories, no input, and output goes nowhere.
    """

    _core: dict[str, Any]

    argv = Setting[Sequence[str]](_argv, "The program's arguments; the first is its name.")
    env = Setting[Iterable[Iterable[str]]](_env, "The program's environment: pairs of names and values.")
    stdin_file = Setting[Path](_input, "The file that the program reads as its standard input.", "stdin")
    stdout_file = Setting[Path](_output, f"{_OUTPUT_FILE} output.", "stdout")
    stderr_file = Setting[Path](_output, f"{_OUTPUT_FILE} error.", "stderr")
    stdout_custom = Setting[Callback](_custom, f"{_OUTPUT_FUNCTION} output.", "stdout")
    stderr_custom = Setting[Callback](_custom, f"{_OUTPUT_FUNCTION} error.", "stderr")

    def __init__(self) -> None:
        self._core = {"preopens": {}}

    def inherit_argv(self) -> None:
        """Give the program this process's arguments."""
        self.argv = sys.orig_argv

    def inherit_env(self) -> None:
        """Give the program this process's environment."""
        self.env = os.environ.items()

    def inherit_stdin(self) -> None:
        """Let the program read this process's standard input."""
        self._core["stdin"] = None

    def inherit_stdout(self) -> None:
        """Let the program write to this process's standard output."""
        self._core["stdout"] = None

    def inherit_stderr(self) -> None:
        """Let the program write to this process's standard error."""
        self._core["stderr"] = None

    def preopen_dir(
        self,
        path: str,
        guest_path: str,
        fs_mutable: bool | DirPerms = True,
        file_perms: FilePerms = FilePerms.READ_WRITE,
        *,
        dir_perms: DirPerms | None = None,
    ) -> None:
        """Let the program have the directory `path` as `guest_path`.

        It may only read there if `fs_mutable` is False. Versions 24 to 45 have `dir_perms` (by position, too) and
        `file_perms` instead: here it may only read if one of them says so. Raises `WasmtimeError` when there is no such
        directory, or when it mayn't be read.
        """
        perms = fs_mutable if dir_perms is None else dir_perms
        directory = perms.value if isinstance(perms, DirPerms) else _READS | (_WRITES if perms else 0)
        allowed = directory & file_perms.value
        for what, value in (("path", path), ("guest_path", guest_path)):
            if not isinstance(value, str):
                raise TypeError(f"{what} is a str, not {type(value).__name__}")
        if not allowed & _READS:
            raise WasmtimeError(f"failed to add preopen dir: {guest_path!r} can't be given without leave to read it")
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            raise WasmtimeError(f"failed to add preopen dir: {error}") from None
        self._core["preopens"][guest_path] = path if allowed & _WRITES else wl.ReadOnly(path)

    def _to_wasi(self) -> wl.Wasi:
        """The world that this describes."""
        given = {"stdin": b"", "stdout": _nowhere, "stderr": _nowhere} | self._consume()
        try:
            return wl.Wasi(
                args=given.get("argv", ()),
                env=given.get("env"),
                stdin=given["stdin"],
                stdout=given["stdout"],
                stderr=given["stderr"],
                preopens=given["preopens"],
            )
        except (OSError, ValueError) as error:
            raise WasmtimeError(f"failed to set up WASI: {error}") from None


def _nowhere(data: bytes) -> None:
    """Take what is written."""
