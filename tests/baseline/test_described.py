"""What profilers and debuggers are told about copied code."""

from __future__ import annotations

import gc
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import wasmloom as wl
from tests.compiler.building import registered
from tests.patience import attempts
from wasmloom.baseline.plans import planned
from wasmloom.compiler import perf
from wasmloom.compiler.bodies import read_body

#: `main` calls `middle`, which calls `spin`, where a loop has pins; behind it the host is called.
SOURCE = """
(module
  (import "env" "stop" (func $stop))
  (memory 1)
  (func $spin (param i32) (local $sum i64)
    (loop $again
      (local.set $sum (i64.add (local.get $sum) (i64.load (i32.and (local.get 0) (i32.const 0xff)))))
      (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (call $stop))
  (func $middle (param i32) (call $spin (local.get 0)))
  (func (param i32) (call $middle (local.get 0)))
  (func (export "main") (param i32) (call 3 (local.get 0)) (call $middle (local.get 0))))
"""
NAMES = ["spin", "middle", "wasm-function[3]", "main"]


@pytest.fixture(autouse=True)
def fresh_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(perf, "_writers", {})
    monkeypatch.setenv("JITDUMPDIR", str(tmp_path))


def instance_of(source: str = SOURCE) -> wl.Instance:
    engine = wl.Engine(tier="baseline")
    return wl.Instance(wl.Module(source, engine), {"env": {"stop": lambda: None}}, store=wl.Store(engine))


def code_of(instance: wl.Instance, function: int) -> list[tuple[int, int]]:
    """Start and end of the code of each of a function's stencils."""
    steps = planned(instance.module.code_space, function).steps
    parts = [part for step in steps for part in ((step.usual, step.usual_size), (step.apart, step.apart_size))]
    return [(start, start + size) for start, size in parts if size]


@pytest.fixture
def map_file() -> Iterator[Path]:
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    path.unlink(missing_ok=True)
    yield path
    path.unlink(missing_ok=True)


def test_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch, map_file: Path, code_at_once: None) -> None:
    monkeypatch.delenv("WASMLOOM_PERF", raising=False)
    before = registered()
    instance_of().exports.main(3)
    assert not map_file.exists() and registered() == before


def test_unknown_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WASMLOOM_PERF", "maps")
    with pytest.raises(ValueError, match="WASMLOOM_PERF: 'maps' is none of"):
        instance_of()


def test_map(monkeypatch: pytest.MonkeyPatch, map_file: Path, code_at_once: None) -> None:
    """Every byte of a function's code is in the range of its name, and ranges don't overlap."""
    monkeypatch.setenv("WASMLOOM_PERF", "map")
    instance = instance_of()
    instance.exports.main(3)
    ranges = {}
    for line in map_file.read_text().splitlines():
        start, size, name = line.split(" ", 2)
        ranges[name] = (int(start, 16), int(start, 16) + int(size, 16))
    assert set(ranges) == {*NAMES, "wasmloom stubs"}
    for number, name in enumerate(NAMES):
        code = code_of(instance, number)
        assert code and all(ranges[name][0] <= start and end <= ranges[name][1] for start, end in code)
    ordered = sorted(ranges.values())
    assert all(end <= start for (_, end), (start, _) in pairwise(ordered))


def test_a_batch_that_a_tick_makes(monkeypatch: pytest.MonkeyPatch, map_file: Path) -> None:
    monkeypatch.setenv("WASMLOOM_PERF", "map")
    instance = instance_of()

    def names() -> set[str]:
        instance.exports.main(1_000_000)
        return {line.split(" ", 2)[2] for line in map_file.read_text().splitlines()} if map_file.exists() else set()

    # A tick finds what has begun by then: a batch may be without the functions that are called last.
    assert any(set(NAMES) <= names() for _ in attempts())


@pytest.mark.parametrize("batch", ["at once", "by a tick"])
def test_a_file_that_cannot_be_written(
    batch: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The error leaves the guest; it doesn't come again, and the code runs."""
    monkeypatch.setenv("WASMLOOM_PERF", "jitdump")
    monkeypatch.setenv("JITDUMPDIR", str(tmp_path / "nowhere"))
    if batch == "at once":
        request.getfixturevalue("code_at_once")
    main = instance_of().exports.main
    with pytest.raises(FileNotFoundError, match="nowhere"):
        for _ in attempts():
            main(1_000_000)
    monkeypatch.setenv("JITDUMPDIR", str(tmp_path))
    main(3)


def test_jitdump_has_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code_at_once: None) -> None:
    """Each instruction that bytecode is made for is there, and nothing that is none."""
    monkeypatch.setenv("WASMLOOM_PERF", "jitdump")
    instance = instance_of()
    instance.exports.main(3)
    content = (tmp_path / f"jit-{os.getpid()}.dump").read_bytes()
    position = struct.unpack_from("<III", content)[2]
    rows: dict[int, int] = {}
    names = []
    while position < len(content):
        kind, size, _ = struct.unpack_from("<IIQ", content, position)
        record = content[position + 16 : position + size]
        if kind == 2:
            rest = record[16:]
            while rest:
                address, line, _ = struct.unpack_from("<QII", rest)
                rows[address] = line
                rest = rest[16:].partition(b"\0")[2]
        else:
            names.append(record[40 : record.index(b"\0", 40)].decode())
        position += size
    assert set(names) == {*NAMES, "wasmloom stubs"}
    decoded = instance.module.decoded
    instructions = {instruction.offset for instruction in read_body(decoded, 0)[1]}
    inside = {line for address, line in rows.items() if any(a <= address < b for a, b in code_of(instance, 0))}
    assert {offset for _, offset in instance.module.code_space.bytecode(0)[1]} == inside
    assert inside <= instructions | {decoded.body_starts[0]}


def test_the_debugger_forgets_what_goes(monkeypatch: pytest.MonkeyPatch, code_at_once: None) -> None:
    monkeypatch.setenv("WASMLOOM_PERF", "gdb")
    before = registered()
    instance = instance_of()
    instance.exports.main(3)
    assert len(registered()) > len(before)
    del instance
    gc.collect()
    assert registered() == before


PROGRAM = """
import os, signal, sys
sys.path[:0] = {path!r}
import wasmloom as wl
def stop():
    if {at_host}:
        signal.raise_signal(signal.SIGTRAP)
engine = wl.Engine(tier={tier!r})
instance = wl.Instance(wl.Module({text!r}, engine), {{"env": {{"stop": stop}}}})
instance.exports.main(3)
if not {at_host}:
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, {seconds})
print(os.getpid(), flush=True)
instance.exports.main({rounds})
"""


def program(tier: str, at_host: bool, rounds: int, seconds: float = 0) -> list[str]:
    package = str(Path(wl.__file__).resolve().parents[1])
    source = PROGRAM.format(
        path=[package], at_host=at_host, tier=tier, text=SOURCE, rounds=rounds, seconds=seconds
    )
    return [sys.executable, "-c", source]


@pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb")
@pytest.mark.parametrize("where", ["in a loop", "in the host"])
@pytest.mark.parametrize("tier", ["interpreter", "baseline"])
def test_gdb(tier: str, where: str) -> None:
    """It finds the way from a guest's code, or a handler, to the process's start."""
    command = program(tier, where == "in the host", (1 << 32) - 1, 0.2)
    done = subprocess.run(
        ["gdb", "-nx", "-q", "-batch", "-ex", "handle SIGPROF stop nopass", "-ex", "run", "-ex", "backtrace", "--args",
         *command],
        capture_output=True, text=True, timeout=300, env={**os.environ, "WASMLOOM_PERF": "gdb"},
    )  # fmt: skip
    assert "exited with code" not in done.stdout, done.stderr  # the program failed, not gdb
    if "SIGPROF" not in done.stdout.replace("SIGPROF       Yes", "") and "SIGTRAP" not in done.stdout:
        pytest.skip(f"gdb can't run programs here: {done.stdout}{done.stderr}")
    frames = [line for line in done.stdout.splitlines() if line.startswith("#")]
    entry = next(i for i, frame in enumerate(frames) if " wl_enter " in frame)
    if where == "in the host":
        assert "in wl[host] ()" in frames[entry - 1]
    elif tier == "baseline":
        assert re.search(r"spin \(\) at module\.wasm:\d+$", frames[0]), frames[0]
    else:
        assert "wl." in frames[0]
    # Everything behind it has a name: nothing was guessed.
    assert not [frame for frame in frames[entry:] if "in ?? ()" in frame], done.stdout
    assert "_run_bytecode" in "".join(frames[entry : entry + 6])
    assert "main" in frames[-1] or "_start" in frames[-1]
    assert "Backtrace stopped" not in done.stdout


@pytest.mark.skipif(shutil.which("perf") is None, reason="no perf")
def test_perf(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    data = tmp_path / "perf.data"
    done = subprocess.run(
        ["perf", "record", "-e", "cpu-clock", "-o", str(data), *program("baseline", False, 300_000_000)],
        capture_output=True, text=True, timeout=300, env={**os.environ, "WASMLOOM_PERF": "map"},
    )  # fmt: skip
    request.addfinalizer(lambda: Path(f"/tmp/perf-{done.stdout.split()[0]}.map").unlink(missing_ok=True))
    if not data.exists() or not data.stat().st_size:
        pytest.skip(f"perf can't record here: {done.stderr}")
    report = subprocess.run(
        ["perf", "report", "-i", str(data), "--stdio", "--no-children", "-F", "sym"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert re.search(r"\] spin$", report.stdout, re.M), report.stdout[:2000]
