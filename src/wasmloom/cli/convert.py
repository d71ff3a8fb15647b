"""`wasmloom wat2wasm` and `wasmloom wasm2wat`: between the text and the binary format."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from wasmloom.cli.common import Command, CommandError, errors_name, read_input, to_binary, write_output
from wasmloom.messages import printable


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


def wasm2wat(file: str, output: str | None) -> int:
    """Print a binary module as text."""
    from wasmloom.text.printer import print_module

    data = to_binary(file)
    with errors_name(file):
        text = print_module(data)
    write_output("-" if output is None else output, text.encode("utf-8", "surrogateescape"))
    return 0


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("-o", "--output", metavar="OUT", help="Where to write; - is standard output.")
    parser.add_argument("file", metavar="FILE")


COMMANDS = {
    "wat2wasm": Command("Assemble a text module.", "FILE", wat2wasm, _add_arguments),
    "wasm2wat": Command("Print a binary module as text.", "FILE", wasm2wat, _add_arguments),
}
