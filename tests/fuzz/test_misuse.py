"""Misuse of the API ends in results and documented errors (the tool, `misuse`, runs for any time)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fuzz import misuse
from wasmloom.host.engine import TIERS

CASES = """
import sys
from tests.fuzz.misuse import run_case
for number in range(int(sys.argv[2])):
    run_case(20, number, sys.argv[1])
"""


def test_the_surface_is_all_that_is_public() -> None:
    found = misuse.surface()
    names = {what.name for what in (*found.constructors, *found.functions)}
    assert {"Store", "Func", "Memory", "Continuation", "Wasi", "resume_iter"} <= names
    assert {what.name for what in found.methods["Memory"]} == {"grow", "read", "write"}
    assert len(names) >= 30


@pytest.mark.parametrize("tier", TIERS)
def test_bounded(tier: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CASES, tier, "4" if tier == "interpreter" else "2"],
        capture_output=True, text=True, timeout=120, cwd=misuse.ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
