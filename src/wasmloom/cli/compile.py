"""`wasmloom compile`: compiled code ahead of time, into the disk cache."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wasmloom.cli.common import (
    Command,
    CommandError,
    UsageError,
    add_deterministic,
    add_files,
    add_stack_switching,
    at_least,
    errors_name,
    make_engine,
    read_input,
)
from wasmloom.cli.progress import Progress

if TYPE_CHECKING:
    from wasmloom import Engine
    from wasmloom.compiler.cache import Cache


def _size(count: int) -> str:
    """A number of bytes for people."""
    if count < 1 << 20:
        return f"{count / (1 << 10):.1f} KiB"
    return f"{count / (1 << 20):.1f} MiB"


def _compile(path: str, engine: Engine, cache: Cache, workers: int | None) -> None:
    """Compile the module in a file, and say what has been done. Raises `CommandError`."""
    from wasmloom import Module
    from wasmloom.compiler.compiled import CompiledModule, can_leave, compile_module, kept_key, too_large

    data = read_input(path)
    options = engine.code_options()
    before = time.perf_counter()
    with errors_name(path), Progress(path) as progress:
        module = Module(data, engine)
        # LLVM can't be interrupted: it always runs in other processes, which can be killed.
        left: list[int] = []
        may_leave = left if can_leave(module.decoded) else None
        code = compile_module(module.decoded, options, cache, workers, progress, isolated=True, left=may_leave)
        size = CompiledModule(module.decoded, code, options, left, mixes=bool(left)).code_size
    seconds = time.perf_counter() - before
    if not cache.has(kept_key(module.decoded, options, left)):
        raise CommandError(f"compiled, but not kept in the cache: {path}: see WASMLOOM_LOG=cache")
    how = "compiled" if progress.called else "in the cache already"
    print(f"{path}: {how}: {_size(size)} of code, {seconds:.2f} s")
    if left:
        print(f"{path}: {too_large(module.decoded, left)}")


def compile_files(
    files: Sequence[str],
    workers: int | None,
    fuel: bool,
    deterministic: bool | None,
    stack_switching: str | None,
    clear_cache: bool,
) -> int:
    """Compile modules, binary or text, and keep the compiled code in the disk cache.

    Later runs of such a module with the tiers "compiler" and "auto" find its code there. The cache is the directory
    WASMLOOM_CACHE_DIR, by default ~/.cache/wasmloom.

    Ctrl-C keeps what has been compiled, and the next run goes on from there.

    Prints a line per module. The exit status is 1 when one can't be compiled or kept, 130 after Ctrl-C.
    """
    from wasmloom.compiler.cache import Cache

    if not files and not clear_cache:
        raise UsageError("the following arguments are required: FILE")
    cache = Cache()
    if clear_cache:
        removed = cache.size()
        cache.clear()
        print(f"removed {_size(removed)} from {cache.directory}")
    # In an engine of this tier making a module doesn't compile it yet.
    engine = make_engine(tier="interpreter", stack_switching=stack_switching, fuel=fuel, deterministic=deterministic)
    failed = False
    for path in files:
        try:
            _compile(path, engine, cache, workers)
        except CommandError as error:
            error.show()
            failed = True
    return int(failed)


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--workers", metavar="N", type=at_least(1), help="Processes at most (default: all processors).")
    parser.add_argument("--fuel", action="store_true", help="Compile for `run --fuel`.")
    add_deterministic(parser)
    add_stack_switching(parser)
    parser.add_argument("--clear-cache", action="store_true", help="First remove all compiled code from the cache.")
    add_files(parser, "*")


COMMANDS = {"compile": Command("Compile modules into the disk cache.", "FILE...", compile_files, _add_arguments)}
