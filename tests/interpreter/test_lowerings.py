"""Every executed instruction has one function that translates it, and one that lowers it: the import looks."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: What imports each tier's table, in a process of its own.
TIERS = {"interpreter": "wasmloom.interpreter.translator", "compiler": "wasmloom.compiler.units"}


def failure(module: str, before: str) -> str:
    """The last line of the error with which a module is imported after something has been done."""
    code = f"from wasmloom.semantics import definitions, features, registry\n{before}\nimport {module}"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    return ran.stderr.strip().rpartition("\n")[2]


@pytest.mark.parametrize("module", TIERS.values(), ids=TIERS)
def test_one_lowering_each(module: str) -> None:
    assert failure(module, "") == ""
    missing = failure(module, "del registry.OPERATIONS['nop']")
    assert missing == "LookupError: nothing lowers nop"
    refused = failure(module, "features.EXECUTED -= {'tail-call'}")
    assert refused == "LookupError: return_call isn't executed"
    twice = "nop = registry.OPERATIONS['nop']\n"
    twice += "registry.OPERATIONS['drop'] = nop._replace(instruction=registry.BY_MNEMONIC['drop'])"
    assert failure(module, twice) == "ValueError: drop is lowered twice"
