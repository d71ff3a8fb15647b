"""Memory and table instructions at every edge, in all tiers and kinds of memory, do what plain Python does."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.conftest import needs_guard_pages
from tests.fuzz.choices import Choices
from tests.fuzz.edges import BULK, ENGINES, Round, differences
from tests.semantics.accesses import ATOMICS, PLAIN
from wasmloom.spec.instructions import INSTRUCTIONS

NAMES = [pytest.param(name, marks=[needs_guard_pages] if name.endswith("guarded") else []) for name in ENGINES]
SEEDS = 2


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("name", NAMES)
def test_edges(name: str, seed: int) -> None:
    counts: Counter[str] = Counter()
    functions, calls = (150, 1500) if name.startswith("interpreter") else (50, 1000)
    assert differences(name, f"{name}.{seed}", functions, calls, counts) is None
    # A good part of both kinds.
    assert min(counts["traps"], counts["results"]) > calls // 10


def test_every_instruction_is_there() -> None:
    """All that name a memory, a table or a segment of the features that are executed, except vectors."""
    there = {access.name for access in (*PLAIN, *ATOMICS)} | {case.name for case in BULK}
    wanted = {
        row.mnemonic
        for row in INSTRUCTIONS
        if any(kind.partition(":")[0] in ("mem", "atomic", "table", "data", "elem") for kind in row.immediates)
        and row.feature not in ("simd", "gc")
        and "call" not in row.mnemonic
    }
    assert there == wanted


def test_rounds_are_reproducible() -> None:
    assert Round(Choices("x"), 30).text() == Round(Choices("x"), 30).text()
