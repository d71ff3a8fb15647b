"""Lowers exceptions and continuations.

Switching. `resume`, `suspend` and `switch` are a few stores and one piece of inline assembly, which exchanges RSP, RBP
and RIP with those in a control context, and goes there. What goes along: RAX says why the other side goes on (0: the
continuation has returned; k: clause k - 1 of the `resume` has a suspension; for a continuation that goes on it means
nothing), RCX has the reference of a suspended continuation, RDX the first value, RDI the context; other values
wait in the context's `args`. All other registers are clobbered, so that LLVM saves what it needs on the stack and
nothing else is moved. With ``native_switching`` off the same steps are calls into the runtime.

A `resume` describes its clauses in constant data, which the resumed continuation's `resume` field points to: their
number, then for each the offset of its tag in the instance and its kind. Nearly always a suspension is for the first
clause of the nearest `resume`: its tag is in the resumed continuation itself (`first_tag`), and only when that is
another one the descriptions are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from wasmloom.compiler.builder import FunctionBuilder
from wasmloom.compiler.calls import operands
from wasmloom.compiler.lowering import FunctionLowering, Instr, lowers
from wasmloom.runtime import layout, traps
from wasmloom.runtime.layout import (
    BOUND_SHIFT,
    CONT_ACTIVE,
    CONT_FRESH,
    CONT_SUSPENDED,
    NEXT_REVISION,
    ON_LABEL,
    ON_SWITCH,
)
from wasmloom.semantics.llvm import Value
from wasmloom.spec.types import CONCRETE, HEAP_SHIFT

#: As `wasmloom.runtime.heap` has them: a continuation's size in bytes, and words of the stack in its own block.
CONT_BYTES, POOLED_WORDS = 384, 29

_GENERAL = ("rbx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")
_CLOBBERS = ",".join(
    [*(f"~{{{name}}}" for name in _GENERAL), *(f"~{{xmm{i}}}" for i in range(32))]
    + [f"~{{k{i}}}" for i in range(8)]
    + ["~{memory}", "~{dirflag}", "~{fpsr}", "~{flags}"]
)
_RSP, _RBP, _RIP = (layout.offset("WlControl", field) for field in ("rsp", "rbp", "rip"))

#: Exchange the registers with the control context at RSI, and go there; whoever comes back does so behind it.
_SWITCH = "; ".join(
    (
        f"movq {_RSP}(%rsi), %r8",
        f"movq {_RBP}(%rsi), %r9",
        f"movq {_RIP}(%rsi), %r10",
        "leaq 1f(%rip), %r11",
        f"movq %rsp, {_RSP}(%rsi)",
        f"movq %rbp, {_RBP}(%rsi)",
        f"movq %r11, {_RIP}(%rsi)",
        "movq %r8, %rsp",
        "movq %r9, %rbp",
        "jmpq *%r10",
        "1:",
    )
)
#: The same with the parent's resume point, which is in the control context at RSI, moved to the one at RBX: from one
#: continuation to another of the same parent.
_EXCHANGE = "; ".join(
    [
        line
        for offset in (_RSP, _RBP, _RIP)
        for line in (
            f"movq {offset}(%rsi), %r11",
            f"movq {offset}(%rbx), %r{8 + offset // 8}",
            f"movq %r11, {offset}(%rbx)",
        )
    ]
    + ["leaq 1f(%rip), %r11", f"movq %rsp, {_RSP}(%rsi)", f"movq %rbp, {_RBP}(%rsi)", f"movq %r11, {_RIP}(%rsi)"]
    + ["movq %r8, %rsp", "movq %r9, %rbp", "jmpq *%r10", "1:"]
)
_OUTCOME = "{ i64, i64, i64, ptr }"
#: What goes along in a register that nobody reads.
_NOTHING = Value("poison", "i64")
_NULL = Value("null", "ptr")


def _switch_stacks(
    b: FunctionBuilder,
    control: Value,
    limit: Value,
    reason: Value,
    reference: Value,
    first: Value,
    other: Value | None = None,
) -> list[Value]:
    """Go on at a control context, on a stack with a limit; or at another context, whose place that takes (`_EXCHANGE`).

    Gives reason, first value and reference that whoever comes back brings; the context comes along, too.
    """
    clobbers, code, operands = _CLOBBERS, _SWITCH, f"ptr {control.text}"
    inputs = "{ax},{dx},{cx},{di},{si}"
    if other is not None:
        code, inputs, operands = _EXCHANGE, inputs + ",{bx}", f"ptr {control.text}, ptr {other.text}"
    b.emit(f'call void asm sideeffect "movq $0, %fs:112", "r"(ptr {limit.text}) #1')
    outcome = b.assign(
        f'call {_OUTCOME} asm sideeffect "{code}", "={{ax}},={{dx}},={{cx}},={{di}},{inputs},{clobbers}"'
        f"(i64 {reason.text}, i64 {first.text}, i64 {reference.text}, ptr {b.ctx.text}, {operands}) #7{b.where}",
        _OUTCOME,
    )
    *words, ctx = (
        b.assign(f"extractvalue {_OUTCOME} {outcome.text}, {k}", kind)
        for k, kind in enumerate(("i64", "i64", "i64", "ptr"))
    )
    b.hold_context(ctx)
    return words


def _switch_by_call(f: FunctionLowering, words: Value) -> list[Value]:
    """Go on where a call of the runtime has said (``stack_switching="libcall"``); see `_switch_stacks`."""
    b = f.b
    control, first, reason, reference = (b.word_at(words, k) for k in range(4))
    pointer = b.assign(f"inttoptr i64 {control.text} to ptr", "ptr")
    kind = "{ i64, i64, i64 }"
    outcome = b.assign(
        f"call {kind} @wl_switch_call(i64 {reason.text}, i64 {first.text}, i64 {reference.text}, "
        f"ptr {b.ctx.text}, ptr {pointer.text}) #7{b.where}",
        kind,
    )
    return [b.assign(f"extractvalue {kind} {outcome.text}, {k}", "i64") for k in range(3)]


def _number(value: int) -> Value:
    """A number where a runtime call takes a pointer-sized argument."""
    return Value(str(value), "i64")


# --- exceptions ---


def _new_exception(f: FunctionLowering, tag: int) -> Value:
    """Make an exception of the values on top of the stack; gives its word."""
    b = f.b
    kinds = f.facts.tag_signature(tag).params
    values = f.pop_many(len(kinds))
    words = b.words(max(len(values), 1))
    for k, value in enumerate(values):
        b.set_word(words, k, value)
    at = f.facts.tags_at + 8 * tag
    b.trap_if_code(b.runtime("new_exception", b.inst, words, operands(f, at, len(values))))
    return b.struct_field(b.ctx, "WlContext", "exception", "i64")


def _throw(f: FunctionLowering, exception: Value) -> None:
    b = f.b
    b.set_struct_field(b.ctx, "WlContext", "pending", exception)
    f.stop_fuel()
    b.jump(f.landing_name())
    f.dead = True


@lowers("throw")
def _throw_tag(f: FunctionLowering, i: Instr) -> None:
    _throw(f, _new_exception(f, i[2]))


@lowers("throw_ref")
def _throw_ref(f: FunctionLowering, i: Instr) -> None:
    exception = f.pop()
    f.b.trap_if(f.b.compare("eq", exception, f.b.const("i64", 0)), traps.NULL_EXCEPTION_REFERENCE)
    _throw(f, exception)


# --- references to continuations ---


def _cont(b: FunctionBuilder, cont: Value, field: str, type: str = "ptr") -> Value:
    return b.struct_field(cont, "WlCont", field, type)


def _set_cont(b: FunctionBuilder, cont: Value, field: str, value: Value) -> None:
    b.set_struct_field(cont, "WlCont", field, value)


def _is_same(b: FunctionBuilder, x: Value, y: Value) -> Value:
    return b.assign(f"icmp eq ptr {x.text}, {y.text}", "i1")


def _differs(b: FunctionBuilder, x: Value, y: Value) -> Value:
    return b.assign(f"icmp ne ptr {x.text}, {y.text}", "i1")


def _current(b: FunctionBuilder) -> Value:
    return b.struct_field(b.ctx, "WlContext", "current")


def _check_reference(b: FunctionBuilder, word: Value) -> tuple[Value, Value]:
    """Trap unless a reference can be used; gives the continuation, and the next reference to it."""
    b.trap_if(b.compare("eq", word, b.const("i64", 0)), traps.NULL_CONTINUATION_REFERENCE)
    address = b.binary("and", word, b.const("i64", NEXT_REVISION - 1))
    cont = b.assign(f"inttoptr i64 {address.text} to ptr", "ptr")
    b.trap_if(b.compare("ne", _cont(b, cont, "reference", "i64"), word), traps.CONTINUATION_CONSUMED)
    return cont, b.binary("add", word, b.const("i64", NEXT_REVISION))


def _consume(b: FunctionBuilder, word: Value) -> Value:
    """Check a reference, and make it and all copies of it stale; gives the continuation."""
    cont, following = _check_reference(b, word)
    _set_cont(b, cont, "reference", following)
    return cont


def _as_word(b: FunctionBuilder, pointer: Value) -> Value:
    return b.assign(f"ptrtoint ptr {pointer.text} to i64", "i64")


@lowers("cont.new")
def _cont_new(f: FunctionLowering, i: Instr) -> None:
    """A continuation from the pool, whose members have only their own block's memory, or from the runtime."""
    b = f.b
    type = f.facts.cont_signature(i[2])
    room = max(len(type.params), len(type.results))
    function = f.pop()
    if not f.options.native_switching or room > POOLED_WORDS:
        f.push(_cont_new_call(f, function, room))
        return
    quick, slow, done = b.fresh("quick"), b.fresh("slow"), b.fresh("made")
    ctx = b.ctx
    cont = b.struct_field(ctx, "WlContext", "free_conts")
    empty = b.assign(f"icmp eq ptr {cont.text}, null", "i1")
    b.branch(b.either(empty, b.compare("eq", function, b.const("i64", 0))), slow, quick)
    b.label(quick)
    b.set_struct_field(ctx, "WlContext", "free_conts", _cont(b, cont, "next"))
    counted = b.struct_field(ctx, "WlContext", "allocated", "i64")
    b.set_struct_field(ctx, "WlContext", "allocated", b.binary("add", counted, b.const("i64", CONT_BYTES)))
    for field in ("next", "parent", "last"):
        _set_cont(b, cont, field, _NULL)
    for field, number in (("state", CONT_FRESH), ("fp", 0), ("values", 0), ("catch_top", 0)):
        _set_cont(b, cont, field, b.const("i64", number))
    _set_cont(b, cont, "function", function)
    made = _cont(b, cont, "reference", "i64")
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
    count = len(f.facts.cont_signature(i[2]).params) - len(f.facts.cont_signature(i[3]).params)
    word = f.pop()
    values = f.pop_many(count)
    cont, following = _check_reference(b, word)
    state = _cont(b, cont, "state", "i64")
    bound = b.binary("lshr", state, b.const("i64", BOUND_SHIFT))
    place = b.assign(f"getelementptr i64, ptr {_cont(b, cont, 'stack_base').text}, i64 {bound.text}", "ptr")
    end = _cont(b, cont, "stack_end")
    fits = b.assign(f"icmp ule ptr {b.at(place, 8 * count).text}, {end.text}", "i1")
    lasts = b.compare("ne", following, _as_word(b, cont))
    quick, slow, done = b.fresh("quick"), b.fresh("slow"), b.fresh("bound")
    b.branch(b.both(fits, lasts), quick, slow)
    b.label(quick)
    for k, value in enumerate(values):
        b.set_word(place, k, value)
    _set_cont(b, cont, "state", b.binary("add", state, b.const("i64", count << BOUND_SHIFT)))
    last = _cont(b, cont, "last")
    _set_cont(b, cont, "last", b.select(_is_same(b, last, cont), _NULL, last))
    _set_cont(b, cont, "reference", following)
    b.jump(done)
    b.label(slow)
    words = b.words(max(count + 1, 4))
    b.set_word(words, 0, word)
    for k, value in enumerate(values):
        b.set_word(words, k + 1, value)
    b.trap_if_code(b.runtime("native_bind", words, _number(count)))
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
    return f.facts.tags_at + 8 * tag


def _first_tag(f: FunctionLowering, clauses: list[tuple[int, int, int]]) -> Value:
    """What `WlCont.first_tag` is for the clauses of a `resume`."""
    if not clauses:
        return _NULL
    kind, tag, _ = clauses[0]
    return f.b.at(f.b.constant_pointer(f.b.inst, _tag_at(f, tag)), kind)


def _renewed_running(b: FunctionBuilder) -> tuple[Value, Value]:
    """The running continuation before a suspension, and the reference to it.

    One whose revisions have run out moves to a fresh object.
    """
    worn, usable, entry = b.fresh("worn"), b.fresh("usable"), b.block
    before = _current(b)
    reference = _cont(b, before, "reference", "i64")
    b.branch(b.compare("eq", reference, _as_word(b, before)), worn, usable, unlikely=True)
    b.label(worn)
    b.trap_if_code(b.runtime("native_renew"))
    moved = _current(b)
    fresh = _cont(b, moved, "reference", "i64")
    from_worn = b.block
    b.jump(usable)
    b.label(usable)
    running = b.assign(f"phi ptr [ {before.text}, {entry} ], [ {moved.text}, {from_worn} ]", "ptr")
    reference = b.assign(f"phi i64 [ {reference.text}, {entry} ], [ {fresh.text}, {from_worn} ]", "i64")
    return running, reference


class _Goal(NamedTuple):
    """Where a switch goes on: what `_prepare` finds."""

    #: the first value that goes along
    first: Value
    #: the control context to go to
    control: Value
    #: the limit of the stack that runs then
    limit: Value


class _Link(NamedTuple):
    """What links the last stack of a chain to who resumes it: fields of `WlCont`."""

    parent: Value
    resume: Value
    resumer: Value
    #: finds it, in the block where it is needed
    first_tag: Callable[[], Value]

    def write(self, b: FunctionBuilder, last: Value) -> None:
        """Set all of it."""
        _set_cont(b, last, "parent", self.parent)
        self._write_place(b, last)

    def renew(self, b: FunctionBuilder, last: Value) -> None:
        """Set it where the stack has nearly always been resumed from the same place before: looking is cheaper."""
        elsewhere, where, here = b.fresh("elsewhere"), b.fresh("where"), b.fresh("here")
        _set_cont(b, last, "parent", self.parent)
        memo = b.memo.copy()
        b.branch(_differs(b, _cont(b, last, "resume"), self.resume), elsewhere, where, unlikely=True)
        b.follow(where)
        b.branch(_differs(b, _cont(b, last, "resumer"), self.resumer), elsewhere, here, unlikely=True)
        b.follow(elsewhere)
        self._write_place(b, last)
        b.jump(here)
        b.memo = memo
        b.follow(here)

    def _write_place(self, b: FunctionBuilder, last: Value) -> None:
        _set_cont(b, last, "resume", self.resume)
        _set_cont(b, last, "resumer", self.resumer)
        _set_cont(b, last, "first_tag", self.first_tag())


def _prepare(b: FunctionBuilder, cont: Value, values: list[Value], link: _Link) -> _Goal:
    """Make a consumed continuation ready for some values, and link it to who resumes it.

    One that begins gets its stack, and its values follow those that `cont.bind` has kept. Nearly always it is a stack
    that has suspended itself, and needs neither; `WlCont.last` says so.
    """
    area = b.args(b.ctx) if len(values) > 1 else None
    for k, value in enumerate(values):
        if k and area is not None:
            b.set_word(area, k, value)
    first = b.as_word(values[0]) if values else _NOTHING
    alone, other, chain, kept, fresh, take, slow, settle, ready = (
        b.fresh(name) for name in ("alone", "other", "chain", "kept", "fresh", "take", "slow", "settle", "ready")
    )
    b.branch(_differs(b, _cont(b, cont, "last"), cont), other, alone, unlikely=True)
    b.label(alone)
    control = _cont(b, cont, "control")
    # Its topmost frames aren't in the cache when there are many continuations: fetch them early. The control context's
    # own line is read next in any case, and processors fetch lines in pairs.
    b.emit(f'call void asm sideeffect "prefetcht0 -128($0)", "r"(ptr {control.text}) #1')
    link.renew(b, cont)
    goals = {b.block: _Goal(first, control, _limit(b, control))}
    b.jump(ready)

    b.label(other)
    state = _cont(b, cont, "state", "i64")
    states = {CONT_SUSPENDED: chain, CONT_FRESH: fresh}
    if not values:
        # A single bound value is what generators have: it needs no call.
        states[CONT_SUSPENDED | 1 << BOUND_SHIFT] = kept
    cases = " ".join(f"i64 {state}, label {target}" for state, target in states.items())
    b.emit(f"switch i64 {state.text}, label {slow} [ {cases} ]")
    b.label(chain)
    firsts = {chain: first}
    b.jump(settle)
    if not values:
        b.label(kept)
        firsts[kept] = b.word_at(_cont(b, cont, "stack_base"), 0)
        b.jump(settle)
    b.label(fresh)
    control = b.struct_field(b.ctx, "WlContext", "free_stacks")
    b.branch(_is_same(b, control, _NULL), slow, take)
    b.label(take)
    _begin(b, cont, control)
    link.write(b, cont)
    goals[b.block] = _Goal(first, control, _limit(b, control))
    b.jump(ready)
    b.label(slow)
    words = b.words(4)
    b.set_word(words, 0, first)
    b.trap_if_code(b.runtime("native_begin", cont, words, _number(len(values))))
    firsts[b.block] = b.word_at(words, 0)
    b.jump(settle)

    b.label(settle)
    first = _join(b, firsts)
    noted = _cont(b, cont, "last")
    last = b.select(_is_same(b, noted, _NULL), cont, noted)
    for stack in (last, cont):
        _set_cont(b, stack, "last", stack)
        _set_cont(b, stack, "state", b.const("i64", CONT_SUSPENDED))
    link.write(b, last)
    goals[b.block] = _Goal(first, _cont(b, last, "control"), _limit(b, _cont(b, cont, "control")))
    b.jump(ready)
    b.label(ready)
    return _Goal(*_join_all(b, goals))


def _join_all(b: FunctionBuilder, values: Mapping[str, tuple[Value, ...]]) -> list[Value]:
    """What several values are where blocks meet."""
    return [_join(b, dict(zip(values, each, strict=True))) for each in zip(*values.values(), strict=True)]


def _join(b: FunctionBuilder, values: dict[str, Value]) -> Value:
    """What a value is where blocks meet."""
    kind = next(iter(values.values())).type
    pairs = ", ".join(f"[ {value.text}, {block} ]" for block, value in values.items())
    return b.assign(f"phi {kind} {pairs}", kind)


def _begin(b: FunctionBuilder, cont: Value, control: Value) -> None:
    """Give a continuation that begins a stack from the pool, the first there."""
    b.set_struct_field(b.ctx, "WlContext", "free_stacks", b.struct_field(control, "WlControl", "next"))
    b.set_struct_field(control, "WlControl", "cont", cont)
    b.set_struct_field(control, "WlControl", "rsp", control)
    b.set_struct_field(control, "WlControl", "rbp", b.at(control, _RBP))
    b.set_struct_field(control, "WlControl", "rip", Value("@wl_fiber_start", "ptr"))
    _set_cont(b, cont, "control", control)
    _set_cont(b, cont, "last", cont)
    _set_cont(b, cont, "state", b.const("i64", CONT_SUSPENDED))


def _limit(b: FunctionBuilder, control: Value) -> Value:
    """How far down a native stack goes."""
    return b.struct_field(control, "WlControl", "limit")


def _take(b: FunctionBuilder, kinds: tuple[str, ...], first: Value) -> list[Value]:
    """The values that came along with a switch."""
    if not kinds:
        return []
    values = [b.from_word(first, kinds[0])]
    if len(kinds) > 1:
        area = b.args(b.ctx)
        values += [b.from_word(b.word_at(area, k), kind) for k, kind in enumerate(kinds) if k]
    return values


def _resume(f: FunctionLowering, i: Instr, word: Value, values: list[Value]) -> None:
    """Consume a reference, run the continuation, and go where it comes back with what."""
    b = f.b
    clauses: list[tuple[int, int, int]] = i[6] or []  # type: ignore[assignment]
    described = _describe(f, clauses)
    if f.options.native_switching:
        b.hold_context()
        cont = _consume(b, word)
        link = _Link(_current(b), described, b.inst, lambda: _first_tag(f, clauses))
        goal = _prepare(b, cont, values, link)
        b.set_struct_field(b.ctx, "WlContext", "current", cont)
        reason, brought, reference = _switch_stacks(b, goal.control, goal.limit, _NOTHING, _NOTHING, goal.first)
    else:
        words = b.words(4)
        first = _pass_along(b, values)
        b.set_word(words, 0, word)
        b.set_word(words, 1, first)
        b.set_word(words, 2, _as_word(b, b.inst))
        b.trap_if_code(b.runtime("libcall_resume", words, _number(len(values)), described))
        reason, brought, reference = _switch_by_call(f, words)
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
    f.stack += _take(b, f.facts.cont_signature(i[2]).results, brought)


@lowers("resume")
def _resume_values(f: FunctionLowering, i: Instr) -> None:
    word = f.pop()
    _resume(f, i, word, f.pop_many(len(f.facts.cont_signature(i[2]).params)))


def _resume_throwing(f: FunctionLowering, i: Instr, word: Value, exception: Value) -> None:
    """Resume with an exception, which the continuation finds pending when it goes on (or instead of beginning)."""
    b = f.b
    b.set_struct_field(b.ctx, "WlContext", "pending", exception)
    _resume(f, i, word, [])


@lowers("resume_throw")
def _resume_throw(f: FunctionLowering, i: Instr) -> None:
    word = f.pop()
    # The order of the interpreter: the exception is made before the reference is looked at.
    _resume_throwing(f, i, word, _new_exception(f, i[3]))


@lowers("resume_throw_ref")
def _resume_throw_ref(f: FunctionLowering, i: Instr) -> None:
    b = f.b
    exception, word = f.pop_many(2)
    b.trap_if(b.compare("eq", word, b.const("i64", 0)), traps.NULL_CONTINUATION_REFERENCE)
    b.trap_if(b.compare("eq", exception, b.const("i64", 0)), traps.NULL_EXCEPTION_REFERENCE)
    _resume_throwing(f, i, word, exception)


class _Handler(NamedTuple):
    """Who a suspension is for."""

    #: for the switch there: the clause's number from 1
    reason: Value
    #: the stack whose parent it is, and its control context, to go to
    child: Value
    control: Value
    parent: Value


def _find_handler(f: FunctionLowering, running: Value, tag: Value, kind: int, cut: bool) -> _Handler:
    """Search a continuation's parents for a `resume` with a clause of the kind for the tag; and `cut` the chain there.

    The handler's fields are read before.
    """
    b = f.b
    f.uses_search = True
    near, walk, found = b.fresh("near"), b.fresh("walk"), b.fresh("found")
    b.branch(_differs(b, _cont(b, running, "first_tag"), b.at(tag, kind)), walk, near, unlikely=True)
    b.label(near)
    handlers = {near: _above(b, b.const("i64", 1), running)}
    if cut:
        _set_cont(b, running, "parent", _NULL)
    b.jump(found)
    b.label(walk)
    far = b.assign(
        f"call {{ i64, ptr }} @wl.find_handler(ptr {running.text}, ptr {tag.text}, i32 {kind})", "{ i64, ptr }"
    )
    number = b.assign(f"extractvalue {{ i64, ptr }} {far.text}, 0", "i64")
    child = b.assign(f"extractvalue {{ i64, ptr }} {far.text}, 1", "ptr")
    b.trap_if(b.compare("eq", number, b.const("i64", 0)), traps.UNHANDLED_TAG)
    handler = _above(b, number, child)
    if cut:
        _suspend_running(b, running, child)
    handlers[b.block] = handler
    b.jump(found)
    b.label(found)
    return _Handler(*_join_all(b, handlers))


def _above(b: FunctionBuilder, reason: Value, child: Value) -> _Handler:
    return _Handler(reason, child, _cont(b, child, "control"), _cont(b, child, "parent"))


def _field_of(struct: str, field: str, name: str, type: str = "ptr") -> str:
    """IR that reads a field of a `WlCont` into a variable."""
    return f"""%{name}.at = getelementptr i8, ptr {struct}, i64 {layout.offset("WlCont", field)}
  %{name} = load {type}, ptr %{name}.at, align 8, !tbaa !2"""


#: The search, for every module that suspends. Gives the clause's number from 1 (0: there is none), and the stack whose
#: parent has it.
FIND_HANDLER = f"""
define internal {{ i64, ptr }} @wl.find_handler(ptr %running, ptr %tag, i32 %kind)
    noinline nounwind "frame-pointer"="all" {{
entry:
  br label %walk
walk:
  %child = phi ptr [ %running, %entry ], [ %parent, %scan ]
  {_field_of("%child", "parent", "parent")}
  %bottom = icmp eq ptr %parent, null
  br i1 %bottom, label %none, label %inside
inside:
  {_field_of("%child", "resume", "clauses")}
  {_field_of("%child", "resumer", "instance")}
  %count = load i64, ptr %clauses, align 8
  br label %scan
scan:
  %k = phi i64 [ 0, %inside ], [ %next, %test ]
  %done = icmp eq i64 %k, %count
  br i1 %done, label %walk, label %test
test:
  %next = add i64 %k, 1
  %clause = getelementptr i64, ptr %clauses, i64 %next
  %at = load i32, ptr %clause, align 4
  %place = getelementptr i8, ptr %instance, i32 %at
  %mine = load ptr, ptr %place, align 8, !tbaa !2
  %kind.at = getelementptr i8, ptr %clause, i64 4
  %its = load i32, ptr %kind.at, align 4
  %same.tag = icmp eq ptr %mine, %tag
  %same.kind = icmp eq i32 %its, %kind
  %match = and i1 %same.tag, %same.kind
  br i1 %match, label %found, label %scan
found:
  %r0 = insertvalue {{ i64, ptr }} poison, i64 %next, 0
  %r1 = insertvalue {{ i64, ptr }} %r0, ptr %child, 1
  ret {{ i64, ptr }} %r1
none:
  ret {{ i64, ptr }} {{ i64 0, ptr null }}
}}"""


def _suspend_running(b: FunctionBuilder, running: Value, child: Value) -> None:
    """Cut the running chain off above `child`."""
    chain, cut = b.fresh("chain"), b.fresh("cut")
    b.branch(_differs(b, child, running), chain, cut, unlikely=True)
    b.follow(chain)
    _set_cont(b, running, "last", child)
    _set_cont(b, child, "last", _NULL)
    _set_cont(b, child, "state", b.const("i64", CONT_ACTIVE))
    b.jump(cut)
    b.follow(cut)
    _set_cont(b, child, "parent", _NULL)


def _pass_along(b: FunctionBuilder, values: list[Value]) -> Value:
    """Put all values but the first where they wait during a switch; gives the first as a word."""
    if len(values) > 1:
        area = b.args(b.ctx)
        for k, value in enumerate(values):
            if k:
                b.set_word(area, k, value)
    return b.as_word(values[0]) if values else _NOTHING


@lowers("suspend")
def _suspend(f: FunctionLowering, i: Instr) -> None:
    b = f.b
    type = f.facts.tag_signature(i[2])
    values = f.pop_many(len(type.params))
    tag = f.b.constant_pointer(f.b.inst, _tag_at(f, i[2]))
    if f.options.native_switching:
        b.hold_context()
        running, reference = _renewed_running(b)
        handler = _find_handler(f, running, tag, ON_LABEL, cut=True)
        limit = _limit(b, _cont(b, handler.parent, "control"))
        first = _pass_along(b, values)
        b.set_struct_field(b.ctx, "WlContext", "current", handler.parent)
        _, brought, _ = _switch_stacks(b, handler.control, limit, handler.reason, reference, first)
    else:
        words = b.words(4)
        b.set_word(words, 0, _pass_along(b, values))
        b.trap_if_code(b.runtime("libcall_suspend", words, tag))
        _, brought, _ = _switch_by_call(f, words)
    f.check_pending()
    f.stack += _take(b, type.results, brought)


@lowers("switch")
def _switch(f: FunctionLowering, i: Instr) -> None:
    """Suspend the running chain up to the handler, and run another continuation in its place."""
    b = f.b
    facts = f.facts
    target_type = facts.function_types[facts.cont_functions[i[2]]]
    # The last parameter is (ref null? $ct2): what this continuation will be resumed with.
    back = (target_type.params[-1] >> HEAP_SHIFT) - CONCRETE  # type: ignore[union-attr]
    word = f.pop()
    values = f.pop_many(len(facts.cont_signature(i[2]).params) - 1)
    tag = f.b.constant_pointer(f.b.inst, _tag_at(f, i[3]))
    if f.options.native_switching:
        b.hold_context()
        running, reference = _renewed_running(b)
        b.trap_if(b.compare("eq", word, b.const("i64", 0)), traps.NULL_CONTINUATION_REFERENCE)
        handler = _find_handler(f, running, tag, ON_SWITCH, cut=False)
        cont = _consume(b, word)
        child = handler.child
        clauses, resumer = _cont(b, child, "resume"), _cont(b, child, "resumer")
        link = _Link(handler.parent, clauses, resumer, lambda: _cont(b, child, "first_tag"))
        goal = _prepare(b, cont, [*values, reference], link)
        # Not before: when there is no memory for its stack, the running chain ends from here to its bottom.
        _suspend_running(b, running, child)
        b.set_struct_field(b.ctx, "WlContext", "current", cont)
        _, brought, _ = _switch_stacks(b, handler.control, goal.limit, _NOTHING, _NOTHING, goal.first, goal.control)
    else:
        words = b.words(4)
        b.set_word(words, 0, word)
        b.set_word(words, 1, _pass_along(b, values))
        b.trap_if_code(b.runtime("libcall_switch", words, tag, _number(len(values))))
        _, brought, _ = _switch_by_call(f, words)
    f.check_pending()
    f.stack += _take(b, facts.cont_signature(back).params, brought)
