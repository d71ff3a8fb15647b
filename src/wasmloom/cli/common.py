"""Shared parts of subcommands: reading files, errors in one line, options that choose an engine."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wasmloom.messages import printable

if TYPE_CHECKING:
    from wasmloom import Engine


class CommandError(Exception):
    """Ends the command with ``error: MESSAGE`` on standard error and exit status 1."""

    exit_status = 1

    def show(self) -> None:
        """Print the message."""
        print(f"error: {self}", file=sys.stderr)


class UsageError(CommandError):
    """The command line makes no sense. Ends the command with its usage, the message and exit status 2."""

    exit_status = 2


class Command(NamedTuple):
    """A subcommand."""

    summary: str  #: One line for the list of commands.
    usage: str  #: What follows the options.
    run: Callable[..., int]  #: Gets the arguments by name and returns the exit status. Its docstring is the help.
    add_arguments: Callable[[ArgumentParser], None]


def read_input(path: str) -> bytes:
    """The bytes of a file. Raises `CommandError` when it can't be read."""
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read: {printable(path)}: {error.strerror}") from None


def write_output(path: str, data: bytes) -> None:
    """Write a file, or standard output for ``-``. Raises `CommandError` when it can't be written."""
    try:
        if path == "-":
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            Path(path).write_bytes(data)
    except BrokenPipeError:
        raise  # `main` ends the command quietly
    except OSError as error:
        raise CommandError(f"cannot write: {printable(path)}: {error.strerror}") from None


@contextmanager
def errors_name(path: str) -> Iterator[None]:
    """Turn errors about the module in `path` into a `CommandError` that says of what kind they are."""
    from wasmloom.errors import CompileError, LinkError, Trap, UnsupportedError, ValidationError, WasmError

    try:
        yield
    except CompileError as error:
        if isinstance(error, UnsupportedError):
            kind = "unsupported"
        elif isinstance(error, ValidationError):
            kind = "invalid"
        else:  # what is said of no place in the module isn't the module's fault
            kind = "cannot compile" if error.offset is None and error.line is None else "malformed"
        raise CommandError(f"{kind}: {printable(path)}: {error}") from None
    except LinkError as error:
        raise CommandError(f"link: {printable(path)}: {error}") from None
    except Trap:
        raise
    except WasmError as error:
        raise CommandError(f"{printable(path)}: {error}") from None


def to_binary(path: str) -> bytes:
    """The module in a file, binary or text, in the binary format. Raises `CommandError`."""
    data = read_input(path)
    if data.startswith(b"\0asm") or not looks_like_text(data):
        return data
    from wasmloom.text.parser import parse_module

    with errors_name(path):
        return parse_module(data).binary


def function_names(decoded: Any) -> dict[int, str]:
    """Index → name: from the name section, else of an export."""
    exported = {export.index: export.name for export in decoded.exports if export.kind == "func"}
    named: dict[int, str] = decoded.index_names.maps.get("func", {})
    return exported | named


def looks_like_text(data: bytes) -> bool:
    """Whether a module is in the text format: it begins with a parenthesis or a comment."""
    return data.lstrip(b" \t\r\n")[:1] in (b"(", b";")


def at_least(least: int) -> Callable[[str], int]:
    """Makes of an option's text a whole number of at least `least`."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < least:
            raise ArgumentTypeError(f"{value} is less than {least}")
        return value

    return number


def add_files(parser: ArgumentParser, nargs: str = "+") -> None:
    """Files to read; ``-`` is standard input."""
    parser.add_argument("files", metavar="FILE", nargs=nargs)


def add_deterministic(parser: ArgumentParser) -> None:
    """The option for guests that do the same everywhere."""
    parser.add_argument(
        "--deterministic",
        action="store_true",
        default=None,
        help="Let guests do the same in every tier and on every machine: NaNs, fuel, and the depth of calls.",
    )


def add_stack_switching(parser: ArgumentParser) -> None:
    """The option for how compiled code switches stacks."""
    parser.add_argument(
        "--stack-switching",
        metavar="HOW",
        help="How compiled code switches stacks: native (default), or libcall, through the runtime, to compare with.",
    )


def add_engine_options(parser: ArgumentParser) -> None:
    """The options that choose an engine; the command gets them by name, None where they aren't given."""
    parser.add_argument(
        "--tier",
        metavar="TIER",
        help="What runs functions: interpreter, which starts at once; baseline, which copies machine code; or "
        "compiler, which compiles everything first (default: what WASMLOOM_TIER says, else auto).",
    )
    parser.add_argument(
        "--translation", metavar="MODE", help="When functions are translated: eager, lazy-translation, lazy."
    )
    parser.add_argument(
        "--threshold",
        metavar="CALLS",
        type=at_least(0),
        help="With --tier auto: compile before the next call after so many.",
    )
    add_stack_switching(parser)
    parser.add_argument(
        "--memory", metavar="KIND", help="What keeps guests within their memories: auto, guarded (pages), checked."
    )
    add_deterministic(parser)


def make_engine(**options: Any) -> Engine:
    """The engine for the options; None leaves a setting to the engine.

    Raises `UsageError` for settings that make no sense, `CommandError` for those that this version lacks.
    """
    from wasmloom import Engine, WasmError

    try:
        return Engine(**{name: value for name, value in options.items() if value is not None})
    except ValueError as error:
        raise UsageError(str(error)) from None
    except WasmError as error:
        raise CommandError(str(error)) from None
