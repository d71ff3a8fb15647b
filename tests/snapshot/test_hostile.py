"""Bytes that are no snapshots, or those of a stranger: an error, or a store that runs as its modules let it."""

from __future__ import annotations

import struct
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wasmloom as wl
from wasmloom.snapshot.format import MAGIC, VERSION


@lru_cache
def _kept() -> tuple[wl.Engine, wl.Module, bytes]:
    engine = wl.Engine(tier="interpreter", cache=False)
    text = """(module (import "h" "log" (func $log (param i32))) (import "h" "t" (table 2 4 funcref))
      (import "h" "g" (global (mut f32))) (import "h" "m" (memory 1 2)) (memory 1 2)
      (global $g (mut i32) (i32.const 5)) (global $r (mut funcref) (ref.func $f)) (data "x") (elem func $f)
      (tag (param i32)) (func $f (export "f") (result i32) (i32.add (global.get $g) (i32.load (i32.const 4000)))))"""
    module = wl.Module(text, engine)
    store = wl.Store(engine, memory_limit=1 << 22)
    host = {
        "log": print, "t": wl.Table(store, "funcref", 2, 4), "g": wl.Global(store, "mut f32", 1.0),
        "m": wl.Memory(store, wl.MemoryType(wl.Limits(1, 2))),
    }  # fmt: skip
    exports = wl.Instance(module, {"h": host}, store=store).exports
    host["m"][4000] = 3
    host["t"][1] = exports.f
    return engine, module, wl.Snapshot.take(store).to_bytes(embed=False)


def signed(data: bytes) -> bytes:
    return data + sha256(data).digest()


def tried(data: bytes) -> None:
    """Restore it and run it, if that is possible."""
    engine, module, _ = _kept()
    try:
        kept = wl.Snapshot.from_bytes(data, modules=[module], engine=engine)
        copy = kept.restore(imports={"h": {"log": lambda n: None}}, persistent_load=lambda name: name)
    except wl.WasmError as error:
        assert str(error)
        return
    assert kept.to_bytes(embed=False) == data  # there is one way to write a state
    for instance in copy.instances:
        if "f" in instance.exports:
            assert isinstance(instance.exports.f(), int)
    again = wl.Snapshot.take(copy.store, persistent_id=str)
    assert again.restore(persistent_load=str).instances


def test_it_is_whole() -> None:
    engine, module, data = _kept()
    copy = wl.Snapshot.from_bytes(data, modules=[module]).restore(imports={"h": {"log": print}})
    assert copy.store.engine is engine and copy.instances[0].exports.f() == 8


@given(st.data())
def test_damage(data: st.DataObject) -> None:
    whole = bytearray(_kept()[2][:-32])
    for _ in range(data.draw(st.integers(1, 4))):
        # What isn't a memory's contents is at the beginning and at the end.
        at = data.draw(st.integers(7, 140) | st.integers(len(whole) - 140, len(whole) - 1))
        how = data.draw(st.integers(0, 3))
        if how == 0:
            del whole[at : at + data.draw(st.integers(1, 3))]
        elif how == 1:
            whole[at:at] = data.draw(st.binary(min_size=1, max_size=3))
        else:
            some = data.draw(st.sampled_from([0, 1, 2, 3, 127, 128, 255]) | st.integers(0, 255))
            whole[min(at, len(whole) - 1)] = some
    tried(signed(bytes(whole)))


@given(st.binary(max_size=300))
def test_noise(noise: bytes) -> None:
    _, module, data = _kept()
    tried(noise)
    tried(signed(MAGIC + noise))
    tried(signed(data[: data.index(bytes.fromhex(module.decoded.digest)) + 33] + noise))


@pytest.mark.parametrize("cut", [0, 5, 7, 8, 40, 200, -1, -32, -33])
def test_truncation(cut: int) -> None:
    data = _kept()[2]
    for changed in (data[:cut], signed(data[:cut])):
        if changed != data:
            with pytest.raises(wl.WasmError, match=r"snapshot"):
                wl.Snapshot.from_bytes(changed, modules=[_kept()[1]])


def test_other_versions_and_checksums() -> None:
    data = _kept()[2]
    later = bytearray(data[:-32])
    later[len(MAGIC)] = 3
    with pytest.raises(wl.WasmError, match="a snapshot of version 3: this engine reads version 2"):
        wl.Snapshot.from_bytes(signed(bytes(later)))
    wrong = bytearray(data)
    wrong[-40] ^= 1
    with pytest.raises(wl.WasmError, match="checksum"):
        wl.Snapshot.from_bytes(bytes(wrong))
    with pytest.raises(TypeError, match="a snapshot is bytes"):
        wl.Snapshot.from_bytes("text")  # type: ignore[arg-type]


def test_numbers_that_would_take_memory() -> None:
    """A list can't be longer than the bytes, and a memory not larger than its limits."""
    _, module, data = _kept()
    at = data.index(bytes.fromhex(module.decoded.digest)) + 33
    many = b"\xff" * 9 + b"\x01"
    for head in (data[: len(MAGIC) + 3], data[:at] + struct.pack("<BBB", 0, 0, 0)):
        with pytest.raises(wl.WasmError, match="damaged snapshot"):
            wl.Snapshot.from_bytes(signed(head + many), modules=[module])


@pytest.mark.parametrize("compress", ["zlib", "lzma"])
def test_compressed(compress: str) -> None:
    engine, module, data = _kept()
    kept = wl.Snapshot.from_bytes(data, modules=[module])
    small = kept.to_bytes(embed=False, compress=compress)
    assert len(small) < len(data) / 10
    assert wl.Snapshot.from_bytes(small, modules=[module], engine=engine).to_bytes(embed=False) == data
    with pytest.raises(wl.WasmError, match="more than 1000 bytes"):
        wl.Snapshot.from_bytes(small, modules=[module], max_size=1000)
    for changed in (small[:-40], small[:-32] + b"x", small[:60]):
        with pytest.raises(wl.WasmError, match="damaged"):
            wl.Snapshot.from_bytes(signed(changed), modules=[module])
    with pytest.raises(ValueError, match="compress"):
        kept.to_bytes(compress="zip")


def test_bytes_that_become_many() -> None:
    """A kilobyte of zeros, compressed twice over, is small; what it becomes is bounded all the same."""
    import zlib

    head = MAGIC + bytes([VERSION, 1, 0])
    with pytest.raises(wl.WasmError, match="max_size allows more"):
        wl.Snapshot.from_bytes(signed(head + zlib.compress(bytes(1 << 24))), max_size=1 << 20)


def test_signed(tmp_path: Path) -> None:
    _, module, data = _kept()
    kept = wl.Snapshot.from_bytes(data, modules=[module])
    kept.save(tmp_path / "a", embed=False, key=b"secret", compress="zlib")
    assert wl.Snapshot.load(tmp_path / "a", modules=[module], key=b"secret") == kept
    plain = kept.to_bytes(embed=False, key=b"secret")
    for key, wrong in ((b"other", plain), (b"secret", data), (b"secret", signed(plain[:-32])), (b"secret", plain[:-1])):
        with pytest.raises(wl.WasmError, match="isn't signed with this key"):
            wl.Snapshot.from_bytes(wrong, modules=[module], key=key)
    with pytest.raises(wl.WasmError, match="give its key"):
        wl.Snapshot.from_bytes(plain, modules=[module])
    with pytest.raises(wl.WasmError, match="header"):
        wl.Snapshot.from_bytes(signed(plain[:-32]), modules=[module])
    with pytest.raises(ValueError, match="empty"):
        kept.to_bytes(key=b"")
    with pytest.raises(TypeError, match="bytes"):
        kept.to_bytes(key="text")  # type: ignore[arg-type]
