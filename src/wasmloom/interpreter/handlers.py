"""Builds the handlers: one LLVM module, compiled to an object file when the package is built.

The object exports, besides the handlers themselves:

``wl_enter``            C function (WlContext*, WlInstance*, code, frame): runs guest code until it leaves
``wl_handlers``         addresses by handler number; ``wl_sizes`` the sizes of their instructions
``wl_value_table`` …    handler numbers by position (see `wasmloom.interpreter.families`), -1 where there is none
``wl_externals``        addresses of what `EXTERNALS` names, for stencils
``wl_runtime``          the runtime functions, by position in `layout.RUNTIME_CALLS`; filled at start
``wl_no_instance``      an empty instance, which stands in while a host function runs
``wl_leave_code``       the bytecode that the outermost function returns to
``wl_cross_code``       the bytecode that a function returns to which compiled code has called
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wasmloom.contract import layout
from wasmloom.interpreter import control_handlers, families, object_handlers, stack_handlers
from wasmloom.interpreter.deterministic_handlers import deterministic_handlers
from wasmloom.interpreter.emitter import SIGNATURE, STATE, HandlerBuilder
from wasmloom.interpreter.fused import fused_handlers
from wasmloom.interpreter.isa import DELTA_BEFORE_RETURN, Handler, Shape, shape
from wasmloom.semantics.kinds import KINDS
from wasmloom.semantics.llvm import Value, module_assembly
from wasmloom.semantics.structs import StructBuilder
from wasmloom.spec.instructions import BY_MNEMONIC, INSTRUCTIONS
from wasmloom.target import crossings, registers, stubs

if TYPE_CHECKING:
    from llvmlite import binding

#: Section of all handlers; the linker defines ``__start_…`` and ``__stop_…`` for it.
SECTION = "wl_text"

OUTLINED = {**control_handlers.OUTLINED, **stack_handlers.OUTLINED, **object_handlers.OUTLINED}

#: What of the object the bodies of handlers refer to, besides the runtime functions.
EXTERNALS = (*OUTLINED, "wl_no_instance", "wl_cont_return_code", "wl.shim", "wl.cross_back")

_ATTRIBUTES = f'nounwind "no-builtins" "frame-pointer"="none" section "{SECTION}" align 16'


def written_handlers() -> Iterator[Handler]:
    """The handlers that don't follow from definitions by rule, in a fixed order: position is number."""
    yield from control_handlers.control_handlers()
    yield from stack_handlers.stack_handlers()
    yield from deterministic_handlers()
    yield from object_handlers.object_handlers()


class HandlerSet:
    """All handlers in order (position is number), by name, and the tables of the families."""

    def __init__(self) -> None:
        self.handlers: list[Handler] = [*written_handlers()]
        self.tables: dict[str, list[int]] = {}
        self.numbers: dict[str, int] = {handler.name: number for number, handler in enumerate(self.handlers)}
        for name, family in families.FAMILIES.items():
            numbers = [-1] * (family.places * len(INSTRUCTIONS))
            for place, handler in family.members():
                number = self.numbers.setdefault(handler.name, len(self.handlers))
                if number == len(self.handlers):
                    self.handlers.append(handler)
                numbers[family.position(*place)] = number
            self.tables[f"wl_{name}_table"] = numbers
        #: numbers of two handlers → number of the fused one
        self.fused: dict[tuple[int, int], int] = {}
        for first, second, handler in fused_handlers(self.numbers.__getitem__, self.handlers.copy()):
            self.fused[first, second] = len(self.handlers)
            self.handlers.append(handler)

    def fusion_tables(self) -> dict[str, list[int]]:
        """The tables to find a fused handler: a row for every first part, a column for every second part."""
        rows = {number: row for row, number in enumerate(sorted({first for first, _ in self.fused}))}
        columns = {number: column for column, number in enumerate(sorted({second for _, second in self.fused}))}
        table = [-1] * (len(rows) * len(columns))
        for (first, second), number in self.fused.items():
            table[rows[first] * len(columns) + columns[second]] = number
        count = len(self.handlers)
        return {
            "wl_fusion_rows": [rows[number] * len(columns) if number in rows else -1 for number in range(count)],
            "wl_fusion_columns": [columns.get(number, -1) for number in range(count)],
            "wl_fusion_table": table,
        }


def symbol(name: str) -> str:
    """The LLVM name of a handler."""
    # Names go into symbol tables, and so into what `perf` prints.
    return f'@"wl.{name}"' if not name.replace(".", "").replace("_", "").isalnum() else f"@wl.{name}"


def _constant(text: str) -> str:
    return text.upper().replace(".", "_")


def shapes() -> Iterator[Shape]:
    """The shapes of all instructions but fused ones, and those of their parts."""
    yield stack_handlers.CLAUSE
    for handler in written_handlers():
        yield handler.shape
    for family in families.FAMILIES.values():
        for _, handler in family.members():
            yield handler.shape


def field_offsets() -> dict[str, int]:
    """The offsets of fields, for code that writes and reads instructions: "AT_CALL_DELTA" → offset.

    "AT_DST" is where every instruction has the slot for its result. Of operands that are packed, "AT_VALUE_SLOT_0" is
    the first one in a slot. Immediates have names of their own ("AT_STORE_VALUE_IMM64"), since others have a slot in
    their stead. Raises ValueError where two shapes of one name disagree.
    """
    found: dict[str, int] = {}
    for each in shapes():
        seen: Counter[str] = Counter()
        for field in each.fields:
            name = field.name
            if each.name in families.PACKED and name in families.OPERANDS:
                name = f"{field.kind}.{seen[field.kind]}"
                seen[field.kind] += 1
            elif field.kind in ("imm32", "imm64"):
                name = f"{name}.{field.kind}"
            constant = "AT_DST" if field.kind == "dst" else _constant(f"AT_{each.name}.{name}")
            if found.setdefault(constant, field.offset) != field.offset:
                raise ValueError(f"{constant} is {found[constant]} in one shape and {field.offset} in another")
    return found


def sizes() -> dict[str, int]:
    """The sizes of instructions that have a fixed size: "SIZE_RESTORE"."""
    found: dict[str, int] = {}
    for each in (stack_handlers.CLAUSE, *(handler.shape for handler in control_handlers.control_handlers())):
        found[_constant(f"SIZE_{each.name}")] = each.size
    return found


def enumeration() -> str:
    """Cython declarations for code that writes and reads instructions.

    Numbers of control handlers (``H_BR_TABLE_S``), offsets of fields (``AT_CALL_DELTA``), sizes (``SIZE_RESTORE``),
    instructions (``OP_LOCAL_GET``), kinds of values (``T_I32``), and functions that find handlers (``value_position``).
    """
    lines = ["# Generated from wasmloom/interpreter/control_handlers.py, families.py and handlers.py", "cdef enum:"]
    for number, handler in enumerate(written_handlers()):
        lines.append(f"    H_{_constant(handler.name)} = {number}")
    lines += [f"    {name} = {number}" for name, number in (field_offsets() | sizes()).items()]
    # Two instructions have the mnemonic `select`; their typing rules tell them apart.
    names = {row.mnemonic: row.index for row in INSTRUCTIONS} | {"select": BY_MNEMONIC["select"].index}
    names["select_t"] = next(row.index for row in INSTRUCTIONS if row.rule == "select_t")
    lines += [f"    OP_{_constant(name)} = {index}" for name, index in names.items()]
    lines += [f"    T_{_constant(kind.name)} = {kind.code}" for kind in KINDS.values()]
    lines.append(f"    DELTA_BEFORE_RETURN = {DELTA_BEFORE_RETURN}")
    lines.append(f"    INSTANCE_SIZE = {layout.size('WlInstance')}")
    lines.append(f"    MAX_UNROLLED_LOCALS = {control_handlers.MAX_UNROLLED_LOCALS}")
    lines.append(f"    TRY_RECORD_SLOTS = {stack_handlers.TRY_RECORD_SLOTS}")
    lines.append(f"    CLAUSE_SUSPEND = {stack_handlers.CLAUSE_SUSPEND}")
    lines.append(f"    CLAUSE_SWITCH = {stack_handlers.CLAUSE_SWITCH}")
    lines += object_handlers.enumeration()
    for name, number in object_handlers.first_numbers(list(written_handlers())).items():
        lines.append(f"    FIRST_{name.upper()} = {number}")
    lines += [f"    REACH_{reach.name} = {int(reach)}" for reach in families.Reach]
    written = (("select", control_handlers.SELECT), *object_handlers.OBJECT_FAMILIES.items())
    for name, family in (*families.FAMILIES.items(), *written):
        parameters = ", ".join(f"int {axis}" for axis in ("row", *(axis for axis, _ in family.axes)))
        lines += ["", f"cdef inline int {name}_position({parameters}) noexcept nogil:"]
        lines.append(f"    return {family.position_text()}")
    return "\n".join(lines) + "\n"


def _check(handler: Handler) -> None:
    """Check what `_return_to` relies on: a call's `delta` ends the instruction."""
    names = [field.name for field in handler.shape.fields]
    if "delta" in names and handler.shape.field("delta").offset != handler.shape.size - DELTA_BEFORE_RETURN:
        raise ValueError(f"the delta of {handler.name} isn't where callees look for it")


def _function(name: str, builder: HandlerBuilder, has_prologue: bool) -> Iterator[str]:
    # If a slow path were inlined, its prologue would end up in the handler.
    attributes = "noinline " if name[1:] in OUTLINED else ""
    # The others leave the stack as it is, which gdb sees by itself.
    attributes += "uwtable " if has_prologue else ""
    yield f"define hidden {registers.HANDLER_CONVENTION} void {name}({SIGNATURE}) {attributes}{_ATTRIBUTES} {{"
    yield from builder.lines
    yield "}"


def _array(name: str, type: str, items: Sequence[str]) -> str:
    body = ", ".join(f"{type} {item}" for item in items)
    return f"@{name} = hidden constant [{len(items)} x {type}] [{body}], align 8"


def _enter_function() -> Iterator[str]:
    b = HandlerBuilder(shape("wl_enter"))
    memory = b.memory0(b.inst)
    b.acc = b.as_acc(b.at(b.assign("getelementptr i8, ptr @wl_leave_code, i64 8", "ptr"), 0))
    b.facc = b.assign("insertelement <2 x double> poison, double 0.0, i32 0", "<2 x double>")
    code = b.load("ptr", b.ip, align=8)
    state = {"mem": memory.text, "acc": b.acc.text, "facc": b.facc.text}
    arguments = ", ".join(f"{type} {state.get(name, '%' + name)}" for type, name in STATE)
    b.emit(f"call {registers.HANDLER_CONVENTION} void {code.text}({arguments})")
    b.emit("ret void")
    yield f"define hidden void @wl_enter(ptr %ctx, ptr %inst, ptr %ip, ptr %fp) uwtable {_ATTRIBUTES} {{"
    yield from b.lines
    yield "}"


def _fiber_end() -> str:
    """LLVM IR of ``wl_fiber_end(ctx)``: the running continuation has returned; returns the control to go on at."""
    b = StructBuilder(lambda builder, code: None)
    ctx = Value("%ctx", "ptr")
    trace = _runtime_function(b, "trace")
    b.branch(b.assign(f"icmp eq ptr {trace.text}, null", "i1"), "%quiet", "%traced")
    b.label("%traced")
    current = b.struct_field(ctx, "WlContext", "current")
    b.emit(f"call preserve_mostcc void @wl_fiber_call(ptr %ctx, ptr {trace.text}, ptr null, ptr {current.text})")
    b.emit("br label %quiet")
    b.label("%quiet")
    cont = b.struct_field(ctx, "WlContext", "current")
    parent = b.struct_field(cont, "WlCont", "parent")
    control = b.struct_field(cont, "WlCont", "control")
    b.set_struct_field(ctx, "WlContext", "current", parent)
    b.set_struct_field(cont, "WlCont", "control", Value("null", "ptr"))
    b.set_struct_field(control, "WlControl", "next", b.struct_field(ctx, "WlContext", "free_stacks"))
    b.set_struct_field(ctx, "WlContext", "free_stacks", control)
    base = b.struct_field(cont, "WlCont", "stack_base")
    inline = b.assign(f"icmp eq ptr {base.text}, {b.at(cont, layout.size('WlCont')).text}", "i1")
    b.branch(b.both(inline, b.is_young(cont)), "%own", "%grown")
    b.label("%own")
    b.set_struct_field(cont, "WlCont", "state", b.const("i64", layout.CONT_ENDED))
    b.set_struct_field(cont, "WlCont", "next", b.struct_field(ctx, "WlContext", "free_conts"))
    b.set_struct_field(ctx, "WlContext", "free_conts", cont)
    b.emit(f"ret ptr {control.text}")
    b.label("%grown")
    done = _runtime_function(b, "cont_done")
    b.emit(f"call preserve_mostcc void @wl_fiber_call(ptr %ctx, ptr {done.text}, ptr {cont.text}, ptr null)")
    b.emit(f"ret ptr {control.text}")
    body = "\n".join(b.lines)
    # The calls keep all registers, so that the usual path, without them, saves none.
    return (
        "declare hidden i64 @wl_on_host(ptr, ptr, ptr, ptr, ptr, ptr)\n"
        "define internal preserve_mostcc void @wl_fiber_call(ptr %ctx, ptr %function, ptr %a, ptr %b) "
        'noinline nounwind "frame-pointer"="all" {\n'
        "  %code = call i64 @wl_on_host(ptr %ctx, ptr %function, ptr %a, ptr %b, ptr null, ptr null)\n"
        "  ret void\n}\n"
        f'define hidden ptr @wl_fiber_end(ptr %ctx) nounwind "frame-pointer"="all" {{\n{body}\n}}\n'
    )


def _runtime_function(b: StructBuilder, name: str) -> Value:
    """The function that a runtime call leads to."""
    index = layout.RUNTIME_CALLS.index(name)
    return b.load("ptr", Value(f"getelementptr ([0 x ptr], ptr @wl_runtime, i64 0, i64 {index})", "ptr"), align=8)


def module_text(handlers: HandlerSet | None = None) -> str:
    """The LLVM IR of the whole object."""
    handlers = handlers or HandlerSet()
    parts: list[str] = []
    declarations: dict[str, str] = {}
    bodies = [
        (symbol(handler.name), handler.shape, handler.body, handler.calls_runtime) for handler in handlers.handlers
    ]
    bodies += [(f"@{name}", shape(name), body, True) for name, body in OUTLINED.items()]
    for handler in handlers.handlers:
        _check(handler)
    for name, read, body, has_prologue in bodies:
        builder = HandlerBuilder(read)
        body(builder)
        parts += _function(name, builder, has_prologue)
        declarations.update(builder.declarations)
    parts += _enter_function()
    parts += module_assembly(stubs.assembly().splitlines())
    parts += module_assembly(crossings.assembly().splitlines())
    parts.append(_fiber_end())
    parts += declarations.values()
    parts.append(_array("wl_handlers", "ptr", [symbol(handler.name) for handler in handlers.handlers]))
    parts.append(_array("wl_sizes", "i16", [str(handler.shape.size) for handler in handlers.handlers]))
    parts.append(_array("wl_fault_offsets", "i16", [str(handler.fault_offset) for handler in handlers.handlers]))
    for table, numbers in (*handlers.tables.items(), *handlers.fusion_tables().items()):
        # Positions in the fusion table go beyond 16 bits.
        width = "i32" if table == "wl_fusion_rows" else "i16"
        parts.append(_array(table, width, [str(number) for number in numbers]))
    parts.append(_array("wl_externals", "ptr", [f"@{name}" for name in EXTERNALS]))
    parts.append(f"@wl_handler_count = hidden constant i64 {len(handlers.handlers)}")
    parts.append(f"@wl_runtime = hidden global [{len(layout.RUNTIME_CALLS)} x ptr] zeroinitializer")
    parts.append(f"@wl_no_instance = hidden global [{layout.size('WlInstance')} x i8] zeroinitializer, align 8")
    # Eight bytes of "delta" (0), then the instruction.
    parts.append("@wl_leave_code = hidden constant [2 x ptr] [ptr null, ptr @wl.leave], align 8")
    parts.append("@wl_cont_return_code = hidden global [2 x ptr] [ptr null, ptr @wl.cont_return], align 8")
    parts.append("@wl_cross_code = hidden constant [2 x ptr] [ptr null, ptr @wl.cross_back], align 8")
    parts.append("@wl_fault_entry = hidden constant ptr @wl_fault")
    parts.append('!0 = !{!"branch_weights", i32 1, i32 4000}')
    parts.append('!1 = distinct !{!1, !{!"llvm.loop.unroll.disable"}, !{!"llvm.loop.vectorize.enable", i1 false}}')
    return "\n".join(parts) + "\n"


def compile_module(level: int | None = None) -> tuple[binding.ModuleRef, binding.TargetMachine]:
    """Parse and optimise the handlers for the build machine.

    `level` is LLVM's optimisation level; by default that of the environment variable ``WASMLOOM_OPT`` ("O1" … "O3"),
    else 2. ``WASMLOOM_CPU`` names another CPU than the host's, for a wheel.
    """
    from llvmlite import binding

    if level is None:
        level = int(os.environ.get("WASMLOOM_OPT", "O2").lstrip("O"))
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    binding.initialize_native_asmparser()
    cpu = os.environ.get("WASMLOOM_CPU")
    features = "" if cpu else binding.get_host_cpu_features().flatten()
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=cpu or binding.get_host_cpu_name(), features=features, opt=level, reloc="pic", codemodel="default"
    )
    module = binding.parse_assembly(module_text())
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    module.verify()
    options = binding.create_pipeline_tuning_options(speed_level=level)
    passes = binding.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    return module, machine


def build_object(path: Path) -> None:
    """Compile the handlers and write the object file."""
    module, machine = compile_module()
    path.write_bytes(machine.emit_object(module))
