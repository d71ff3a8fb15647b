"""Lowers addresses of memories: what keeps accesses within them, and where a memory lies."""

from __future__ import annotations

from wasmloom.compiler.builder import FunctionBuilder
from wasmloom.compiler.facts import Facts
from wasmloom.compiler.options import Options
from wasmloom.contract import layout, traps
from wasmloom.contract.layout import ADDRESS_BITS_64
from wasmloom.semantics.llvm import Value
from wasmloom.spec.limits import PAGE_BITS


class Accesses:
    """The accesses to memories of one function.

    Each is approached first, then its address is made, then it is over (`accessed`).
    """

    def __init__(self, b: FunctionBuilder, facts: Facts, options: Options) -> None:
        self.b = b
        self.facts = facts
        self.options = options
        #: what of memories is known to be there in the current block: end of the access by memory and address
        self._reached: dict[tuple[int, str], int] = {}
        self._reached_in = ""
        #: where memories that never move begin
        self._bases: dict[int, Value] = {}

    def _is_guarded(self, memory: int) -> bool:
        """Whether a memory is followed by guard pages: see `wasmloom.runtime.regions`."""
        return not self.options.checked and self.facts.module.memories[memory].page_size_log2 == PAGE_BITS

    def _check_range(self, address: Value, offset: int) -> None:
        """Trap unless an address of 64 bits, and its sum with an offset that isn't small, are where guard pages are."""
        b = self.b
        if offset >> ADDRESS_BITS_64:  # beyond any memory, whatever the address is
            b.trap_if(b.const("i1", 1), traps.MEMORY_OUT_OF_BOUNDS)
            return
        key = (address.text, "in range")
        if key not in b.memo:
            b.memo[key] = address
            self._trap_beyond(address)
        if offset >> 32:
            # Neither has more than ADDRESS_BITS_64 bits: the sum fits.
            self._trap_beyond(b.binary("add", address, b.const("i64", offset)))

    def _trap_beyond(self, address: Value) -> None:
        b = self.b
        b.trap_if(b.compare("ugt", address, b.const("i64", (1 << ADDRESS_BITS_64) - 1)), traps.MEMORY_OUT_OF_BOUNDS)

    def approach(self, memory: int, address: Value, offset: int, width: int) -> None:
        """Before an access: mark its place, unless it can't fault (memories never shrink)."""
        b = self.b
        if not self._is_guarded(memory):
            return
        if address.type == "i64":
            self._check_range(address, offset)
        if self._reached_in != b.block:
            self._reached_in = b.block
            self._reached.clear()
        key = (memory, address.text)
        end = offset + width
        if self._reached.get(key, 0) < end:
            self._reached[key] = end
            b.mark()

    def accessed(self, memory: int) -> None:
        """Behind an access."""
        if self._is_guarded(memory):
            self.b.accessed()

    def address(self, memory: int, address: Value, offset: int, width: int) -> Value:
        """A guest address, which has been approached, as a pointer.

        Guarded memories never move, and need no check; checked ones need both.
        """
        b = self.b
        if not self._is_guarded(memory):
            if address.type == "i64":
                return self._wide_checked_address(memory, address, offset, width)
            return self._checked_address(memory, b.wide(address), offset, width)
        wide = b.wide(address)
        base = self._bases.get(memory)
        if base is None:
            base = Value(f"%memory{memory}", "ptr")
            at, struct = Value(f"%memory{memory}.at", "ptr"), Value(f"%memory{memory}.s", "ptr")
            invariant = "align 8, !invariant.load !3, !tbaa !2"
            if memory == 0:
                field = layout.offset("WlInstance", "memory0_base")
                b.entry.append(f"  {at.text} = getelementptr i8, ptr %inst, i64 {field}")
            else:
                slot = self.facts.place("mem", memory)
                b.entry.append(f"  {struct.text}.at = getelementptr i8, ptr %inst, i64 {slot}")
                b.entry.append(f"  {struct.text} = load ptr, ptr {struct.text}.at, {invariant}")
                field = layout.offset("WlMemory", "base")
                b.entry.append(f"  {at.text} = getelementptr i8, ptr {struct.text}, i64 {field}")
            b.entry.append(f"  {base.text} = load ptr, ptr {at.text}, {invariant}")
            self._bases[memory] = base
        place = b.at(base, wide)
        if offset >> ADDRESS_BITS_64:
            return place  # nothing arrives here
        return b.at(place, offset) if offset else place

    def check_alignment(self, address: Value, offset: int, width: int) -> None:
        """Trap unless an access is aligned to its width. Its address's low bits don't depend on the high ones."""
        b = self.b
        if width == 1:
            return
        if offset % width:
            address = b.binary("add", address, b.const(address.type, offset % width))
        low = b.binary("and", address, b.const(address.type, width - 1))
        b.trap_if(b.compare("ne", low, b.const(low.type, 0)), traps.UNALIGNED_ATOMIC)

    def _checked_address(self, memory: int, address: Value, offset: int, width: int) -> Value:
        b = self.b
        struct = self._struct(memory)
        length = b.struct_field(struct, "WlMemory", "length", "i64")
        start = b.binary("add", address, b.const("i64", offset)) if offset else address
        end = b.binary("add", start, b.const("i64", width))
        b.trap_if(b.compare("ugt", end, length), traps.MEMORY_OUT_OF_BOUNDS)
        return b.at(b.struct_field(struct, "WlMemory", "base"), start)

    def _wide_checked_address(self, memory: int, address: Value, offset: int, width: int) -> Value:
        """The same for an address and an offset of 64 bits, whose sum may not fit."""
        b = self.b
        struct = self._struct(memory)
        last = offset + width - 1
        if last >> 64:
            b.trap_if(b.const("i1", 1), traps.MEMORY_OUT_OF_BOUNDS)
            last &= (1 << 64) - 1
        below = b.below(b.struct_field(struct, "WlMemory", "length", "i64"), b.constant("i64", last))
        b.trap_if(b.compare("uge", address, below), traps.MEMORY_OUT_OF_BOUNDS)
        start = b.binary("add", address, b.constant("i64", offset)) if offset else address
        return b.at(b.struct_field(struct, "WlMemory", "base"), start)

    def _struct(self, memory: int) -> Value:
        return self.b.constant_pointer(self.b.inst, self.facts.place("mem", memory))
