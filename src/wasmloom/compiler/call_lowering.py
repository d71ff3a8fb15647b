"""Lowers calls, and branches on references (Core 3.0, 4.4.8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wasmloom.compiler.abi import Signature
from wasmloom.compiler.control_lowering import branch_if
from wasmloom.compiler.labels import Label
from wasmloom.compiler.loops import Instr
from wasmloom.compiler.lowering import FunctionLowering, lowers
from wasmloom.contract.layout import FIELD_BYTES
from wasmloom.semantics.llvm import Value
from wasmloom.semantics.registry import OPERATIONS
from wasmloom.spec.types import FuncType

#: So many functions that an indirect call may go to are compared with.
MOST_KNOWN = 4
#: What a comparison and the call behind it count in what is added to a function (`wasmloom.compiler.inlining`).
KNOWN_BYTES = 8

# --- calls ---


class _Callee:
    """What a call goes to: code (LLVM's name or value), environment, and how it is defined."""

    __slots__ = ("code", "environment", "signature", "throws", "type", "uniform")

    def __init__(
        self, type: FuncType, signature: Signature, code: str, environment: Value, uniform: bool, throws: bool
    ) -> None:
        self.type = type
        self.signature = signature
        self.code = code
        self.environment = environment
        self.uniform = uniform
        self.throws = throws


def _through(f: FunctionLowering, type: int, function: Value) -> _Callee:
    """The callee of a type of the module that a `WlFunction` stands for."""
    b, facts = f.b, f.facts
    code = b.struct_field(function, "WlFunction", "register_call")
    environment = b.struct_field(function, "WlFunction", "environment")
    return _Callee(facts.func_type(type), facts.signature(type), code.text, environment, False, True)


def _direct(f: FunctionLowering, index: int) -> _Callee:
    facts, b = f.facts, f.b
    if index < facts.imported:
        return _through(f, facts.module.func_types[index], f.named("func", index))
    own = index - facts.imported
    f.called.add(own)
    type, signature = facts.function_type(index), facts.function(index)
    return _Callee(type, signature, f"@wf.{own}", b.inst, facts.uniform[own], facts.throws[own])


def _indirect(f: FunctionLowering, i: Instr) -> _Callee:
    """The checked callee of `call_indirect`; pops the index."""
    index = f.pop()
    function = OPERATIONS["call_indirect"].define(f.b, f.named("table", i.b), index, type_id(f, i.a))
    return _through(f, i.a, function)


def type_id(f: FunctionLowering, type: int) -> Value:
    """The canonical id of a type of the module: the loader fills in the table, since ids are the process's."""
    b = f.b
    return b.constant_load("i64", Value(f"getelementptr (i8, ptr @wl_type_ids, i64 {FIELD_BYTES * type})", "ptr"))


def _reference(f: FunctionLowering, i: Instr) -> _Callee:
    return _through(f, i.a, OPERATIONS["call_ref"].define(f.b, f.pop()))


def _call(f: FunctionLowering, callee: _Callee) -> None:
    arguments = f.pop_many(len(callee.signature.params))
    results = f.b.call(callee.signature, callee.code, callee.environment, arguments, callee.uniform)
    if callee.throws:
        f.check_pending()
    for value, type in zip(results, callee.type.results, strict=True):
        f.push(f.learn(value, type))


def _tail_call(f: FunctionLowering, callee: _Callee) -> None:
    arguments = f.pop_many(len(callee.signature.params))
    f.stop_fuel()
    f.tail_call(callee.signature, callee.code, callee.environment, arguments, callee.uniform)
    f.dead = True


@lowers("call")
def _call_direct(f: FunctionLowering, i: Instr) -> None:
    own = i.a - f.facts.imported
    if own >= 0:
        _call_defined(f, i, own)
    else:
        _call(f, _direct(f, i.a))


def _call_defined(f: FunctionLowering, i: Instr, own: int) -> None:
    """Call a function of those defined in the module, or let it stand there."""
    if f.wants(own):
        f.stand_in(i, own)
    else:
        _call(f, _direct(f, f.facts.imported + own))


@lowers("call_indirect")
def _call_indirect(f: FunctionLowering, i: Instr) -> None:
    """A table that nothing changes has few functions of the type: what isn't one of these traps."""
    known = f.facts.known_callees(i.b, i.a) if f.inlining is not None else []
    if not _has_room(f, len(known)):
        _call(f, _indirect(f, i))
        return

    def comparison(place: int) -> Callable[[Value], Value]:
        return lambda index: f.b.compare("eq", index, f.b.const(index.type, place))

    _call_known(f, i, [(comparison(place), callee) for place, callee in known], lambda: _indirect(f, i))


def _has_room(f: FunctionLowering, known: int) -> bool:
    """Whether a call is to be compared with so many functions; it counts what that takes."""
    cost = KNOWN_BYTES * known
    if not 0 < known <= MOST_KNOWN or f.inlining is None or not f.inlining.has_room(f.index, f.added + cost):
        return False
    f.added += cost
    return True


def _call_known(
    f: FunctionLowering, i: Instr, known: Sequence[tuple[Callable[[Value], Value], int]], other: Callable[[], _Callee]
) -> None:
    """A call by an operand that says which function it goes to: compare it with what stands for those that it may be.

    `known`: what makes the comparison, and a function of those defined in the module, which may stand there. What isn't
    one of these goes the usual way, to `other`.
    """
    b, own = f.b, f.facts.signature(i.a)
    (which,) = f.pop_many(1)
    arguments = f.pop_many(len(own.params))
    end = b.fresh("called")
    label = Label(end, end, len(f.stack), own.results, own.results)
    f.remember(label)
    for is_it, callee in known:
        yes, no = b.fresh("known"), b.fresh("other")
        b.branch(is_it(which), yes, no)
        b.follow(yes)
        f.stack += arguments
        _call_defined(f, i, callee)
        if not f.dead:
            f.leave(label, f.top(len(own.results)).copy())
        f.dead = False
        del f.stack[label.height :]
        b.label(no)
        b.memo, b.current = label.memo.copy(), label.current.copy()
    f.stack += [*arguments, which]
    _call(f, other())
    f.leave(label, f.top(len(own.results)).copy())
    f.arrive(label)
    if own.results and not f.dead:
        for value, type in zip(f.top(len(own.results)), f.facts.func_type(i.a).results, strict=True):
            f.learn(value, type)


@lowers("call_ref")
def _call_ref(f: FunctionLowering, i: Instr) -> None:
    """Where few functions have the type, the reference is nearly always to one of them."""
    known = f.facts.targets(i.a) if f.inlining is not None else []
    if not _has_room(f, len(known)):
        _call(f, _reference(f, i))
        return

    def comparison(callee: int) -> Callable[[Value], Value]:
        function = f.b.address_word(f.named("func", f.facts.imported + callee))
        return lambda reference: f.b.compare("eq", reference, function)

    _call_known(f, i, [(comparison(callee), callee) for callee in known], lambda: _reference(f, i))


@lowers("return_call")
def _return_call(f: FunctionLowering, i: Instr) -> None:
    if i.a != f.facts.imported + f.index:
        _tail_call(f, _direct(f, i.a))
        return
    arguments = f.pop_many(len(f.signature.params))
    f.stop_fuel()
    f.go_again(arguments)
    f.dead = True


@lowers("return_call_indirect")
def _return_call_indirect(f: FunctionLowering, i: Instr) -> None:
    _tail_call(f, _indirect(f, i))


@lowers("return_call_ref")
def _return_call_ref(f: FunctionLowering, i: Instr) -> None:
    _tail_call(f, _reference(f, i))


# --- references ---


@lowers("ref.null")
def _ref_null(f: FunctionLowering, i: Instr) -> None:
    f.push(OPERATIONS["ref.null"].define(f.b))


@lowers("ref.as_non_null")
def _ref_as_non_null(f: FunctionLowering, i: Instr) -> None:
    f.push(OPERATIONS["ref.as_non_null"].define(f.b, f.pop()))


@lowers("br_on_null")
def _br_on_null(f: FunctionLowering, i: Instr) -> None:
    value = f.pop()
    branch_if(f, OPERATIONS["ref.is_null"].define(f.b, value), f.label(i.a))
    f.b.learn(value, False, False)
    f.push(value)


@lowers("br_on_non_null")
def _br_on_non_null(f: FunctionLowering, i: Instr) -> None:
    (value,) = f.top(1)
    branch_if(f, f.b.compare("ne", value, f.b.const("i64", 0)), f.label(i.a))
    f.pop()
