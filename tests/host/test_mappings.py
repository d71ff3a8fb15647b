"""Exports of instances, and imports and exports of modules, by their names."""

from __future__ import annotations

import pickle
from collections.abc import Mapping

import pytest

import wasmloom as wl

TEXT = """(module
  (import "env" "log" (func $log (param i32))) (import "env" "memory" (memory 1)) (import "env" "log" (func))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (global (export "answer") i32 (i32.const 42)))"""


def test_exports_of_an_instance_are_a_mapping() -> None:
    store = wl.Store()
    exports = wl.Instance(wl.Module(TEXT), {"env": {"log": print, "memory": wl.Memory(store, 1)}}, store=store).exports
    assert isinstance(exports, Mapping)
    assert list(exports) == list(exports.keys()) == ["add", "answer"] and len(exports.items()) == 2
    assert dict(exports) == {"add": exports.add, "answer": exports.answer}
    assert [value for value in exports.values() if isinstance(value, wl.Func)] == [exports.add]
    assert exports.get("add") is exports.add and exports.get("none") is None and exports.get("none", 3) == 3
    assert ("add", exports.add) in exports.items() and "none" not in exports
    match exports:
        case {"answer": answer}:
            assert answer.value == 42


def test_a_guest_may_export_what_is_called_like_a_method() -> None:
    names = ("get", "items", "keys", "values")
    functions = " ".join(f'(func (export "{name}") (result i32) (i32.const {i}))' for i, name in enumerate(names))
    exports = wl.Instance(wl.Module(f"(module {functions})")).exports
    assert [exports.get(), exports.items(), exports.keys(), exports.values()] == [0, 1, 2, 3]  # type: ignore[call-arg]
    assert [exports[name]() for name in names] == [0, 1, 2, 3] and list(exports) == list(names)


def test_imports_and_exports_of_a_module_have_names() -> None:
    module = wl.Module(TEXT)
    assert module.exports["add"].type.results == (wl.I32,)  # type: ignore[union-attr]
    assert "add" in module.exports and "sub" not in module.exports
    assert module.exports.get("sub") is None and module.exports.keys() == ["add", "answer"]
    assert dict(module.exports)["answer"] == module.exports[1] == module.exports[-1]
    assert module.exports == list(module.exports) and module.exports[:1] == [module.exports["add"]]
    assert module.imports["env", "memory"].kind == "memory"
    assert module.imports["env", "log"] is module.imports[0] or module.imports["env", "log"] == module.imports[0]
    assert ("env", "log") in module.imports and ("env", "sub") not in module.imports
    assert module.imports[2] in module.imports
    with pytest.raises(KeyError, match=r"no export 'sub'; there are 'add', 'answer'"):
        module.exports["sub"]
    with pytest.raises(KeyError, match=r"no import .*'env', 'x'.*; there are 'env.log', 'env.memory', 'env.log'"):
        module.imports["env", "x"]
    with pytest.raises(IndexError):
        module.exports[5]
    again = pickle.loads(pickle.dumps(module.exports))
    assert again == module.exports and again["add"] == module.exports["add"]
