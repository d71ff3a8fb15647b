"""Parts of a module, and compiling one: in this process, or in a worker.

Workers import this module and little else, since starting one takes as long as compiling some kilobytes.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from wasmloom.compiler import workers
from wasmloom.errors import UnsupportedError

if TYPE_CHECKING:
    from wasmloom.compiler.facts import Facts
    from wasmloom.compiler.options import Options
    from wasmloom.compiler.osr import OsrEntry


class Part(NamedTuple):
    """What LLVM compiles at once: some functions of those defined in a module, or an `entry` of one.

    `first`: with what there is once in a module. `plainly`: in the cheapest way.
    """

    functions: tuple[int, ...]
    first: bool = False
    entry: OsrEntry | None = None
    plainly: bool = False


def compile_part(data: bytes, options: Options, part: Part) -> bytes:
    """The object of a part of a module, which has been validated. Raises as `compile_here` does."""
    with ExitStack() as stack:
        _enter(stack, "importing")
        facts = _facts(data)
    return compile_here(facts, options, part)


def compile_some_part(data: bytes, options: Options, part: Part) -> bytes:
    """The same, but b"" where a function is too large to be compiled."""
    try:
        return compile_part(data, options, part)
    except UnsupportedError:
        return b""


def compile_here(facts: Facts, options: Options, part: Part) -> bytes:
    """The object of a part, by this process; of an entry that nothing can arrive at none, which is b"".

    Raises `UnsupportedError`, `CompileError`.
    """
    with ExitStack() as stack:
        _enter(stack, "importing")
        from wasmloom.compiler.backends import chosen
        from wasmloom.compiler.osr import UnreachableError
        from wasmloom.compiler.units import compile_entry, compile_unit

        chosen()
    with ExitStack() as stack:
        _enter(stack, "using_llvm")
        if part.entry is None:
            return compile_unit(facts, options, part.functions, part.first, part.plainly)
        try:
            return compile_entry(facts, options, part.entry, part.plainly)
        except UnreachableError:
            return b""


def _enter(stack: ExitStack, name: str) -> None:
    """Tell `wasmloom.runtime.forks` what is going on. Workers have no children, and don't load it."""
    if not workers.is_worker:
        from wasmloom.runtime import forks

        stack.enter_context(forks.importing if name == "importing" else forks.using_llvm())


@lru_cache(maxsize=1)
def _facts(data: bytes) -> Facts:
    from wasmloom.binary.decoder import decode_module
    from wasmloom.compiler.facts import Facts

    return Facts(decode_module(data))
