"""WASI preview 1: the functions that programs compiled for ``wasm32-wasi`` import.

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
from wasmloom.host.callers import Caller, PerInstance
from wasmloom.host.fixed import fill
from wasmloom.host.waits import FOREVER, Steps, Wait, run_steps
from wasmloom.messages import listed, two_level
from wasmloom.spec.types import I32, I64, FuncType, MemoryType
from wasmloom.wasi import files, pathcalls, poll_oneoff, process, threads
from wasmloom.wasi.abi import (
    CALLS,
    CHANGING_RIGHTS,
    ERRNO_OF_HOST,
    MODULE_NAME,
    NARROW,
    WIDE,
    Call,
    Errno,
    Layout,
    WasiError,
)
from wasmloom.wasi.context import Context
from wasmloom.wasi.descriptor_table import MAX_FILES, DescriptorTable
from wasmloom.wasi.descriptors import Descriptor, HostFile, open_preopen
from wasmloom.wasi.descriptors import ReadOnly as ReadOnly
from wasmloom.wasi.streams import AsyncStream, Sink, Stream

if TYPE_CHECKING:
    from wasmloom.host.instance import Instance
    from wasmloom.host.module import Module
    from wasmloom.runtime.store import Store

__all__ = ["CALLS", "MODULE_NAME", "Errno", "ReadOnly", "Wasi", "call_type"]

StdIO = None | int | bytes | BinaryIO | Any
"""Standard input or output: None inherits the process's, an int is a host file descriptor that stays open, bytes (input
only) are the input itself. An asyncio `StreamReader` or `StreamWriter` (or what looks like one: see `AsyncStream`) is
for guests that run by `start_async`. A function (output only) is called with the bytes that are written, and returns
None, or how many it has taken. Anything else is a binary file object, of which `readinto` (or `read`) or `write` is
used; if it has an ``isatty()`` that says no, guests see that it is no terminal."""
_HostFunction = Callable[..., int | Coroutine[Any, Any, int] | None]
_Plan = tuple[Callable[..., Steps | None], tuple[int, ...], int, bool, tuple[int, ...]]

#: The names of the standard streams, by number.
STREAMS = ("stdin", "stdout", "stderr")

_WORD = 0xFFFF_FFFF
#: Parameter kind → what its bits are masked with (a signed word arrives as it should be), and its type.
_KINDS: dict[str, tuple[int, Any]] = {
    "fd": (_WORD, I32),
    "u32": (_WORD, I32),
    "u64": (_WORD << 32 | _WORD, I64),
    "s64": (-1, I64),
}
#: The same by layout, where "size" depends on it.
_KINDS_OF: dict[Layout, dict[str, tuple[int, Any]]] = {
    NARROW: _KINDS | {"size": _KINDS["u32"]},
    WIDE: _KINDS | {"size": _KINDS["u64"]},
}


def layout_of(module: Module) -> Layout:
    """The layout of structs in the memory of a program: the one that it exports, or else its first."""
    decoded = module.decoded
    number = decoded.export_names.get("memory")
    export = None if number is None else decoded.export_at(number)
    index = export.index if export is not None and export.kind == "memory" else 0
    return WIDE if index < len(decoded.memories) and decoded.memories[index].is64 else NARROW


def _find(name: str) -> Callable[..., Steps | None]:
    for module in (process, files, pathcalls, poll_oneoff):
        found = getattr(module, name, None)
        if found is not None:
            return found  # type: ignore[no-any-return]
    raise KeyError(name)


_FUNCTIONS: dict[str, Callable[..., Steps | None]] = {name: _find(name) for name in CALLS}


def call_type(name: str, layout: Layout = NARROW) -> FuncType:
    """The type of the function `name` of preview 1."""
    call, kinds = CALLS[name], _KINDS_OF[layout]
    return FuncType(tuple(kinds[kind][1] for kind in call.params), (I32,) if call.returns_errno else ())


#: Exceptions that become an error number for the guest; all others leave the guest.
_ERRORS = (WasiError, OSError, MemoryError)


def _describe(error: Exception) -> int:
    """The error number that the guest gets for an exception."""
    if isinstance(error, WasiError):
        return int(error.errno)
    if isinstance(error, OSError):
        return int(ERRNO_OF_HOST.get(error.errno or 0, Errno.EIO))
    return int(Errno.ENOMEM)


async def _later(context: Context, steps: Steps, first: Any, pinned: list[Descriptor]) -> int:
    """The error number of a function that waits in an event loop; it has made its first step."""
    from wasmloom.host.awaiting import drive

    try:
        await drive(steps, first, FOREVER if context.timeout is None else int(context.timeout * 1e9))
    except _ERRORS as error:
        return _describe(error)
    finally:
        for file in pinned:
            file.unpin()
    return 0


#: By layout and name; see `_plan`. Made when a function is first bound.
_PLANS: dict[tuple[Layout, str], _Plan] = {}


def _plan(layout: Layout, name: str) -> _Plan:
    """What is known of a function beforehand: what it is, masks of its parameters, the right that it needs, whether it
    changes something, and which parameters are descriptors."""
    call: Call = CALLS[name]
    masks = tuple([_KINDS_OF[layout][kind][0] for kind in call.params])
    fds = tuple([i for i, kind in enumerate(call.params) if kind == "fd"])
    made = _FUNCTIONS[name], masks, int(call.right), bool(call.right & CHANGING_RIGHTS), fds
    return _PLANS.setdefault((layout, name), made)


def _bind(context: Context, name: str) -> _HostFunction:
    """The host function `name`. Takes words as the guest passes them; returns an error number, now or by an
    awaitable."""
    plan = _PLANS.get((context.layout, name)) or _plan(context.layout, name)
    function, masks, needed, changes, fds = plan
    table = context.table

    def host(*arguments: int) -> int | Coroutine[Any, Any, int]:
        words: list[Any] = list(map(and_, arguments, masks))
        pinned: list[Descriptor] = []
        try:
            for i in fds:
                words[i] = file = table.pin(words[i])
                pinned.append(file)
            if needed and (missing := needed & ~words[fds[0]].rights):
                return int(words[fds[0]].refusal(missing))
            if changes and any(file.read_only for file in pinned):
                return int(Errno.EPERM)
            steps = function(context, *words)
            if steps is None:
                return 0
            try:
                first = next(steps)
            except StopIteration:
                return 0
            if context.can_wait or not isinstance(first, Wait):
                # An event loop runs the rest, or the caller is told that there is none.
                later = _later(context, steps, first, pinned)
                pinned = []
                return later
            run_steps(steps, first)
        except _ERRORS as error:
            return _describe(error)
        finally:
            for file in pinned:
                file.unpin()
        return 0

    host.__name__ = host.__qualname__ = name
    host.context = context  # type: ignore[attr-defined]
    return host


def context_of(function: object) -> Context | None:
    """The state that a function of WASI works on, or one that all instances share that import it; None for another
    function. For snapshots."""
    if isinstance(function, PerInstance):
        function = function.alone
    context = getattr(function, "context", None)
    return context if isinstance(context, Context) else None


def function_for(context: Context, name: str) -> _HostFunction | None:
    """The function with a name for a guest with a state; None: WASI has none with that name. For snapshots."""
    return _bind(context, name) if name in CALLS else None


def _text(kind: str, values: Iterable[str | bytes]) -> list[bytes]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{kind} are several strings, not {type(values).__name__}")
    values = list(values)
    for value in values:
        if not isinstance(value, str | bytes):
            raise TypeError(f"{kind} are strings or bytes, not {type(value).__name__}")
    texts = [value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value for value in values]
    for text in texts:
        if b"\0" in text:
            raise ValueError(f"{kind} must not contain NUL: {text!r}")
    return texts


def _stdio(value: StdIO, number: int) -> Descriptor | None:
    """A standard stream; None if it is to be one of the process's and the process doesn't have it."""
    if value is None:
        # Once it is closed, another file of the process may have got its number.
        own = (sys.__stdin__, sys.__stdout__, sys.__stderr__)[number]
        if own is None or own.closed:
            return None
        try:
            return HostFile(number, owned=False)
        except OSError:
            return None
    if isinstance(value, int):
        return HostFile(value, owned=False)
    if AsyncStream.fits(value, readable=number == 0):
        return AsyncStream(value, readable=number == 0)
    if isinstance(value, bytes) and number == 0:
        value = io.BytesIO(value)
    if number and callable(value) and not hasattr(value, "write"):
        value = Sink(value)
    if not any(hasattr(value, name) for name in (("readinto", "read") if number == 0 else ("write",))):
        what = f"None, a file descriptor, {'bytes' if number == 0 else 'a function'} or a binary file"
        raise TypeError(f"{STREAMS[number]} must be {what}, not {type(value).__name__}")
    file: Any = value
    return Stream(file, readable=number == 0)


def _instance(value: object) -> Instance:
    """An argument that must be an instance."""
    from wasmloom.host.instance import Instance

    if not isinstance(value, Instance):
        raise TypeError(f"expected a wasmloom.Instance, not {type(value).__name__}")
    return value


def _exported(instance: Instance, name: str, what: str) -> Any:
    """An export of an instance. Raises `LinkError` when there is none with that name."""
    if name not in _instance(instance).exports:
        raise LinkError(
            f"a WASI program must export {what} {name!r}; of a library's, call the exports themselves: "
            f"{listed(instance.exports) or 'there are none'}"
        )
    return instance.exports[name]


def _check(module: Module, imports: Any, others: Mapping[tuple[str, str], Any]) -> None:
    """See `Wasi.check`. `others`: what there is besides, by module and name."""
    from wasmloom.host.linking import MISSING, check_module, lookup

    check_module(module)
    if isinstance(imports, list | tuple):
        raise TypeError("besides those of WASI, imports are given by their names, not as a list")
    left = [
        item
        for item in module.imports
        if lookup(imports, item.module, item.name) is MISSING and (item.module, item.name) not in others
    ]
    unknown = [
        f"{two_level(wanted.module, wanted.name)} ({wanted.kind})"
        for wanted in left
        if wanted.module != MODULE_NAME or wanted.name not in CALLS
    ]
    if unknown:
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        advice = "; Wasi(threads=…) allows threads" if threads.has_threads(module) else ""
        raise LinkError(
            f"unknown imports: {', '.join(unknown[:8])}{more}; WASI doesn't have them: give them as `imports`{advice}"
        )
    for wanted in left:
        expected = call_type(wanted.name, layout_of(module))
        if wanted.kind != "func" or wanted.type != expected:
            raise LinkError(
                f"import {wanted.module}.{wanted.name}: expected func {expected}, not {wanted.kind} {wanted.type}"
            )


class Wasi:
    """One guest's view of the world: arguments, environment, standard streams and directories.

    `args` begins with the program's name. `preopens` maps the names by which the guest knows directories to directories
    of the host; nothing outside of them can be reached. The guest may change what is in them, unless a directory is
    given as ``ReadOnly(path)``. `max_files`: the number of files that the guest may have open
    at the same time, besides these; beyond that it gets `EMFILE`. `threads`: the number of threads that a program may
    have at the same time, besides its first one (wasi-threads); each runs in a Python thread and a store of its own,
    with the limits of the first one's, and other imports are called in all of them. Raises `OSError` when a directory
    can't be opened and `ValueError` for arguments that contain NUL, and for a negative `max_files` or `threads`.

    Close it (`with` does) to close every file that the guest left open; otherwise they are closed when it is freed.
    Using a closed one raises `ValueError`. Several guests, also in several threads, may share one: they have the same
    open files.
    """

    def __init__(
        self,
        *,
        args: Sequence[str | bytes] = (),
        env: Mapping[str, str] | None = None,
        stdin: StdIO = None,
        stdout: StdIO = None,
        stderr: StdIO = None,
        preopens: Mapping[str, str | os.PathLike[str] | ReadOnly] | None = None,
        max_files: int = MAX_FILES,
        threads: int = 0,
    ) -> None:
        for name, number in (("max_files", max_files), ("threads", threads)):
            if number < 0:
                raise ValueError(f"{name} must not be negative, got {number}")
        self._most_threads = threads
        for what, given in (("env", env), ("preopens", preopens)):
            if given is not None and not isinstance(given, Mapping):
                raise TypeError(f"{what} must be a mapping, not {type(given).__name__}")
        variables = [f"{name}={value}" for name, value in (env or {}).items()]
        table = DescriptorTable(max_files)
        self._context = Context(_text("arguments", args), _text("environment variables", variables), table)
        try:
            for number, value in enumerate((stdin, stdout, stderr)):
                stream = _stdio(value, number)
                if stream is None:
                    table.leave_out()
                else:
                    stream.role = STREAMS[number]
                    table.give(stream)
            for guest, host in (preopens or {}).items():
                table.give(open_preopen(guest, host))
        except BaseException:
            table.close_all()
            raise

    def imports(self) -> dict[str, dict[str, Callable[..., int | Coroutine[Any, Any, int] | None]]]:
        """The functions, as `Instance` takes them, for any number of instances.

        Each instance has its own memory, and all have the same open files. A guest that doesn't export its memory as
        ``memory``, and the host when it calls these functions itself, use what was bound last.
        """
        general = self._context
        if general.table.closed:
            raise ValueError("this Wasi is closed")

        def one(name: str) -> PerInstance:
            def make(caller: Caller) -> _HostFunction:
                general.table.used = True
                return _bind(caller.kept(general, lambda: general.another(layout_of(caller.module), caller)), name)

            return PerInstance(make, _bind(general, name))

        return {MODULE_NAME: {name: one(name) for name in CALLS}}

    def bind(self, instance: Instance) -> None:
        """Use the memory that `instance` exports as ``memory``. Raises `LinkError` when there is none."""
        from wasmloom.host.externs import Memory
        from wasmloom.host.shared_memory import SharedMemory

        memory = _exported(instance, "memory", "its memory as")
        if not isinstance(memory, Memory | SharedMemory):
            raise LinkError(f"a WASI program must export its memory as 'memory', which is {memory!r} here")
        own = instance._wasi  # for a guest that `instantiate` has made; others use `_context`
        context = self._context if own is None or own.table is not self._context.table else own
        context.bind(memory, instance.store)

    def bind_memory(self, memory: object) -> None:
        """Use `memory`, any object with a writable buffer of bytes, for guests that don't export their own."""
        self._context.bind(memory)

    def start(self, instance: Instance) -> int:
        """Run an instance's ``_start`` and return its exit status. Its memory, if it exports one, is bound.

        Raises `LinkError` when there is no such function, and whatever ends the guest (`Trap`), in whichever thread.
        """
        start = self._entry(instance)
        error: BaseException | None = None
        others = self._group(instance)
        try:
            start()
        except BaseException as ended:
            error = ended
        return threads.status_of(error if others is None else others.end(error))

    async def start_async(self, instance: Instance) -> int:
        """`start` in an event loop: where the guest would block, other tasks run.

        The guest waits for host file descriptors, asyncio streams and clocks without blocking the loop. Files on disk
        are read and written in pieces, and the loop runs in between; Python file objects at once.
        """
        start = self._entry(instance)
        others = self._group(instance)
        if others is not None:
            return await threads.run_async(others, start)
        try:
            await start.call_async()
        except ExitStatus as status:
            return status.code
        return 0

    def _group(self, instance: Instance) -> threads.Group | None:
        """The program's other threads, if it may have any; it is about to run."""
        context = instance._wasi
        group: threads.Group | None = None if context is None else context.threads
        if group is not None:
            group.run()
        return group

    def _entry(self, instance: Instance) -> Any:
        """The instance's ``_start``, ready to be called."""
        if self._context.table.closed:
            raise ValueError("this Wasi is closed")
        self._bind_exported(instance)
        start = _exported(instance, "_start", "the function")
        if getattr(start, "type", None) != FuncType((), ()):
            raise LinkError(f"a WASI program's '_start' must be a function [] -> [], which is {start!r} here")
        # This process's output so far must come before the guest's. A program may have put other objects there.
        for stream in (sys.stdout, sys.stderr):
            if not getattr(stream, "closed", False) and hasattr(stream, "flush"):
                stream.flush()
        return start

    def instantiate(self, module: Module, imports: Any = None, *, store: Store | None = None) -> Instance:
        """Instantiate a module that imports WASI, and bind its memory.

        `imports`: what else it imports, by names as `Instance` takes them; what they have of WASI's replaces it. Raises
        a `LinkError` that names every import which neither has, and `TypeError` for what isn't a module.
        """
        from wasmloom.host.instance import Instance
        from wasmloom.host.linking import MISSING, lookup

        others = self._shared_by_threads(module, imports)
        _check(module, imports, others)
        if self._context.table.closed:
            raise ValueError("this Wasi is closed")

        def make(store: Store | None) -> Instance:
            context = self._context.another(layout_of(module))
            context.table.used = True
            found = []
            for wanted in module.imports:
                value = lookup(imports, wanted.module, wanted.name)
                if value is MISSING:
                    value = others.get((wanted.module, wanted.name), MISSING)
                found.append(_bind(context, wanted.name) if value is MISSING else value)
            instance = Instance(module, found, store=store)
            for value in others.values():
                if not callable(value):  # its memory, which it needn't export
                    context.bind(value, instance.store)
            fill(instance, _wasi=context)
            self._bind_exported(instance)
            return instance

        if not others:
            return make(store)
        group = threads.Group(self._most_threads, make)
        others[threads.MODULE_NAME, threads.SPAWN] = group.spawn
        instance = make(store)
        instance._wasi.threads = group
        group.begin(instance.store)
        return instance

    def _shared_by_threads(self, module: Module, imports: Any) -> dict[tuple[str, str], Any]:
        """What all threads of a program import that may have threads: a place for the function that begins one, and its
        memory, unless that is given. Raises `LinkError` if there can't be threads."""
        from wasmloom.host.linking import MISSING, check_module, lookup
        from wasmloom.host.shared_memory import SharedMemory

        check_module(module)
        if not self._most_threads or not threads.has_threads(module):
            return {}
        if lookup(imports, threads.MODULE_NAME, threads.SPAWN) is not MISSING:
            return {}
        threads.check(module)
        found: dict[tuple[str, str], Any] = {(threads.MODULE_NAME, threads.SPAWN): None}
        for wanted in module.imports:
            type = wanted.type
            if not isinstance(type, MemoryType) or not type.shared:
                continue
            if lookup(imports, wanted.module, wanted.name) is MISSING:
                found[wanted.module, wanted.name] = SharedMemory(type)
        return found

    def _bind_exported(self, instance: Instance) -> None:
        if "memory" in _instance(instance).exports:
            self.bind(instance)

    @staticmethod
    def check(module: Module, imports: Any = None) -> None:
        """Raise `LinkError` if a module imports what neither WASI nor `imports` have, or with another type than WASI.

        Raises `TypeError` for what isn't a module.
        """
        _check(module, imports, {})

    def run(self, module: Module, imports: Any = None, *, store: Store | None = None) -> int:
        """Instantiate a program (see `instantiate`), run it, and return its exit status.

        Raises `LinkError`, and whatever ends the guest (`Trap`).
        """
        return self.start(self.instantiate(module, imports, store=store))

    async def run_async(self, module: Module, imports: Any = None, *, store: Store | None = None) -> int:
        """`run` in an event loop (see `start_async`)."""
        return await self.start_async(self.instantiate(module, imports, store=store))

    def close(self) -> None:
        """Close every file that is open. A guest that still runs gets `EBADF` for them."""
        self._context.table.close_all()

    def __enter__(self) -> Wasi:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
