"""Modules that call one function of WASI."""

from __future__ import annotations

import struct

import wasmloom as wl
from wasmloom.wasi import MODULE_NAME, call_type

#: Where a program that `calling` makes has what the function gave, its data, and its results.
ERRNO, DATA, RESULTS = 0, 1024, 512


def calling(name: str, *arguments: int, data: bytes = b"", pages: int = 1, again: bool = False) -> wl.Module:
    """A program that calls a function and stores what it gives at `ERRNO`; with `again`, as long as that is 0.

    `data` lies at `DATA`.
    """
    type = call_type(name)
    text = "".join(f"\\{byte:02x}" for byte in data)
    constants = " ".join(f"({kind}.const {value})" for kind, value in zip(type.params, arguments, strict=True))
    params = " ".join(str(kind) for kind in type.params)
    call = f"(i32.store (i32.const {ERRNO}) (call $f {constants}))"
    if again:
        call = f"(loop {call} (br_if 0 (i32.eqz (i32.load (i32.const {ERRNO})))))"
    return wl.Module(f"""(module
      (import "{MODULE_NAME}" "{name}" (func $f (param {params}) (result i32)))
      (memory (export "memory") {pages})
      (data (i32.const {DATA}) "{text}")
      (func (export "_start") {call}))""")


def errno_of(instance: wl.Instance) -> int:
    """What the function gave."""
    return int(struct.unpack_from("<I", instance.exports.memory, ERRNO)[0])


def opening(path: bytes, rights: int, *, flags: int = 0, oflags: int = 0, again: bool = False) -> wl.Module:
    """A program that opens a path below the first preopened directory."""
    return calling("path_open", 3, 1, DATA, len(path), oflags, rights, 0, flags, RESULTS, data=path, again=again)


def moving(name: str, fd: int, size: int, *, vectors: int = 1, pages: int = 16, again: bool = False) -> wl.Module:
    """A program that reads or writes: `vectors` times the same `size` bytes."""
    data = struct.pack("<II", 8192, size) * vectors
    return calling(name, fd, DATA, vectors, RESULTS, data=data, pages=pages, again=again)
