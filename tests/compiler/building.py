"""Objects for tests: LLVM IR and assembly → relocatable objects, and calling what was loaded."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache

import llvmlite.binding as llvm

from wasmloom.compiler.objects import LoadedCode

TRIPLE = "x86_64-pc-linux-gnu"

#: What a compile unit with lines needs; metadata from !10 on is free. Its subprogram of line 1 is !9.
DEBUG = """
!llvm.dbg.cu = !{!0}
!llvm.module.flags = !{!2, !3}
!0 = distinct !DICompileUnit(language: DW_LANG_C, file: !1, isOptimized: true, runtimeVersion: 0, emissionKind: LineTablesOnly)
!1 = !DIFile(filename: "module.wasm", directory: "")
!2 = !{i32 2, !"Debug Info Version", i32 3}
!3 = !{i32 7, !"Dwarf Version", i32 VERSION}
!4 = !DISubroutineType(types: !{null})
!9 = distinct !DISubprogram(name: "f", scope: !1, file: !1, line: 1, type: !4, scopeLine: 1, spFlags: DISPFlagDefinition, unit: !0)
"""  # noqa: E501


@cache
def _machine(reloc: str, model: str) -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    return llvm.Target.from_triple(TRIPLE).create_target_machine(opt=2, reloc=reloc, codemodel=model)


@cache
def emit(ir: str, reloc: str = "pic", model: str = "small") -> bytes:
    """The object that LLVM makes of `ir`."""
    machine = _machine(reloc, model)
    content: bytes = machine.emit_object(llvm.parse_assembly(f'target triple = "{TRIPLE}"\n{ir}'))
    return content


def assemble(text: str) -> bytes:
    """The object of an assembly text."""
    return emit("".join(f'module asm "{line}"\n' for line in text.replace('"', "\\22").splitlines()))


def with_lines(lines: Sequence[int], version: int = 5, name: str = "f") -> bytes:
    """A function that calls `log` once for each line, at these lines, and returns at the last one."""
    body = "".join(f"call void @log(i64 {i}), !dbg !{10 + i}\n" for i in range(len(lines)))
    places = "".join(f"!{10 + i} = !DILocation(line: {line}, column: 0, scope: !9)\n" for i, line in enumerate(lines))
    return emit(
        f'declare void @log(i64)\ndefine void @{name}() "frame-pointer"="all" uwtable !dbg !9 {{\n{body}'
        f"ret void, !dbg !{9 + len(lines)}\n}}\n{DEBUG.replace('VERSION', str(version))}{places}"
    )


def call(loaded: LoadedCode, symbol: str, *arguments: int) -> int:
    """Call a function of 64-bit integers."""
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(arguments))
    result: int = kind(loaded.symbols[symbol])(*arguments)
    return result


def address_of(callback: object) -> int:
    """Where a ctypes callback or function is."""
    return ctypes.cast(callback, ctypes.c_void_p).value or 0  # type: ignore[arg-type]


def registered() -> list[bytes]:
    """The images that a debugger has been told about, the last one first."""
    from wasmloom.compiler import debugger

    class Entry(ctypes.Structure):
        _fields_ = (
            ("next", ctypes.c_void_p), ("prev", ctypes.c_void_p), ("file", ctypes.c_void_p), ("size", ctypes.c_uint64),
        )  # fmt: skip

    class Descriptor(ctypes.Structure):
        _fields_ = (
            ("version", ctypes.c_uint32), ("action", ctypes.c_uint32),
            ("relevant", ctypes.c_void_p), ("first", ctypes.c_void_p),
        )  # fmt: skip

    descriptor = Descriptor.in_dll(ctypes.CDLL(debugger.__file__), "__jit_debug_descriptor")
    assert descriptor.version == 1
    found = []
    address, previous = descriptor.first, None
    while address:
        entry = Entry.from_address(address)
        assert entry.prev == previous
        found.append(ctypes.string_at(entry.file, entry.size))
        address, previous = entry.next, address
    return found
