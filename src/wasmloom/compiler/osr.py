"""On-stack replacement: a function that goes on as compiled code in the middle of its body.

Interpreted code can go on compiled where its state is known: behind a loop's label, behind a call or a suspension, and
where a `resume` gets control back. For such a place `OsrLowering` compiles the function once more, under the name
``wo.<n>``. It is called with the interpreter's frame, takes locals and operands from there, and goes to the place.
Everything that can be reached from it is compiled as ever.

The prototype is the same for all: ``void (environment, frame, results, outcome)``. Results are written to memory, one
behind the other; `outcome` has what the stack switch of a `resume` gives: reason, first value and reference. An
exception that is pending is thrown at the place.

A place inside a block can then be reached in two ways, and so can what lies behind the block. Operands below a block
are therefore kept in variables while the block is open, as locals are; LLVM turns both into values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wasmloom.compiler.abi import Signature
from wasmloom.compiler.builder import Scope
from wasmloom.compiler.facts import Facts
from wasmloom.compiler.inlining import Inlining
from wasmloom.compiler.labels import Label
from wasmloom.compiler.loops import Instr
from wasmloom.compiler.lowering import FunctionLowering
from wasmloom.compiler.options import Options
from wasmloom.runtime.frames import CONSTANT, NOWHERE
from wasmloom.semantics.llvm import Value, llvm_type
from wasmloom.spec.instructions import BY_MNEMONIC

if TYPE_CHECKING:
    from wasmloom.interpreter.code_space import CodeSpace


class OsrEntry(NamedTuple):
    """An entry to be compiled: of a function (of those defined in the module) at `place`, an offset in the module.

    It says where a frame has its values there: slots of locals, and of operands from the bottom (or `CONSTANT`, with
    its bits).
    """

    function: int
    place: int
    locals: tuple[int, ...]
    operands: tuple[tuple[int, int], ...]


def entry_at(space: CodeSpace, index: int, at: int) -> OsrEntry:
    """The entry of function `index` for frames that stand at an offset in its bytecode: see `CodeSpace.offset_at`."""
    place = space.offset_at(index, at)
    state = space.state_at(index + space.module.num_imported_funcs, place)
    return OsrEntry(
        index,
        place,
        (*(local.slot for local in state.locals), *state.own),
        tuple((operand.slot, operand.bits) for operand in state.operands),
    )


_LOOP = BY_MNEMONIC["loop"].index
#: These have the place in their middle, and call `came_back` there.
_RESUMES = frozenset(BY_MNEMONIC[name].index for name in ("resume", "resume_throw", "resume_throw_ref"))
_FRAME, _RESULTS, _OUTCOME = (Value(name, "ptr") for name in ("%frame", "%results", "%outcome"))


class UnreachableError(ValueError):
    """Control never arrives at a place. The translator, which sees less, has bytecode for it all the same."""


class _Kept(Value):
    """An operand that is kept in the variable `text`."""


class OsrLowering(FunctionLowering):
    """Lowers a function that is entered behind the instruction at a place; 0: at its beginning."""

    def __init__(
        self,
        facts: Facts,
        options: Options,
        scope: Scope,
        entry: OsrEntry,
        inlining: Inlining | None = None,
    ) -> None:
        super().__init__(facts, options, entry.function, scope, inlining)
        self.uniform = False
        self._place = entry.place
        self._slots = entry.locals
        self._operands = entry.operands
        self._variables: dict[tuple[int, str], Value] = {}

    def lower(self) -> list[str]:
        """The definition of the function. Raises `UnreachableError`."""
        lines = super().lower()
        if self._place >= 0:
            raise UnreachableError(f"nothing arrives at offset 0x{self._place:x} of function {self.index}")
        return lines

    def _header(self) -> str:
        params = "ptr swiftself %inst, ptr %frame, ptr %results, ptr %outcome"
        return f"define hidden void @wo.{self.index}({params}) #0{self.scope(-1, 0)} {{"

    def _result_type(self) -> str:
        return "void"

    def _declare_locals(self, runs: list[tuple[int, int]]) -> None:
        b = self.b
        kinds = [*self.signature.params, *self.local_kinds(runs)]
        for local, (kind, slot) in enumerate(zip(kinds, self._slots, strict=True)):
            variable = b.alloca(llvm_type(kind), f"%l{local}")
            self.locals.append((variable, kind))
            value = b.value_at(_FRAME, slot, kind)
            b.emit(f"store {llvm_type(kind)} {value.text}, ptr {variable.text}")
        if self._place == 0:
            self._place = -1
            return
        b.jump("%osr.in")
        b.label("%body")

    def instruction(self, instr: Instr) -> None:
        """Lower an instruction, and make it the place if it is."""
        if instr.offset != self._place or self.inside:
            super().instruction(instr)
        elif instr.row == _LOOP:
            self._enter([])
            super().instruction(instr)
        else:
            super().instruction(instr)
            if instr.row not in _RESUMES:
                self._enter([])

    def came_back(self, values: list[Value]) -> list[Value]:
        """See the base class."""
        return self._enter(values) if self.offset == self._place and not self.inside else values

    def _enter(self, values: list[Value]) -> list[Value]:
        """The place: returns `values`, or what the outcome has instead, and does the same to the operand stack."""
        b = self.b
        self._place = -1
        for label in self.labels:  # what was known there isn't on the way from here
            label.memo, label.current, label.writes = {}, {}, []
        fresh = [i for i, value in enumerate(self.stack) if not isinstance(value, _Kept)]
        if fresh:
            self.top(len(self.stack) - fresh[0])  # no truth values
        fresh = [i for i, value in enumerate(self.stack) if not isinstance(value, _Kept)]
        join, go_on, before = b.fresh("join"), b.fresh("entered"), b.block
        b.jump(join)
        b.label("%osr.in")
        entered: list[Value] = []
        for value, (slot, bits) in zip(self.stack, self._operands, strict=False):  # results may follow
            found = self._operand(value.type, slot, bits)
            if isinstance(value, _Kept):
                b.emit(f"store {llvm_type(found.type)} {found.text}, ptr {value.text}")
            else:
                entered.append(found)
        entered += [b.word_at(_OUTCOME, k) for k in range(len(values))]
        pending = b.struct_field(b.ctx, "WlContext", "pending", "i64")
        b.branch(b.compare("ne", pending, b.const("i64", 0)), self.landing_name(), go_on, unlikely=True)
        b.label(go_on)
        b.jump(join)
        b.label(join)
        merged = []
        for here, there in zip([*(self.stack[i] for i in fresh), *values], entered, strict=True):
            text = f"phi {llvm_type(here.type)} [ {here.text}, {before} ], [ {there.text}, {go_on} ]"
            merged.append(b.assign(text, here.type))
        for i, value in zip(fresh, merged, strict=False):
            self.stack[i] = value
        return merged[len(fresh) :]

    def _operand(self, kind: str, slot: int, bits: int) -> Value:
        b = self.b
        if slot == CONSTANT:
            return b.constant(kind, bits)
        if slot == NOWHERE:
            raise ValueError(f"an operand of function {self.index} can't be read at offset 0x{self.offset:x}")
        return b.value_at(_FRAME, slot, kind)

    def begin_loop(self, label: Label, at: int) -> None:
        """See the base class; with the place in the loop, its next round may come from there and know nothing."""
        super().begin_loop(label, at)
        if self._place >= 0:
            self.b.memo, self.b.current = {}, {}

    # --- operands below blocks ---

    def open(self, raw: int, name: str) -> Label:
        """See the base class; what lies below the block goes into variables."""
        label = super().open(raw, name)
        b = self.b
        for i in range(label.height):
            value = self.stack[i]
            if isinstance(value, _Kept):
                continue
            if value.type == "i1":
                value = b.convert("zext", value, "i32")
            variable = self._variables.get((i, value.type))
            if variable is None:
                variable = b.alloca(llvm_type(value.type), f"%o{i}.{value.type}")
                self._variables[(i, value.type)] = variable
            b.emit(f"store {llvm_type(value.type)} {value.text}, ptr {variable.text}")
            self.stack[i] = _Kept(variable.text, value.type)
        return label

    def _fetch(self, count: int) -> None:
        """Make values of the topmost operands."""
        for i in range(len(self.stack) - count, len(self.stack)):
            self.stack[i] = self.operand(i)

    def operand(self, index: int) -> Value:
        """See the base class."""
        kept = self.stack[index]
        if isinstance(kept, _Kept):
            return self.b.assign(f"load {llvm_type(kept.type)}, ptr {kept.text}", kept.type)
        return kept

    def pop(self) -> Value:
        """See the base class."""
        self._fetch(1)
        return super().pop()

    def pop_many(self, count: int) -> list[Value]:
        """See the base class."""
        self._fetch(count)
        return super().pop_many(count)

    def pop_condition(self) -> Value:
        """See the base class."""
        self._fetch(1)
        return super().pop_condition()

    def top(self, count: int) -> list[Value]:
        """See the base class."""
        self._fetch(count)
        return super().top(count)

    # --- ends ---

    def give(self, values: list[Value]) -> None:
        """Write the results to memory."""
        self.b.set_values(_RESULTS, values)
        self.b.emit("ret void")

    def tail_call(
        self, callee: Signature, target: str, environment: Value, arguments: list[Value], uniform: bool
    ) -> None:
        """A call whose results are returned: this function's prototype isn't one that allows more."""
        self.give(self.b.call(callee, target, environment, arguments, uniform))
