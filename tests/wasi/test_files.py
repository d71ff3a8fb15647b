"""Reading, writing, seeking, directories, rights and times."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from tests.wasi.guest import ALL_RIGHTS, PREOPEN, Guest
from wasmloom.wasi import Errno, ReadOnly, Wasi
from wasmloom.wasi.abi import (
    DIRECTORY_RIGHTS,
    FILESTAT,
    NARROW,
    FdFlags,
    FileType,
    OpenFlags,
    Rights,
    TimeFlags,
)

CREATE = OpenFlags.CREAT


def opened(guest: Guest, path: bytes, **options: int) -> int:
    options.setdefault("rights", ALL_RIGHTS)
    code, fd = guest.open(path, **options)
    assert code == 0
    return fd


def test_write_read_seek_tell(guest: Guest, world: Path) -> None:
    fd = opened(guest, b"new", oflags=CREATE | OpenFlags.EXCL)
    assert guest.write(fd, b"one ", b"", b"two") == (0, 7)
    result = guest.room(8)
    assert guest.call("fd_tell", fd, result) == 0 and guest.u64(result) == 7
    assert guest.call("fd_seek", fd, -3, 1, result) == 0 and guest.u64(result) == 4
    assert guest.read(fd, 100) == (0, b"two")
    assert guest.read(fd, 100) == (0, b"")
    assert guest.call("fd_seek", fd, 0, 2, result) == 0 and guest.u64(result) == 7
    assert guest.call("fd_seek", fd, -8, 0, result) == Errno.EINVAL
    assert guest.call("fd_seek", fd, 0, 3, result) == Errno.EINVAL
    assert guest.call("fd_sync", fd) == guest.call("fd_datasync", fd) == 0
    assert guest.call("fd_close", fd) == 0
    assert guest.call("fd_close", fd) == Errno.EBADF
    assert (world / "new").read_bytes() == b"one two"
    assert guest.open(b"new", oflags=CREATE | OpenFlags.EXCL)[0] == Errno.EEXIST
    assert guest.open(b"new", oflags=OpenFlags.TRUNC, rights=ALL_RIGHTS)[0] == 0
    assert (world / "new").read_bytes() == b""


def test_telling_is_seeking_by_nothing(guest: Guest, world: Path) -> None:
    """What has no position says so in both ways."""
    reader, writer = os.pipe()
    host, terminal = os.openpty()
    result = guest.room(8)
    for path, some, code in ((b"file", ALL_RIGHTS, Errno.SUCCESS), (b"a", int(DIRECTORY_RIGHTS), Errno.EBADF)):
        fd = opened(guest, path, rights=some)
        assert guest.call("fd_tell", fd, result) == guest.call("fd_seek", fd, 0, 1, result) == code
    for rights, code in ((Rights.FD_TELL, 0), (Rights.FD_SEEK, 0), (Rights.FD_READ, Errno.ENOTCAPABLE)):
        fd = opened(guest, b"file", rights=int(rights))
        assert guest.call("fd_tell", fd, result) == guest.call("fd_seek", fd, 0, 1, result) == code
    for stream in (b"", reader, terminal):
        with Wasi(stdin=stream) as wasi:
            other = Guest(wasi)
            assert other.call("fd_tell", 0, 64) == other.call("fd_seek", 0, 0, 1, 64) == Errno.ESPIPE
            vector = other.put(NARROW.iovec.pack(1024, 8))
            assert other.call("fd_pread", 0, vector, 1, 0, 64) == Errno.ESPIPE
    for number in (reader, writer, host, terminal):
        os.close(number)


def test_names_that_are_not_text(guest: Guest, world: Path) -> None:
    """A guest sees what the host has, but can't name it: its own strings are UTF-8."""
    (world / os.fsdecode(b"a/\xff\xfe")).touch()
    (world / "link").symlink_to(os.fsdecode(b"\xff"))
    fd = opened(guest, b"a", rights=int(DIRECTORY_RIGHTS))
    assert set(guest.entries(fd)) == {b".", b"..", b"b", b"\xff\xfe"}
    assert guest.readlink(b"link") == (0, b"\xff")
    assert guest.stat(b"link")[0] == Errno.ENOENT
    for name in (b"a/\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80"):
        assert guest.open(name)[0] == Errno.EILSEQ
        assert guest.call("path_symlink", *guest.path(name), PREOPEN, *guest.path(b"x")) == Errno.EILSEQ
        assert guest.call("path_symlink", *guest.path(b"x"), PREOPEN, *guest.path(name)) == Errno.EILSEQ
    assert guest.call("path_symlink", *guest.path(b"a\0"), PREOPEN, *guest.path(b"x")) == Errno.EINVAL


def test_an_entry_is_cut_where_the_buffer_ends(guest: Guest, world: Path) -> None:
    """However small the buffer is, the guest sees that there is more."""
    result = guest.room(4)
    buffer = guest.room(400)
    fd = opened(guest, b"a", rights=int(DIRECTORY_RIGHTS))
    assert guest.call("fd_readdir", fd, buffer, 400, 0, result) == 0
    whole = guest.u32(result)
    everything = bytes(guest.memory[buffer : buffer + whole])
    for size in range(0, whole + 1):
        assert guest.call("fd_readdir", fd, buffer, size, 0, result) == 0
        assert guest.u32(result) == size
        assert guest.memory[buffer : buffer + size] == everything[:size]
    assert guest.call("fd_readdir", fd, buffer, whole + 1, 0, result) == 0 and guest.u32(result) == whole


def test_large_files_move_in_chunks(wasi: Wasi, world: Path) -> None:
    data = bytes(range(256)) * 3000
    guest = Guest(wasi, size=1 << 21)
    fd = opened(guest, b"big", oflags=CREATE)
    assert guest.write(fd, data[:500_000], data[500_000:]) == (0, len(data))
    assert (world / "big").read_bytes() == data
    guest.reset()
    assert guest.call("fd_seek", fd, 0, 0, guest.room(8)) == 0
    assert guest.read(fd, 1 << 20) == (0, data)
    guest.reset()
    buffer, result = guest.room(600_000), guest.room(4)
    vectors = guest.put(NARROW.iovec.pack(buffer, 300_000) + NARROW.iovec.pack(buffer + 300_000, 300_000))
    assert guest.call("fd_pread", fd, vectors, 2, 1000, result) == 0
    assert guest.u32(result) == 600_000 and guest.memory[buffer : buffer + 600_000] == data[1000:601_000]
    assert guest.call("fd_pwrite", fd, vectors, 2, 0, result) == 0 and guest.u32(result) == 600_000
    assert (world / "big").read_bytes()[:600_000] == data[1000:601_000]


def test_positioned_reads_and_writes(guest: Guest, world: Path) -> None:
    fd = opened(guest, b"file")
    buffer, result = guest.room(8), guest.room(4)
    vector = guest.put(NARROW.iovec.pack(buffer, 8))
    assert guest.call("fd_pread", fd, vector, 1, 1, result) == 0
    assert guest.u32(result) == 4 and guest.memory[buffer : buffer + 4] == b"ello"
    vector = guest.put(NARROW.iovec.pack(guest.put(b"ALP"), 3))
    assert guest.call("fd_pwrite", fd, vector, 1, 2, result) == 0
    assert (world / "file").read_bytes() == b"heALP"
    assert guest.read(fd, 5) == (0, b"heALP")
    assert guest.call("fd_pread", fd, vector, 1, 1 << 63, result) == Errno.EINVAL
    assert guest.call("fd_pread", fd, vector, 1, -1, result) == Errno.EINVAL


def test_sizes(guest: Guest, world: Path) -> None:
    fd = opened(guest, b"file")
    assert guest.call("fd_filestat_set_size", fd, 2) == 0
    assert (world / "file").read_bytes() == b"he"
    assert guest.call("fd_allocate", fd, 0, 10) == 0
    assert (world / "file").stat().st_size == 10
    assert guest.call("fd_allocate", fd, 1 << 63, 10) == Errno.EINVAL
    assert guest.call("fd_filestat_set_size", fd, -1) == Errno.EINVAL
    for advice, code in ((0, 0), (5, 0), (6, Errno.EINVAL)):
        assert guest.call("fd_advise", fd, 0, 10, advice) == code


def test_append(guest: Guest, world: Path) -> None:
    fd = opened(guest, b"file", flags=int(FdFlags.APPEND))
    assert guest.fdstat(fd)[1][1] == FdFlags.APPEND
    guest.write(fd, b"!")
    assert guest.call("fd_fdstat_set_flags", fd, 0) == 0
    guest.call("fd_seek", fd, 0, 0, guest.room(8))
    guest.write(fd, b"H")
    assert (world / "file").read_bytes() == b"Hello!"
    assert guest.call("fd_fdstat_set_flags", fd, int(FdFlags.SYNC)) == Errno.ENOTSUP
    assert guest.call("fd_fdstat_set_flags", fd, 32) == Errno.EINVAL


def test_what_was_not_asked_for_is_not_allowed(guest: Guest, world: Path) -> None:
    fd = opened(guest, b"file", rights=int(Rights.FD_READ))
    assert guest.write(fd, b"x")[0] == Errno.EBADF
    assert guest.call("fd_filestat_set_size", fd, 0) == Errno.ENOTCAPABLE
    fd = opened(guest, b"file", rights=int(Rights.FD_WRITE))
    assert guest.read(fd, 1)[0] == Errno.EBADF
    assert guest.call("fd_fdstat_set_rights", fd, ALL_RIGHTS, 0) == Errno.ENOTCAPABLE
    assert guest.call("fd_fdstat_set_rights", fd, 0, 0) == 0
    assert guest.write(fd, b"x")[0] == Errno.EBADF
    # What a directory may not hand on, files below it don't get.
    code, fd = guest.open(b"a/b", rights=int(DIRECTORY_RIGHTS), inheriting=int(Rights.FD_READ))
    assert code == 0
    fd = opened(guest, b"leaf", base=fd)
    assert guest.write(fd, b"x")[0] == Errno.EBADF
    assert guest.read(fd, 4) == (0, b"leaf")
    # A directory without the right to create can't.
    code, fd = guest.open(b"a", rights=int(DIRECTORY_RIGHTS & ~Rights.PATH_CREATE_FILE))
    assert guest.open(b"x", base=fd, oflags=CREATE)[0] == Errno.ENOTCAPABLE


def test_directories(guest: Guest, world: Path) -> None:
    for i in range(40):
        (world / "a" / f"entry {i}").touch()
    (world / "a" / "link").symlink_to("b")
    fd = opened(guest, b"a", rights=int(DIRECTORY_RIGHTS))
    for size in (64, 300, 1 << 14):
        found = guest.entries(fd, size)
        assert set(found) == {b".", b"..", b"b", b"link"} | {b"entry %d" % i for i in range(40)}
        assert found[b"b"] == ((world / "a" / "b").stat().st_ino, FileType.DIRECTORY)
        assert found[b"link"][1] == FileType.SYMBOLIC_LINK
        assert found[b"entry 7"][1] == FileType.REGULAR_FILE
        assert found[b".."][0] == found[b"."][0] == (world / "a").stat().st_ino
    buffer, result = guest.room(64), guest.room(4)
    assert guest.call("fd_readdir", fd, buffer, 64, 1 << 63, result) == Errno.EINVAL
    assert guest.read(fd, 4)[0] == Errno.EBADF
    assert guest.call("fd_seek", fd, 0, 0, result) == Errno.EBADF
    file = opened(guest, b"file")
    assert guest.call("path_create_directory", file, *guest.path(b"x")) == Errno.ENOTCAPABLE


def test_making_and_removing(guest: Guest, world: Path) -> None:
    path = guest.path
    assert guest.call("path_create_directory", PREOPEN, *path(b"d/")) == 0
    assert guest.call("path_create_directory", PREOPEN, *path(b"d")) == Errno.EEXIST
    assert guest.call("path_symlink", *path(b"../file"), PREOPEN, *path(b"d/l")) == 0
    assert guest.readlink(b"d/l") == (0, b"../file")
    assert guest.readlink(b"d/l", 4) == (0, b"../f")
    assert guest.readlink(b"file")[0] == Errno.EINVAL
    assert guest.call("path_remove_directory", PREOPEN, *path(b"d")) == Errno.ENOTEMPTY
    assert guest.call("path_unlink_file", PREOPEN, *path(b"d")) in (Errno.EISDIR, Errno.EPERM)
    assert guest.call("path_unlink_file", PREOPEN, *path(b"d/")) == Errno.EISDIR
    assert guest.call("path_unlink_file", PREOPEN, *path(b"file/")) == Errno.ENOTDIR
    assert guest.call("path_unlink_file", PREOPEN, *path(b"d/l")) == 0
    assert guest.call("path_rename", PREOPEN, *path(b"d"), PREOPEN, *path(b"a/e/")) == 0
    assert guest.call("path_rename", PREOPEN, *path(b"file/"), PREOPEN, *path(b"g")) == Errno.ENOTDIR
    assert guest.call("path_remove_directory", PREOPEN, *path(b"a/e/")) == 0
    assert guest.call("path_remove_directory", PREOPEN, *path(b"file")) == Errno.ENOTDIR
    assert guest.call("path_link", PREOPEN, 0, *path(b"file"), PREOPEN, *path(b"a/hard")) == 0
    assert (world / "a" / "hard").samefile(world / "file")
    assert guest.call("path_link", PREOPEN, 1, *path(b"file"), PREOPEN, *path(b"h")) == Errno.EINVAL
    assert guest.stat(b"file")[1][3] == 2


def test_times(guest: Guest, world: Path) -> None:
    both = TimeFlags.ATIM | TimeFlags.MTIM
    assert guest.call("path_filestat_set_times", PREOPEN, 1, *guest.path(b"file"), 10**18, 2 * 10**18 + 7, both) == 0
    assert guest.stat(b"file")[1][5:7] == (10**18, 2 * 10**18 + 7)
    fd = opened(guest, b"file")
    assert guest.call("fd_filestat_set_times", fd, 5 * 10**17, 0, TimeFlags.ATIM) == 0
    result = guest.room(FILESTAT.size)
    assert guest.call("fd_filestat_get", fd, result) == 0
    assert guest.unpack(FILESTAT, result)[5:7] == (5 * 10**17, 2 * 10**18 + 7)
    assert guest.call("fd_filestat_set_times", fd, 0, 0, TimeFlags.MTIM_NOW) == 0
    assert (world / "file").stat().st_mtime_ns != 2 * 10**18 + 7
    for flags in (TimeFlags.ATIM | TimeFlags.ATIM_NOW, TimeFlags.MTIM | TimeFlags.MTIM_NOW, 16):
        assert guest.call("fd_filestat_set_times", fd, 0, 0, flags) == Errno.EINVAL


def test_preopens(world: Path) -> None:
    with Wasi(preopens={"/": world, "/sub/dir": world / "a"}) as wasi:
        guest = Guest(wasi)
        result, name = guest.room(8), guest.room(16)
        for fd, expected in ((3, b"/"), (4, b"/sub/dir")):
            assert guest.call("fd_prestat_get", fd, result) == 0
            assert guest.unpack(NARROW.prestat, result) == (0, len(expected))
            assert guest.call("fd_prestat_dir_name", fd, name, len(expected)) == 0
            assert guest.memory[name : name + len(expected)] == expected
            assert guest.call("fd_prestat_dir_name", fd, name, len(expected) - 1) == Errno.ENAMETOOLONG
        for fd in (1, 5, -1):
            assert guest.call("fd_prestat_get", fd, result) == Errno.EBADF
        fd = opened(guest, b"b", base=4, rights=int(DIRECTORY_RIGHTS))
        assert guest.call("fd_prestat_get", fd, result) == Errno.EBADF


def test_numbers_are_reused_lowest_first(guest: Guest) -> None:
    first, second, third = (opened(guest, b"file") for _ in range(3))
    assert (first, second, third) == (4, 5, 6)
    assert guest.call("fd_renumber", third, first) == 0
    assert guest.call("fd_renumber", third, first) == Errno.EBADF
    assert guest.read(first, 2) == (0, b"he")
    assert guest.call("fd_close", second) == 0
    assert [opened(guest, b"file") for _ in range(3)] == [5, 6, 7]
    assert guest.call("fd_renumber", 5, 5) == 0
    assert guest.read(5, 2) == (0, b"he")


def test_python_streams() -> None:
    out = io.BytesIO()
    with Wasi(stdin=b"some input", stdout=out, stderr=io.BytesIO()) as wasi:
        guest = Guest(wasi)
        assert guest.write(1, b"hello ", b"", b"world") == (0, 11)
        assert guest.read(0, 4) == (0, b"some")
        assert guest.read(0, 100) == (0, b" input")
        assert guest.read(0, 100) == (0, b"")
        assert guest.write(0, b"x")[0] == guest.read(1, 1)[0] == Errno.EBADF
        assert guest.call("fd_seek", 1, 0, 0, guest.room(8)) == Errno.ESPIPE
        assert guest.fdstat(1)[1][0] == FileType.UNKNOWN  # `BytesIO.isatty()`: it is no terminal
        assert guest.call("fd_filestat_get", 1, guest.room(64)) == 0
        assert guest.call("fd_sync", 1) == 0
    assert out.getvalue() == b"hello world"


def test_host_descriptors_as_streams(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    with Wasi(stdin=b"", stderr=log) as wasi:
        guest = Guest(wasi)
        guest.write(1, b"inherited\n")
        guest.write(2, b"to the file")
    os.close(log)
    assert capfd.readouterr().out == "inherited\n"
    assert (tmp_path / "log").read_text() == "to the file"


def test_flags_of_borrowed_descriptors_are_the_guest_s_own(tmp_path: Path) -> None:
    """Others use the same open file: that it doesn't block, or appends, holds for this guest alone."""
    reader, writer = os.pipe()
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    os.write(log, b"12345")
    os.lseek(log, 0, os.SEEK_SET)
    with Wasi(stdin=reader, stdout=log) as wasi:
        guest = Guest(wasi)
        assert guest.call("fd_fdstat_set_flags", 0, int(FdFlags.NONBLOCK)) == 0
        assert guest.fdstat(0)[1][1] == FdFlags.NONBLOCK
        assert guest.read(0, 1)[0] == Errno.EAGAIN
        assert os.get_blocking(reader)
        assert guest.call("fd_fdstat_set_flags", 1, int(FdFlags.APPEND)) == 0
        assert guest.write(1, b"67") == (0, 2)
        assert guest.call("fd_fdstat_set_flags", 1, 0) == 0
        assert guest.call("fd_seek", 1, 0, 0, guest.room(8)) == 0
        assert guest.write(1, b"0") == (0, 1)
    assert (tmp_path / "log").read_text() == "0234567"
    for number in (reader, writer, log):
        os.close(number)


def test_an_object_with_only_read_and_write() -> None:
    class Plain:
        def __init__(self) -> None:
            self.seen = b""

        def read(self, size: int) -> bytes:
            return b"abc"[:size]

        def write(self, data: bytes) -> None:
            self.seen += data

    plain = Plain()
    with Wasi(stdin=plain, stdout=plain, stderr=plain) as wasi:  # type: ignore[arg-type]
        guest = Guest(wasi)
        assert guest.read(0, 2) == (0, b"ab")
        assert guest.write(1, b"out") == (0, 3)
    assert plain.seen == b"out"


def test_a_broken_stream_is_not_hidden() -> None:
    class Broken(io.RawIOBase):
        def write(self, data: object) -> int:
            raise RuntimeError("bug in the host's object")

    with Wasi(stdin=b"", stdout=Broken(), stderr=io.BytesIO()) as wasi:  # type: ignore[arg-type]
        guest = Guest(wasi)
        with pytest.raises(RuntimeError, match="bug in the host"):
            guest.write(1, b"x")


def test_directories_that_are_read_only(world: Path) -> None:
    rights = {"read": 1 << 1, "write": 1 << 6}
    with Wasi(preopens={"/ro": ReadOnly(world), "/rw": world}) as wasi:
        guest = Guest(wasi)
        assert guest.open(b"file", rights=rights["read"])[0] == 0
        assert guest.open(b"file", rights=rights["write"])[0] == Errno.EPERM
        assert guest.open(b"new", oflags=OpenFlags.CREAT, rights=rights["read"])[0] == Errno.EPERM
        assert guest.open(b"file", oflags=OpenFlags.TRUNC, rights=rights["read"])[0] == Errno.EPERM
        code, inner = guest.open(b"a", oflags=OpenFlags.DIRECTORY, rights=int(DIRECTORY_RIGHTS))
        assert code == 0
        assert guest.open(b"b/leaf", base=inner, rights=rights["write"])[0] == Errno.EPERM
        here, other = (PREOPEN, *guest.path(b"file")), (PREOPEN + 1, *guest.path(b"other"))
        refused = [
            ("path_create_directory", PREOPEN, *guest.path(b"new")),
            ("path_unlink_file", *here),
            ("path_remove_directory", PREOPEN, *guest.path(b"a")),
            ("path_symlink", *guest.path(b"file"), PREOPEN, *guest.path(b"link")),
            ("path_filestat_set_times", PREOPEN, 0, *guest.path(b"file"), 0, 0, 2),
            ("fd_filestat_set_times", inner, 0, 0, 2),
            ("path_link", PREOPEN, 0, *guest.path(b"file"), *other),
            ("path_link", PREOPEN + 1, 0, *guest.path(b"file"), PREOPEN, *guest.path(b"other")),
            ("path_rename", *here, *other),
            ("path_rename", PREOPEN + 1, *guest.path(b"file"), PREOPEN, *guest.path(b"other")),
        ]
        for name, *arguments in refused:
            assert guest.call(name, *arguments) == Errno.EPERM, name
        assert guest.open(b"file", base=PREOPEN + 1, rights=rights["write"])[0] == 0
    assert sorted(path.name for path in world.iterdir()) == ["a", "file"]


def test_a_function_as_output() -> None:
    written: list[bytes] = []
    with Wasi(stdin=b"", stdout=written.append, stderr=lambda data: 2) as wasi:
        guest = Guest(wasi)
        assert guest.write(1, b"one", b"two") == (0, 6)
        assert guest.write(2, b"three")[1] == 2
        assert guest.fdstat(1)[1][0] == FileType.UNKNOWN
    assert b"".join(written) == b"onetwo"
