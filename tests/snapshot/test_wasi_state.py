"""What a program has of the world goes with its snapshot: arguments, clocks, descriptors; also to other processes."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wasmloom as wl
from tests.compiler.tiers import engine_of
from tests.patience import FOREVER
from tests.wasi.guest import ALL_RIGHTS, Guest, clock
from wasmloom.wasi import MODULE_NAME, ReadOnly, Wasi, call_type
from wasmloom.wasi.abi import CALLS, DIRENT, Errno, FdFlags, OpenFlags, Rights, WasiError
from wasmloom.wasi.saving import DIRECTORY, FILE, PREOPEN, STREAM, OpenFile, WasiState, check

ALL = [name for name in CALLS if CALLS[name].returns_errno]
MONOTONIC = 1
CREAT = int(OpenFlags.CREAT)


def _module() -> wl.Module:
    """A module that exports what it imports."""
    types = {name: " ".join(map(str, call_type(name).params)) for name in ALL}
    imports = [f'(import "{MODULE_NAME}" "{n}" (func ${n} (param {type}) (result i32)))' for n, type in types.items()]
    exports = [f'(export "{name}" (func ${name}))' for name in ALL]
    text = f'(module {"".join(imports + exports)} (memory (export "memory") 8))'
    return wl.Module(text, engine_of("interpreter"))


MODULE = _module()


class Program(Guest):
    """A `Guest` with a store."""

    def __init__(self, instance: wl.Instance) -> None:
        self.instance = instance
        self.memory = instance.exports.memory
        self.functions = {name: instance.exports[name] for name in ALL}
        self._top = 64

    @classmethod
    def made(cls, wasi: Wasi) -> Program:
        return cls(wasi.instantiate(MODULE))

    def snapshot(self) -> wl.Snapshot:
        return wl.Snapshot.from_bytes(wl.Snapshot.take(self.instance.store).to_bytes(), engine=MODULE.engine)

    def again(self, wasi: Wasi) -> Program:
        return self.of(self.snapshot(), wasi)

    @classmethod
    def of(cls, kept: wl.Snapshot, wasi: Wasi) -> Program:
        made = cls(kept.restore(wasi=wasi).instances[0])
        made._top = 1 << 18  # what is below may be in use
        return made

    def tell(self, fd: int) -> int:
        result = self.room(8)
        assert self.call("fd_tell", fd, result) == 0
        return self.u64(result)

    def strings(self, kind: str) -> list[bytes]:
        sizes = self.room(8)
        assert self.call(f"{kind}_sizes_get", sizes, sizes + 4) == 0
        count, size = struct.unpack_from("<II", self.memory, sizes)
        pointers, buffer = self.room(4 * count), self.room(size)
        assert self.call(f"{kind}_get", pointers, buffer) == 0
        return bytes(self.memory[buffer : buffer + size]).split(b"\0")[:-1]

    def now(self, clock: int) -> int:
        result = self.room(8)
        assert self.call("clock_time_get", clock, 1, result) == 0
        return self.u64(result)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    inside = tmp_path / "world"
    (inside / "a" / "b").mkdir(parents=True)
    (inside / "a" / "b" / "leaf").write_text("0123456789")
    (inside / "file").write_text("hello, world")
    return inside


def test_arguments_and_environment(world: Path) -> None:
    program = Program.made(Wasi(args=["prog", "x"], env={"A": "1"}))
    copy = program.again(Wasi(args=["other"], env={"B": "2"}))
    assert copy.strings("args") == [b"prog", b"x"] and copy.strings("environ") == [b"A=1"]


def test_streams_are_the_new_ones() -> None:
    out, again = io.BytesIO(), io.BytesIO()
    program = Program.made(Wasi(stdin=b"one", stdout=out))
    assert program.read(0, 2) == (0, b"on")
    assert program.call("fd_close", 2) == 0
    copy = program.again(Wasi(stdin=b"two", stdout=again))
    assert copy.read(0, 10) == (0, b"two") and copy.write(1, b"copy")[0] == 0 and program.write(1, b"this")[0] == 0
    assert (out.getvalue(), again.getvalue()) == (b"this", b"copy")
    assert copy.write(2, b"x")[0] == Errno.EBADF
    kept = program.snapshot()
    with pytest.raises(wl.LinkError, match=r"unknown import wasi_snapshot_preview1\.\w+: .* give a new Wasi"):
        kept.restore()


def test_files(world: Path) -> None:
    program = Program.made(Wasi(preopens={"/w": world}))
    code, leaf = program.open(b"a/b/leaf", rights=ALL_RIGHTS)
    assert code == 0 and program.read(leaf, 4) == (0, b"0123")
    code, new = program.open(b"new", rights=ALL_RIGHTS, oflags=CREAT, flags=FdFlags.APPEND)
    assert code == 0 and program.write(new, b"begun ")[0] == 0
    code, below = program.open(b"a", rights=int(Rights.PATH_OPEN), oflags=OpenFlags.DIRECTORY)
    assert code == 0
    code, read = program.open(b"b/leaf", base=below, rights=int(Rights.FD_READ | Rights.FD_SEEK))
    assert code == 0
    assert program.call("fd_fdstat_set_rights", leaf, int(Rights.FD_READ | Rights.FD_TELL), 0) == 0
    kept = program.snapshot()
    with Wasi(preopens={"/w": world}) as wasi:
        copy = Program.of(kept, wasi)
        assert copy.tell(leaf) == 4 and copy.read(leaf, 3) == (0, b"456")
        assert program.tell(leaf) == 4  # two open files
        assert copy.write(leaf, b"x")[0] == Errno.EBADF
        assert [copy.fdstat(fd) for fd in range(3, read + 1)] == [program.fdstat(fd) for fd in range(3, read + 1)]
        assert copy.write(new, b"and ended")[0] == 0 and (world / "new").read_bytes() == b"begun and ended"
        assert copy.read(read, 2) == (0, b"01") and copy.write(read, b"x")[0] == Errno.EBADF
        code, again = copy.open(b"b/leaf", base=below, rights=ALL_RIGHTS)
        assert code == 0 and again == read + 1
        assert copy.open(b"../file", base=below)[0] == Errno.ENOTCAPABLE
        # And from there once more.
        assert copy.again(Wasi(preopens={"/w": world})).read(leaf, 9) == (0, b"789")


def test_numbers_are_given_in_the_same_order(world: Path) -> None:
    program = Program.made(Wasi(preopens={"/": world}))
    numbers = [program.open(b"file")[1] for _ in range(6)]
    for number in (numbers[4], numbers[1]):
        assert program.call("fd_close", number) == 0
    assert program.call("fd_renumber", numbers[5], numbers[0]) == 0
    copy = program.again(Wasi(preopens={"/": world}))
    assert [copy.open(b"file") for _ in range(5)] == [program.open(b"file") for _ in range(5)]


def test_renamed_and_removed_files(world: Path) -> None:
    program = Program.made(Wasi(preopens={"/data": world}))
    code, number = program.open(b"file", rights=ALL_RIGHTS)
    assert code == 0 and program.read(number, 7)[0] == 0
    os.rename(world / "file", world / "a" / "moved")
    (world / "file").write_text("another one")
    kept = program.snapshot()
    assert Program.of(kept, Wasi(preopens={"/data": world})).read(number, 9) == (0, b"world")
    os.remove(world / "a" / "moved")
    with pytest.raises(wl.WasmError, match=rf"file descriptor {number} .* no longer below the directory '/data'"):
        program.snapshot()
    with pytest.raises(wl.WasmError, match=rf"file descriptor {number} of the guest, '/data/a/moved': No such file"):
        kept.restore(wasi=Wasi(preopens={"/data": world}))
    os.mkfifo(world / "a" / "moved")
    with pytest.raises(wl.WasmError, match="another kind of file"):
        kept.restore(wasi=Wasi(preopens={"/data": world}))


def test_what_the_new_world_lacks(world: Path) -> None:
    program = Program.made(Wasi(preopens={"/data": world}, stdin=b""))
    kept = program.snapshot()
    with pytest.raises(wl.WasmError, match=r"the directory '/data' open: give restore\(\) a Wasi"):
        kept.restore(wasi=Wasi(preopens={"/other": world}))
    code, number = program.open(b"file", rights=ALL_RIGHTS)
    kept = program.snapshot()
    with pytest.raises(wl.WasmError, match="open for writing, and the directory is ReadOnly"):
        kept.restore(wasi=Wasi(preopens={"/data": ReadOnly(world)}))
    with pytest.raises(wl.WasmError, match="max_files"):
        kept.restore(wasi=Wasi(preopens={"/data": world}, max_files=0))
    used = Wasi(preopens={"/data": world})
    assert Program.of(kept, used).read(number, 5) == (0, b"hello")
    with pytest.raises(ValueError, match="no guest has used"):
        kept.restore(wasi=used)
    with pytest.raises(TypeError, match=r"wasmloom\.Wasi"):
        kept.restore(wasi=[1])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="1 programs' state"):
        kept.restore(wasi=[Wasi(), Wasi()])
    os.mkfifo(world / "pipe")
    code, number = program.open(b"pipe", rights=ALL_RIGHTS, flags=FdFlags.NONBLOCK)
    assert code == 0
    with pytest.raises(wl.WasmError, match=rf"descriptor {number} of the guest is neither a file on disk"):
        program.snapshot()


def test_clocks_go_on(world: Path) -> None:
    program = Program.made(Wasi())
    kept = program.snapshot()
    before = [program.now(i) for i in range(4)]
    time.sleep(0.02)
    copy = Program.of(kept, Wasi())
    third = copy.again(Wasi())
    # Not the real time: the guest hasn't run in between.
    assert all(clock.now(MONOTONIC) >= before[MONOTONIC] - 10**9 for clock in (copy, third))
    assert copy.now(0) >= before[0] + 2 * 10**7
    now = copy.now(MONOTONIC)
    assert copy.poll(clock(5, MONOTONIC, now + 10**7, 1)) == (0, [(5, 0, 0, 0, 0)])
    assert copy.now(MONOTONIC) >= now + 10**7
    assert copy.poll(clock(6, MONOTONIC, 1, 1)) == (0, [(6, 0, 0, 0, 0)])  # it is over


def test_a_clock_of_another_machine(world: Path) -> None:
    """That has run for ten years, or has just been started: the guest's time goes on."""
    program = Program.made(Wasi())
    for ahead in (10 * 365 * 86400 * 10**9, -(10**9), -(1 << 62)):
        context = program.instance._wasi
        context.offsets = (0, ahead, ahead, ahead)
        kept = program.snapshot()
        then = program.now(MONOTONIC)
        copy = Program.of(kept, Wasi())
        assert 0 <= copy.now(MONOTONIC) - then + 10**9 < 60 * 10**9


def _listed(program: Program, fd: int, cookie: int, size: int) -> list[tuple[bytes, int]]:
    """Names and the cookies behind them, of one buffer."""
    buffer, result = program.room(size), program.room(4)
    assert program.call("fd_readdir", fd, buffer, size, cookie, result) == 0
    data = bytes(program.memory[buffer : buffer + program.u32(result)])
    found = []
    while len(data) >= DIRENT.size:
        following, _, length, _ = DIRENT.unpack_from(data)
        if len(data) < DIRENT.size + length:
            break
        found.append((data[DIRENT.size : DIRENT.size + length], following))
        data = data[DIRENT.size + length :]
    return found


def test_a_directory_is_read_on(world: Path, tmp_path: Path) -> None:
    """Also in another directory, whose positions are others: the rest is what there was."""
    for i in range(400):
        (world / f"{i:03}-{'x' * 60}").touch()
    program = Program.made(Wasi(preopens={"/": world}))
    whole: set[bytes] = set(program.entries(3))
    program.reset()
    first = _listed(program, 3, 0, 500)
    kept = program.snapshot()
    other = tmp_path / "other"
    other.mkdir()
    (other / "unknown").touch()
    for copy in (program, Program.of(kept, Wasi(preopens={"/": other}))):
        seen, cookie = [name for name, _ in first], first[-1][1]
        copy._top = 1 << 18
        while part := _listed(copy, 3, cookie, 500):
            copy._top = 1 << 18
            seen += [name for name, _ in part]
            cookie = part[-1][1]
        assert len(seen) == len(whole) and {*seen} == whole
    again = Program.of(kept, Wasi(preopens={"/": other}))
    # In the middle of it once more, and from the beginning.
    _listed(again, 3, first[-1][1], 500)
    third = again.again(Wasi(preopens={"/": other}))
    assert len(_listed(third, 3, third.instance._wasi.table[3]._unread[0], 1 << 16)) > 300
    assert {name for name, _ in _listed(third, 3, 0, 500)} == {b".", b"..", b"unknown"}


def test_functions_from_imports_are_part_of_it_too(world: Path) -> None:
    wasi = Wasi(args=["a"], preopens={"/": world})
    instance = wl.Instance(MODULE, wasi.imports())
    assert Program.of(wl.Snapshot.take(instance.store), Wasi(preopens={"/": world})).strings("args") == [b"a"]
    # Whoever gives the functions gets what they give.
    copy = Program(wl.Snapshot.take(instance.store).restore(imports=Wasi(args=["b"]).imports()).instances[0])
    assert copy.strings("args") == [b"b"]


def test_two_worlds_in_a_store() -> None:
    store = wl.Store(MODULE.engine)
    for name in ("a", "b"):
        Wasi(args=[name]).instantiate(MODULE, store=store)
    copies = wl.Snapshot.take(store).restore(wasi=[Wasi(), Wasi()]).instances
    assert [Program(copy).strings("args") for copy in copies] == [[b"a"], [b"b"]]


def test_another_process(world: Path, tmp_path: Path) -> None:
    program = Program.made(Wasi(args=["p"], preopens={"/w": world}))
    number = program.open(b"file", rights=ALL_RIGHTS)[1]
    assert program.read(number, 7) == (0, b"hello, ")
    (tmp_path / "a.pickle").write_bytes(pickle.dumps(wl.Snapshot.take(program.instance.store)))
    source = f"""import pickle, sys
from tests.snapshot.test_wasi_state import Program, Wasi
copy = Program.of(pickle.load(open(sys.argv[1], "rb")), Wasi(preopens={{"/w": sys.argv[2]}}))
print(copy.strings("args"), copy.read({number}, 99))"""
    done = subprocess.run(
        [sys.executable, "-c", source, tmp_path / "a.pickle", world],
        capture_output=True, text=True, timeout=FOREVER, check=True,
    )  # fmt: skip
    assert done.stdout == "[b'p'] (<Errno.SUCCESS: 0>, b'world')\n"


# --- states that anyone may have made ---

SOME = OpenFile(5, FILE, b"/w", b"file", os.O_RDWR, 0, int(Rights.FD_READ), 0, 3, None)
STATE = WasiState(
    (0,), (b"p",), (b"A=1",), (1, 2, 3), 9, (4, 6),
    (
        OpenFile(0, STREAM, b"stdin", b"", 0, 0, 0, 0, 0, None),
        OpenFile(3, PREOPEN, b"/w", b"", 0, 0, int(Rights.FD_READDIR | Rights.PATH_OPEN), 0, 0, None),
        SOME,
        OpenFile(7, DIRECTORY, b"/w", b"a", 0, 0, 0, 0, 0, None),
    ),
)  # fmt: skip


def _changed(**changes: Any) -> WasiState:
    return STATE._replace(files=(*STATE.files[:2], SOME._replace(**changes), *STATE.files[3:]))


@pytest.mark.parametrize(
    "state",
    [
        STATE._replace(instances=(1,)), STATE._replace(instances=()), STATE._replace(args=(b"a\0b",)),
        STATE._replace(clocks=(1, 2)), STATE._replace(clocks=(1, 2, 1 << 63)), STATE._replace(following=7),
        STATE._replace(following=1 << 31), STATE._replace(freed=(4, 5)), STATE._replace(freed=(4, 9)),
        STATE._replace(files=(STATE.files[0], STATE.files[0]._replace(number=1))),
        STATE._replace(files=STATE.files[::-1]),
        _changed(kind=4), _changed(rights=1 << 40), _changed(inheriting=1), _changed(flags=32),
        _changed(offset=1 << 63), _changed(access=3), _changed(path=b""), _changed(path=b"a\0b"),
        _changed(listing=(1, ())),
        _changed(kind=PREOPEN), _changed(kind=DIRECTORY), _changed(kind=STREAM),
    ],
)  # fmt: skip
def test_states_that_cannot_be(state: WasiState) -> None:
    check(STATE, 1)
    with pytest.raises(wl.WasmError, match="damaged snapshot: WASI"):
        check(state, 1)


PATHS = [b"file", b"a", b"a/b/leaf", b"..", b"../secret", b"/etc/passwd", b"a/../../secret", b"link", b".", b"x"]


@given(
    st.sampled_from([b"/w", b"/", b""]), st.sampled_from(PATHS), st.sampled_from([FILE, DIRECTORY]),
    st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR]), st.integers(0, 31), st.integers(0, ALL_RIGHTS),
    st.integers(0, 1 << 64),
)  # fmt: skip
def test_nothing_outside_is_opened(
    tmp_path_factory: pytest.TempPathFactory, name: bytes, path: bytes, kind: int, access: int, flags: int, rights: int,
    offset: int,
) -> None:  # fmt: skip
    root = tmp_path_factory.mktemp("hostile")
    (root / "secret").write_text("secret")
    inside = root / "inside"
    (inside / "a" / "b").mkdir(parents=True)
    (inside / "file").write_text("fine")
    (inside / "a" / "b" / "leaf").write_text("fine")
    (inside / "link").symlink_to("../secret")
    file = OpenFile(5, kind, name, path, access, flags, rights, 0, offset, None)
    with Wasi(preopens={"/w": ReadOnly(inside)}) as wasi:
        state = STATE._replace(files=(STATE.files[1], file))
        try:
            check(state, 1)
            from wasmloom.wasi.saving import take_over

            take_over(wasi._context, state)
        except wl.WasmError:
            return
        opened = wasi._context.table[5]
        assert os.readlink(f"/proc/self/fd/{opened.fileno()}").startswith(str(inside))
        assert opened.read_only
        with pytest.raises((OSError, WasiError)):
            opened.write([memoryview(b"x")])
    assert (root / "secret").read_text() == "secret" and (inside / "file").read_text() == "fine"
