"""Modules that are known to be valid aren't validated again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import wasmloom as wl
from wasmloom.host import known
from wasmloom.semantics import features
from wasmloom.text.parser import parse_module

ADD = '(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))'


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All modules are large, the cache is empty, and engines compile nothing unless asked to."""
    engine = wl.Engine(tier="interpreter")
    monkeypatch.setattr("wasmloom.host.engine.default_engine", lambda: engine)
    monkeypatch.setenv("WASMLOOM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(known, "LARGE", 0)
    return tmp_path / "cache"


@pytest.fixture
def validated(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """For each module that was looked at, whether its bodies were checked."""
    found: list[bool] = []
    real = known.validate_module

    def validate(module: object, *, bodies: bool = True) -> object:
        found.append(bodies)
        return real(module, bodies=bodies)  # type: ignore[arg-type]

    monkeypatch.setattr(known, "validate_module", validate)
    yield found


@pytest.mark.parametrize("tier", ["interpreter", "baseline", "auto"])
def test_bodies_are_checked_once(tier: str, validated: list[bool], directory: Path) -> None:
    for _ in range(3):
        assert wl.Instance(wl.Module(ADD, wl.Engine(tier=tier))).exports.add(1, 2) == 3
    assert validated == [True, False, False]
    wl.Module(ADD.replace("i32.add", "i32.sub"), wl.Engine(tier=tier))
    assert validated[3:] == [True]


@pytest.mark.parametrize("tier", ["interpreter", "baseline", "auto"])
def test_frames_have_room_for_old_exceptions(tier: str, validated: list[bool]) -> None:
    """Whether functions have a `try` is found out by validation."""
    source = """
      (tag $e (param i32))
      (func $fail (param i32) (throw $e (local.get 0)))
      (func (export "run") (param i32) (result i32)
        (i32.add (i32.const 1000)
          (try (result i32) (do (call $fail (local.get 0)) (i32.const 0)) (catch $e (i32.add (local.get 0))))))
    """
    for _ in range(2):
        assert wl.Instance(wl.Module(source, wl.Engine(tier=tier))).exports.run(7) == 1014
    assert validated == [True, False]


def test_invalid_modules_are_never_known(validated: list[bool], directory: Path) -> None:
    for _ in range(2):
        with pytest.raises(wl.ValidationError, match="type mismatch"):
            wl.Module("(module (func (result i32)))")
    assert validated == [True, True] and not list(directory.iterdir())


def test_what_a_module_uses_is_known_too(validated: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "EXECUTED", features.EXECUTED - {"gc"})
    errors = []
    for _ in range(2):
        with pytest.raises(wl.UnsupportedError) as caught:
            wl.Module(parse_module("(module (func (drop (ref.i31 (i32.const 0)))))").binary)
        errors.append((str(caught.value), caught.value.offset))
    assert validated == [True, False] and errors[0] == errors[1]


def test_without_the_cache(validated: list[bool], directory: Path) -> None:
    for _ in range(2):
        wl.Module(ADD, wl.Engine(cache=False))
    assert validated == [True, True] and not directory.exists()
    wl.Module(ADD)
    wl.Module.validate(ADD)
    assert validated == [True] * 4


def test_small_modules_arent_looked_up(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setattr(known, "LARGE", 1 << 22)
    wl.Module(ADD)
    assert not directory.exists()


def test_damaged_entries_and_those_of_other_versions(
    validated: list[bool], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wl.Module(ADD)
    (entry,) = directory.iterdir()
    content = bytearray(entry.read_bytes())
    content[-1] ^= 1
    entry.write_bytes(content)
    wl.Module(ADD)
    assert validated == [True, True]
    monkeypatch.setattr("wasmloom.compiler.cache.engine_identity", lambda: "another")
    wl.Module(ADD)
    assert validated == [True, True, True]


def test_a_cache_that_can_be_written_by_others(validated: list[bool], directory: Path) -> None:
    wl.Module(ADD)
    os.chmod(directory, 0o777)
    wl.Module(ADD)
    assert validated == [True, True]


def test_modules_with_an_engine_whose_files_have_changed(
    validated: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed() -> str:
        raise wl.CompileError("wasmloom's files have changed")

    monkeypatch.setattr("wasmloom.compiler.cache.engine_identity", changed)
    wl.Module(ADD)
    assert validated == [True]
