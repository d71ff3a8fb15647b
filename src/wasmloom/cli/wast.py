"""`wasmloom wast`: run test scripts."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from wasmloom.cli.common import Command, CommandError, add_engine_options, add_files, make_engine, read_input


def wast(files: Sequence[str], **options: Any) -> int:
    """Run WAST scripts.

    Prints a line per file with why commands were skipped, the failures on standard error, and the sums last. The exit
    status is 1 when a command failed.
    """
    from wasmloom.cli.script_runner import run_script

    engine = make_engine(**options)
    passed = failed = skipped = 0
    for path in files:
        try:
            data = read_input(path)
        except CommandError as error:
            error.show()
            failed += 1
            continue
        outcome = run_script(data, engine)
        for line, what in outcome.failures:
            print(f"{path}:{line}: {what}", file=sys.stderr)
        counts = f"{outcome.passed} passed, {outcome.failed} failed, {outcome.skips} skipped"
        reasons = "; ".join(f"{number}: {reason}" for reason, number in outcome.skipped.most_common())
        print(f"{path}: {counts}" + (f" ({reasons})" if reasons else ""))
        passed += outcome.passed
        failed += outcome.failed
        skipped += outcome.skips
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0)


def _add_arguments(parser: ArgumentParser) -> None:
    add_engine_options(parser)
    add_files(parser)


COMMANDS = {"wast": Command("Run WAST scripts.", "FILE...", wast, _add_arguments)}
