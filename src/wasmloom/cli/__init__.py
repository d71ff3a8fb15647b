"""The `wasmloom` command.

`main` is the entry point; each subcommand is a module of its own, with a `Command`. The engine isn't loaded before it
is needed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

#: Exit status after Ctrl-C (128 + SIGINT).
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (None: those of the process) and return the exit status.

    Raises `SystemExit` after help has been printed.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments == ["--version"]:
        from wasmloom.version import __version__

        print(f"wasmloom {__version__}")
        return 0
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names that the terminal's encoding lacks
    try:
        from wasmloom.cli.app import run_app

        status = run_app(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Nobody reads what is printed. Python would complain once more when it writes the rest at the process's end.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        return 1
