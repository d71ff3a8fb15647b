"""`wasmloom validate`: whether modules are valid."""

from __future__ import annotations

import click

from wasmloom.cli.common import INPUT, CommandError, errors_name, read_input
from wasmloom.messages import printable


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=INPUT)
def validate(files: tuple[str, ...]) -> int:
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
            click.echo(f"{printable(path)}: valid")
    return int(failed)


COMMANDS = {"validate": validate}
