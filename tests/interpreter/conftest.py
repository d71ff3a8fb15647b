"""What is tested here is the interpreter: nothing changes over to compiled code that is made in the background."""

from __future__ import annotations

import pytest

from tests.conftest import use_tier


@pytest.fixture(autouse=True)
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tier("interpreter", monkeypatch)
