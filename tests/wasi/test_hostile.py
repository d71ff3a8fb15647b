"""Guests that pass nonsense get an error number: no crash, no wild allocation, no write outside of a buffer."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import world
from tests.wasi.guest import PREOPEN, Guest
from wasmloom.errors import ExitStatus
from wasmloom.wasi import CALLS, Errno, Wasi
from wasmloom.wasi.abi import NARROW

WORDS = st.one_of(
    st.integers(0, 8),
    st.sampled_from([1024, 0x3FFF0, 0x3FFFF, 0x40000, 0x40001, 0x7FFFFFFF, -1, -8, -(1 << 31), 0xFFFFFFFF]),
    st.integers(-(1 << 31), (1 << 31) - 1),
)
LONG = st.one_of(WORDS, st.integers(-(1 << 63), (1 << 63) - 1))


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"poll_oneoff"}))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_words(tmp_path: Path, name: str, data: st.DataObject) -> None:
    (tmp_path / "f").touch()
    with Wasi(stdin=b"abc", stdout=io.BytesIO(), stderr=io.BytesIO(), preopens={"/": tmp_path}) as wasi:
        guest = Guest(wasi)
        guest.memory[:8] = b"f\0\0\0\x10\0\0\0"
        guest.open(b"f", rights=-1)
        words = [data.draw(LONG if kind.endswith("64") else WORDS) for kind in CALLS[name].params]
        if name == "fd_allocate":
            words[2] %= 1 << 20
        size = len(guest.memory)
        try:
            code = guest.functions[name](*words)
        except ExitStatus:
            assert name == "proc_exit"
        else:
            Errno(code)
        assert len(guest.memory) == size
    assert not (tmp_path.parent / "f").exists()


@settings(max_examples=100)
@given(count=st.integers(0, 3), words=st.lists(st.integers(0, 255), min_size=144, max_size=144), out=WORDS, res=WORDS)
def test_any_subscriptions(count: int, words: list[int], out: int, res: int) -> None:
    with Wasi(stdin=b"", stdout=io.BytesIO(), stderr=io.BytesIO()) as wasi:
        guest = Guest(wasi)
        # A subscription that is due at once comes last, so that no call waits.
        due = bytes(16) + b"\1\0\0\0\0\0\0\0" + bytes(16) + b"\1\0" + bytes(6)
        source = guest.put(bytes(words[: 48 * count]) + due)
        Errno(guest.functions["poll_oneoff"](source, out, count + 1, res))


@pytest.mark.parametrize("tier", ["interpreter", "compiler", "libcall", "auto"])
def test_random_calls_from_programs(tier: str) -> None:
    """Plain and awaited calls, beside a thread that changes the files (the tool, `tests.fuzz.world`, makes more)."""
    outcomes, failures = world.fuzz(20, 7, tier, count=600)
    assert not failures, "\n".join(failures)
    assert outcomes["SUCCESS"] and outcomes["EFAULT"] and outcomes["EBADF"]


def test_ranges_are_checked_to_the_byte(guest: Guest) -> None:
    size = len(guest.memory)
    assert guest.call("random_get", size - 8, 8) == 0
    assert guest.call("random_get", size - 8, 9) == Errno.EFAULT
    assert guest.call("random_get", size, 0) == 0
    assert guest.call("random_get", size + 1, 0) == Errno.EFAULT
    assert guest.call("random_get", -1, 2) == Errno.EFAULT
    for layout, name in ((64, "fd_filestat_get"), (24, "fd_fdstat_get")):
        assert guest.call(name, PREOPEN, size - layout) == 0
        assert guest.call(name, PREOPEN, size - layout + 1) == Errno.EFAULT
    assert guest.call("clock_time_get", 0, 0, size - 7) == Errno.EFAULT
    for buffer, length, code in ((size - 4, 4, 0), (size - 4, 5, Errno.EFAULT), (-1, -1, Errno.EFAULT)):
        vector = guest.put(NARROW.iovec.pack(buffer & 0xFFFFFFFF, length & 0xFFFFFFFF))
        assert guest.call("fd_read", 0, vector, 1, guest.room(4)) == code


def test_huge_counts_allocate_nothing(guest: Guest) -> None:
    result = guest.room(8)
    tracemalloc.start()
    try:
        assert guest.call("fd_read", 0, 0, -1, result) in (Errno.EINVAL, Errno.EFAULT)
        assert guest.call("fd_write", 1, 0, 1025, result) == Errno.EINVAL
        assert guest.call("fd_readdir", PREOPEN, 0, -1, 0, result) == Errno.EFAULT
        assert guest.call("path_create_directory", PREOPEN, 0, -1) == Errno.EFAULT
        assert guest.call("path_create_directory", PREOPEN, 0, 1 << 17) == Errno.ENAMETOOLONG
        assert guest.call("poll_oneoff", 0, 0, -1, result) == Errno.EINVAL
        assert guest.call("random_get", 0, -1) == Errno.EFAULT
        assert guest.call("path_readlink", PREOPEN, *guest.path(b"file"), 0, -1, result) == Errno.EFAULT
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_result_that_cannot_be_stored_leaves_nothing_open(guest: Guest) -> None:
    bad = len(guest.memory)
    assert guest.call("path_open", PREOPEN, 0, *guest.path(b"file"), 0, 2, 0, 0, bad) == Errno.EFAULT
    code, fd = guest.open(b"file")
    assert (code, fd) == (0, PREOPEN + 1)
