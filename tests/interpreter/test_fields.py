"""Handlers, the translator and the runtime agree on where an instruction's fields are.

The offsets stand in the handlers' shapes only; who writes or reads instructions uses constants that are generated from
them. These tests hold that, and look at what the translator has written.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

import wasmloom as wl
from tests.fuzz.differential import choices_of
from tests.fuzz.generator import generate
from wasmloom.interpreter import handlers
from wasmloom.interpreter.isa import FIELD_KINDS, HEADER, Field, Handler, shape
from wasmloom.interpreter.machine import handler_addresses
from wasmloom.interpreter.stack_handlers import CLAUSE

SOURCES = Path(handlers.__file__).parents[1]
#: Who writes or reads bytecode.
USERS = (
    *(SOURCES / "interpreter").glob("*.py"),
    SOURCES / "runtime" / "collector.py",
    SOURCES / "tiers" / "change.py",
    SOURCES / "host" / "continuations.py",
)
HANDLERS = handlers.HandlerSet().handlers
MODULES = 12


def parameters(call: ast.Call) -> Iterator[ast.expr]:
    """The parts of what a call is given that could be offsets: summands of its arguments."""
    for argument in call.args:
        waiting = [argument]
        while waiting:
            part = waiting.pop()
            if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Add | ast.Sub):
                waiting += [part.left, part.right]
            else:
                yield part


@pytest.mark.parametrize("path", USERS, ids=lambda path: path.stem)
def test_no_offset_is_a_literal(path: Path) -> None:
    """What reads or writes a field is given a name or a generated constant, never a number."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if name in ("put16", "put32", "put64"):
                where = ast.Call(node.func, node.args[:1], [])
            elif name in ("slot", "number", "narrow", "target", "read_slot", "immediate", "field_at", "_field"):
                where = node
            else:
                continue
            found += [f"line {node.lineno}" for part in parameters(where) if is_number(part)]
    assert found == []


def is_number(part: ast.expr) -> bool:
    return isinstance(part, ast.Constant) and isinstance(part.value, int)


def test_the_constants_are_those_of_the_shapes() -> None:
    offsets = handlers.field_offsets()
    for handler in HANDLERS[: len(list(handlers.control_handlers.control_handlers()))]:
        for field in handler.shape.fields:
            name = "AT_DST" if field.kind == "dst" else f"AT_{handler.shape.name}.{field.name}"
            suffix = f".{field.kind}" if field.kind.startswith("imm") else ""
            assert offsets[(name + suffix).upper().replace(".", "_")] == field.offset


def test_shapes_of_one_name_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    there = list(handlers.shapes())
    monkeypatch.setattr(handlers, "shapes", lambda: iter([*there, shape("call", "delta:u16@18")]))
    with pytest.raises(ValueError, match="AT_CALL_DELTA is 16 in one shape and 18 in another"):
        handlers.field_offsets()


def test_fields_do_not_overlap() -> None:
    for handler in HANDLERS:
        taken: set[int] = set(range(HEADER))
        for field in handler.shape.fields:
            bytes_of_field = set(range(field.offset, field.offset + FIELD_KINDS[field.kind].width))
            assert not bytes_of_field & taken, (handler.name, field)
            assert not field.kind.endswith("64") or field.base or field.offset % 8 == 0, (handler.name, field)
            taken |= bytes_of_field
        assert max(taken) < handler.shape.size


class Instruction:
    """An instruction that the translator has written."""

    def __init__(self, code: bytes, start: int, handler: Handler) -> None:
        self.code, self.start, self.handler = code, start, handler
        self.extra: list[Field] = []
        if handler.shape.name == "br_table":
            first, last = handler.shape.field("targets").offset, self.number(handler.shape.field("count"))
            self.extra = [Field("target", "target", first + 4 * i) for i in range(last + 1)]
        elif handler.shape.name == "resume":
            first, clauses = handler.shape.field("clauses").offset, self.number(handler.shape.field("clause_count"))
            for i in range(clauses):
                self.extra += [field._replace(offset=field.offset + first + CLAUSE.size * i) for field in CLAUSE.fields]
        end = max((field.offset + FIELD_KINDS[field.kind].width for field in self.extra), default=handler.shape.size)
        self.size = (end + 7) & ~7

    @property
    def fields(self) -> list[Field]:
        return [*self.handler.shape.fields, *self.extra]

    def number(self, field: Field) -> int:
        kind, at = FIELD_KINDS[field.kind], self.start + field.offset
        return int.from_bytes(self.code[at : at + kind.width], "little", signed=kind.signed)


@pytest.fixture(scope="module")
def by_address() -> dict[int, Handler]:
    return dict(zip(handler_addresses(), HANDLERS, strict=True))


def instructions(code: bytes, by_address: dict[int, Handler]) -> Iterator[Instruction]:
    at = 0
    while at < len(code):
        found = Instruction(code, at, by_address[int.from_bytes(code[at : at + HEADER], "little")])
        yield found
        at += found.size
    assert at == len(code)


@pytest.mark.parametrize("memory", ["guarded", "checked"])
@pytest.mark.parametrize("case", range(MODULES))
def test_what_the_translator_writes(case: int, memory: str, by_address: dict[int, Handler]) -> None:
    """Targets are instructions, slots lie in the frame, and nothing is written outside of fields."""
    engine = wl.Engine(tier="interpreter", memory=memory, fuel=case % 3 == 0)
    for binary in generate(choices_of(7, case), stacks=case % 2 == 1).modules:
        space = wl.Module(binary, engine).code_space
        for index in count():
            try:
                code = space.bytecode(index)[0]
            except IndexError:
                break
            written = list(instructions(code, by_address))
            starts = {instruction.start for instruction in written}
            slots = written[0].number(written[0].handler.shape.field("frame")) // 8
            for instruction in written:
                used = set(range(instruction.start, instruction.start + HEADER))
                for field in instruction.fields:
                    number, at = instruction.number(field), instruction.start + field.offset
                    used |= set(range(at, at + FIELD_KINDS[field.kind].width))
                    if field.kind == "target" and number:
                        assert instruction.start + field.base + number in starts, instruction.handler.name
                    if field.kind in ("dst", "slot"):
                        assert number < slots, (instruction.handler.name, field)
                unused = set(range(instruction.start, instruction.start + instruction.size)) - used
                assert not any(code[at] for at in unused), instruction.handler.name
