"""The checks of instructions on continuations, for all tiers (stack-switching proposal, "Execution").

A reference to a continuation is its address and a revision. Consuming it changes the revision, so the reference and
all its copies become useless.
"""

from __future__ import annotations

from typing import Any

from wasmloom.contract.layout import NEXT_REVISION
from wasmloom.contract.traps import CONTINUATION_CONSUMED, NULL_CONTINUATION_REFERENCE, NULL_EXCEPTION_REFERENCE
from wasmloom.semantics.references import not_null

V = Any
"""A builder's value."""


def check_reference(b: V, word: V) -> tuple[V, V]:
    """Trap unless a reference can be used; returns the continuation, and the next reference to it."""
    not_null(b, word, NULL_CONTINUATION_REFERENCE)
    cont = b.pointer_in(b.binary("and", word, b.const("i64", NEXT_REVISION - 1)))
    only = b.struct_field(cont, "WlCont", "reference", "i64")  # the only one that counts
    b.trap_if(b.compare("ne", only, word), CONTINUATION_CONSUMED)
    return cont, b.binary("add", word, b.const("i64", NEXT_REVISION))


def consume(b: V, word: V) -> V:
    """Check a reference, and make it and all copies of it stale; returns the continuation."""
    cont, following = check_reference(b, word)
    b.set_struct_field(cont, "WlCont", "reference", following)
    return cont


def check_throwing(b: V, word: V, exception: V) -> None:
    """The checks of `resume_throw_ref` before it consumes the reference in `word`."""
    not_null(b, word, NULL_CONTINUATION_REFERENCE)
    not_null(b, exception, NULL_EXCEPTION_REFERENCE)


def check_target(b: V, word: V) -> None:
    """The checks of `switch` before it looks for a handler."""
    not_null(b, word, NULL_CONTINUATION_REFERENCE)
