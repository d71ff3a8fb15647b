"""What profilers and debuggers are told about copied code: see `wasmloom.compiler.perf`, which asks for it.

Code runs on the interpreter's frames and never uses the stack of C, so one rule unwinds all of it: the caller is who
called the interpreter, as in handlers. Guests' own frames aren't on that stack; backtraces show them.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from wasmloom.baseline.plans import planned
from wasmloom.compiler import dwarf, elf, perf
from wasmloom.compiler.objects import Function
from wasmloom.messages import printable
from wasmloom.runtime.frames import func_name

if TYPE_CHECKING:
    from wasmloom.interpreter.code_space import CodeSpace

#: What code lies in that belongs to no function: jumps to slow paths, and addresses.
COMMON = "wasmloom stubs"


class _Batch:
    """`perf.Code` from `start` to `end`: functions of a space with their addresses."""

    def __init__(self, space: CodeSpace, functions: Sequence[tuple[int, int]], start: int, end: int) -> None:
        self.space = space
        self.start = start
        self.end = end
        self.described: list[object] = []
        self._functions = sorted(functions)
        self._numbers = dict(functions)

    def named(self) -> Iterator[Function]:
        """All functions, each with the stubs behind it, then what is in front of the first one."""
        first = self.space.module.num_imported_funcs
        ends = [address for address, _ in self._functions[1:]] + [self.end]
        for (address, number), end in zip(self._functions, ends, strict=True):
            name = func_name(self.space.module, first + number) or f"wasm-function[{first + number}]"
            yield Function(address, end - address, printable(name))
        if self.start < self._functions[0][0]:
            yield Function(self.start, self._functions[0][0] - self.start, COMMON)

    def read(self, address: int, size: int) -> bytes:
        """See `perf.Code`. Code lives as long as the space, and isn't written any more."""
        return ctypes.string_at(address, size)

    def rows(self, function: Function) -> list[tuple[int, int]]:
        """See `perf.Code`."""
        number = self._numbers.get(function.address)
        if number is None:
            return []
        _, places = self.space.bytecode(number)
        steps = [step for step in planned(self.space, number).steps if step.at is not None]
        usual = [(step.usual, step.at) for step in steps]
        apart = [(step.apart, step.at) for step in steps if step.apart_size]
        found: list[tuple[int, int]] = []
        for address, at in usual + apart:
            offset = places[max(bisect_right(places, (at, 1 << 32)) - 1, 0)][1]
            if not found or found[-1][1] != offset:
                found.append((address, offset))
        return found

    def images(self) -> Iterator[bytes]:
        """One for all of it."""
        functions = list(self.named())
        text = elf.ImageSection(".text", elf.SHF_ALLOC | elf.SHF_EXECINSTR, self.start, self.end - self.start, None)
        rows = [row for function in functions for row in self.rows(function)]
        debug = {
            **dwarf.lines("module.wasm", sorted(rows), self.start, self.end),
            ".debug_frame": dwarf.handler_frame(self.start, self.end),
        }
        sections = [text, *(elf.ImageSection(name, 0, 0, len(content), content) for name, content in debug.items())]
        yield elf.write_image(sections, [elf.ImageSymbol(*_symbol(function), 0) for function in functions])


def _symbol(function: Function) -> tuple[str, int, int]:
    return function.name, function.address, function.size


def describer() -> Callable[[CodeSpace, Sequence[tuple[int, int]], int, int], list[object]]:
    """What is called for each batch of code: with functions by address, where it begins and ends.

    It returns what has to live as long as the code, and raises `OSError`. Raises `ValueError`, see `perf.wanted`.
    """
    perf.wanted()

    def describe(space: CodeSpace, functions: Sequence[tuple[int, int]], start: int, end: int) -> list[object]:
        batch = _Batch(space, functions, start, end)
        perf.tell(batch)
        return batch.described

    return describe
