"""The handlers of exceptions and continuations.

Exceptions. A `try_table` or `try` puts a record of three words into its frame: the enclosing record (an offset to the
stack's base), where its catch clauses are, and the instance. The context holds the innermost record of the running
stack, so throwing needs no search through frames: it takes the record and goes there. Code that leaves the block
removes its record. When a stack has no record left, the exception ends the continuation and is thrown in its parent.

Continuations. A stack is just memory. A switch exchanges the context's fields about it, ip, frame and instance.
`resume` makes the running stack the parent of the continuation's last stack; `suspend` walks the parents for one
whose `resume` has a clause for the tag, which becomes the running stack. Nothing is allocated and no C code runs.

A contref is an address and a revision. Every consumer changes the revision (`consume`), so a second use is detected.

A `resume` ends with its clauses, in order (`CLAUSE`).
"""

from __future__ import annotations

from collections.abc import Iterator

from wasmloom.contract import traps
from wasmloom.contract.layout import (
    BOUND_SHIFT,
    CONT_ACTIVE,
    CONT_ENDED,
    CONT_FRESH,
    CONT_SUSPENDED,
    size,
)
from wasmloom.interpreter.control_handlers import _is_set, _move_slots, _return_ip, _word
from wasmloom.interpreter.emitter import POISON_ACC, POISON_FACC, HandlerBuilder
from wasmloom.interpreter.isa import Handler, shape
from wasmloom.semantics.continuations import check_target, check_throwing, consume
from wasmloom.semantics.llvm import Value
from wasmloom.semantics.registry import OPERATIONS

#: A clause of `resume`: offset of the tag in the instance, one of the kinds below, slot where the label's values go,
#: and where it leads, from the beginning of the `resume`.
CLAUSE = shape("clause", "tag:u32@0 kind:u16@4 values:slot@6 target:target@8")
CLAUSE_SUSPEND, CLAUSE_SWITCH = 0, 1
#: `resume` and its kin. `exception` is the slot that `resume_throw_ref` takes it from; at `next` it goes on.
RESUME = shape(
    "resume",
    "cont:slot@8 values:slot@10 count:u16@12 clause_count:u16@14 results:u16@16 exception:slot@18 next:target@20"
    " clauses:array@24",
)
#: Traced instructions. The number of the traced variant follows that of the plain one.
TRACED = ("cont.bind", "resume", "resume_throw", "resume_throw_ref", "suspend", "switch", "cont_return")
#: Words of a `try_table`'s record.
TRY_RECORD_SLOTS = 3


def _cont(b: HandlerBuilder, cont: Value, field: str, type: str = "ptr") -> Value:
    return b.struct_field(cont, "WlCont", field, type)


def _set_cont(b: HandlerBuilder, cont: Value, field: str, value: Value) -> None:
    b.set_struct_field(cont, "WlCont", field, value)


def _current(b: HandlerBuilder) -> Value:
    return b.struct_field(b.ctx, "WlContext", "current")


def _pointer(b: HandlerBuilder, word: Value) -> Value:
    return b.assign(f"inttoptr i64 {word.text} to ptr", "ptr")


def _is_same(b: HandlerBuilder, x: Value, y: Value) -> Value:
    return b.assign(f"icmp eq ptr {x.text}, {y.text}", "i1")


def _slot_at(b: HandlerBuilder, frame: Value, index: Value) -> Value:
    return b.assign(f"getelementptr i64, ptr {frame.text}, i64 {index.text}", "ptr")


# --- exceptions ---


def try_enter(b: HandlerBuilder) -> None:
    """Put the record of a `try_table` into the frame and go to its body; the catch clauses follow this instruction."""
    record = b.slot("record")
    b.store(b.struct_field(b.ctx, "WlContext", "catch_top", "i64"), record, align=8)
    b.store(b.as_acc(b.following()), b.at(record, 8), align=8)
    b.store(b.as_acc(b.inst), b.at(record, 16), align=8)
    base = b.as_acc(b.struct_field(b.ctx, "WlContext", "stack_base"))
    b.set_struct_field(b.ctx, "WlContext", "catch_top", b.binary("sub", b.as_acc(record), base))
    b.jump(b.target("body"))


def try_leave(b: HandlerBuilder) -> None:
    """Remove a record, and those inside it."""
    b.set_struct_field(b.ctx, "WlContext", "catch_top", _word(b, b.slot("record")))
    b.next()


def throw(b: HandlerBuilder) -> None:
    """Throw the exception that `new_exception` has just made."""
    b.tail_call("@wl_throw", acc=b.struct_field(b.ctx, "WlContext", "exception", "i64"))


def throw_ref(b: HandlerBuilder) -> None:
    """Throw an exception that is on the operand stack."""
    exception = OPERATIONS["throw_ref"].define(b, _word(b, b.slot("exception")))
    b.tail_call("@wl_throw", acc=exception)


def do_throw(b: HandlerBuilder) -> None:
    """Throw the exception in the accumulator: go to the innermost record's clauses, or end the stack that has none."""
    top = b.struct_field(b.ctx, "WlContext", "catch_top", "i64")
    caught, uncaught = b.fresh("caught"), b.fresh("uncaught")
    b.branch(b.compare("ne", top, b.const("i64", 0)), caught, uncaught)
    b.label(caught)
    record = b.at(b.struct_field(b.ctx, "WlContext", "stack_base"), top)
    b.set_struct_field(b.ctx, "WlContext", "catch_top", _word(b, record))
    instance = b.load("ptr", b.at(record, 16), align=8)
    # The first clause instruction, `catch_enter`, knows the record's slot and so the frame.
    b.jump(b.load("ptr", b.at(record, 8), align=8), fp=record, inst=instance, mem=b.memory0(instance))
    b.label(uncaught)
    current = _current(b)
    parent = _cont(b, current, "parent")
    inner, bottom = b.fresh("inner"), b.fresh("bottom")
    b.branch(_is_set(b, parent), inner, bottom)
    b.label(bottom)
    # At the bottom of an entry, compiled code may wait for what is running.
    control = _cont(b, current, "control")
    mixed, crossing, end = b.fresh("mixed"), b.fresh("crossing"), b.fresh("end")
    b.branch(_is_set(b, control), mixed, end)
    b.label(mixed)
    native_top = b.struct_field(b.ctx, "WlContext", "guest_sp")
    b.branch(_is_same(b, native_top, control), end, crossing)
    b.label(crossing)
    b.set_struct_field(b.ctx, "WlContext", "pending", b.acc)
    b.tail_call("@wl.cross_back")
    b.label(end)
    b.set_struct_field(b.ctx, "WlContext", "exception", b.acc)
    b.tail_call("@wl_trap", acc=Value(str(traps.UNCAUGHT_EXCEPTION), "i64"))
    b.label(inner)
    _note_memory(b, current)
    b.fp = _switch_to(b, parent)
    b.inst = _cont(b, parent, "instance")
    b.ip = b.at(_cont(b, parent, "ip"), -1)
    b.trap_if_code(b.runtime_call("cont_done", b.ctx, current))
    b.tail_call("@wl_throw", mem=b.memory0(b.inst))


def catch_enter(b: HandlerBuilder) -> None:
    """Begin the clauses. The frame register holds the record's address."""
    down = b.binary("sub", b.const("i64", 0), b.number("record"))
    b.next(fp=_slot_at(b, b.fp, down))


def _exception(b: HandlerBuilder) -> Value:
    return _return_ip(b)  # a pointer in the accumulator


def _deliver(b: HandlerBuilder, exception: Value, with_values: bool) -> None:
    """Put the exception's values, and the exception itself where a clause asks for it, into slots.

    Slot 0, which no clause has anything in, stands for none.
    """
    if with_values:
        _move_slots(b, b.slot("values"), b.at(exception, size("WlException")), b.number("count"))
    ref, done = b.fresh("ref"), b.fresh("done")
    b.branch(b.compare("ne", b.number("ref"), b.const("i64", 0)), ref, done)
    b.label(ref)
    b.store(b.acc, b.slot("ref"), align=8)
    b.emit(f"br label {done}")
    b.label(done)
    b.jump(b.target())


def catch(b: HandlerBuilder) -> None:
    """A clause for one tag: deliver the exception's values, or go on to the next clause."""
    exception = _exception(b)
    tag = b.pointer(b.inst, b.number("tag"))
    matches, other = b.fresh("matches"), b.fresh("other")
    b.branch(_is_same(b, tag, b.struct_field(exception, "WlException", "tag")), matches, other)
    b.label(matches)
    _deliver(b, exception, True)
    b.label(other)
    b.next()


def catch_all(b: HandlerBuilder) -> None:
    """A clause for every exception."""
    _deliver(b, _exception(b), False)


def rethrow(b: HandlerBuilder) -> None:
    """No clause fits: the exception goes on to the next record."""
    b.tail_call("@wl_throw")


# --- switching stacks ---


def _save(b: HandlerBuilder, cont: Value, ip: Value) -> None:
    """Note where the running stack goes on, and move the context's fields about it to the continuation."""
    base = b.struct_field(b.ctx, "WlContext", "stack_base")
    _set_cont(b, cont, "ip", ip)
    _set_cont(b, cont, "fp", b.binary("sub", b.as_acc(b.fp), b.as_acc(base)))
    _set_cont(b, cont, "instance", b.inst)
    _set_cont(b, cont, "stack_base", base)
    _set_cont(b, cont, "stack_end", b.struct_field(b.ctx, "WlContext", "stack_end"))
    _set_cont(b, cont, "catch_top", b.struct_field(b.ctx, "WlContext", "catch_top", "i64"))


def _switch_to(b: HandlerBuilder, cont: Value) -> Value:
    """Make a stack the running one: set all per-stack state of the context. Returns its frame.

    An interruption that arrives while the limit is replaced is still noticed at the next loop.
    """
    base = _cont(b, cont, "stack_base")
    end = _cont(b, cont, "stack_end")
    b.set_struct_field(b.ctx, "WlContext", "stack_base", base)
    b.set_struct_field(b.ctx, "WlContext", "stack_end", end)
    b.set_struct_field(b.ctx, "WlContext", "stack_limit", end)
    b.set_struct_field(b.ctx, "WlContext", "catch_top", _cont(b, cont, "catch_top", "i64"))
    b.set_struct_field(b.ctx, "WlContext", "current", cont)
    return b.at(base, _cont(b, cont, "fp", "i64"))


def _reference(b: HandlerBuilder, cont: Value) -> Value:
    """The only contref that counts."""
    return _cont(b, cont, "reference", "i64")


def _is_worn(b: HandlerBuilder, cont: Value) -> Value:
    """Whether a continuation's revisions have run out."""
    return b.compare("eq", _reference(b, cont), b.as_acc(cont))


def _renew_if_worn(b: HandlerBuilder, cont: Value) -> Value:
    """The continuation; if its revisions have run out, a fresh one that has taken its place."""
    entry, worn, renewed, merge = (b.fresh(name) for name in ("entry", "worn", "renewed", "merge"))
    b.emit(f"br label {entry}")
    b.label(entry)
    b.branch(_is_worn(b, cont), worn, merge, unlikely=True)
    b.label(worn)
    b.trap_if_code(b.runtime_call("cont_renew", b.ctx, cont))
    fresh = b.struct_field(b.ctx, "WlContext", "exception")
    b.emit(f"br label {renewed}")
    b.label(renewed)
    b.emit(f"br label {merge}")
    b.label(merge)
    return b.assign(f"phi ptr [ {cont.text}, {entry} ], [ {fresh.text}, {renewed} ]", "ptr")


def _note_memory(b: HandlerBuilder, cont: Value) -> None:
    """Before the running stack ends, note where its memory is: the context knows."""
    for field in ("stack_base", "stack_end"):
        _set_cont(b, cont, field, b.struct_field(b.ctx, "WlContext", field))


def _release(b: HandlerBuilder, cont: Value, **state: Value) -> None:
    """Release an ended continuation's object for reuse; another stack runs already. Ends the handler."""
    own, grown = b.fresh("own"), b.fresh("grown")
    inline = _is_same(b, _cont(b, cont, "stack_base"), b.at(cont, size("WlCont")))
    young = b.is_young(cont)
    b.branch(b.both(inline, young), own, grown)
    b.label(own)
    _set_cont(b, cont, "state", b.const("i64", CONT_ENDED))
    _set_cont(b, cont, "next", b.struct_field(b.ctx, "WlContext", "free_conts"))
    b.set_struct_field(b.ctx, "WlContext", "free_conts", cont)
    b.jump(state["ip"], **{name: value for name, value in state.items() if name != "ip"})
    b.label(grown)
    # Its memory has moved to the heap, or its revisions have run out.
    b.tail_call("@wl_release_slow", **{**state, "acc": b.as_acc(cont)})


def release_slow(b: HandlerBuilder) -> None:
    """Give the continuation in the accumulator back to the runtime, and go on."""
    b.trap_if_code(b.runtime_call("cont_done", b.ctx, _return_ip(b)))
    b.jump(b.ip)


def renew_slow(b: HandlerBuilder) -> None:
    """The running continuation's revisions have run out: move it to a fresh object, and run the instruction again.

    Its memory moves as well when it is still the first one.
    """
    base = b.struct_field(b.ctx, "WlContext", "stack_base")
    frame = b.binary("sub", b.as_acc(b.fp), b.as_acc(base))
    b.trap_if_code(b.runtime_call("cont_renew", b.ctx, _current(b)))
    b.jump(b.ip, fp=b.at(b.struct_field(b.ctx, "WlContext", "stack_base"), frame))


def _is_fresh(b: HandlerBuilder, state: Value) -> Value:
    """Whether a continuation, by its state, hasn't begun."""
    kind = b.binary("and", state, b.const("i64", (1 << BOUND_SHIFT) - 1))
    return b.compare("eq", kind, b.const("i64", CONT_FRESH))


def _bound(b: HandlerBuilder, state: Value) -> Value:
    """The number of values bound to a continuation in this state."""
    return b.binary("lshr", state, b.const("i64", BOUND_SHIFT))


def _go_on(b: HandlerBuilder, cont: Value, values: Value, count: Value) -> None:
    """Run a continuation on some values, which lie at `values` on another stack: begin it, or continue it.

    Ends the handler. The values follow those that `cont.bind` has put there.
    """
    fresh, suspended = b.fresh("fresh"), b.fresh("suspended")
    state = _cont(b, cont, "state", "i64")
    frame = _switch_to(b, cont)
    place = b.binary("add", _cont(b, cont, "values", "i64"), _bound(b, state))
    target = _slot_at(b, frame, place)
    _move_slots(b, target, values, count)
    _set_cont(b, cont, "state", b.const("i64", CONT_ACTIVE))
    b.branch(_is_fresh(b, state), fresh, suspended)
    b.label(fresh)
    function = _cont(b, cont, "function")
    instance = b.struct_field(function, "WlFunction", "instance")
    some = b.select(_is_set(b, instance), instance, Value("@wl_no_instance", "ptr"))
    cell = b.struct_field(function, "WlFunction", "code_cell")
    back = b.as_acc(Value("getelementptr (i8, ptr @wl_cont_return_code, i64 8)", "ptr"))
    b.jump(b.load("ptr", cell, align=8), fp=frame, inst=some, mem=b.memory0(some), acc=back, facc=POISON_FACC)
    b.label(suspended)
    instance = _cont(b, cont, "instance")
    code = _cont(b, cont, "ip")
    b.jump(code, fp=frame, inst=instance, mem=b.memory0(instance), acc=POISON_ACC, facc=POISON_FACC)


def _attach(b: HandlerBuilder, cont: Value, parent: Value, resume: Value) -> None:
    """Link the chain that begins with `cont` to a parent, whose `resume` instruction is given."""
    noted = _cont(b, cont, "last")
    last = b.select(_is_set(b, noted), noted, cont)
    _set_cont(b, last, "parent", parent)
    _set_cont(b, last, "resume", resume)


def resume(b: HandlerBuilder) -> None:
    """Run a continuation, with this stack as its parent."""
    cont = consume(b, _word(b, b.slot("cont")))
    current = _current(b)
    _save(b, current, b.target("next"))
    _attach(b, cont, current, b.ip)
    _go_on(b, cont, b.slot("values"), b.number("count"))


def _resume_throwing(b: HandlerBuilder, cont: Value) -> None:
    """Resume a continuation with the exception in ctx.exception. Ends the handler."""
    current = _current(b)
    _save(b, current, b.target("next"))
    _attach(b, cont, current, b.ip)
    frame = _switch_to(b, cont)
    exception = b.struct_field(b.ctx, "WlContext", "exception", "i64")
    # A fresh continuation has no record: the exception ends it and arrives in the parent.
    fresh, suspended = b.fresh("fresh"), b.fresh("suspended")
    state = _cont(b, cont, "state", "i64")
    _set_cont(b, cont, "state", b.const("i64", CONT_ACTIVE))
    b.branch(_is_fresh(b, state), fresh, suspended)
    b.label(fresh)
    b.tail_call("@wl_throw", acc=exception, fp=frame)
    b.label(suspended)
    instance = _cont(b, cont, "instance")
    # The exception is thrown at the suspended instruction: a backtrace finds it there.
    back = b.at(_cont(b, cont, "ip"), -1)
    b.tail_call("@wl_throw", acc=exception, fp=frame, inst=instance, mem=b.memory0(instance), ip=back)


def resume_throw(b: HandlerBuilder) -> None:
    """Resume with the exception that `new_exception` has just made."""
    _resume_throwing(b, consume(b, _word(b, b.slot("cont"))))


def resume_throw_ref(b: HandlerBuilder) -> None:
    """Resume with an exception that is on the operand stack."""
    exception, word = _word(b, b.slot("exception")), _word(b, b.slot("cont"))
    check_throwing(b, word, exception)
    cont = consume(b, word)
    b.set_struct_field(b.ctx, "WlContext", "exception", exception)
    _resume_throwing(b, cont)


def cont_return(b: HandlerBuilder) -> None:
    """Return from a continuation's function. Its results become those of the parent's `resume`."""
    current = _current(b)
    parent = _cont(b, current, "parent")
    instruction = _cont(b, current, "resume")
    results = b.fp
    _note_memory(b, current)
    frame = _switch_to(b, parent)
    base = b.number("values", RESUME, instruction)
    count = b.number("results", RESUME, instruction)
    _move_slots(b, _slot_at(b, frame, base), results, count)
    instance = _cont(b, parent, "instance")
    code = _cont(b, parent, "ip")
    _release(b, current, ip=code, fp=frame, inst=instance, mem=b.memory0(instance))


def cont_bind(b: HandlerBuilder) -> None:
    """Put values where the continuation expects its first ones. With no values it is consumed all the same."""
    cont = consume(b, _word(b, b.slot("cont")))
    count = b.number("count")
    frame = b.at(_cont(b, cont, "stack_base"), _cont(b, cont, "fp", "i64"))
    state = _cont(b, cont, "state", "i64")
    place = b.binary("add", _cont(b, cont, "values", "i64"), _bound(b, state))
    _move_slots(b, _slot_at(b, frame, place), b.slot("values"), count)
    _set_cont(b, cont, "state", b.binary("add", state, b.binary("shl", count, b.const("i64", BOUND_SHIFT))))
    b.store(_reference(b, _renew_if_worn(b, cont)), b.slot("rebound"), align=8)
    b.next(mem=b.memory0(b.inst), acc=POISON_ACC, facc=POISON_FACC)


def _find_handler(b: HandlerBuilder, tag: Value, kind: int) -> tuple[Value, Value, Value]:
    """Search the parents for the first `resume` with a clause for the tag: (clause, child, parent).

    A clause of the other kind is skipped. Traps when an entry from the host comes first.
    """
    entry, walk, scan, test, following, up, found = (
        b.fresh(name) for name in ("entry", "walk", "scan", "test", "following", "up", "found")
    )
    current = _current(b)
    b.emit(f"br label {entry}")
    b.label(entry)
    b.emit(f"br label {walk}")
    b.label(walk)
    child = Value(b.fresh("child"), "ptr")
    parent_name = b.fresh("parent")
    parent_up = b.fresh("next")
    b.emit(f"{child.text} = phi ptr [ {current.text}, {entry} ], [ {parent_up}, {up} ]")
    loaded = _cont(b, child, "parent")
    b.emit(f"{parent_name} = getelementptr i8, ptr {loaded.text}, i64 0")
    parent = Value(parent_name, "ptr")
    bottom, inside = b.fresh("bottom"), b.fresh("inside")
    b.branch(_is_set(b, parent), inside, bottom)
    b.label(bottom)
    b.tail_call("@wl_trap", acc=Value(str(traps.UNHANDLED_TAG), "i64"))
    b.label(inside)
    instruction = _cont(b, child, "resume")
    instance = _cont(b, parent, "instance")
    count = b.number("clause_count", RESUME, instruction)
    first = b.field_at("clauses", RESUME, instruction)
    end = b.at(first, b.binary("mul", count, b.const("i64", CLAUSE.size)))
    b.emit(f"br label {scan}")
    b.label(scan)
    clause = Value(b.fresh("clause"), "ptr")
    clause_next = b.fresh("clause")
    b.emit(f"{clause.text} = phi ptr [ {first.text}, {inside} ], [ {clause_next}, {following} ]")
    b.branch(_is_same(b, clause, end), up, test)
    b.label(test)
    offset = b.number("tag", CLAUSE, clause)
    same_tag = _is_same(b, b.pointer(instance, offset), tag)
    clause_kind = b.narrow("kind", CLAUSE, clause)
    same_kind = b.assign(f"icmp eq i16 {clause_kind.text}, {kind}", "i1")
    b.branch(b.both(same_tag, same_kind), found, following)
    b.label(following)
    b.emit(f"{clause_next} = getelementptr i8, ptr {clause.text}, i64 {CLAUSE.size}")
    b.emit(f"br label {scan}")
    b.label(up)
    b.emit(f"{parent_up} = getelementptr i8, ptr {parent.text}, i64 0")
    b.emit(f"br label {walk}")
    b.label(found)
    return clause, child, parent


def _suspend_running(b: HandlerBuilder, child: Value, ip: Value, values: Value) -> Value:
    """Suspend the chain from the running stack to `child`; returns the chain's continuation.

    It goes on at `ip`, with the values of the next `resume` in the slots from `values` on.
    """
    running = _current(b)
    _save(b, running, ip)
    _set_cont(b, running, "state", b.const("i64", CONT_SUSPENDED))
    _set_cont(b, running, "values", values)
    _set_cont(b, running, "last", child)
    _set_cont(b, child, "parent", Value("null", "ptr"))
    return running


def _renew_running_if_worn(b: HandlerBuilder) -> None:
    worn, usable = b.fresh("worn"), b.fresh("usable")
    b.branch(_is_worn(b, _current(b)), worn, usable, unlikely=True)
    b.label(worn)
    b.tail_call("@wl_renew_slow")
    b.label(usable)


def suspend(b: HandlerBuilder) -> None:
    """Suspend the running chain up to the handler, which gets the values and a reference to the chain."""
    _renew_running_if_worn(b)
    tag = b.pointer(b.inst, b.number("tag"))
    clause, child, parent = _find_handler(b, tag, CLAUSE_SUSPEND)
    instruction = _cont(b, child, "resume")
    arguments, count = b.slot("values"), b.number("count")
    running = _suspend_running(b, child, b.following(), b.number("values"))
    frame = _switch_to(b, parent)
    target = _slot_at(b, frame, b.number("values", CLAUSE, clause))
    _move_slots(b, target, arguments, count)
    b.store(_reference(b, running), _slot_at(b, target, count), align=8)
    jump = b.number("target", CLAUSE, clause)
    instance = _cont(b, parent, "instance")
    b.jump(
        b.at(instruction, jump),
        fp=frame,
        inst=instance,
        mem=b.memory0(instance),
        acc=POISON_ACC,
        facc=POISON_FACC,
    )


def switch(b: HandlerBuilder) -> None:
    """Suspend the running chain up to the handler, and run another continuation in its place."""
    _renew_running_if_worn(b)
    tag = b.pointer(b.inst, b.number("tag"))
    word = _word(b, b.slot("cont"))
    check_target(b, word)
    _, child, parent = _find_handler(b, tag, CLAUSE_SWITCH)
    target = consume(b, word)
    instruction = _cont(b, child, "resume")
    arguments, count = b.slot("values"), b.number("count")
    running = _suspend_running(b, child, b.following(), b.number("values"))
    # The reference to the suspended chain goes to the slot behind the other values.
    b.store(_reference(b, running), _slot_at(b, arguments, count), align=8)
    _attach(b, target, parent, instruction)
    _go_on(b, target, arguments, b.binary("add", count, b.const("i64", 1)))


def stack_handlers() -> Iterator[Handler]:
    """All handlers of this file, in a fixed order."""
    for handler in _plain_handlers():
        yield handler
        if handler.name in TRACED:
            yield traced(handler)


def _plain_handlers() -> Iterator[Handler]:
    yield Handler("try_enter", shape("try_enter", "record:slot@8 body:target@12"), try_enter)
    yield Handler("try_leave", shape("try_leave", "record:slot@8"), try_leave)
    yield Handler("throw", shape("throw"), throw)
    yield Handler("throw_ref", shape("throw_ref", "exception:slot@8"), throw_ref)
    yield Handler("catch_enter", shape("catch_enter", "record:slot@8"), catch_enter)
    fields = "target:target@12 values:slot@16 count:u16@18 ref:slot@20"
    yield Handler("catch", shape("catch", "tag:u32@8 " + fields), catch)
    yield Handler("catch_all", shape("catch", fields), catch_all)
    yield Handler("rethrow", shape("rethrow"), rethrow)
    fields = "cont:slot@8 values:slot@10 count:u16@12 rebound:slot@14"
    yield Handler("cont.bind", shape("cont.bind", fields), cont_bind, calls_runtime=True)
    yield Handler("resume", RESUME, resume)
    yield Handler("resume_throw", RESUME, resume_throw)
    yield Handler("resume_throw_ref", RESUME, resume_throw_ref)
    yield Handler("suspend", shape("suspend", "tag:u32@8 values:slot@12 count:u16@14"), suspend)
    yield Handler("switch", shape("switch", "tag:u32@8 values:slot@12 count:u16@14 cont:slot@16"), switch)
    yield Handler("cont_return", shape("cont_return"), cont_return)


def traced(handler: Handler) -> Handler:
    """The variant of an instruction that tells the runtime what it is about to do (``WASMLOOM_LOG=stacks``)."""

    def body(b: HandlerBuilder) -> None:
        b.trap_if_code(b.runtime_call("trace", b.ctx, b.inst, b.fp, b.ip))
        handler.body(b)

    return Handler(f"{handler.name}.traced", handler.shape, body, calls_runtime=True)


#: Functions with a handler's signature that aren't instructions: name → body.
OUTLINED = {"wl_throw": do_throw, "wl_release_slow": release_slow, "wl_renew_slow": renew_slow}
