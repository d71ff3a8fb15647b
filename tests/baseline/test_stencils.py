"""Every stencil does what its handler does, whatever is in its holes."""

from __future__ import annotations

import random
from functools import cache

import pytest

from tests.conftest import needs_guard_pages
from tests.interpreter.shapes import INPUTS, about_vectors, shape
from tests.interpreter.test_instructions import check, handler_set, in_group, shaped
from wasmloom.baseline.copier import stencil_sizes
from wasmloom.baseline.generator import KEPT, candidates
from wasmloom.interpreter.object_handlers import object_handlers

pytestmark = pytest.mark.usefixtures("code_at_once")

GROUPS = 4
#: What immediates are. LLVM takes a symbol's address for something that isn't zero and has no sign, unless told: each
#: of these would show that it hasn't been. All fit 32 bits with a sign, so that an i64 fits its field.
EDGES = (0, 1, -1, -(1 << 31), (1 << 31) - 1)


@cache
def unfused() -> list[str]:
    handlers = handler_set()
    return [handler.name for number, handler in candidates(handlers) if number < len(handlers.handlers)]


def test_what_has_stencils() -> None:
    """All that can stand in a function has one, but what calls C, what is recognised by its handler, and fused ones."""
    fused = set(handler_set().fused.values())
    sizes = stencil_sizes()
    for number, handler in enumerate(handler_set().handlers):
        has_one = number not in fused and not handler.calls_runtime and handler.name not in KEPT
        assert (sizes[number] is not None) == has_one, handler.name


@needs_guard_pages
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("group", range(GROUPS))
def test_stencils(group: int, edge: int) -> None:
    rng = random.Random(group)
    bits = edge & 0xFFFFFFFFFFFFFFFF
    names = unfused()[group::GROUPS]
    # Offsets at the ends are in `tests.interpreter.test_faults`. An address and its offset must fit 32 bits.
    instance, cases = shaped(names, rng, int(edge == 1), tier="baseline", immediates=[bits])
    assert len(cases) > 100
    check(instance, cases, rng)
    instance, cases = shaped(names, rng, int(edge == 1), tier="baseline", immediates=[bits], wide=True)
    assert len(cases) > 10
    check(instance, cases, rng)


@needs_guard_pages
def test_parts_of_fused_instructions() -> None:
    """The copier puts the stencils of both parts together."""
    rng = random.Random(1)
    instance, cases = shaped(in_group(0), rng, offset=3, tier="baseline")
    assert any("+" in case.name for case in cases)
    check(instance, cases, rng)


#: Handlers that `tests.interpreter.shapes` knows no code for. The official scripts run all of them in this tier
#: (`tests.spec.test_scripts`), the fuzzer compares them with the interpreter's (`tests.fuzz`), and those of
#: deterministic engines are run by `tests.tiers.test_deterministic`.
OTHERS = {
    "br", "br.back", "br_table.s", "br_table.a", "unreachable", "call", "call_import", "call_indirect", "call_ref",
    "return_call", "return_call_import", "return_call_indirect", "return_call_ref", "return", "return.s", "return.a",
    "return.i", "freturn.s", "freturn.a", "return_many", "fuel", "enter.n", *(f"enter.{count}" for count in range(7)),
    "copy", "move", "const", "const_acc", "const_facc", "set_acc", "set_facc", "ref.as_non_null", "ref.func",
    *(f"fselect.{a}{b}{c}" for a in "sa" for b in "si" for c in "si"), "global.get.s", "global.get.a", "fglobal.get.s",
    "fglobal.get.a", "global.set.s", "global.set.a", "global.set.i", "fglobal.set.a", "table.get", "table.set",
    "table.size", "memory.size", "try_enter", "try_leave", "throw", "throw_ref", "catch_enter", "catch", "catch_all",
    "rethrow", "resume", "resume_throw", "resume_throw_ref", "suspend", "switch", "i64.add128", "i64.sub128",
    "i64.mul_wide_s", "i64.mul_wide_u", "call_indirect.w", "return_call_indirect.w", "table.get.w", "table.set.w",
    "table.size.w", "memory.size.w", "canonical.f32", "canonical.f64", "canonical.f32x4", "canonical.f64x2",
    "take_depth", "give_depth", "give_depth_back", "give_whole_depth", "atomic.fence",
}  # fmt: skip


def test_every_stencil_has_a_test() -> None:
    """A new handler needs a shape, or a place in the list above, and code that runs it.

    Those of vectors are run in `tests.semantics.test_vectors` and `tests.host.test_vectors`, those of objects in
    `tests.semantics.test_objects`.
    """
    unknown = {name for name in unfused() if not about_vectors(name) and shape(name, [1] * INPUTS, 0) is None}
    unknown -= {handler.name for handler in object_handlers()}
    unknown = {name for name in unknown if not name.startswith(("ref.i31", "i31.get", "array.len"))}
    assert {name for name in unknown if ".atomic." not in name} == OTHERS


def test_vectors_in_instructions_are_read_at_once() -> None:
    """Not put together, or even computed with, as numbers: those in registers would take a dozen times as much code."""
    sizes = dict(zip((handler.name for handler in handler_set().handlers), stencil_sizes(), strict=True))
    most_bytes = {
        "const_vector": 24,
        "i8x16.shuffle.ss.s": 120,
        "i8x16.narrow_i16x8_u.ss.s": 40,
        "i32x4.extract_lane.s.a": 20,  # a lane of slots is read as a number
    }
    for name, most in most_bytes.items():
        size = sizes[name]
        assert size is not None
        assert sum(size) <= most, name
