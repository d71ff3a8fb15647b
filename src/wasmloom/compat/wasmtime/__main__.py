"""``python -m wasmloom.compat.wasmtime PROGRAM…``: run a program for which ``import wasmtime`` means wasmloom.

It takes what ``python`` takes: a file with arguments, ``-m MODULE`` or ``-c CODE``.
"""

from __future__ import annotations

import os
import runpy
import sys

from wasmloom.compat.wasmtime.install import install

_USAGE = "usage: python -m wasmloom.compat.wasmtime (FILE | -m MODULE | -c CODE) [ARGUMENT]..."


def main(arguments: list[str]) -> None:
    """Run the program that is named by arguments of the command line."""
    option = arguments[0] if arguments and arguments[0] in ("-m", "-c") else None
    rest = arguments[1:] if option else arguments
    if not rest or rest[0].startswith("-"):
        raise SystemExit(_USAGE)
    install()
    if option == "-m":
        sys.argv = rest  # `run_module` replaces the first by the file's name
        sys.path[0] = os.getcwd()
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif option == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.path[0] = ""
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
    else:
        sys.argv = rest
        sys.path[0] = os.path.dirname(os.path.abspath(rest[0]))
        runpy.run_path(rest[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
