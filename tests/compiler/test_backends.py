"""The LLVMs that can compile: which one is chosen, what they refuse, and that their code does the same."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

import wasmloom as wl
from tests.compiler.tiers import engine_of, exports_of, outcome_of
from tests.processes import run_program
from wasmloom.compiler import backends, builder, units
from wasmloom.compiler.backends import Backend
from wasmloom.compiler.cache import cache_key
from wasmloom.errors import CompileError

EMPTY = "define void @f() {\n ret void\n}\n"
RELEASE = "karellen_llvm_core-23.1.0.dist-info"


@cache
def llvmlite() -> Backend:
    from wasmloom.compiler.llvmlite_backend import Llvmlite

    return Llvmlite()


def release() -> Backend:
    if backends.fast_library() is None:
        pytest.skip("karellen-llvm-core isn't installed")
    return backends.chosen()


BACKENDS: dict[str, Callable[[], Backend]] = {"llvmlite": llvmlite, "release": release}


@pytest.fixture(params=BACKENDS)
def each(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """Each LLVM in turn; this process, in which small functions are compiled, has chosen it."""
    found = BACKENDS[request.param]()
    monkeypatch.setattr(backends, "_load", lambda: found)
    builder._features.cache_clear()
    yield found
    builder._features.cache_clear()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages, the first that is searched; others have no release build."""
    found = [path for path in sys.path if not list(Path(path).glob("karellen_llvm_core-*"))]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *found])
    backends.fast_library.cache_clear()
    yield tmp_path
    backends.fast_library.cache_clear()


def install(folder: Path, library: str, content: bytes = b"no library") -> Path:
    """Install a library as wheels do."""
    (folder / RELEASE).mkdir(exist_ok=True)
    record = f"{RELEASE}/METADATA,sha256=x,1\n../{library},sha256=x,9\n../libLTO.so,,\n"
    (folder / RELEASE / "RECORD").write_text(record)
    (folder.parent / library).write_bytes(content)
    backends.fast_library.cache_clear()
    return folder.parent / library


@pytest.mark.parametrize("library", ["libLLVM.so.23.1", "libLLVM.so.23"])
def test_the_release_build_is_found_where_it_is_installed(installed: Path, library: str) -> None:
    assert backends.fast_library() is None
    without = cache_key("module", {})
    path = install(installed, library)
    assert backends.fast_library() == str(path.resolve())
    assert library in backends.llvm_identity()
    assert cache_key("module", {}) != without


@pytest.mark.parametrize("library", ["libLLVM.so.24.1", "libLLVM.so", "libLLVM-23.so", "libLLVMx.so.23"])
def test_another_version_is_left_alone(installed: Path, library: str) -> None:
    install(installed, library)
    assert backends.fast_library() is None


def test_a_release_build_that_has_gone(installed: Path) -> None:
    install(installed, "libLLVM.so.23.1").unlink()
    backends.fast_library.cache_clear()
    assert backends.fast_library() is None


def test_what_cannot_be_loaded_is_not_used(installed: Path) -> None:
    """A file that is no library, and a library that isn't LLVM's."""
    library = install(installed, "libLLVM.so.23.1")
    assert type(backends._load.__wrapped__()).__name__ == "Llvmlite"
    from wasmloom.system import owned

    library.write_bytes(Path(owned.__file__).read_bytes())
    assert type(backends._load.__wrapped__()).__name__ == "Llvmlite"


@pytest.mark.parametrize("passes", [units.PASSES, units.PASSES[:1], None], ids=["quick", "heavy", "full"])
def test_objects_and_assembly(each: Backend, passes: tuple[str, ...] | None) -> None:
    assert each.compile(EMPTY, passes, 2).startswith(b"\x7fELF")
    assert b"retq" in each.compile(EMPTY, passes, 0, assembly=True)
    assert each.features()["sse2"] is True


@pytest.mark.parametrize("text", ["define void @f() {\n ret i32 %x\n}\n", "nonsense"])
def test_what_llvm_refuses(each: Backend, text: str) -> None:
    """It is an error, not the end of the process; and the next unit is compiled."""
    with pytest.raises(CompileError, match="LLVM refuses"):
        each.compile(text, units.PASSES, 2)
    assert each.compile(EMPTY, units.PASSES, 2)


def test_what_the_assembler_refuses() -> None:
    """In llvmlite that is the end of the process."""
    text = 'define void @f() {\n call void asm sideeffect "no such instruction", ""()\n ret void\n}\n'
    with pytest.raises(CompileError, match=r"LLVM refuses.*<inline asm>"):
        release().compile(text, units.PASSES, 2)
    assert release().compile(EMPTY, units.PASSES, 2)


def test_threads(each: Backend) -> None:
    texts = [f"define i64 @f(i64 %x) {{\n %y = mul i64 %x, {k}\n ret i64 %y\n}}\n" for k in range(40)]
    expected = [each.compile(text, units.PASSES, 2) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda text: each.compile(text, units.PASSES, 2), texts)) == expected


def test_a_forked_child_compiles(each: Backend) -> None:
    expected = each.compile(EMPTY, None, 2)
    child = os.fork()
    if child == 0:
        os._exit(0 if each.compile(EMPTY, None, 2) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0


GUEST = """(module (memory 1) (table funcref (elem $add $divide)) (type $t (func (param i64 f64) (result i64 f64)))
  (type $f (func (param i64) (result i64))) (type $k (cont $f))
  (tag $e (param i64)) (tag $y (param i64) (result i64)) (elem declare func $generate)
  (func $add (type $t) (i64.add (local.get 0) (i64.const 7)) (f64.mul (local.get 1) (f64.const -1.5)))
  (func $divide (type $t) (i64.div_s (i64.const 100) (local.get 0)) (f64.sqrt (local.get 1)))
  (func (export "indirect") (param i32 i64 f64) (result i64 f64)
    (call_indirect (type $t) (local.get 1) (local.get 2) (local.get 0)))
  (func (export "sum") (param i32 i32) (result i32) (local i32)
    (loop $l
      (local.set 2 (i32.add (local.get 2) (i32.load offset=4 (local.get 0))))
      (i32.store (local.get 0) (local.get 2))
      (local.set 0 (i32.add (local.get 0) (i32.const 4)))
      (br_if $l (local.tee 1 (i32.sub (local.get 1) (i32.const 1)))))
    (local.get 2))
  (func $down (param i64 i64) (result i64)
    (if (result i64) (i64.eqz (local.get 0)) (then (local.get 1))
      (else (return_call $down (i64.sub (local.get 0) (i64.const 1)) (i64.add (local.get 1) (local.get 0))))))
  (export "down" (func $down))
  (func (export "deep") (param i64) (result i64)
    (i64.add (i64.const 1) (call_indirect (param i64) (result i64) (local.get 0) (i32.const 9))))
  (func (export "throw") (param i64) (result i64)
    (block $h (result i64) (try_table (catch $e $h) (throw $e (i64.mul (local.get 0) (i64.const 3)))) (i64.const 0)))
  (func $generate (param i64) (result i64)
    (loop $l (local.set 0 (suspend $y (local.get 0))) (br_if $l (i64.lt_s (local.get 0) (i64.const 1000))))
    (local.get 0))
  (func (export "switch") (param i64) (result i64) (local $k (ref null $k))
    (local.set $k (cont.new $k (ref.func $generate)))
    (loop $l (result i64)
      (block $h (result i64 (ref $k))
        (return (resume $k (on $y $h) (local.get 0) (local.get $k))))
      (local.set $k) (local.set 0 (i64.add (i64.const 1))) (br $l))))"""
CALLS: tuple[tuple[object, ...], ...] = (
    ("indirect", 0, 35, 2.0),
    ("indirect", 1, 7, 2.25),
    ("indirect", 1, 0, 1.0),
    ("indirect", 2, 0, 1.0),
    ("sum", 0, 1000),
    ("sum", 65000, 1000),
    ("sum", -4, 1),
    ("down", 1_000_000, 5),
    ("deep", 3),
    ("throw", 14),
    ("switch", 1),
)


def outcomes(engine: wl.Engine) -> list[tuple[object, ...]]:
    exports = exports_of(GUEST, engine)
    return [outcome_of(getattr(exports, str(name)), *arguments) for name, *arguments in CALLS]


@pytest.mark.parametrize("tier", ["compiler", "libcall", "checked"])
def test_code_does_the_same(each: Backend, tier: str) -> None:
    """Results, traps and their places: loads and stores that fault, calls, tail calls, exceptions, stacks."""
    assert outcomes(engine_of(tier)) == outcomes(engine_of("interpreter"))


def test_workers_choose_it() -> None:
    """A module that is too large for this process; llvmlite isn't loaded."""
    release()
    program = """
import sys, wasmloom as wl
from wasmloom.compiler import backends, compiled, workers
workers.IDLE = 60.0  # seconds for which they stay
body = "(i64.const 0x123456789abcdef)" + "(i64.add (i64.const 0x123456789abcdef))" * 50
functions = "".join(f'(func (export "f{n}") (result i64) {body} (i64.add (i64.const {n})))' for n in range(20))
module = wl.Module(f"(module {functions})", wl.Engine(tier="compiler", cache=False))
assert workers.worker_processes()
assert wl.Instance(module).exports.f7() - wl.Instance(module).exports.f0() == 7
assert backends.fast_library() and "llvmlite" not in sys.modules
"""
    assert run_program(program) == ""
