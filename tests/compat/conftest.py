"""The same tests for the look-alike and for the package itself, where that is installed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from tests.conftest import use_tier

OURS = "wasmloom.compat.wasmtime"
PACKAGE = "wasmtime"


def package() -> Any:
    """The package itself; skips the test where it is missing."""
    return pytest.importorskip(PACKAGE, reason="the package wasmtime isn't installed: nothing to compare with")


@pytest.fixture(params=["look-alike", "package"])
def w(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The API."""
    if request.param == "package":
        return package()
    use_tier("interpreter", monkeypatch)
    return import_module(OURS)


@pytest.fixture(params=["interpreter", "baseline", "compiler", "package"])
def tiered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The API, the look-alike in several tiers; for what guests do."""
    if request.param == "package":
        return package()
    use_tier(request.param, monkeypatch)
    return import_module(OURS)


class World:
    """An instance of a module in a store."""

    def __init__(self, w: Any, text: str, imports: list[Any] | None = None, engine: Any = None) -> None:
        self.w = w
        self.engine = w.Engine() if engine is None else engine
        self.store = w.Store(self.engine)
        self.module = w.Module(self.engine, text)
        self.instance = w.Instance(self.store, self.module, [make(self.store) for make in imports or []])
        self.exports = self.instance.exports(self.store)

    def __getitem__(self, name: str) -> Any:
        return self.exports[name]

    def call(self, name: str, *arguments: Any) -> Any:
        return self.exports[name](self.store, *arguments)


def config_of(w: Any, **settings: Any) -> Any:
    """A `Config` with settings."""
    made = w.Config()
    for name, value in settings.items():
        setattr(made, name, value)
    return made
