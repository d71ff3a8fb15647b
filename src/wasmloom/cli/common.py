"""Shared parts of subcommands: reading files, errors in one line, options that choose an engine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wasmloom.messages import printable

if TYPE_CHECKING:
    from wasmloom import Engine

_F = TypeVar("_F", bound=Callable[..., Any])

#: A file that must exist; ``-`` is standard input.
INPUT = click.Path(dir_okay=False, allow_dash=True, path_type=str)


class CommandError(click.ClickException):
    """Ends the command with ``error: MESSAGE`` on standard error and exit status 1."""

    def show(self, file: Any = None) -> None:
        """Print the message."""
        print(f"error: {self.message}", file=sys.stderr)


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
        raise  # click ends the command quietly
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


def looks_like_text(data: bytes) -> bool:
    """Whether a module is in the text format: it begins with a parenthesis or a comment."""
    return data.lstrip(b" \t\r\n")[:1] in (b"(", b";")


#: The option for guests that do the same everywhere.
deterministic_option = click.option(
    "--deterministic",
    is_flag=True,
    default=None,
    help="Let guests do the same in every tier and on every machine: NaNs, fuel, and the depth of calls.",
)
#: The option for how compiled code switches stacks.
stack_switching_option = click.option(
    "--stack-switching",
    metavar="HOW",
    help="How compiled code switches stacks: native (default), or libcall, through the runtime, to compare with.",
)


def engine_options(function: _F) -> _F:
    """The options that choose an engine; the function gets them by name, None where they aren't given."""
    for option in (
        deterministic_option,
        click.option(
            "--memory", metavar="KIND", help="What keeps guests within their memories: auto, guarded (pages), checked."
        ),
        stack_switching_option,
        click.option(
            "--threshold",
            metavar="CALLS",
            type=click.IntRange(min=0),
            help="With --tier auto: compile before the next call after so many.",
        ),
        click.option(
            "--translation", metavar="MODE", help="When functions are translated: eager, lazy-translation, lazy."
        ),
        click.option(
            "--tier",
            metavar="TIER",
            help="What runs functions: interpreter, which starts at once; baseline, which copies machine "
            "code; or compiler, which compiles everything first (default: what WASMLOOM_TIER says, else auto).",
        ),
    ):
        function = option(function)
    return function


def make_engine(**options: Any) -> Engine:
    """The engine for the options; None leaves a setting to the engine.

    Raises `click.UsageError` for settings that make no sense, `CommandError` for those that this version lacks.
    """
    from wasmloom import Engine, WasmError

    try:
        return Engine(**{name: value for name, value in options.items() if value is not None})
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except WasmError as error:
        raise CommandError(str(error)) from None
