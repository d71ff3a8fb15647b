"""What can be compiled with: without LLVM nothing is, and whoever asks for it is told."""

from __future__ import annotations

from pathlib import Path

from tests.processes import run_program

#: Neither this process nor its workers find any package beside the standard library and this one.
WITHOUT_LLVM = """
import importlib.util, os, sys
spec = importlib.util.find_spec("wasmloom")
os.symlink(os.path.dirname(spec.origin), os.path.join(sys.argv[1], "wasmloom"))
sys.path = [path for path in sys.path if "-packages" not in path and not os.path.exists(os.path.join(path, "wasmloom"))]
sys.path.append(sys.argv[1])
assert importlib.util.find_spec("llvmlite") is None
import wasmloom as wl
TEXT = '''(module (import "e" "goes_on" (func $goes_on (result i32)))
  (func (export "one") (result i32) (i32.const 1))
  (func (export "spin") (local i32)
    (loop $l
      (local.set 0 (i32.add (local.get 0) (i32.const 1)))
      (br_if $l (i32.and (local.get 0) (i32.const 0xffff)))
      (br_if $l (call $goes_on)))))'''
"""


def test_without_llvm_whoever_asks_for_it_is_told(tmp_path: Path) -> None:
    program = """
for ask in (lambda: wl.Module(TEXT, wl.Engine(tier="compiler")), wl.Module(TEXT, wl.Engine(cache=False)).compile,
            wl.Module(TEXT, wl.Engine(tier="interpreter")).compile):
    try:
        ask()
    except wl.CompileError as error:
        assert "needs llvmlite, which isn't installed" in str(error), error
    else:
        raise AssertionError("compiled")
"""
    assert run_program(WITHOUT_LLVM + program, str(tmp_path)) == ""


def test_without_llvm_the_tier_auto_ends_at_stencils(tmp_path: Path) -> None:
    """In silence: nobody has asked for more."""
    program = """
import sys
from wasmloom.runtime.guests import tick_count
for settings in ({}, {"threshold": 3}):
    module = wl.Module(TEXT, wl.Engine(tier="auto", **settings))
    store = wl.Store(module.engine)
    enough = tick_count() + 20  # more than make a guest worth compiling
    imports = {"e": {"goes_on": lambda: not module.code_space.with_code() or tick_count() < enough}}
    exports = wl.Instance(module, imports, store=store).exports
    exports.spin()
    assert module.code_space.with_code()
    for _ in range(600):
        exports.one()
    assert store.tier_name == "interpreter" and store.change_failed is None and module.background is None
assert not [name for name in sys.modules if name == "llvmlite"]
"""
    assert run_program(WITHOUT_LLVM + program, str(tmp_path)) == ""
