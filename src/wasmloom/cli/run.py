"""`wasmloom run`: run a WASI program, or call a function of a module."""

from __future__ import annotations

import os
import signal
import sys
import threading
from argparse import PARSER, ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from wasmloom.cli.common import (
    Command,
    CommandError,
    UsageError,
    add_engine_options,
    at_least,
    errors_name,
    make_engine,
    read_input,
)
from wasmloom.cli.progress import Progress
from wasmloom.cli.snapshots import When, add_when, chosen, save, taking, watched
from wasmloom.messages import printable, quoted

if TYPE_CHECKING:
    from wasmloom import Instance, Module, Store
    from wasmloom.wasi import Wasi

#: Exit status after a trap: as a shell reports a program that aborted (128 + SIGABRT).
TRAPPED = 134


def preopens_of(directories: Sequence[str]) -> dict[str, str]:
    """Guest name → host directory, from ``HOST::GUEST`` or ``DIRECTORY``."""
    found = {}
    for text in directories:
        host, separator, guest = text.partition("::")
        if not host or (separator and not guest):
            raise UsageError(f"--dir takes HOST::GUEST or DIRECTORY, not {text!r}")
        found[guest if separator else host] = host
    return found


def _environment(settings: Sequence[str]) -> dict[str, str]:
    """Name → value, from ``NAME=VALUE``, or ``NAME`` for the value that this process has."""
    found = {}
    for text in settings:
        name, separator, value = text.partition("=")
        if not name:
            raise UsageError(f"--env takes NAME=VALUE or NAME, not {text!r}")
        if separator:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return found


def invoke_function(instance: Instance, name: str, arguments: Sequence[str]) -> None:
    """Call an exported function with arguments given as text, and print its results, one per line."""
    from wasmloom import Func
    from wasmloom.cli.values import format_result, parse_argument

    function: Any = instance.exports[name] if name in instance.exports else None  # noqa: SIM401
    if not isinstance(function, Func):
        raise CommandError(f"link: there is no exported function {quoted(name)}")
    params, results = function.type
    if len(arguments) != len(params):
        raise UsageError(f"{printable(name)} takes {len(params)} arguments {function.type}, not {len(arguments)}")
    values: Any = function(*[parse_argument(text, type) for text, type in zip(arguments, params, strict=True)])
    if len(results) == 1:
        values = (values,)
    for value, type in zip(values or (), results, strict=True):
        print(format_result(value, type))


class _Late(BaseException):
    """It takes too long. Not an `Exception`, so that nothing takes it for a failure of the code that it interrupts."""


@contextmanager
def _within(seconds: float | None) -> Iterator[None]:
    """Raises `Trap` ("timeout") when the block takes longer, as a store does when its guest takes longer.

    A signal interrupts the block, wherever it is, as Ctrl-C does. Only the main thread can be interrupted like that; in
    others, this does nothing.
    """
    from wasmloom import Trap

    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    running = True

    def ring(number: int, frame: object) -> None:
        if running:
            raise _Late

    before = signal.signal(signal.SIGALRM, ring)
    try:
        # At least a microsecond, since less would set no alarm, and at most what a `time_t` holds.
        signal.setitimer(signal.ITIMER_REAL, min(max(seconds, 1e-6), 1e9))
        yield
    except _Late:
        raise Trap("timeout", detail="while the module was compiled") from None
    finally:
        running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _run(module: Module, store: Store, wasi: Wasi, imports: Any, name: str | None, arguments: Sequence[str]) -> int:
    from wasmloom import ExitStatus

    instance = wasi.instantiate(module, imports, store=store)
    if name is None:
        return wasi.start(instance)
    try:
        if "_initialize" in instance.exports:
            instance.exports["_initialize"]()
        invoke_function(instance, name, arguments)
    except ExitStatus as status:
        return status.code
    return 0


def run_program(
    around: Callable[[Store], AbstractContextManager[object]],
    invoke: str | None,
    directories: Sequence[str],
    settings: Sequence[str],
    fuel: int | None,
    timeout: float | None,
    memory_limit: int | None,
    stack_limit: int | None,
    threads: int,
    target: Sequence[str],
    when: When | None = None,
    path: str = "",
    **options: Any,
) -> int:
    """Do what `run` says, with the guest's calls in a context that `around` makes; a snapshot goes to `path`."""
    from wasmloom import Module, Store, Trap
    from wasmloom.wasi import Wasi

    file, *arguments = target[1:] if target[0] == "--" else target
    preopens, environment = preopens_of(directories), _environment(settings)
    engine = make_engine(**options, fuel=None if fuel is None else True)
    limits: dict[str, Any] = {
        "fuel": fuel,
        "timeout": timeout,
        "memory_limit": memory_limit,
        "stack_limit": stack_limit,
    }
    try:
        store = Store(engine, **{name: value for name, value in limits.items() if value is not None})
    except ValueError as error:
        raise UsageError(str(error)) from None
    data = read_input(file)
    args = [file, *arguments] if invoke is None else [file]
    try:
        wasi = Wasi(args=[os.fsencode(text) for text in args], env=environment, preopens=preopens, threads=threads)
    except (OSError, ValueError) as error:
        raise CommandError(f"cannot prepare the guest's world: {error}") from None
    with wasi, errors_name(file):
        try:
            with _within(timeout), Progress(file, delay=1.0) as progress:
                module = Module(data, engine, progress=progress)
            with around(store), taking(when, store, path):
                status = _run(module, store, wasi, watched(wasi, when, path), invoke, arguments)
            if when is not None and when.kind == "END" and status == 0:
                save(store, path)
            return status
        except Trap as trap:
            sys.stdout.flush()
            print(f"error: trap: {file}: {trap}", file=sys.stderr)
            return TRAPPED


def run(snapshot_on: str | None, snapshot_to: str | None, **options: Any) -> int:
    """Run a program compiled for WASI, or with --invoke a function of any module, binary or text.

    The exit status is the guest's; 134 after a trap, 130 after Ctrl-C, 1 when the module can't be run. A snapshot is
    for resume.
    """
    target = options["target"]
    when, path = chosen(snapshot_on, snapshot_to, target[1] if target[0] == "--" else target[0], options["invoke"])
    if when is not None and when.kind != "END":
        options["snapshots"] = True
    return run_program(nullcontext, when=when, path=path, **options)


def add_directories(parser: ArgumentParser) -> None:
    """The option for directories of the host, for `preopens_of`."""
    parser.add_argument(
        "--dir",
        dest="directories",
        metavar="HOST::GUEST",
        action="append",
        default=[],
        help="Let the guest use the directory HOST, under the name GUEST (default: the same name).",
    )


def add_run_options(parser: ArgumentParser) -> None:
    """What `run_program` takes."""
    parser.add_argument("--invoke", metavar="FUNCTION", help="Call this function with ARGS and print its results.")
    add_directories(parser)
    parser.add_argument(
        "--env",
        dest="settings",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="Set an environment variable.",
    )
    add_engine_options(parser)
    parser.add_argument("--fuel", metavar="UNITS", type=at_least(0), help="Trap after about so many instructions.")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=float, help="Trap after so many seconds of compiling, or of running."
    )
    parser.add_argument("--memory-limit", metavar="BYTES", type=at_least(0), help="Bytes of memory the guest may have.")
    parser.add_argument("--stack-limit", metavar="BYTES", type=at_least(0), help="Bytes of stack the guest may have.")
    parser.add_argument(
        "--threads", metavar="N", type=at_least(0), default=0, help="Let a WASI program have N more threads."
    )
    # All that follows the file is the guest's, options too.
    parser.add_argument("target", metavar="FILE", nargs=PARSER, help="The module, and arguments for it.")


def _add_arguments(parser: ArgumentParser) -> None:
    add_when(parser)
    add_run_options(parser)


COMMANDS = {"run": Command("Run a WASI program or call a function.", "FILE [ARGS]...", run, _add_arguments)}
