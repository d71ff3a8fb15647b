"""The part of the IR builder that knows the structs of `wasmloom.contract.layout`: both tiers' code uses it."""

from __future__ import annotations

from wasmloom.contract import layout
from wasmloom.semantics.llvm import Builder, Value


class StructBuilder(Builder):
    """A builder that reads and writes fields of structs by name."""

    def at(self, base: Value, offset: int | Value) -> Value:
        """`base` plus an offset in bytes."""
        number = str(offset) if isinstance(offset, int) else offset.text
        return self.assign(f"getelementptr i8, ptr {base.text}, i64 {number}", "ptr")

    def pointer(self, base: Value, offset: int | Value) -> Value:
        """Load a pointer from `base` plus `offset`."""
        return self.load("ptr", self.at(base, offset), align=8)

    def word(self, base: Value, index: Value) -> Value:
        """The address of a word of an array."""
        return self.assign(f"getelementptr i64, ptr {base.text}, i64 {index.text}", "ptr")

    def constant_load(self, type: str, address: Value) -> Value:
        """Read what never changes while the function runs."""
        return self.load(type, address, align=8)

    # --- references of functions and the like are addresses ---

    def address_word(self, pointer: Value) -> Value:
        """A pointer's address as a word."""
        return self.assign(f"ptrtoint ptr {pointer.text} to i64", "i64")

    def pointer_in(self, word: Value) -> Value:
        """The pointer whose address is in a word."""
        return self.assign(f"inttoptr i64 {word.text} to ptr", "ptr")

    def is_null(self, pointer: Value) -> Value:
        """Whether a pointer is null."""
        return self.assign(f"icmp eq ptr {pointer.text}, null", "i1")

    # --- structs ---

    def struct_field(self, base: Value, struct: str, field: str, type: str = "ptr") -> Value:
        """Load a field of one of the structs."""
        return self.load(type, self.at(base, layout.offset(struct, field)), align=8)

    def set_struct_field(self, base: Value, struct: str, field: str, value: Value) -> None:
        """Write a field of a struct."""
        self.store(value, self.at(base, layout.offset(struct, field)), align=8)

    def branch(self, condition: Value, yes: str, no: str, unlikely: bool = False) -> None:
        """A conditional branch between two labels of this function."""
        self.emit(f"br i1 {condition.text}, label {yes}, label {no}" + (", !prof !0" if unlikely else ""))

    def is_young(self, cont: Value) -> Value:
        """Whether a continuation has enough revisions to be used again: at least two."""
        reference = self.struct_field(cont, "WlCont", "reference", "i64")
        revision = self.binary("lshr", reference, self.const("i64", layout.REVISION_SHIFT))
        # 0, of one whose revisions have run out, becomes the highest number.
        before = self.binary("sub", revision, self.const("i64", 1))
        return self.compare("ult", before, self.const("i64", layout.MAX_REVISION - 1))
