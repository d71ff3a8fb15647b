"""What code does besides, for engines that want the same outcome everywhere (``Engine(deterministic=True)``).

**NaNs** (Core 3.0, appendix A.2, "Deterministic profile"): a NaN that an instruction computes is the canonical one,
which is positive. Code makes it so behind each instruction of `GIVES_NAN`. Instructions that only move bits, such as
``f32.neg``, leave those of NaNs alone. Relaxed instructions compute the same in all engines: see
`wasmloom.semantics.vectors`.

**Depth.** Frames take what they take in each tier, so calls are limited by a count instead. The context's
``depth_left`` is what a function that begins may still use. A function takes the cost of its frame from that, and keeps
the rest in a local of its own, behind those of the module; before each call it puts that back into the context. So
nothing needs to be restored: neither behind a call, nor where an exception, a trap or another stack goes on. A tail
call gives the frame's cost back first. Each stack of a continuation has a depth of its own.

A frame's cost is the same in all tiers: it counts parameters, locals and operands, whatever becomes of them.
"""

from __future__ import annotations

from typing import Any

from wasmloom.contract.traps import DEPTH_EXHAUSTED
from wasmloom.semantics.vectors import on_lanes_of
from wasmloom.spec.instructions import INSTRUCTIONS

#: A value of a builder.
V = Any

#: What is behind the dot in names of instructions that compute floats, where the result may be a NaN of any bits.
_ARITHMETIC = frozenset(
    (
        "add", "sub", "mul", "div", "min", "max", "sqrt", "ceil", "floor", "trunc", "nearest", "demote_f64",
        "promote_f32", "relaxed_min", "relaxed_max", "relaxed_madd", "relaxed_nmadd", "demote_f64x2_zero",
        "promote_low_f32x4",
    )
)  # fmt: skip
#: By the mnemonics of instructions that compute floats: how the result is divided into lanes.
GIVES_NAN: dict[str, str] = {
    row.mnemonic: shape
    for row in INSTRUCTIONS
    for shape, _, name in (row.mnemonic.partition("."),)
    if shape in ("f32", "f64", "f32x4", "f64x2") and name in _ARITHMETIC
}
#: The canonical NaN of a width.
_CANONICAL = {32: 0x7FC00000, 64: 0x7FF8000000000000}


def canonical(b: V, x: V, shape: str) -> V:
    """A result of an instruction in `GIVES_NAN`, whose NaNs become canonical."""
    return _canonical(b, x) if "x" not in shape else on_lanes_of(shape, _canonical)(b, x)


def _canonical(b: V, x: V) -> V:
    # LLVM takes a NaN that it has seen come about for any NaN, and would leave it as it is.
    x = b.unfolded(x)
    integers = x.type.replace("f", "i")
    number = b.const(integers, _CANONICAL[64 if "64" in integers else 32])
    bits = b.select(b.compare("uno", x, x), number, b.convert("bitcast", x, integers))
    return b.convert("bitcast", bits, x.type)


#: Bytes of stack that a frame costs, and each of its parameters, locals and operands (as many as there are at once).
FRAME_COST = 64
VALUE_COST = 8
#: What an instruction does to the depth before it does anything else: a call; a tail call; the beginning of another
#: stack, perhaps.
CALLS = ("call", "call_indirect", "call_ref")
TAIL_CALLS = ("return_call", "return_call_indirect", "return_call_ref")
BEGINS = ("resume", "resume_throw", "resume_throw_ref", "switch")


def take_depth(b: V, cost: V) -> V:
    """A function begins: what is left behind its frame. Traps when there isn't as much."""
    left = b.binary("sub", b.struct_field(b.ctx, "WlContext", "depth_left", "i64"), cost)
    b.trap_if(b.compare("slt", left, b.const("i64", 0)), DEPTH_EXHAUSTED)
    return left


def give_depth(b: V, left: V, cost: V | None = None) -> None:
    """A function calls another one; `cost`: its frame ends first."""
    b.set_struct_field(b.ctx, "WlContext", "depth_left", left if cost is None else b.binary("add", left, cost))


def give_whole_depth(b: V) -> None:
    """Another stack goes on: if it begins, with all that a stack has."""
    give_depth(b, b.struct_field(b.ctx, "WlContext", "depth_of_stack", "i64"))
