"""The contenders of the benchmarks: which there are, and that those in other processes behave as those in this one."""

from __future__ import annotations

import argparse
import sys

import pytest

import contenders
import harness
import remote

MODULE = """
(module
  (import "env" "now" (func $now (result i32)))
  (memory (export "memory") 1)
  (func (export "add") (param i32 i64 f64) (result i64 f64)
    (i64.add (i64.extend_i32_s (local.get 0)) (local.get 1)) (f64.neg (local.get 2)))
  (func (export "now") (result i32) (call $now))
  (func (export "get") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "trap") (unreachable)))
"""

PROGRAM = """
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (i32.const STATUS))))
"""


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    contenders.add_options(parser, contenders=contenders.NAMES, switching=("native",))
    return parser.parse_args(arguments)


def make(name: str) -> harness.Engine:
    """The contender, or a skip."""
    try:
        if name == "v8":
            return remote.V8()
        if name == "isolated wasmtime":
            return remote.Isolated("Wasmtime", stack_switching=True)
        if name == "isolated wasmloom":
            return remote.Isolated("Wasmloom", tier="interpreter")
        if name == "pulley":
            return contenders.Wasmtime(interpreted=True)
        return contenders.Wasmtime() if name == "wasmtime" else contenders.Wasmloom(tier="interpreter")
    except (ImportError, harness.Unsupported) as error:
        pytest.skip(f"{name}: {error}")


ALL = ("wasmloom", "wasmtime", "pulley", "v8", "isolated wasmtime", "isolated wasmloom")


@pytest.mark.parametrize("name", ALL)
def test_guests(name: str) -> None:
    engine = make(name)
    guest = engine.instantiate(harness.assemble(MODULE), {("env", "now"): ("", "i", harness.Clock(1000))})
    add = guest.function("add")
    assert tuple(add(-5, 1 << 62, 0.5)) == ((1 << 62) - 5, -0.5)
    run = harness.prepared(add, 1, 2, float("inf"))
    assert tuple(run()) == (3, float("-inf"))
    assert harness.sample(run, 10) > 0
    now = guest.function("now")
    assert 0 <= now() <= now()
    guest.write(100, bytes(range(256)))
    assert guest.function("get")(107) == 7
    assert guest.read(101, 3) == b"\1\2\3"
    with pytest.raises(engine.trap):
        guest.function("trap")()


@pytest.mark.parametrize("name", ALL)
def test_programs(name: str) -> None:
    engine = make(name)
    run = engine.program(harness.assemble(PROGRAM.replace("STATUS", "0")))
    assert run.timed(2) > 0
    run()
    with pytest.raises(harness.WrongAnswer, match="status"):
        engine.program(harness.assemble(PROGRAM.replace("STATUS", "3")))()


@pytest.mark.parametrize("name", ["v8", "isolated wasmtime"])
def test_what_cannot_run_elsewhere_is_unsupported(name: str) -> None:
    engine = make(name)
    wasm = harness.assemble(MODULE)
    with pytest.raises(harness.Unsupported):
        engine.instantiate(wasm, {("env", "now"): ("", "i", lambda: 1)})
    with pytest.raises(harness.Unsupported):
        engine.compile(b"\0asm")


def test_a_process_that_ends_says_why() -> None:
    with pytest.raises(harness.Unsupported, match=r"status 1.*no such thing"):
        remote.Remote("broken", [sys.executable, "-c", "raise SystemExit('no such thing')"])
    with pytest.raises(harness.Unsupported, match="SIGABRT"):
        remote.Remote("aborts", [sys.executable, "-c", "import os; os.abort()"])


def test_a_process_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PATIENCE", 0.2)
    process = remote.Process([sys.executable, "-c", "import time; time.sleep(60)"])
    with pytest.raises(harness.Unsupported, match="longer"):
        process.ask("hello")
    with pytest.raises(harness.Unsupported, match="ended"):
        process.ask("hello")


def test_node_that_is_missing() -> None:
    with pytest.raises(harness.Unsupported, match="no-such-node"):
        remote.V8("no-such-node")


def test_absent_packages_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wasm3", None)
    missing: list[harness.Missing] = []
    assert contenders.chosen(options("--contenders", "wasm3"), missing) == []
    assert missing[0].contender == "wasm3"


def test_unknown_names_are_refused() -> None:
    for arguments in (["--contenders", "v9"], ["--tier", "fast"], ["--tier", "compiler", "--stack-switching", "slow"]):
        with pytest.raises(SystemExit):
            contenders.chosen(options(*arguments), [])


def test_tiers_and_ways_of_switching() -> None:
    missing: list[harness.Missing] = []
    args = options("--tier", "interpreter,compiler", "--stack-switching", "native,libcall")
    found = contenders.tiers(args, missing)
    names = {engine.name for engine in found} | {entry.contender for entry in missing}
    assert names == {"wasmloom interpreter", "wasmloom compiler native", "wasmloom compiler libcall"}
    assert found[0].name == "wasmloom interpreter"


def test_what_is_compared() -> None:
    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

    names = ("wasmloom interpreter", "wasmloom auto", "wasm3", "wasmtime", "v8")
    pairs = contenders.compared([Named(name) for name in names])  # type: ignore[misc]
    assert set(map(contenders.over, pairs)) == {"interpreter / wasm3", "auto / wasmtime", "auto / v8", "v8 / wasmtime"}


def test_compiling_is_not_cached() -> None:
    engine = make("wasmloom")
    wasm = harness.assemble('(module (memory (export "memory") 1))')
    seconds, size = contenders.compile_cold(engine, wasm)
    assert seconds > 0
    assert size is None or size > 0
