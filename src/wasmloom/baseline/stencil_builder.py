"""The builder of stencils: a handler's body, with holes in the place of its instruction's fields.

A hole is a symbol that nothing defines. LLVM is told in which range its address lies (``!absolute_symbol``), so it
takes it for a number that it doesn't know: a test for zero stays, and the number goes into displacements and immediates
where all of the range fits. The name says what the copier puts there (see `wasmloom.baseline.holes`).

Some numbers are taken to be smaller than their fields could hold, because they then fit an immediate: where one isn't,
the copier takes another stencil, of those with ``wide`` numbers, or leaves the instruction to its handler.

A stencil doesn't know its instruction's address in a register; where a body uses it, it is counted from the code. All
of what an instruction can lead to is known when code is made: following instruction and targets are jumped to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from wasmloom.baseline.holes import SYMBOL, Symbol, symbol
from wasmloom.baseline.roles import KEEPING, Effect, Roles, roles_of
from wasmloom.contract.layout import SLOT_BYTES
from wasmloom.interpreter.emitter import STATE, HandlerBuilder
from wasmloom.interpreter.isa import FIELD_KINDS, Shape
from wasmloom.semantics import llvm
from wasmloom.semantics.kinds import SLOT_BITS, Kind
from wasmloom.semantics.llvm import Value, is_float
from wasmloom.target import pins, registers

#: Where the following instruction's code is: stencils end where it begins.
FOLLOWING = "following"

POISON_IP = Value("poison", "ptr")

SLOT_TYPE = f"i{SLOT_BITS}"
VECTOR = "<2 x double>"
#: Registers of pins → type of their parameters.
REGISTERS = {
    register: type.partition(" nest")[0]
    for type, register in pins.PARAMETERS
    if register in pins.INTEGERS or register in pins.FLOATS
}

_NAME = re.compile(r"%[\w.]+")
_DEFINED = re.compile(r"(%[\w.]+) = (\w+) (.*)")
_STORE = re.compile(r"store .*, ptr (%[\w.]+), align")
_INSERTED = re.compile(rf"insertelement {VECTOR} poison, double (%[\w.]+), i32 0")
#: What is read, or found out, isn't an address in the frame, even if it is of one.
_FORGETTING = ("load", "call", "icmp")
#: What might write anywhere, if it is given an address.
_OPAQUE = re.compile(r"\b(call|atomicrmw|cmpxchg)\b")


class StencilBuilder(HandlerBuilder):
    """Emits one stencil.

    `direct`: calls go to the callee's code, not through its cell. `wide`: numbers of 64 bits can be any. `pinned`: by
    the name of a field the register that has what is in its slot.

    What a body does with slots is noted, for `roles`; with an `effect` that leaves no pin as it was, none is kept.
    """

    def __init__(
        self,
        shape: Shape,
        direct: bool = False,
        wide: bool = False,
        pinned: Mapping[str, str] | None = None,
        effect: Effect = Effect.NOTHING,
    ) -> None:
        super().__init__(shape)
        self._direct = direct
        self._wide = wide
        #: Whether `direct` and `wide` make a difference.
        self.can_be_direct = False
        self.can_be_wide = False
        self._pinned = pinned or {}
        self._keeps = effect in KEEPING
        #: Address of a slot → field; field → what is read of it: floats (True), integers, or words of any class (None).
        self._fields: dict[str, str] = {}
        self._reads: dict[str, set[bool | None]] = {}
        #: What may be an address in the frame; what has been written to `dst`; numbers of 32 bits → the same in 64.
        self._in_frame = {self.fp.text}
        self._result: Value | None = None
        self._widened: dict[str, Value] = {}
        self._reading: bool | None = None
        #: What is known by its definition.
        self._definitions: dict[str, str] = {}
        self._effects: set[Effect] = set()
        self._exits: set[str] = set()
        self._given: dict[str, Value] = {}
        self._writes_slots = False

    # --- where the instruction is ---

    @property
    def ip(self) -> Value:
        """The instruction's address."""
        return Value(Symbol("place", 0).text, "ptr")

    @ip.setter
    def ip(self, value: Value) -> None:
        if value.text != "%ip":
            raise ValueError("a stencil is at its instruction")

    def _symbol(self, value: Value) -> Symbol | None:
        match = SYMBOL.fullmatch(value.text)
        return symbol(match[1]) if match else None

    def at(self, base: Value, offset: int | Value) -> Value:
        """`base` plus an offset in bytes."""
        place = self._symbol(base)
        if place is not None and place.what == "place" and isinstance(offset, int):
            return Value(Symbol("place", place.offset + offset).text, "ptr")
        return super().at(base, offset)

    # --- fields ---

    def _number(self, name: str, type: str, signed: bool, scale: int = 1) -> Value:
        field = self.shape.field(name)
        width = FIELD_KINDS[field.kind].width
        small = field.kind == "u32"
        if width == SLOT_BYTES and signed:
            self.can_be_wide = True
            small = not self._wide
        hole = Symbol("number", field.offset, width, int(signed), scale, int(small))
        return Value(f"ptrtoint (ptr {hole.text} to {type})", type)

    def narrow(self, name: str, shape: Shape | None = None, base: Value | None = None) -> Value:
        """The number in a field, as it is."""
        if base is not None:
            return super().narrow(name, shape, base)
        return self._number(name, f"i{8 * FIELD_KINDS[self.shape.field(name).kind].width}", False)

    def number(self, name: str, shape: Shape | None = None, base: Value | None = None) -> Value:
        """The number in a field, widened to i64."""
        if base is not None:
            return super().number(name, shape, base)
        kind = FIELD_KINDS[self.shape.field(name).kind]
        return self._number(name, "i64", kind.signed or kind.width == SLOT_BYTES)

    def slot(self, name: str) -> Value:
        """The address of the slot whose number is in a field."""
        offset = self._number(name, "i64", False, SLOT_BYTES)
        address = self.assign(f"getelementptr i8, ptr {self.fp.text}, i64 {offset.text}", "ptr")
        if self.fp.text == "%fp":
            self._fields[address.text] = name
        return address

    def immediate(self, name: str, kind: Kind) -> Value:
        """An immediate operand."""
        if not kind.is_float:
            return self.number(name) if kind.bits == SLOT_BITS else self.narrow(name)
        bits = self._number(name, f"i{kind.bits}", False)
        return self.convert("bitcast", bits, kind.type)

    def target(self, name: str = "target") -> Value:
        """The address of the instruction that a field leads to."""
        return Value(Symbol("target", self.shape.field(name).offset).text, "ptr")

    def pointer_field(self, name: str) -> Value:
        """The pointer in a field."""
        return Value(Symbol("pointer", self.shape.field(name).offset).text, "ptr")

    def load(self, type: str, address: Value, align: int = 1) -> Value:
        """Read memory, or the register that has what is there."""
        field = self._fields.get(address.text)
        # Vectors have no roles: a register has one slot only.
        if field is not None and type not in ("ptr", llvm.VECTOR):
            self._reads.setdefault(field, set()).add(self._reading)
            if field in self._pinned:
                return self._from_register(self._pinned[field], type)
        pointer = self._symbol(address)
        if pointer is not None and pointer.what == "pointer":
            self.can_be_direct = True
            if self._direct:
                return Value(Symbol("callee", pointer.offset).text, "ptr")
        return super().load(type, address, align)

    # --- pins ---

    def read_slot(self, name: str, kind: Kind) -> Value:
        """The value of the slot whose number is in a field."""
        self._reading = kind.is_float
        value = super().read_slot(name, kind)
        self._reading = None
        return value

    def _from_register(self, register: str, type: str) -> Value:
        """What a register has, as a type."""
        value = Value(f"%{register}", REGISTERS[register])
        if value.type == VECTOR:
            if is_float(type):
                return self.lane0(value, type)
            value = self.convert("bitcast", self.lane0(value, "f64"), SLOT_TYPE)
        elif value.type == "ptr":
            value = self.address_word(value)
        if type == SLOT_TYPE:
            return value
        narrow = self.convert("trunc", value, type)
        if type == "i32":  # slots have them zero-extended
            self._widened[narrow.text] = value
        return narrow

    def convert(self, opcode: str, x: Value, target: str) -> Value:
        """An LLVM conversion instruction."""
        if opcode == "zext" and target == SLOT_TYPE and x.text in self._widened:
            return self._widened[x.text]
        return super().convert(opcode, x, target)

    def store(self, x: Value, address: Value, align: int = 1, seen: bool = False) -> None:
        """Write memory."""
        if self._fields.get(address.text) == "dst":
            self._result = x
        super().store(x, address, align, seen)

    def emit(self, line: str) -> None:
        """Write one line."""
        names = set(_NAME.findall(line))
        defined = _DEFINED.match(line)
        if defined:
            name, opcode, rest = defined.groups()
            self._definitions[name] = f"{opcode} {rest}"
            if names - {name} & self._in_frame and opcode not in _FORGETTING:
                self._in_frame.add(name)
        written = _STORE.match(line)
        address = written[1] if written else ""
        if address in self._in_frame and self._fields.get(address) != "dst":
            self._writes_slots = True
        if not line.startswith("musttail") and _OPAQUE.search(line) and names & self._in_frame:
            self._writes_slots = True
        super().emit(line)

    def set_pin(self, register: str, value: Value) -> None:
        """Let a register have the result, behind the stencil."""
        self._given[register] = value

    def _note_effect(self, function: str, state: dict[str, Value]) -> None:
        """Note what becomes of pins where the stencil goes on in the function's code."""
        if "fp" in state:
            self._effects.add(Effect.UNFIT)
        elif self._result is not None and self._result.type in (llvm.VECTOR, llvm.WIDE):
            self._effects.add(Effect.DOUBLE)
        elif function != f"@{FOLLOWING}" or self._result is None:
            self._effects.add(Effect.NOTHING)
        else:
            result = self._result.text
            facc = (state.get("facc") or self.facc).text
            inserted = _INSERTED.fullmatch(self._definitions.get(facc, ""))
            if result == (state.get("acc") or self.acc).text:
                self._effects.add(Effect.INTEGER)
            elif (
                self._definitions.get(result) == f"extractelement {VECTOR} {facc}, i32 0"
                or (inserted and self._definitions.get(inserted[1]) == f"bitcast i64 {result} to double")
            ):  # fmt: skip
                self._effects.add(Effect.FLOAT)
            else:
                self._effects.add(Effect.SLOT)

    @property
    def roles(self) -> Roles:
        """What the body does with slots, when it has been written."""
        fields = {field.name: field.kind for field in self.shape.fields}
        effects = self._effects
        if self._writes_slots and effects:
            goes_on = FOLLOWING in self._exits and len(self._exits) == 1 and Effect.UNFIT not in effects
            effects = {Effect.ANY if goes_on else Effect.UNFIT}
        if Effect.UNFIT in effects:
            effect = Effect.UNFIT
        elif not effects:
            effect = Effect.AWAY if "delta" in fields or self.shape.has_array else Effect.END
        else:
            written = effects - {Effect.NOTHING}
            effect = Effect.NOTHING if not written else written.pop() if len(written) == 1 else Effect.SLOT
        return roles_of(self._reads, effect)

    # --- leaving ---

    def tail_call(self, function: str, **state: Value) -> None:
        """Leave; where it goes on in the function's code, pins stay."""
        place = self._symbol(Value(function, "ptr"))
        stays = function == f"@{FOLLOWING}" or (place is not None and place.what in ("code", "entry"))
        if stays:
            self._note_effect(function, state)
            self._exits.add(function[1:])
        current = {name: getattr(self, name) for _, name in STATE}
        arguments = [f"{type} {(state.get(name) or current[name]).text}" for type, name in STATE]
        for type, register in pins.PARAMETERS:
            kept = stays and self._keeps and register in REGISTERS
            value = self._given.get(register, Value(f"%{register}", type)).text if kept else "poison"
            arguments.append(f"{type} {value}")
        self.emit(f"musttail call {registers.HANDLER_CONVENTION} void {function}({', '.join(arguments)})")
        self.emit("ret void")

    def jump(self, code: Value, **state: Value) -> None:
        """Go to the instruction at `code`."""
        place = self._symbol(code)
        if place is None:
            super().jump(code, **state)
        elif place == Symbol("place", self.shape.size):
            self.tail_call(f"@{FOLLOWING}", ip=POISON_IP, **state)
        elif place.what == "target":
            self.tail_call(Symbol("code", place.offset).text, ip=POISON_IP, **state)
        elif place.what == "callee":
            self.tail_call(place.text, ip=POISON_IP, **state)
        else:
            raise ValueError(f"a jump to {code.text}")


#: A function that goes on with the handler: of what has no stencil, or no hole that is wide enough.
PARAMETERS = ", ".join(type for type, _ in (*STATE, *pins.PARAMETERS))
SIGNATURE = ", ".join(f"{type} %{name}" for type, name in (*STATE, *pins.PARAMETERS))


def declaration(function: str, linkage: str = "") -> str:
    """LLVM's declaration of a function with a handler's signature."""
    return f"declare {linkage} {registers.HANDLER_CONVENTION} void {function}({PARAMETERS})"
