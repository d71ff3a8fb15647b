"""The command line: which subcommand is meant, its arguments, and how it ends."""

from __future__ import annotations

import shutil
import sys
import textwrap
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from wasmloom.cli.common import Command, CommandError, UsageError
from wasmloom.version import __version__

#: Subcommand → module that defines it. It is loaded when the subcommand is called.
COMMANDS: dict[str, str] = {
    "run": "wasmloom.cli.run",
    "resume": "wasmloom.cli.resume",
    "profile": "wasmloom.cli.profile",
    "bench": "wasmloom.cli.bench",
    "compile": "wasmloom.cli.compile",
    "wast": "wasmloom.cli.wast",
    "validate": "wasmloom.cli.validate",
    "inspect": "wasmloom.cli.inspect",
    "wat2wasm": "wasmloom.cli.convert",
    "wasm2wat": "wasmloom.cli.convert",
}


class _Parser(ArgumentParser):
    """A parser that raises `UsageError`, takes no abbreviations, and keeps paragraphs of descriptions."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, allow_abbrev=False, formatter_class=RawDescriptionHelpFormatter)
        self.description = description

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)

    def format_help(self) -> str:
        width = shutil.get_terminal_size().columns - 2
        paragraphs = (self.description or "").split("\n\n")
        self.description = "\n\n".join(textwrap.fill(" ".join(text.split()), width) for text in paragraphs)
        return super().format_help()


def _load(name: str) -> Command:
    command: Command = import_module(COMMANDS[name]).COMMANDS[name]
    return command


def _without_command(arguments: Sequence[str]) -> int:
    """What is said when no subcommand is called."""
    parser = _Parser("wasmloom", "Run and examine WebAssembly.")
    parser.usage = "wasmloom [-h] [--version] COMMAND ..."
    parser.epilog = "commands:\n" + "\n".join(f"  {name:10} {_load(name).summary}" for name in COMMANDS)
    parser.add_argument("--version", action="version", version=f"wasmloom {__version__}", help="Show the version.")
    parser.add_argument("command", nargs="?", choices=COMMANDS, metavar="COMMAND", help="See below.")
    try:
        parser.parse_args(arguments)
    except UsageError as error:
        return _misused(parser, error)
    parser.print_help(sys.stderr)
    return UsageError.exit_status


def _misused(parser: ArgumentParser, error: UsageError) -> int:
    parser.print_usage(sys.stderr)
    error.show()
    return error.exit_status


def run_app(arguments: Sequence[str]) -> int:
    """Run a command line and return the exit status: 2 for wrong usage, 1 for errors, else what the subcommand says.

    Raises `SystemExit` after it has printed help.
    """
    if not arguments or arguments[0] not in COMMANDS:
        return _without_command(arguments)
    name = arguments[0]
    command = _load(name)
    parser = _Parser(f"wasmloom {name}", command.run.__doc__ or "")
    parser.usage = f"wasmloom {name} [OPTIONS] {command.usage}"
    command.add_arguments(parser)
    try:
        return command.run(**vars(parser.parse_args(arguments[1:])))
    except UsageError as error:
        return _misused(parser, error)
    except CommandError as error:
        error.show()
        return error.exit_status
