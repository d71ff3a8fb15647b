"""Programs that import ``wasmtime`` and can't be changed; components; the names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wasmloom.compat.wasmtime as ours
from tests.compat.conftest import package

PROGRAM = """
import sys
import wasmtime
import wasmtime.component
from wasmtime import Engine, Module, Store, Instance, WasmtimeError
store = Store()
instance = Instance(store, Module(store.engine, MODULE), [])
print(instance.exports(store)["f"](store), __name__, sys.argv[1:], wasmtime.__name__)
""".replace("MODULE", repr('(module (func (export "f") (result i32) (i32.const 42)))'))


def run(*arguments: str, **options: Any) -> str:
    ran = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, **options)
    return ran.stdout


def test_programs(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text("import beside\n" + PROGRAM)
    (tmp_path / "beside.py").write_text("")
    told = f"42 __main__ ['a', '--b'] {ours.__name__}\n"
    start = ("-m", "wasmloom.compat.wasmtime")
    assert run(*start, str(file), "a", "--b") == told
    assert run(*start, "-m", "program", "a", "--b", cwd=tmp_path) == told
    assert run(*start, "-c", PROGRAM, "a", "--b") == told
    assert run("-c", f"from wasmloom.compat.wasmtime import install; install(); install(){PROGRAM}", "a", "--b") == told


def test_command_lines_that_are_wrong() -> None:
    for arguments in ((), ("-x",), ("-m",)):
        ran = subprocess.run(
            [sys.executable, "-m", "wasmloom.compat.wasmtime", *arguments], capture_output=True, text=True
        )
        assert ran.returncode == 1 and "usage:" in ran.stderr


def test_too_late(tmp_path: Path) -> None:
    (tmp_path / "wasmtime.py").write_text("")
    program = "import wasmtime\nfrom wasmloom.compat.wasmtime import install\ninstall()"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 1 and "RuntimeError: wasmtime has been imported already" in ran.stderr


def test_nothing_of_the_package_is_loaded() -> None:
    program = f"from wasmloom.compat.wasmtime import install; install(){PROGRAM}"
    program += "print('libwasmtime' in open('/proc/self/maps').read(), 'wasmtime._ffi' in sys.modules)"
    assert run("-c", program).splitlines()[-1] == "False False"


def test_names() -> None:
    theirs = package()
    assert set(ours.__all__) >= set(theirs.__all__)
    for name in theirs.__all__:
        mine, real = getattr(ours, name), getattr(theirs, name)
        if isinstance(real, type):
            public = {attribute for attribute in dir(real) if not attribute.startswith("_")}
            missing = public - set(dir(mine)) - {"ptr"}  # a pointer into the engine that isn't there
            if issubclass(real, Exception):
                missing -= {"close"}
            assert not missing, f"{name}: {missing}"


def test_components() -> None:
    from wasmloom.compat.wasmtime import component

    assert isinstance(component.Linker, type) and not isinstance(3, component.Component)
    assert sorted(component.__all__) == dir(component)
    for use in (
        lambda: component.Linker(ours.Engine()),
        lambda: component.Component.from_file(ours.Engine(), "a"),
        lambda: ours.Store().set_wasi_http(),
    ):
        with pytest.raises(ours.WasmtimeError, match="yet"):
            use()
    with pytest.raises(AttributeError):
        _ = component.Nothing
    with pytest.raises(ImportError):
        from wasmloom.compat.wasmtime.component import Nothing  # type: ignore[attr-defined]  # noqa: F401


def test_names_of_components() -> None:
    import importlib

    package()
    from wasmloom.compat.wasmtime import component

    assert set(importlib.import_module("wasmtime.component").__all__) == set(component.__all__)
