"""WASI preview 1: what programs compiled for ``wasm32-wasi`` import.

```python
with Wasi(args=["wordcount", "/texts/a.txt"], preopens={"/texts": "./texts"}) as wasi:
    code = wasi.run(wl.Module.from_file("wordcount.wasm"))
```

Source: WebAssembly/WASI, preview 1 (`wasi_snapshot_preview1.witx`).
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from operator import and_
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from wasmloom.errors import ExitStatus, LinkError
from wasmloom.spec.types import I32, I64, FuncType
from wasmloom.wasi import files, pathcalls, polling, process
from wasmloom.wasi.abi import CALLS, ERRNO_OF_HOST, MODULE_NAME, Call, Errno, Rights, WasiError
from wasmloom.wasi.context import Context, Later
from wasmloom.wasi.descriptors import AsyncStream, Descriptor, HostFile, Stream, open_preopen

if TYPE_CHECKING:
    from wasmloom import Instance, Module, Store

__all__ = ["CALLS", "MODULE_NAME", "Errno", "Wasi", "call_type"]

StdIO = None | int | bytes | BinaryIO | Any
"""Standard input or output: None inherits the process's, an int is a host file descriptor that stays open, bytes (input
only) are the input itself. An asyncio `StreamReader` or `StreamWriter` (or what looks like one: see `AsyncStream`) is
for guests that run by `start_async`; anything else is a binary file object, of which `readinto` (or `read`) or `write`
is used."""

_WORD = 0xFFFF_FFFF
#: Parameter kind → what its bits are masked with (a signed word arrives as it should be), and its type.
_KINDS: dict[str, tuple[int, Any]] = {
    "fd": (_WORD, I32),
    "u32": (_WORD, I32),
    "u64": (_WORD << 32 | _WORD, I64),
    "s64": (-1, I64),
}

#: What a missing right fails with: POSIX programs expect EBADF for a file that isn't open for reading or writing.
_PLAIN_RIGHTS = int(Rights.FD_READ | Rights.FD_WRITE)


def _find(name: str) -> Callable[..., Later | None]:
    for module in (process, files, pathcalls, polling):
        found = getattr(module, name, None)
        if found is not None:
            return found  # type: ignore[no-any-return]
    raise KeyError(name)


_FUNCTIONS: dict[str, Callable[..., Later | None]] = {name: _find(name) for name in CALLS}


def call_type(name: str) -> FuncType:
    """The type of the function `name` of preview 1."""
    call = CALLS[name]
    return FuncType(tuple(_KINDS[kind][1] for kind in call.params), (I32,) if call.returns_errno else ())


def _describe(error: Exception) -> Errno:
    """The error number that the guest gets. Raises the error itself if it isn't about what the guest asked for."""
    if isinstance(error, WasiError):
        return error.errno
    if isinstance(error, OSError):
        return ERRNO_OF_HOST.get(error.errno or 0, Errno.EIO)
    raise error


async def _later(rest: Later) -> int:
    """The error number of a function that waits."""
    try:
        await rest()
    except (WasiError, OSError) as error:
        return int(_describe(error))
    return 0


def _bind(context: Context, name: str) -> Callable[..., int | Coroutine[Any, Any, int] | None]:
    """The host function `name`: takes words as the guest passes them, gives an error number, or what gives it later."""
    call: Call = CALLS[name]
    function = _FUNCTIONS[name]
    masks = tuple(_KINDS[kind][0] for kind in call.params)
    needed = int(call.right)
    table = context.table
    fds = [i for i, kind in enumerate(call.params) if kind == "fd"]

    def on_numbers(*arguments: int) -> int | Coroutine[Any, Any, int] | None:
        try:
            outcome = function(context, *map(and_, arguments, masks))
        except (WasiError, OSError) as error:
            return int(_describe(error))
        return 0 if outcome is None else _later(outcome)

    def on_descriptors(*arguments: int) -> int | Coroutine[Any, Any, int]:
        try:
            words: list[Any] = list(map(and_, arguments, masks))
            for i in fds:
                words[i] = table[words[i]]
            missing = needed & ~words[fds[0]].rights
            if missing:
                return int(Errno.EBADF if missing & _PLAIN_RIGHTS else Errno.ENOTCAPABLE)
            outcome = function(context, *words)
        except (WasiError, OSError) as error:
            return int(_describe(error))
        return 0 if outcome is None else _later(outcome)

    host = on_descriptors if fds else on_numbers
    host.__name__ = host.__qualname__ = name
    return host


def _text(kind: str, values: Iterable[str | bytes]) -> list[bytes]:
    texts = [value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value for value in values]
    for text in texts:
        if b"\0" in text:
            raise ValueError(f"{kind} must not contain NUL: {text!r}")
    return texts


def _stdio(value: StdIO, number: int) -> Descriptor:
    if value is None or isinstance(value, int):
        try:
            return HostFile(number if value is None else value, owned=False)
        except OSError:
            if value is not None:
                raise
            # The process itself has none, so the guest gets one that is empty.
            value = b"" if number == 0 else io.BytesIO()
    if AsyncStream.fits(value, readable=number == 0):
        return AsyncStream(value, readable=number == 0)
    return Stream(io.BytesIO(value) if isinstance(value, bytes) else value, readable=number == 0)


class Wasi:
    """One guest's view of the world: arguments, environment, standard streams and directories.

    `args` begins with the program's name. `preopens` maps the names by which the guest knows directories to directories
    of the host; nothing outside of them can be reached. Raises `OSError` when one can't be opened and `ValueError` for
    arguments that contain NUL. Close it (`with` does) to close every file that the guest left open.
    """

    def __init__(
        self,
        *,
        args: Sequence[str | bytes] = (),
        env: Mapping[str, str] | None = None,
        stdin: StdIO = None,
        stdout: StdIO = None,
        stderr: StdIO = None,
        preopens: Mapping[str, str | os.PathLike[str]] | None = None,
    ) -> None:
        variables = [f"{name}={value}" for name, value in (env or {}).items()]
        self._context = Context(_text("arguments", args), _text("environment variables", variables))
        table = self._context.table
        try:
            for number, value in enumerate((stdin, stdout, stderr)):
                table.add(_stdio(value, number))
            for guest, host in (preopens or {}).items():
                table.add(open_preopen(guest, host))
        except BaseException:
            table.close_all()
            raise

    def imports(self) -> dict[str, dict[str, Callable[..., int | Coroutine[Any, Any, int] | None]]]:
        """The functions, as `Instance` takes them. `bind` the instance before it calls them."""
        return {MODULE_NAME: {name: _bind(self._context, name) for name in CALLS}}

    def bind(self, instance: Instance) -> None:
        """Use the memory that `instance` exports as ``memory``. Raises `LinkError` when there is none."""
        if "memory" not in instance.exports:
            raise LinkError("a WASI program must export its memory as 'memory'")
        self._context.bind(instance.exports["memory"], instance.store)

    def bind_memory(self, memory: object) -> None:
        """Use `memory`, any object with a writable buffer of bytes, for guests that don't export theirs."""
        self._context.bind(memory)

    def start(self, instance: Instance) -> int:
        """Run an instance's ``_start`` and return its exit status. Its memory, if it exports one, is bound.

        Raises `LinkError` when there is no such function, and whatever the guest ends with (`Trap`).
        """
        start = self._entry(instance)
        try:
            start()
        except ExitStatus as status:
            return status.code
        return 0

    async def start_async(self, instance: Instance) -> int:
        """`start` in an event loop: where the guest would block, other tasks run.

        The guest waits for host file descriptors, asyncio streams and clocks without blocking the loop; Python file
        objects, and files on disk, are read and written at once.
        """
        start = self._entry(instance)
        self._context.asynchronous = True
        try:
            await start.call_async()
        except ExitStatus as status:
            return status.code
        finally:
            self._context.asynchronous = False
        return 0

    def _entry(self, instance: Instance) -> Any:
        """The instance's ``_start``, ready to be called."""
        self._bind_exported(instance)
        if "_start" not in instance.exports:
            raise LinkError("a WASI program must export the function '_start'")
        # What this process has written so far comes before what the guest writes.
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        return instance.exports["_start"]

    def instantiate(self, module: Module, *, store: Store | None = None) -> Instance:
        """Instantiate a module that imports nothing but WASI, and bind its memory.

        Raises `LinkError` that names every import that WASI doesn't have.
        """
        from wasmloom import Instance

        self.check(module)
        instance = Instance(module, self.imports(), store=store)
        self._bind_exported(instance)
        return instance

    def _bind_exported(self, instance: Instance) -> None:
        if "memory" in instance.exports:
            self.bind(instance)

    @staticmethod
    def check(module: Module) -> None:
        """Raise `LinkError` if a module imports anything that isn't a function of WASI, or with another type."""
        unknown = [
            f"{wanted.module}.{wanted.name} ({wanted.kind})"
            for wanted in module.imports
            if wanted.module != MODULE_NAME or wanted.name not in CALLS
        ]
        if unknown:
            more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
            raise LinkError(f"unknown imports: {', '.join(unknown[:8])}{more}")
        for wanted in module.imports:
            expected = call_type(wanted.name)
            if wanted.kind != "func" or wanted.type != expected:
                raise LinkError(
                    f"import {wanted.module}.{wanted.name}: expected func {expected}, not {wanted.kind} {wanted.type}"
                )

    def run(self, module: Module, *, store: Store | None = None) -> int:
        """Instantiate a program that imports nothing but WASI, run it, and return its exit status.

        Raises `LinkError`, and whatever the guest ends with (`Trap`).
        """
        return self.start(self.instantiate(module, store=store))

    async def run_async(self, module: Module, *, store: Store | None = None) -> int:
        """`run` in an event loop (see `start_async`)."""
        return await self.start_async(self.instantiate(module, store=store))

    def close(self) -> None:
        """Close every file that is open."""
        self._context.table.close_all()

    def __enter__(self) -> Wasi:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
