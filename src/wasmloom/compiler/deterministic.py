"""Lowers what deterministic code does besides: see `wasmloom.semantics.determinism`.

The depth that is left is a local behind those of the function, so all that knows of locals takes it along: entries into
the middle of a function, for instance.
"""

from __future__ import annotations

from typing import Protocol

from wasmloom.compiler.builder import FunctionBuilder
from wasmloom.compiler.loops import Instr
from wasmloom.semantics.determinism import (
    BEGINS,
    CALLS,
    FRAME_COST,
    GIVES_NAN,
    TAIL_CALLS,
    VALUE_COST,
    canonical,
    give_depth,
    give_whole_depth,
    take_depth,
)
from wasmloom.semantics.llvm import Value
from wasmloom.spec.instructions import INSTRUCTIONS

_CALLS, _TAIL_CALLS, _BEGINS = (
    frozenset(row.index for row in INSTRUCTIONS if row.mnemonic in names) for names in (CALLS, TAIL_CALLS, BEGINS)
)
_GIVES_NAN = {row.index: GIVES_NAN[row.mnemonic] for row in INSTRUCTIONS if row.mnemonic in GIVES_NAN}
#: The cost of the function's frame: known in the end, defined where everything can use it.
_COST = Value("%frame.cost", "i64")


class Function(Protocol):
    """A function that is being lowered (`wasmloom.compiler.lowering`)."""

    b: FunctionBuilder
    dead: bool
    locals: list[tuple[Value, str]]
    stack: list[Value]

    def push(self, value: Value) -> None:
        """Push an operand."""

    def pop(self) -> Value:
        """Pop an operand."""

    def read_local(self, index: int) -> Value:
        """The value of a local."""

    def write_local(self, index: int, value: Value) -> None:
        """Give a local another value."""


class Determinism:
    """What one function does besides."""

    def __init__(self, f: Function) -> None:
        """Begin where the function does."""
        self._f = f
        self._cost_at = f.b.reserve()
        self._highest = 0
        self._local = -1

    def begin(self) -> None:
        """The function's locals are there."""
        f = self._f
        self._local = len(f.locals) - 1
        f.write_local(self._local, take_depth(f.b, _COST))

    def before(self, i: Instr) -> None:
        """Before an instruction: tell what it calls how deep it may get."""
        f = self._f
        if i.row in _BEGINS:
            give_whole_depth(f.b)
        elif i.row in _CALLS:
            give_depth(f.b, f.read_local(self._local))
        elif i.row in _TAIL_CALLS:
            give_depth(f.b, f.read_local(self._local), _COST)

    def after(self, i: Instr) -> None:
        """After an instruction: its result may be a NaN."""
        f = self._f
        lanes = _GIVES_NAN.get(i.row)
        if lanes is not None:
            f.push(canonical(f.b, f.pop(), lanes))
        if not f.dead:
            self._highest = max(self._highest, len(f.stack))

    def end(self) -> None:
        """The function has been lowered."""
        f = self._f
        cost = FRAME_COST + VALUE_COST * (len(f.locals) - 1 + self._highest)
        f.b.lines[self._cost_at] = f"  {_COST.text} = add i64 0, {cost}"
