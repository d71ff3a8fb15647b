"""The handlers that are written one by one: control flow, calls, copies; and those with some operand kinds only.

Where an instruction has a definition (`wasmloom.semantics`), that says what it does.

Calls. Arguments are staged where the callee's frame begins, so nothing is copied; results replace them. A frame is
``parameters, locals, return ip, own instance, temporaries``. The caller's frame lies a known distance below: the
calling instruction has it ("delta") in the 8 bytes before the return ip. So no absolute stack address is ever stored,
and a stack can be moved. The return ip travels in the accumulator until `enter` stores it.

A call that may leave the instance saves it in the caller's frame and returns to a `restore` instruction, which restores
it; a callee in the same instance returns past the `restore`. A tail call that leaves the instance can't return to its
caller's `restore`, so it puts a two-slot shim below the callee: the original return ip and instance. Further calls in a
chain of tail calls find the shim in place and add nothing, so tail calls run in constant stack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wasmloom.contract import traps
from wasmloom.contract.layout import SLOT_BYTES
from wasmloom.interpreter.emitter import POISON_ACC, POISON_FACC, SIGNATURE, HandlerBuilder
from wasmloom.interpreter.families import RUNTIME, Family, jump_back, named, runtime_body
from wasmloom.interpreter.isa import ACC, DELTA_BEFORE_RETURN, IMM, KIND_LETTERS, SLOT, Handler, Shape, letters, shape
from wasmloom.semantics.kinds import Kind, by_name
from wasmloom.semantics.llvm import VECTOR, Value
from wasmloom.semantics.registry import OPERATIONS
from wasmloom.target import registers

_I32, _I64, _V128 = by_name("i32"), by_name("i64"), by_name("v128")

Body = Callable[[HandlerBuilder], None]

#: Shapes that several instructions have, or that are read in more than one place.
BRANCH = shape("br", "target:target@8")
RESTORE = shape("restore", "delta:u16@8 save:slot@10")
CALL_INDIRECT = shape("call_indirect", "index:slot@8 save:slot@10 table:u32@12 type:u32@16 delta:u16@24")
_TAIL = " source:slot@20 count:u16@22 record:slot@24 delta:u16@32"
RETURN_CALL_INDIRECT = shape("return_call_out", "index:slot@8 table:u32@12 type:u32@16" + _TAIL)
ENTER = shape("enter", "frame:u32@8 record:slot@12 zeroed:u16@14")

#: Calls of the runtime that are parts of instructions, made as if they were instructions.
INTERNAL_CALLS = ("cont_new", "new_exception")
#: Locals up to this many are zeroed without a loop.
MAX_UNROLLED_LOCALS = 6


def _word(b: HandlerBuilder, slot: Value) -> Value:
    return b.load("i64", slot, align=8)


def _is_set(b: HandlerBuilder, pointer: Value) -> Value:
    return b.assign(f"icmp ne ptr {pointer.text}, null", "i1")


def _return_to(b: HandlerBuilder, code: Value, **state: Value) -> None:
    """Return to the caller at `code`. Its frame lies below by the distance in its call instruction."""
    delta = b.convert("zext", b.load("i16", b.at(code, -DELTA_BEFORE_RETURN), align=2), "i64")
    down = b.binary("sub", b.const("i64", 0), delta)
    frame = b.assign(f"getelementptr i64, ptr {b.fp.text}, i64 {down.text}", "ptr")
    b.jump(code, fp=frame, **state)


def _callee_frame(b: HandlerBuilder) -> Value:
    return b.slot("delta")


# --- jumps ---


def br(b: HandlerBuilder) -> None:
    b.jump(b.target())


def br_back(b: HandlerBuilder) -> None:
    jump_back(b, b.target())


def _br_table(kind: int) -> Body:
    def body(b: HandlerBuilder) -> None:
        index = b.read_slot("index", _I32) if kind == SLOT else b.read_acc(_I32)
        count = b.narrow("count")
        clamped = b.convert("zext", b.intrinsic("umin", index, count), "i64")
        entry = b.assign(f"getelementptr i32, ptr {b.field_at('targets').text}, i64 {clamped.text}", "ptr")
        target = b.convert("sext", b.load("i32", entry, align=4), "i64")
        b.jump(b.at(b.ip, target))

    return body


def unreachable(b: HandlerBuilder) -> None:
    OPERATIONS["unreachable"].define(b)


def fence(b: HandlerBuilder) -> None:
    OPERATIONS["atomic.fence"].define(b)
    b.next()


# --- copies and constants: they leave an accumulator alone unless it is their target ---


def copy(b: HandlerBuilder) -> None:
    b.store(_word(b, b.slot("source")), b.slot("dst"), align=8)
    b.next()


def move(b: HandlerBuilder) -> None:
    """Copy several slots at once, to lower ones."""
    _move_slots(b, b.slot("dst"), b.slot("source"), b.number("count"))
    b.next()


def copy_vector(b: HandlerBuilder) -> None:
    b.store(b.load(VECTOR, b.slot("source"), align=8), b.slot("dst"), align=8)
    b.next()


def const_vector(b: HandlerBuilder) -> None:
    """Unlike other constants, into slots and the accumulator: it is the instruction's own."""
    b.finish_value(b.vector_field("value"))


def set_vector(b: HandlerBuilder) -> None:
    b.store(b.read_acc(_V128), b.slot("dst"), align=8)
    b.next()


def _select_vector(kind: int) -> Body:
    def body(b: HandlerBuilder) -> None:
        condition = b.read_slot("condition", _I32) if kind == SLOT else b.read_acc(_I32)
        first, second = b.read_slot("a", _V128), b.read_slot("b", _V128)
        b.finish_value(OPERATIONS["select"].define(b, first, second, b.compare("ne", condition, b.const("i32", 0))))

    return body


def const(b: HandlerBuilder) -> None:
    b.store(b.number("value"), b.slot("dst"), align=8)
    b.next()


def const_acc(b: HandlerBuilder) -> None:
    b.next(acc=b.number("value"))


def const_facc(b: HandlerBuilder) -> None:
    b.next(facc=b.bits_as_facc(b.number("value")))


def set_acc(b: HandlerBuilder) -> None:
    b.store(b.acc, b.slot("dst"), align=8)
    b.next()


def set_facc(b: HandlerBuilder) -> None:
    b.store(b.lane0(b.facc, "f64"), b.slot("dst"), align=8)
    b.next()


def _select(kinds: tuple[int, int, int], floats: bool) -> Body:
    """`select` of cond, a, b. The result goes to a slot and the accumulator of its class."""
    condition_kind, a_kind, b_kind = kinds

    def body(b: HandlerBuilder) -> None:
        condition = b.read_slot("condition", _I32) if condition_kind == SLOT else b.read_acc(_I32)
        first = _word(b, b.slot("a")) if a_kind == SLOT else b.number("a")
        second = _word(b, b.slot("b")) if b_kind == SLOT else b.number("b")
        result = OPERATIONS["select"].define(b, first, second, b.compare("ne", condition, b.const("i32", 0)))
        b.store(result, b.slot("dst"), align=8)
        if floats:
            b.next(facc=b.bits_as_facc(result))
        else:
            b.next(acc=result)

    return body


# --- globals and references ---


def _global_get(result: int, floats: bool) -> Body:
    def body(b: HandlerBuilder) -> None:
        value = OPERATIONS["global.get"].define(b, named(b, "global"), "i64")
        if result == SLOT:
            b.store(value, b.slot("dst"), align=8)
        if floats:
            b.next(facc=b.bits_as_facc(value))
        else:
            b.next(acc=value)

    return body


def _global_set(kind: int, floats: bool) -> Body:
    def body(b: HandlerBuilder) -> None:
        if kind == SLOT:
            value = _word(b, b.slot("value"))
        elif kind == IMM:
            value = b.number("value")
        else:
            value = b.convert("bitcast", b.lane0(b.facc, "f64"), "i64") if floats else b.acc
        OPERATIONS["global.set"].define(b, named(b, "global"), value)
        b.next()

    return body


def vector_global_get(b: HandlerBuilder) -> None:
    b.finish_value(OPERATIONS["global.get"].define(b, named(b, "global"), VECTOR))


def vector_global_set(b: HandlerBuilder) -> None:
    OPERATIONS["global.set"].define(b, named(b, "global"), b.read_slot("value", _V128))
    b.next()


def ref_as_non_null(b: HandlerBuilder) -> None:
    """The value stays where it is."""
    OPERATIONS["ref.as_non_null"].define(b, _word(b, b.slot("value")))
    b.next()


def _internal_handler(name: str) -> Handler:
    """The handler of a call of the runtime that is part of an instruction."""
    body = runtime_body(lambda b: b.trap_if_code(b.runtime(name, b.inst, b.fp, b.ip)))
    return Handler(name, RUNTIME, body, calls_runtime=True)


# --- calls ---


def call(b: HandlerBuilder) -> None:
    cell = b.pointer_field("code")
    code = b.load("ptr", cell, align=8)
    back = b.as_acc(b.following())
    b.jump(code, fp=_callee_frame(b), acc=back, facc=POISON_FACC)


def _switch_to(b: HandlerBuilder, function: Value, **state: Value) -> None:
    """Enter a function of any instance, or of the host, which has none: an empty instance stands in."""
    instance = b.struct_field(function, "WlFunction", "instance")
    cell = b.struct_field(function, "WlFunction", "code_cell")
    some = b.select(_is_set(b, instance), instance, Value("@wl_no_instance", "ptr"))
    b.jump(b.load("ptr", cell, align=8), inst=some, mem=b.memory0(some), facc=POISON_FACC, **state)


def _save_instance(b: HandlerBuilder) -> None:
    b.store(b.as_acc(b.inst), b.slot("save"), align=8)


def _call_out(b: HandlerBuilder, function: Value) -> None:
    """Call a function reference. A call that stays in the instance returns past the `restore`."""
    instance = b.struct_field(function, "WlFunction", "instance")
    near, far = b.fresh("near"), b.fresh("far")
    b.branch(b.assign(f"icmp eq ptr {instance.text}, {b.inst.text}", "i1"), near, far)
    b.label(near)
    cell = b.struct_field(function, "WlFunction", "code_cell")
    back = b.as_acc(b.at(b.ip, b.shape.size + RESTORE.size))
    b.jump(b.load("ptr", cell, align=8), fp=_callee_frame(b), acc=back, facc=POISON_FACC)
    b.label(far)
    _save_instance(b)
    _switch_to(b, function, fp=_callee_frame(b), acc=b.as_acc(b.following()))


def call_import(b: HandlerBuilder) -> None:
    function = named(b, "function")
    _save_instance(b)
    _switch_to(b, function, fp=_callee_frame(b), acc=b.as_acc(b.following()))


def _indirect_callee(b: HandlerBuilder, index: Kind) -> Value:
    """The checked function of `call_indirect`."""
    table = named(b, "table")
    function: Value = OPERATIONS["call_indirect"].define(b, table, b.read_slot("index", index), b.number("type"))
    return function


def _call_indirect(index: Kind) -> Body:
    """`index`: the kind of the table's indices."""

    def body(b: HandlerBuilder) -> None:
        _call_out(b, _indirect_callee(b, index))

    return body


def _reference(b: HandlerBuilder) -> Value:
    """The checked function of `call_ref`."""
    function: Value = OPERATIONS["call_ref"].define(b, _word(b, b.slot("function")))
    return function


def call_ref(b: HandlerBuilder) -> None:
    _call_out(b, _reference(b))


def restore(b: HandlerBuilder) -> None:
    """Restore the instance after a call that left it. Memory 0 may have moved."""
    instance = b.load("ptr", b.slot("save"), align=8)
    b.next(inst=instance, mem=b.memory0(instance))


# --- tail calls: arguments are staged at `source` and move to the frame's beginning ---


def _move_slots(b: HandlerBuilder, target: Value, source: Value, count: Value) -> None:
    """Copy slots upwards in order: the target lies at or below the source, so nothing is overwritten unread."""
    entry, loop, body, done = (b.fresh(name) for name in ("entry", "loop", "body", "done"))
    b.emit(f"br label {entry}")
    b.label(entry)
    b.emit(f"br label {loop}")
    b.label(loop)
    index, following = b.fresh("i"), b.fresh("n")
    b.emit(f"{index} = phi i64 [ 0, {entry} ], [ {following}, {body} ]")
    b.branch(b.compare("ult", Value(index, "i64"), count), body, done)
    b.label(body)
    word = b.assign(f"getelementptr i64, ptr {source.text}, i64 {index}", "ptr")
    place = b.assign(f"getelementptr i64, ptr {target.text}, i64 {index}", "ptr")
    b.store(_word(b, word), place, align=8)
    b.emit(f"{following} = add i64 {index}, 1")
    # Most moves are of a word or two: an unrolled or vectorised loop would only start later.
    b.emit(f"br label {loop}, !llvm.loop !1")
    b.label(done)


def return_call(b: HandlerBuilder) -> None:
    cell = b.pointer_field("code")
    back = _word(b, b.slot("record"))
    _move_slots(b, b.fp, b.slot("source"), b.number("count"))
    b.jump(b.load("ptr", cell, align=8), acc=back, facc=POISON_FACC)


def _tail_call_out(b: HandlerBuilder, function: Value) -> None:
    """Tail call of a function reference. A `shim` follows."""
    source, count, back = b.slot("source"), b.number("count"), b.load("ptr", b.slot("record"), align=8)
    instance = b.struct_field(function, "WlFunction", "instance")
    near, far, direct, shim = (b.fresh(name) for name in ("near", "far", "direct", "shim"))
    b.branch(b.assign(f"icmp eq ptr {instance.text}, {b.inst.text}", "i1"), near, far)
    b.label(near)
    cell = b.struct_field(function, "WlFunction", "code_cell")
    code = b.load("ptr", cell, align=8)
    _move_slots(b, b.fp, source, count)
    b.jump(code, acc=b.as_acc(back), facc=POISON_FACC)
    b.label(far)
    first = b.load("ptr", back, align=8)
    # Compiled code needs no shim either: it knows its own instance.
    is_shim = b.assign(f"icmp eq ptr {first.text}, @wl.shim", "i1")
    is_end = b.assign(f"icmp eq ptr {first.text}, @wl.cross_back", "i1")
    needless = b.assign(f"or i1 {is_shim.text}, {is_end.text}", "i1")
    # A host function may ask who calls it: the shim tells. It doesn't tail-call on, so there is one such shim at most.
    b.branch(b.assign(f"and i1 {needless.text}, {_is_set(b, instance).text}", "i1"), direct, shim)
    b.label(direct)
    _move_slots(b, b.fp, source, count)
    _switch_to(b, function, acc=b.as_acc(back))
    b.label(shim)
    frame = b.frame_slot(2)
    _move_slots(b, frame, source, count)
    b.store(b.as_acc(back), b.frame_slot(0), align=8)
    b.store(b.as_acc(b.inst), b.frame_slot(1), align=8)
    _switch_to(b, function, fp=frame, acc=b.as_acc(b.following()))


def return_call_import(b: HandlerBuilder) -> None:
    _tail_call_out(b, named(b, "import"))


def _return_call_indirect(index: Kind) -> Body:
    def body(b: HandlerBuilder) -> None:
        b.subtype_slow = "@wl_tail_subtype_slow"
        _tail_call_out(b, _indirect_callee(b, index))

    return body


def return_call_ref(b: HandlerBuilder) -> None:
    _tail_call_out(b, _reference(b))


def shim(b: HandlerBuilder) -> None:
    """Return through a shim: pass the results to the original caller and restore its instance."""
    back = b.load("ptr", b.frame_slot(0), align=8)
    instance = b.load("ptr", b.frame_slot(1), align=8)
    _move_slots(b, b.fp, b.frame_slot(2), b.number("count"))
    first = _word(b, b.fp)
    b_mem = b.memory0(instance)
    _return_to(b, back, inst=instance, mem=b_mem, acc=first, facc=b.bits_as_facc(first))


# --- function entry and return ---


def _open_frame(b: HandlerBuilder, zeroed: int | None) -> None:
    """Store the return ip and zero the locals; see `_enter`."""
    record = b.slot("record")
    b.store(b.acc, record, align=8)
    zero = b.const("i64", 0)
    if zeroed is not None:
        for i in range(zeroed):
            b.store(zero, b.at(record, -SLOT_BYTES * (i + 1)), align=8)
        return
    down = b.binary("sub", zero, b.number("zeroed"))
    first = b.assign(f"getelementptr i64, ptr {record.text}, i64 {down.text}", "ptr")
    entry, loop, body, done = b.fresh("entry"), b.fresh("loop"), b.fresh("body"), b.fresh("done")
    place, following = b.fresh("p"), b.fresh("p")
    b.emit(f"br label {entry}")
    b.label(entry)
    b.emit(f"br label {loop}")
    b.label(loop)
    b.emit(f"{place} = phi ptr [ {first.text}, {entry} ], [ {following}, {body} ]")
    b.branch(b.assign(f"icmp eq ptr {place}, {record.text}", "i1"), done, body)
    b.label(body)
    b.store(zero, Value(place, "ptr"), align=8)
    b.emit(f"{following} = getelementptr i64, ptr {place}, i64 1")
    b.emit(f"br label {loop}")
    b.label(done)


def _enter(zeroed: int | None) -> Body:
    """Check the stack, store the return ip, zero `zeroed` locals; None: as many as the instruction says."""

    def body(b: HandlerBuilder) -> None:
        top = b.at(b.fp, b.number("frame"))
        limit = b.struct_field(b.ctx, "WlContext", "stack_limit")
        full, fits = b.fresh("full"), b.fresh("fits")
        b.branch(b.assign(f"icmp ugt ptr {top.text}, {limit.text}", "i1"), full, fits, unlikely=True)
        b.label(full)
        b.tail_call("@wl_enter_slow")
        b.label(fits)
        _open_frame(b, zeroed)
        b.next()

    return body


def return_none(b: HandlerBuilder) -> None:
    _return_to(b, b.load("ptr", b.slot("record"), align=8), acc=POISON_ACC)


def _return_one(kind: int, floats: bool) -> Body:
    """Return one value: in slot 0 of the frame (the caller's slot for it) and in the accumulator."""

    def body(b: HandlerBuilder) -> None:
        back = b.load("ptr", b.slot("record"), align=8)
        if floats:
            facc = b.facc if kind == ACC else b.bits_as_facc(_word(b, b.slot("value")))
            b.store(b.lane0(facc, "f64"), b.fp, align=8)
            _return_to(b, back, facc=facc, acc=POISON_ACC)
        else:
            value = b.acc if kind == ACC else _word(b, b.slot("value")) if kind == SLOT else b.number("value")
            b.store(value, b.fp, align=8)
            _return_to(b, back, acc=value)

    return body


def return_many(b: HandlerBuilder) -> None:
    back = b.load("ptr", b.slot("record"), align=8)  # read first: the results may overwrite it
    _move_slots(b, b.fp, b.slot("source"), b.number("count"))
    _return_to(b, back, acc=POISON_ACC, facc=POISON_FACC)


def leave(b: HandlerBuilder) -> None:
    """Return from the outermost function to `wl_enter`."""
    b.set_struct_field(b.ctx, "WlContext", "trap_code", b.const("i64", traps.NO_TRAP))
    b.emit("ret void")


def fuel(b: HandlerBuilder) -> None:
    """Pay for the instructions of a basic block before it runs."""
    left = b.binary("sub", b.struct_field(b.ctx, "WlContext", "fuel", "i64"), b.number("amount"))
    b.trap_if(b.compare("slt", left, b.const("i64", 0)), traps.OUT_OF_FUEL)
    b.set_struct_field(b.ctx, "WlContext", "fuel", left)
    b.next()


# --- handlers that call the runtime ---


def _frame_after_move(b: HandlerBuilder, offset: Value) -> Value:
    return b.at(b.struct_field(b.ctx, "WlContext", "stack_base"), offset)


def _frame_offset(b: HandlerBuilder) -> Value:
    base = b.as_acc(b.struct_field(b.ctx, "WlContext", "stack_base"))
    return b.binary("sub", b.as_acc(b.fp), base)


def _check_in_caller(b: HandlerBuilder, code: Value, back: Value) -> None:
    """From a callee that has no frame yet, leave with a runtime function's trap code, unless it is 0.

    The instance is null and the ip is the return ip: this tells the backtrace that the innermost frame is the caller's.
    """
    failed, fine = b.fresh("failed"), b.fresh("fine")
    b.branch(b.compare("ne", code, b.const("i64", 0)), failed, fine, unlikely=True)
    b.label(failed)
    b.tail_call("@wl_trap", acc=code, ip=back, fp=b.fp, inst=Value("null", "ptr"))
    b.label(fine)


def _return_ip(b: HandlerBuilder) -> Value:
    """The return ip, which travels in the accumulator."""
    return b.assign(f"inttoptr i64 {b.acc.text} to ptr", "ptr")


def lazy(b: HandlerBuilder) -> None:
    """The code of a function that isn't translated yet: translate it, then run it."""
    _check_in_caller(b, b.runtime_call("translate", b.ctx, b.inst, b.fp, b.ip), _return_ip(b))
    b.jump(b.load("ptr", b.pointer_field("code"), align=8))


def _host_returned(b: HandlerBuilder, back: Value) -> None:
    """Return to a host function's caller; the results are in the callee's frame."""
    first = _word(b, b.fp)
    _return_to(b, back, acc=first, facc=b.bits_as_facc(first))


def _host_threw(b: HandlerBuilder, back: Value) -> None:
    """Throw the exception in the context, from a host function that returns to `back`."""
    exception = b.struct_field(b.ctx, "WlContext", "exception", "i64")
    b.tail_call("@wl_throw", acc=exception, ip=back, fp=b.fp, inst=Value("null", "ptr"))


def host_returned(b: HandlerBuilder) -> None:
    """Go on in a guest that has waited for a host function's results."""
    _host_returned(b, b.struct_field(b.ctx, "WlContext", "host_ip"))


def host_threw(b: HandlerBuilder) -> None:
    """Go on in a guest that has waited for a host function, which has thrown."""
    _host_threw(b, b.struct_field(b.ctx, "WlContext", "host_ip"))


def host(b: HandlerBuilder) -> None:
    """The code of a host function: call it, and return to the caller."""
    offset = _frame_offset(b)
    back = _return_ip(b)
    function = b.pointer_field("function")
    code = b.runtime_call("host_call", b.ctx, function, b.fp, back)
    b.fp = _frame_after_move(b, offset)
    thrown, other = b.fresh("thrown"), b.fresh("other")
    b.branch(b.compare("eq", code, b.const("i64", traps.UNCAUGHT_EXCEPTION)), thrown, other, unlikely=True)
    b.label(thrown)
    _host_threw(b, back)
    b.label(other)
    _check_in_caller(b, code, back)
    _host_returned(b, back)


# --- between bytecode and compiled code (see `wasmloom.target.crossings`) ---


def _control(b: HandlerBuilder) -> Value:
    """The control of the running stack's native stack; null where only bytecode can run on it."""
    return b.struct_field(b.struct_field(b.ctx, "WlContext", "current"), "WlCont", "control")


def _to_assembly(b: HandlerBuilder, name: str, **state: Value) -> None:
    """Go to one of the crossings."""
    b.declarations[name] = f"declare hidden {registers.HANDLER_CONVENTION} void @{name}({SIGNATURE})"
    b.tail_call(f"@{name}", **state)


def native(b: HandlerBuilder) -> None:
    """The code of a function that has compiled code: call that, and return to the caller. Where the running stack has
    no native one, the bytecode runs."""
    control = _control(b)
    call, stay = b.fresh("call"), b.fresh("stay")
    b.branch(_is_set(b, control), call, stay)
    b.label(call)
    _to_assembly(b, "wl_native_call", mem=control)
    b.label(stay)
    b.jump(b.struct_field(b.ip, "WlNative", "bytecode"))


def cross_back(b: HandlerBuilder) -> None:
    """Return to the compiled code that has called the function."""
    _to_assembly(b, "wl_cross_return")


def osr(b: HandlerBuilder) -> None:
    """Let the frame go on as compiled code, at the loop whose `WlLoop` the accumulator has, and return to its caller.

    The records of the frame's `try_table`s end: the compiled code has handlers of its own.
    """
    loop = _return_ip(b)  # a pointer in the accumulator
    control = _control(b)
    entry, stay, record, inside, call = (b.fresh(name) for name in ("entry", "stay", "record", "inside", "call"))
    b.branch(_is_set(b, control), entry, stay)
    b.label(stay)
    b.tail_call(b.struct_field(loop, "WlLoop", "first").text)
    b.label(entry)
    at = b.struct_field(loop, "WlLoop", "record", "i64")
    back = b.load("ptr", b.word(b.fp, at), align=8)
    frame = _frame_offset(b)
    base = b.struct_field(b.ctx, "WlContext", "stack_base")
    top = b.struct_field(b.ctx, "WlContext", "catch_top", "i64")
    before = b.fresh("before")
    b.emit(f"br label {before}")
    b.label(before)
    b.emit(f"br label {record}")
    b.label(record)
    innermost, outer = b.fresh("innermost"), b.fresh("outer")
    b.emit(f"{innermost} = phi i64 [ {top.text}, {before} ], [ {outer}, {inside} ]")
    b.branch(b.compare("ugt", Value(innermost, "i64"), frame), inside, call)
    b.label(inside)
    place = b.at(base, Value(innermost, "i64"))
    b.emit(f"{outer} = load i64, ptr {place.text}, align 8")
    b.emit(f"br label {record}")
    b.label(call)
    b.set_struct_field(b.ctx, "WlContext", "catch_top", Value(innermost, "i64"))
    _to_assembly(b, "wl_osr_call", ip=back, mem=control)


# --- slow paths: not instructions, but functions of their own, so that the handlers that use them need no prologue ---


def enter_slow(b: HandlerBuilder) -> None:
    """The frame doesn't fit, or the guest was interrupted: let the runtime handle that, then enter again."""
    offset = _frame_offset(b)
    b.shape = ENTER
    b.set_struct_field(b.ctx, "WlContext", "return_ip", _return_ip(b))
    b.set_struct_field(b.ctx, "WlContext", "trap_instance", b.inst)
    code = b.runtime_call("enter_slow", b.ctx, b.number("frame"), b.fp, b.ip)
    b.fp = _frame_after_move(b, offset)
    change, go_on = b.fresh("change"), b.fresh("go_on")
    b.branch(b.compare("eq", code, b.const("i64", traps.CHANGE_TIER)), change, go_on, unlikely=True)
    b.label(change)
    # The function's beginning is where compiled code can take over: the frame is complete there.
    _open_frame(b, None)
    b.tail_call("@wl_trap", acc=code, ip=b.following(), fp=b.fp)
    b.label(go_on)
    _check_in_caller(b, code, _return_ip(b))
    b.jump(b.ip, fp=b.fp)


def loop_slow(b: HandlerBuilder) -> None:
    b.trap_if_code(b.runtime_call("loop_slow", b.ctx, b.inst, b.fp, b.ip))
    b.jump(b.ip)


def trap(b: HandlerBuilder) -> None:
    """Leave the guest with the trap code in the accumulator."""
    b.set_struct_field(b.ctx, "WlContext", "trap_code", b.acc)
    for field, value in (("trap_ip", b.ip), ("trap_fp", b.fp), ("trap_instance", b.inst)):
        b.set_struct_field(b.ctx, "WlContext", field, value)
    b.emit("ret void")


def fault(b: HandlerBuilder) -> None:
    """The signal handler sends a guest here that has touched a guard page."""
    b.tail_call("@wl_trap", acc=Value(str(traps.MEMORY_OUT_OF_BOUNDS), "i64"))


def _subtype_slow(read: Shape, call: Callable[[HandlerBuilder, Value], None]) -> Body:
    """Call a function whose type (its id is in the accumulator) isn't the expected one, if it is a subtype.

    The runtime does the rest of the call's checks and returns a trap code, or 0 for a subtype. Then this handler makes
    the call, as `call` does: its callers expect equal ids.
    """

    def body(b: HandlerBuilder) -> None:
        b.shape = read
        b.trap_if_code(b.runtime_call("subtype", b.ctx, b.acc, b.number("type")))
        # An index that has been found in a table is a number of 32 bits, whatever it may be in other tables.
        index = b.wide(b.read_slot("index", _I32))
        elements = b.struct_field(named(b, "table"), "WlTable", "elements")
        call(b, b.load("ptr", b.word(elements, index), align=8))

    return body


#: Functions with a handler's signature that aren't instructions: name → body.
OUTLINED: dict[str, Body] = {
    "wl_trap": trap,
    "wl_fault": fault,
    "wl_enter_slow": enter_slow,
    "wl_loop_slow": loop_slow,
    "wl_subtype_slow": _subtype_slow(CALL_INDIRECT, _call_out),
    "wl_tail_subtype_slow": _subtype_slow(RETURN_CALL_INDIRECT, _tail_call_out),
    "wl_osr": osr,
}


def _plain(name: str, fields: str, body: Body, shape_name: str | None = None) -> Handler:
    """A handler with a shape of its own, or with a shared one."""
    return Handler(name, shape(shape_name or name, fields), body)


def _select_handler(floats: bool, kinds: tuple[int, int, int]) -> Handler:
    condition, first, second = kinds
    text = "dst:dst@8" + (" condition:slot@10" if condition == SLOT else "")
    text += " a:slot@12" if first == SLOT else " a:imm64@16"
    text += " b:slot@14" if second == SLOT else f" b:imm64@{24 if first == IMM else 16}"
    name = f"{'f' if floats else ''}select.{letters(kinds)}"
    # An immediate `b` follows an immediate `a`: the shapes differ.
    return _plain(name, text, _select(kinds, floats), f"select_{letters(kinds[1:])}")


def _select_handlers() -> Iterator[tuple[tuple[int, ...], Handler]]:
    for floats in (False, True):
        for condition in (SLOT, ACC):
            for first in (SLOT, IMM):
                for second in (SLOT, IMM):
                    place = (0, floats, condition == ACC, first == IMM, second == IMM)
                    yield place, _select_handler(floats, (condition, first, second))


#: The variants of `select`, in the order of their numbers. They belong to one row: positions count from the first one.
SELECT = Family((("floats", 2), ("condition", 2), ("a", 2), ("b", 2)), _select_handlers)


def control_handlers() -> Iterator[Handler]:
    """All handlers of this file, in a fixed order: position is number."""
    yield Handler("br", BRANCH, br)
    yield Handler("br.back", BRANCH, br_back)
    yield _plain("br_table.s", "index:slot@8 count:u32@12 targets:array@16", _br_table(SLOT), "br_table")
    yield _plain("br_table.a", "count:u32@12 targets:array@16", _br_table(ACC), "br_table")
    yield _plain("unreachable", "", unreachable)
    yield _plain("atomic.fence", "", fence)
    yield _plain("copy", "dst:dst@8 source:slot@10", copy)
    yield _plain("move", "dst:dst@8 source:slot@10 count:u16@12", move)
    yield _plain("const", "dst:dst@8 value:imm64@16", const)
    yield _plain("const_acc", "value:imm64@16", const_acc)
    yield _plain("const_facc", "value:imm64@16", const_facc)
    yield _plain("set_acc", "dst:dst@8", set_acc)
    yield _plain("set_facc", "dst:dst@8", set_facc)
    for _, handler in SELECT.members():
        yield handler
    yield _plain("copy_vector", "dst:dst@8 source:slot@10", copy_vector)
    yield _plain("const_vector", "dst:dst@8 value:imm64@16 value_high:imm64@24", const_vector)
    yield _plain("set_vector", "dst:dst@8", set_vector)
    chosen = "dst:dst@8 a:slot@12 b:slot@14"
    yield _plain("select_vector.s", f"{chosen} condition:slot@10", _select_vector(SLOT), "select_vector")
    yield _plain("select_vector.a", chosen, _select_vector(ACC), "select_vector")
    yield _plain("vector_global.get", "dst:dst@8 global:u32@12", vector_global_get, "global.get")
    yield _plain("vector_global.set", "value:slot@8 global:u32@12", vector_global_set, "global.set")
    for floats in (False, True):
        prefix = "f" if floats else ""
        for result in (SLOT, ACC):
            name = f"{prefix}global.get.{KIND_LETTERS[result]}"
            yield _plain(name, "dst:dst@8 global:u32@12", _global_get(result, floats), "global.get")
    yield _plain("global.set.s", "value:slot@8 global:u32@12", _global_set(SLOT, False), "global.set")
    yield _plain("global.set.a", "global:u32@12", _global_set(ACC, False), "global.set")
    yield _plain("global.set.i", "global:u32@12 value:imm64@16", _global_set(IMM, False), "global.set")
    yield _plain("fglobal.set.a", "global:u32@12", _global_set(ACC, True), "global.set")
    yield _plain("ref.as_non_null", "value:slot@8", ref_as_non_null)
    yield _plain("call", "code:ptr@8 delta:u16@16", call)
    yield _plain("call_import", "function:u32@8 save:slot@12 delta:u16@16", call_import)
    yield Handler("call_indirect", CALL_INDIRECT, _call_indirect(_I32))
    yield _plain("call_ref", "function:slot@8 save:slot@10 delta:u16@16", call_ref)
    yield Handler("restore", RESTORE, restore)
    yield _plain("return_call", "code:ptr@8 source:slot@16 count:u16@18 record:slot@20", return_call)
    yield _plain("return_call_import", "import:u32@12" + _TAIL, return_call_import, "return_call_out")
    yield Handler("return_call_indirect", RETURN_CALL_INDIRECT, _return_call_indirect(_I32))
    yield _plain("return_call_ref", "function:slot@8" + _TAIL, return_call_ref, "return_call_out")
    yield _plain("shim", "count:u16@8", shim)
    for zeroed in (*range(MAX_UNROLLED_LOCALS + 1), None):
        yield Handler(f"enter.{'n' if zeroed is None else zeroed}", ENTER, _enter(zeroed))
    yield _plain("return", "record:slot@8", return_none)
    yield _plain("return.s", "record:slot@8 value:slot@10", _return_one(SLOT, False), "return")
    yield _plain("return.a", "record:slot@8", _return_one(ACC, False), "return")
    yield _plain("return.i", "record:slot@8 value:imm64@16", _return_one(IMM, False), "return")
    yield _plain("freturn.s", "record:slot@8 value:slot@10", _return_one(SLOT, True), "return")
    yield _plain("freturn.a", "record:slot@8", _return_one(ACC, True), "return")
    yield _plain("return_many", "record:slot@8 source:slot@10 count:u16@12", return_many, "return")
    yield _plain("leave", "", leave)
    yield _plain("fuel", "amount:u32@8", fuel)
    yield Handler("lazy", shape("lazy", "code:ptr@8 space:ptr@16 function:u32@24"), lazy, calls_runtime=True)
    yield Handler("host", shape("host", "function:ptr@8"), host, calls_runtime=True)
    yield _plain("host_returned", "", host_returned)
    yield _plain("host_threw", "", host_threw)
    for name in INTERNAL_CALLS:
        yield _internal_handler(name)
    yield _plain("native", "", native)
    yield _plain("cross_back", "", cross_back)
    yield Handler("call_indirect.w", CALL_INDIRECT, _call_indirect(_I64))
    yield Handler("return_call_indirect.w", RETURN_CALL_INDIRECT, _return_call_indirect(_I64))
