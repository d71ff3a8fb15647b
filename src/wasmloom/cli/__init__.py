"""The `wasmloom` command.

`main` is the entry point; each subcommand is a module of its own, named after it, with a `command`. Neither click nor
the engine is loaded before it is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

#: Exit status after Ctrl-C (128 + SIGINT).
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (None: those of the process) and return the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments == ["--version"]:
        from wasmloom import __version__

        print(f"wasmloom {__version__}")
        return 0
    try:
        from wasmloom.cli.app import run_app

        return run_app(arguments)
    except KeyboardInterrupt:
        return _INTERRUPTED
