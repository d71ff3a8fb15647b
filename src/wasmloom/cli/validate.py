"""`wasmloom validate`: whether modules are valid."""

from __future__ import annotations

from collections.abc import Sequence

from wasmloom.cli.common import Command, CommandError, add_files, errors_name, read_input
from wasmloom.messages import printable


def validate(files: Sequence[str]) -> int:
    """Validate modules, binary or text.

    Prints a line per module. The exit status is 1 when one is malformed, invalid or uses what isn't supported.
    """
    from wasmloom import Module

    failed = False
    for path in files:
        try:
            data = read_input(path)
            with errors_name(path):
                Module(data)
        except CommandError as error:
            error.show()
            failed = True
        else:
            print(f"{printable(path)}: valid")
    return int(failed)


COMMANDS = {"validate": Command("Validate modules, binary or text.", "FILE...", validate, add_files)}
