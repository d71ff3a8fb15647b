"""The builder of handler bodies: LLVM IR, and the state that handlers pass to each other.

Every handler is a function with the calling convention `preserve_nonecc`, so its seven parameters are in registers
and nothing is saved. It ends with a `musttail` call of the next handler, which is one indirect jump. LLVM guarantees
both (LangRef, "Calling Conventions" and "call instruction"), in every build profile.

The first four parameters land in registers that C functions preserve (see `wasmloom.target.registers`), so
handlers that call the runtime have little to save.
"""

from __future__ import annotations

from wasmloom.contract import layout
from wasmloom.contract.layout import SLOT_BYTES
from wasmloom.interpreter.isa import FIELD_KINDS, Handler, Shape
from wasmloom.semantics.kinds import SLOT_BITS, Kind
from wasmloom.semantics.llvm import VECTOR, WIDE, Value, is_float, lanes_of, llvm_type, type_bits
from wasmloom.semantics.structs import StructBuilder
from wasmloom.target import registers

#: The parameters of every handler: LLVM type and name.
STATE: tuple[tuple[str, str], ...] = (
    ("ptr", "ip"),  # the instruction being executed
    ("ptr", "fp"),  # the frame's slot 0
    ("ptr", "inst"),  # WlInstance
    ("ptr", "ctx"),  # WlContext
    ("ptr", "mem"),  # base of memory 0
    ("i64", "acc"),  # integer accumulator
    ("<2 x double>", "facc"),  # float accumulator, in lane 0
)
SIGNATURE = ", ".join(f"{type} %{name}" for type, name in STATE)
TYPES = {name: type for type, name in STATE}

#: The type of a vector's bytes.
_BYTES = "<16 x i8>"

POISON_ACC = Value("poison", "i64")
POISON_FACC = Value("poison", "<2 x double>")


class HandlerBuilder(StructBuilder):
    """Emits one handler, which reads an instruction of some shape."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(HandlerBuilder._leave)
        self.shape = shape
        self.ip = Value("%ip", "ptr")
        self.fp = Value("%fp", "ptr")
        self.inst = Value("%inst", "ptr")
        self.ctx = Value("%ctx", "ptr")
        self.mem = Value("%mem", "ptr")
        self.acc = Value("%acc", "i64")
        self.facc = Value("%facc", "<2 x double>")
        #: The outlined handler of indirect calls to functions of other types (see `check_subtype`).
        self.subtype_slow = "@wl_subtype_slow"
        self._second: tuple[int, Handler] | None = None
        #: Vectors → the addresses of the slots that they have been read from.
        self._vectors_at: dict[str, Value] = {}

    def then(self, shift: int, second: Handler) -> None:
        """Continue with another handler's body where this handler would go to the following instruction.

        The other body sees an instruction `shift` bytes further on, and the accumulators as this one leaves them.
        """
        self._second = (shift, second)

    def load(self, type: str, address: Value, align: int = 1) -> Value:
        """Read memory, the guest's with alignment 1.

        Such a load is volatile, so LLVM reads all of its bytes, even if the other half of a fused handler needs fewer
        (for a shift by the loaded value): any of them may lie beyond the memory's end.
        """
        how = "load volatile" if align == 1 else "load"
        return self.assign(f"{how} {llvm_type(type)}, ptr {address.text}, align {align}", type)

    # --- addresses and fields ---

    def field_at(self, name: str, shape: Shape | None = None, base: Value | None = None) -> Value:
        """The address of a field: of this instruction, or of what has another shape and begins at `base`."""
        return self.at(base or self.ip, (shape or self.shape).field(name).offset)

    def narrow(self, name: str, shape: Shape | None = None, base: Value | None = None) -> Value:
        """The number in a field, as it is."""
        width = FIELD_KINDS[(shape or self.shape).field(name).kind].width
        return self.load(f"i{8 * width}", self.field_at(name, shape, base), align=width)

    def number(self, name: str, shape: Shape | None = None, base: Value | None = None) -> Value:
        """The number in a field, widened to i64."""
        narrow = self.narrow(name, shape, base)
        if narrow.type == "i64":
            return narrow
        is_signed = FIELD_KINDS[(shape or self.shape).field(name).kind].signed
        return self.convert("sext" if is_signed else "zext", narrow, "i64")

    def slot(self, name: str) -> Value:
        """The address of the slot whose number is in a field."""
        index = self.number(name)
        return self.assign(f"getelementptr i64, ptr {self.fp.text}, i64 {index.text}", "ptr")

    def target(self, name: str = "target") -> Value:
        """The address of the instruction that a field leads to."""
        return self.at(self.ip, self.number(name))

    def pointer_field(self, name: str) -> Value:
        """The pointer in a field."""
        return self.load("ptr", self.field_at(name), align=8)

    def following(self) -> Value:
        """The address of the following instruction."""
        return self.at(self.ip, self.shape.size)

    def frame_slot(self, index: int) -> Value:
        """The address of a slot with a fixed number."""
        return self.at(self.fp, SLOT_BYTES * index)

    # --- values of Wasm types ---

    def read_slot(self, name: str, kind: Kind) -> Value:
        """The value of the slot whose number is in a field, or of those from there on."""
        address = self.slot(name)
        value = self.load(kind.type, address, align=min(kind.bytes, SLOT_BYTES))
        if kind.is_vector:
            self._vectors_at[value.text] = address
        return value

    def convert(self, opcode: str, x: Value, target: str) -> Value:
        """An LLVM conversion instruction."""
        value = super().convert(opcode, x, target)
        if opcode == "bitcast" and x.text in self._vectors_at:
            self._vectors_at[value.text] = self._vectors_at[x.text]
        return value

    def read_acc(self, kind: Kind) -> Value:
        """The accumulator of the kind's class."""
        if kind.is_vector:
            return self.convert("bitcast", self.facc, kind.type)
        if kind.is_float:
            return self.lane0(self.facc, kind.type)
        return self.acc if kind.bits == SLOT_BITS else self.convert("trunc", self.acc, kind.type)

    def lane0(self, vector: Value, type: str) -> Value:
        """The float in lane 0 of the float accumulator."""
        if type == "f64":
            return self.assign(f"extractelement <2 x double> {vector.text}, i32 0", "f64")
        floats = self.assign(f"bitcast <2 x double> {vector.text} to <4 x float>", "<4 x float>")
        return self.assign(f"extractelement <4 x float> {floats.text}, i32 0", "f32")

    def as_facc(self, value: Value) -> Value:
        """A float as a new float accumulator."""
        if value.type == "f64":
            return self.assign(f"insertelement <2 x double> poison, double {value.text}, i32 0", "<2 x double>")
        floats = self.assign(f"insertelement <4 x float> poison, float {value.text}, i32 0", "<4 x float>")
        return self.assign(f"bitcast <4 x float> {floats.text} to <2 x double>", "<2 x double>")

    def bits_as_facc(self, bits: Value) -> Value:
        """The raw contents of a slot as a new float accumulator."""
        return self.as_facc(self.convert("bitcast", bits, "f64"))

    def as_acc(self, value: Value) -> Value:
        """An integer or truth value as a new integer accumulator."""
        if value.type == "i64":
            return value
        if value.type == "ptr":
            return self.assign(f"ptrtoint ptr {value.text} to i64", "i64")
        return self.convert("zext", value, "i64")

    def immediate(self, name: str, kind: Kind) -> Value:
        """An immediate operand. A wide integer's is narrow, and widened."""
        if not kind.is_float and kind.bits == SLOT_BITS:
            return self.number(name)
        return self.load(kind.type, self.field_at(name), align=kind.bytes)

    def finish_value(self, value: Value, to_slot: bool = True) -> None:
        """Put a result into the accumulator, and the slot in field `dst`, and dispatch.

        An i128 is two results: they go to that slot and the next one, and the upper one into the accumulator.
        """
        if value.type == VECTOR:
            if to_slot:
                self.store(value, self.slot("dst"), align=SLOT_BYTES)
            self.next(facc=self.convert("bitcast", value, TYPES["facc"]))
        elif value.type == WIDE:
            self.store(value, self.slot("dst"), align=SLOT_BYTES)
            self.next(acc=self.split(value)[1])
        elif is_float(value.type):
            facc = self.as_facc(value)
            if to_slot:
                # All 64 bits, so a later copy of the slot can be forwarded from this store.
                wide = self.assign(f"extractelement <2 x double> {facc.text}, i32 0", "f64")
                self.store(wide, self.slot("dst"), align=8)
            self.next(facc=facc)
        else:
            acc = self.as_acc(value)
            if to_slot:
                self.store(acc, self.slot("dst"), align=8)
            self.next(acc=acc)

    # --- lanes, whose numbers are in fields ---

    def vector_field(self, name: str) -> Value:
        """The 16 bytes in two fields, which follow one another. Stencils read them from the instruction, too."""
        return self.load(VECTOR, self.field_at(name), align=8)

    def _numbered(self, type: str) -> Value:
        """A vector of the numbers of a type's lanes."""
        count, lane = lanes_of(type)
        kind = f"i{type_bits(lane)}"
        return Value(f"<{', '.join(f'{kind} {i}' for i in range(count))}>", f"<{count} x {kind}>")

    def extract(self, x: Value, lane: Value) -> Value:
        """The lane with a number (i64): handlers have no stack to index, but slots."""
        _, type = lanes_of(x.type)
        width = type_bits(type) // 8
        if x.text in self._vectors_at:
            at = self.binary("mul", lane, self.const("i64", width))
            place = self.assign(f"getelementptr i8, ptr {self._vectors_at[x.text].text}, i64 {at.text}", "ptr")
            return self.load(type, place, align=width)
        first = self.convert("trunc", self.binary("mul", lane, self.const("i64", width)), "i8")
        # Only the bytes of the first lane matter.
        places = self.binary("add", self.splat(first, _BYTES), self._numbered(_BYTES))
        found = self.convert("bitcast", self.swizzle(self.convert("bitcast", x, _BYTES), places), x.type)
        return super().extract(found, self.const("i64", 0))

    def insert(self, x: Value, value: Value, lane: Value) -> Value:
        """The vector with another value in the lane with a number (i64)."""
        if lane.text.isdigit():
            return super().insert(x, value, lane)
        numbers = self._numbered(x.type)
        _, type = lanes_of(numbers.type)
        number = self.convert("trunc", lane, type) if type != "i64" else lane
        here = self.compare("eq", self.splat(number, numbers.type), numbers)
        return self.select(here, self.splat(value, x.type), x)

    def choose(self, x: Value, y: Value, lanes: Value) -> Value:  # type: ignore[override]
        """The bytes of two vectors that a third one names."""
        numbers = self.convert("bitcast", lanes, _BYTES)
        others = self.binary("sub", numbers, self.const(_BYTES, 16))
        return self.binary("or", self.swizzle(x, numbers), self.swizzle(y, others))

    # --- leaving the handler ---

    def jump(self, code: Value, **state: Value) -> None:
        """Go to the instruction at `code`."""
        handler = self.load("ptr", code, align=8)
        self.tail_call(handler.text, ip=code, **state)

    def next(self, **state: Value) -> None:
        """Go to the following instruction."""
        if self._second is not None:
            shift, second = self._second
            self._second = None
            self.acc = state.get("acc", self.acc)
            self.facc = state.get("facc", self.facc)
            self.ip = self.at(self.ip, shift)
            self.shape = second.shape
            second.body(self)
            return
        self.jump(self.following(), **state)

    def tail_call(self, function: str, **state: Value) -> None:
        """Go to another function with a handler's signature. State that isn't given stays as it is."""
        current = {name: getattr(self, name) for _, name in STATE}
        arguments = ", ".join(f"{type} {(state.get(name) or current[name]).text}" for type, name in STATE)
        self.emit(f"musttail call {registers.HANDLER_CONVENTION} void {function}({arguments})")
        self.emit("ret void")

    def _leave(self, code: int) -> None:
        """End the current block with a trap."""
        self.tail_call("@wl_trap", acc=Value(str(code), "i64"))

    def runtime_call(self, name: str, *arguments: Value) -> Value:
        """Call a function of `layout.RUNTIME_CALLS`; returns its trap code."""
        index = layout.RUNTIME_CALLS.index(name)
        function = self.load(
            "ptr", Value(f"getelementptr ([0 x ptr], ptr @wl_runtime, i64 0, i64 {index})", "ptr"), align=8
        )
        passed = ", ".join(f"{llvm_type(value.type)} {value.text}" for value in arguments)
        return self.assign(f"call i64 {function.text}({passed})", "i64")

    def runtime(self, name: str, *arguments: Value) -> Value:
        """Call a function of the runtime with the context and the arguments; returns its trap code."""
        return self.runtime_call(name, self.ctx, *arguments)

    def check_subtype(self, actual: Value, expected: Value, go_on: str) -> None:
        """Handle an indirect call's function of another type. Ends the block.

        The outlined handler checks whether it is a subtype, and then makes the call, or traps. It doesn't return.
        """
        self.tail_call(self.subtype_slow, acc=actual)

    def trap_if_code(self, code: Value) -> None:
        """Leave with the trap code that a runtime function returned, unless it is 0."""
        trap, go_on = self.fresh("trap"), self.fresh("ok")
        failed = self.compare("ne", code, self.const("i64", 0))
        self.emit(f"br i1 {failed.text}, label {trap}, label {go_on}, !prof !0")
        self.label(trap)
        self.tail_call("@wl_trap", acc=code)
        self.label(go_on)

    def memory0(self, instance: Value) -> Value:
        """Base of memory 0 of an instance."""
        return self.struct_field(instance, "WlInstance", "memory0_base")
