"""What a frame holds where it stands (`CodeSpace.state_at`): types by the validator, places by the translator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import wasmloom as wl
from tests.fuzz.differential import choices_of
from tests.fuzz.generator import generate
from wasmloom.compiler.bodies import read_body
from wasmloom.compiler.facts import Facts
from wasmloom.compiler.lowering import FunctionLowering
from wasmloom.compiler.options import Options
from wasmloom.runtime.frames import CONSTANT, NOWHERE, TypedPlace
from wasmloom.semantics.kinds import of_type, places
from wasmloom.spec.instructions import BY_MNEMONIC, INSTRUCTIONS

PROGRAMS = 5
#: Instructions in which a frame can wait, or behind which it can go on: where all its values can be read.
WAITS = {
    BY_MNEMONIC[name].index for name in ("loop", "call", "call_indirect", "call_ref", "suspend", "resume", "switch")
}


def module_of(text: str, **settings: Any) -> wl.Module:
    return wl.Module(text, wl.Engine(tier="interpreter", **settings))


def offset_of(module: wl.Module, mnemonic: str, function: int = -1) -> int:
    """Where the first instruction of that name is in a function of those defined in the module."""
    index = range(len(module.decoded.body_starts))[function]
    seen = Recorder(Facts(module.decoded), index)
    return next(offset for offset, (row, _) in seen.stacks.items() if INSTRUCTIONS[row].mnemonic == mnemonic)


def shown(found: tuple[TypedPlace, ...]) -> list[tuple[str, int, int]]:
    return [(str(place.type), place.slot, place.bits) for place in found]


class Recorder(FunctionLowering):
    """What the compiler knows of the operand stack: by the offset of each instruction that is reached, the instruction,
    and the kinds of the operands behind it, if anything is."""

    def __init__(self, facts: Facts, index: int) -> None:
        super().__init__(facts, Options(), index, lambda *_: "")
        self.stacks: dict[int, tuple[int, list[str] | None]] = {}
        self.lower()

    def instruction(self, instr: Any) -> None:
        before = self.dead
        super().instruction(instr)
        if before and self.dead:
            return
        kinds = ["i32" if value.type == "i1" else value.type for value in self.stack]
        self.stacks[instr.offset] = (instr.row, None if self.dead else kinds)


def functions(fuel: bool) -> Iterator[tuple[Any, Recorder, int]]:
    """Each function of some generated programs."""
    engine = wl.Engine(tier="interpreter", fuel=fuel)
    for case in range(PROGRAMS):
        for binary in generate(choices_of(5, case), stacks=case % 2 == 1).modules:
            space = wl.Module(binary, engine).code_space
            facts = Facts(space.module)
            for index in range(len(space.module.body_starts)):
                yield space, Recorder(facts, index), index


def test_types_are_those_that_the_compiler_finds() -> None:
    """At each instruction that is reached; the number of locals, too, and where they begin."""
    count = 0
    for space, recorder, index in functions(fuel=False):
        function = index + space.module.num_imported_funcs
        for offset, (row, kinds) in recorder.stacks.items():
            state = space.state_at(function, offset)
            local_kinds = [of_type(place.type) for place in state.locals]
            assert [kind.type for kind in local_kinds] == [kind for _, kind in recorder.locals]
            assert [place.slot for place in state.locals] == list(places(kind.name for kind in local_kinds)[:-1])
            if kinds is None:
                assert state.awaited == 0
            else:
                assert [of_type(place.type).type for place in state.operands] == kinds, (function, offset)
                assert state.awaited <= len(state.operands)
            if row in WAITS:
                assert all(place.slot != NOWHERE for place in state.operands)
                count += 1
    assert count > 60


def test_only_instructions_have_a_state() -> None:
    for space, recorder, index in functions(fuel=True):
        function, body = index + space.module.num_imported_funcs, read_body(space.module, index)[1]
        begins = {instr.offset for instr in body}
        for offset in range(space.module.body_starts[index] + 1, space.module.body_ends[index]):
            if offset not in begins:
                with pytest.raises(ValueError, match="no instruction"):
                    space.state_at(function, offset)
        assert space.state_at(function, space.module.body_starts[index]) == space.state_at(function, 0)
        assert recorder.stacks.keys() <= begins


def test_only_what_is_reached_has_a_state() -> None:
    module = module_of("""(module (func
      (block (br 0) (i32.const 1) (block (param i32) (drop)) (drop (i64.const 1))) (nop) (unreachable)))""")
    body = read_body(module.decoded, 0)[1]
    reached = []
    for instr in body:
        try:
            module.code_space.state_at(0, instr.offset)
        except ValueError as error:
            assert "nothing reaches offset" in str(error)
        else:
            reached.append(INSTRUCTIONS[instr.row].mnemonic)
    assert reached == ["block", "br", "end", "nop", "unreachable"]


def test_where_operands_are() -> None:
    """Constants and locals that haven't been read are where they were; results are awaited where they will be."""
    module = module_of("""(module (import "m" "f" (func $f (param i32) (result i64 f32)))
      (func (param i32 f64) (local funcref)
        (i32.const 7) (local.get 1) (i32.add (local.get 0) (i32.const 1)) (call $f (i32.const 3))
        (drop) (drop) (drop) (drop) (drop)))""")
    state = module.code_space.state_at(1, offset_of(module, "call"))
    assert shown(state.locals) == [("i32", 0, 0), ("f64", 1, 0), ("funcref", 2, 0)]
    # Behind the locals are the return ip and the instance.
    assert shown(state.operands) == [
        ("i32", CONSTANT, 7), ("f64", 1, 0), ("i32", 7, 0), ("i64", 8, 0), ("f32", 9, 0)
    ]  # fmt: skip
    assert state.awaited == 2
    assert not state.unset


def test_what_the_instruction_takes_is_gone() -> None:
    """Of one that fails what is below its operands is left, and its result is awaited."""
    module = module_of("""(module (memory 1) (func (param i32) (result i32)
      (i32.add (i32.mul (local.get 0) (local.get 0)) (i32.load (i32.div_s (local.get 0) (i32.const 0))))))""")
    for mnemonic in ("i32.div_s", "i32.load"):
        state = module.code_space.state_at(0, offset_of(module, mnemonic))
        assert [str(place.type) for place in state.operands] == ["i32", "i32"]
        assert state.awaited == 1


def test_where_nothing_follows_operands_are_those_from_before() -> None:
    module = module_of("(module (func (i64.const 5) (f32.const 1) (unreachable)))")
    state = module.code_space.state_at(0, offset_of(module, "unreachable"))
    assert shown(state.operands) == [("i64", CONSTANT, 5), ("f32", CONSTANT, 0x3F800000)]
    assert state.awaited == 0


def test_what_is_in_an_accumulator_only_is_nowhere() -> None:
    module = module_of("(module (func (param i32) (result i32) (i32.add (local.get 0) (local.get 0)) (nop)))")
    state = module.code_space.state_at(0, offset_of(module, "nop"))
    assert shown(state.operands) == [("i32", NOWHERE, 0)]


def test_a_loop_has_its_parameters() -> None:
    """A frame that stands at it is about to begin a round."""
    module = module_of("""(module (func (param i32) (result i32)
      (f64.const 2) (local.get 0) (loop (param i32) (result i32) (br_if 0 (i32.const 0))) (return)))""")
    state = module.code_space.state_at(0, offset_of(module, "loop"))
    assert [str(place.type) for place in state.operands] == ["f64", "i32"]
    assert state.awaited == 0


def test_references_have_their_types() -> None:
    """Only the validator knows more than one kind of references, and which locals have no value yet."""
    module = module_of("""(module (type $v (func)) (type $k (cont $v)) (tag $t)
      (func $f (param (ref $k) externref) (local (ref $v) (ref null $k)) (local.get 0) (ref.func $f2)
        (suspend $t) (local.set 2 (ref.func $f2)) (loop) (drop) (drop)) (func $f2) (elem declare func $f2))""")
    space = module.code_space
    v, k = module.decoded.type_ids[:2]
    before, after = (space.state_at(0, offset_of(module, name, 0)) for name in ("suspend", "loop"))
    assert [str(place.type) for place in before.locals] == [
        f"(ref {k})", "externref", f"(ref {v})", f"(ref null {k})"
    ]  # fmt: skip
    assert [str(place.type) for place in before.operands] == [f"(ref {k})", f"(ref (exact {v}))"]
    assert (before.unset, after.unset) == ({2}, set())


@pytest.mark.parametrize("translation", ["lazy", "lazy-translation", "eager"])
def test_any_function_can_be_asked_for(translation: str) -> None:
    """Also those that haven't been called, and named functions of a module that is validated as it is used."""
    text = "(module (func $f (drop (ref.func $f)) (call $f)) (elem declare func $f))"
    module = module_of(text, translation=translation)
    state = module.code_space.state_at(0, module.decoded.body_ends[0] - 3)
    assert (state.locals, state.operands) == ((), ())
    with pytest.raises(IndexError):
        module.code_space.state_at(1, 0)


def test_compiled_code_has_types_only() -> None:
    text = """(module (func $f (param i32)
      (drop (i32.add (local.get 0) (i32.const 1))) (i64.const 2) (call $f (i32.const 1)) (drop)))"""
    module, compiled = module_of(text), wl.Module(text, wl.Engine(tier="compiler", cache=False))
    offset = offset_of(module, "call")
    known, seen = module.code_space.state_at(0, offset), compiled.compile().state_at(0, offset)
    assert [place.type for place in seen.locals] == [place.type for place in known.locals]
    assert [place.type for place in seen.operands] == [place.type for place in known.operands]
    assert {place.slot for place in (*seen.locals, *seen.operands)} == {NOWHERE}
