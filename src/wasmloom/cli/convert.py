"""`wasmloom wat2wasm` and `wasmloom wasm2wat`: between the text and the binary format."""

from __future__ import annotations

from pathlib import Path

import click

from wasmloom.cli.common import INPUT, CommandError, errors_name, read_input, to_binary, write_output
from wasmloom.messages import printable

_OUTPUT = click.option("-o", "--output", metavar="OUT", help="Where to write; - is standard output.")


@click.command(short_help="Assemble a text module.")
@click.argument("file", metavar="FILE", type=INPUT)
@_OUTPUT
def wat2wasm(file: str, output: str | None) -> int:
    """Assemble a text module to FILE with the suffix .wasm. The module isn't validated."""
    from wasmloom.text.parser import parse_module

    data = read_input(file)
    with errors_name(file):
        binary = parse_module(data).binary
    if output is None:
        output = "-" if file == "-" else str(Path(file).with_suffix(".wasm"))
        if output == file and file != "-":
            raise CommandError(f"cannot write: {printable(file)}: it is the input; choose another file with -o")
    write_output(output, binary)
    return 0


@click.command()
@click.argument("file", metavar="FILE", type=INPUT)
@_OUTPUT
def wasm2wat(file: str, output: str | None) -> int:
    """Print a binary module as text."""
    from wasmloom.text.printer import print_module

    data = to_binary(file)
    with errors_name(file):
        text = print_module(data)
    write_output("-" if output is None else output, text.encode("utf-8", "surrogateescape"))
    return 0


COMMANDS = {"wat2wasm": wat2wasm, "wasm2wat": wasm2wat}
