"""Telling profilers and debuggers what machine code is, when ``WASMLOOM_PERF`` asks for it.

Its value is a list of these words, separated by commas:

``map``
    A line for each function in ``/tmp/perf-<pid>.map``, where `perf report` finds names.
``jitdump``
    Names, code and lines in ``jit-<pid>.dump``, in the folder ``JITDUMPDIR`` or ``/tmp``. After
    ``perf record -k mono`` and ``perf inject --jit``, `perf annotate` shows instructions; a line number is the offset
    in the Wasm module.
``gdb``
    Names, unwind tables and lines for GDB, through its JIT interface.

Compiled code keeps frame pointers, so ``perf record --call-graph fp`` gives whole stacks. Other code, which is told
about in the same way (`wasmloom.baseline.described`), has no frames there.

After a fork the child has files of its own, which only know what it has loaded itself.

Format of jitdump: ``tools/perf/Documentation/jitdump-specification.txt`` in the Linux kernel's source.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, Protocol

from wasmloom.compiler import dwarf, elf
from wasmloom.compiler.objects import Function, LoadedCode
from wasmloom.messages import printable
from wasmloom.target import relocations

#: What ``WASMLOOM_PERF`` may name.
WORDS = ("map", "jitdump", "gdb")

# Header: magic, version, its size, machine, padding, pid, time, flags. Records: kind, size, time.
_HEADER = struct.Struct("<IIIIIIQQ")
_RECORD = struct.Struct("<IIQ")
# Code: pid, thread, address twice, size, number. Lines: address of the code, count; each: address, line, discriminator.
_CODE = struct.Struct("<IIQQQQ")
_LINES = struct.Struct("<QQ")
_LINE = struct.Struct("<QII")
_MAGIC, _VERSION = 0x4A695444, 1
_CODE_LOAD, _CODE_DEBUG_INFO = 0, 2


def wanted() -> tuple[str, ...]:
    """The words of ``WASMLOOM_PERF``; raises `ValueError` for others than `WORDS`."""
    words = tuple(os.environ.get("WASMLOOM_PERF", "").replace(",", " ").split())
    for word in words:
        if word not in WORDS:
            raise ValueError(f"WASMLOOM_PERF: {word!r} is none of {', '.join(WORDS)}")
    return words


class Code(Protocol):
    """Machine code in memory, to tell about."""

    #: What a debugger has been told about it, as long as it is there.
    described: list[object]

    def named(self) -> Iterator[Function]:
        """All functions with names for people, on one line."""

    def read(self, address: int, size: int) -> bytes:
        """What is at an address."""

    def rows(self, function: Function) -> list[tuple[int, int]]:
        """All (address, offset in the module) where the offset changes within a function."""

    def images(self) -> Iterator[bytes]:
        """ELF images with names, unwind tables and lines, and addresses as they are in memory."""


def tell(code: Code, file: str = "module.wasm") -> None:
    """Tell what ``WASMLOOM_PERF`` names about code that has just come to be.

    `file` is what people should read as the module's name. Raises `OSError` when a file can't be written.
    """
    for word in wanted():
        if word == "gdb":
            from wasmloom.compiler import debugger

            code.described += map(debugger.Description, code.images())
        else:
            with _lock:
                _writer_for(word).write(code, file)


def describe(
    loaded: LoadedCode,
    name: Callable[[str], str],
    file: str = "module.wasm",
    function_name: Callable[[int], str] = str,
) -> None:
    """Tell about `loaded`, just after it was loaded; see `tell`. `name` turns a symbol into what people should read,
    `function_name` the index of a function in the module."""
    tell(_Compiled(loaded, name, function_name), file)


def images(
    loaded: LoadedCode, name: Callable[[str], str], function_name: Callable[[int], str] = str
) -> Iterator[bytes]:
    """An ELF image for each object in `loaded`; see `describe` for names."""
    return _Compiled(loaded, name, function_name).images()


class _Compiled:
    """`Code` that the compiler has made."""

    def __init__(self, loaded: LoadedCode, name: Callable[[str], str], function_name: Callable[[int], str]) -> None:
        self.loaded = loaded
        self.name = name
        self.function_name = function_name
        self.described = loaded.described
        self.read = loaded.read

    def named(self) -> Iterator[Function]:
        """All functions, then the stubs as if they were one function."""
        for function in self.loaded.functions:
            yield function._replace(name=printable(self.name(function.name)))
        start, end = self.loaded.stubs
        if start < end:
            yield Function(start, end - start, "wasmloom stubs")

    def rows(self, function: Function) -> list[tuple[int, int]]:
        """See `Code`."""
        number = self.loaded.object_at(function.address)
        if number is None:
            return []
        return list(self.loaded.line_table(number).rows(function.address, function.address + function.size))

    def images(self) -> Iterator[bytes]:
        """One for each object."""
        functions = list(self.named())
        for number, debug in enumerate(self.loaded.debug):
            sections: list[elf.ImageSection] = []
            symbols: list[elf.ImageSymbol] = []
            inside: list[dwarf.Compiled] = []
            code = elf.SHF_ALLOC | elf.SHF_EXECINSTR
            for start, end, owner in self.loaded.text_ranges:
                if owner != number:
                    continue
                for function in functions:
                    if start <= function.address < end:
                        symbols.append(elf.ImageSymbol(function.name, function.address, function.size, len(sections)))
                        inside.append(self._inlined(function, number))
                sections.append(elf.ImageSection(".text", code, start, end - start, None))
            for start, size, owner in self.loaded.unwind_tables:
                if owner == number:
                    content = self.loaded.read(start, size)
                    sections.append(elf.ImageSection(".eh_frame", elf.SHF_ALLOC, start, size, content))
            content_of = dict(debug)
            if any(function.inside for function in inside):
                start = min(function.address for function in inside)
                end = max(function.address + function.size for function in inside)
                content_of.update(dwarf.inlined("module.wasm", inside, start, end))
            for section, content in content_of.items():
                sections.append(elf.ImageSection(section, 0, 0, len(content), content))
            yield elf.write_image(sections, symbols)


    def _inlined(self, function: Function, number: int) -> dwarf.Compiled:
        """A function of an object, and what stands in the place of calls in it."""
        found: dict[int, list[dwarf.Inlined]] = {0: []}
        table = self.loaded.line_table(number)
        for site, parent, call, index, ranges in table.inlined(function.address, function.address + function.size):
            found[site] = []
            name = printable(self.function_name(index))
            found[parent].append(dwarf.Inlined(name, call, ranges, found[site]))
        return dwarf.Compiled(function.name, function.address, function.size, found[0])


class _MapWriter:
    """``/tmp/perf-<pid>.map``: lines of address, size and name."""

    def __init__(self) -> None:
        # CPython can write the same file (`sys.activate_stack_trampoline`), by appending. Otherwise what is there is
        # from an earlier process of the same number.
        shared = getattr(sys, "is_stack_trampoline_active", lambda: False)()
        self.file = _open(f"/tmp/perf-{os.getpid()}.map", keep=shared)

    def write(self, code: Code, file: str) -> None:
        for function in code.named():
            self.file.write(f"{function.address:x} {function.size:x} {function.name}\n".encode(errors="replace"))
        self.file.flush()


class _JitDumpWriter:
    """``jit-<pid>.dump``: a record for each function, with its code, after one with its lines."""

    def __init__(self) -> None:
        folder = os.environ.get("JITDUMPDIR") or "/tmp"
        self.file = _open(os.path.join(folder, f"jit-{os.getpid()}.dump"), keep=False)
        self.count = 0
        self.file.write(
            _HEADER.pack(_MAGIC, _VERSION, _HEADER.size, relocations.MACHINE, 0, os.getpid(), time.monotonic_ns(), 0)
        )
        self.file.flush()
        # `perf record` notes executable mappings: this one tells it of the file.
        self.marker = mmap.mmap(
            self.file.fileno(), _HEADER.size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC
        )

    def write(self, code: Code, file: str) -> None:
        for function in code.named():
            self._write_lines(code.rows(function), function, file)
            self._record(
                _CODE_LOAD,
                _CODE.pack(
                    os.getpid(),
                    threading.get_native_id(),
                    function.address,
                    function.address,
                    function.size,
                    self.count,
                )
                + function.name.encode(errors="replace")
                + b"\0"
                + code.read(function.address, function.size),
            )
            self.count += 1
        self.file.flush()

    def _write_lines(self, rows: list[tuple[int, int]], function: Function, file: str) -> None:
        if not rows:
            return
        rows.append((function.address + function.size, rows[-1][1]))  # `perf inject` ends its table at the last row
        # The format has an abbreviation for the same file again; some versions of `perf` don't know it.
        name = file.encode(errors="replace") + b"\0"
        lines = [_LINE.pack(address, offset, 0) + name for address, offset in rows]
        self._record(_CODE_DEBUG_INFO, _LINES.pack(function.address, len(rows)) + b"".join(lines))

    def _record(self, kind: int, content: bytes) -> None:
        self.file.write(_RECORD.pack(kind, _RECORD.size + len(content), time.monotonic_ns()) + content)


_Writer = _MapWriter | _JitDumpWriter

#: The files of this process, by word and process.
_writers: dict[tuple[str, int], _Writer] = {}
_lock = threading.Lock()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _writer_for(word: str) -> _Writer:
    key = (word, os.getpid())
    writer = _writers.get(key)
    if writer is None:
        writer = _MapWriter() if word == "map" else _JitDumpWriter()
        _writers[key] = writer
    return writer


def _open(path: str, keep: bool) -> IO[bytes]:
    """Open a file in a folder that all may be able to write: a new one, or with `keep` at the end of what is there."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    if not keep:
        with suppress(FileNotFoundError):
            os.unlink(path)
        flags |= os.O_EXCL
    return os.fdopen(os.open(path, flags, 0o600), "wb")
