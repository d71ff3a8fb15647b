"""The builder of compiled functions: LLVM IR with traps, debug locations and alias information."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import count

from wasmloom.compiler.abi import (
    TAIL_WORDS,
    UNIFORM_FLOATS,
    UNIFORM_INTEGERS,
    UNIFORM_PROTOTYPE,
    UNIFORM_RESULT,
    Signature,
    returned_type,
    uniform_index,
    uniform_position,
    uniform_type,
)
from wasmloom.compiler.backends import chosen
from wasmloom.compiler.lines import END, MARK, SITE_STEP
from wasmloom.contract import layout
from wasmloom.contract.layout import SLOT_BYTES
from wasmloom.semantics.aggregates import PARTS
from wasmloom.semantics.kinds import SLOT_BITS, by_name, places
from wasmloom.semantics.llvm import VECTOR, Value, is_float, lanes_of, llvm_type, module_assembly, type_bits
from wasmloom.semantics.structs import StructBuilder
from wasmloom.target import backend, inline_assembly

#: The numbers of two lines of metadata for each part of an object, from here on.
_FIRST_PART = 10
#: Metadata that every compiled module has: branch weights (of what is unlikely, `!7` of what is likely), and the three
#: kinds of memory that never overlap, the guest's, the runtime's and that of objects, and the parts of these; `!3`
#: marks loads whose value never changes while a function runs.
METADATA = """\
!0 = !{!"branch_weights", i32 1, i32 4000}
!1 = !{!4, !4, i64 0}
!2 = !{!5, !5, i64 0}
!3 = !{}
!4 = !{!"guest", !6}
!5 = !{!"runtime", !6}
!6 = !{!"wasmloom"}
!7 = !{!"branch_weights", i32 4000, i32 1}
!8 = !{!9, !9, i64 0}
!9 = !{!"object", !6}
""" + "\n".join(
    f'!{at} = !{{!{at + 1}, !{at + 1}, i64 0}}\n!{at + 1} = !{{!"{part}", !9}}'
    for at, part in zip(count(_FIRST_PART, 2), PARTS, strict=False)
)
#: The first number that a module's own metadata may have.
FIRST_METADATA = _FIRST_PART + 2 * len(PARTS)

#: ``wl.tail``: goes where the words `TAIL_WORDS` of the context's `args` say, with the environment that they say, and
#: all parameters as they are. LLVM doesn't look into assembly.
TAIL = "\n".join(module_assembly(inline_assembly.tail_jump("wl.tail", TAIL_WORDS)))

#: A mark. It is said to access the memory that its arguments point to, because it has none: over something that only
#: accesses "inaccessible" memory LLVM moves loads.
_MARK = "call void {}() #6"

#: Under what a builder knows the context.
_CONTEXT = ("%inst", layout.offset("WlInstance", "context"))

#: A word, as builders call it.
_WORD = f"i{SLOT_BITS}"
_WORD_MASK = (1 << SLOT_BITS) - 1
#: The metadata suffixes of a function's locations, by offset in the module and site (see `wasmloom.compiler.lines`).
Scope = Callable[[int, int], str]

_GUEST, _RUNTIME = ", !tbaa !1", ", !tbaa !2"
#: By part of an object, the unknown one first.
_OBJECT = {"": ", !tbaa !8"} | {part: f", !tbaa !{_FIRST_PART + 2 * i}" for i, part in enumerate(PARTS)}


def constant_pool(constants: set[tuple[str, int]]) -> list[str]:
    """The lines of a unit that define its opaque constants: as assembly, where LLVM doesn't look."""
    lines = []
    for kind, bits in sorted(constants):
        size = type_bits(kind) // 8
        name = f"wl.{kind}.{bits:x}"
        lines += module_assembly(inline_assembly.constant(name, size, bits))
        lines.append(f"@{name} = external hidden constant {llvm_type(kind)}, align {size}")
    return lines


@lru_cache(maxsize=1)
def _features() -> frozenset[str]:
    return backend.known_features(chosen().features())


class FunctionBuilder(StructBuilder):
    """Emits one function. `where` is the metadata suffix (", !dbg !N") of the instruction; `scope` gives it.

    Every access to the guest's memory may trap, and the host then sees memories, globals and tables as they are. So
    these accesses are volatile for LLVM, as are writes of globals, tables and objects: none is left out, all keep their
    order. In a function without such accesses there is no need for that (`finish`).

    **Places of faults.** Before an access stands a *mark*: a piece of inline assembly that makes no instruction, but
    has the assembler write a row of the line table, in a column of its own (`MARK`). Marks keep their order with
    volatile accesses: what accesses guest memory between two of them is what the first announces. Only calls and traps
    have debug locations, and neither they nor marks are ever merged with their like (``nomerge``). Accesses have none,
    nor has what is computed from them: they may become one instruction, merged with what comes later, and it would have
    any of their locations. Other instructions get a call's location, its arguments for instance, and may be anywhere
    before it; a mark's only it has. Behind the last access of a block stands a mark that ends what the last has
    announced (`END`). So accesses don't go behind the end of their block, where two that are alike could become one.
    Where LLVM divides a block and moves its rest, the next mark says what is before it.
    """

    order = " volatile"

    def __init__(self, scope: Scope | None = None) -> None:
        super().__init__(FunctionBuilder.trap)
        self.features = _features()
        self.inst = Value("%inst", "ptr")
        #: where in `lines` the last mark of the block goes, behind its last access; -1: it has none
        self._accessed = -1
        #: offset and site of the last mark
        self._marked = 0, 0
        #: the call in whose place is what is being written (see `wasmloom.compiler.inlining`); 0: none
        self.site = 0
        self._scope = scope
        self._offset = 0
        self._where: str | None = ""
        #: name of the block being written
        self.block = "%entry"
        #: how many there are, and the lines of the longest one but the last
        self.blocks = 0
        self.longest = 0
        self.began = 0
        #: lines of the entry block: allocas, and what is read once
        self.entry: list[str] = []
        #: float constants that the unit must have, by kind and bits
        self.constants: set[tuple[str, int]] = set()
        #: what has been computed on every way here, by what it is: LLVM is spared from finding out
        self.memo: dict[tuple[str, int | str], Value] = {}
        #: the values of locals, where they are known
        self.current: dict[int, Value] = {}
        #: whether the guest's memory is accessed
        self._accesses = False
        #: whether vectors are loaded from the guest's memory
        self.accesses_vectors = False
        #: vectors that have been loaded from the guest's memory → the lines that load them, and from where, until lanes
        #: are asked for: LLVM changes no volatile load, so one of another type would be no operand in memory
        self._shapeless: dict[str, tuple[int, Value]] = {}
        #: the last one whose lanes have been asked for
        self._shaped: tuple[Value, int, Value] = (self.inst, -1, self.inst)
        self._words = 0
        self._holds_context = False

    # --- plumbing ---

    @property
    def where(self) -> str:
        """The metadata suffix of what is written; most instructions have nothing that needs it."""
        if self._where is None:
            self._where = "" if self._scope is None else self._scope(self._offset, self.site)
        return self._where

    @where.setter
    def where(self, suffix: str) -> None:
        self._where = suffix

    def go_to(self, offset: int) -> None:
        """What is written from now on is for the instruction at an offset in the module."""
        self._offset = offset
        self._where = None

    def label(self, name: str) -> None:
        """Begin a block of which nothing is known."""
        self.memo = {}
        self.current = {}
        self.follow(name)

    def follow(self, name: str) -> None:
        """Begin a block that is reached only through what has been written last."""
        self._close()
        self.blocks += 1
        self.longest = max(self.longest, len(self.lines) - self.began)
        self.began = len(self.lines)
        super().label(name)
        self.block = name

    def _close(self) -> None:
        """The block ends: what accesses memory in it stays in it."""
        if self._accessed >= 0:
            self.lines.insert(self._accessed, "  " + self._mark_text(*self._marked, END))
            self._accessed = -1

    def reserve(self) -> int:
        """The place in `lines` of one that is written later. What ends the block here adds no line before it."""
        self._close()
        self.lines.append("")
        return len(self.lines) - 1

    def _mark_text(self, offset: int, site: int, kind: int) -> str:
        column = SITE_STEP * site + kind
        return _MARK.format(inline_assembly.mark("" if self._scope is None else f".loc 0 {offset} {column}"))

    def rarely(
        self, condition: Value, action: Callable[[str], None], names: tuple[str, str] = ("trap", "ok")
    ) -> None:
        """See the base class; behind it all is known that was known before."""
        memo, current = self.memo, self.current
        super().rarely(condition, action, names)
        self.memo, self.current = memo, current

    def branch(
        self, condition: Value, yes: str, no: str, unlikely: bool = False, likely: bool | None = None
    ) -> None:
        """See the base class. `likely`: whether the condition is likely to hold, if that is known."""
        if likely:
            self.emit(f"br i1 {condition.text}, label {yes}, label {no}, !prof !7")
        else:
            super().branch(condition, yes, no, unlikely or likely is not None)

    def jump(self, name: str) -> None:
        """End the block with a branch."""
        self.emit(f"br label {name}")

    def load(self, type: str, address: Value, align: int = 1) -> Value:
        """Read the guest's memory (alignment 1), or the runtime's."""
        tag, how = (_GUEST, "load volatile") if align == 1 else (_RUNTIME, "load")
        self._accesses |= align == 1
        value = self.assign(f"{how} {llvm_type(type)}, ptr {address.text}, align {align}{tag}", type)
        if type == VECTOR and align == 1:
            self.accesses_vectors = True
            self._shapeless[value.text] = len(self.lines) - 1, address
        return value

    def _shape(self, vector: Value, line: int, address: Value, type: str) -> Value:
        """Let the line that loads a whole vector load lanes. Nothing has asked for another type before."""
        old, new = llvm_type(VECTOR), llvm_type(type)
        lanes = Value(f"{vector.text}.lanes", type)
        load = self.lines[line].replace(vector.text, lanes.text, 1).replace(old, new, 1)
        self.lines[line] = f"{load}\n  {vector.text} = bitcast {new} {lanes.text} to {old}"
        self._shaped = lanes, line, address
        return lanes

    def arithmetic(self, name: str, x: Value, y: Value) -> Value:
        """See the base class. A vector that has just been loaded for it becomes an operand in memory."""
        if y != self._shaped[0]:
            return super().arithmetic(name, x, y)
        _, line, address = self._shaped
        bits = type_bits(lanes_of(x.type)[1])
        code = inline_assembly.float_arithmetic_in_memory(name, bits, self.features)
        # It is the last access, and nothing has come since but another name for `x`: nothing else uses it.
        just = self._accessed == line + 1 and all(" = bitcast " in each for each in self.lines[line + 1 :])
        if code is None or not just:
            return super().arithmetic(name, x, y)
        kind = llvm_type(x.type)
        self.lines[line] = ""
        operands = f"{kind} {x.text}, ptr elementtype({kind}) {address.text}"
        # To LLVM it is what a mark is, so it keeps its place among marks and volatile accesses.
        value = self.assign(f"call {kind} {code}({operands}) #6", x.type)
        self.accessed()
        return value

    def use(self, value: Value) -> None:
        """Keep a value in a register up to here. This is no instruction."""
        code = inline_assembly.keep(is_float(value.type))
        self.emit(f"call void {code}({llvm_type(value.type)} {value.text}) #1{self.where}")

    def mark(self) -> None:
        """What accesses the guest's memory from here on belongs to the current instruction. This is no instruction."""
        self._marked = self._offset, self.site
        self._accesses = True
        self.emit(self._mark_text(self._offset, self.site, MARK))

    def accessed(self) -> None:
        """The guest's memory has just been accessed."""
        self._accessed = len(self.lines)

    def store(self, x: Value, address: Value, align: int = 1, seen: bool = False) -> None:
        """Write the guest's memory (alignment 1), or the runtime's."""
        tag = _GUEST if align == 1 else _RUNTIME
        self._accesses |= align == 1
        how = "store volatile" if align == 1 or seen else "store"
        self.emit(f"{how} {llvm_type(x.type)} {x.text}, ptr {address.text}, align {align}{tag}")

    def learn(self, reference: Value, nullable: bool, is_object: bool) -> None:
        """From here on it is known of a reference that it isn't null, or that it refers to an object if it isn't."""
        if reference.text[0] != "%":
            return
        if not nullable:
            self.memo[reference.text, "not null"] = reference
        if is_object:
            self.memo[reference.text, "object"] = reference

    def may_be_null_here(self, reference: Value) -> bool:
        """See the base class."""
        return (reference.text, "not null") not in self.memo

    def may_be_null(self, reference: Value) -> bool:
        """See the base class."""
        may = self.may_be_null_here(reference)
        self.learn(reference, False, False)
        return may

    def may_be_no_object(self, reference: Value) -> bool:
        """See the base class."""
        return (reference.text, "object") not in self.memo

    def object_load(self, type: str, address: Value, align: int, part: str = "") -> Value:
        """Read a part of an object, or of a list of blocks for objects."""
        tag = _OBJECT.get(part, _OBJECT[""])
        return self.assign(f"load {llvm_type(type)}, ptr {address.text}, align {align}{tag}", type)

    def object_store(self, x: Value, address: Value, align: int, part: str = "") -> None:
        """Write such a part. Volatile where something may fault: an access that does mustn't find half of an object."""
        tag = _OBJECT.get(part, _OBJECT[""])
        self.emit(f"store volatile {llvm_type(x.type)} {x.text}, ptr {address.text}, align {align}{tag}")

    def constant_load(self, type: str, address: Value) -> Value:
        """Read what never changes while the function runs."""
        align = type_bits(type) // 8 if is_float(type) else 8
        return self.assign(
            f"load {llvm_type(type)}, ptr {address.text}, align {align}, !invariant.load !3{_RUNTIME}", type
        )

    def constant_pointer(self, base: Value, offset: int) -> Value:
        """A pointer at `base` plus `offset` that never changes while the function runs."""
        key = (base.text, offset)
        found = self.memo.get(key)
        if found is None:
            found = self.memo[key] = self.constant_load("ptr", self.at(base, offset))
        return found

    def wide(self, x: Value) -> Value:
        """An address as 64 bits; once per block.

        Not once for all that follows: what addresses have in common over blocks costs LLVM's back end far more time, as
        it considers for each access whether to repeat that there (and mostly does).
        """
        if x.type == "i64":
            return x
        key = (self.block, x.text)
        found = self.memo.get(key)
        if found is None:
            found = self.memo[key] = self.convert("zext", x, "i64")
        return found

    def opaque(self, kind: str, bits: int) -> Value:
        """A float constant that LLVM can't see through.

        It would fold `x - 0` and the like to `x`, which leaves a signalling NaN as it is, and give the NaNs of folded
        operations another sign than the processor does. As an operand in memory, the constant costs nothing.
        """
        self.constants.add((kind, bits))
        return self.constant_load(kind, Value(f"@wl.{kind}.{bits:x}", "ptr"))

    def constant(self, type: str, bits: int) -> Value:
        """The constant with some bits. Floats are opaque."""
        if type == VECTOR:
            return Value(f"<i64 {bits & _WORD_MASK}, i64 {bits >> SLOT_BITS & _WORD_MASK}>", type)
        width = type_bits(type)
        bits &= (1 << width) - 1
        if is_float(type):
            return self.opaque(type, bits)
        return self.const(type, bits - (1 << width) if bits >> (width - 1) else bits)

    def alloca(self, type: str, name: str | None = None) -> Value:
        """A variable in the entry block."""
        name = name or self.fresh("a")
        align = 16 if type[0] == "<" else 8  # that of LLVM's loads and stores of vectors, unless they name one
        self.entry.append(f"  {name} = alloca {type}, align {align}")
        return Value(name, "ptr")

    def words(self, count: int) -> Value:
        """The function's scratch area, of at least `count` words; it holds nothing for long."""
        self._words = max(self._words, count)
        return Value("%words", "ptr")

    @property
    def ctx(self) -> Value:
        """The context."""
        if self._holds_context and _CONTEXT not in self.memo:
            self.memo[_CONTEXT] = self.assign("load ptr, ptr %context, align 8", "ptr")
        return self.constant_pointer(self.inst, layout.offset("WlInstance", "context"))

    def hold_context(self, ctx: Value | None = None) -> None:
        """From here on the context comes from where it was brought last: `ctx`, or a variable that has the last one.

        That is for switches: a context read through the instance, which is on the stack, waits for the stack pointer.
        """
        if not self._holds_context:
            self._holds_context = True
            slot, value = self.alloca("ptr", "%context"), "%context.first"
            at = f"getelementptr i8, ptr {self.inst.text}, i64 {layout.offset('WlInstance', 'context')}"
            self.entry.append(f"  {value}.at = {at}")
            self.entry.append(f"  {value} = load ptr, ptr {value}.at, align 8, !invariant.load !3{_RUNTIME}")
            self.entry.append(f"  store ptr {value}, ptr {slot.text}, align 8")
        if ctx is None:
            self.memo.pop(_CONTEXT, None)
        else:
            self.emit(f"store ptr {ctx.text}, ptr %context, align 8")
            self.memo[_CONTEXT] = ctx

    def args(self, ctx: Value) -> Value:
        """The context's area for arguments."""
        return self.constant_pointer(ctx, layout.offset("WlContext", "args"))

    def convert(self, opcode: str, x: Value, target: str) -> Value:
        """An LLVM conversion instruction."""
        if x.text in self._shapeless and opcode == "bitcast":
            return self._shape(x, *self._shapeless.pop(x.text), target)
        if opcode == "fptrunc":
            # LLVM folds this of an `fpext` to the number that was extended, even to a signalling NaN.
            kind = llvm_type(x.type)
            x = self.assign(f"call {kind} {inline_assembly.opaque(True)}({kind} {x.text})", x.type)
        return super().convert(opcode, x, target)

    def unfolded(self, x: Value) -> Value:
        """A float, or a vector of floats, that LLVM can't see through: see `opaque`."""
        kind = llvm_type(x.type)
        return self.assign(f"call {kind} {inline_assembly.opaque(True)}({kind} {x.text})", x.type)

    # --- words: what slots, globals, exceptions and arguments in memory hold ---

    def as_word(self, value: Value) -> Value:
        """A value's bits, widened to a word."""
        if is_float(value.type):
            value = self.convert("bitcast", value, f"i{type_bits(value.type)}")
        return value if value.type == _WORD else self.convert("zext", value, _WORD)

    def from_word(self, word: Value, type: str) -> Value:
        """The value of a type that a word holds."""
        integer = f"i{type_bits(type)}"
        bits = word if integer == _WORD else self.convert("trunc", word, integer)
        return self.convert("bitcast", bits, type) if is_float(type) else bits

    def halves(self, vector: Value) -> tuple[Value, Value]:
        """The two words of a vector, the lower one first."""
        kind = llvm_type(vector.type)
        low, high = (self.assign(f"extractelement {kind} {vector.text}, i64 {i}", _WORD) for i in range(2))
        return low, high

    def joined(self, low: Value, high: Value) -> Value:
        """The vector of two words."""
        kind = llvm_type(VECTOR)
        half = self.assign(f"insertelement {kind} poison, i64 {low.text}, i64 0", VECTOR)
        return self.assign(f"insertelement {kind} {half.text}, i64 {high.text}, i64 1", VECTOR)

    def value_at(self, base: Value, index: int, type: str) -> Value:
        """Load a value from the words of an array."""
        if type == VECTOR:
            return self.load(type, self.at(base, SLOT_BYTES * index), align=SLOT_BYTES)
        return self.from_word(self.word_at(base, index), type)

    def word_at(self, base: Value, index: int) -> Value:
        """Load a word of an array."""
        return self.load("i64", self.at(base, SLOT_BYTES * index), align=SLOT_BYTES)

    def set_word(self, base: Value, index: int, value: Value) -> None:
        """Store a value as a word of an array, or as two."""
        word = value if value.type == VECTOR else self.as_word(value)
        self.store(word, self.at(base, SLOT_BYTES * index), align=SLOT_BYTES)

    def values_at(self, base: Value, kinds: Sequence[str], first: int = 0) -> list[Value]:
        """Load values that lie one behind the other, from word `first` of an array on."""
        return [
            self.value_at(base, first + place, kind)
            for kind, place in zip(kinds, places(kinds), strict=False)
        ]

    def set_values(self, base: Value, values: Sequence[Value], first: int = 0) -> int:
        """Store values one behind the other, from word `first` of an array on; returns how many words they take."""
        at = places(value.type for value in values)
        for value, place in zip(values, at, strict=False):
            self.set_word(base, first + place, value)
        return at[-1]

    def put_rest(self, values: list[Value]) -> Value:
        """Store values in the context's `args`, at their places, but for the first word, which travels in a register.

        Returns what has that: the first value, or a vector's lower word.
        """
        first = values[0]
        slots = by_name(first.type).slots
        if first.type == VECTOR:
            first, high = self.halves(first)
            self.set_word(self.args(self.ctx), 1, high)
        if len(values) > 1:
            self.set_values(self.args(self.ctx), values[1:], slots)
        return first

    def take_rest(self, kinds: Sequence[str], first: Value) -> list[Value]:
        """Values that have come so: `first` is the first one, or a vector's lower word."""
        if kinds[0] == VECTOR:
            first = self.joined(first, self.word_at(self.args(self.ctx), 1))
        found = [first]
        if len(kinds) > 1:
            found += self.values_at(self.args(self.ctx), kinds[1:], by_name(kinds[0]).slots)
        return found

    # --- traps ---

    def trap(self, code: Value | int) -> None:
        """End the block with a trap."""
        number = str(code) if isinstance(code, int) else code.text
        self.emit(f"call void @wl_compiled_trap(ptr swiftself {self.inst.text}, i32 {number}) #2{self.where}")
        self.emit("unreachable")

    def check_subtype(self, actual: Value, expected: Value, go_on: str) -> None:
        """Trap unless a type is a subtype of another one; both by their ids. Ends the block."""
        self.trap_if_code(self.runtime("subtype", actual, expected))
        self.jump(go_on)

    def trap_if_code(self, code: Value) -> None:
        """Trap with the code that a runtime function returned, unless it is 0."""
        trap, go_on = self.fresh("trap"), self.fresh("ok")
        self.branch(self.compare("ne", code, self.const("i64", 0)), trap, go_on, unlikely=True)
        self.follow(trap)
        self.trap(self.convert("trunc", code, "i32"))
        self.follow(go_on)

    # --- calls ---

    def runtime(self, name: str, *arguments: Value) -> Value:
        """Call a function of `layout.RUNTIME_CALLS` on the thread's stack, after the context; returns its trap code."""
        index = layout.RUNTIME_CALLS.index(name)
        table = f"getelementptr ([0 x ptr], ptr @wl_runtime, i64 0, i64 {index})"
        function = self.constant_load("ptr", Value(table, "ptr"))
        passed = [f"{llvm_type(value.type)} {value.text}" for value in arguments]
        passed += ["ptr null"] * (4 - len(passed))
        return self.assign(
            f"call i64 @wl_on_host(ptr {self.ctx.text}, ptr {function.text}, {', '.join(passed)}){self.where}", "i64"
        )

    def _pass_rest(self, callee: Signature, arguments: list[Value]) -> None:
        """Put the arguments that have no register into memory."""
        if len(callee.registers) < len(callee.params):
            area = self.args(self.ctx)
            for i, argument in enumerate(arguments):
                if i not in callee.registers:
                    self.set_word(area, callee.param_places[i], argument)

    def call(
        self, callee: Signature, target: str, environment: Value, arguments: list[Value], uniform: bool
    ) -> list[Value]:
        """Call compiled code; `uniform`: the target is defined with the uniform prototype. Returns the results."""
        self._pass_rest(callee, arguments)
        if uniform:
            # What it tail-calls may come back with another environment in the register: not the one that we go on with.
            environment = self.assign(f"call ptr {inline_assembly.opaque(False)}(ptr {environment.text})", "ptr")
            passed = self._uniform(callee, arguments, environment)
            both = self.assign(f"call {UNIFORM_RESULT} {target}({passed}) #7{self.where}", UNIFORM_RESULT)
            first = self._from_uniform(both, returned_type(callee.results[0])) if callee.results else None
        else:
            operands = [f"{llvm_type(arguments[i].type)} {arguments[i].text}" for i in callee.registers]
            # Through a reference: what isn't compiled may ask who calls it. Compiled functions don't look at it.
            calling = [f"ptr nest {self.inst.text}"] if environment != self.inst else []
            passed = ", ".join([*calling, f"ptr swiftself {environment.text}", *operands])
            if callee.results:
                type = returned_type(callee.results[0])
                first = self.assign(f"call {callee.result} {target}({passed}) #7{self.where}", type)
            else:
                first = None
                self.emit(f"call void {target}({passed}) #7{self.where}")
        return [] if first is None else self.take_rest(callee.results, first)

    def _uniform(self, callee: Signature, arguments: list[Value], environment: Value) -> str:
        """The operands of a call with the uniform prototype."""
        operands = ["i64 poison"] * len(UNIFORM_INTEGERS) + ["double poison"] * len(UNIFORM_FLOATS)
        for i in callee.registers:
            value = self.as_uniform(arguments[i])
            at = uniform_position(callee.params, callee.registers, i)
            operands[at] = f"{llvm_type(value.type)} {value.text}"
        return ", ".join([f"ptr swiftself {environment.text}", *operands])

    def tail_call(self, callee: Signature, target: str, environment: Value, arguments: list[Value]) -> None:
        """End a function that has the uniform prototype by a jump to compiled code.

        LLVM restores our environment's register before it jumps: another environment gets there by way of `TAIL`.
        """
        self._pass_rest(callee, arguments)
        if environment != self.inst:
            area = self.args(self.ctx)
            self.store(Value(target, "ptr"), self.at(area, SLOT_BYTES * TAIL_WORDS), align=8)
            self.store(environment, self.at(area, SLOT_BYTES * (TAIL_WORDS + 1)), align=8)
            target, environment = "@wl.tail", self.inst
            self.declarations["wl.tail"] = f"declare hidden {UNIFORM_RESULT} @wl.tail({UNIFORM_PROTOTYPE})"
        passed = self._uniform(callee, arguments, environment)
        result = self.assign(f"musttail call {UNIFORM_RESULT} {target}({passed}){self.where}", UNIFORM_RESULT)
        self.emit(f"ret {UNIFORM_RESULT} {result.text}")

    def as_uniform(self, value: Value) -> Value:
        """A value as the register has it: i64 or double."""
        if value.type == "i32":
            return self.convert("zext", value, "i64")
        if value.type == "f32":
            pair = self.assign(f"insertelement <2 x float> poison, float {value.text}, i32 0", "<2 x float>")
            return self.assign(f"bitcast <2 x float> {pair.text} to double", "f64")
        return value

    def from_uniform(self, value: Value, kind: str) -> Value:
        """The value of a kind that a register has."""
        if kind == "i32":
            return self.convert("trunc", value, "i32")
        if kind == "f32":
            pair = self.assign(f"bitcast double {value.text} to <2 x float>", "<2 x float>")
            return self.assign(f"extractelement <2 x float> {pair.text}, i32 0", "f32")
        return value

    def _from_uniform(self, both: Value, kind: str) -> Value:
        value = self.assign(f"extractvalue {UNIFORM_RESULT} {both.text}, {uniform_index(kind)}", uniform_type(kind))
        return self.from_uniform(value, kind)

    def uniform_result(self, value: Value | None) -> str:
        """The operand of `ret` in a function with the uniform prototype."""
        if value is None:
            return f"{UNIFORM_RESULT} poison"
        value = self.as_uniform(value)
        index = uniform_index(value.type)
        both = self.assign(
            f"insertvalue {UNIFORM_RESULT} poison, {llvm_type(value.type)} {value.text}, {index}", UNIFORM_RESULT
        )
        return f"{UNIFORM_RESULT} {both.text}"

    # --- safepoints ---

    def safepoint(self) -> None:
        """Where a loop can be interrupted: the stack limit is impossible while the guest is to be interrupted."""
        busy, go_on = self.fresh("interrupted"), self.fresh("again")
        kind = inline_assembly.SAFEPOINT_TYPE
        below = self.assign(f"call {kind} {inline_assembly.safepoint()}() #1", kind)
        self.branch(self.compare("ne", below, self.const(kind, 0)), busy, go_on, unlikely=True)
        self.follow(busy)
        self.emit(f"call preserve_mostcc void @wl_loop_interrupt(ptr {self.inst.text}) #3{self.where}")
        self.jump(go_on)
        self.follow(go_on)

    def finish(self) -> list[str]:
        """The lines of the whole body, entry block first."""
        self._close()
        if not self._accesses:
            # Nothing faults, so all that the host may see has been written where a call leads there.
            self.lines = [line.replace("store volatile", "store", 1) for line in self.lines]
        entry = ["entry:", *self.entry]
        if self._words:
            entry.append(f"  %words = alloca [{self._words} x i64], align 16")
        return [*entry, "  br label %begin", *self.lines]


def array_call(signature: Signature, name: str) -> list[str]:
    """The function that calls compiled code of a type with parameters and results in memory.

    Bytecode calls it anywhere on a native stack, and its frame may be large: so it looks for the stack's limit, too.
    """
    b = FunctionBuilder()
    b.inst = Value("%env", "ptr")
    b.label("%begin")
    words = Value("%words.in", "ptr")
    results = b.call(signature, "%code", b.inst, b.values_at(words, signature.params), False)
    b.set_values(words, results)
    b.emit("ret void")
    head = f"define hidden void @{name}(ptr %code, ptr %env, ptr %words.in) #0 {{"
    return [head, *b.finish(), "}"]
