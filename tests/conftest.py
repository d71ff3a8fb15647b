"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from wasmloom import Engine
from wasmloom.baseline.copier import set_batch

# What shells run in the background ignores Ctrl-C, and so would the processes that tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A timer's signal may come when its test is over already: it must find a handler, since the system's ends the process.
signal.signal(signal.SIGALRM, lambda number, frame: None)

# Hundreds of processes that tests start import the package: the first one keeps what it makes of the sources.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Machines are slow at times: no test may depend on how long an example takes. `WASMLOOM_EXAMPLES` says how many there
# are, where a test doesn't say so itself.
settings.register_profile(
    "wasmloom",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=int(os.environ.get("WASMLOOM_EXAMPLES", "50")),
)
settings.load_profile("wasmloom")


def pytest_xdist_auto_num_workers() -> int:
    """Processes for ``-n auto``: one more than processors, since tests wait for a third of their time."""
    return (os.cpu_count() or 1) + 1


#: For tests of what only memories with guard pages have.
needs_guard_pages = pytest.mark.skipif(Engine().checked, reason="the process's address space is limited")
#: Both kinds of memory, for tests of what must not differ.
MEMORY_KINDS = (pytest.param("guarded", marks=needs_guard_pages), "checked")


@pytest.fixture
def code_at_once() -> Iterator[None]:
    """In the baseline tier functions run in code from their first call on."""
    before = set_batch(0)
    yield
    set_batch(before)


def pytest_collection_finish() -> None:
    """What all tests are made of stays to the end: the collector needn't look through it each time."""
    gc.collect()
    gc.freeze()


PROJECT = Path(__file__).resolve().parent.parent


def find_spec_dir() -> Path | None:
    """The folder with the official test scripts: the environment variable WASMLOOM_SPEC, or ``../shared/spec``."""
    folder = Path(os.environ.get("WASMLOOM_SPEC", PROJECT.parent / "shared" / "spec"))
    return folder if folder.is_dir() else None


def spec_scripts() -> list[Path]:
    """All official scripts, in order; none when there is no folder."""
    folder = find_spec_dir()
    return sorted(folder.rglob("*.wast")) if folder is not None else []


@pytest.fixture(scope="session")
def spec_dir() -> Path:
    """The folder with the official test scripts; skips the test when there is none."""
    folder = find_spec_dir()
    if folder is None:
        pytest.skip("no official test scripts: set WASMLOOM_SPEC to the folder that has them")
    return folder


@lru_cache
def _engine(tier: str) -> Engine:
    return Engine(tier=tier)


def use_tier(tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it that of engines that don't name one, also in processes that the test starts."""
    monkeypatch.setenv("WASMLOOM_TIER", tier)
    monkeypatch.setattr("wasmloom.host.engine._default", _engine(tier))


#: The tiers of the fixture below: two, or that which the environment names.
TIERS = [os.environ["WASMLOOM_TIER"]] if "WASMLOOM_TIER" in os.environ else ["interpreter", "compiler"]
if TIERS == ["baseline"]:
    set_batch(0)  # all runs in code


@pytest.fixture(params=TIERS)
def tier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test runs with each of these tiers as that of engines that don't name one."""
    chosen: str = request.param
    use_tier(chosen, monkeypatch)
    return chosen
