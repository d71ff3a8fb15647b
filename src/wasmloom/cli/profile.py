"""`wasmloom profile`: run a program, and say where its time went."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from wasmloom.cli.common import Command, CommandError, at_least
from wasmloom.cli.run import add_run_options, run_program
from wasmloom.messages import printable

if TYPE_CHECKING:
    from wasmloom import Store


def profile(top: int, output: str | None, lines: bool, **options: Any) -> int:
    """Run a program as `wasmloom run` does, and print on standard error which functions its time went into.

    Samples are taken every 2 ms, in any tier. Those of host functions, such as WASI's, have names in brackets. With
    --lines, lines of the source are shown, too, of modules with DWARF. With --output a file is written, too: a flame
    graph (.svg), a profile for https://www.speedscope.app (.json), or else a line for each stack.

    The exit status is that of `run`.
    """

    @contextmanager
    def around(store: Store) -> Iterator[None]:
        from wasmloom import profile as profile_of

        with profile_of(store, lines=lines) as found:
            try:
                yield
            finally:
                sys.stdout.flush()
                print(found.table(top), file=sys.stderr)
                if output is not None:
                    try:
                        found.save(output)
                    except OSError as error:
                        raise CommandError(f"cannot write: {printable(output)}: {error.strerror}") from None

    return run_program(around, **options)


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--top", metavar="N", type=at_least(0), default=25, help="Functions to print at most (default: 25)."
    )
    parser.add_argument("-o", "--output", metavar="OUT", help="Where to write the profile: .svg, .json or text.")
    parser.add_argument("--lines", action="store_true", help="Also show lines of the source.")
    add_run_options(parser)


COMMANDS = {
    "profile": Command("Run a program and show where its time goes.", "FILE [ARGS]...", profile, _add_arguments)
}
