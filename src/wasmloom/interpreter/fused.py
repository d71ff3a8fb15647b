"""Superinstructions: two instructions in one handler, by rule.

A fused instruction is the first instruction followed by the second one's fields (without its handler's address); its
handler is the two bodies in a row, so whatever the first leaves in an accumulator reaches the second in a
register, and one dispatch is saved. It always does exactly what the two would do one after the other. The translator
fuses any two neighbours that have a fused handler, unless a jump arrives between them (`Assembler.emit`).

The rules below say which pairs are worth a handler; each pair was among the most frequent in compiled C and Rust.
Comparisons are never a second part, so a branch can take them back (`Assembler.take_condition`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from wasmloom.interpreter.emitter import HandlerBuilder
from wasmloom.interpreter.isa import HEADER, Field, Handler, Shape
from wasmloom.semantics.kinds import by_name
from wasmloom.semantics.registry import OPERATIONS

_LOGIC = ("and", "or", "xor")
_ARITHMETIC = ("add", "sub", "mul")
_SHIFTS = ("shl", "shr_u", "shr_s")
_COMPARISONS = ("eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u")
_SELECTS = ("select.ass", "select.asi", "select.ais", "select.aii")


def fuse(first: Handler, second: Handler) -> Handler:
    """The handler of the two instructions in a row."""
    shift = first.shape.size - HEADER
    moved = (Field(field.name, field.kind, field.offset + shift, shift) for field in second.shape.fields)
    name = f"{first.name}+{second.name}"

    def body(b: HandlerBuilder) -> None:
        b.then(shift, second)
        first.body(b)

    return Handler(
        name,
        Shape(name, (*first.shape.fields, *moved)),
        body,
        faults=first.faults or second.faults,
        fault_offset=shift if second.faults else 0,
    )


def _names(types: Iterable[str], operations: Iterable[str], kinds: Iterable[str], results: str) -> Iterator[str]:
    for type in types:
        for operation in operations:
            for kind in kinds:
                for result in results:
                    yield f"{type}.{operation}.{kind}.{result}"


def _branches(types: Iterable[str], kinds: Iterable[str]) -> Iterator[str]:
    for type in types:
        for comparison in _COMPARISONS:
            for kind in kinds:
                yield f"br_if.{type}.{comparison}.{kind}"
                yield f"br_if.{type}.{comparison}.{kind}.back"


def _loads(type: str, kinds: Iterable[str], results: str) -> Iterator[str]:
    widths = {"i32": ("8_s", "8_u", "16_s", "16_u"), "i64": ("32_s", "32_u", "8_u")}.get(type, ())
    return _names((type,), ("load", *(f"load{width}" for width in widths)), kinds, results)


def _stores(type: str, kinds: Iterable[str]) -> Iterator[str]:
    widths = {"i32": ("8", "16"), "i64": ("32",)}.get(type, ())
    for width in ("", *widths):
        for kind in kinds:
            yield f"{type}.store{width}.{kind}"


def _vectors(kinds: Iterable[str]) -> list[str]:
    """All that make a vector of two, but for relaxed ones, some of which share handlers with others."""
    vector = by_name("v128")
    return [
        f"{operation.mnemonic}.{kind}.s"
        for operation in OPERATIONS.values()
        if operation.kind == "value"
        and (operation.params, operation.results) == ((vector, vector), (vector,))
        and not operation.lane_immediate
        and ".relaxed_" not in operation.mnemonic
        for kind in kinds
    ]


def _vector_pairs() -> Iterator[tuple[Iterable[str], Iterable[str]]]:
    address = [*_names(("i32",), ("add",), ("ss", "sa", "si", "ai"), "a")]
    loads = [
        operation.mnemonic
        for operation in OPERATIONS.values()
        if operation.kind == "load" and operation.has_vectors and not operation.lane_immediate
    ]
    yield address, [f"{load}.a.s" for load in loads]
    # Constants are made where they are needed, in loops, too.
    yield ("const_vector", "v128.load.s.s", "v128.load.a.s"), _vectors(("sa",))
    yield _vectors(("sa", "ss")), ("v128.store.sa",)
    # What turns lanes, and what masks what it has shifted.
    shapes = ("i8x16", "i16x8", "i32x4", "i64x2")
    yield _names(shapes, _SHIFTS, ("si", "ai"), "s"), _names(("v128",), _LOGIC, ("sa",), "s")
    # Sums.
    first = [*_names(shapes, ("add",), ("ss", "sa"), "s"), *_names(("v128",), _LOGIC, ("ss", "sa"), "s")]
    yield first, [*_names(shapes, ("add",), ("sa",), "s"), *_names(("v128",), _LOGIC, ("sa",), "s")]
    for shape in ("f32x4", "f64x2"):
        yield _names((shape,), _ARITHMETIC, ("ss", "sa", "as"), "s"), _names((shape,), _ARITHMETIC, ("sa", "as"), "s")
    # What looks for something.
    tests = [*_names(("v128",), ("any_true",), ("a",), "a"), *_names(shapes, ("all_true", "bitmask"), ("a",), "a")]
    yield tests, [f"br_if.i32.{name}.ai{back}" for name in ("eq", "ne") for back in ("", ".back")]
    yield ("copy_vector",), ("copy_vector",)


def _pairs() -> Iterator[tuple[Iterable[str], Iterable[str]]]:
    """(first instructions, second instructions): every one of the first with every one of the second."""
    yield from _vector_pairs()
    for type in ("i32", "i64"):
        first = [*_names((type,), (*_ARITHMETIC, *_LOGIC, *_SHIFTS), ("ss", "sa", "si", "ai"), "a")]
        second = [
            *_names((type,), (*_ARITHMETIC, *_LOGIC, *_SHIFTS), ("sa", "ai"), "as"),
            *_names((type,), ("sub",), ("as",), "as"),
        ]
        yield first, second
        yield first, _stores(type, ("sa",))
        yield _names((type,), ("xor",), ("ss", "sa", "si", "ai"), "a"), _names((type,), ("rotl",), ("ai",), "as")
        yield _names((type,), _COMPARISONS, ("ss", "sa", "si", "ai"), "a"), _SELECTS
        # A loop's counter, and a mask or a loaded value that is tested.
        counters = _names((type,), ("add", "sub"), ("si", "ss", "sa", "ai"), "s")
        yield counters, _branches((type,), ("ai", "sa"))
        masks = [*_names((type,), ("and",), ("ss", "si", "ai", "sa"), "a")]
        yield masks, _branches((type,), ("ai", "sa"))
        if type == "i32":  # a condition is no i64
            yield masks, _SELECTS
        yield _loads(type, ("s", "a"), "as"), _branches((type,), ("ai", "sa"))
        yield _loads(type, ("s", "a"), "a"), second
    for type in ("f32", "f64"):
        first = [
            *_names((type,), ("add", "mul"), ("ss", "sa"), "a"),
            *_names((type,), ("sub",), ("ss", "sa", "as"), "a"),
        ]
        second = [*_names((type,), ("add", "mul"), ("sa",), "as"), *_names((type,), ("sub",), ("sa", "as"), "as")]
        yield first, second
        yield first, _stores(type, ("sa",))
        yield _loads(type, ("s", "a"), "a"), second
    # Addresses: base and index, and a pointer that moves.
    address = [*_names(("i32",), ("add",), ("ss", "sa", "si", "ai"), "a")]
    for type in ("i32", "i64", "f32", "f64"):
        yield address, _loads(type, ("a",), "as")
        yield address, _stores(type, ("as",))
    yield ("copy",), ("copy", "br", "br.back", "set_acc", "call")
    yield ("const",), ("const", "copy", "br", "br.back", "call")
    yield ("set_acc",), ("copy", "br", "br.back")
    yield ("copy",), _branches(("i32",), ("ai", "si", "ss", "sa"))
    yield (
        _names(("i32", "i64"), ("add", "sub"), ("si",), "s"),
        (*_names(("i32", "i64"), ("add", "sub"), ("si",), "as"), "copy"),
    )
    yield _names(("i32", "i64"), ("add", "sub"), ("ss", "si", "sa", "ai"), "s"), ("br", "br.back")


def fused_handlers(number_of: Callable[[str], int], handlers: list[Handler]) -> Iterator[tuple[int, int, Handler]]:
    """All fused handlers with the numbers of their two parts."""
    seen: set[tuple[int, int]] = set()
    for firsts, seconds in _pairs():
        second_numbers = [number_of(name) for name in seconds]
        for first in firsts:
            for second in second_numbers:
                pair = (number_of(first), second)
                # At most one part may fault: the fault handler must know which.
                if pair in seen or (handlers[pair[0]].faults and handlers[second].faults):
                    continue
                seen.add(pair)
                yield (*pair, fuse(handlers[pair[0]], handlers[second]))
