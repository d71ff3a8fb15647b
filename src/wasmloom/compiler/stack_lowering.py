"""Lowers exceptions and continuations: `resume`, `suspend` and `switch`, from the pieces in `switching`.

A `resume` describes its clauses in constant data, which the resumed continuation's `resume` field points to: their
number, then for each the offset of its tag in the instance and its kind.
"""

from __future__ import annotations

from wasmloom.compiler.abi import returned_type
from wasmloom.compiler.builder import FunctionBuilder
from wasmloom.compiler.control_lowering import go_on_behind, match_tag, throw_on
from wasmloom.compiler.loops import Instr
from wasmloom.compiler.lowering import FunctionLowering, lowers, operands
from wasmloom.compiler.switching import (
    NOTHING,
    NULL,
    Link,
    cont_field,
    count_slots,
    count_word,
    current_cont,
    find_handler,
    is_same,
    limit_of,
    pass_along,
    pointer_word,
    prepare,
    renewed_running,
    set_cont_field,
    suspend_running,
    switch_by_call,
    switch_stacks,
    take_first,
)
from wasmloom.contract.layout import BOUND_SHIFT, CONT_BYTES, CONT_FRESH, INLINE_WORDS, ON_LABEL, ON_SWITCH, SLOT_BYTES
from wasmloom.semantics.continuations import check_reference, check_target, check_throwing, consume
from wasmloom.semantics.llvm import Value
from wasmloom.semantics.registry import OPERATIONS
from wasmloom.spec.instructions import BY_MNEMONIC
from wasmloom.spec.types import CONCRETE, HEAP_SHIFT

_CATCH = BY_MNEMONIC["catch"].index

# --- exceptions ---


def _new_exception(f: FunctionLowering, tag: int) -> Value:
    """Make an exception of the values on top of the stack; returns its word."""
    b = f.b
    kinds = f.facts.tag_signature(tag).params
    values = f.pop_many(len(kinds))
    count = f.facts.tag_signature(tag).param_places[-1]
    words = b.words(max(count, 1))
    b.set_values(words, values)
    b.trap_if_code(b.runtime("new_exception", b.inst, words, operands(f, f.facts.place("tag", tag), count)))
    return b.struct_field(b.ctx, "WlContext", "exception", "i64")


def _throw(f: FunctionLowering, exception: Value) -> None:
    b = f.b
    b.set_struct_field(b.ctx, "WlContext", "pending", exception)
    f.stop_fuel()
    b.jump(f.landing_name())
    f.dead = True


@lowers("throw")
def _throw_tag(f: FunctionLowering, i: Instr) -> None:
    _throw(f, _new_exception(f, i.a))


@lowers("throw_ref")
def _throw_ref(f: FunctionLowering, i: Instr) -> None:
    _throw(f, OPERATIONS["throw_ref"].define(f.b, f.pop()))


# --- the old instructions: in a clause the exception lies on the stack, below the values that it carries ---


@lowers("try")
def _try(f: FunctionLowering, i: Instr) -> None:
    f.stop_fuel()
    label = f.open(i.a, "end")
    label.landing = f.new_landing([], label.height)
    label.has_parts = True
    f._start_fuel()


@lowers("catch", "catch_all")
def _clause(f: FunctionLowering, i: Instr) -> None:
    """Exceptions that aren't caught yet come to the first clause from anywhere in the body, then from its test."""
    b = f.b
    label = f.labels[-1]
    if not f.dead:
        f.leave(label, f.top(len(label.kinds)))
    f.stop_fuel()
    f.dead = True
    landing, label.landing = label.landing, None
    f.landing = label.outer
    if landing is not None and landing.used:
        label.uncaught = landing.name
    if label.uncaught is None:  # nothing throws in the body
        return
    f.recall(label.uncaught, label)
    b.memo = b.memo.copy()  # other clauses don't come through this one
    if landing is not None:
        label.exception = b.struct_field(b.ctx, "WlContext", "pending", "i64")
    if label.exception is None:  # the first clause has set it
        raise ValueError("a clause without exceptions")
    values: list[Value] = []
    label.uncaught = None
    if i.row == _CATCH:
        exception = b.assign(f"inttoptr i64 {label.exception.text} to ptr", "ptr")
        label.uncaught, values = match_tag(f, exception, i.a)
    b.set_struct_field(b.ctx, "WlContext", "pending", b.const("i64", 0))
    del f.stack[label.height :]
    f.stack += [label.exception, *values]
    f.dead = False
    f._start_fuel()


@lowers("rethrow")
def _rethrow(f: FunctionLowering, i: Instr) -> None:
    _throw(f, f.operand(f.label(i.a).height))


@lowers("delegate")
def _delegate(f: FunctionLowering, i: Instr) -> None:
    """The end of a `try` whose exceptions are thrown where a label's block is, or in its body if that catches."""
    label = f.labels.pop()
    landing = label.landing
    if landing is None:  # validation has seen to it
        raise ValueError("delegate behind catch")
    if not f.dead:
        f.leave(label, f.top(len(label.kinds)))
    f.stop_fuel()
    f.landing = label.outer
    if landing.used:
        goal = f.label(i.a)
        f.b.label(landing.name)
        throw_on(f, goal.landing or goal.outer)
    go_on_behind(f, label, i, True)


# --- making continuations ---


@lowers("cont.new")
def _cont_new(f: FunctionLowering, i: Instr) -> None:
    """A continuation from the pool, where all have just their own block's memory, or from the runtime."""
    b = f.b
    type = f.facts.cont_signature(i.a)
    room = max(type.param_places[-1], type.result_places[-1])
    function = f.pop()
    if not f.options.inline_switching or room > INLINE_WORDS:
        f.push(_cont_new_call(f, function, room))
        return
    quick, slow, done = b.fresh("quick"), b.fresh("slow"), b.fresh("made")
    ctx = b.ctx
    cont = b.struct_field(ctx, "WlContext", "free_conts")
    b.branch(b.either(is_same(b, cont, NULL), b.compare("eq", function, b.const("i64", 0))), slow, quick)
    b.label(quick)
    take_first(b, "free_conts", cont_field(b, cont, "next"))
    counted = b.struct_field(ctx, "WlContext", "allocated", "i64")
    b.set_struct_field(ctx, "WlContext", "allocated", b.binary("add", counted, b.const("i64", CONT_BYTES)))
    for field in ("next", "parent", "last"):
        set_cont_field(b, cont, field, NULL)
    for field, number in (("state", CONT_FRESH), ("fp", 0), ("values", 0), ("catch_top", 0)):
        set_cont_field(b, cont, field, b.const("i64", number))
    set_cont_field(b, cont, "function", function)
    made = cont_field(b, cont, "reference", "i64")
    b.jump(done)
    b.label(slow)
    called = _cont_new_call(f, function, room)
    from_slow = b.block
    b.jump(done)
    b.label(done)
    f.push(b.assign(f"phi i64 [ {made.text}, {quick} ], [ {called.text}, {from_slow} ]", "i64"))


def _cont_new_call(f: FunctionLowering, function: Value, room: int) -> Value:
    b = f.b
    words = b.words(4)
    b.set_word(words, 1, function)
    b.trap_if_code(b.runtime("cont_new", b.inst, words, operands(f, room, 0)))
    return b.word_at(words, 0)


@lowers("cont.bind")
def _cont_bind(f: FunctionLowering, i: Instr) -> None:
    """Values wait in the continuation's own block until it is resumed."""
    b = f.b
    whole, rest = f.facts.cont_signature(i.a), f.facts.cont_signature(i.b)
    count = whole.param_places[-1] - rest.param_places[-1]
    word = f.pop()
    values = f.pop_many(len(whole.params) - len(rest.params))
    cont, following = check_reference(b, word)
    state = cont_field(b, cont, "state", "i64")
    bound = b.binary("lshr", state, b.const("i64", BOUND_SHIFT))
    place = b.assign(f"getelementptr i64, ptr {cont_field(b, cont, 'stack_base').text}, i64 {bound.text}", "ptr")
    end = cont_field(b, cont, "stack_end")
    fits = b.assign(f"icmp ule ptr {b.at(place, SLOT_BYTES * count).text}, {end.text}", "i1")
    lasts = b.compare("ne", following, pointer_word(b, cont))
    quick, slow, done = b.fresh("quick"), b.fresh("slow"), b.fresh("bound")
    b.branch(b.both(fits, lasts) if f.options.inline_switching else b.const("i1", 0), quick, slow)
    b.label(quick)
    b.set_values(place, values)
    set_cont_field(b, cont, "state", b.binary("add", state, b.const("i64", count << BOUND_SHIFT)))
    last = cont_field(b, cont, "last")
    set_cont_field(b, cont, "last", b.select(is_same(b, last, cont), NULL, last))
    set_cont_field(b, cont, "reference", following)
    b.jump(done)
    b.label(slow)
    words = b.words(max(count + 1, 4))
    b.set_word(words, 0, word)
    b.set_values(words, values, 1)
    b.trap_if_code(b.runtime("native_bind", words, count_word(count)))
    moved, from_slow = b.word_at(words, 0), b.block
    b.jump(done)
    b.label(done)
    f.push(b.assign(f"phi i64 [ {following.text}, {quick} ], [ {moved.text}, {from_slow} ]", "i64"))


# --- switching ---


def _describe(f: FunctionLowering, clauses: list[tuple[int, int, int]]) -> Value:
    """Constant data that describes the clauses of a `resume`."""
    entries = [(_tag_at(f, tag), kind) for kind, tag, _ in clauses]
    name = "@wl.clauses" + "".join(f".{at}.{kind}" for at, kind in entries)
    items = ["i64 " + str(len(entries)), *(f"i32 {at}, i32 {kind}" for at, kind in entries)]
    types = ", ".join(["i64", *["i32, i32"] * (len(items) - 1)])
    data = ", ".join(items)
    f.globals.add(f"{name} = private unnamed_addr constant {{ {types} }} {{ {data} }}, align 8")
    return Value(name, "ptr")


def _tag_at(f: FunctionLowering, tag: int) -> int:
    """The offset of a tag's address in the instance."""
    return f.facts.place("tag", tag)


def _first_tag(f: FunctionLowering, clauses: list[tuple[int, int, int]]) -> Value:
    """The `WlCont.first_tag` for the clauses of a `resume`."""
    if not clauses:
        return NULL
    kind, tag, _ = clauses[0]
    return f.b.at(f.b.constant_pointer(f.b.inst, _tag_at(f, tag)), kind)


def _take(b: FunctionBuilder, kinds: tuple[str, ...], first: Value) -> list[Value]:
    """The values that came along with a switch."""
    if not kinds:
        return []
    return b.take_rest(kinds, b.from_word(first, returned_type(kinds[0])))


def _resume(f: FunctionLowering, i: Instr, word: Value, values: list[Value]) -> None:
    """Consume a reference, run the continuation, and branch by the reason with which it comes back."""
    b = f.b
    clauses: list[tuple[int, int, int]] = i.items or []  # type: ignore[assignment]
    described = _describe(f, clauses)
    if f.options.inline_switching:
        b.hold_context()
        cont = consume(b, word)
        link = Link(current_cont(b), described, b.inst, lambda: _first_tag(f, clauses))
        goal = prepare(b, cont, values, link)
        b.set_struct_field(b.ctx, "WlContext", "current", cont)
        reason, brought, reference = switch_stacks(b, goal.control, goal.limit, NOTHING, NOTHING, goal.first)
    else:
        words = b.words(4)
        first = pass_along(b, values)
        b.set_word(words, 0, word)
        b.set_word(words, 1, first)
        b.set_word(words, 2, pointer_word(b, b.inst))
        b.trap_if_code(b.runtime("libcall_resume", words, count_slots(values), described))
        reason, brought, reference = switch_by_call(f, words)
    reason, brought, reference = f.came_back([reason, brought, reference])
    returned = b.fresh("returned")
    labels = [(k, tag, f.label(depth)) for k, (kind, tag, depth) in enumerate(clauses) if kind == ON_LABEL]
    targets = [b.fresh("clause") for _ in labels]
    cases = " ".join(f"i64 {k + 1}, label {target}" for (k, _, _), target in zip(labels, targets, strict=True))
    b.emit(f"switch i64 {reason.text}, label {returned} [ {cases} ]")
    for (_, tag, label), target in zip(labels, targets, strict=True):
        b.label(target)
        f.leave(label, [*_take(b, f.facts.tag_signature(tag).params, brought), reference])
    b.label(returned)
    f.check_pending()
    f.stack += _take(b, f.facts.cont_signature(i.a).results, brought)


@lowers("resume")
def _resume_values(f: FunctionLowering, i: Instr) -> None:
    word = f.pop()
    _resume(f, i, word, f.pop_many(len(f.facts.cont_signature(i.a).params)))


def _resume_throwing(f: FunctionLowering, i: Instr, word: Value, exception: Value) -> None:
    """Resume with an exception, which the continuation finds pending when it goes on (or instead of beginning)."""
    b = f.b
    b.set_struct_field(b.ctx, "WlContext", "pending", exception)
    _resume(f, i, word, [])


@lowers("resume_throw")
def _resume_throw(f: FunctionLowering, i: Instr) -> None:
    word = f.pop()
    # As in the interpreter, the exception is made before the reference is checked.
    _resume_throwing(f, i, word, _new_exception(f, i.b))


@lowers("resume_throw_ref")
def _resume_throw_ref(f: FunctionLowering, i: Instr) -> None:
    b = f.b
    exception, word = f.pop_many(2)
    check_throwing(b, word, exception)
    _resume_throwing(f, i, word, exception)


@lowers("suspend")
def _suspend(f: FunctionLowering, i: Instr) -> None:
    b = f.b
    type = f.facts.tag_signature(i.a)
    values = f.pop_many(len(type.params))
    tag = f.b.constant_pointer(f.b.inst, _tag_at(f, i.a))
    if f.options.inline_switching:
        b.hold_context()
        running, reference = renewed_running(b)
        handler = find_handler(f, running, tag, ON_LABEL, cut=True)
        limit = limit_of(b, cont_field(b, handler.parent, "control"))
        first = pass_along(b, values)
        b.set_struct_field(b.ctx, "WlContext", "current", handler.parent)
        _, brought, _ = switch_stacks(b, handler.control, limit, handler.reason, reference, first)
    else:
        words = b.words(4)
        b.set_word(words, 0, pass_along(b, values))
        b.trap_if_code(b.runtime("libcall_suspend", words, tag))
        _, brought, _ = switch_by_call(f, words)
    f.check_pending()
    f.stack += _take(b, type.results, brought)


@lowers("switch")
def _switch(f: FunctionLowering, i: Instr) -> None:
    """Suspend the running chain up to the handler, and run another continuation in its place."""
    b = f.b
    facts = f.facts
    target_type = facts.function_types[facts.cont_functions[i.a]]
    # The last parameter is (ref null? $ct2), whose parameters this continuation will be resumed with.
    back = (target_type.params[-1] >> HEAP_SHIFT) - CONCRETE  # type: ignore[union-attr]
    word = f.pop()
    values = f.pop_many(len(facts.cont_signature(i.a).params) - 1)
    tag = f.b.constant_pointer(f.b.inst, _tag_at(f, i.b))
    if f.options.inline_switching:
        b.hold_context()
        running, reference = renewed_running(b)
        check_target(b, word)
        handler = find_handler(f, running, tag, ON_SWITCH, cut=False)
        cont = consume(b, word)
        child = handler.child
        clauses, resumer = cont_field(b, child, "resume"), cont_field(b, child, "resumer")
        link = Link(handler.parent, clauses, resumer, lambda: cont_field(b, child, "first_tag"))
        goal = prepare(b, cont, [*values, reference], link)
        # Not before this: without memory for its stack, the running chain ends from here to its bottom.
        suspend_running(b, running, child)
        b.set_struct_field(b.ctx, "WlContext", "current", cont)
        _, brought, _ = switch_stacks(b, handler.control, goal.limit, NOTHING, NOTHING, goal.first, goal.control)
    else:
        words = b.words(4)
        b.set_word(words, 0, word)
        b.set_word(words, 1, pass_along(b, values))
        b.trap_if_code(b.runtime("libcall_switch", words, tag, count_slots(values)))
        _, brought, _ = switch_by_call(f, words)
    f.check_pending()
    f.stack += _take(b, facts.cont_signature(back).params, brought)
