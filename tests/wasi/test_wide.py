"""Programs whose memory has addresses of 64 bits: pointers and sizes have as many, in parameters and in structs."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wasmloom as wl
from wasmloom.wasi import CALLS, MODULE_NAME, Errno, Wasi, call_type
from wasmloom.wasi.abi import WIDE

SIZE = 65536
TOP = 1 << 64


def instance_of(wasi: Wasi, *names: str, linked: bool = False, memory: str = "i64 1") -> Any:
    """A library that exports functions of WASI, and its memory; `linked`: by `Wasi.imports`."""
    text = ""
    for name in names:
        params = " ".join(map(str, call_type(name, WIDE).params))
        result = "(result i32)" if CALLS[name].returns_errno else ""
        text += f'(import "{MODULE_NAME}" "{name}" (func ${name} (param {params}) {result}))'
    text += f'(memory (export "memory") {memory})'
    # Calls come from the guest.
    for name in names:
        params = call_type(name, WIDE).params
        result = "(result i32)" if CALLS[name].returns_errno else ""
        gets = " ".join(f"(local.get {i})" for i in range(len(params)))
        text += f'(func (export "{name}") (param {" ".join(map(str, params))}) {result} (call ${name} {gets}))'
    module = wl.Module(f"(module {text})")
    if linked:
        return wl.Instance(module, wasi.imports()).exports
    return wasi.instantiate(module).exports


@pytest.mark.parametrize("linked", [False, True])
def test_a_program(linked: bool, tier: str, tmp_path: Path) -> None:
    (tmp_path / "name").write_bytes(b"contents")
    written: list[bytes] = []
    with Wasi(args=["prog", "x"], stdout=written.append, preopens={"/dir": tmp_path}) as wasi:
        names = (
            "args_sizes_get", "args_get", "fd_write", "fd_read", "fd_prestat_get", "fd_prestat_dir_name", "path_open",
            "fd_readdir", "fd_filestat_get", "random_get", "fd_close",
        )  # fmt: skip
        guest = instance_of(wasi, *names, linked=linked)
        memory = guest.memory

        def words(address: int, count: int = 1) -> tuple[int, ...]:
            return struct.unpack(f"<{count}Q", memory.read(address, 8 * count))

        assert guest.args_sizes_get(8, 24) == 0 and words(8) == (2,) and words(24) == (7,)
        assert guest.args_get(0x100, 0x200) == 0 and words(0x100, 2) == (0x200, 0x205)
        assert memory.read(0x200, 7) == b"prog\0x\0"
        memory.write(0x300, struct.pack("<4Q", 0x200, 4, 0x205, 1))
        assert guest.fd_write(1, 0x300, 2, 0x400) == 0
        assert words(0x400) == (5,) and b"".join(written) == b"progx"
        assert guest.fd_prestat_get(3, 0x500) == 0 and words(0x500, 2) == (0, 4)
        assert guest.fd_prestat_dir_name(3, 0x510, 4) == 0 and memory.read(0x510, 4) == b"/dir"
        memory.write(0x600, b"name")
        assert guest.path_open(3, 0, 0x600, 4, 0, -1, -1, 0, 0x700) == 0
        (number,) = struct.unpack("<I", memory.read(0x700, 4))
        memory.write(0x300, struct.pack("<2Q", SIZE - 100, 100))
        assert guest.fd_read(number, 0x300, 1, 0x400) == 0 and words(0x400) == (8,)
        assert memory.read(SIZE - 100, 8) == b"contents"
        assert guest.fd_readdir(3, 0x1000, 0x1000, 0, 0x400) == 0 and b"name" in memory.read(0x1000, *words(0x400))
        assert guest.fd_filestat_get(number, 0x800) == 0 and words(0x820) == (8,)
        assert guest.random_get(SIZE - 8, 8) == 0


def test_beyond_4_gib() -> None:
    """Pointers aren't cut to 32 bits."""
    far = (1 << 32) + 16
    with Wasi(args=["a"]) as wasi:
        guest = instance_of(wasi, "args_get", "random_get", memory=f"i64 {(1 << 16) + 1}")
        assert guest.args_get(far, far + 8) == 0
        assert guest.memory.read(far, 10) == struct.pack("<Q", far + 8) + b"a\0" and guest.memory[16:26] == bytes(10)
        assert guest.random_get(far, SIZE + 1) == Errno.EFAULT


def test_types_must_be_those_of_the_memory() -> None:
    for memory, address in (("1", "i64"), ("i64 1", "i32")):
        module = wl.Module(
            f"""(module (import "{MODULE_NAME}" "random_get" (func (param {address} {address}) (result i32)))
              (memory (export "memory") {memory}) (func (export "_start")))"""
        )
        with Wasi() as wasi, pytest.raises(wl.LinkError, match=r"random_get: expected func"):
            wasi.instantiate(module)


_EDGES = [0, 8, SIZE - 8, SIZE, 1 << 31, 1 << 32, TOP - 1, TOP - 8, TOP - SIZE, 1 << 63, (1 << 63) - 1, 1 << 36]
WORDS = st.one_of(st.sampled_from(_EDGES), st.integers(0, 8), st.integers(0, TOP - 1))


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"poll_oneoff", "proc_exit"}))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_words(tmp_path: Path, name: str, data: st.DataObject) -> None:
    """Wherever pointers lead, an error number comes back."""
    nowhere: list[bytes] = []
    output = nowhere.append
    with Wasi(args=["abc"], stdin=b"abc", stdout=output, stderr=output, preopens={"/": tmp_path}) as wasi:
        guest = instance_of(wasi, name)
        words = [data.draw(WORDS) for _ in CALLS[name].params]
        if name == "fd_allocate":
            words[2] %= 1 << 20
        limits = [1 << (32 if str(type) == "i32" else 64) for type in call_type(name, WIDE).params]
        signed = [
            word % limit - limit * (word % limit >= limit >> 1) for word, limit in zip(words, limits, strict=True)
        ]
        Errno(guest[name](*signed))
