"""The instruction table in the documentation is the one that the definitions give."""

from __future__ import annotations

from pathlib import Path

from wasmloom.interpreter.instruction_page import table


def test_documentation_is_current() -> None:
    committed = Path(__file__).parents[2] / "docs" / "instructions.md"
    assert committed.read_text(encoding="utf-8") == table(), "run python -m wasmloom.interpreter.instruction_page"
