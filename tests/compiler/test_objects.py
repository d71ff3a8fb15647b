"""The loader of compiled objects: linking, relocations, protection of memory, damaged objects."""

from __future__ import annotations

import ctypes
import gc
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.compiler.building import address_of, assemble, call, emit, with_lines
from tests.patience import is_at_rest
from wasmloom.compiler import elf
from wasmloom.compiler.objects import LoadedCode, ObjectError, load
from wasmloom.runtime.codememory import live_mappings
from wasmloom.target import relocations

ADD = "define i64 @add(i64 %a, i64 %b) {\n %c = add i64 %a, %b\n ret i64 %c\n}"
TWICE = "declare i64 @add(i64, i64)\ndefine i64 @twice(i64 %a) {\n %c = call i64 @add(i64 %a, i64 %a)\n ret i64 %c\n}"

#: Constants, a jump table, a table of functions, data and zeroed data, an external call.
VARIED = """
@table = internal constant [2 x ptr] [ptr @odd, ptr @even]
@counter = internal global i64 5
@zero = internal global [100 x i64] zeroinitializer
@shared = global i64 17
declare i64 @host(i64)
define i64 @odd(i64 %a) { ret i64 111 }
define i64 @even(i64 %a) { ret i64 222 }
define i64 @through(i64 %a) {
  %p = getelementptr [2 x ptr], ptr @table, i64 0, i64 %a
  %f = load ptr, ptr %p
  %r = call i64 %f(i64 %a)
  ret i64 %r
}
define i64 @count() {
  %a = load volatile i64, ptr @counter
  %b = add i64 %a, 1
  store volatile i64 %b, ptr @counter
  %p = getelementptr [100 x i64], ptr @zero, i64 0, i64 99
  %z = load volatile i64, ptr %p
  %s = load volatile i64, ptr @shared
  %c = add i64 %b, %z
  %d = add i64 %c, %s
  ret i64 %d
}
define i64 @half(i64 %a) {
  %f = sitofp i64 %a to double
  %h = fmul double %f, 0.375
  %r = fptosi double %h to i64
  ret i64 %r
}
define i64 @choose(i64 %a) {
  switch i64 %a, label %other [ i64 0, label %a0
    i64 1, label %a1
    i64 2, label %a2
    i64 3, label %a3
    i64 4, label %a4 ]
a0: %r0 = call i64 @host(i64 7)
  ret i64 %r0
a1: ret i64 12
a2: %r2 = call i64 @host(i64 9)
  ret i64 %r2
a3: %r3 = call i64 @through(i64 1)
  ret i64 %r3
a4: ret i64 90
other: ret i64 0
}
"""

HOST_TYPE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
HOST = HOST_TYPE(lambda value: value * 100)

#: A function far away from everything: `mov %rdi, %rax; not %rax; ret`.
FAR_CODE = bytes.fromhex("4889f848f7d0c3")


def check_varied(loaded: LoadedCode) -> None:
    assert [call(loaded, "through", i) for i in (0, 1)] == [111, 222]
    assert [call(loaded, "count") for _ in range(2)] == [23, 24]
    assert call(loaded, "half", 8) == 3
    assert [call(loaded, "choose", i) for i in range(6)] == [700, 12, 900, 222, 90, 0]


def test_calls_across_objects() -> None:
    loaded = load([emit(TWICE), emit(ADD)], {})
    assert call(loaded, "twice", 21) == 42
    assert call(loaded, "add", 1, 2) == 3
    assert set(loaded.symbols) == {"add", "twice"}
    assert all(loaded.sizes[name] > 0 for name in loaded.symbols)


@pytest.mark.parametrize("model", ["small", "large"])
def test_all_kinds_of_data(model: str) -> None:
    # The large model only has relocations of 64 bits, and position-independent it would want a symbol for its table.
    reloc = "pic" if model == "small" else "static"
    loaded = load([emit(VARIED, reloc, model)], {"host": address_of(HOST)})
    check_varied(loaded)
    check_varied_data(loaded)


def check_varied_data(loaded: LoadedCode) -> None:
    shared = ctypes.c_int64.from_address(loaded.symbols["shared"])
    assert shared.value == 17
    shared.value = 0
    assert call(loaded, "count") == 8


def test_nothing_is_writable_and_executable() -> None:
    loaded = load([emit(VARIED), emit(ADD)], {"host": address_of(HOST)})
    permissions: dict[str, int] = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, flags, *_ = line.split()
        start, end = (int(bound, 16) for bound in bounds.split("-"))
        if start < loaded.base + loaded.size and end > loaded.base:
            permissions[flags[:3]] = permissions.get(flags[:3], 0) + 1
    assert set(permissions) == {"r-x", "r--", "rw-"}


def test_absolute_addresses_must_reach() -> None:
    with pytest.raises(ObjectError, match=r"object 0: relocation R_X86_64_32S at 0x[0-9a-f]+ of section \.text"):
        load([emit(VARIED, "static")], {"host": address_of(HOST)})


RELOCATIONS = """
    .text
    .globl call_far
    .type call_far,@function
call_far:
    jmp far@PLT
    .size call_far, .-call_far
    .globl call_slot
    .type call_slot,@function
call_slot:
    subq $8, %rsp
    call *far@GOTPCREL(%rip)
    addq $8, %rsp
    ret
    .size call_slot, .-call_slot
    .globl call_here
    .type call_here,@function
call_here:
    call *call_far@GOTPCREL(%rip)
    ret
    .size call_here, .-call_here
    .globl load_slot
    .type load_slot,@function
load_slot:
    movq far@GOTPCREL(%rip), %rax
    ret
    .size load_slot, .-load_slot
    .section .rodata
    .globl data
    .type data,@object
data:
    .quad far + 3
    .quad load_slot - .
    .long load_slot - .
    .long small - 1
    .long far@GOTPCREL
    .long 0
    .quad data + 8
    .size data, .-data
    .text
    .globl load_small
    .type load_small,@function
load_small:
    movq $small, %rax
    ret
    .size load_small, .-load_small
"""


def far_function() -> tuple[ctypes.CDLL, int]:
    """A mapping of executable memory further than 2 GiB from where the loader maps, and its address."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    address = libc.mmap(0x10_0000_0000, 4096, 3, 0x22, -1, 0)
    ctypes.memmove(address, FAR_CODE, len(FAR_CODE))
    assert libc.mprotect(address, 4096, 5) == 0
    return libc, address


def test_every_relocation() -> None:
    libc, far = far_function()
    data_object = assemble(RELOCATIONS)
    found = elf.ElfObject(data_object)
    kinds = set()
    for table in found.relocations.values():
        content = found.content(found.sections[table])
        kinds |= {info & 0xFFFFFFFF for _, info, _ in elf.RELOCATION.iter_unpack(content)}
    optional = {number for number, kind in relocations.KINDS.items() if kind.name == "R_X86_64_GOTPCRELX"}
    assert kinds | optional == set(relocations.KINDS)
    loaded = load([data_object], {"far": far, "small": 0x12345678})
    assert not -(1 << 31) < far - loaded.base < 1 << 31
    for name in ("call_far", "call_slot", "call_here"):
        assert call(loaded, name, 5) == ~5, name
    assert call(loaded, "load_slot") == far
    assert call(loaded, "load_small") == 0x12345678
    data = loaded.symbols["data"]
    quad, pc64, pc32, absolute, slot, _, inside = struct.unpack("<QqiIiIQ", loaded.read(data, 40))
    assert quad == far + 3
    assert data + 8 + pc64 == data + 16 + pc32 == loaded.symbols["load_slot"]
    assert absolute == 0x12345677
    assert struct.unpack("<Q", loaded.read(data + 24 + slot, 8)) == (far,)
    assert inside == data + 8
    assert loaded.contains(loaded.stubs[0]) and loaded.stubs[1] - loaded.stubs[0] == 8
    libc.munmap(ctypes.c_void_p(far), 4096)


def test_displacement_that_does_not_reach() -> None:
    text = ".text\n.globl f\nf: leaq far(%rip), %rax\nret"
    with pytest.raises(ObjectError, match=r"R_X86_64_PC32 at 0x3 of section \.text"):
        load([assemble(text)], {"far": 16})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (".text\n.long sym@TPOFF", "relocation type 23 isn't supported"),
        (".text\ncall nobody", "undefined symbol 'nobody'"),
        (".comm c,8,8", "symbol 'c' is in section 65522"),
        (".section .tdata,\"awT\"\n.quad 1", "thread-local"),
        (".section .data,\"aw\"\n.p2align 13\n.quad 1", "alignment 8192"),
        (".bss\n.zero 0x7fffffff", "2 GiB"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(ObjectError, match=message):
        load([assemble(text)], {"sym": 0})


def test_definitions() -> None:
    with pytest.raises(ObjectError, match="object 1: symbol 'add' is defined twice"):
        load([emit(ADD), emit(ADD)], {})
    weak = emit(ADD.replace("define i64", "define weak i64").replace("%c = add", "%c = sub"))
    for objects in ([weak, emit(ADD)], [emit(ADD), weak]):
        assert call(load(objects, {}), "add", 3, 4) == 7
    assert call(load([weak, weak], {}), "add", 3, 4) == -1
    missing = "@gone = extern_weak global i64\ndefine ptr @where() { ret ptr @gone }"
    assert call(load([emit(missing)], {}), "where") == 0


def test_definitions_of_objects_come_before_externals() -> None:
    assert call(load([emit(TWICE), emit(ADD)], {"add": 8}), "twice", 4) == 8


def test_no_objects() -> None:
    loaded = load([], {})
    assert loaded.symbols == {} and loaded.functions == []
    assert loaded.lookup(loaded.base) is None and loaded.offset_at(loaded.base) is None


def test_lookup() -> None:
    internal = (
        "define internal i64 @inner(i64 %a) noinline {\n %b = mul i64 %a, 77\n ret i64 %b\n}\n"
        "define i64 @outer(i64 %a) {\n %b = call i64 @inner(i64 %a)\n %c = add i64 %b, 1\n ret i64 %c\n}"
    )
    loaded = load([emit(internal), emit(ADD)], {})
    assert set(loaded.symbols) == {"outer", "add"}
    assert sorted(function.name for function in loaded.functions) == ["add", "inner", "outer"]
    assert [function.address for function in loaded.functions] == sorted(f.address for f in loaded.functions)
    for function in loaded.functions:
        assert loaded.lookup(function.address) == (function.name, 0)
        last = function.address + function.size - 1
        assert loaded.lookup(last) == (function.name, function.size - 1)
        assert loaded.lookup(last + 1) in (None, (function.name, 0)) or loaded.lookup(last + 1)[1] == 0  # type: ignore[index]
    assert loaded.lookup(loaded.base - 1) is None
    assert loaded.lookup(loaded.base + loaded.size) is None
    assert loaded.object_at(loaded.symbols["outer"]) == 0
    assert loaded.object_at(loaded.symbols["add"]) == 1
    with pytest.raises(ValueError):
        loaded.read(loaded.base, loaded.size + 1)


def test_code_of_other_sections() -> None:
    """LLVM puts functions elsewhere when told so; each range of code is known with its lines."""
    loaded = load([assemble('.text\n.globl a\na: ret\n.section .text.cold,"ax"\n.globl b\nb: ret')], {})
    assert loaded.symbols["a"] != loaded.symbols["b"]
    assert [loaded.object_at(loaded.symbols[name]) for name in "ab"] == [0, 0]
    assert loaded.contains(loaded.symbols["b"])


def test_code_goes_with_the_last_reference_to_its_memory() -> None:
    assert is_at_rest()  # earlier tests' guests may still be compiled
    before = live_mappings()
    loaded, other = load([emit(ADD)], {}), load([emit(ADD)], {})
    add = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(other.symbols["add"])
    memory = loaded.memory
    memory.attach(other.memory)
    del loaded, other
    assert live_mappings() == before + 2
    assert add(1, 2) == 3
    assert not gc.is_tracked(memory)
    del memory
    assert live_mappings() == before


DAMAGE = [emit(VARIED), with_lines([10, 300, 20]), assemble(RELOCATIONS)]
EXTERNALS = {"host": 1 << 40, "log": 1 << 40, "far": 1 << 41, "small": 1}


def test_what_is_damaged_can_be_loaded() -> None:
    for content in DAMAGE:
        assert load([content], EXTERNALS).functions


def load_damaged(content: bytes) -> None:
    """It loads or is refused; then its tables can be read or are refused. It is never run."""
    try:
        loaded = load([content], EXTERNALS)
        for function in loaded.functions:
            loaded.offset_at(function.address)
        for address, size, _ in loaded.unwind_tables:
            loaded.read(address, size)
    except ObjectError as error:
        assert str(error)


@given(st.sampled_from(DAMAGE), st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_truncated_objects(content: bytes, data: st.DataObject) -> None:
    load_damaged(content[: data.draw(st.integers(0, len(content) - 1))])


@given(st.sampled_from(DAMAGE), st.data())
@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_objects(content: bytes, data: st.DataObject) -> None:
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        # Headers, symbols and relocations are at the end, so damage there is tried more often.
        place = data.draw(st.one_of(st.integers(0, len(content) - 1), st.integers(len(content) // 2, len(content) - 1)))
        changed[place] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 0x7F, 0x80, 0xFF])))
    load_damaged(bytes(changed))


@given(st.binary(max_size=200))
def test_other_bytes(content: bytes) -> None:
    for damaged in (content, b"\x7fELF" + content, DAMAGE[0][:64] + content):
        load_damaged(damaged)
