"""The decoder: what it reads, and what it refuses where."""

from __future__ import annotations

import pytest

from tests.binary.build import (
    CODE,
    DATA,
    DATA_COUNT,
    ELEM,
    EXPORT,
    FUNC,
    GLOBAL,
    HEADER,
    IMPORT,
    MEMORY,
    START,
    TABLE,
    TAG,
    TYPE,
    body,
    function,
    module,
    section,
    vec,
)
from wasmloom.binary.decoder import decode_module
from wasmloom.errors import CompileError, ValidationError
from wasmloom.spec.canon import func_type, intern_func_type, new_types, sub_type
from wasmloom.spec.types import (
    CONCRETE,
    FUNCREF,
    I32,
    I64,
    ArrayType,
    ContType,
    FuncType,
    GlobalType,
    Limits,
    MemoryType,
    StructType,
    TableType,
    ref_type,
)

VOID = b"\x60\0\0"
NAME = b"\x01m\x01n"


@pytest.mark.parametrize(
    ("data", "message", "offset"),
    [
        (b"", "unexpected end", 0),
        (b"\0as", "unexpected end", 0),
        (b"\0asn\1\0\0\0", "magic header not detected", 0),
        (b"\0asm\1\0", "unexpected end", 4),
        (b"\0asm\2\0\0\0", "unknown binary version", 4),
        (module(b"\x0e\0"), "malformed section id", 8),
        (module(b"\x01"), "unexpected end", 9),
        (module(b"\x01\x05\x00"), "length out of bounds", 9),
        (module(section(TYPE, b"\0\0")), "section size mismatch", 11),
        (module(section(FUNC, b"\0"), section(TYPE, b"\0")), "unexpected content after last section", 11),
        (module(section(TYPE, b"\0"), section(TYPE, b"\0")), "unexpected content after last section", 11),
        (module(section(CODE, b"\0"), section(DATA_COUNT, b"\0")), "unexpected content after last section", 11),
        (module(section(TYPE, vec(b"\x61\0\0"))), "malformed type definition", 11),
        (module(section(TYPE, vec(b"\x60\x01\x40\0"))), "malformed value type", 13),
        (module(section(TYPE, vec(b"\x60\x01\x77\0"))), "malformed value type", 13),
        (module(section(TYPE, vec(b"\x5e\x7f\x02"))), "malformed mutability", 13),
        (module(section(TYPE, vec(b"\x5d\x70"))), "malformed continuation type", 12),
        (module(section(TYPE, b"\x05\x60\0\0")), "unexpected end", 14),
        (module(section(IMPORT, vec(NAME + b"\x05"))), "malformed import kind", 15),
        (module(section(IMPORT, vec(b"\x01\xff\x01n\0\0"))), "malformed UTF-8 encoding", 12),
        (module(section(IMPORT, vec(b"\x01m\x03\xed\xa0\x80\0\0"))), "malformed UTF-8 encoding", 14),
        (module(section(IMPORT, vec(b"\x7fm\x01n\0\0"))), "length out of bounds", 11),
        (module(section(TABLE, vec(b"\x7f\0\0"))), "malformed reference type", 11),
        (module(section(TABLE, vec(b"\x70\x02\0"))), "malformed limits flags", 12),
        (module(section(TABLE, vec(b"\x70\x81\0\0\0"))), "malformed limits flags", 12),
        (module(section(MEMORY, vec(b"\x10\0"))), "malformed limits flags", 11),
        (module(section(MEMORY, vec(b"\x08\0\x40"))), "invalid custom page size", 13),
        (module(section(TAG, vec(b"\x01\0"))), "malformed tag attribute", 11),
        (module(section(GLOBAL, vec(b"\x7f\x02\x41\0\x0b"))), "malformed mutability", 12),
        (module(section(GLOBAL, vec(b"\x7f\0\x41\0"))), "unexpected end", 15),
        (module(section(GLOBAL, vec(b"\x7f\0\xff\x0b"))), "illegal opcode ff", 13),
        (module(section(GLOBAL, vec(b"\x7f\0\xfd\x9a\x01\x0b"))), "illegal opcode fd 9a", 13),
        (module(section(EXPORT, vec(b"\x01x\x05\0"))), "malformed export kind", 13),
        (module(section(ELEM, vec(b"\x08\0"))), "malformed elements segment kind", 11),
        (module(section(ELEM, vec(b"\x01\x01\0"))), "malformed element kind", 12),
        (module(section(ELEM, vec(b"\x05\x7f\0"))), "malformed reference type", 12),
        (module(section(DATA, vec(b"\x03\0"))), "malformed data segment kind", 11),
        (module(section(DATA, vec(b"\x01\x05ab"))), "unexpected end", 15),
        (module(section(FUNC, vec(b"\0"))), "function and code section have inconsistent lengths", 12),
        (module(section(CODE, vec(body()))), "function and code section have inconsistent lengths", 14),
        (module(section(DATA_COUNT, b"\x01")), "data count and data section have inconsistent lengths", 11),
        (module(section(DATA_COUNT, b"\0"), section(DATA, vec(b"\x01\0"))), "data count and data section", 16),
        (module(section(CODE, b"\x01\x05\0")), "unexpected end", 13),
        (module(section(FUNC, b"\xff\xff\xff\xff\x0f")), "too many functions", 10),
        (module(section(0, b"\x05abc")), "length out of bounds", 10),
    ],
)
def test_malformed(data: bytes, message: str, offset: int) -> None:
    with pytest.raises(CompileError) as caught:
        decode_module(data)
    assert caught.value.reason.startswith(message)
    assert caught.value.offset == offset
    assert not isinstance(caught.value, ValidationError)
    assert f"at offset 0x{offset:x}" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (module(section(TYPE, vec(b"\x60\x01\x63\x02\0"))), 11),
        (module(section(TYPE, vec(VOID, b"\x50\x01\x01\x60\0\0"))), 14),
        (module(section(TYPE, vec(b"\x4e" + vec(VOID, b"\x60\x01\x63\x02\0")))), 16),
        (module(section(IMPORT, vec(NAME + b"\0\0"))), 11),
        (module(section(TYPE, vec(VOID)), section(FUNC, vec(b"\x01")), section(CODE, vec(body()))), 17),
        (module(section(TABLE, vec(b"\x63\0\0\0"))), 11),
        (module(section(GLOBAL, vec(b"\x63\0\0\xd0\x70\x0b"))), 11),
        (module(section(TAG, vec(b"\0\0"))), 11),
        (module(section(ELEM, vec(b"\x05\x63\0\0"))), 11),
    ],
)
def test_unknown_type(data: bytes, offset: int) -> None:
    with pytest.raises(ValidationError, match="unknown type") as caught:
        decode_module(data)
    assert caught.value.offset == offset


def test_empty_module() -> None:
    m = decode_module(HEADER)
    assert m.types == m.imports == m.exports == []
    assert m.start is None
    assert m.data_count is None


def test_index_spaces_put_imports_first() -> None:
    m = decode_module(
        module(
            section(TYPE, vec(VOID, b"\x60\x01\x7f\x01\x7e")),
            section(
                IMPORT,
                vec(
                    NAME + b"\0\x01",
                    NAME + b"\x01\x70\x01\x01\x09",
                    NAME + b"\x02\x04\x02",
                    NAME + b"\x03\x7e\x01",
                    NAME + b"\x04\0\x01",
                ),
            ),
            section(FUNC, vec(b"\0", b"\x01")),
            section(TABLE, vec(b"\x40\0\x63\x01\x04\x03\xd0\x01\x0b")),
            section(MEMORY, vec(b"\x08\x01\0")),
            section(TAG, vec(b"\0\0")),
            section(GLOBAL, vec(b"\x7f\0\x41\x05\x0b")),
            section(EXPORT, vec(b"\x01a\0\x01", b"\x01b\x04\x01")),
            section(START, b"\x01"),
            section(CODE, vec(body(), body(b"\0"))),
        )
    )
    kept = new_types()
    to_i64 = intern_func_type(FuncType((I32,), (I64,)), kept)
    nothing = intern_func_type(FuncType((), ()), kept)
    assert m.num_imported_funcs == m.num_imported_tables == m.num_imported_memories == 1
    assert m.num_imported_globals == m.num_imported_tags == 1
    assert list(m.func_types) == [1, 0, 1]
    assert list(m.func_type_ids) == [to_i64, nothing, to_i64]
    assert [func_type(id) for id in m.type_ids] == [s.composite for s in m.types]
    assert m.imports[0].type == to_i64
    assert m.tables == [
        TableType(FUNCREF, Limits(1, 9)),
        TableType(ref_type(CONCRETE + to_i64, True), Limits(3, None), True),
    ]
    assert m.table_inits[0].code == b"\xd0\x01\x0b"
    assert m.memories == [MemoryType(Limits(2, None), True), MemoryType(Limits(1, None), page_size_log2=0)]
    assert m.globals == [GlobalType(I64, True), GlobalType(I32, False)]
    assert m.data[m.global_inits[0].offset :].startswith(m.global_inits[0].code)
    assert [t.type for t in m.tags] == [to_i64, nothing]
    assert [(e.name, e.kind, e.index) for e in m.exports] == [("a", "func", 1), ("b", "tag", 1)]
    assert m.start == 1
    assert [m.data[a:b] for a, b in zip(m.body_starts, m.body_ends, strict=True)] == [b"\0\x0b", b"\0\0\x0b"]


def group(first: int) -> bytes:
    """A recursive group whose first member has the type index `first`, and which names the type 0 before it."""
    me = bytes([first])
    return b"\x4e" + vec(
        b"\x50\0\x5f\x01\x63" + me + b"\x01",
        b"\x50\x01" + me + b"\x5f\x02\x63" + me + b"\x01\x78\0",
        b"\x5e\x77\x01",
        b"\x5d\0",
    )


def test_recursive_types_are_canonical() -> None:
    first = decode_module(module(section(TYPE, vec(VOID, group(1)))))
    second = decode_module(
        module(section(TYPE, vec(VOID, b"\x60\x01\x7f\0", group(2), group(2).replace(b"\x63", b"\x64"))))
    )
    assert [len(g) for g in first.rec_groups] == [1, 4]
    assert first.types[1].composite.fields[0].storage == ref_type(CONCRETE + 1, True)
    struct = sub_type(first.type_ids[1]).composite
    assert isinstance(struct, StructType)
    assert struct.fields[0].storage == ref_type(CONCRETE + first.type_ids[1], True)
    assert isinstance(first.types[3].composite, ArrayType)
    assert sub_type(first.type_ids[2]).supers == (first.type_ids[1],)
    assert second.type_ids[2:6] == first.type_ids[1:5]
    assert set(second.type_ids[6:]).isdisjoint(first.type_ids)


def test_continuation_types() -> None:
    m = decode_module(module(section(TYPE, vec(VOID, b"\x5d\0"))))
    assert m.types[1].composite == ContType(CONCRETE)
    assert sub_type(m.type_ids[1]).composite == ContType(CONCRETE + m.type_ids[0])


def test_segments() -> None:
    m = decode_module(
        module(
            section(
                ELEM,
                vec(
                    b"\0\x41\x07\x0b\x02\x03\x04",
                    b"\x01\0\x01\x05",
                    b"\x02\x01\x41\0\x0b\0\x01\x06",
                    b"\x03\0\0",
                    b"\x04\x41\0\x0b\x01\xd2\0\x0b",
                    b"\x05\x6f\x01\xd0\x6f\x0b",
                    b"\x06\x02\x41\0\x0b\x70\0",
                    b"\x07\x70\x01\xd0\x70\x0b",
                ),
            ),
            section(DATA_COUNT, b"\x03"),
            section(DATA, vec(b"\0\x41\0\x0b\x02hi", b"\x01\x01x", b"\x02\x01\x41\x08\x0b\0")),
        )
    )
    shown = [(e.mode, list(e.funcs), e.table, e.length, e.type.is_nullable) for e in m.elements]
    assert shown == [
        ("active", [3, 4], 0, 2, False),
        ("passive", [5], 0, 1, False),
        ("active", [6], 1, 1, False),
        ("declarative", [], 0, 0, False),
        ("active", [], 0, 1, True),
        ("passive", [], 0, 1, True),
        ("active", [], 2, 0, True),
        ("declarative", [], 0, 1, True),
    ]
    assert m.elements[5].exprs[0].code == b"\xd0\x6f\x0b"
    assert [(d.mode, m.data[d.start : d.end], d.memory) for d in m.data_segments] == [
        ("active", b"hi", 0),
        ("passive", b"x", 0),
        ("active", b"", 1),
    ]
    assert m.data_count == 3


def test_nested_blocks_in_initialisers_are_one_expression() -> None:
    init = b"\x02\x40\x03\x40\x0b\x0b\x41\0\x0b"
    m = decode_module(module(section(GLOBAL, vec(b"\x7f\0" + init))))
    assert m.global_inits[0].code == init


def test_custom_sections_keep_their_place() -> None:
    m = decode_module(
        module(
            section(0, b"\x01a12"),
            section(TYPE, b"\0"),
            section(0, b"\x01b"),
            section(CODE, b"\0"),
            section(0, b"\x01c3"),
        )
    )
    assert [(c.name, c.data, c.after) for c in m.customs] == [("a", b"12", 0), ("b", b"", TYPE), ("c", b"3", CODE)]


def names(*subsections: bytes) -> bytes:
    return section(0, b"\x04name" + b"".join(subsections))


def test_names() -> None:
    m = decode_module(
        module(
            names(
                section(0, b"\x03mod"),
                section(1, vec(b"\0\x01f", b"\x05\x02gg")),
                section(2, vec(b"\0" + vec(b"\x01\x01x"))),
                section(10, vec(b"\x03" + vec(b"\0\x01y"))),
                section(11, vec(b"\0\x01t")),
            )
        )
    )
    assert m.names.module == "mod"
    assert m.names.maps["func"] == {0: "f", 5: "gg"}
    assert m.names.maps["tag"] == {0: "t"}
    assert m.names.locals == {0: {1: "x"}}
    assert m.names.fields == {3: {0: "y"}}


@pytest.mark.parametrize(
    "broken",
    [
        b"\x02\x05",
        section(2, b"\xff\xff\xff\xff\xff\xff"),
        section(4, vec(b"\0\x01\xff")),
        b"\x07",
        section(4, b"\x09"),
    ],
)
def test_malformed_names_are_ignored(broken: bytes) -> None:
    m = decode_module(module(names(section(1, vec(b"\0\x01f")), broken)))
    assert m.names.maps["func"] == {0: "f"}
    assert [c.name for c in m.syntax().customs] == ["name"], "what can't be read is kept as it is"


def test_code_of_syntax() -> None:
    m = decode_module(function(b"\x20\0\x1a", declarations=vec(b"\x02\x7f", b"\x01\x63\x6f")))
    assert m.syntax().code == [(((2, I32), (1, ref_type(0x6F, True))), b"\x20\0\x1a\x0b")]


def test_syntax_of_malformed_locals() -> None:
    with pytest.raises(CompileError, match="integer representation too long"):
        decode_module(function(declarations=b"\x80" * 6)).syntax()
