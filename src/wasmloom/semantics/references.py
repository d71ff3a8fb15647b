"""The definitions of instructions on references, and of what calls check before they go to a function.

A reference is a word, 0 for null; that of a function is the address of its `WlFunction`.
Source: Core 3.0, section 4.4.5 (reference instructions) and 4.4.8 (calls, exceptions).
"""

from __future__ import annotations

from typing import Any

from wasmloom.contract.traps import (
    INDIRECT_CALL_TYPE_MISMATCH,
    NULL_EXCEPTION_REFERENCE,
    NULL_FUNCTION_REFERENCE,
    NULL_REFERENCE,
    UNDEFINED_ELEMENT,
    UNINITIALIZED_ELEMENT,
)
from wasmloom.semantics.registry import operation
from wasmloom.semantics.tables import element

V = Any
"""A builder's value: it has a `type`, "i32", "i64" or "ptr"."""


@operation("ref.null", kind="own", results="ref")
def null(b: V) -> V:
    return b.const("i64", 0)


@operation("ref.func", kind="instance", results="ref")
def ref_func(b: V, function: V) -> V:
    return b.address_word(function)


def not_null(b: V, reference: V, trap: int) -> V:
    """Trap at null. Returns the reference, as it is."""
    if b.may_be_null(reference):
        b.trap_if(b.compare("eq", reference, b.const("i64", 0)), trap)
    return reference


@operation("ref.as_non_null", kind="own", params="ref", results="ref", traps=(NULL_REFERENCE,))
def as_non_null(b: V, reference: V) -> V:
    return not_null(b, reference, NULL_REFERENCE)


@operation("throw_ref", kind="own", params="ref", traps=(NULL_EXCEPTION_REFERENCE,))
def thrown(b: V, reference: V) -> V:
    """The exception, checked. How it is thrown is up to the tiers."""
    return not_null(b, reference, NULL_EXCEPTION_REFERENCE)


# --- which function a call goes to: its `WlFunction`. How it is called is up to the tiers. ---


@operation("call_ref", "return_call_ref", kind="own", params="ref", traps=(NULL_FUNCTION_REFERENCE,))
def referenced(b: V, reference: V) -> V:
    return b.pointer_in(not_null(b, reference, NULL_FUNCTION_REFERENCE))


@operation(
    "call_indirect",
    "return_call_indirect",
    kind="own",
    params="addr",
    traps=(UNDEFINED_ELEMENT, UNINITIALIZED_ELEMENT, INDIRECT_CALL_TYPE_MISMATCH),
)
def indirect(b: V, table: V, index: V, expected: V) -> V:
    """`expected`: the canonical id of the type that the function must have.

    Nearly always it is the function's own. Another one may be that of a subtype: the builder's `check_subtype` traps
    unless it is, or goes on at a label.
    """
    function = b.load("ptr", element(b, table, index, UNDEFINED_ELEMENT), align=8)
    b.trap_if(b.is_null(function), UNINITIALIZED_ELEMENT)
    actual = b.struct_field(function, "WlFunction", "type_id", "i64")
    b.rarely(
        b.compare("ne", actual, expected), lambda go_on: b.check_subtype(actual, expected, go_on), ("different", "same")
    )
    return function
