"""The program that is typed names everything that is public, and runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import wasmloom as wl
from tests import user_program
from tests.compiler.tiers import engine_of


def test_it_names_all_public_names() -> None:
    text = Path(user_program.__file__).read_text(encoding="utf-8")
    assert [name for name in wl.__all__ if f"wl.{name}" not in text] == []


@pytest.mark.parametrize("tier", ["interpreter", "baseline", "compiler", "auto"])
def test_it_runs(tier: str) -> None:
    user_program.main(engine_of(tier))
