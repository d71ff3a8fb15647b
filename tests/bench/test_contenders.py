"""The contenders of the benchmarks: which there are, and that those in other processes behave as those in this one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wasmloom_bench import contenders, harness, native, peers, remote, workloads
from wasmloom_bench.context import Context, Options
from wasmloom_bench.results import Run, SuiteResult

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


def make(name: str) -> harness.Engine:
    """The contender, or a skip."""
    try:
        if name == "v8":
            return remote.V8()
        if name == "isolated wasmtime":
            return remote.Isolated("Wasmtime", stack_switching=True)
        if name == "isolated wasmloom":
            return remote.Isolated("Wasmloom", tier="interpreter")
        if name == "Pulley":
            return contenders.Wasmtime(interpreted=True)
        return contenders.Wasmtime() if name == "wasmtime" else contenders.Wasmloom(tier="interpreter")
    except (ImportError, harness.Unsupported) as error:
        pytest.skip(f"{name}: {error}")


ALL = ("wasmloom", "wasmtime", "Pulley", "v8", "isolated wasmtime", "isolated wasmloom")


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


def context(**options: object) -> tuple[Context, Run]:
    run = Run()
    return Context(run, SuiteResult("interpreter", ""), Options(quick=True, **options), 1.0, lambda what: None), run  # type: ignore[arg-type]


def test_absent_packages_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wasm3", None)
    suite, run = context()
    assert suite.engines("wasm3") == []
    assert [(entry.contender, "not installed" in entry.reason) for entry in run.missing] == [("wasm3", True)]
    assert suite.engines("wasm3") == []
    assert len(run.missing) == 1


def test_only_those_that_are_asked_for() -> None:
    suite, run = context(contenders=["interpreter"])
    assert [engine.name for engine in suite.engines("interpreter", "compiler", "wasm3")] == ["interpreter"]
    assert list(run.versions) == ["interpreter"]
    assert run.missing == []


def test_every_peer_says_where_it_is_from() -> None:
    found = peers.packages()
    assert set(found) == {"pip", "npm", "cargo"}
    assert "wasmtime" in found["pip"]
    assert len(found["pip"]) == len(set(found["pip"]))
    assert peers.packages(["wasm3"]) == {"pip": ["pywasm3"]}
    with pytest.raises(ValueError, match="no contender 'v9'; there are interpreter"):
        peers.packages(["v9"])


def test_what_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the clients of the registries, nothing is installed, and each package is named."""
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []
    failed = peers.install(tmp_path / "peers", ["V8", "wasmi"], said.append)
    assert [line.split(":")[0] for line in failed] == ["node", "wasmi_cli"]
    assert said == ["npm install node", "cargo install wasmi_cli"]


def test_peers_are_looked_for_in_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WASMLOOM_NODE", raising=False)
    settings = peers.Settings(tmp_path)
    assert settings.node_command() is None
    own = tmp_path / "node_modules" / ".bin" / "node"
    own.parent.mkdir(parents=True)
    own.touch()
    assert settings.node_command() == str(own)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "wasmi").touch()
    assert settings.command("wasmi", "wasmi_cli") == str(tmp_path / "bin" / "wasmi")
    with pytest.raises(harness.Unsupported, match="--install-peers"):
        settings.command("no-such-command")


def test_packages_of_peers_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here and in the processes of drivers."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "")
    folder = tmp_path / "python"
    peers.Settings(tmp_path).add_packages()
    assert str(folder) not in sys.path
    folder.mkdir()
    (folder / "a_peer_of_tests.py").write_text("name = 'it'")
    peers.Settings(tmp_path).add_packages()
    peers.Settings(tmp_path).add_packages()
    assert sys.path.count(str(folder)) == 1
    done = subprocess.run(
        [sys.executable, "-c", "import a_peer_of_tests as it; print(it.name)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "it\n"


def test_native_code() -> None:
    """The same sources without WebAssembly give the same answers."""
    pytest.importorskip("ziglang")
    engine = native.Native()
    for workload in (*workloads.WASMI[:3], *workloads.pointers()[:2]):
        run, verify = workload.prepare(engine)
        run()
        verify()
    with pytest.raises(harness.Inapplicable):
        workloads.WASMI[3].prepare(engine)


def test_plain_python() -> None:
    for workload in workloads.WASMI[3:6]:
        run, _ = workload.prepare(native.Python())
        run()


def test_pywasm() -> None:
    pytest.importorskip("pywasm")
    guest = contenders.Pywasm().instantiate(harness.assemble(MODULE), {("env", "now"): ("", "i", lambda: 5)})
    assert tuple(guest.function("add")(-5, 1 << 40, 0.5)) == ((1 << 40) - 5, -0.5)
    assert guest.function("now")() == 5
    guest.write(100, b"abc")
    assert guest.read(101, 2) == b"bc"
    assert guest.function("get")(102) == ord("c")


def test_another_engine_gets_this_package(tmp_path: Path) -> None:
    """A driver for another build imports that build's engine, and the suites of this one."""
    (tmp_path / "wasmloom").mkdir()
    (tmp_path / "wasmloom" / "__init__.py").write_text("raise ImportError('the other one')")
    with pytest.raises(harness.Unsupported, match="the other one"):
        remote.Isolated("Wasmloom", "other", path=str(tmp_path), tier="interpreter")
    source = Path(contenders.__file__).parent.parent
    if (source / "wasmloom" / "host").exists():
        shutil.rmtree(tmp_path / "wasmloom")
        (tmp_path / "wasmloom").symlink_to(source / "wasmloom")
        engine = remote.Isolated("Wasmloom", "same", path=str(tmp_path), tier="interpreter")
        run, _ = workloads.WASMI[3].prepare(engine)
        assert harness.sample(run, 2) > 0
