# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The C side of an instance: its struct, its index spaces and its segments (Core 3.0, 4.5.4).

The order is the specification's: imports are matched, globals and tables are initialised in order, element segments
evaluated, then active element segments and active data segments applied one by one, then the start function
runs. A trap keeps the earlier effects. Functions that are in tables by then stay alive with the store.

Invariants: all slots of the `WlInstance` are filled before any guest code can run in it. What they point to belongs to
the store, which the state keeps alive, as does every `Func`, `Memory` … taken out of it.
"""

from __future__ import annotations

from functools import partial

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.libc.stdint import int64_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memset
from cython.cimports.wasmloom.binary.decoder import DecodedModule
from cython.cimports.wasmloom.binary.reader import Instr, Reader, next_instr, read_u32
from cython.cimports.wasmloom.binary.sections import (
    ACTIVE,
    DECLARATIVE,
    DataItem,
    ElementItem,
    Range,
    TableItem,
    skip_expr,
)
from cython.cimports.wasmloom.contract._layout import (
    SLOT_BYTES,
    WlFunction,
    WlInstance,
    WlMemory,
    WlSegment,
    WlTable,
    WlTag,
)
from cython.cimports.wasmloom.host.bridge import Func, call_from_host, func_at, host_of, new_host_function
from cython.cimports.wasmloom.host.constants import fill_types, has_objects, run_constant
from cython.cimports.wasmloom.host.externs import Global, Memory, Table, global_at, memory_at, table_at
from cython.cimports.wasmloom.host.shared_memory import SharedMemory, pointer_of
from cython.cimports.wasmloom.host.signatures import Signature, signature_of
from cython.cimports.wasmloom.host.tags import Tag, new_tag, tag_at
from cython.cimports.wasmloom.interpreter.code_space import CodeSpace
from cython.cimports.wasmloom.runtime.bulk import look_between
from cython.cimports.wasmloom.runtime.faults import ensure_installed
from cython.cimports.wasmloom.runtime.growth import new_memory, new_table
from cython.cimports.wasmloom.runtime.native_stacks import set_adapter
from cython.cimports.wasmloom.runtime.runtime_calls import initialise_memory, initialise_table
from cython.cimports.wasmloom.runtime.store import Store, push
from cython.cimports.wasmloom.spec.canon import new_types
from cython.cimports.wasmloom.system._capi import pthread_self, seal
from cython.cimports.wasmloom.system.allocation import malloc
from cython.cimports.wasmloom.system.polling import poll

from wasmloom.contract.layout import WAITS
from wasmloom.contract.traps import TRAP_REASONS
from wasmloom.errors import LinkError, Trap
from wasmloom.host import adapters as _adapters  # noqa: F401  (registers what compiled code calls)
from wasmloom.host import asynchronous as _asynchronous  # noqa: F401  (registers what lets functions wait)
from wasmloom.host import continuations as _continuations  # noqa: F401  (registers their conversion)
from wasmloom.host import objects as _objects  # noqa: F401  (the same)
from wasmloom.host import parking
from wasmloom.host.bridge import set_caller_at
from wasmloom.host.callers import Caller, PerInstance
from wasmloom.host.parking import waits_in
from wasmloom.semantics.kinds import KINDS, SLOT_BITS, of_type
from wasmloom.spec.canon import intern_func_type
from wasmloom.spec.instructions import BY_MNEMONIC, CONSTANT, INSTRUCTIONS
from wasmloom.spec.limits import PAGE_BITS
from wasmloom.tiers import change as _change  # noqa: F401  (registers how bytecode goes on as compiled code)
from wasmloom.tiers import policy as _policy  # noqa: F401  (registers when it does)

_PAGE_BITS = cython.declare(uint64_t, PAGE_BITS)
_FUNCTIONS = cython.typedef(cython.pointer(cython.pointer(WlFunction)))

_END = cython.declare(cython.int, BY_MNEMONIC["end"].index)
_GLOBAL_GET = cython.declare(cython.int, BY_MNEMONIC["global.get"].index)
_REF_NULL = cython.declare(cython.int, BY_MNEMONIC["ref.null"].index)
_V128_CONST = cython.declare(cython.int, BY_MNEMONIC["v128.const"].index)
_REF_FUNC = cython.declare(cython.int, BY_MNEMONIC["ref.func"].index)
_wait_types = cython.declare(object, new_types())
_wait_signature = cython.declare(Signature, signature_of(intern_func_type(parking.TYPE, _wait_types)))
_WAITS = cython.declare(cython.size_t, len(WAITS))
#: More pages and elements than there can be.
_NO_MAXIMUM = cython.declare(uint64_t, (1 << 64) - 1)


#: What computes in constant expressions: row → 1 + operation. And for rows with a number as result, its bits in a slot.
_OPERATIONS = ("add", "sub", "mul")
_ARITHMETIC = cython.declare(cython.uchar[1024])
_BITS = cython.declare(uint64_t[1024])
memset(_BITS, 0, cython.sizeof(_BITS))
for _row in INSTRUCTIONS:
    _operation = _row.mnemonic.partition(".")[2]
    if _row.mnemonic in CONSTANT and _row.results and _row.feature != "gc" and KINDS[_row.results[0]].bits <= SLOT_BITS:
        _BITS[cython.cast(cython.int, _row.index)] = (1 << KINDS[_row.results[0]].bits) - 1
        if _operation in _OPERATIONS:
            _ARITHMETIC[cython.cast(cython.int, _row.index)] = 1 + _OPERATIONS.index(_operation)


@cython.cfunc
@cython.exceptval(check=False)
def _arithmetic(op: cython.int, x: uint64_t, y: uint64_t) -> uint64_t:
    """The result of an instruction of `_ARITHMETIC`, as slots hold it."""
    if _ARITHMETIC[op] == 1:
        x += y
    elif _ARITHMETIC[op] == 2:
        x -= y
    else:
        x *= y
    return x & _BITS[op]


@cython.no_gc_clear
@cython.cclass
class InstanceState:
    """The C side of an instance; `found`: the items that `wasmloom.host.linking.resolve` returns. `bare`: no segments
    are applied, because what they have led to follows."""

    def __cinit__(self, module: object, store: Store, found: dict | None, bare: cython.bint = False) -> None:
        self.module = module
        self.store = store
        if found is None:  # for `_state_at`
            return
        store.lock()
        # Objects of constant expressions are where the collector doesn't see them.
        store.guest.heap.holds += 1
        try:
            ensure_installed()
            self.build(found, bare)
        finally:
            store.guest.heap.holds -= 1
            store.unlock()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def build(self, imports: dict, bare: cython.bint) -> cython.int:
        """Allocate and fill everything, and apply the active segments."""
        module: DecodedModule = self.module.decoded
        if self.store.is_limited:
            self.store.count_defined(
                module.num_tables - len(imports["table"]), len(module.memories) - len(imports["memory"])
            )
        n_globals: cython.size_t = module.num_globals
        n_functions: cython.size_t = module.num_funcs
        n_tables: cython.size_t = module.num_tables
        n_memories: cython.size_t = len(module.memories)
        n_tags: cython.size_t = module.num_tags
        n_waits: cython.size_t = _WAITS * cython.cast(cython.size_t, sum(type.shared for type in module.memories))
        n_types: cython.size_t = module.num_types if has_objects(module) else 0
        slots: cython.pointer(cython.p_void)
        instance: cython.pointer(WlInstance) = cython.cast(
            cython.pointer(WlInstance),
            self.store.allocate(
                cython.sizeof(WlInstance)
                + (n_globals + n_functions + n_tables + n_memories + n_tags + n_waits + n_types)
                * cython.sizeof(cython.p_void)
            ),
        )
        self.pointer = instance
        slots = cython.cast(cython.pointer(cython.p_void), instance + 1)
        instance.context = self.store.guest
        instance.globals = slots
        instance.functions = slots + n_globals
        instance.tables = slots + n_globals + n_functions
        instance.memories = slots + n_globals + n_functions + n_tables
        instance.tags = slots + n_globals + n_functions + n_tables + n_memories
        self.waits = cython.cast(_FUNCTIONS, slots + n_globals + n_functions + n_tables + n_memories + n_tags)
        instance.types = slots + n_globals + n_functions + n_tables + n_memories + n_tags + n_waits
        # Keep these directly, not only through the module, whose attributes the garbage collector clears: functions
        # point into the code space, segments into the bytes.
        self.store.keep += (self.module, self.module.code_space, module.data)
        self.store.module_at[cython.cast(uint64_t, instance)] = self.module
        fill_types(module, instance, n_types)
        self.fill_functions(imports["func"])
        # Not before this: a finaliser may call into the store and make it change its tier.
        if not push(cython.address(self.store.instances), instance):
            raise MemoryError
        self.fill_globals(imports["global"])
        self.fill_tables(imports["table"])
        self.fill_memories(imports["memory"])
        self.fill_tags(imports["tag"])
        self.hosts = tuple([None if isinstance(value, Func) else value for value in imports["func"]])
        self.store.item_types[cython.cast(uint64_t, instance)] = (self.imported_tables, self.memories, self.hosts)
        self.fill_segments()
        return self.drop_active() if bare else self.run_segments()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fill_functions(self, imported: list) -> cython.int:
        """The function index space: imports, then one struct for each function defined here."""
        module: DecodedModule = self.module.decoded
        code: CodeSpace = self.module.code_space
        functions: _FUNCTIONS = cython.cast(_FUNCTIONS, self.pointer.functions)
        own: cython.pointer(WlFunction)
        i: uint32_t
        func: Func
        n_imported: uint32_t = len(imported)
        caller: object = None
        for i, value in enumerate(imported):
            if isinstance(value, Func):
                func = value
                functions[i] = func.pointer
                continue
            function = value.function  # a `HostImport`
            if isinstance(function, PerInstance):
                if caller is None:
                    caller = _caller_at(self.store, cython.cast(uint64_t, self.pointer))
                    self.store.callers[cython.cast(uint64_t, self.pointer)] = caller
                function = function.make(caller)
            functions[i] = new_host_function(
                self.store, signature_of(module.func_type_id[i]), function, value.name, module
            )
        own = cython.cast(
            cython.pointer(WlFunction),
            self.store.allocate((module.num_funcs - n_imported) * cython.sizeof(WlFunction)),
        )
        for i in range(n_imported, module.num_funcs):
            own.code_cell = cython.cast(cython.p_void, cython.address(code.cells[i - n_imported]))
            own.instance = self.pointer
            own.context = self.store.guest
            own.type_id = module.func_type_id[i]
            own.index = i
            set_adapter(own)
            functions[i] = own
            own += 1
        self.store.tier.adopt(self.store, self.pointer, self.module)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fill_globals(self, imported: list) -> cython.int:
        """The global index space; initialisers see the globals before them."""
        module: DecodedModule = self.module.decoded
        cells: cython.pointer(cython.pointer(uint64_t)) = cython.cast(
            cython.pointer(cython.pointer(uint64_t)), self.pointer.globals
        )
        new: cython.pointer(uint64_t)
        i: cython.Py_ssize_t = 0
        glob: Global
        for glob in imported:
            cells[i] = glob.cell
            i += 1
        # 16 bytes each, for vectors; aligned to 16 as malloc aligns.
        new = cython.cast(cython.pointer(uint64_t), self.store.allocate(16 * (module.num_globals - i)))
        while i < module.num_globals:
            poll()
            self.evaluate(module.global_item[i].init, new)
            cells[i] = new
            new += 2
            i += 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fill_tables(self, imported: list) -> cython.int:
        """The table index space."""
        module: DecodedModule = self.module.decoded
        tables: cython.pointer(cython.pointer(WlTable)) = cython.cast(
            cython.pointer(cython.pointer(WlTable)), self.pointer.tables
        )
        i: cython.Py_ssize_t = 0
        word: uint64_t
        most: uint64_t
        table: Table
        item: cython.pointer(TableItem)
        self.imported_tables = [table.type for table in imported]
        for table in imported:
            tables[i] = table.pointer
            i += 1
        while i < module.num_tables:
            poll()
            item = module.table_item + i
            word = 0
            if item.init.start != item.init.end:
                self.evaluate(item.init, cython.address(word))
            most = item.max if item.bounded else _NO_MAXIMUM
            tables[i] = new_table(self.store, item.min, most, item.is64, word)
            i += 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fill_memories(self, imported: list) -> cython.int:
        """The memory index space."""
        module: DecodedModule = self.module.decoded
        memories: cython.pointer(cython.pointer(WlMemory)) = cython.cast(
            cython.pointer(cython.pointer(WlMemory)), self.pointer.memories
        )
        i: cython.Py_ssize_t = 0
        slot: cython.Py_ssize_t
        memory: Memory
        waits: _FUNCTIONS = self.waits
        shared: list = []
        self.memories = [given.type for given in imported] + module.memories[len(imported) :]
        for given in imported:
            if isinstance(given, SharedMemory):
                shared.append(given)
                memories[i] = pointer_of(given)
            else:
                memory = given
                memories[i] = memory.pointer
            i += 1
        for type in module.memories[len(imported) :]:
            least, most = type.limits
            if type.shared:
                own = SharedMemory(type)
                shared.append(own)
                memories[i] = pointer_of(own)
            else:
                memories[i] = new_memory(
                    self.store, least, _NO_MAXIMUM if most is None else most, type.is64, type.page_size_log2
                )
            i += 1
        self.store.keep += shared
        for made in shared:
            for name, function in waits_in(made, self.store):
                waits[0] = new_host_function(self.store, _wait_signature, function, name, _wait_types)
                waits += 1
        if not cython.cast(CodeSpace, self.module.code_space).checked:
            for slot in range(i):
                # Code knows the type of a memory, and with it whether there are guard pages.
                if memories[slot].checked and memories[slot].page_bits == _PAGE_BITS:
                    raise LinkError(f"memory {slot} is a checked one, and the module's code relies on guard pages")
        if i:
            self.pointer.memory0_base = memories[0].base
            self.pointer.memory0_length = memories[0].length
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fill_tags(self, imported: list) -> cython.int:
        """The tag index space. Every defined tag is a new one."""
        module: DecodedModule = self.module.decoded
        tags: cython.pointer(cython.pointer(WlTag)) = cython.cast(
            cython.pointer(cython.pointer(WlTag)), self.pointer.tags
        )
        i: cython.Py_ssize_t = 0
        tag: Tag
        for tag in imported:
            tags[i] = tag.pointer
            i += 1
        while i < module.num_tags:
            poll()
            tags[i] = new_tag(self.store, module.tag_item[i].id)
            i += 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fill_segments(self) -> cython.int:
        """Element segments with their references evaluated, and data segments as ranges of the module's bytes."""
        module: DecodedModule = self.module.decoded
        base: cython.p_char = PyBytes_AS_STRING(module.data)
        functions: cython.pointer(uint64_t) = cython.cast(cython.pointer(uint64_t), self.pointer.functions)
        segment: cython.pointer(WlSegment)
        words: cython.pointer(uint64_t)
        item: cython.pointer(ElementItem)
        data: cython.pointer(DataItem)
        where = cython.declare(Range)
        r = cython.declare(Reader)
        i: cython.size_t
        k: uint32_t
        self.pointer.element_segments = self.store.allocate(module.num_elements * cython.sizeof(WlSegment))
        self.pointer.element_count = module.num_elements
        segment = cython.cast(cython.pointer(WlSegment), self.pointer.element_segments)
        for i in range(module.num_elements):
            poll()
            item = module.element_item + i
            if item.mode != DECLARATIVE and item.count:
                words = cython.cast(cython.pointer(uint64_t), self.store.allocate(SLOT_BYTES * item.count))
                r = module.reader_at(item.items)
                for k in range(item.count):
                    poll()
                    if item.has_exprs:
                        skip_expr(cython.address(r), cython.address(where))
                        self.evaluate(where, words + k)
                    else:
                        words[k] = functions[read_u32(cython.address(r))]
                segment.data = cython.cast(cython.p_char, words)
                segment.length = item.count
            segment += 1
        self.pointer.data_segments = self.store.allocate(module.num_data * cython.sizeof(WlSegment))
        segment = cython.cast(cython.pointer(WlSegment), self.pointer.data_segments)
        for i in range(module.num_data):
            data = module.data_item + i
            segment.data = base + data.contents.start
            segment.length = data.contents.end - data.contents.start
            segment += 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def run_segments(self) -> cython.int:
        """Apply the active segments, element segments first, and drop them."""
        module: DecodedModule = self.module.decoded
        tables: cython.pointer(cython.pointer(WlTable)) = cython.cast(
            cython.pointer(cython.pointer(WlTable)), self.pointer.tables
        )
        memories: cython.pointer(cython.pointer(WlMemory)) = cython.cast(
            cython.pointer(cython.pointer(WlMemory)), self.pointer.memories
        )
        segment: cython.pointer(WlSegment)
        item: cython.pointer(ElementItem)
        data: cython.pointer(DataItem)
        i: cython.size_t
        at: uint64_t = 0
        code: uint64_t
        segment = cython.cast(cython.pointer(WlSegment), self.pointer.element_segments)
        for i in range(module.num_elements):
            poll()
            item = module.element_item + i
            if item.mode == ACTIVE:
                self.evaluate(item.at, cython.address(at))
                code = initialise_table(tables[item.table], segment, at, 0, segment.length)
                if code:
                    raise Trap(TRAP_REASONS[code], detail=f"element segment {i}")
                segment.length = 0
            segment += 1
        segment = cython.cast(cython.pointer(WlSegment), self.pointer.data_segments)
        for i in range(module.num_data):
            poll()
            data = module.data_item + i
            if data.mode == ACTIVE:
                self.evaluate(data.at, cython.address(at))
                code = initialise_memory(
                    memories[data.memory], segment, at, 0, segment.length, look_between, cython.NULL
                )
                if cython.cast(int64_t, code) < 0:
                    return -1
                if code:
                    raise Trap(TRAP_REASONS[code], detail=f"data segment {i}")
                segment.length = 0
            segment += 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def drop_active(self) -> cython.int:
        """Drop the active segments, which have been applied in another life."""
        module: DecodedModule = self.module.decoded
        data: cython.pointer(WlSegment) = cython.cast(cython.pointer(WlSegment), self.pointer.data_segments)
        elements: cython.pointer(WlSegment) = cython.cast(cython.pointer(WlSegment), self.pointer.element_segments)
        i: cython.size_t
        for i in range(module.num_data):
            if module.data_item[i].mode == ACTIVE:
                data[i].length = 0
        for i in range(module.num_elements):
            if module.element_item[i].mode == ACTIVE:
                elements[i].length = 0
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def evaluate(self, where: Range, word: cython.pointer(uint64_t)) -> cython.int:
        """The value of a constant expression (Core 3.0, 3.4.14), which validation has checked; two words of a vector.

        The expression's operand stack is never higher than the number of its bytes.
        """
        module: DecodedModule = self.module.decoded
        r: Reader = module.reader_at(where)
        few = cython.declare(uint64_t[32])
        stack: cython.pointer(uint64_t) = few
        if where.end - where.start <= 32:
            return self.run_expression(cython.address(r), stack, word)
        stack = cython.cast(cython.pointer(uint64_t), malloc(SLOT_BYTES * (where.end - where.start)))
        if stack == cython.NULL:
            raise MemoryError
        try:
            return self.run_expression(cython.address(r), stack, word)
        finally:
            free(stack)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def run_expression(
        self, r: cython.pointer(Reader), stack: cython.pointer(uint64_t), word: cython.pointer(uint64_t)
    ) -> cython.int:
        """Run the instructions of a constant expression, up to its `end`."""
        module: DecodedModule = self.module.decoded
        instr = cython.declare(Instr)
        top: cython.size_t = 0
        cell: cython.pointer(uint64_t)
        while True:
            next_instr(r, cython.address(instr))
            if instr.op == _END:
                word[0] = stack[0]
                if top > 1:
                    word[1] = stack[1]
                return 0
            if instr.op == _GLOBAL_GET:
                cell = cython.cast(cython.pointer(cython.pointer(uint64_t)), self.pointer.globals)[instr.a]
                stack[top] = cell[0]
                top += 1
                if of_type(module.global_item[instr.a].content).is_vector:
                    stack[top] = cell[1]
                    top += 1
            elif instr.op == _V128_CONST:
                stack[top] = instr.a
                stack[top + 1] = instr.b
                top += 2
            elif instr.op == _REF_FUNC:
                stack[top] = cython.cast(cython.pointer(uint64_t), self.pointer.functions)[instr.a]
                top += 1
            elif instr.op == _REF_NULL:
                stack[top] = 0
                top += 1
            elif _ARITHMETIC[instr.op]:
                top -= 1
                stack[top - 1] = _arithmetic(instr.op, stack[top - 1], stack[top])
            elif _BITS[instr.op]:
                stack[top] = instr.a & _BITS[instr.op]
                top += 1
            else:  # validation lets nothing else in
                top = run_constant(self.store, self.pointer, cython.address(instr), stack, top)

    def run(self, index: int) -> None:
        """Run the start function. If it is the host's, this instance is its caller."""
        function: cython.pointer(WlFunction) = cython.cast(_FUNCTIONS, self.pointer.functions)[
            cython.cast(cython.size_t, index)
        ]
        none: uint64_t = 0
        if function.instance != cython.NULL:
            func_at(self.store, function)()
            return
        self.store.lock()
        try:
            call_from_host(
                self.store, host_of(function), cython.address(none), False, cython.cast(uint64_t, self.pointer)
            )
            self.store.guest.heap.holds -= 1
        finally:
            self.store.unlock()

    def exported(self, number: int) -> object:
        """The Python object of an export, given by its number."""
        export = self.module.decoded.export_at(number)
        return self.find(export.kind, export.index)

    def find(self, kind: str, index: int) -> object:
        """The Python object of an item in one of the index spaces."""
        module: DecodedModule = self.module.decoded
        i: cython.size_t = index
        sizes = {
            "func": module.num_funcs,
            "table": module.num_tables,
            "memory": len(module.memories),
            "global": module.num_globals,
            "tag": module.num_tags,
        }
        if i >= sizes[kind]:
            raise IndexError(f"no {kind} {index}")
        if kind == "func":
            return func_at(self.store, cython.cast(_FUNCTIONS, self.pointer.functions)[i])
        if kind == "table":
            table = cython.cast(cython.pointer(cython.pointer(WlTable)), self.pointer.tables)[i]
            type = self.imported_tables[index] if i < len(self.imported_tables) else module.table_type(i)
            return table_at(self.store, table, type)
        if kind == "tag":
            return tag_at(self.store, cython.cast(cython.pointer(cython.pointer(WlTag)), self.pointer.tags)[i])
        if kind == "memory":
            memory = cython.cast(cython.pointer(cython.pointer(WlMemory)), self.pointer.memories)[i]
            return memory_at(self.store, memory, self.memories[index])
        cell = cython.cast(cython.pointer(cython.pointer(uint64_t)), self.pointer.globals)[i]
        return global_at(self.store, cell, module.global_type(i))

    # --- what a snapshot has of it ---

    def dropped(self) -> tuple[list[int], list[int]]:
        """The passive data segments, and element segments, that have been dropped, or are empty."""
        data: cython.pointer(WlSegment) = cython.cast(cython.pointer(WlSegment), self.pointer.data_segments)
        elements: cython.pointer(WlSegment) = cython.cast(cython.pointer(WlSegment), self.pointer.element_segments)
        module: DecodedModule = self.module.decoded
        i: cython.size_t
        of_data: list = []
        of_elements: list = []
        for i in range(module.num_data):
            if data[i].length == 0 and module.data_item[i].mode != ACTIVE:
                of_data.append(i)
        for i in range(module.num_elements):
            if elements[i].length == 0 and module.element_item[i].mode not in (ACTIVE, DECLARATIVE):
                of_elements.append(i)
        return of_data, of_elements

    def drop(self, data: list[int], elements: list[int]) -> None:
        """Drop segments. Raises `IndexError` for those that there aren't."""
        module: DecodedModule = self.module.decoded
        segments: cython.pointer(WlSegment)
        which: cython.size_t
        if any(not 0 <= i < module.num_data for i in data) or any(not 0 <= i < module.num_elements for i in elements):
            raise IndexError("no such segment")
        segments = cython.cast(cython.pointer(WlSegment), self.pointer.data_segments)
        for i in data:
            which = i
            segments[which].length = 0
        segments = cython.cast(cython.pointer(WlSegment), self.pointer.element_segments)
        for i in elements:
            which = i
            segments[which].length = 0


seal(InstanceState)


def states_of(store: Store) -> list[InstanceState]:
    """The states of all instances in a store, in the order in which they have been made."""
    i: uint64_t
    address: uint64_t
    found: list = []
    store.lock()
    try:
        for i in range(store.instances.count):
            address = cython.cast(uint64_t, store.instances.items[i])
            if address in store.item_types:
                found.append(_state_at(store, address))
        return found
    finally:
        store.unlock()


def words_of(item: Global) -> tuple[int, int]:
    """What a global's cell holds: two words, the second one of a vector."""
    return item.cell[0], item.cell[1]


def set_words(item: Global, words: tuple[int, int]) -> None:
    """Set a global's cell, also of an immutable one before code sees it. Raises `TypeError` for a reference: its words
    are the store's."""
    first: uint64_t = words[0]
    second: uint64_t = words[1]
    if of_type(item.type.content).is_reference:
        raise TypeError("a reference is set by its value")
    item.cell[0], item.cell[1] = first, second


def home_of(states: list[InstanceState], func: Func) -> tuple[int, int] | None:
    """Where a function is: the number of an instance of `states`, and its index there. None: in none of them."""
    state: InstanceState
    functions: _FUNCTIONS
    i: cython.size_t
    for number, each in enumerate(states):
        state = each
        if func.pointer.instance == state.pointer:
            return number, func.pointer.index
    for number, each in enumerate(states):
        state = each
        functions = cython.cast(_FUNCTIONS, state.pointer.functions)
        for i in range(cython.cast(cython.size_t, len(state.hosts))):
            if functions[i] == func.pointer:
                return number, i
    return None


def address_of(state: InstanceState) -> int:
    """The address of an instance's struct: equal for equal instances of a process."""
    return cython.cast(uint64_t, state.pointer)


def hold(store: Store) -> None:
    """Take a store for the calling thread. Call `let_go` once for each."""
    store.lock()


def let_go(store: Store) -> None:
    """Undo a `hold` of the calling thread. Raises `RuntimeError` for another one, which would break the lock."""
    if store.owner != pthread_self():
        raise RuntimeError("this thread doesn't have the store")
    store.unlock()


def stack_limit_of(store: Store) -> int:
    """The `stack_limit` that a store has been made with."""
    return store.guest.depth if store.guest.deterministic else store.guest.max_stack


@cython.cfunc
def _state_at(store: Store, address: uint64_t) -> InstanceState:
    """The state of an instance that has been made, by the address of its struct. Raises `KeyError`."""
    types: tuple = store.item_types[address]
    state: InstanceState = InstanceState.__new__(InstanceState, store.module_at[address], store, None)
    state.pointer = cython.cast(cython.pointer(WlInstance), address)
    state.imported_tables, state.memories, state.hosts = types
    return state


def _find_export(address: uint64_t, store: Store, number: int) -> object:
    """The Python object of an export of the instance at an address, given by its number."""
    return _state_at(store, address).exported(number)


def _caller_at(store: Store, address: uint64_t) -> object:
    """A `Caller` for the instance at an address."""
    return Caller(store.module_at[address], store, partial(_find_export, address))


def new_state(module: object, store: Store, found: dict, bare: bool = False) -> InstanceState:
    """The state of a new instance; see `InstanceState`."""
    return InstanceState.__new__(InstanceState, module, store, found, bare)


set_caller_at(_caller_at)
