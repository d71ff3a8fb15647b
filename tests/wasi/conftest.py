from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wasi.guest import Guest
from wasmloom.wasi import Wasi


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A directory with a secret outside of `inside`, which is what the guest gets."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "deep").write_text("secret")
    inside = tmp_path / "inside"
    (inside / "a" / "b").mkdir(parents=True)
    (inside / "file").write_text("hello")
    (inside / "a" / "b" / "leaf").write_text("leaf")
    return inside


@pytest.fixture
def wasi(world: Path) -> Iterator[Wasi]:
    with Wasi(stdin=b"", stdout=None, stderr=None, preopens={"/": world}) as wasi:
        yield wasi


@pytest.fixture
def guest(wasi: Wasi) -> Guest:
    return Guest(wasi)
