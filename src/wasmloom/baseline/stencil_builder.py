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

from wasmloom.baseline.holes import SYMBOL, Symbol, symbol
from wasmloom.contract.layout import SLOT_BYTES
from wasmloom.interpreter.emitter import STATE, HandlerBuilder
from wasmloom.interpreter.isa import FIELD_KINDS, Shape
from wasmloom.semantics.kinds import SLOT_BITS, Kind
from wasmloom.semantics.llvm import Value
from wasmloom.target import registers

#: Where the following instruction's code is: stencils end where it begins.
FOLLOWING = "following"

POISON_IP = Value("poison", "ptr")


class StencilBuilder(HandlerBuilder):
    """Emits one stencil.

    `direct`: calls go to the callee's code, not through its cell. `wide`: numbers of 64 bits can be any.
    """

    def __init__(self, shape: Shape, direct: bool = False, wide: bool = False) -> None:
        super().__init__(shape)
        self._direct = direct
        self._wide = wide
        #: Whether `direct` and `wide` make a difference.
        self.can_be_direct = False
        self.can_be_wide = False

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
        return self.assign(f"getelementptr i8, ptr {self.fp.text}, i64 {offset.text}", "ptr")

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
        """Read memory."""
        pointer = self._symbol(address)
        if pointer is not None and pointer.what == "pointer":
            self.can_be_direct = True
            if self._direct:
                return Value(Symbol("callee", pointer.offset).text, "ptr")
        return super().load(type, address, align)

    # --- leaving ---

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
PARAMETERS = ", ".join(type for type, _ in STATE)


def declaration(function: str, linkage: str = "") -> str:
    """LLVM's declaration of a function with a handler's signature."""
    return f"declare {linkage} {registers.HANDLER_CONVENTION} void {function}({PARAMETERS})"
