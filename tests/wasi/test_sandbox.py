"""No path leads out of a preopened directory."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.patience import attempts
from tests.wasi.guest import ALL_RIGHTS, PREOPEN, Guest, open_files
from wasmloom.wasi import Errno, Wasi
from wasmloom.wasi.abi import DIRECTORY_RIGHTS, OpenFlags, Rights, WasiError
from wasmloom.wasi.paths import Walk

READ = int(Rights.FD_READ)


@pytest.mark.parametrize(
    "path",
    [
        b"..",
        b"../secret",
        b"a/../../secret",
        b"a/b/../../../secret",
        b"./../secret",
        b"a/..//../secret",
        b"/etc/passwd",
        b"//etc/passwd",
        b"/",
        b"../inside/file",
        b"a/../..",
        b"..//",
    ],
)
def test_paths_that_lead_outside_are_refused(guest: Guest, path: bytes) -> None:
    assert guest.open(path, rights=READ)[0] == Errno.ENOTCAPABLE
    assert guest.stat(path)[0] == Errno.ENOTCAPABLE
    assert guest.readlink(path)[0] == Errno.ENOTCAPABLE
    for name in ("path_create_directory", "path_remove_directory", "path_unlink_file"):
        assert guest.call(name, PREOPEN, *guest.path(path)) == Errno.ENOTCAPABLE
    inside = guest.path(b"file")
    outside = guest.path(path)
    assert guest.call("path_rename", PREOPEN, *inside, PREOPEN, *outside) == Errno.ENOTCAPABLE
    assert guest.call("path_rename", PREOPEN, *outside, PREOPEN, *inside) == Errno.ENOTCAPABLE
    assert guest.call("path_link", PREOPEN, 0, *outside, PREOPEN, *inside) == Errno.ENOTCAPABLE
    assert guest.call("path_link", PREOPEN, 0, *inside, PREOPEN, *outside) == Errno.ENOTCAPABLE
    assert guest.call("path_symlink", *inside, PREOPEN, *outside) == Errno.ENOTCAPABLE


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/etc", b"link/passwd"),
        ("/etc/passwd", b"link"),
        ("..", b"link/secret"),
        ("../secret", b"link"),
        ("a/../../secret", b"link"),
        ("../outside", b"link/deep"),
        ("../inside/file", b"link"),
        ("/proc/self/root", b"link/etc/passwd"),
        ("a/..", b"link/../secret"),
    ],
)
def test_links_that_lead_outside_are_refused(guest: Guest, world: Path, target: str, path: bytes) -> None:
    (world / "link").symlink_to(target)
    for flags in (0, OpenFlags.CREAT, OpenFlags.TRUNC, OpenFlags.CREAT | OpenFlags.TRUNC, OpenFlags.DIRECTORY):
        assert guest.open(path, oflags=flags, rights=ALL_RIGHTS)[0] == Errno.ENOTCAPABLE
    assert guest.stat(path)[0] == Errno.ENOTCAPABLE
    assert (world.parent / "secret").read_text() == "secret"


def test_links_inside_work(guest: Guest, world: Path) -> None:
    (world / "link").symlink_to("a/b/../b")
    (world / "a" / "back").symlink_to("../file")
    (world / "chain").symlink_to("a/back")
    (world / "a" / "dot").symlink_to(".")
    for path, data in ((b"link/leaf", b"leaf"), (b"chain", b"hello"), (b"a/dot/dot/./back", b"hello")):
        code, fd = guest.open(path, rights=READ)
        assert code == 0
        assert guest.read(fd, 10) == (0, data)
    assert guest.open(b"chain", rights=READ, follow=False)[0] == Errno.ELOOP
    assert guest.stat(b"chain")[1][4] == 5
    assert guest.stat(b"chain", follow=False)[1][2] == 7


def test_a_link_can_create_only_inside(guest: Guest, world: Path) -> None:
    (world / "inner").symlink_to("a/new")
    (world / "outer").symlink_to("../new")
    assert guest.open(b"inner", oflags=OpenFlags.CREAT, rights=ALL_RIGHTS)[0] == 0
    assert (world / "a" / "new").exists()
    assert guest.open(b"outer", oflags=OpenFlags.CREAT, rights=ALL_RIGHTS)[0] == Errno.ENOTCAPABLE
    assert not (world.parent / "new").exists()


def test_loops_end(guest: Guest, world: Path) -> None:
    (world / "one").symlink_to("two")
    (world / "two").symlink_to("one")
    (world / "self").symlink_to("self/x")
    for path in (b"one", b"one/x", b"self"):
        assert guest.open(path)[0] == Errno.ELOOP
        assert guest.stat(path)[0] == Errno.ELOOP


def test_a_directory_the_guest_opened_is_a_border_too(guest: Guest) -> None:
    code, fd = guest.open(b"a", oflags=OpenFlags.DIRECTORY, rights=int(DIRECTORY_RIGHTS))
    assert code == 0
    assert guest.stat(b"b/leaf", base=fd)[0] == 0
    assert guest.stat(b"../file", base=fd)[0] == Errno.ENOTCAPABLE


def test_guests_cannot_make_absolute_links(guest: Guest) -> None:
    assert guest.call("path_symlink", *guest.path(b"/etc"), PREOPEN, *guest.path(b"l")) == Errno.ENOTCAPABLE


def test_odd_paths(guest: Guest) -> None:
    for path, code in (
        (b"", Errno.ENOENT),
        (b"file\0", Errno.EINVAL),
        (b"a\0b", Errno.EINVAL),
        (b"\xff\xfe", Errno.EILSEQ),
        (b"x" * 300, Errno.ENAMETOOLONG),
        (b"x" * 5000, Errno.ENAMETOOLONG),
        (b"a/" * 2048, Errno.ENOENT),
        (b"file/", Errno.ENOTDIR),
        (b"file/.", Errno.ENOTDIR),
        (b"file/..", Errno.ENOTDIR),
        (b"missing/", Errno.ENOENT),
    ):
        assert guest.stat(path)[0] == code, path
        assert guest.open(path)[0] == code, path
    for path in (b".", b"./", b"a/..", b"a/../.", b"a//b///", b"a/./b/."):
        assert guest.stat(path)[0] == 0, path
        assert guest.open(path, oflags=OpenFlags.DIRECTORY)[0] == 0, path


def test_deep_paths_leave_no_files_open(guest: Guest, world: Path) -> None:
    for _ in range(3):
        before = open_files(world)
        guest.stat(b"a/b/../b/../b/leaf")
        guest.stat(b"a/b/c/d")
        guest.stat(b"a/b/../../..")
        guest.call("path_rename", PREOPEN, *guest.path(b"a/b/x"), PREOPEN, *guest.path(b"a/b/y"))
        assert open_files(world) == before


def test_closing_closes_everything(world: Path) -> None:
    before = open_files(world)
    with Wasi(preopens={"/": world, "/a": world / "a"}) as wasi:
        guest = Guest(wasi)
        for _ in range(10):
            assert guest.open(b"file", rights=READ)[0] == 0
    assert open_files(world) == before
    with pytest.raises(FileNotFoundError):
        Wasi(preopens={"/": world, "/x": world / "missing"})
    assert open_files(world) == before


def test_swapping_a_directory_for_a_link_never_helps(world: Path) -> None:
    """A link to outside takes a directory's place, again and again, while the guest opens below it."""
    (world.parent / "outside" / "leaf").write_text("secret")
    swap = world / "swap"
    swap.mkdir()
    (swap / "leaf").write_text("leaf")
    spare = world / "spare"
    stop = threading.Event()

    def swapper() -> None:
        while not stop.is_set():
            os.rename(swap, spare)
            os.symlink("../outside", swap)
            os.unlink(swap)
            os.rename(spare, swap)

    thread = threading.Thread(target=swapper)
    with Wasi(preopens={"/": world}) as wasi:
        guest = Guest(wasi)
        thread.start()
        try:
            outcomes: set[Errno] = set()
            for i in attempts():  # until both threads have had their turns
                if i >= 3000 and {Errno.SUCCESS, Errno.ENOTCAPABLE} <= outcomes:
                    break
                guest.reset()
                path = (b"swap/leaf", b"swap/../swap/leaf", b"swap")[i % 3]
                if path == b"swap":
                    code, directory = guest.open(path, oflags=OpenFlags.DIRECTORY)
                    if code == 0:
                        code, fd = guest.open(b"leaf", base=directory, rights=READ)
                        guest.call("fd_close", directory)
                else:
                    code, fd = guest.open(path, rights=READ)
                if code == 0:
                    assert guest.read(fd, 10) == (0, b"leaf")
                    guest.call("fd_close", fd)
                outcomes.add(code)
        finally:
            stop.set()
            thread.join()
    assert outcomes <= {Errno.SUCCESS, Errno.ENOENT, Errno.ENOTCAPABLE, Errno.ELOOP, Errno.ENOTDIR}
    assert {Errno.SUCCESS, Errno.ENOTCAPABLE} <= outcomes


def test_a_directory_moved_out_gives_no_way_back_up(world: Path) -> None:
    """`..` goes back to where the walk came from, not to where the directory lies by then."""
    base = os.open(world, os.O_RDONLY | os.O_DIRECTORY)
    try:
        moved = os.open(world / "a" / "b", os.O_RDONLY | os.O_DIRECTORY)
        os.close(moved)
        with Walk(base, b"a/b/x") as walk:
            os.rename(world / "a" / "b", world.parent / "outside" / "b")
            with pytest.raises(WasiError, match="ENOTCAPABLE"):
                walk._push(b"../../../secret")
                walk._advance()
    finally:
        os.close(base)


COMPONENTS = st.sampled_from(["a", "b", "..", ".", "", "file", "up", "down", "abs", "self", "missing", "chain"])


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc to ask where a file lies")
@settings(max_examples=300)
@given(
    path=st.lists(COMPONENTS, min_size=1, max_size=12).map("/".join),
    links=st.lists(st.lists(COMPONENTS, min_size=1, max_size=5).map("/".join), min_size=4, max_size=4),
    leading=st.booleans(),
)
def test_whatever_opens_lies_inside(
    tmp_path_factory: pytest.TempPathFactory, path: str, links: list[str], leading: bool
) -> None:
    root = tmp_path_factory.mktemp("world")
    inside = root / "inside"
    try:
        (inside / "a" / "b").mkdir(parents=True)
        (inside / "file").write_text("x")
        for name, target in zip(("up", "down", "chain", "self"), links, strict=True):
            if target:
                (inside / name).symlink_to(target)
                (inside / "a" / name).symlink_to(target)
        (inside / "abs").symlink_to(root)
        with Wasi(preopens={"/": inside}) as wasi:
            guest = Guest(wasi)
            code, fd = guest.open((("/" if leading else "") + path).encode(), rights=READ)
            if code == 0:
                found = os.readlink(f"/proc/self/fd/{wasi._context.table[fd].fileno()}")  # type: ignore[attr-defined]
                assert found == str(inside) or found.startswith(f"{inside}/")
            guest.open(path.encode(), oflags=OpenFlags.CREAT, rights=ALL_RIGHTS)
            guest.call("path_create_directory", PREOPEN, *guest.path(path.encode()))
            guest.call("path_symlink", *guest.path(b"x"), PREOPEN, *guest.path(path.encode()))
            guest.call("path_unlink_file", PREOPEN, *guest.path(path.encode()))
        assert os.listdir(root) == ["inside"]
    finally:
        shutil.rmtree(root)
