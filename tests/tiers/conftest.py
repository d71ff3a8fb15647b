"""Fixtures for tests of the tiers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tiers import replacing
from wasmloom.baseline.copier import set_batch


@pytest.fixture
def mixing() -> Iterator[None]:
    """Engines mix, and stencils are made at once."""
    before = set_batch(0)
    replacing.force(True)
    yield
    replacing.force(False)
    set_batch(before)
