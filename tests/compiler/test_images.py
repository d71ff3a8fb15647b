"""Images: code that is mapped from the disk cache."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

import wasmloom as wl
from tests.compiler.building import address_of, call, emit, with_lines
from tests.compiler.test_objects import ADD, FAR_CODE, HOST, TWICE, VARIED, check_varied, check_varied_data
from wasmloom.compiler import images, objects, perf
from wasmloom.compiler.cache import MAGIC, Cache
from wasmloom.compiler.images import Image, link
from wasmloom.compiler.objects import LoadedCode, ObjectError, load

KEY = "0" * 64


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def entry_of(cache: Cache) -> Path:
    return Path(cache.directory) / f"{KEY}.code"


def through(cache: Cache, objects: Sequence[bytes], externals: dict[str, int]) -> LoadedCode:
    """The same as `load`, by way of an image."""
    assert cache.put(KEY, link(objects, list(externals)), mapped=True)
    return reopened(cache, externals)


def reopened(cache: Cache, externals: dict[str, int]) -> LoadedCode:
    entry = cache.open(KEY)
    assert entry is not None
    return Image(entry).load(externals)


def test_everything_that_objects_have(cache: Cache) -> None:
    loaded = through(cache, [emit(VARIED), emit(TWICE), emit(ADD)], {"host": address_of(HOST)})
    check_varied(loaded)
    check_varied_data(loaded)
    assert call(loaded, "twice", 21) == 42
    assert set(loaded.symbols) == {"shared", "odd", "even", "through", "count", "half", "choose", "twice", "add"}
    # Data is each loading's own.
    assert [call(again, "count") for again in [reopened(cache, {"host": address_of(HOST)})]] == [23]


def test_its_pages_are_those_of_the_file(cache: Cache) -> None:
    loaded = through(cache, [emit(VARIED), emit(ADD)], {"host": address_of(HOST)})
    permissions = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, flags, *rest = line.split()
        start, end = (int(bound, 16) for bound in bounds.split("-"))
        if start < loaded.base + loaded.size and end > loaded.base:
            permissions[flags[:3]] = rest[-1]
    assert set(permissions) == {"r-x", "r--", "rw-"}
    assert permissions["r-x"] == str(entry_of(cache))


def test_names_lines_and_images_are_those_of_the_objects(cache: Cache) -> None:
    parts = [with_lines([10, 200]), emit("define i64 @g() { ret i64 5 }")]
    plain, mapped = (put(parts, {"log": 0x1234}) for put in (load, lambda *args: through(cache, *args)))
    moved = mapped.base - plain.base
    assert [one._replace(address=one.address + moved) for one in plain.functions] == mapped.functions
    assert [(a + moved, b + moved, c) for a, b, c in plain.text_ranges] == mapped.text_ranges
    assert tuple(place + moved for place in plain.stubs) == mapped.stubs
    assert len(mapped.debug) == len(plain.debug) == 2
    for function in plain.functions:
        for address in range(function.address, function.address + function.size):
            assert plain.lookup(address) == mapped.lookup(address + moved)
            assert plain.offset_at(address) == mapped.offset_at(address + moved)
            assert plain.access_at(address) == mapped.access_at(address + moved)
    shown = [[len(image) for image in perf.images(one, str)] for one in (plain, mapped)]
    assert shown[0] == shown[1]


def test_numbered_functions(cache: Cache) -> None:
    text = "".join(f"define i64 @wf.{n}() {{ ret i64 {n} }}\n" for n in (0, 1, 5))
    loaded = through(cache, [emit(text), emit("define i64 @wt.2() { ret i64 9 }")], {})
    addresses = loaded.addresses("wf", 7)
    assert [bool(address) for address in addresses] == [True, True, False, False, False, True, False]
    assert [addresses[n] for n in (0, 1, 5)] == [loaded.symbols[f"wf.{n}"] for n in (0, 1, 5)]
    assert call(loaded, "wf.5") == 5 and call(loaded, "wt.2") == 9
    assert set(loaded.symbols) == {"wf.0", "wf.1", "wf.5", "wt.2"} and len(loaded.symbols) == 4
    for name in ("wf.2", "wf.7", "wt.3", "other"):
        assert loaded.symbols.get(name) is None
    assert loaded.addresses("wt", 2) == [0, 0]


def test_far_functions_are_called_through_slots(cache: Cache) -> None:
    memory = objects.CodeMemory(4096)
    memoryview(memory)[: len(FAR_CODE)] = FAR_CODE
    memory.make_executable(4096)
    text = "declare i64 @far(i64)\ndefine i64 @f(i64 %a) {\n %b = call i64 @far(i64 %a)\n ret i64 %b\n}"
    assert call(through(cache, [emit(text)], {"far": memory.address}), "f", 5) == ~5


def test_what_depends_on_its_address_is_refused() -> None:
    with pytest.raises(ObjectError, match="R_X86_64_32S"):
        link([emit(VARIED, "static")], ["host"])
    with pytest.raises(ObjectError, match="undefined symbol 'host'"):
        link([emit(VARIED)], [])
    with pytest.raises(ObjectError, match="address"):
        link([emit("@host = external global i64\n@p = global ptr @host")], ["host"])


def test_damaged_files_are_misses(cache: Cache) -> None:
    """Cut short at every boundary, or changed anywhere: it is found out before anything runs, and removed."""
    through(cache, [emit(VARIED)], {"host": address_of(HOST)})
    whole = entry_of(cache).read_bytes()
    header = int.from_bytes(whole[len(MAGIC) + 32 : len(MAGIC) + 36], "little")
    edges = [0, 1, len(MAGIC), len(MAGIC) + 32, len(MAGIC) + 36, len(MAGIC) + 36 + header, 4096, 4097, 8192]
    for end in [*edges, *range(0, len(whole), 4096), len(whole) - 1]:
        entry_of(cache).write_bytes(whole[:end])
        assert cache.open(KEY) is None and not entry_of(cache).exists(), end
    for place in [*range(len(MAGIC) + 36 + header), *range(4096, len(whole), 509), len(whole) - 1]:
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        entry_of(cache).write_bytes(content)
        assert cache.open(KEY) is None and not entry_of(cache).exists(), place
    entry_of(cache).write_bytes(whole)
    entry_of(cache).rename(Path(cache.directory) / f"{'1' * 64}.code")
    assert cache.open("1" * 64) is None  # not what is under that name


def test_a_copied_file_is_checked_as_a_whole(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose time isn't the noted one may be anything; one that is untouched isn't read."""
    through(cache, [emit(ADD)], {})
    checked = []
    original = cache_entry_digest()
    monkeypatch.setattr("wasmloom.compiler.cache.Entry._digest", lambda *args: checked.append(1) or original(*args))
    assert call(reopened(cache, {}), "add", 1, 2) == 3 and not checked
    entry_of(cache).write_bytes(entry_of(cache).read_bytes())
    assert call(reopened(cache, {}), "add", 1, 2) == 3 and checked


def cache_entry_digest() -> object:
    from wasmloom.compiler.cache import Entry

    return Entry._digest


def test_what_runs_stays_when_its_entry_is_replaced_or_removed(cache: Cache) -> None:
    loaded = through(cache, [emit(ADD)], {})
    other = through(cache, [emit(ADD.replace("add i64", "sub i64"))], {})
    assert call(loaded, "add", 5, 3) == 8 and call(other, "add", 5, 3) == 2
    cache.clear()
    assert call(loaded, "add", 5, 4) == 9 and loaded.functions[0].name == "add"


def test_a_file_system_that_code_cant_be_executed_from(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    real = images.protect
    refused = []

    def protect(memory: object, ends: Sequence[int]) -> None:
        if not refused:
            refused.append(memory)
            raise ObjectError("the system refuses executable memory")
        real(memory, ends)  # type: ignore[arg-type]

    monkeypatch.setattr(images, "protect", protect)
    loaded = through(cache, [emit(VARIED)], {"host": address_of(HOST)})
    check_varied(loaded)
    assert refused and loaded.memory is not refused[0]


def test_its_memory_goes_with_it(cache: Cache) -> None:
    def uses() -> tuple[int, int]:
        files = []
        for path in Path("/proc/self/fd").iterdir():
            with suppress(OSError):  # another thread's, which has gone
                files.append(os.readlink(path))
        return files.count(str(entry_of(cache))), Path("/proc/self/maps").read_text().count(str(entry_of(cache)))

    loaded = [through(cache, [emit(ADD)], {})]
    descriptors, mappings = uses()
    assert descriptors == 0 and mappings >= 1
    loaded += [reopened(cache, {}) for _ in range(20)]
    assert uses() == (0, 21 * mappings)
    loaded.clear()
    assert uses() == (0, 0)


def test_a_full_disk(tmp_path: Path) -> None:
    """What doesn't fit isn't kept, and nothing of it is left behind."""

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    program = (
        "import sys; from wasmloom.compiler.cache import Cache; c = Cache(sys.argv[1])\n"
        "print(c.put('0' * 64, [bytes(9000)], mapped=True), c.open('0' * 64), c.put('1' * 64, [b'x'], mapped=True))"
    )
    done = subprocess.run(
        # Python itself would keep half of its compiled modules, and other processes would find them.
        [sys.executable, "-B", "-c", program, str(tmp_path / "c")], preexec_fn=limited, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout == "False None True\n", done.stderr
    assert os.listdir(tmp_path / "c") == ["1" * 64 + ".code"]


GUEST = """(module (memory (export "m") 1)
  (func $fib (export "fib") (param i32) (result i32)
    (if (result i32) (i32.lt_s (local.get 0) (i32.const 2)) (then (local.get 0))
      (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1)))
                     (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func (export "bad") (param i32) (result i32) (i32.load (local.get 0))))"""


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WASMLOOM_CACHE_DIR", str(tmp_path / "own"))
    return tmp_path / "own"


def exports_of(engine: wl.Engine | None = None) -> object:
    return wl.Instance(wl.Module(GUEST, engine or wl.Engine(tier="compiler"))).exports


def test_modules_run_from_images(own_cache: Path) -> None:
    traps = []
    for cache in (False, True, True):
        exports = exports_of(wl.Engine(tier="compiler", cache=cache))
        assert exports.fib(10) == 55
        with pytest.raises(wl.Trap) as trapped:
            exports.bad(0x7FFFFFFF)
        traps.append([(frame.func_index, frame.offset) for frame in trapped.value.frames])
    assert traps[0] == traps[1] == traps[2] and len(traps[0]) == 1 and traps[0][0][1]
    assert len(list(own_cache.glob("*.code"))) == 1


def test_a_forked_child_runs_it(own_cache: Path) -> None:
    exports_of()
    exports = exports_of()
    child = os.fork()
    if child == 0:
        os._exit(exports.fib(7) if exports.fib(10) == 55 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 13
    assert exports.fib(10) == 55


def test_an_image_that_cant_be_used_is_no_obstacle(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exports_of()

    def fail(*args: object) -> None:
        raise ObjectError("no")

    monkeypatch.setattr(Image, "load", fail)
    assert exports_of().fib(10) == 55


def test_code_counts_towards_the_limit_without_its_tables(own_cache: Path) -> None:
    engines = [wl.Engine(tier="compiler", cache=cache) for cache in (False, True, True)]
    kept = [exports_of(engine) for engine in engines]
    assert len({engine.code_used // 8192 for engine in engines}) == 1 and engines[0].code_used > 0
    del kept


def test_processes_at_once(own_cache: Path) -> None:
    """They write the same entry, and read it, in any order."""
    program = (
        f"import wasmloom as wl\nGUEST = '''{GUEST}'''\n"
        "for _ in range(4):\n"
        "    assert wl.Instance(wl.Module(GUEST, wl.Engine(tier='compiler'))).exports.fib(10) == 55"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()
    assert len(list(own_cache.glob("*.code"))) == 1


def test_without_a_directory_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("WASMLOOM_CACHE_DIR", str(tmp_path / "file" / "below"))
    assert exports_of().fib(10) == 55


assert ctypes  # what `call` needs is loaded
