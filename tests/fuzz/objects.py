"""Random types of structs and arrays, and steps of random function bodies with objects.

All modules of a program begin with the same types, so objects go from one to the other, and a type index means the same
in all of them. The model of the operand stack knows nullable references only: what is never null is the value of a
nullable type, and an operand may be taken for one of a supertype. Some types are there twice, under two indices that
mean the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tests.fuzz.choices import Choices
from tests.fuzz.control_steps import ControlSteps
from tests.fuzz.operands import INTERESTING, Entry
from wasmloom.binary.encoder import heap_type_bytes, sleb, uleb, val_type_bytes
from wasmloom.spec.types import (
    ABSTRACT_HEAP_TYPES,
    ANYREF,
    CONCRETE,
    EXTERNREF,
    F32,
    F64,
    FUNCREF,
    I8,
    I16,
    I32,
    I64,
    V128,
    ArrayType,
    FieldType,
    StructType,
    SubType,
    ValType,
    ref_type,
)

EQREF, I31REF, STRUCTREF, ARRAYREF = (
    ref_type(ABSTRACT_HEAP_TYPES[name], True) for name in ("eq", "i31", "struct", "array")
)
_NONE = bytes((ABSTRACT_HEAP_TYPES["none"],))
_ABSTRACT = (ANYREF, EQREF, STRUCTREF, ARRAYREF, I31REF)
#: Abstract types and those directly above.
_ABOVE = {EQREF: ANYREF, I31REF: EQREF, STRUCTREF: EQREF, ARRAYREF: EQREF}
#: The depth in which objects are made to be fields of others at once; fields of a type that are never null; the most
#: elements of an array, less one.
_NESTING = 2
_SURE_FIELDS = 4
_MASK = 63


def reference_to(index: int) -> ValType:
    """The nullable reference to a type."""
    return ref_type(CONCRETE + index, True)


def nullable(type: ValType) -> ValType:
    """The reference type that has null, too."""
    return ref_type(type.heap, True)


def shifted(type: ValType, first: int, by: int) -> ValType:
    """A type in which the indices from `first` on are others."""
    if not type.is_ref or type.heap < CONCRETE + first:
        return type
    return ref_type(type.heap + by, type.is_nullable)


class ObjectTypes:
    """The types of a program's objects. `meaning`: index → the first index of an equal type."""

    def __init__(self, choices: Choices, vectors: bool) -> None:
        self.c = choices
        self.groups: list[tuple[SubType, ...]] = []
        self.subs: list[SubType] = []
        self.meaning: list[int] = []
        self.sure_fields = 0
        self.plain = (I32, I8, I64, I16, F32, F64, V128) if vectors else (I32, I8, I64, I16, F32, F64)
        self.deep = choices.chance(20)
        wanted = 13 if self.deep else choices.pick((3, 5, 9))
        while len(self.subs) < wanted:
            self._repeat() if self.groups and choices.chance(12) else self._group()
        own = [index for index in range(len(self.subs)) if self.meaning[index] == index]
        #: the types of references to objects, each once
        self.references: tuple[ValType, ...] = (*_ABSTRACT, *map(reference_to, own))
        self.structs = [index for index in own if isinstance(self.subs[index].composite, StructType)]
        self.arrays = [index for index in own if isinstance(self.subs[index].composite, ArrayType)]

    # --- making types ---

    def _group(self) -> None:
        c = self.c
        first = len(self.subs)
        count = c.pick((1, 1, 2, 3))
        for index in range(first, first + count):
            parents = [i for i, sub in enumerate(self.subs) if not sub.final]
            parent = None
            if parents and c.chance(95 if self.deep else 55):
                parent = parents[-1] if self.deep or c.chance(30) else c.pick(parents)
            final = c.chance(10 if self.deep else 35)
            composite = self._composite(parent, first, first + count)
            self.subs.append(SubType(composite, () if parent is None else (parent,), final))
            self.meaning.append(index)
        self.groups.append(tuple(self.subs[first:]))

    def _repeat(self) -> None:
        """An earlier group once more: its types are the same."""
        at = self.c.below(len(self.groups))
        begin = sum(map(len, self.groups[:at]))
        by = len(self.subs) - begin

        def moved(field: FieldType) -> FieldType:
            inside = field.storage.is_ref and field.storage.heap < CONCRETE + begin + len(self.groups[at])
            return field._replace(storage=shifted(field.storage, begin, by)) if inside else field

        again = []
        for sub in self.groups[at]:
            composite: StructType | ArrayType
            if isinstance(sub.composite, StructType):
                composite = StructType(tuple(map(moved, sub.composite.fields)))
            else:
                assert isinstance(sub.composite, ArrayType)
                composite = ArrayType(moved(sub.composite.field))
            again.append(SubType(composite, tuple(i + by if i >= begin else i for i in sub.supers), sub.final))
        self.meaning += [self.meaning[begin + k] for k in range(len(again))]
        self.subs += again
        self.groups.append(tuple(again))

    def _composite(self, parent: int | None, first: int, end: int) -> StructType | ArrayType:
        """A struct or an array, as a subtype of another; its references are to types before `end`."""
        c = self.c
        above = None if parent is None else self.subs[parent].composite
        if isinstance(above, ArrayType):
            return ArrayType(self._refined(above.field, first))
        if above is None and c.chance(35):
            return ArrayType(self._field(first, end))
        fields = [self._refined(field, first) for field in above.fields] if isinstance(above, StructType) else []
        more = c.pick((1, 0, 2)) if fields else c.pick((2, 3, 1, 0, 5, 9))
        return StructType((*fields, *(self._field(first, end) for _ in range(more))))

    def _field(self, first: int, end: int) -> FieldType:
        c = self.c
        mutable = c.chance(70)
        if c.chance(50):
            return FieldType(c.pick(self.plain), mutable)
        if c.chance(15) and self.sure_fields < _SURE_FIELDS:  # so each object can be made
            self.sure_fields += 1
            heap = CONCRETE + c.below(first) if first and c.chance(70) else I31REF.heap
            return FieldType(ref_type(heap, False), mutable)
        if c.chance(50):
            return FieldType(reference_to(c.below(end)), mutable)
        return FieldType(c.pick((*_ABSTRACT, EXTERNREF, FUNCREF)), mutable)

    def _refined(self, field: FieldType, first: int) -> FieldType:
        """A field of a subtype: that of the supertype, or, if it can't be written, one of a subtype."""
        if field.mutable or not field.storage.is_ref or not field.storage.is_nullable or self.c.chance(50):
            return field
        below = [reference_to(i) for i in range(first) if self.below(reference_to(i), field.storage)]
        return FieldType(self.c.pick(below), False) if below else field

    # --- what they are ---

    def holds(self, type: ValType) -> bool:
        """Whether a type is one of references to objects."""
        return type in _ABSTRACT or (type.is_ref and CONCRETE <= type.heap < CONCRETE + len(self.subs))

    def _above(self, type: ValType) -> ValType | None:
        if type.heap < CONCRETE:
            return _ABOVE.get(type)
        sub = self.subs[type.heap - CONCRETE]
        if sub.supers:
            return reference_to(self.meaning[sub.supers[0]])
        return STRUCTREF if isinstance(sub.composite, StructType) else ARRAYREF

    def supertypes(self, type: ValType) -> list[ValType]:
        """A nullable reference type and all above it."""
        found: list[ValType] = []
        at: ValType | None = self.known(type)
        while at is not None:
            found.append(at)
            at = self._above(at)
        return found

    def below(self, type: ValType, other: ValType) -> bool:
        """Whether one nullable reference type is a subtype of the other."""
        if not self.holds(type) or not self.holds(other):
            return type == other
        return self.known(other) in self.supertypes(type)

    def subtypes(self, type: ValType) -> list[ValType]:
        """The types below one, itself included."""
        return [other for other in self.references if self.below(other, type)]

    def known(self, storage: ValType) -> ValType:
        """The type on the operand stack of what a field holds."""
        if storage in (I8, I16):
            return I32
        if not storage.is_ref:
            return storage
        if self.holds(nullable(storage)) and storage.heap >= CONCRETE:
            return reference_to(self.meaning[storage.heap - CONCRETE])
        return nullable(storage)

    def alias(self, index: int) -> int:
        """One of the indices of a type."""
        return self.c.pick([i for i, meaning in enumerate(self.meaning) if meaning == index])

    def fields(self, index: int) -> tuple[FieldType, ...]:
        """The fields of a struct, or the element of an array."""
        composite = self.subs[index].composite
        if isinstance(composite, StructType):
            return composite.fields
        assert isinstance(composite, ArrayType)
        return (composite.field,)

    def has_default(self, index: int) -> bool:
        return all(field.storage.is_defaultable for field in self.fields(index))

    def makeable(self, type: ValType) -> list[ValType]:
        """The types below one that objects are made of: concrete ones, and i31."""
        return [other for other in self.subtypes(type) if other == I31REF or other.heap >= CONCRETE]

    # --- constant expressions ---

    def constant(self, type: ValType, depth: int = 0) -> bytes:
        """A constant expression of a type, without its end."""
        c = self.c
        if not type.is_ref:
            return _number(c, type)
        if not self.holds(nullable(type)):
            return b"\xd0" + heap_type_bytes(type.heap)
        makeable = self.makeable(self.known(type))
        if not makeable or (type.is_nullable and (depth > _NESTING or c.chance(20))):
            return b"\xd0" + (_NONE if c.chance(50) else heap_type_bytes(type.heap))
        chosen = c.pick(makeable)
        if chosen == I31REF:
            return _number(c, I32) + b"\xfb\x1c"
        index = chosen.heap - CONCRETE
        alias, fields = uleb(self.alias(index)), self.fields(index)
        has_default = self.has_default(index) and (depth > 1 or c.chance(25))
        if isinstance(self.subs[index].composite, StructType):
            if has_default:
                return b"\xfb\1" + alias
            return b"".join(self.constant(field.storage, depth + 1) for field in fields) + b"\xfb\0" + alias
        length = c.pick((4, 1, 0, 9))
        if has_default:
            return b"\x41" + sleb(length) + b"\xfb\7" + alias
        if c.chance(50):
            return self.constant(fields[0].storage, depth + 1) + b"\x41" + sleb(length) + b"\xfb\6" + alias
        items = b"".join(self.constant(fields[0].storage, depth + 1) for _ in range(length))
        return items + b"\xfb\x08" + alias + uleb(length)


def _number(c: Choices, type: ValType) -> bytes:
    """A constant of a number or a vector, or of what is packed."""
    if type == V128:
        return b"\xfd\x0c" + bytes(c.below(256) for _ in range(16))
    if type in (F32, F64):
        number = c.pick(INTERESTING[type])
        return (b"\x43" if type == F32 else b"\x44") + number.to_bytes(4 if type == F32 else 8, "little")
    wide = type == I64
    number = c.pick(INTERESTING[I64 if wide else I32])
    bits = 64 if wide else 32
    return (b"\x42" if wide else b"\x41") + sleb((number + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1))


class Accessed(NamedTuple):
    """A struct's field or an array's element: the index of the type, of the field, and what it is."""

    index: int
    number: int
    field: FieldType


class ObjectSteps(ControlSteps):
    """Each step is valid wherever it is taken, and may do nothing."""

    nesting = 0

    @property
    def objects(self) -> ObjectTypes:
        """The types, in programs with objects."""
        assert self.plan.objects is not None
        return self.plan.objects

    # --- values ---

    def const(self, type: ValType, number: int | None = None) -> None:
        """Push a constant; of objects mostly a new one."""
        if self.plan.objects is None or not self.objects.holds(type):
            super().const(type, number)
        elif (self.nesting < _NESTING and self.c.chance(85)) and self.objects.makeable(type):
            self.new(type)
        else:
            self.null(type)

    def null(self, type: ValType) -> None:
        """Push null."""
        self.op("ref.null", _NONE if self.c.chance(40) else heap_type_bytes(type.heap))
        self.push(type, True)

    def get_local(self, type: ValType) -> None:
        """Also one of a subtype."""
        if self.plan.objects is not None and self.objects.holds(type) and self.c.chance(40):
            those = [i for t in self.objects.subtypes(type) for i in self.locals_of(t)]
            if those:
                self.op("local.get", uleb(self.c.pick(those)))
                self.push(type)
                return
        super().get_local(type)

    def begin_objects(self) -> None:
        """Give most locals an object."""
        if self.plan.objects is None:
            return
        for number in range(len(self.type.params), len(self.locals)):
            type = self.locals[number].type
            if self.objects.holds(type) and not self.short and self.c.chance(70):
                self.const(type)
                self.op("local.set", uleb(number))
                self.pop(1)

    def new(self, type: ValType) -> None:
        """Push a new object or an i31, never null. There is one of that type."""
        c = self.c
        chosen = c.pick(self.objects.makeable(type))
        self.nesting += 1
        height = len(self.stack)
        if chosen == I31REF:
            self.value(I32, 0)
            self.op("ref.i31")
        elif chosen.heap - CONCRETE in self.objects.structs:
            self._new_struct(chosen.heap - CONCRETE)
        else:
            self._new_array(chosen.heap - CONCRETE)
        self.nesting -= 1
        del self.stack[height:]
        self.push(type, True)

    def _new_struct(self, index: int) -> None:
        alias = uleb(self.objects.alias(index))
        if self.objects.has_default(index) and self.c.chance(80 if self.nesting > 1 else 20):
            self.op("struct.new_default", alias)
            return
        for field in self.objects.fields(index):
            self.operand(field.storage)
        self.op("struct.new", alias)

    def _new_array(self, index: int) -> None:
        c, objects = self.c, self.objects
        alias, storage = uleb(objects.alias(index)), objects.fields(index)[0].storage
        segments = self._segments(storage)
        how = c.below(6)
        if how == 0 and objects.has_default(index):
            self.length()
            self.op("array.new_default", alias)
        elif how == 1 and self._takes_data(storage):
            self._range()
            self.op("array.new_data", alias, uleb(c.below(self.plan.data)))
        elif how == 2 and segments:
            self._range()
            self.op("array.new_elem", alias, uleb(c.pick(segments)))
        elif how > 3:
            count = c.pick((2, 4, 1, 0, 6))
            for _ in range(count):
                self.operand(storage)
            self.op("array.new_fixed", alias, uleb(count))
        else:
            self.operand(storage)
            self.length()
            self.op("array.new", alias)

    def operand(self, storage: ValType) -> None:
        """Push a value for a field; one that is never null where it has to be so."""
        type = self.objects.known(storage)
        if storage.is_ref and not storage.is_nullable:
            self.new(type)
        elif self.nesting <= 1:
            self.value(type, 0)
        elif self.objects.holds(type):
            self.null(type)
        else:
            self.const(type)

    def length(self) -> None:
        """Push the length of an array to be made: a few elements."""
        if self.c.chance(75):
            self.const(I32, self.c.pick((4, 5, 8, 1, 0, 40)))
            return
        self.value(I32, 0)
        self.const(I32, _MASK)
        self.op("i32.and")
        self.pop(2)
        self.push(I32, True)

    def _segments(self, storage: ValType) -> list[int]:
        """The element segments whose items an array takes."""
        if not storage.is_ref or not storage.is_nullable:
            return []
        own = self.objects.known(storage)
        return [i for i, type in enumerate(self.plan.elements) if self.objects.below(type, own)]

    def _takes_data(self, storage: ValType) -> bool:
        return self.plan.data > 0 and not storage.is_ref

    def _range(self) -> None:
        """Push a place in a segment, and a number of items."""
        self.const(I32, self.c.pick((0, 1, 2, 3, 60)))
        self.const(I32, self.c.pick((2, 1, 0, 3, 4)))

    # --- access ---

    def assure(self, type: ValType) -> None:
        """Put a new object in the place of null, mostly."""
        if not self.c.chance(85) or not self.objects.makeable(type):
            return
        local = uleb(self._scratch(type))
        self.op("local.tee", local)
        self.op("ref.is_null")
        self.op("if", val_type_bytes(type))
        self.pop(1)
        self.new(type)
        self.op("else")
        self.op("local.get", local)
        self.op("end")

    def _scratch(self, type: ValType) -> int:
        if type not in self.scratch:
            self.scratch[type] = self.new_local(type)
        return self.scratch[type]

    def _accessed(self, indices: Sequence[int], written: bool) -> Accessed | None:
        """Something that can be accessed in objects of one of the types."""
        found = [
            Accessed(index, number, field)
            for index in indices
            for number, field in enumerate(self.objects.fields(index))
            if field.mutable or not written
        ]
        return self.c.pick(found) if found else None

    def _object(self, index: int) -> None:
        """Have a reference to an object of a type on top."""
        self.need((reference_to(index),))
        self.assure(reference_to(index))

    def _read(self, name: str, storage: ValType) -> str:
        return f"{name}_{self.c.pick('us')}" if storage in (I8, I16) else name

    def got(self, storage: ValType) -> None:
        type = self.objects.known(storage)
        self.push(type, type not in (F32, F64))

    def struct_get(self) -> None:
        what = self._accessed(self.objects.structs, False)
        if what is None:
            return
        self._object(what.index)
        name = self._read("struct.get", what.field.storage)
        self.op(name, uleb(self.objects.alias(what.index)), uleb(what.number))
        self.pop(1)
        self.got(what.field.storage)

    def struct_set(self) -> None:
        what = self._accessed(self.objects.structs, True)
        if what is None:
            return
        self._object(what.index)
        self.operand(what.field.storage)
        self.op("struct.set", uleb(self.objects.alias(what.index)), uleb(what.number))
        self.pop(2)

    def _element(self, index: int) -> None:
        """Have an array on top, and the index of an element, mostly one that there is."""
        self._object(index)
        if self.c.chance(40):
            self.small_number(5)
            return
        local = uleb(self._scratch(reference_to(index)))
        self.op("local.tee", local)
        self.value(I32, 1)
        self.op("local.get", local)
        self.op("array.len")
        self.op("i32.const", sleb(1))
        self.op("i32.or")
        self.op("i32.rem_u")

    def array_get(self) -> None:
        what = self._accessed(self.objects.arrays, False)
        if what is None:
            return
        self._element(what.index)
        self.op(self._read("array.get", what.field.storage), uleb(self.objects.alias(what.index)))
        self.pop(2)
        self.got(what.field.storage)

    def array_set(self) -> None:
        what = self._accessed(self.objects.arrays, True)
        if what is None:
            return
        self._element(what.index)
        self.operand(what.field.storage)
        self.op("array.set", uleb(self.objects.alias(what.index)))
        self.pop(3)

    def array_len(self) -> None:
        self.need((ARRAYREF,))
        self.assure(ARRAYREF)
        self.op("array.len")
        self.pop(1)
        self.push(I32)

    def bulk_array(self) -> None:
        """`array.fill`, `copy`, `init_data` and `init_elem`."""
        c = self.c
        what = self._accessed(self.objects.arrays, True)
        if what is None:
            return
        storage, alias = what.field.storage, uleb(self.objects.alias(what.index))
        how = c.below(4)
        self._object(what.index)
        self.small_number(4)
        if how == 0:
            self.operand(storage)
            self.small_number(4)
            self.op("array.fill", alias)
            self.pop(4)
            return
        segments = self._segments(storage)
        if how > 1 and (segments or self._takes_data(storage)):
            self._range()
            if segments:
                self.op("array.init_elem", alias, uleb(c.pick(segments)))
            else:
                self.op("array.init_data", alias, uleb(c.below(self.plan.data)))
            self.pop(4)
            return
        sources = [i for i in self.objects.arrays if self._copies(self.objects.fields(i)[0].storage, storage)]
        source = c.pick(sources)
        self.value(reference_to(source), 1)
        self.assure(reference_to(source))
        self.small_number(4)
        self.small_number(4)
        self.op("array.copy", alias, uleb(self.objects.alias(source)))
        self.pop(5)

    def _copies(self, source: ValType, to: ValType) -> bool:
        """Whether an element can be copied to another; the same one can."""
        if not source.is_ref or not to.is_ref:
            return source == to
        fits = self.objects.below(self.objects.known(source), self.objects.known(to))
        return fits and (to.is_nullable or not source.is_nullable)

    # --- references ---

    def make(self) -> None:
        self.new(self.c.pick([type for type in self.objects.references if self.objects.makeable(type)]))

    def upcast(self) -> None:
        """Take what is on top for a value of a supertype."""
        if len(self.stack) > self.base and self.objects.holds(self.stack[-1].type):
            self.stack[-1] = Entry(self.c.pick(self.objects.supertypes(self.stack[-1].type)), False)

    def i31(self) -> None:
        if self.c.chance(50):
            self.need((I32,))
            self.op("ref.i31")
            self.finish((I32,), (I31REF,))
        else:
            self.need((I31REF,))
            self.assure(I31REF)
            self.op(self.c.pick(("i31.get_s", "i31.get_u")))
            self.finish((I31REF,), (I32,))

    def ref_eq(self) -> None:
        self.need((EQREF, EQREF))
        self.op("ref.eq")
        self.finish((EQREF, EQREF), (I32,))

    def convert(self) -> None:
        """To the other hierarchy, or back."""
        if self.c.chance(50):
            self.need((ANYREF,))
            self.op("extern.convert_any")
            self.finish((ANYREF,), (EXTERNREF,))
        else:
            self.need((EXTERNREF,))
            self.op("any.convert_extern")
            self.finish((EXTERNREF,), (ANYREF,))

    def _target(self, source: ValType) -> ValType:
        """A type to test for: mostly one below."""
        if source == FUNCREF:
            return self.plan.reference_to(self.c.pick(self.plan.signatures))
        return self.c.pick(self.objects.subtypes(source) if self.c.chance(80) else self.objects.references)

    def _heap(self, type: ValType) -> bytes:
        """A heap type to test for, under one of its indices."""
        if type.heap < CONCRETE or not self.objects.holds(type):
            return heap_type_bytes(type.heap)
        return sleb(self.objects.alias(type.heap - CONCRETE))

    def cast(self) -> None:
        """A test, a cast behind a test, or one that may trap."""
        source = self.c.pick((*self.objects.references, FUNCREF))
        target = self._target(source)
        self.need((source,))
        null = self.c.pick(("", "_null"))
        how = self.c.below(5)
        if how < 2:
            heap = _NONE if source != FUNCREF and self.c.chance(5) else self._heap(target)
            self.op(f"ref.test{null}", heap)
            self.finish((source,), (I32,))
        elif how < 4:
            local = uleb(self._scratch(source))
            self.op("local.tee", local)
            self.op(f"ref.test{null}", self._heap(target))
            self.op("if", val_type_bytes(target))
            self.pop(1)
            self.op("local.get", local)
            self.op(f"ref.cast{null}", self._heap(target))
            self.op("else")
            self.const(target)
            self.op("end")
        elif self.c.chance(35):
            self.op(f"ref.cast{null}", self._heap(target))
            self.finish((source,), (target,))

    def br_on_cast(self) -> None:
        """`br_on_cast` and `br_on_cast_fail`, forwards."""
        c, objects = self.c, self.objects
        depths = [
            depth
            for depth, label in enumerate(reversed(self.labels))
            if label.counter is None and label.types and objects.holds(label.types[-1])
        ]
        if not depths:
            return
        depth = c.pick(depths)
        types = self.labels[-1 - depth].types
        fails = c.chance(50)
        taken = c.pick(objects.subtypes(types[-1]))
        if fails:
            source, target = taken, c.pick(objects.subtypes(taken))
        else:
            source, target = c.pick(objects.supertypes(taken)), taken
        flags = 1 + 2 * c.below(2)
        self.need((*types[:-1], source), 1)
        heaps = self._heap(source) + self._heap(target)
        self.op("br_on_cast_fail" if fails else "br_on_cast", bytes((flags,)), uleb(depth), heaps)
        self.pop(1)
        self.passed(types[:-1])
        self.push(target if fails else source)
