"""The package as it is installed: what importing it costs and offers, and what it is made of."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

import wasmloom

ROOT = Path(__file__).resolve().parent.parent


def modules_after(statement: str) -> set[str]:
    """The names of all modules that are loaded after `statement` in a fresh interpreter."""
    script = f"import json, sys; {statement}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_import_loads_no_compiler() -> None:
    loaded = modules_after("import wasmloom")
    assert not {name.partition(".")[0] for name in loaded} & {"llvmlite", "Cython", "cython"}


def test_running_a_guest_loads_no_compiler() -> None:
    loaded = modules_after(
        "import wasmloom as wl;"
        "instance = wl.Instance(wl.Module('(module (func (export \"f\") (result i32) (i32.const 42)))'), {});"
        "assert instance.exports.f() == 42"
    )
    assert not {name.partition(".")[0] for name in loaded} & {"llvmlite", "Cython", "cython"}


def test_public_names_exist() -> None:
    assert len(set(wasmloom.__all__)) == len(wasmloom.__all__)
    for name in wasmloom.__all__:
        assert getattr(wasmloom, name) is not None
    for name in ("Engine", "Instance", "Module", "Store", "Trap", "WasmError", "CompileError", "ValidationError"):
        assert name in wasmloom.__all__


def test_version_is_that_of_the_distribution() -> None:
    try:
        version = importlib.metadata.version("wasmloom")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed: it runs from its source folder")
    assert wasmloom.__version__ == version


def test_typed() -> None:
    assert resources.files("wasmloom").joinpath("py.typed").is_file()


def test_sources_are_python() -> None:
    assert not list((ROOT / "src").rglob("*.pyx"))


def test_instruction_handlers_are_compiled_in() -> None:
    """The machine is an extension module; nothing is generated when the package runs."""
    from wasmloom.interpreter import machine

    assert not machine.__file__.endswith(".py")
