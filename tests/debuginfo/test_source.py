"""Places in the source: of traps in every tier, as an independent reader of DWARF has them, and without DWARF."""

from __future__ import annotations

import importlib.util
import io
import pickle
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from tests.debuginfo import dwarf
from wasmloom.binary.decoder import decode_module
from wasmloom.debuginfo.source import debug_info

OPTIONS = {
    "4": ("-g", "-gdwarf-4"),
    "5": ("-g", "-gdwarf-5"),
    "5 with lists": ("-g", "-gdwarf-5", "-ffunction-sections", "-O2"),
    "4 strict": ("-g", "-gdwarf-4", "-gstrict-dwarf", "-Oz"),
}


@pytest.fixture(scope="module", params=OPTIONS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return dwarf.compiled(tmp_path_factory.mktemp("sources"), *OPTIONS[request.param])


@lru_cache
def _engine(tier: str) -> wl.Engine:
    return engine_of(tier, backtrace="source")


def trap_of(data: bytes, engine: wl.Engine, argument: int) -> wl.Trap:
    exports = wl.Instance(wl.Module(data, engine), store=wl.Store(engine)).exports
    assert exports.run(8) == 3 * (1 + 100 // 1 + 1)
    with pytest.raises(wl.Trap) as caught:
        exports.run(argument)
    return caught.value


def short(frame: wl.Frame) -> list[tuple[str | None, str, int]]:
    return [(place.function, Path(place.file or "").name, place.line) for place in frame.source]


@pytest.mark.parametrize("tier", ENGINES)
def test_traps_tell_places(made: bytes, tier: str) -> None:
    line_of = dwarf.line_of
    trap = trap_of(made, _engine(tier), 7)
    second, middle, run = (short(frame) for frame in trap.frames)
    assert second == [
        ("divide", "inlined.h", line_of("inlined.h", "divides")),
        ("halve", "inlined.h", line_of("inlined.h", "halves")),
        ("second", "second.c", line_of("second.c", "calls halve")),
    ]
    assert middle == [("middle", "first.c", line_of("first.c", "calls second"))]
    assert run == [("run", "first.c", line_of("first.c", "calls middle"))]
    assert f"divide at {trap.frames[0].source[0].file}:2:" in str(trap)
    trap = trap_of(made, _engine(tier), 1)
    assert short(trap.frames[0])[-1] == ("second", "second.c", line_of("second.c", "traps"))
    assert all(frame.source_problem is None for frame in trap.frames)
    again = pickle.loads(pickle.dumps(trap))
    assert again.frames == trap.frames and str(again) == str(trap)


def test_nothing_is_told_or_read_unless_it_is_asked_for(made: bytes) -> None:
    engine = engine_of("interpreter")
    module = wl.Module(made, engine)
    assert engine.backtrace == "offsets"
    with pytest.raises(wl.Trap) as caught:
        wl.Instance(module, store=wl.Store(engine)).exports.run(7)
    assert all(frame.source == () and frame.source_problem is None for frame in caught.value.frames)
    assert "inlined.h" not in str(caught.value)


def test_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WASMLOOM_BACKTRACE", "source")
    engine = wl.Engine()
    assert engine.backtrace == "source"
    assert pickle.loads(pickle.dumps(wl.Engine(tier="interpreter"))).backtrace == "source"
    assert wl.Engine(backtrace="offsets").backtrace == "offsets"
    monkeypatch.setenv("WASMLOOM_BACKTRACE", "lines")
    with pytest.raises(ValueError, match="unknown backtrace 'lines'; known are offsets, source"):
        wl.Engine()


@pytest.mark.parametrize("limit", ["timeout", "fuel"])
def test_a_guest_that_was_out_of_time(limit: str) -> None:
    """Its debug information is read although no time is left."""
    endless = bytes.fromhex("0061736d01000000010401600000030201000707010372756e00000a0901070003400c000b0b")
    program = dwarf.set_address(2) + bytes([3, 40, 1, 2, 7]) + dwarf.END
    sections = {
        ".debug_abbrev": dwarf.abbreviation(1, 0x11, False, (0x10, 0x17), (0x11, 0x01), (0x12, 0x06)) + b"\0",
        ".debug_info": dwarf.unit(b"\1" + bytes(4) + (2).to_bytes(4, "little") + (7).to_bytes(4, "little")),
        ".debug_line": dwarf.line_program(program),
    }
    whole = dwarf.with_sections(endless, sections)
    engine = wl.Engine(tier="interpreter", backtrace="source", fuel=limit == "fuel")
    settings: dict[str, Any] = {"timeout": 0.02} if limit == "timeout" else {"fuel": 1000}
    run = wl.Instance(wl.Module(whole, engine), store=wl.Store(engine, **settings)).exports.run
    with pytest.raises(wl.Trap) as caught:
        run()
    assert caught.value.frames[0].source == (wl.SourceFrame(None, "a.c", 41, 0),)


def test_an_independent_reader_agrees(made: bytes) -> None:
    """All rows of all line tables, against pyelftools."""
    pytest.importorskip("elftools")
    from elftools.dwarf.dwarfinfo import DebugSectionDescriptor, DwarfConfig, DWARFInfo

    sections = dwarf.customs(made)
    names = list(DWARFInfo.__init__.__code__.co_varnames[2 : DWARFInfo.__init__.__code__.co_argcount])

    def section(name: str) -> object:
        key = "." + name.removesuffix("_sec")
        found = sections.get(key)
        return found and DebugSectionDescriptor(io.BytesIO(found), key, 0, len(found), 0)

    info = DWARFInfo(DwarfConfig(True, "wasm", 4), **{name: section(name) for name in names})
    module = decode_module(made)
    ours = debug_info(module)
    start = ours._start
    compared = 0
    for unit in info.iter_CUs():
        program = info.line_program_for_CU(unit)
        last = None
        for entry in program.get_entries():
            state = entry.state
            if state is None:
                continue
            if last is not None and state.address > last.address >= module.body_starts[0] - start:
                found = ours.at(last.address + start)
                files = program["file_entry"]
                name = files[last.file - (0 if program["version"] >= 5 else 1)].name.decode()
                assert found and found[0].file is not None
                assert Path(found[0].file).name == Path(name).name
                assert (found[0].line, found[0].column) == (last.line, last.column)
                compared += 1
            last = None if state.end_sequence else state
    assert compared > 10 and ours.problem is None


WASMTIME = importlib.util.find_spec("wasmtime")


@pytest.mark.parametrize("package", ["wasmtime", "wasmloom.compat.wasmtime"])
def test_the_look_alike_tells_what_wasmtime_does(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if package == "wasmtime" and WASMTIME is None:
        pytest.skip("needs the package 'wasmtime'")
    monkeypatch.setenv("WASMTIME_BACKTRACE_DETAILS", "1")
    wasmtime = importlib.import_module(package)
    data = dwarf.compiled(tmp_path, "-g")
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    run = wasmtime.Instance(store, wasmtime.Module(engine, data), []).exports(store)["run"]
    with pytest.raises(wasmtime.Trap) as caught:
        run(store, 7)
    shown = str(caught.value).replace(f"{tmp_path}/", "").splitlines()[:14]
    assert [line for line in shown if " at " in line and "error" not in line] == [
        "                    at ./inlined.h:2:12",
        "                    at ./inlined.h:5:14",
        "                    at second.c:5:10",
        "                    at first.c:4:10",
        "                    at first.c:7:10",
    ]
    assert [line.split(" - ")[-1].strip("- ") for line in shown if " - " in line or line.lstrip().startswith("- ")] == [
        "divide", "halve", "second", "middle", "run",
    ]  # fmt: skip


def test_modules_without_dwarf() -> None:
    engine = wl.Engine(tier="interpreter", backtrace="source")
    bare = bytes.fromhex("0061736d01000000010401600000030201000707010372756e00000a05010300000b")
    for sections, said in (
        ({}, "(debug information: the module has no DWARF)"),
        ({"external_debug_info": b"\x0aapp.dbg.xy"}, "(debug information: it is in another file: app.dbg.xy)"),
        ({"sourceMappingURL": b"\x05a.map"}, "(debug information: there is a source map only: a.map)"),
        ({"external_debug_info": b"\xff\xff"}, "(debug information: it is in another file: ?)"),
    ):
        with pytest.raises(wl.Trap) as caught:
            wl.Instance(wl.Module(dwarf.with_sections(bare, sections), engine), store=wl.Store(engine)).exports.run()
        assert said in str(caught.value)
        assert caught.value.frames[0].source == ()


def test_exits_tell_places(tmp_path: Path) -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("needs the package 'ziglang' to compile C to WebAssembly")
    source = '__attribute__((import_module("wasi_snapshot_preview1"), import_name("proc_exit")))\n'
    source += "void leave(int);\n__attribute__((export_name(\"_start\"))) void start(void) {\n  leave(3);\n}\n"
    sources = {"inlined.h": "", "first.c": source, "second.c": ""}
    data = dwarf.compiled(tmp_path, "-g", sources=sources)
    engine = wl.Engine(tier="interpreter", backtrace="source")
    with wl.Wasi() as wasi, pytest.raises(wl.ExitStatus) as caught:
        wasi.instantiate(wl.Module(data, engine), store=wl.Store(engine)).exports["_start"]()
    assert [short(frame) for frame in caught.value.frames if frame.offset] == [[("start", "first.c", 4)]]
