"""The handlers of instructions that only deterministic engines use: see `wasmloom.semantics.determinism`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wasmloom.contract.layout import SLOT_BYTES
from wasmloom.interpreter.emitter import HandlerBuilder
from wasmloom.interpreter.isa import Handler, shape
from wasmloom.semantics.determinism import canonical, give_depth, give_whole_depth, take_depth
from wasmloom.semantics.kinds import by_name


def _canonical(lanes: str) -> Callable[[HandlerBuilder], None]:
    """The result that the instruction before has left in the accumulator; it goes to a slot, too."""

    def body(b: HandlerBuilder) -> None:
        value = b.read_acc(by_name("v128" if "x" in lanes else lanes))
        b.finish_value(canonical(b, value, lanes))

    return body


def _take_depth(b: HandlerBuilder) -> None:
    b.store(take_depth(b, b.number("cost")), b.slot("dst"), align=SLOT_BYTES)
    b.next()


def _give_depth(b: HandlerBuilder) -> None:
    give_depth(b, b.load("i64", b.slot("left"), align=SLOT_BYTES))
    b.next()


def _give_depth_back(b: HandlerBuilder) -> None:
    give_depth(b, b.load("i64", b.slot("left"), align=SLOT_BYTES), b.number("cost"))
    b.next()


def _give_whole_depth(b: HandlerBuilder) -> None:
    give_whole_depth(b)
    b.next()


def deterministic_handlers() -> Iterator[Handler]:
    """All handlers of this file, in a fixed order."""
    for lanes in ("f32", "f64", "f32x4", "f64x2"):
        yield Handler(f"canonical.{lanes}", shape("canonical", "dst:dst@8"), _canonical(lanes))
    yield Handler("take_depth", shape("take_depth", "dst:dst@8 cost:u32@12"), _take_depth)
    yield Handler("give_depth", shape("give_depth", "left:slot@8"), _give_depth)
    yield Handler("give_depth_back", shape("give_depth", "left:slot@8 cost:u32@12"), _give_depth_back)
    yield Handler("give_whole_depth", shape("give_whole_depth"), _give_whole_depth)
