"""Functions that are too large for the compiler stay bytecode; the rest of their module is compiled."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import outcome_of
from wasmloom.cli.app import run_app
from wasmloom.compiler import compiled, lowering
from wasmloom.system import log
from wasmloom.tiers.frames import frames_inside

#: `large` and `small` call each other, the host and themselves by a table; `large` is too large.
TEXT = f"""(module $guest
  (import "m" "host" (func $host (param i32) (result i32)))
  (tag $t (param i32)) (table funcref (elem $small $large)) (type $f (func (param i32) (result i32)))
  (func $tiny (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
  (func $small (export "small") (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (return (call $host (i32.const 5)))))
    (i32.add (call $large (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))
  (func $large (export "large") (param i32) (result i32)
    {"(drop (call $tiny (local.get 0)))" * 400}
    (block (block (block (br_table 0 1 2 (local.get 0)))
      (return (i32.div_s (i32.const 1) (i32.const 0))))
      (throw $t (i32.const 3)))
    (call_indirect (type $f) (i32.sub (local.get 0) (i32.const 2)) (i32.const 0)))
  (func (export "catch") (param i32) (result i32)
    (block (result i32) (try_table (result i32) (catch $t 0) (call $small (local.get 0)))))
  (func $last (export "last") (result i32) (call $host (call $tiny (i32.const 6)))))"""


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Compile in this process, and refuse what has more lines than `large`."""
    monkeypatch.setenv("WASMLOOM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(lowering, "MOST_LINES", 300)
    real = compiled.compile_parts

    def here(parts: Any, function: Any, _: Any, progress: Any, isolated: bool, *rest: Any, **more: Any) -> list[bytes]:
        return real(parts, function, 1, progress, False, *rest, **more)

    monkeypatch.setattr(compiled, "compile_parts", here)
    yield


def made(cache: bool = False, **settings: Any) -> wl.Module:
    with pytest.warns(RuntimeWarning, match=r"compiled in part: too large .*: function 3 \(large\)"):
        return wl.Module(TEXT, wl.Engine(tier="compiler", cache=cache, **settings))


def exports_of(module: wl.Module, host: Any = lambda number: number, store: wl.Store | None = None) -> Any:
    return wl.Instance(module, {"m": {"host": host}}, store=store or wl.Store(module.engine)).exports


def outcomes(exports: Any) -> list[Any]:
    return [outcome_of(exports[name], n) for name in ("small", "large", "catch") for n in range(6)] + [exports.last()]


def test_results_traps_exceptions_and_frames_are_as_ever() -> None:
    expected = outcomes(exports_of(wl.Module(TEXT, wl.Engine(tier="interpreter"))))
    module = made()
    exports = exports_of(module)
    assert outcomes(exports) == expected
    assert exports.small.store.tier_name == "compiler"
    assert module.compile() is module.mixed and module.compiled is None


def test_only_the_large_function_is_bytecode() -> None:
    kinds: list[Any] = []

    def host(number: int) -> int:
        kinds.append([type(frame.code).__name__ for frame in frames_inside(exports.small.store)][1:])
        return number

    exports = exports_of(made(), host)
    assert exports.small(3) == 6 and exports.last() == 7
    assert kinds == [["CompiledModule", "CodeSpace", "CompiledModule"], ["CompiledModule"]]


@pytest.mark.parametrize("settings", [{"fuel": True}, {"memory": "checked"}, {"stack_switching": "libcall"}])
def test_in_engines_of_all_sorts(settings: dict[str, Any]) -> None:
    module = made(**settings)
    exports = exports_of(module, store=wl.Store(module.engine, **({"fuel": 10_000} if "fuel" in settings else {})))
    assert exports.small(3) == 6
    assert "fuel" not in settings or exports.small.store.fuel < 10_000


def test_calls_that_wait() -> None:
    async def host(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    exports = exports_of(made(), host)
    assert asyncio.run(exports.small.call_async(3)) == 11


def test_units_in_which_other_functions_are() -> None:
    """Each of the others is compiled alone then; so is what there is once in a module."""
    module = made()
    assert module.mixed is not None
    assert [module.mixed.has(index) for index in range(5)] == [True, True, False, True, True]
    assert set(module.mixed.array_calls) == set(range(module.decoded.num_types))


def test_the_cache_keeps_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = outcomes(exports_of(made(cache=True)))

    def refuse(*arguments: object, **settings: object) -> list[bytes]:
        raise AssertionError("all of it is in the cache")

    monkeypatch.setattr(compiled, "compile_parts", refuse)
    assert outcomes(exports_of(made(cache=True))) == expected


def test_other_modules_of_the_store_are_compiled() -> None:
    """Those that come later; a module that is compiled in part doesn't come after others."""
    module = made()
    store = wl.Store(module.engine)
    exports = exports_of(module, store=store)
    text = '(module (func $f (export "f") (result i32) (call $g)) (func $g (result i32) (i32.const 4)))'
    other = wl.Module(text, module.engine)
    kinds = [type(other.compiled).__name__]
    assert wl.Instance(other, store=store).exports.f() == 4 and exports.small(3) == 6
    kinds.append(type(other.mixed).__name__)
    assert kinds == ["CompiledModule", "CompiledModule"]
    store = wl.Store(module.engine)
    assert wl.Instance(other, store=store).exports.f() == 4
    with pytest.raises(wl.UnsupportedError, match="too large to be compiled"):
        exports_of(module, store=store)
    assert wl.Instance(other, store=store).exports.f() == 4


def test_where_continuations_are_nothing_mixes() -> None:
    with pytest.raises(wl.UnsupportedError, match=r"too large to be compiled"):
        wl.Module(TEXT.replace("(tag $t", "(type $g (func)) (type $k (cont $g)) (tag $t"), wl.Engine(tier="compiler"))


def test_it_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a warning, the log, and commands."""
    told: list[str] = []
    monkeypatch.setattr(log, "TIERS", True)
    monkeypatch.setattr(log, "tell", told.append)
    made()
    assert len(told) == 1 and "function 3 (large)" in told[0]
    path = tmp_path / "guest.wat"
    path.write_text(TEXT)
    for expected in ("compiled", "in the cache already"):
        assert run_app(["compile", str(path)]) == 0
        output = capsys.readouterr().out
        assert f"guest.wat: {expected}" in output and "function 3 (large)" in output
    assert run_app(["inspect", "--assembly", "--llvm", str(path)]) == 0
    assert capsys.readouterr().out.count("not compiled: function is too large") == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="compiled in part"):
            wl.Module(TEXT, wl.Engine(tier="compiler", cache=False))
