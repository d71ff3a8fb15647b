"""Lowers blocks, branches and exception handlers (Core 3.0, 4.4.8)."""

from __future__ import annotations

from wasmloom.compiler.labels import Label, Landing, Rounds
from wasmloom.compiler.loops import ROUNDS, Instr
from wasmloom.compiler.lowering import FunctionLowering, lowers
from wasmloom.contract import layout
from wasmloom.semantics.llvm import Value, llvm_type


@lowers("block")
def _block(f: FunctionLowering, i: Instr) -> None:
    f.open(i.a, "end")


@lowers("loop")
def _loop(f: FunctionLowering, i: Instr) -> None:
    b = f.b
    f.stop_fuel()
    label = f.open(i.a, "after")
    label.is_loop = True
    label.kinds = f.block_type(i.a)[0]
    label.target = b.fresh("loop")
    params = f.pop_many(len(label.kinds))
    f.leave(label, params)
    f.begin_loop(label, i.offset)
    label.phis_at = b.reserve()
    f.around += 1
    for kind in label.kinds:
        f.push(Value(b.fresh("phi"), kind))
    label.first_values = f.top(len(label.kinds)).copy()  # the phis, whose lines are written at the end
    b.safepoint()
    f._start_fuel()
    if i.offset in f.short:
        label.rounds = Rounds(label, i.offset, f.short[i.offset], ROUNDS - 1)
        label.incoming, label.target = [], b.fresh("round")


@lowers("if")
def _if(f: FunctionLowering, i: Instr) -> None:
    b = f.b
    condition = f.pop_condition()
    f.stop_fuel()
    label = f.open(i.a, "end")
    label.else_name = b.fresh("else")
    then = b.fresh("then")
    label.first_values = f.top(len(f.block_type(i.a)[0])).copy()
    b.branch(condition, then, label.else_name, likely=f.hints.get(i.offset))
    b.follow(then)
    f._start_fuel()


@lowers("else")
def _else(f: FunctionLowering, i: Instr) -> None:
    label = f.labels[-1]
    if not f.dead:
        f.leave(label, f.top(len(label.kinds)))
    f.stop_fuel()
    _begin_else(f, label)
    f._start_fuel()


def _begin_else(f: FunctionLowering, label: Label) -> None:
    if label.else_name is None:  # validation has seen to it
        raise ValueError("else without if")
    f.b.label(label.else_name)
    f.b.memo, f.b.current = label.memo.copy(), label.current.copy()
    label.else_name = None
    del f.stack[label.height :]
    f.stack += label.first_values
    f.dead = False


@lowers("end")
def _end(f: FunctionLowering, i: Instr) -> None:
    if len(f.labels) == 1:
        f.finish_function()
        return
    label = f.labels.pop()
    b = f.b
    if label.is_loop:
        _end_loop(f, label)
        return
    # As in the interpreter, a label that nothing jumps to doesn't end a piece of code.
    joins = bool(label.incoming) or label.else_name is not None or label.has_parts
    if not f.dead:
        f.leave(label, f.top(len(label.kinds)))
    if joins:
        f.stop_fuel()
    if label.else_name is not None:  # an `if` without `else` hands its parameters through
        _begin_else(f, label)
        f.leave(label, f.top(len(label.kinds)))
    if label.landing is not None:
        f.landing = label.landing.outer
        if label.landing.used:
            emit_landing(f, label.landing)
    elif label.uncaught is not None:
        b.label(label.uncaught)
        throw_on(f, label.outer)
    go_on_behind(f, label, i, joins)


def go_on_behind(f: FunctionLowering, label: Label, i: Instr, joins: bool) -> None:
    """Go on behind a block, in another piece of code if its label `joins` ways."""
    f.arrive(label)
    f.b.go_to(i.offset)
    if joins and not f.dead:
        f._start_fuel()


def _end_loop(f: FunctionLowering, label: Label) -> None:
    """Write the phis; the loop's end is reached from inside only."""
    f.count_ways(label)
    if label.rounds is not None:
        if _end_round(f, label, label.rounds):
            return
        label.incoming = label.rounds.entries + (label.incoming if not label.rounds.left else [])
    f.around -= 1
    lines = []
    for position, phi in enumerate(label.first_values):
        entries = ", ".join(f"[ {given[position].text}, {block} ]" for given, block in label.incoming)
        lines.append(f"  {phi.text} = phi {llvm_type(phi.type)} {entries}")
    f.b.lines[label.phis_at] = "\n".join(lines)
    if label.rounds is not None and label.rounds.exits:
        f.dead = False
        f.recall(label.end, label)
        label.incoming = label.rounds.exits
        lines, values = f.phis(label, label.results)
        f.b.lines += lines
        del f.stack[label.height :]
        f.stack += values
    if f.dead:
        del f.stack[label.height :]


def _end_round(f: FunctionLowering, label: Label, rounds: Rounds) -> bool:
    """A round of a short loop ends; begin the next one, if there is one and something goes to it."""
    b = f.b
    if not f.dead:
        rounds.exits.append((f.top(len(label.results)).copy(), b.block))
        b.jump(label.end)
        f.dead = True
    if not rounds.left or not label.incoming:
        return False
    rounds.left -= 1
    b.memo, b.current = label.memo.copy(), label.current.copy()
    f.begin_loop(label, rounds.at)
    lines, values = f.phis(label, label.kinds)
    b.lines += lines
    del f.stack[label.height :]
    f.stack += values
    label.incoming, label.target = [], b.fresh("round") if rounds.left else rounds.first
    f.labels.append(label)
    f.dead = False
    f.go_on_at = rounds.start
    return True


def match_tag(f: FunctionLowering, exception: Value, tag: int) -> tuple[str, list[Value]]:
    """Go on with an exception's values if it has a tag; gives the label where all others go, too."""
    b = f.b
    thrown, mine = b.struct_field(exception, "WlException", "tag"), f.named("tag", tag)
    match, following = b.fresh("match"), b.fresh("clause")
    b.branch(b.assign(f"icmp eq ptr {thrown.text}, {mine.text}", "i1"), match, following)
    b.follow(match)
    area = b.at(exception, layout.size("WlException"))
    return following, b.values_at(area, f.facts.tag_signature(tag).params)


def emit_landing(f: FunctionLowering, landing: Landing) -> None:
    """The clauses of a `try_table`, in order: the first that matches takes the exception (Core 3.0, 4.4.8)."""
    b = f.b
    b.label(landing.name)
    ctx = b.ctx
    word = b.struct_field(ctx, "WlContext", "pending", "i64")
    exception = b.assign(f"inttoptr i64 {word.text} to ptr", "ptr")
    total = False
    for kind, tag, label in landing.clauses:
        has_tag, has_reference = kind < 2, kind in (1, 3)
        values: list[Value] = []
        if has_tag:
            following, values = match_tag(f, exception, tag)
        b.set_struct_field(ctx, "WlContext", "pending", b.const("i64", 0))
        if has_reference:
            values.append(word)
        f.leave(label, values)
        if not has_tag:
            total = True
            if not f.options.as_interpreted:
                break
            following = b.fresh("never")
        b.label(following)
    if total and f.options.as_interpreted:
        b.emit("unreachable")
    elif not total:
        throw_on(f, landing.outer)


def throw_on(f: FunctionLowering, landing: Landing | None) -> None:
    """Let the pending exception go to a landing, or out of the function."""
    landing = landing or f.exit
    landing.used = True
    f.b.jump(landing.name)


@lowers("try_table")
def _try_table(f: FunctionLowering, i: Instr) -> None:
    clauses = [(kind, tag, f.label(depth)) for kind, tag, depth in i.items or []]  # type: ignore[misc]
    f.stop_fuel()  # as in the interpreter: what is thrown before it doesn't pay for what is in it
    label = f.open(i.a, "end")
    label.landing = f.new_landing(clauses, label.height)
    f._start_fuel()


@lowers("br")
def _br(f: FunctionLowering, i: Instr) -> None:
    label = f.label(i.a)
    f.leave(label, f.top(len(label.kinds)).copy())
    f.stop_fuel()
    f.dead = True


@lowers("br_if")
def _br_if(f: FunctionLowering, i: Instr) -> None:
    branch_if(f, f.pop_condition(), f.label(i.a), f.hints.get(i.offset))


def branch_if(f: FunctionLowering, condition: Value, label: Label, likely: bool | None = None) -> None:
    """Branch to a label where a truth value holds, which may be known to be likely or unlikely, with the topmost
    values."""
    b = f.b
    values = f.top(len(label.kinds)).copy()
    f.note(label, values)
    go_on = b.fresh("next")
    b.branch(condition, label.target, go_on, likely=likely)
    b.follow(go_on)


@lowers("br_table")
def _br_table(f: FunctionLowering, i: Instr) -> None:
    b = f.b
    index = f.pop()
    depths: list[int] = i.items or []  # type: ignore[assignment]
    default = f.label(i.a)
    values = f.top(len(default.kinds)).copy()
    f.note(default, values)
    cases = []
    for number, depth in enumerate(depths):
        label = f.label(depth)
        if label is default:
            continue  # what the table doesn't name goes there anyway
        f.note(label, values)
        cases.append(f"i32 {number}, label {label.target}")
    b.emit(f"switch i32 {index.text}, label {default.target} [ {' '.join(cases)} ]")
    f.stop_fuel()
    f.dead = True


@lowers("return")
def _return(f: FunctionLowering, i: Instr) -> None:
    label = f.labels[0]
    f.leave(label, f.top(len(label.kinds)).copy())
    f.stop_fuel()
    f.dead = True
