"""Trap codes: the reasons for which a guest can trap, worded as the official scripts word them."""

from __future__ import annotations

#: Reason by code; a code is its position. 0 is "no trap". The last four are not traps but ways to leave the guest.
TRAP_REASONS: tuple[str, ...] = (
    "",
    "unreachable",
    "integer divide by zero",
    "integer overflow",
    "invalid conversion to integer",
    "out of bounds memory access",
    "out of bounds table access",
    "undefined element",
    "uninitialized element",
    "indirect call type mismatch",
    "null function reference",
    "null reference",
    "call stack exhausted",
    "all fuel consumed",
    "timeout",
    "null exception reference",
    "null continuation reference",
    "continuation already consumed",
    "unhandled tag",
    # A continuation, an exception or an object would exceed the store's memory limit, or what the system has.
    "out of memory",
    "unaligned atomic",
    "expected shared memory",
    # Too many continuations have resumed each other. To its reader the same as the other one.
    "call stack exhausted",
    # The depth of calls that deterministic code counts. To its reader the same again.
    "call stack exhausted",
    "null structure reference",
    "null array reference",
    "null i31 reference",
    "cast failure",
    "out of bounds array access",
    "null descriptor reference",
    "descriptor cast failure",
    # A limit that isn't the same everywhere has ended deterministic code: that of a stack's memory, or of objects'.
    "host limit",
    # A WebAssembly exception that no handler of the entry caught is waiting in the context.
    "uncaught exception",
    # A Python exception is waiting in the Store; it leaves the guest unchanged.
    "host exception",
    # The guest waits for what a host function has returned, and will be entered again.
    "host wait",
    # The guest stands where it can go on as compiled code, and is to (see `wasmloom.tiers.change`).
    "change of tier",
)

(
    NO_TRAP,
    UNREACHABLE,
    INTEGER_DIVIDE_BY_ZERO,
    INTEGER_OVERFLOW,
    INVALID_CONVERSION,
    MEMORY_OUT_OF_BOUNDS,
    TABLE_OUT_OF_BOUNDS,
    UNDEFINED_ELEMENT,
    UNINITIALIZED_ELEMENT,
    INDIRECT_CALL_TYPE_MISMATCH,
    NULL_FUNCTION_REFERENCE,
    NULL_REFERENCE,
    STACK_EXHAUSTED,
    OUT_OF_FUEL,
    TIMEOUT,
    NULL_EXCEPTION_REFERENCE,
    NULL_CONTINUATION_REFERENCE,
    CONTINUATION_CONSUMED,
    UNHANDLED_TAG,
    OUT_OF_MEMORY,
    UNALIGNED_ATOMIC,
    EXPECTED_SHARED_MEMORY,
    CHAIN_EXHAUSTED,
    DEPTH_EXHAUSTED,
    NULL_STRUCT_REFERENCE,
    NULL_ARRAY_REFERENCE,
    NULL_I31_REFERENCE,
    CAST_FAILURE,
    ARRAY_OUT_OF_BOUNDS,
    NULL_DESCRIPTOR_REFERENCE,
    DESCRIPTOR_CAST_FAILURE,
    HOST_LIMIT,
    UNCAUGHT_EXCEPTION,
    HOST_EXCEPTION,
    HOST_WAIT,
    CHANGE_TIER,
) = range(len(TRAP_REASONS))
