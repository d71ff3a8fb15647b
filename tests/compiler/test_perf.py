"""What profilers and debuggers are told about compiled code."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wasmloom
from tests.compiler.building import emit, registered, with_lines
from wasmloom.compiler import elf, perf
from wasmloom.compiler.objects import LoadedCode, load
from wasmloom.target import relocations

ROOT = Path(__file__).resolve().parent.parent.parent
#: Where the package is: in the project or, when it has been installed, elsewhere.
PACKAGE = str(Path(wasmloom.__file__).resolve().parents[1])

NAMES = {"f": "do it\nnow", "g": "größer"}


def loaded_code() -> LoadedCode:
    """Two objects: f with lines, and g without; the call of `log` needs a stub."""
    return load([with_lines([10, 200]), emit("define i64 @g() { ret i64 5 }")], {"log": 0x1234})


@pytest.fixture(autouse=True)
def fresh_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(perf, "_writers", {})
    monkeypatch.setenv("JITDUMPDIR", str(tmp_path))


@pytest.fixture
def map_file() -> Iterator[Path]:
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    path.unlink(missing_ok=True)
    yield path
    path.unlink(missing_ok=True)


def test_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch, map_file: Path, tmp_path: Path) -> None:
    monkeypatch.delenv("WASMLOOM_PERF", raising=False)
    perf.describe(loaded_code(), NAMES.__getitem__)
    assert not map_file.exists() and not list(tmp_path.iterdir())


def test_unknown_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WASMLOOM_PERF", "map,trace")
    with pytest.raises(ValueError, match="WASMLOOM_PERF: 'trace' is none of map, jitdump, gdb"):
        perf.wanted()


def test_map(monkeypatch: pytest.MonkeyPatch, map_file: Path) -> None:
    monkeypatch.setenv("WASMLOOM_PERF", "map")
    map_file.write_text("0 1 of an earlier process\n")
    loaded = loaded_code()
    perf.describe(loaded, NAMES.__getitem__)
    f, g = (loaded.symbols[name] for name in "fg")
    stub, end = loaded.stubs
    lines = map_file.read_text().splitlines()
    assert lines == [
        f"{f:x} {loaded.sizes['f']:x} do it\\nnow",
        f"{g:x} {loaded.sizes['g']:x} größer",
        f"{stub:x} {end - stub:x} wasmloom stubs",
    ]
    perf.describe(loaded, str)
    assert len(map_file.read_text().splitlines()) == 6
    assert map_file.stat().st_mode & 0o77 == 0


def test_map_is_no_link(monkeypatch: pytest.MonkeyPatch, map_file: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("WASMLOOM_PERF", "map")
    (tmp_path / "precious").write_text("precious")
    map_file.symlink_to(tmp_path / "precious")
    perf.describe(loaded_code(), str)
    assert "wasmloom stubs" in map_file.read_text()
    assert (tmp_path / "precious").read_text() == "precious"


def test_jitdump(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WASMLOOM_PERF", "jitdump")
    loaded = loaded_code()
    perf.describe(loaded, NAMES.__getitem__, "some.wasm")
    path = tmp_path / f"jit-{os.getpid()}.dump"
    content = path.read_bytes()
    magic, version, size, machine, _, process, _, flags = struct.unpack_from("<IIIIIIQQ", content)
    assert (magic, version, size, machine, process, flags) == (0x4A695444, 1, 40, 62, os.getpid(), 0)
    records = []
    position = size
    while position < len(content):
        kind, size, _ = struct.unpack_from("<IIQ", content, position)
        records.append((kind, content[position + 16 : position + size]))
        position += size
    assert position == len(content)
    assert [kind for kind, _ in records] == [2, 0, 0, 0]
    # The lines of f.
    address, count = struct.unpack_from("<QQ", records[0][1])
    assert (address, count) == (loaded.symbols["f"], 4)
    rest = records[0][1][16:]
    lines = []
    while rest:
        lines.append(struct.unpack_from("<QII", rest))
        file, _, rest = rest[16:].partition(b"\0")
        assert file == b"some.wasm"
    assert [line for _, line, _ in lines] == [1, 10, 200, 200]
    assert [loaded.offset_at(address) for address, _, _ in lines[:3]] == [1, 10, 200]
    assert lines[3][0] == loaded.symbols["f"] + loaded.sizes["f"]
    # The code of all.
    for number, (name, record) in enumerate(zip("fg", records[1:3], strict=True)):
        process, _, address, again, size, index = struct.unpack_from("<IIQQQQ", record[1])
        assert (process, address, again, size, index) == (
            os.getpid(), loaded.symbols[name], address, loaded.sizes[name], number,
        )  # fmt: skip
        shown = NAMES[name].replace("\n", "\\n").encode()
        assert record[1][40:] == shown + b"\0" + loaded.read(address, size)
    # `perf record` sees an executable mapping of the file.
    assert any("r-xp" in line and path.name in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_images() -> None:
    """One for each object, with absolute addresses, and with unwind tables and lines as they are in memory."""
    loaded = loaded_code()
    images = list(perf.images(loaded, str))
    assert len(images) == 2
    for image, name in zip(images, "fg", strict=True):
        header = elf.HEADER.unpack_from(image)
        assert header[5:7] == (elf.ET_EXEC, relocations.MACHINE)
        table, count, names = header[10], header[16], header[17]
        assert table + count * elf.SECTION.size == len(image)
        sections = list(elf.SECTION.iter_unpack(image[table:]))
        strings = image[sections[names][4] :][: sections[names][5]]

        def text(position: int, strings: bytes = strings) -> str:
            return strings[position : strings.index(b"\0", position)].decode()

        found = {text(section[0]): section for section in sections}
        assert found[".text"][1] == elf.SHT_NOBITS
        assert found[".text"][3] <= loaded.symbols[name] < found[".text"][3] + found[".text"][5]
        unwind = found[".eh_frame"]
        assert (unwind[3], unwind[5]) == loaded.unwind_tables["fg".index(name)][:2]
        assert image[unwind[4] : unwind[4] + unwind[5]] == loaded.read(unwind[3], unwind[5])
        assert (".debug_line" in found) == (name == "f")
        symbols = found[".symtab"]
        entries = list(elf.SYMBOL.iter_unpack(image[symbols[4] : symbols[4] + symbols[5]]))
        assert len(entries) == 2
        assert (text(entries[1][0]), *entries[1][4:]) == (name, loaded.symbols[name], loaded.sizes[name])
        assert sections[entries[1][3]] == found[".text"]


def test_the_debugger_forgets_what_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = registered()
    monkeypatch.setenv("WASMLOOM_PERF", "gdb")
    one, two = loaded_code(), loaded_code()
    perf.describe(one, str)
    perf.describe(two, str)
    first, second = list(perf.images(one, str)), list(perf.images(two, str))
    assert registered() == second[::-1] + first[::-1] + before
    del one
    assert registered() == second[::-1] + before
    del two
    assert registered() == before


CRASH = """
import ctypes, sys
sys.path[:0] = {path!r}
from tests.compiler.building import address_of, call, with_lines
from wasmloom.compiler import perf
from wasmloom.compiler.objects import load
loaded = load([with_lines([77, 12345])], {{"log": address_of(ctypes.CDLL(None).abort)}})
perf.describe(loaded, lambda symbol: "stops here")
call(loaded, "f")
"""


@pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb")
def test_gdb_knows_functions_and_lines() -> None:
    program = CRASH.format(path=[str(ROOT), PACKAGE])
    command = ["gdb", "-nx", "-q", "-batch", "-ex", "run", "-ex", "backtrace", "--args", sys.executable, "-c", program]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "WASMLOOM_PERF": "gdb"}
    )
    assert "exited with code" not in done.stdout, done.stderr  # the program failed, not gdb
    if "SIGABRT" not in done.stdout:
        pytest.skip(f"gdb can't run programs here: {done.stdout}{done.stderr}")
    frames = [line for line in done.stdout.splitlines() if line.startswith("#")]
    here = next(i for i, frame in enumerate(frames) if "stops here" in frame)
    assert frames[here].endswith("in stops here () at module.wasm:77")
    # It finds the caller, and so on to the end.
    assert "ffi" in frames[here + 1]
    assert "main" in frames[-1] or "_start" in frames[-1]


#: A guest's functions that stand in each other; the last ones' call ends in a trap, then it ends the process.
STOP = """
import os, sys
sys.path[:0] = {path!r}
import wasmloom as wl
text = '(module (import "h" "stop" (func $stop (param i32)))' \\
    '(func $inner (param i32) (call $stop (local.get 0)))' \\
    '(func $middle (param i32) (call $inner (i32.add (local.get 0) (i32.const 1))) (call $inner (i32.const 1)))' \\
    '(func $outer (export "run") (param i32) (call $middle (i32.const 3)) (call $middle (local.get 0)))' \\
    '(func (export "fault") unreachable))'
engine = wl.Engine(tier="compiler", cache=False)
module = wl.Module(text, engine)
def stop(number):
    if number == -8:
        if ending:
            os.abort()
        exports.fault()
exports = wl.Instance(module, {{"h": {{"stop": stop}}}}, store=wl.Store(engine)).exports
for ending in (False, True):
    try:
        exports.run(-9)
    except wl.Trap as trap:
        print("OFFSETS", *(frame.offset for frame in trap.frames[2:]), flush=True)
"""


@pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb")
def test_gdb_knows_what_stands_in_the_place_of_calls() -> None:
    program = STOP.format(path=[str(ROOT), PACKAGE])
    command = ["gdb", "-nx", "-q", "-batch", "-ex", "run", "-ex", "backtrace", "--args", sys.executable, "-c", program]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "WASMLOOM_PERF": "gdb"}
    )
    assert "exited with code" not in done.stdout, done.stderr
    if "SIGABRT" not in done.stdout:
        pytest.skip(f"gdb can't run programs here: {done.stdout}{done.stderr}")
    found = re.findall(r"^#\d+ .*?(\w+) \(\) at module\.wasm:(\d+)$", done.stdout, re.MULTILINE)
    offsets = re.search("^OFFSETS (.*)$", done.stdout, re.MULTILINE)
    assert offsets is not None  # our own backtrace, where it doesn't end the process
    assert found == list(zip(["inner", "middle", "outer"], offsets[1].split(), strict=True))


SPIN = """
import os, sys
sys.path[:0] = {path!r}
from tests.compiler.building import DEBUG, call, emit
from wasmloom.compiler import perf
from wasmloom.compiler.objects import load
loaded = load([emit('''
define i64 @f(i64 %n) "frame-pointer"="all" !dbg !9 {{
start:
  br label %loop
loop:
  %i = phi i64 [ 0, %start ], [ %next, %loop ], !dbg !10
  %next = add i64 %i, 1, !dbg !10
  call void asm sideeffect "", ""(), !dbg !10
  %more = icmp ult i64 %next, %n, !dbg !10
  br i1 %more, label %loop, label %end, !dbg !10
end:
  ret i64 %next, !dbg !10
}}
!10 = !DILocation(line: 4711, column: 0, scope: !9)
''' + DEBUG.replace("VERSION", "5"))], {{}})
perf.describe(loaded, lambda symbol: "spins_here")
call(loaded, "f", 500_000_000)
print(os.getpid())
"""


@pytest.mark.skipif(shutil.which("perf") is None, reason="no perf")
@pytest.mark.parametrize("word", ["map", "jitdump"])
def test_perf_knows_functions_and_lines(word: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    data = tmp_path / "perf.data"
    program = SPIN.format(path=[str(ROOT), PACKAGE])
    # `perf inject` writes below the home folder.
    environment = {**os.environ, "WASMLOOM_PERF": word, "JITDUMPDIR": str(tmp_path), "HOME": str(tmp_path)}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=environment, errors="replace"
        )

    done = run("perf", "record", "-k", "mono", "-e", "cpu-clock", "-o", str(data), sys.executable, "-c", program)
    if not data.exists():
        pytest.skip(f"perf can't record here: {done.stderr}")
    if word == "jitdump":
        injected = run("perf", "inject", "--jit", "-i", str(data), "-o", str(tmp_path / "jit.data"))
        if injected.returncode:
            pytest.skip(f"perf can't read jitdump here: {injected.stderr}")
        data = tmp_path / "jit.data"
    request.addfinalizer(lambda: Path(f"/tmp/perf-{done.stdout.strip()}.map").unlink(missing_ok=True))
    report = run("perf", "report", "-i", str(data), "--stdio", "--no-children").stdout
    assert "spins_here" in report, report
    if word == "jitdump":
        assert ":4711" in run("perf", "annotate", "-i", str(data), "--stdio", "-s", "spins_here").stdout
