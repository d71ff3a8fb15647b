"""What a guest can make the host hold: open files, buffers, caches; and when the host gives it back."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import subprocess
import sys
import threading
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import pytest

import wasmloom as wl
from tests.patience import FOREVER
from tests.wasi.guest import PREOPEN, Guest, open_files
from tests.wasi.programs import errno_of, moving, opening
from wasmloom.wasi import Errno, Wasi
from wasmloom.wasi.abi import DIRECTORY_RIGHTS, NARROW, Rights
from wasmloom.wasi.memory import CHUNK

READ = int(Rights.FD_READ)


@pytest.mark.usefixtures("tier")
def test_a_guest_has_so_many_files(world: Path) -> None:
    with Wasi(preopens={"/": world}, max_files=5) as wasi:
        instance = wasi.instantiate(opening(b"file", READ, again=True))
        wasi.start(instance)
        assert errno_of(instance) == Errno.EMFILE
        guest = Guest(wasi)
        before = open_files(world)
        assert guest.open(b"new", oflags=1, rights=READ)[0] == Errno.EMFILE
        assert open_files(world) == before and not (world / "new").exists()
        assert guest.call("fd_close", PREOPEN + 1) == 0
        assert guest.open(b"file") == (0, PREOPEN + 1)
        assert guest.open(b"file")[0] == Errno.EMFILE
    with Wasi(preopens={"/": world}, max_files=0) as wasi:
        assert Guest(wasi).open(b"file")[0] == Errno.EMFILE
    with pytest.raises(ValueError, match="max_files"):
        Wasi(max_files=-1)


FEW = """
import os, resource, sys
import wasmloom as wl
from tests.wasi.guest import Guest
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
folder = sys.argv[1]
guests = [Guest(wl.Wasi(preopens={"/": folder})) for _ in range(5)]
codes = set()
for guest in guests:
    for _ in range(300):
        codes.add(guest.open(b"file", rights=2)[0].name)
        guest.reset()
deep = guests[0].open(b"d/" * 150 + b"x")[0].name
mine = [os.open(folder, os.O_RDONLY) for _ in range(40)]
print(sorted(codes), deep)
"""


def test_the_host_keeps_descriptors_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "/".join("d" * 150)).mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", FEW, tmp_path], capture_output=True, text=True, check=False, timeout=FOREVER
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["['ENFILE',", "'SUCCESS']", "ENFILE"]


class Sink:
    """A stream of either kind that remembers how much it got at once."""

    def __init__(self) -> None:
        self.largest = self.total = 0

    def write(self, data: bytes) -> None:
        self.largest = max(self.largest, len(data))
        self.total += len(data)


class AsyncSink(Sink):
    async def drain(self) -> None:
        pass


@pytest.mark.usefixtures("tier")
@pytest.mark.parametrize("kind", [Sink, AsyncSink])
def test_vectors_that_overlap_name_no_more_than_memory(kind: type[Sink]) -> None:
    """1024 times 4 MiB would be 4 GiB; what the guest has is 8 MiB."""
    sink = kind()
    with Wasi(stdin=b"", stdout=sink) as wasi:
        instance = wasi.instantiate(moving("fd_write", 1, 4 << 20, vectors=1024, pages=128))
        if kind is AsyncSink:
            asyncio.run(wasi.start_async(instance))
        else:
            wasi.start(instance)
    assert errno_of(instance) == 0
    assert sink.total == 8 << 20 and sink.largest <= CHUNK


def test_short_vectors_that_overlap_name_no_more_than_memory() -> None:
    sink = Sink()
    with Wasi(stdin=b"", stdout=sink) as wasi:
        instance = wasi.instantiate(moving("fd_write", 1, 40000, vectors=1024, pages=1))
        wasi.start(instance)
    assert errno_of(instance) == 0 and sink.total == 1 << 16


def test_streams_are_asked_for_a_chunk_at_most() -> None:
    asked: list[int] = []

    class Source:
        def read(self, size: int) -> bytes:
            asked.append(size)
            return b"x"

    with Wasi(stdin=Source()) as wasi:
        guest = Guest(wasi, size=4 << 20)
        assert guest.read(0, 3 << 20) == (0, b"x")
    assert asked == [CHUNK]


def entries_one_by_one(guest: Guest, fd: int, between: Any = None) -> list[bytes]:
    """Names of a directory, read with a buffer for few of them."""
    from wasmloom.wasi.abi import DIRENT

    found: list[bytes] = []
    cookie = 0
    buffer, result = guest.room(100), guest.room(4)
    while True:
        assert guest.call("fd_readdir", fd, buffer, 100, cookie, result) == 0
        used = guest.u32(result)
        data = bytes(guest.memory[buffer : buffer + used])
        names = []
        while len(data) >= DIRENT.size:
            following, _, length, _ = DIRENT.unpack_from(data)
            if len(data) < DIRENT.size + length:
                break
            names.append(data[DIRENT.size : DIRENT.size + length])
            data = data[DIRENT.size + length :]
            cookie = following
        found += names
        if between is not None:
            between(names)
        if used < 100:
            return found


def test_large_directories_take_no_memory(guest: Guest, world: Path) -> None:
    names = {b"entry %d" % i for i in range(2000)}
    for name in names:
        (world / "a" / os.fsdecode(name)).touch()
    code, fd = guest.open(b"a", rights=int(DIRECTORY_RIGHTS))
    assert code == 0
    entries_one_by_one(guest, PREOPEN)
    tracemalloc.start()
    try:
        found = guest.entries(fd, 300)
        del found
        before = tracemalloc.get_traced_memory()[0]
        result = guest.room(4)
        guest.call("fd_readdir", fd, guest.room(64), 64, 0, result)
        tracemalloc.reset_peak()
        guest.call("fd_readdir", fd, guest.room(64), 64, 0, result)
        assert tracemalloc.get_traced_memory()[1] - before < 1 << 16
    finally:
        tracemalloc.stop()
    assert set(entries_one_by_one(guest, fd)) == names | {b".", b"..", b"b"}


def test_what_goes_while_a_directory_is_read_hides_nothing(guest: Guest, world: Path) -> None:
    """As `rm -r` does it."""
    for i in range(500):
        (world / "a" / f"entry {i}").touch()
    code, fd = guest.open(b"a", rights=int(DIRECTORY_RIGHTS))
    assert code == 0

    def remove(names: list[bytes]) -> None:
        for name in names:
            if name.startswith(b"entry"):
                assert guest.call("path_unlink_file", fd, *guest.path(name)) == 0

    found = entries_one_by_one(guest, fd, remove)
    assert len(found) == len(set(found)) == 503
    assert os.listdir(world / "a") == ["b"]


@pytest.mark.parametrize("cycle", [False, True])
def test_what_is_dropped_is_closed(world: Path, cycle: bool) -> None:
    before = open_files(world)
    wasi = Wasi(stdin=b"", preopens={"/": world})
    guest = Guest(wasi)
    for path in (b"file", b"a"):
        assert guest.open(path)[0] == 0
    assert len(open_files(world)) == len(before) + 3
    if cycle:
        guest.memory_of = (guest, wasi)  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del wasi, guest
        gc.collect()
    assert open_files(world) == before


LEFT_OPEN = """
import sys, wasmloom as wl
wasi = wl.Wasi(stdin=b"", preopens={"/": sys.argv[1]})
wasi.me = wasi
sys.keep = wasi
"""


def test_what_is_left_open_makes_no_noise_at_exit(world: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", LEFT_OPEN, world]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FOREVER)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("tier")
def test_what_is_used_after_it_was_closed(world: Path) -> None:
    module = opening(b"file", READ)
    wasi = Wasi(stdin=b"", preopens={"/": world})
    instance = wasi.instantiate(module)
    guest = Guest(wasi)
    wasi.close()
    wasi.close()
    for use in (lambda: wasi.start(instance), lambda: wasi.run(module), wasi.imports, lambda: wasi.instantiate(module)):
        with pytest.raises(ValueError, match="closed"):
            use()
    with pytest.raises(ValueError, match="closed"):
        asyncio.run(wasi.start_async(instance))
    assert guest.open(b"file")[0] == Errno.EBADF
    instance.exports._start()
    assert errno_of(instance) == Errno.EBADF


def test_a_file_in_use_is_closed_by_its_last_user(world: Path) -> None:
    """Else the host could give its number to a file of its own, which the guest would then read."""
    with Wasi(stdin=b"", preopens={"/": world}) as wasi:
        guest = Guest(wasi)
        code, fd = guest.open(b"file", rights=READ)
        assert code == 0
        file = wasi._context.table.pin(fd)
        assert guest.call("fd_close", fd) == 0
        assert guest.call("fd_close", fd) == Errno.EBADF
        os.fstat(file.fileno())
        file.unpin()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(file.fileno())


def test_threads_share_a_wasi(world: Path) -> None:
    before = open_files(world)
    failures: list[object] = []
    with Wasi(stdin=b"", preopens={"/": world}, max_files=20) as wasi:
        guests = [Guest(wasi) for _ in range(4)]

        def work(guest: Guest, seed: int) -> None:
            try:
                for i in range(150):
                    guest.reset()
                    code, fd = guest.open(b"file", rights=READ)
                    assert code in (0, Errno.EMFILE)
                    # Also those of others.
                    for other in (4 + (i + seed) % 8, fd if code == 0 else 5):
                        code, data = guest.read(other, 5)
                        assert code in (0, Errno.EBADF) and data in (b"", b"hello"), (code, data)
                        assert guest.call("fd_close", other) in (0, Errno.EBADF)
            except BaseException as error:
                failures.append(error)

        # Each has a memory of its own, as instances do.
        for guest in guests:
            context = wasi._context.another(NARROW)
            context.bind(guest.memory)
            from wasmloom.wasi import _bind

            guest.functions = {name: _bind(context, name) for name in guest.functions}
        threads = [threading.Thread(target=work, args=(guest, i)) for i, guest in enumerate(guests)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert open_files(world) == before


@pytest.mark.usefixtures("tier")
def test_instances_of_one_wasi_have_their_own_memories() -> None:
    out = io.BytesIO()
    with Wasi(stdin=b"", stdout=out) as wasi:
        one = wasi.instantiate(moving("fd_write", 1, 3))
        other = wasi.instantiate(moving("fd_write", 1, 3))
        for instance, text in ((one, b"one"), (other, b"two")):
            instance.exports.memory[8192:8195] = text
        for instance in (one, other, one):
            wasi.start(instance)
    assert out.getvalue() == b"onetwoone"


def test_no_memory_is_an_error_number(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(size: int) -> bytes:
        raise MemoryError

    monkeypatch.setattr(os, "urandom", no_memory)
    assert guest.call("random_get", 0, 8) == Errno.ENOMEM


def test_limits_have_defaults() -> None:
    with Wasi() as wasi:
        assert wasi._context.table.max_files == 256
    assert wl.Wasi is Wasi
