"""Compiling that is interrupted goes on where it was."""

from __future__ import annotations

from pathlib import Path

import pytest

import wasmloom as wl
from wasmloom.compiler import compiled
from wasmloom.compiler.cache import Cache
from wasmloom.compiler.elf import ObjectError
from wasmloom.compiler.images import Image

FUNCTION = '(func (export "f{0}") (param i32) (result i32) (i32.add (local.get 0) (i32.const {0})))'
MODULE = f"(module {' '.join(FUNCTION.format(number) for number in range(6))})"


class Interrupted(BaseException):
    pass


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """Each function is a unit of its own."""
    monkeypatch.setattr(compiled, "UNIT_BYTES", 1)
    monkeypatch.setattr(compiled, "WORTH_KEEPING", 1)
    return Cache(tmp_path / "cache")


def compile_until(cache: Cache, stop: int) -> list[tuple[int, int]]:
    """Compile, and interrupt it after so many calls; returns what was reported."""
    module = wl.Module(MODULE, wl.Engine(tier="interpreter"))
    calls: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        calls.append((done, total))
        if len(calls) > stop:
            raise Interrupted

    code = compiled.compile_module(module.decoded, module.engine.code_options(), cache, 1, progress)
    assert isinstance(code, Image)
    functions = compiled.CompiledModule(module.decoded, code, module.engine.code_options()).functions
    assert len(set(functions)) == 6
    return calls


@pytest.mark.parametrize("stop", [1, 4, 6])
def test_what_is_there_is_not_compiled_again(cache: Cache, stop: int) -> None:
    with pytest.raises(Interrupted):
        compile_until(cache, stop)
    parts = len(list(Path(cache.directory).glob("*.code")))
    assert parts == stop
    calls = compile_until(cache, 100)
    total = calls[0][1]
    # Each has the same cost.
    assert [done * 6 // total for done, _ in calls] == list(range(parts, 7))
    assert len(list(Path(cache.directory).glob("*.code"))) == 1  # the image; parts aren't needed any more
    assert compile_until(cache, 100) == []


def test_parts_of_other_options_are_others(cache: Cache) -> None:
    with pytest.raises(Interrupted):
        compile_until(cache, 3)
    module = wl.Module(MODULE, wl.Engine(tier="interpreter", fuel=True))
    calls: list[int] = []
    compiled.compile_module(
        module.decoded, module.engine.code_options(), cache, 1, lambda done, total: calls.append(done)
    )
    assert len(calls) == 7 and calls[0] == 0


def test_damaged_parts_are_compiled_again(cache: Cache) -> None:
    with pytest.raises(Interrupted):
        compile_until(cache, 3)
    for path in Path(cache.directory).glob("*.code"):
        path.write_bytes(path.read_bytes()[:-1])
    assert len(compile_until(cache, 100)) == 7


def test_costs_grow_with_bytes_and_less_for_heavy_functions() -> None:
    class Module:
        body_starts = (0, 100, 300, 300_300)
        body_ends = (100, 300, 300_300, 600_300)

    def cost(*functions: int) -> int:
        return compiled._cost(Module, list(functions))  # type: ignore[arg-type]

    assert cost(0) == 100 and cost(0, 1) == 300
    assert cost(1) < cost(2) < 300_000


def test_code_that_no_image_can_be_made_of_is_used_all_the_same(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*args: object) -> list[bytes]:
        raise ObjectError("code depends on its address")

    monkeypatch.setattr(compiled, "link", link)
    module = wl.Module(MODULE, wl.Engine(tier="interpreter"))
    code = compiled.compile_module(module.decoded, module.engine.code_options(), cache, 1)
    assert isinstance(code, list) and not list(Path(cache.directory).glob("*.code"))
