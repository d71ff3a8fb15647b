"""The parts of a stack switch in compiled code: the switch itself, and the links between stacks around it.

The switch is one piece of inline assembly (`wasmloom.target.inline_assembly`), which exchanges stack pointer, frame
pointer and address with those in a control context, and goes there. Registers carry the reason why the other side goes
on (0: the continuation has returned; k: clause k - 1 of the `resume` has a suspension; for a continuation that goes on
it means nothing), the reference of a suspended continuation, the first value, and the context; other values wait in the
context's `args`. All other registers are clobbered, so LLVM saves those that it needs on the stack, and no others are
saved. With ``inline_switching`` off the same steps are calls into the runtime.

Nearly always a suspension is for the first clause of the nearest `resume`: its tag is in the resumed continuation
itself (`first_tag`), and the descriptions of clauses are read only when that is another tag.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from wasmloom.compiler.builder import FunctionBuilder
from wasmloom.compiler.lowering import FunctionLowering
from wasmloom.contract import layout, traps
from wasmloom.contract.layout import BOUND_SHIFT, CONT_ACTIVE, CONT_FRESH, CONT_SUSPENDED
from wasmloom.semantics.kinds import places
from wasmloom.semantics.llvm import Value
from wasmloom.target import inline_assembly

_OUTCOME = "{ i64, i64, i64, ptr }"
#: The value for a register that nothing reads.
NOTHING = Value("poison", "i64")
NULL = Value("null", "ptr")


def switch_stacks(
    b: FunctionBuilder,
    control: Value,
    limit: Value,
    reason: Value,
    reference: Value,
    first: Value,
    other: Value | None = None,
) -> list[Value]:
    """Go on at a control context, on a stack with a limit; or at another context, whose place the first one takes.

    Returns reason, first value and reference from the stack that comes back; the context comes along, too.
    """
    code, operands = inline_assembly.switch(), f"ptr {control.text}"
    if other is not None:
        code, operands = inline_assembly.exchange(), f"ptr {control.text}, ptr {other.text}"
    b.emit(f"call void {inline_assembly.set_stack_limit()}(ptr {limit.text}) #1")
    outcome = b.assign(
        f"call {_OUTCOME} {code}(i64 {reason.text}, i64 {first.text}, i64 {reference.text}, ptr {b.ctx.text}, "
        f"{operands}) #7{b.where}",
        _OUTCOME,
    )
    *words, ctx = (
        b.assign(f"extractvalue {_OUTCOME} {outcome.text}, {k}", kind)
        for k, kind in enumerate(("i64", "i64", "i64", "ptr"))
    )
    b.hold_context(ctx)
    return words


def switch_by_call(f: FunctionLowering, words: Value) -> list[Value]:
    """Go on where a call of the runtime has said (``stack_switching="libcall"``); see `switch_stacks`."""
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


def count_word(value: int) -> Value:
    """A number where a runtime call takes a pointer-sized argument."""
    return Value(str(value), "i64")


def count_slots(values: list[Value]) -> Value:
    """The number of slots that values take, in the form of `count_word`."""
    return count_word(places(value.type for value in values)[-1])


def take_first(b: FunctionBuilder, pool: str, following: Value) -> None:
    """Take the first of a pool, a list in the context, where another one follows.

    That one is fetched early: with many continuations it isn't in the cache when it is its turn.
    """
    b.set_struct_field(b.ctx, "WlContext", pool, following)
    b.emit(f"call void {inline_assembly.prefetch(0)}(ptr {following.text}) #1")


# --- references to continuations ---


def cont_field(b: FunctionBuilder, cont: Value, field: str, type: str = "ptr") -> Value:
    """Read a field of a `WlCont`."""
    return b.struct_field(cont, "WlCont", field, type)


def set_cont_field(b: FunctionBuilder, cont: Value, field: str, value: Value) -> None:
    """Write a field of a `WlCont`."""
    b.set_struct_field(cont, "WlCont", field, value)


def is_same(b: FunctionBuilder, x: Value, y: Value) -> Value:
    """Whether two pointers are equal."""
    return b.assign(f"icmp eq ptr {x.text}, {y.text}", "i1")


def differs(b: FunctionBuilder, x: Value, y: Value) -> Value:
    """Whether two pointers aren't equal."""
    return b.assign(f"icmp ne ptr {x.text}, {y.text}", "i1")


def current_cont(b: FunctionBuilder) -> Value:
    """The stack that runs."""
    return b.struct_field(b.ctx, "WlContext", "current")


def pointer_word(b: FunctionBuilder, pointer: Value) -> Value:
    """A pointer's address."""
    return b.assign(f"ptrtoint ptr {pointer.text} to i64", "i64")


# --- from the resuming stack to the resumed one ---


class Goal(NamedTuple):
    """Where a switch goes on: what `prepare` finds."""

    #: the first value that goes along
    first: Value
    #: the control context to go to
    control: Value
    #: the limit of the stack that runs then
    limit: Value


class Link(NamedTuple):
    """The link from a chain's last stack to the stack that resumes it: fields of `WlCont`."""

    parent: Value
    resume: Value
    resumer: Value
    #: finds it, in the block where it is needed
    first_tag: Callable[[], Value]

    def write(self, b: FunctionBuilder, last: Value) -> None:
        """Set all of it."""
        set_cont_field(b, last, "parent", self.parent)
        self._write_place(b, last)

    def renew(self, b: FunctionBuilder, last: Value) -> None:
        """Set it if it differs. Nearly always the stack has been resumed from the same place before, and comparing is
        cheaper."""
        elsewhere, where, here = b.fresh("elsewhere"), b.fresh("where"), b.fresh("here")
        set_cont_field(b, last, "parent", self.parent)
        memo = b.memo.copy()
        b.branch(differs(b, cont_field(b, last, "resume"), self.resume), elsewhere, where, unlikely=True)
        b.follow(where)
        b.branch(differs(b, cont_field(b, last, "resumer"), self.resumer), elsewhere, here, unlikely=True)
        b.follow(elsewhere)
        self._write_place(b, last)
        b.jump(here)
        b.memo = memo
        b.follow(here)

    def _write_place(self, b: FunctionBuilder, last: Value) -> None:
        set_cont_field(b, last, "resume", self.resume)
        set_cont_field(b, last, "resumer", self.resumer)
        set_cont_field(b, last, "first_tag", self.first_tag())


def pass_along(b: FunctionBuilder, values: list[Value]) -> Value:
    """Put all values except the first where they wait during a switch. Returns the first as a word."""
    return b.as_word(b.put_rest(values)) if values else NOTHING


def prepare(b: FunctionBuilder, cont: Value, values: list[Value], link: Link) -> Goal:
    """Make a consumed continuation ready for some values, and link it to the stack that resumes it.

    A continuation that begins gets its stack, and the values follow those that `cont.bind` has kept. Nearly always it
    is a stack that has suspended itself and needs neither; `WlCont.last` shows that.
    """
    first = pass_along(b, values)
    alone, other, chain, kept, fresh, take, slow, settle, ready = (
        b.fresh(name) for name in ("alone", "other", "chain", "kept", "fresh", "take", "slow", "settle", "ready")
    )
    b.branch(differs(b, cont_field(b, cont, "last"), cont), other, alone, unlikely=True)
    b.label(alone)
    control = cont_field(b, cont, "control")
    # With many continuations its topmost frames aren't in the cache: fetch them early. The control context's own line
    # is read next anyway, and processors fetch lines in pairs.
    b.emit(f"call void {inline_assembly.prefetch(-128)}(ptr {control.text}) #1")
    link.renew(b, cont)
    goals = {b.block: Goal(first, control, limit_of(b, control))}
    b.jump(ready)

    b.label(other)
    state = cont_field(b, cont, "state", "i64")
    states = {CONT_SUSPENDED: chain, CONT_FRESH: fresh}
    if not values:
        # Generators have a single bound value, which needs no call.
        states[CONT_SUSPENDED | 1 << BOUND_SHIFT] = kept
    cases = " ".join(f"i64 {state}, label {target}" for state, target in states.items())
    b.emit(f"switch i64 {state.text}, label {slow} [ {cases} ]")
    b.label(chain)
    firsts = {chain: first}
    b.jump(settle)
    if not values:
        b.label(kept)
        firsts[kept] = b.word_at(cont_field(b, cont, "stack_base"), 0)
        b.jump(settle)
    b.label(fresh)
    control = b.struct_field(b.ctx, "WlContext", "free_stacks")
    b.branch(is_same(b, control, NULL), slow, take)
    b.label(take)
    _begin(b, cont, control)
    link.write(b, cont)
    goals[b.block] = Goal(first, control, limit_of(b, control))
    b.jump(ready)
    b.label(slow)
    words = b.words(4)
    b.set_word(words, 0, first)
    b.trap_if_code(b.runtime("native_begin", cont, words, count_slots(values)))
    firsts[b.block] = b.word_at(words, 0)
    b.jump(settle)

    b.label(settle)
    first = _join(b, firsts)
    noted = cont_field(b, cont, "last")
    last = b.select(is_same(b, noted, NULL), cont, noted)
    for stack in (last, cont):
        set_cont_field(b, stack, "last", stack)
        set_cont_field(b, stack, "state", b.const("i64", CONT_SUSPENDED))
    link.write(b, last)
    goals[b.block] = Goal(first, cont_field(b, last, "control"), limit_of(b, cont_field(b, cont, "control")))
    b.jump(ready)
    b.label(ready)
    return Goal(*_join_all(b, goals))


def _join_all(b: FunctionBuilder, values: Mapping[str, tuple[Value, ...]]) -> list[Value]:
    """The phis of several values where blocks meet."""
    return [_join(b, dict(zip(values, each, strict=True))) for each in zip(*values.values(), strict=True)]


def _join(b: FunctionBuilder, values: dict[str, Value]) -> Value:
    """The phi of a value where blocks meet."""
    kind = next(iter(values.values())).type
    pairs = ", ".join(f"[ {value.text}, {block} ]" for block, value in values.items())
    return b.assign(f"phi {kind} {pairs}", kind)


def _begin(b: FunctionBuilder, cont: Value, control: Value) -> None:
    """Give the first stack of the pool to a continuation that begins."""
    take_first(b, "free_stacks", b.struct_field(control, "WlControl", "next"))
    b.set_struct_field(control, "WlControl", "cont", cont)
    b.set_struct_field(control, "WlControl", "sp", control)
    b.set_struct_field(control, "WlControl", "fp", b.at(control, layout.offset("WlControl", "fp")))
    b.set_struct_field(control, "WlControl", "pc", Value("@wl_fiber_start", "ptr"))
    set_cont_field(b, cont, "control", control)
    set_cont_field(b, cont, "last", cont)
    set_cont_field(b, cont, "state", b.const("i64", CONT_SUSPENDED))


def limit_of(b: FunctionBuilder, control: Value) -> Value:
    """The limit of a native stack."""
    return b.struct_field(control, "WlControl", "limit")


# --- from the suspending stack to the handler ---


def renewed_running(b: FunctionBuilder) -> tuple[Value, Value]:
    """The running continuation before a suspension, and the reference to it.

    If its revisions have run out, it moves to a fresh object.
    """
    worn, usable, entry = b.fresh("worn"), b.fresh("usable"), b.block
    before = current_cont(b)
    reference = cont_field(b, before, "reference", "i64")
    b.branch(b.compare("eq", reference, pointer_word(b, before)), worn, usable, unlikely=True)
    b.label(worn)
    b.trap_if_code(b.runtime("native_renew"))
    moved = current_cont(b)
    fresh = cont_field(b, moved, "reference", "i64")
    from_worn = b.block
    b.jump(usable)
    b.label(usable)
    running = b.assign(f"phi ptr [ {before.text}, {entry} ], [ {moved.text}, {from_worn} ]", "ptr")
    reference = b.assign(f"phi i64 [ {reference.text}, {entry} ], [ {fresh.text}, {from_worn} ]", "i64")
    return running, reference


class Handler(NamedTuple):
    """The handler of a suspension."""

    #: for the switch there: the clause's number from 1
    reason: Value
    #: the stack whose parent it is, and its control context, to go to
    child: Value
    control: Value
    parent: Value


def find_handler(f: FunctionLowering, running: Value, tag: Value, kind: int, cut: bool) -> Handler:
    """Search a continuation's parents for a `resume` with a clause of the kind for the tag, and `cut` the chain there.

    The handler's fields are read before that.
    """
    b = f.b
    f.uses_search = True
    near, walk, found = b.fresh("near"), b.fresh("walk"), b.fresh("found")
    b.branch(differs(b, cont_field(b, running, "first_tag"), b.at(tag, kind)), walk, near, unlikely=True)
    b.label(near)
    handlers = {near: _above(b, b.const("i64", 1), running)}
    if cut:
        set_cont_field(b, running, "parent", NULL)
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
        suspend_running(b, running, child)
    handlers[b.block] = handler
    b.jump(found)
    b.label(found)
    return Handler(*_join_all(b, handlers))


def _above(b: FunctionBuilder, reason: Value, child: Value) -> Handler:
    return Handler(reason, child, cont_field(b, child, "control"), cont_field(b, child, "parent"))


def _field_of(struct: str, field: str, name: str, type: str = "ptr") -> str:
    """IR that reads a field of a `WlCont` into a variable."""
    return f"""%{name}.at = getelementptr i8, ptr {struct}, i64 {layout.offset("WlCont", field)}
  %{name} = load {type}, ptr %{name}.at, align 8, !tbaa !2"""


#: The search, for every module that suspends. Returns the clause's number from 1 (0: there is none), and the stack
#: whose parent has it.
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


def suspend_running(b: FunctionBuilder, running: Value, child: Value) -> None:
    """Cut off the running chain above `child`."""
    chain, cut = b.fresh("chain"), b.fresh("cut")
    b.branch(differs(b, child, running), chain, cut, unlikely=True)
    b.follow(chain)
    set_cont_field(b, running, "last", child)
    set_cont_field(b, child, "last", NULL)
    set_cont_field(b, child, "state", b.const("i64", CONT_ACTIVE))
    b.jump(cut)
    b.follow(cut)
    set_cont_field(b, child, "parent", NULL)
