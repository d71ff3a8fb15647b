"""What the generated handlers look like as machine code, at every level: speed doesn't depend on a build profile.

The unfused handlers and a sample of the fused ones are compiled; set WASMLOOM_ALL_HANDLERS to compile them all, which
takes minutes.
"""

from __future__ import annotations

import os
import platform
import re
from functools import cache

import pytest

from wasmloom.contract import layout
from wasmloom.interpreter import handlers as generated
from wasmloom.interpreter.handlers import OUTLINED
from wasmloom.interpreter.isa import Handler

binding = pytest.importorskip("llvmlite.binding")

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86-64 assembly")

LEVELS = (1, 2, 3)
#: One of so many fused handlers is compiled.
SAMPLE = 1 if os.environ.get("WASMLOOM_ALL_HANDLERS") else 40

#: Handlers that go on in an outlined one, and those that leave the guest: waiting traps while no memory is shared.
NO_NEXT = (
    {f"wl.memory.atomic.wait{width}{wide}" for width in (32, 64) for wide in ("", ".w")}
    | {f"wl.{name}" for name in ("leave", "unreachable", "host_threw", "throw", "throw_ref", "rethrow", "cross_back")}
    | {f"wl.{name}{variant}" for name in ("resume_throw", "resume_throw_ref") for variant in ("", ".traced")}
)

_FUNCTION = re.compile(r'^"?(\w[\w.+]*)"?:\n(.*?)^\.Lfunc_end', re.MULTILINE | re.DOTALL)
_INDIRECT = re.compile(r"jmpq\s+\*")
#: What crosses to compiled code is written in assembly.
CROSSINGS = ("wl_native_call", "wl_cross_return")
_OUTLINED = re.compile(rf"j\w+\s+({'|'.join((*OUTLINED, *CROSSINGS))})$")
_LOCAL = re.compile(r"j\w+\s+\.L\w+$")
_FRAME = re.compile(r"^(push|pop[wlq]?\s|leave|enter)|%[re]?sp\b")
_TRAP = re.compile(rf"movq\s+\S+, {layout.offset('WlContext', 'trap_code')}\(%r15\)")


class Selection(generated.HandlerSet):
    """The handlers that are compiled here; the tables, which say their numbers, stay empty."""

    def __init__(self) -> None:
        super().__init__()
        fused = set(self.fused.values())
        self.handlers = [
            handler for number, handler in enumerate(self.handlers) if number not in fused or number % SAMPLE == 0
        ]
        self.tables = {}

    def fusion_tables(self) -> dict[str, list[int]]:
        return {}


@cache
def selection() -> dict[str, Handler]:
    return {f"wl.{handler.name}": handler for handler in Selection().handlers}


@cache
def assembly(level: int) -> dict[str, list[str]]:
    """Function → its instructions and labels, at an optimisation level."""
    original = generated.HandlerSet
    generated.HandlerSet = Selection  # type: ignore[misc]
    try:
        module, machine = generated.compile_module(level)
    finally:
        generated.HandlerSet = original  # type: ignore[misc]
    # What is written in assembly (`wasmloom.target.stubs`) comes first, and isn't about handlers.
    text = machine.emit_assembly(module).partition("section\twl_text")[2]
    functions = {}
    for name, body in _FUNCTION.findall(text):
        lines = [line.strip() for line in body.splitlines()]
        functions[name] = [line for line in lines if line and not line.startswith(("#", ".cfi", ".p2align"))]
    return functions


@pytest.fixture(params=[*(pytest.param(level, marks=pytest.mark.slow) for level in LEVELS[:-1]), LEVELS[-1]])
def code(request: pytest.FixtureRequest) -> dict[str, list[str]]:
    return assembly(request.param)


def test_all_handlers_are_there(code: dict[str, list[str]]) -> None:
    assert set(selection()) <= set(code)
    assert len(selection()) > 1000
    assert all(lines for lines in code.values())


def test_handlers_leave_by_an_indirect_jump(code: dict[str, list[str]]) -> None:
    """A handler ends by jumping to the next one, to an outlined slow path or a crossing, or as a trap does."""
    wrong = []
    for name in selection():
        lines = code[name]
        for i, line in enumerate(lines):
            if line[0] == "j":
                if not (_LOCAL.match(line) or _OUTLINED.match(line) or _INDIRECT.match(line)):
                    wrong.append(f"{name}: {line}")
            elif line.startswith("ret"):
                # The trap exit, inlined: it has noted the code and the place.
                block = lines[:i]
                start = max((k for k, other in enumerate(block) if other.startswith(("jmp", "ret"))), default=0)
                if not any(_TRAP.match(other) for other in block[start:]):
                    wrong.append(f"{name}: return that is no trap")
        exits = [line for line in lines if not line.endswith(":")]
        if not exits[-1].startswith(("jmp", "ret")):
            wrong.append(f"{name}: falls off its end")
        if not any(_INDIRECT.match(line) for line in lines) and name not in NO_NEXT:
            wrong.append(f"{name}: never goes on")
    assert not wrong, wrong[:20]


def test_handlers_call_nothing(code: dict[str, list[str]]) -> None:
    """Only those that say so call the runtime."""
    calling = {name for name in selection() if any(line.startswith("call") for line in code[name])}
    assert calling == {name for name, handler in selection().items() if handler.calls_runtime}


def test_handlers_have_no_frame(code: dict[str, list[str]]) -> None:
    """No prologue, no spilled register: the stack pointer isn't touched."""
    wrong = [
        f"{name}: {line}"
        for name, handler in selection().items()
        if not handler.calls_runtime
        for line in code[name]
        if _FRAME.search(line)
    ]
    assert not wrong, wrong[:20]


def test_ordinary_handlers_are_one_straight_line(code: dict[str, list[str]]) -> None:
    """What can't trap and doesn't branch has a single exit, and few instructions."""
    for name in (
        "i32.add.ss.s",
        "i64.xor.sa.a",
        "f64.mul.ss.a",
        "i32.load.s.a",
        "f32.store.ss",
        "copy",
        "global.get.s",
    ):
        lines = code[f"wl.{name}"]
        assert sum(line.startswith("j") for line in lines) == 1, lines
        assert not any(line.endswith(":") for line in lines), lines
        assert len(lines) <= 16, lines
