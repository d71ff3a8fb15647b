"""Every stencil does what its handler does, whatever is in its holes."""

from __future__ import annotations

import random
from functools import cache

import pytest

from tests.conftest import needs_guard_pages
from tests.interpreter.test_instructions import check, handler_set, in_group, shaped
from wasmloom.baseline.copier import stencil_sizes
from wasmloom.baseline.generator import KEPT, candidates

pytestmark = pytest.mark.usefixtures("code_at_once")

GROUPS = 4
#: What immediates are. LLVM takes a symbol's address for something that isn't zero and has no sign, unless told: each
#: of these would show that it hasn't been. All fit 32 bits with a sign, so that an i64 fits its field.
EDGES = (0, 1, -1, -(1 << 31), (1 << 31) - 1)


@cache
def unfused() -> list[str]:
    return [handler.name for _, handler in candidates(handler_set()) if handler.name in handler_set().numbers]


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


@needs_guard_pages
def test_parts_of_fused_instructions() -> None:
    """The copier puts the stencils of both parts together."""
    rng = random.Random(1)
    instance, cases = shaped(in_group(0), rng, offset=3, tier="baseline")
    assert any("+" in case.name for case in cases)
    check(instance, cases, rng)
