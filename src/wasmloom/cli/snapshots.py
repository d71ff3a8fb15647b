"""What commands do with snapshots: writing and showing them."""

from __future__ import annotations

import signal
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wasmloom.cli.common import CommandError, UsageError, errors_name, function_names, write_output
from wasmloom.messages import printable, quoted

if TYPE_CHECKING:
    from wasmloom import Store
    from wasmloom.wasi import Wasi

#: What names of files with snapshots end with, where none is given.
SUFFIX = ".wlsnap"
#: Seconds until the next attempt to find the guest in the middle of a call.
_AGAIN = 0.01


def is_snapshot(data: bytes) -> bool:
    """Whether the bytes of a file begin as a snapshot does."""
    return data.startswith(b"\0wlsnap")


class When(NamedTuple):
    """When a snapshot is taken: at the "END" of the call, at a "SIGNAL", "AFTER" seconds, at the first "CALL" of an
    import; and which."""

    kind: str
    signal: int = 0
    seconds: float = 0.0
    name: str = ""


def when_of(text: str) -> When:
    """The moment that ``--snapshot-on`` names. Raises `UsageError`."""
    kind, _, value = text.partition("=")
    if text == "END":
        return When("END")
    if kind == "CALL" and value:
        return When("CALL", name=value)
    if kind == "AFTER" and value.removesuffix("s"):
        try:
            seconds = float(value.removesuffix("s"))
        except ValueError:
            seconds = 0.0
        if 0 < seconds < 1e9:
            return When("AFTER", seconds=seconds)
    elif text.startswith("SIG") and not text.startswith("SIG_") and hasattr(signal, text):
        return When("SIGNAL", signal=int(getattr(signal, text)))
    raise UsageError(f"--snapshot-on takes a signal (SIGUSR1), AFTER=2s, CALL=IMPORT or END, not {text!r}")


@contextmanager
def taking(when: When | None, store: Store, path: str) -> Iterator[None]:
    """In the block, a guest of the store runs: a snapshot is written at a signal, or after a time. The guest goes on.

    Raises `CommandError` within the guest for what can't be written, and `WasmError` for what can't be a snapshot.
    """
    if when is None or when.kind not in ("SIGNAL", "AFTER"):
        yield
        return

    def then(snapshot: Any) -> None:
        if snapshot.is_between_calls:  # the guest hasn't begun yet
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        else:
            write(snapshot, path)

    def ring(*_: object) -> None:
        store.snapshot_soon(then)

    before = {number: signal.signal(number, ring) for number in {when.signal or signal.SIGALRM, signal.SIGALRM}}
    try:
        if when.kind == "AFTER":
            signal.setitimer(signal.ITIMER_REAL, when.seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def write(snapshot: Any, path: str) -> None:
    """Write a snapshot. Raises `CommandError`."""
    write_output(path, snapshot.to_bytes())


def save(store: Store, path: str) -> None:
    """Write a snapshot of a store. Raises `CommandError` for what can't be one, or can't be written."""
    from wasmloom import WasmError

    try:
        snapshot = store.snapshot()
    except WasmError as error:
        raise CommandError(f"cannot take a snapshot: {error}") from None
    write(snapshot, path)


def add_when(parser: ArgumentParser) -> None:
    """The options that say when a snapshot is taken, and where it goes."""
    parser.add_argument(
        "--snapshot-on",
        metavar="WHEN",
        help="Write a snapshot at this moment, and go on. A signal, as SIGUSR1; AFTER=2s; CALL=fd_read: when the guest "
        "first calls this function of WASI; END: when the function of --invoke has returned.",
    )
    parser.add_argument(
        "--snapshot-to", metavar="FILE", help="Where the snapshot goes (default: FILE with the suffix .wlsnap)."
    )


def chosen(on: str | None, to: str | None, file: str, invoke: str | None) -> tuple[When | None, str]:
    """The moment and the path that the options of `add_when` name. Raises `UsageError`."""
    if on is None and to is not None:
        raise UsageError("--snapshot-to needs --snapshot-on")
    when = None if on is None else when_of(on)
    if when is not None and when.kind == "END" and invoke is None:
        raise UsageError("--snapshot-on END needs --invoke: a program that has ended has nothing to go on with")
    if to is not None:
        return when, to
    return when, "program" + SUFFIX if file == "-" else str(Path(file).with_suffix(SUFFIX))


def watched(wasi: Wasi, when: When | None, path: str, before: bool = False) -> Any:
    """Imports that take a snapshot when the guest first calls one of WASI's functions, if that is the moment. `before`:
    a call that had been made then is made again, and doesn't count. Raises `CommandError` for a function that WASI
    doesn't have."""
    if when is None or when.kind != "CALL":
        return None
    from wasmloom.host.callers import PerInstance
    from wasmloom.wasi import MODULE_NAME

    functions = wasi.imports()[MODULE_NAME]
    short = when.name.removeprefix(f"{MODULE_NAME}.")
    original: Any = functions.get(short)
    if original is None:
        raise CommandError(f"WASI has no function {quoted(when.name)}")
    left = 1 + before

    def make(caller: Any) -> Any:
        function = original.make(caller)

        def call(*arguments: int) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                write(caller.store.snapshot(), path)
            return function(*arguments)

        return call

    return {MODULE_NAME: {short: PerInstance(make, original.alone)}}


def show(path: str, data: bytes) -> int:
    """Print what a snapshot consists of."""
    from wasmloom.snapshot.format import decode
    from wasmloom.wasi.saving import names_of

    with errors_name(path):
        told, embedded = decode(data)
        names = {digest: _names(module) for digest, module in embedded.items()} if told.guests.calls else {}
    print(f"{printable(path)}: {len(data)} bytes, a snapshot")
    print(f"modules: {len(told.modules)}")
    for number, digest in enumerate(told.modules):
        where = f"{len(embedded[digest])} bytes" if digest in embedded else "not embedded"
        print(f"  {number}: sha256 {digest}, {where}")
    limits = {
        "fuel": told.fuel,
        "timeout": told.timeout,
        "memory limit": told.memory_limit,
        "stack limit": told.stack_limit,
        "deterministic": told.deterministic or None,
    }
    print("limits: " + ", ".join(f"{name} {value}" for name, value in limits.items() if value is not None))
    print(f"instances: {len(told.instances)}")
    for number, instance in enumerate(told.instances):
        dropped = len(instance.dropped_data) + len(instance.dropped_elements)
        print(f"  {number}: of module {instance.module}" + (f", {dropped} segments dropped" if dropped else ""))
    print(f"memories: {len(told.memories)}")
    for number, memory in enumerate(told.memories):
        used = sum(len(contents) for _, contents in memory.runs)
        print(f"  {number}: {memory.pages} pages, {used} bytes in use")
    print(f"tables: {len(told.tables)}")
    for number, table in enumerate(told.tables):
        count = sum(element is not None for element in table.elements)
        print(f"  {number}: {len(table.elements)} elements, {count} in use")
    print(f"globals: {len(told.globals)}, tags: {len(told.tags)}")
    for call in told.guests.calls:
        waits = "computes" if call.host is None else f"waits for {_named(call.host, told, names)}"
        print(f"guest {call.id}, called by {_named(call.function, told, names)}, {waits}:")
        for stack in call.stacks:
            for frame in reversed(stack.frames):
                print(f"  {_named(frame.home, told, names)} at 0x{frame.offset:x}")
    for state in told.wasi:
        print(f"WASI of the instances {', '.join(map(str, state.instances))}:")
        print(f"  arguments: {_joined(state.args)}")
        print(f"  environment: {_joined(state.env)}")
        for number, kind, name in names_of(state.files):
            print(f"  descriptor {number}: {kind} {name}")
    return 0


def _names(module: bytes) -> dict[int, str]:
    """The names of a module's functions, those of imports in two parts."""
    from wasmloom.binary.decoder import decode_module

    decoded = decode_module(module)
    wanted = [one for one in decoded.imports if one.kind == "func"]
    return function_names(decoded) | {i: f"{one.module}.{one.name}" for i, one in enumerate(wanted)}


def _named(home: Any, told: Any, names: dict[str, dict[int, str]]) -> str:
    """A function, by its name if the snapshot has its module."""
    known = names.get(told.modules[told.instances[home.instance].module], {})
    name = known.get(home.function)
    return f"function {home.function}" if name is None else f"{printable(name)} ({home.function})"


def _joined(texts: Sequence[bytes]) -> str:
    return " ".join(quoted(text.decode("utf-8", "replace")) for text in texts) or "none"
