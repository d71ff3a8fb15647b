"""Random programs for differential tests: one or two modules that import from each other and from the host, and calls.

``python -m tests.fuzz.generator SEED`` prints the modules of a program as text.
"""

from __future__ import annotations

import struct
import sys
from typing import NamedTuple

from tests.fuzz.bodies import Body
from tests.fuzz.choices import Choices
from tests.fuzz.objects import ObjectTypes
from tests.fuzz.operands import CANONICAL_NAN, INTERESTING, NUMBERS, is_number
from tests.fuzz.stacks import Pair, StackBody
from wasmloom.binary.encoder import encode_module, heap_type_bytes, run_lengths, sleb, uleb
from wasmloom.spec.instructions import BY_MNEMONIC
from wasmloom.spec.module import Code, Data, Element, Export, Global, Import, ModuleSyntax, Table
from wasmloom.spec.types import (
    CONCRETE,
    EXTERNREF,
    F32,
    F64,
    FUNCREF,
    I32,
    I64,
    V128,
    ArrayType,
    ContType,
    FuncType,
    GlobalType,
    Limits,
    MemoryType,
    StructType,
    SubType,
    TableType,
    TagType,
    ValType,
    ref_type,
)

#: What the host offers under the module name "env"; `tests.fuzz.differential` says what they do.
HOST_FUNCTIONS: dict[str, FuncType] = {
    "tick": FuncType((), ()),
    "mix": FuncType((I32,), (I32,)),
    "swap": FuncType((I64, F64), (F64, I64)),
    "same": FuncType((F32,), (F32,)),
    "sum": FuncType((I32, I64, F32, F64, I32), (I32,)),
    "fail": FuncType((I32,), ()),
    "again": FuncType((I32,), (I32,)),
}
#: Signature of the function that the host's "again" calls.
REENTERED = FuncType((I32,), (I32,))
TABLE_SIZE = 8
TABLE_MAXIMUM = 40
MEMORY_PAGES = 3
#: What names of exports begin with that hold objects.
OBJECTS = "objects "


class Call(NamedTuple):
    """A call of an export of module `module`; integers only."""

    module: int
    name: str
    arguments: tuple[int, ...]


class Program(NamedTuple):
    """Modules, each of which may import from those before it under the names "m0", "m1" …, and calls."""

    modules: tuple[bytes, ...]
    calls: tuple[Call, ...]


class Plan:
    """A module while it is being made: what its bodies may refer to.

    `functions`, `tables`, `memories` and `globals` are whole index spaces. `slots` says, per table, which slot began
    with which function.
    """

    def __init__(self, raw: bool, wide: bool, objects: ObjectTypes | None) -> None:
        #: NaNs are left as they are where their bits can be seen.
        self.raw = raw
        #: memories and tables have addresses of 64 bits
        self.wide = wide
        #: types of structs and arrays, the first ones of the module
        self.objects = objects
        self.types: list[FuncType | ContType | StructType | ArrayType] = []
        if objects is not None:
            self.types += [sub.composite for sub in objects.subs]
        #: indices of the types of its functions
        self.signatures: list[int] = []
        self.functions: list[FuncType] = []
        self.tables: list[TableType] = []
        self.memories: list[MemoryType] = []
        self.globals: list[GlobalType] = []
        self.slots: dict[int, dict[int, int]] = {}
        self.elements: list[ValType] = []
        self.tags: list[FuncType] = []
        #: tags of exceptions, and those that functions suspend with
        self.throwable: list[int] = []
        self.suspends: list[int] = []
        #: types of continuations that functions of the module can run
        self.conts: list[int] = []
        #: functions with short bodies, which the compiler lets stand in the place of calls
        self.short: list[int] = []
        #: tables stay as they are
        self.fixed = False
        self.pair: Pair | None = None
        self.data = 0
        self.fuel = 0
        self.table_size = TABLE_SIZE
        self.value_types: tuple[ValType, ...] = NUMBERS
        self.syntax = ModuleSyntax()

    def const_address(self, number: int) -> bytes:
        """The expression of an address."""
        return (b"\x42" if self.wide else b"\x41") + sleb(number) + b"\x0b"

    def type_index(self, type: FuncType | ContType) -> int:
        """The index of a type, which is added when it isn't there."""
        if type not in self.types:
            self.types.append(type)
        return self.types.index(type)

    def indices_of(self, type: FuncType) -> list[int]:
        """All indices of a type: definitions that are equal are the same type."""
        self.type_index(type)
        return [i for i, other in enumerate(self.types) if other == type]

    def cont_index(self, type: FuncType) -> int:
        """The index of the continuation type of a function type."""
        return self.type_index(ContType(CONCRETE + self.type_index(type)))

    def continued(self, index: int) -> FuncType:
        """The function type of a continuation type."""
        cont = self.types[index]
        function = self.types[cont.func - CONCRETE] if isinstance(cont, ContType) else cont
        assert isinstance(function, FuncType)
        return function

    def add_tag(self, type: FuncType) -> int:
        """Note a tag of the index space; gives its index."""
        index = len(self.tags)
        self.tags.append(type)
        if not type.results:
            self.throwable.append(index)
        return index

    def reference_to(self, index: int) -> ValType:
        """The nullable reference to a type; always that of its first definition."""
        return ref_type(CONCRETE + self.types.index(self.types[index]), True)

    def is_portable(self, type: ValType) -> bool:
        """Whether a value means the same in all modules of a program."""
        return is_number(type) or (self.objects is not None and self.objects.holds(type))

    def is_function(self, type: ValType) -> bool:
        """Whether a reference type is one of functions."""
        return type == FUNCREF or (type.heap >= CONCRETE and isinstance(self.types[type.heap - CONCRETE], FuncType))

    def functions_for(self, type: ValType) -> list[int]:
        """The functions that a reference type holds."""
        if type == FUNCREF:
            return list(range(len(self.functions)))
        if type.heap < CONCRETE:
            return []
        wanted = self.types[type.heap - CONCRETE]
        return [i for i, function in enumerate(self.functions) if function == wanted]


class Generator:
    """Makes one program."""

    def __init__(self, choices: Choices, raw: bool = False, stacks: bool = False) -> None:
        """`raw`: NaNs are left as they are where their bits can be seen; `stacks`: with continuations."""
        self.c = choices
        self.raw = raw
        self.plans: list[Plan] = []
        self.exceptions = choices.chance(40) or stacks
        self.wide = choices.chance(25)
        self.vectors = choices.chance(30)
        self.objects = ObjectTypes(choices, self.vectors) if choices.chance(50) else None
        #: types that functions, tags and so on have values of
        self.carried = NUMBERS
        if self.objects is not None:
            self.carried = (*NUMBERS, *NUMBERS, *(choices.pick(self.objects.references) for _ in range(4)))
        self.body = StackBody if stacks else Body

    def program(self) -> Program:
        c = self.c
        signatures = self.signatures()
        count = 2 if c.chance(45) else 1
        modules = tuple(self.module(number, signatures) for number in range(count))
        calls = []
        for _ in range(c.pick((1, 2, 4, 8))):
            module = count - 1 if c.chance(75) else c.below(count)
            exports = [export for export in self.plans[module].syntax.exports if export.name[0] == "w"]
            calls.append(self.call(module, c.pick(exports)))
        return Program(modules, tuple(calls))

    def call(self, module: int, export: Export) -> Call:
        plan = self.plans[module]
        type = plan.types[plan.syntax.funcs[export.index - imported_functions(plan)]]
        arguments = []
        for param in type.params:
            bits = 32 if param == I32 else 64
            number = self.c.pick(INTERESTING[self.c.pick((I32, F32)) if bits == 32 else self.c.pick((I64, F64))])
            if self.c.chance(30):
                number = self.c.bits(bits)
            arguments.append((number + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1))
        return Call(module, export.name, tuple(arguments))

    def signatures(self) -> list[FuncType]:
        """Function types that all functions choose from; few kinds of results, so that tail calls fit."""
        c = self.c
        wide = (tuple(c.pick(NUMBERS) for _ in range(c.pick((1, 2, 1, 2, 3, 5, 8)))) for _ in range(2))
        results = [(), (I32,), *wide]
        made = [
            FuncType(tuple(c.pick(NUMBERS) for _ in range(c.pick((0, 1, 2, 3, 4, 7)))), c.pick(results))
            for _ in range(2 + c.below(4))
        ]
        if self.objects is not None:
            results.append(tuple(c.pick(self.carried) for _ in range(c.pick((1, 2, 4)))))
            for _ in range(2):
                params = tuple(c.pick(self.carried) for _ in range(c.pick((1, 2, 3, 8))))
                made.append(FuncType(params, c.pick(results[1:])))
        return made

    # --- one module ---

    def module(self, number: int, signatures: list[FuncType]) -> bytes:
        plan = Plan(self.raw, self.wide, self.objects)
        self.plans.append(plan)
        for signature in signatures:
            plan.type_index(signature)
        if self.c.chance(30):  # the same type a second time
            plan.types.append(self.c.pick(signatures))
        plan.signatures = [index for index, type in enumerate(plan.types) if isinstance(type, FuncType)]
        plan.type_index(REENTERED)
        references = [FUNCREF, EXTERNREF, plan.reference_to(self.c.pick(plan.signatures))]
        if self.c.chance(60):
            plan.value_types = (*NUMBERS, *NUMBERS, *NUMBERS, *references)
        if self.vectors:
            plan.value_types = (*plan.value_types, V128, V128)
        if self.objects is not None:
            own = [type for type in self.carried if type.is_ref]
            plan.value_types = (*plan.value_types, *own, *own)
            references += own
        self.imports(plan, number)
        plan.fixed = self.c.chance(50)
        if self.body is StackBody:
            self.stacks(plan, signatures)
        self.tables_and_memories(plan, number, references)
        self.globals(plan, number, references)
        if self.exceptions:
            self.tags(plan, number)
        first = len(plan.functions)
        for _ in range(self.c.pick((1, 2, 3, 4, 6))):
            self.define(plan, self.c.pick(signatures))
        if plan.pair is not None:
            for _ in range(self.c.pick((2, 1, 3))):
                self.define(plan, plan.types[plan.pair.function])
        self.define(plan, REENTERED)
        last = len(plan.functions)
        self.segments(plan)
        plan.short = [index for index in range(first, last) if self.c.chance(35)]
        for index in range(first, last):
            body = self.body(self.c, plan, plan.functions[index])
            body.index = index
            if index in plan.short:
                body.shorten()
            body.generate()
            own = [entry.type for entry in body.locals[len(body.type.params) :]]
            plan.syntax.code.append(Code(run_lengths(own), bytes(body.code)))
            plan.syntax.exports.append(Export(f"f{index}", "func", index))
        plan.syntax.exports.append(Export("again", "func", last - 1))
        for index in range(first, last):
            if all(map(is_number, (*plan.functions[index].params, *plan.functions[index].results))):
                self.wrapper(plan, index)
        syntax = plan.syntax
        first = 0 if plan.objects is None else len(plan.objects.subs)
        groups = [(SubType(type),) for type in plan.types[first:]]
        if plan.pair is not None:  # these two name each other
            at = plan.pair.function - first
            groups[at : at + 2] = [(*groups[at], *groups[at + 1])]
        syntax.rec_groups = groups if plan.objects is None else [*plan.objects.groups, *groups]
        return encode_module(syntax)

    def define(self, plan: Plan, type: FuncType) -> None:
        plan.functions.append(type)
        plan.syntax.funcs.append(plan.type_index(type))

    def imports(self, plan: Plan, number: int) -> None:
        c, syntax = self.c, plan.syntax
        for name, type in HOST_FUNCTIONS.items():
            if c.chance(35):
                syntax.imports.append(Import("env", name, "func", plan.type_index(type)))
                plan.functions.append(type)
        if not number:
            return
        other = self.plans[0]
        for export in other.syntax.exports:
            wanted: object = None
            if export.kind == "func" and not all(map(plan.is_portable, other.functions[export.index].params)):
                continue
            if export.kind == "func" and export.name[0] == "f" and c.chance(60):
                wanted = plan.type_index(other.functions[export.index])
                plan.functions.append(other.functions[export.index])
            elif export.kind == "memory" and c.chance(40):
                wanted = other.memories[export.index]
                plan.memories.append(other.memories[export.index])
            elif export.kind == "table" and c.chance(50):
                wanted = other.tables[export.index]
                plan.slots[len(plan.tables)] = {}
                plan.tables.append(other.tables[export.index])
            elif export.kind == "global" and (export.name == "fuel" or c.chance(50)):
                item = other.globals[export.index]
                if not plan.is_portable(item.content):
                    continue
                wanted = item
                if export.name == "fuel":
                    plan.fuel = len(plan.globals)
                plan.globals.append(item)
            elif export.kind == "tag" and c.chance(70):
                wanted = TagType(plan.type_index(other.tags[export.index]))
                plan.add_tag(other.tags[export.index])
            if wanted is not None:
                syntax.imports.append(Import("m0", export.name, export.kind, wanted))  # type: ignore[arg-type]

    def tables_and_memories(self, plan: Plan, number: int, references: list[ValType]) -> None:
        c, syntax = self.c, plan.syntax
        for _ in range(c.pick((1, 1, 2, 0, 3))):
            memory = MemoryType(Limits(1, MEMORY_PAGES), plan.wide)
            syntax.memories.append(memory)
            plan.memories.append(memory)
            syntax.exports.append(Export(f"memory{len(plan.memories)}", "memory", len(plan.memories) - 1))
        for k in range(c.pick((1, 1, 2, 0, 3))):
            element = FUNCREF if k == 0 else c.pick(references)
            table = TableType(element, Limits(TABLE_SIZE, TABLE_MAXIMUM), plan.wide)
            holds = plan.objects is not None and plan.objects.holds(element)
            init = plan.objects.constant(element) + b"\x0b" if plan.objects and holds and c.chance(50) else None
            syntax.tables.append(Table(table, init))
            plan.slots[len(plan.tables)] = {}
            plan.tables.append(table)
            if (element == FUNCREF or holds) and not plan.fixed:
                name = OBJECTS if holds else ""
                syntax.exports.append(Export(f"{name}table{len(plan.tables)}", "table", len(plan.tables) - 1))

    def globals(self, plan: Plan, number: int, references: list[ValType]) -> None:
        c = self.c
        if not number:
            plan.fuel = len(plan.globals)
            self.define_global(plan, GlobalType(I32, True), b"\x41" + sleb(100), "fuel")
        for type in NUMBERS:
            for _ in range(c.pick((0, 1, 1, 2))):
                self.define_global(plan, GlobalType(type, not c.chance(15)), self.initial(type), None)
        if V128 in plan.value_types:
            init = b"\xfd\x0c" + bytes(c.below(256) for _ in range(16))
            self.define_global(plan, GlobalType(V128, not c.chance(15)), init, None)
        for type in references:
            if plan.objects is not None and plan.objects.holds(type):
                self.define_global(plan, GlobalType(type, not c.chance(15)), plan.objects.constant(type), None)
            elif c.chance(30):
                self.define_global(plan, GlobalType(type, True), b"\xd0" + heap_type_bytes(type.heap), None)

    def define_global(self, plan: Plan, type: GlobalType, init: bytes, name: str | None) -> None:
        plan.syntax.globals.append(Global(type, init + b"\x0b"))
        if plan.is_portable(type.content):
            name = name or f"{'' if is_number(type.content) else OBJECTS}global{len(plan.globals)}"
            plan.syntax.exports.append(Export(name, "global", len(plan.globals)))
        plan.globals.append(type)

    def tags(self, plan: Plan, number: int) -> None:
        """Define some tags."""
        for _ in range(self.c.pick((1, 2, 3))):
            type = FuncType(tuple(self.c.pick(self.carried) for _ in range(self.c.pick((1, 0, 2, 3)))), ())
            self.define_tag(plan, type)

    def define_tag(self, plan: Plan, type: FuncType) -> int:
        plan.syntax.tags.append(TagType(plan.type_index(type)))
        plan.syntax.exports.append(Export(f"tag{len(plan.tags)}", "tag", len(plan.tags)))
        return plan.add_tag(type)

    def stacks(self, plan: Plan, signatures: list[FuncType]) -> None:
        """Types of continuations, and tags to suspend and to switch with."""
        c = self.c
        for _ in range(c.pick((2, 1, 3))):
            params, results = (tuple(c.pick(self.carried) for _ in range(c.pick((1, 0, 2, 3, 10)))) for _ in range(2))
            self.define_tag(plan, FuncType(params, results))
        plan.suspends = list(range(len(plan.tags)))
        plan.conts = [plan.cont_index(signature) for signature in signatures]
        if c.chance(60):
            at = len(plan.types)
            reference = ref_type(CONCRETE + at + 1, True)
            params = tuple(c.pick(self.carried) for _ in range(c.pick((1, 0, 2, 7))))
            results = c.pick(signatures).results
            plan.types += [FuncType((*params, reference), results), ContType(CONCRETE + at)]
            plan.pair = Pair(at, at + 1, self.define_tag(plan, FuncType((), results)))
            plan.conts.append(at + 1)
        wanted = [ref_type(CONCRETE + c.pick(plan.conts), True) for _ in range(2)]
        plan.value_types = (*plan.value_types, *NUMBERS, *wanted)

    def initial(self, type: ValType) -> bytes:
        number = self.c.pick(INTERESTING[type])
        if type == F32:
            return b"\x43" + struct.pack("<I", number)
        if type == F64:
            return b"\x44" + struct.pack("<Q", number)
        bits = 32 if type == I32 else 64
        return (b"\x41" if type == I32 else b"\x42") + sleb((number + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1))

    def segments(self, plan: Plan) -> None:
        """Fill the tables, and passive segments; data for the memories."""
        c, syntax = self.c, plan.syntax
        for index, table in enumerate(plan.tables):
            if plan.objects is not None and plan.objects.holds(table.element):
                self.object_segments(plan, index, table.element)
                continue
            fitting = plan.functions_for(table.element)
            if not fitting:
                continue
            items = [c.pick(fitting) for _ in range(1 + c.below(TABLE_SIZE - 1))]
            start = c.below(TABLE_SIZE - len(items))
            plan.slots[index] = {start + k: item for k, item in enumerate(items)}
            code = tuple(b"\xd2" + uleb(item) + b"\x0b" for item in items)
            offset = plan.const_address(start)
            syntax.elements.append(Element(table.element, "active", (), code, index, offset))
        everything = tuple(range(len(plan.functions)))
        syntax.elements.append(Element(FUNCREF, "declarative", everything))
        for _ in range(c.below(3)):
            syntax.elements.append(Element(FUNCREF, "passive", tuple(c.pick(everything) for _ in range(c.below(5)))))
        plan.elements = [element.type for element in syntax.elements]
        if plan.memories:
            for memory in range(len(plan.memories)):
                data = bytes(c.below(256) for _ in range(c.pick((0, 8, 32))))
                syntax.data.append(Data(data, "active", memory, plan.const_address(c.below(64))))
            for _ in range(c.below(3)):
                syntax.data.append(Data(bytes(c.below(256) for _ in range(c.below(40))), "passive"))
        plan.data = len(syntax.data)
        syntax.has_data_count = True

    def object_segments(self, plan: Plan, table: int, type: ValType) -> None:
        """Fill a table with objects, or keep some for it."""
        c = self.c
        assert plan.objects is not None
        for mode in ("active", "passive"):
            if c.chance(50):
                items = tuple(plan.objects.constant(type) + b"\x0b" for _ in range(c.below(5)))
                at = (table, plan.const_address(c.below(3))) if mode == "active" else (0, None)
                plan.syntax.elements.append(Element(type, mode, (), items, *at))

    def wrapper(self, plan: Plan, index: int) -> None:
        """An export that takes and gives the bits of a function's values as integers, and fills up the fuel."""
        type = plan.functions[index]
        integers = {I32: I32, I64: I64, F32: I32, F64: I64}
        outer = FuncType(tuple(integers[t] for t in type.params), tuple(integers[t] for t in type.results))
        code = bytearray()

        def op(mnemonic: str, immediate: bytes = b"") -> None:
            code.extend(bytes((BY_MNEMONIC[mnemonic].opcode,)) + immediate)

        op("i32.const", sleb(self.c.pick((10, 50, 200))))
        op("global.set", uleb(plan.fuel))
        for number, param in enumerate(type.params):
            op("local.get", uleb(number))
            if param in CANONICAL_NAN:
                op(f"{param}.reinterpret_{integers[param]}")
        op("call", uleb(index))
        first = len(type.params)
        for number in reversed(range(len(type.results))):
            op("local.set", uleb(first + number))
        for number, result in enumerate(type.results):
            op("local.get", uleb(first + number))
            if result in CANONICAL_NAN and not self.raw:
                op(f"{result}.const", struct.pack("<I" if result == F32 else "<Q", CANONICAL_NAN[result]))
                op("local.get", uleb(first + number))
                op("local.get", uleb(first + number))
                op(f"{result}.eq")
                op("select")
            if result in CANONICAL_NAN:
                op(f"{integers[result]}.reinterpret_{result}")
        op("end")
        plan.syntax.exports.append(Export(f"w{index}", "func", len(plan.functions)))
        self.define(plan, outer)
        plan.syntax.code.append(Code(run_lengths(type.results), bytes(code)))


def imported_functions(plan: Plan) -> int:
    """How many functions a module imports."""
    return sum(item.kind == "func" for item in plan.syntax.imports)


def generate(choices: Choices, raw: bool = False, stacks: bool = False) -> Program:
    """A program, as the choices have it; `raw`: with the bits of NaNs in view; `stacks`: with continuations."""
    return Generator(choices, raw, stacks).program()


def main() -> None:
    from wasmloom.text.printer import print_module

    program = generate(Choices(int(sys.argv[1])))
    for module in program.modules:
        print(print_module(module))
    for call in program.calls:
        print(call)


if __name__ == "__main__":
    main()
