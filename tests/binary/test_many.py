"""Modules with very many entries: what they cost, and how many are too many."""

from __future__ import annotations

import ast
import gc
import sys
from array import array

import pytest

import wasmloom as wl
from tests.binary.build import (
    CODE,
    DATA,
    ELEM,
    EXPORT,
    FUNC,
    GLOBAL,
    IMPORT,
    MEMORY,
    TABLE,
    TAG,
    TYPE,
    module,
    section,
    vec,
)
from tests.conftest import PROJECT
from wasmloom.binary.decoder import decode_module
from wasmloom.binary.encoder import name_bytes as name
from wasmloom.binary.encoder import uleb
from wasmloom.errors import CompileError
from wasmloom.validation import validate_module

_VOID = b"\x60\0\0"
_TYPES = section(TYPE, vec(_VOID))
_FUNCS = section(FUNC, vec(b"\0")), section(CODE, vec(b"\2\0\x0b"))


def _vec(entry: bytes, count: int) -> bytes:
    return uleb(count) + entry * count


def _many(kind: str, n: int) -> bytes:
    """A module with `n` entries of a kind."""
    match kind:
        case "types":
            return module(section(TYPE, _vec(_VOID, n)))
        case "fields":
            return module(section(TYPE, vec(b"\x5f" + _vec(b"\x7f\1", n // 2), b"\x5f" + _vec(b"\x7f\0", n // 2))))
        case "groups":
            return module(section(TYPE, vec(b"\x4e" + _vec(_VOID, n // 2), b"\x4e" + _vec(_VOID, n // 2))))
        case "imports":
            return module(_TYPES, section(IMPORT, _vec(name("a") + name("b") + b"\0\0", n)))
        case "functions":
            return module(_TYPES, section(FUNC, _vec(b"\0", n)), section(CODE, _vec(b"\2\0\x0b", n)))
        case "tables":
            return module(section(TABLE, _vec(b"\x70\0\0", n)))
        case "tags":
            return module(_TYPES, section(TAG, _vec(b"\0\0", n)))
        case "globals":
            return module(section(GLOBAL, _vec(b"\x7f\0\x41\0\x0b", n)))
        case "segments":
            return module(_TYPES, section(TABLE, vec(b"\x70\0\1")), section(ELEM, _vec(b"\0\x41\0\x0b\0", n)))
        case "elements":
            segment = b"\1\0" + _vec(b"\0", n)
            return module(_TYPES, _FUNCS[0], section(ELEM, vec(segment)), _FUNCS[1])
        case "element expressions":
            segment = b"\5\x70" + _vec(b"\xd2\0\x0b", n)
            return module(_TYPES, _FUNCS[0], section(ELEM, vec(segment)), _FUNCS[1])
        case "data":
            return module(section(MEMORY, vec(b"\0\1")), section(DATA, _vec(b"\0\x41\0\x0b\0", n)))
        case "customs":
            return module(section(0, name("a")) * n)
        case _:
            exports = [name(f"{i:x}") + b"\0\0" for i in range(n)]
            return module(_TYPES, _FUNCS[0], section(EXPORT, vec(*exports)), _FUNCS[1])


_KINDS = (
    "types", "fields", "groups", "imports", "functions", "tables", "tags", "globals", "segments", "elements",
    "element expressions", "data", "customs",
)  # fmt: skip


def _objects(kind: str, n: int) -> int:
    """How many blocks of Python's memory a decoded module holds on to."""
    data = _many(kind, n)
    gc.collect()
    before = sys.getallocatedblocks()
    kept = validate_module(decode_module(data)).module
    gc.collect()
    after = sys.getallocatedblocks()
    assert kept.data is data
    return after - before


@pytest.mark.parametrize("kind", _KINDS)
def test_entries_are_no_objects(kind: str) -> None:
    _objects(kind, 10)
    assert _objects(kind, 10_000) < _objects(kind, 10) + 200


def test_exports_are_a_dictionary() -> None:
    _objects("exports", 10)
    assert _objects("exports", 10_000) < 25_000


@pytest.mark.parametrize("kind", (*_KINDS, "exports"))
def test_views_of_many(kind: str) -> None:
    n = 500
    m = decode_module(_many(kind, n))
    syntax = m.syntax()
    counts = {
        "types": len(m.types), "fields": sum(len(t.composite.fields) for t in m.types if kind == "fields"),
        "groups": sum(map(len, syntax.rec_groups)), "imports": len(m.imports), "functions": len(syntax.code),
        "tables": len(m.tables), "tags": len(m.tags), "globals": len(m.globals), "segments": len(m.elements),
        "data": len(m.data_segments), "customs": len(m.customs), "exports": len(m.exports),
        "elements": sum(len(e.funcs) for e in m.elements),
        "element expressions": sum(len(e.exprs or ()) for e in m.elements),
    }  # fmt: skip
    assert counts[kind] == n


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (section(TYPE, uleb(1_000_001) + bytes(9)), "types: 1000001, the limit is 1000000"),
        (section(TYPE, b"\2" + _VOID + b"\x4e" + uleb(1_000_000) + b"\x60" * 1_000_000), "types: 1000001"),
        (section(TYPE, b"\1\x5f" + uleb(10_001) + bytes(9)), "fields: 10001, the limit is 10000"),
        (section(TYPE, b"\1\x60" + uleb(1_001) + bytes(9)), "parameters: 1001, the limit is 1000"),
        (section(TYPE, b"\1\x60\0" + uleb(1_001) + bytes(9)), "results: 1001, the limit is 1000"),
        (section(IMPORT, uleb(1_000_001) + bytes(9)), "imports: 1000001, the limit is 1000000"),
        (section(FUNC, uleb(1_000_001) + bytes(9)), "functions: 1000001, the limit is 1000000"),
        (section(TABLE, uleb(100_001) + bytes(9)), "tables: 100001, the limit is 100000"),
        (section(MEMORY, uleb(101) + bytes(9)), "memories: 101, the limit is 100"),
        (section(IMPORT, _vec(b"\0\0\2\0\0", 101)), "memories: the limit is 100"),
        (section(TAG, uleb(1_000_001) + bytes(9)), "tags: 1000001, the limit is 1000000"),
        (section(GLOBAL, uleb(1_000_001) + bytes(9)), "globals: 1000001, the limit is 1000000"),
        (section(EXPORT, uleb(1_000_001) + bytes(9)), "exports: 1000001, the limit is 1000000"),
        (section(ELEM, uleb(10_000_001) + bytes(9)), "element segments: 10000001, the limit is 10000000"),
        (section(ELEM, b"\1\1\0" + uleb(10_000_001) + bytes(9)), "elements: 10000001, the limit is 10000000"),
        (section(DATA, uleb(100_001) + bytes(9)), "data segments: 100001, the limit is 100000"),
    ],
)
def test_limits_by_name(body: bytes, what: str) -> None:
    with pytest.raises(CompileError, match=f"too many {what}"):
        decode_module(module(body))


def test_counts_are_compared_with_the_bytes_that_are_left() -> None:
    for id in (TYPE, IMPORT, FUNC, GLOBAL, EXPORT, ELEM, TAG):
        with pytest.raises(CompileError, match="unexpected end"):
            decode_module(module(section(id, uleb(900_000) + bytes(9))))


def test_constant_expressions_have_a_limit() -> None:
    with pytest.raises(CompileError, match=r"expression too large: \d+ bytes, the limit is 7654321"):
        decode_module(module(section(GLOBAL, b"\1\x7f\0" + b"\1" * 7_654_321 + b"\x41\0\x0b")))


@pytest.mark.parametrize("instruction", [b"\x1f\x40", b"\xe3\0"])
def test_clauses_have_a_limit(instruction: bytes) -> None:
    code = instruction + uleb(10_001) + b"\2\0" * 10_001 + b"\x0b\x0b"
    body = b"\0" + code
    data = module(_TYPES, section(FUNC, vec(b"\0")), section(CODE, vec(uleb(len(body)) + body)))
    with pytest.raises(CompileError, match="too many clauses: 10001, the limit is 10000"):
        validate_module(decode_module(data))


def test_nothing_asks_for_lists_in_loops() -> None:
    """They are made anew each time: code that runs for each instruction takes single entries."""
    decoded = decode_module(module(_TYPES))
    values = {name: getattr(decoded, name) for name in dir(decoded) if not name.startswith("_")}
    lists = {name for name, value in values.items() if type(value) in (list, array)}
    lists = {f"module.{name}" for name in lists if getattr(decoded, name) is not values[name]}
    assert {"module.types", "module.type_ids", "module.globals"} <= lists
    once = ("__init__", "__cinit__", "perhaps_too_large", "_fixed_tables", "_referred")  # these run once for a module
    asked = []
    for path in sorted((PROJECT / "src" / "wasmloom").glob("*/*.py")):
        if path.parent.name in ("interpreter", "compiler", "validation"):
            functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
            for function in functions:
                if function.name not in once:
                    nodes = [ast.unparse(node) for node in ast.walk(function) if isinstance(node, ast.Attribute)]
                    asked += [f"{path.name}: {text}" for text in nodes if ".".join(text.split(".")[-2:]) in lists]
    assert asked == []


def test_locals_in_many_runs() -> None:
    runs = [(i % 7, (b"\x7f", b"\x7e", b"\x64\x70")[i % 3]) for i in range(2_000)]
    kinds = [kind for count, kind in runs for _ in range(count)]
    declared = vec(*[uleb(count) + kind for count, kind in runs])
    for index in (0, 1, 255, 256, 257, 1_000, len(kinds) - 1):
        read = b"\x20" + uleb(index)
        code = {b"\x7f": read + b"\x45\x1a", b"\x7e": read + b"\x50\x1a", b"\x64\x70": read + b"\x1a"}[kinds[index]]
        body = declared + code + b"\x0b"
        data = module(_TYPES, section(FUNC, vec(b"\0")), section(CODE, vec(uleb(len(body)) + body)))
        if kinds[index] == b"\x64\x70":
            with pytest.raises(CompileError, match=f"uninitialized local {index}"):
                validate_module(decode_module(data))
        else:
            validate_module(decode_module(data))
    body = declared + b"\x20" + uleb(len(kinds)) + b"\x1a\x0b"
    with pytest.raises(CompileError, match=f"unknown local {len(kinds)}"):
        validate_module(
            decode_module(module(_TYPES, section(FUNC, vec(b"\0")), section(CODE, vec(uleb(len(body)) + body))))
        )


def test_parameters_count_as_locals() -> None:
    body = b"\1" + uleb(50_000) + b"\x7f\x0b"
    for type, fits in ((b"\x60\0\0", True), (b"\x60\1\x7f\0", False)):
        data = module(section(TYPE, vec(type)), section(FUNC, vec(b"\0")), section(CODE, vec(uleb(len(body)) + body)))
        if fits:
            validate_module(decode_module(data))
        else:
            with pytest.raises(CompileError, match="too many locals: 50001, the limit is 50000"):
                validate_module(decode_module(data))


def test_names_of_locals_are_left_alone_by_backtraces() -> None:
    inner = uleb(10_000) + b"".join(uleb(i) + b"\1\0\1a" for i in range(10_000))
    contents = name("name") + b"\1\4\1\0\1f" + b"\2" + uleb(len(inner)) + inner
    m = decode_module(module(_TYPES, _FUNCS[0], _FUNCS[1], section(0, contents)))
    assert m.index_names.maps["func"] == {0: "f"}
    assert not m.index_names.locals
    assert len(m.names.locals) == 10_000


def test_many_imports_share_their_types() -> None:
    m = wl.Module(_many("imports", 1_000), wl.Engine(tier="interpreter"))
    assert {(i.module, i.name, i.kind) for i in m.imports} == {("a", "b", "func")}
    assert len({id(i.type) for i in m.imports}) == 1
