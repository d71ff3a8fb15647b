"""Function bodies → LLVM IR: a walk over the instructions with a symbolic operand stack.

What instructions do comes from the definitions (`wasmloom.semantics`). Locals are variables that LLVM turns
into values; the operands of blocks are phis. What isn't reachable is skipped. Control, calls,
exceptions and continuations are in `control_lowering`, `call_lowering` and `stack_lowering`.

Exceptions need no unwinder: a call that may throw is followed by a look at ``ctx.pending``, which branches to the
innermost `try_table`'s clauses, or returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wasmloom.compiler.abi import (
    UNIFORM_PROTOTYPE,
    UNIFORM_RESULT,
    Signature,
    signature,
    uniform_position,
    uniform_type,
)
from wasmloom.compiler.accesses import Accesses
from wasmloom.compiler.bodies import read_body
from wasmloom.compiler.builder import FunctionBuilder, Scope
from wasmloom.compiler.deterministic import Determinism
from wasmloom.compiler.facts import Facts
from wasmloom.compiler.inlining import Inlining
from wasmloom.compiler.labels import Label, Landing
from wasmloom.compiler.loops import CLOSES, OPENS, PARTS, ROUNDS, SHORT, Instr, rounds, written_in_loops
from wasmloom.compiler.options import Options
from wasmloom.contract import traps
from wasmloom.contract.layout import WAITS
from wasmloom.errors import UnsupportedError
from wasmloom.semantics import definitions as _definitions  # noqa: F401  (fills the registry)
from wasmloom.semantics.features import EXECUTED
from wasmloom.semantics.kinds import Kind, by_name, of_type
from wasmloom.semantics.llvm import Value, llvm_type
from wasmloom.semantics.registry import OPERATIONS, Operation, is_again
from wasmloom.spec.instructions import BY_MNEMONIC, INSTRUCTIONS
from wasmloom.spec.types import I32, I64, NULL_FLAG, REF_FLAG, FuncType

_OPERATION: dict[int, Operation] = {op.instruction.index: op for op in OPERATIONS.values()}
_RETURN_CALL = BY_MNEMONIC["return_call"].index

#: Lines of LLVM IR that a function may have; LLVM takes about a thousand bytes for each.
MOST_LINES = 2_000_000
#: A block is cut when it has more lines: level 0's instruction selection counts what is left of a block at each call of
#: an intrinsic that it has no pattern for, a rotation for instance.
LONGEST_BLOCK = 10_000
#: What is known of more values or locals than this is forgotten where a block begins.
MOST_KNOWN = 500


class FunctionLowering:
    """Lowers one function; `lines` then has its definition. Raises `UnsupportedError`."""

    def __init__(
        self, facts: Facts, options: Options, index: int, scope: Scope, inlining: Inlining | None = None
    ) -> None:
        """`scope` gives the metadata suffixes of debug locations; `inlining` is that of the unit."""
        self.facts = facts
        self.options = options
        self.index = index
        self.signature: Signature = facts.function(facts.imported + index)
        self.uniform = facts.uniform[index]
        self.b = FunctionBuilder(scope)
        self.accesses = Accesses(self.b, facts, options)
        self.stack: list[Value] = []
        self.labels: list[Label] = []
        self.landing: Landing | None = None
        self.exit = Landing("%propagate", None, [], 0)
        self.locals: list[tuple[Value, str]] = []
        #: the types of the innermost function's locals
        self.types: Sequence[int] = ()
        self.scope = scope
        self.inlining = inlining
        #: the functions that stand in each other, in the place of calls; the first local of the innermost one; bytes of
        #: bodies that have been added so; and how many loops there are around
        self.inside: list[int] = []
        self.first_local = 0
        self.added = 0
        self.around = 0
        self.dead = False
        self.offset = 0
        #: definitions of constant data that the function needs
        self.globals: set[str] = set()
        #: functions defined in the module that it calls directly
        self.called: set[int] = set()
        #: by the offset of an `if` or `br_if`: whether its condition is likely to hold
        self.hints = facts.hints(index)
        #: whether it looks for handlers (`switching.FIND_HANDLER`)
        self.uses_search = False
        #: where the function begins that tail-calls itself
        self.again = "%again.0"
        #: how often each local has been written
        self.writes: list[int] = []
        #: by the offset of a loop: the locals that it writes
        self.written: dict[int, set[int]] = {}
        #: by the offset of a short loop: where its body begins in the list of instructions; where lowering goes on
        self.short: dict[int, int] = {}
        self.go_on_at = -1
        #: how deep loops lie inside each other; how many operands there are, and branches to a label, at most
        self.deepest = 0
        self.highest = 0
        self.most_ways = 0
        self._fuel_at = -1
        self._fuel_where = ""
        self._fuel = 0

    # --- the whole function ---

    def lower(self) -> list[str]:
        """The function's definition."""
        b = self.b
        runs, body = read_body(self.facts.module, self.index)
        b.label("%begin")
        if body:
            b.go_to(body[0][1])
        # The prologue's slow path takes the instance out of its register: LLVM must not find that nothing needs it.
        b.use(b.inst)
        determinism = Determinism(self) if self.options.deterministic else None
        self._declare_locals(runs)
        self.types = self._local_types(self.index, runs)
        self.writes = [0] * len(self.locals)
        self.written, self.deepest = written_in_loops(body)
        if not self.options.as_interpreted:
            self.short = rounds(body)
        # A tail call of itself is the next round of a loop, and looked at as others are.
        again = any(instr.row == _RETURN_CALL and instr.a == self.facts.imported + self.index for instr in body)
        short = again and not self.options.as_interpreted and self.facts.size(self.index) <= SHORT
        for number in range(ROUNDS if short else 1):
            if again:
                if not number:
                    b.jump(self.again)
                b.label(self.again)
                self.again = f"%again.{(number + 1) % ROUNDS if short else 0}"
                if not number:
                    b.safepoint()
            if determinism is not None:
                determinism.begin()
            self._start_fuel()
            self.stack.clear()
            self.dead = False
            end = f"%return.{number}"
            self.labels.append(Label(end, end, 0, self.signature.results, self.signature.results))
            self._walk(body, determinism)
        if determinism is not None:
            determinism.end()
        if self.exit.used:
            b.label(self.exit.name)
            b.emit(f"ret {self._result_type()} poison" if self._result_type() != "void" else "ret void")
        return [self._header(), *b.finish(), "}"]

    def _walk(self, body: list[Instr], determinism: Determinism | None) -> None:
        """Lower the instructions of a body."""
        b = self.b
        skipped = 0
        position = 0
        while position < len(body):
            instr = body[position]
            position += 1
            row = instr.row
            if self.dead:
                if row in OPENS:
                    skipped += 1
                    continue
                if row in CLOSES and skipped:
                    skipped -= 1
                    continue
                if row not in PARTS or skipped:
                    continue
            self.offset = instr.offset
            b.go_to(instr.offset)
            self._fuel += 1
            if determinism is not None:
                determinism.before(instr)
            self.instruction(instr)
            if determinism is not None:
                determinism.after(instr)
            self.highest = max(self.highest, len(self.stack))
            if self.go_on_at >= 0:
                position, self.go_on_at = self.go_on_at, -1
            if len(b.lines) - b.began > LONGEST_BLOCK and not self.dead:
                here = b.fresh("more")
                b.jump(here)
                b.follow(here)
            if len(b.lines) > MOST_LINES:
                raise UnsupportedError("function is too large to be compiled", self.offset)

    def wants(self, callee: int) -> bool:
        """Whether a function of those defined in the module is to stand in the place of a call here."""
        return self.inlining is not None and self.inlining.wants(
            self.index, callee, self.inside, self.around > 0, self.added
        )

    def stand_in(self, i: Instr, callee: int) -> None:
        """Lower a function of those defined in the module in the place of a call, which takes its arguments from the
        operand stack, and leaves its results there."""
        b, inlining = self.b, self.inlining
        if inlining is None:
            raise ValueError("nothing is inlined here")
        own = self.facts.function(self.facts.imported + callee)
        runs, body = inlining.body(callee)
        before = self.labels, self.hints, self.first_local, self.types, b.site
        arguments = self.pop_many(len(own.params))
        self.first_local = len(self.locals)
        for argument in arguments:
            self._add_local(argument)
        for kind in self.local_kinds(runs):
            self._add_local(b.constant(kind, 0))
        end = b.fresh("returned")
        label = Label(end, end, len(self.stack), own.results, own.results)
        self.remember(label)
        self.labels, self.hints = [label], self.facts.hints(callee)
        self.types = self._local_types(callee, runs)
        self.inside.append(callee)
        self.added += self.facts.size(callee)
        b.site = inlining.add(b.site, i.offset, callee)
        self._walk(body, None)
        for local in range(self.first_local, len(self.locals)):
            b.current.pop(local, None)
        self.inside.pop()
        self.labels, self.hints, self.first_local, self.types, b.site = before
        self.offset = i.offset
        b.go_to(i.offset)

    def _add_local(self, value: Value) -> None:
        """Another local, which has a value."""
        variable = self.b.alloca(llvm_type(value.type), f"%l{len(self.locals)}")
        self.locals.append((variable, value.type))
        self.writes.append(0)
        self.b.current[len(self.locals) - 1] = value
        self.b.emit(f"store {llvm_type(value.type)} {value.text}, ptr {variable.text}")

    def instruction(self, instr: Instr) -> None:
        """Lower an instruction that can be reached."""
        _HANDLERS[instr.row](self, instr)

    def _result_type(self) -> str:
        return UNIFORM_RESULT if self.uniform else self.signature.result

    def _header(self) -> str:
        own = self.signature
        if self.uniform:
            names = [f"{kind} %u{i}" for i, kind in enumerate(UNIFORM_PROTOTYPE.split(", ")[1:])]
        else:
            names = [f"{llvm_type(own.params[i])} %p{i}" for i in own.registers]
        params = ", ".join(["ptr swiftself %inst", *names])
        return f"define hidden {self._result_type()} @wf.{self.index}({params}) #0{self.scope(-1, 0)} {{"

    def _declare_locals(self, runs: list[tuple[int, int]]) -> None:
        """Variables for parameters and locals (Core 3.0, 4.4.11)."""
        b, own = self.b, self.signature
        for i, kind in enumerate(own.params):
            variable = b.alloca(llvm_type(kind), f"%l{i}")
            self.locals.append((variable, kind))
            if i not in own.registers:
                value = b.value_at(b.args(b.ctx), own.param_places[i], kind)
            elif self.uniform:
                at = uniform_position(own.params, own.registers, i)
                value = b.from_uniform(Value(f"%u{at}", uniform_type(kind)), kind)
            else:
                value = Value(f"%p{i}", kind)
            b.current[i] = value
            b.emit(f"store {llvm_type(kind)} {value.text}, ptr {variable.text}")
        for kind in self.local_kinds(runs):
            variable = b.alloca(llvm_type(kind), f"%l{len(self.locals)}")
            self.locals.append((variable, kind))
            zero = b.constant(kind, 0)
            b.current[len(self.locals) - 1] = zero
            b.emit(f"store {llvm_type(kind)} {zero.text}, ptr {variable.text}")

    def _local_types(self, function: int, runs: list[tuple[int, int]]) -> list[int]:
        """The types of parameters and locals of a function of those defined in the module."""
        own = self.facts.function_type(self.facts.imported + function)
        return [*own.params, *(type for count, type in runs for _ in range(count))]

    def learn(self, value: Value, type: int, is_canonical: bool = False) -> Value:
        """What a value's type says of it, if it is a reference. Returns the value."""
        if type & REF_FLAG:
            self.b.learn(value, bool(type & NULL_FLAG), self.facts.is_object(type, is_canonical))
        return value

    def local_kinds(self, runs: list[tuple[int, int]]) -> list[str]:
        """The kinds of the locals behind the parameters: those that the body declares in runs, and `Determinism`'s."""
        kinds = []
        for count, type in runs:
            kinds += [of_type(type).type] * count
        return [*kinds, "i64"] if self.options.deterministic else kinds

    def read_local(self, index: int) -> Value:
        """The value of a local of the function that is being lowered."""
        index += self.first_local
        value = self.b.current.get(index)
        if value is None:
            variable, kind = self.locals[index]
            value = self.b.current[index] = self.b.assign(f"load {llvm_type(kind)}, ptr {variable.text}", kind)
        return value

    def write_local(self, index: int, value: Value) -> None:
        """Give a local of the function that is being lowered another value."""
        index += self.first_local
        self.writes[index] += 1
        self.b.current[index] = value
        self.b.emit(f"store {llvm_type(value.type)} {value.text}, ptr {self.locals[index][0].text}")

    # --- fuel: what a straight piece of code costs is known where it ends ---

    def _start_fuel(self) -> None:
        if self.options.fuel:
            self._fuel_at = self.b.reserve()
            self._fuel_where = self.b.where
            self._fuel = 0
            go_on = self.b.fresh("fuelled")
            self._fuel_label = go_on
            self.b.follow(go_on)

    def stop_fuel(self) -> None:
        """The running piece ends here: fill in what it pays at its beginning."""
        if self._fuel_at < 0:
            return
        b = self.b
        spare = FunctionBuilder()
        spare._count = b._count
        spare.where = self._fuel_where
        ctx = spare.ctx
        left = spare.struct_field(ctx, "WlContext", "fuel", "i64")
        rest = spare.binary("sub", left, spare.const("i64", self._fuel))
        empty = spare.fresh("empty")
        spare.branch(spare.compare("slt", rest, spare.const("i64", 0)), empty, spare.fresh("paid"), unlikely=True)
        paid = f"%paid{spare._count}"
        spare.label(empty)
        spare.trap(traps.OUT_OF_FUEL)
        spare.label(paid)
        spare.set_struct_field(ctx, "WlContext", "fuel", rest)
        spare.jump(self._fuel_label)
        b._count = spare._count
        b.lines[self._fuel_at] = "\n".join(spare.lines)
        self._fuel_at = -1

    # --- the operand stack ---

    def push(self, value: Value) -> None:
        """Push a value; truth values are widened where a number is wanted."""
        self.stack.append(value)

    def pop(self) -> Value:
        """Pop a value of a Wasm type."""
        value = self.stack.pop()
        return self.b.convert("zext", value, "i32") if value.type == "i1" else value

    def pop_many(self, count: int) -> list[Value]:
        """Pop values, the first pushed first."""
        if not count:
            return []
        values = self.stack[-count:]
        del self.stack[-count:]
        return [self.b.convert("zext", v, "i32") if v.type == "i1" else v for v in values]

    def pop_condition(self) -> Value:
        """Pop an i32 as a truth value."""
        value = self.stack.pop()
        return value if value.type == "i1" else self.b.compare("ne", value, self.b.const("i32", 0))

    # --- blocks and branches ---

    def block_type(self, raw: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Parameters and results of a block (see `wasmloom.binary.reader` for the immediate)."""
        number = raw - (1 << 64) if raw >> 63 else raw
        if number >= 0:
            type = self.facts.signature(number)
            return type.params, type.results
        return (), ((of_type(~number).type,) if ~number else ())

    def open(self, raw: int, name: str) -> Label:
        """Open a block whose parameters are on the stack."""
        params, results = self.block_type(raw)
        end = self.b.fresh(name)
        label = Label(end, end, len(self.stack) - len(params), results, results)
        self.remember(label)
        label.outer = self.landing
        self.labels.append(label)
        return label

    def remember(self, label: Label) -> None:
        """A block begins: keep what is known here. Labels inside each other do so each for itself."""
        if len(self.b.memo) > MOST_KNOWN:
            self.b.memo.clear()
        if len(self.b.current) > MOST_KNOWN:
            self.b.current.clear()
        label.memo = self.b.memo.copy()
        label.current = self.b.current.copy()
        label.writes = [self.writes[i] for i in label.current]

    def begin_loop(self, label: Label, at: int) -> None:
        """Begin the body of the loop at an offset: what was known stays so, but locals that are written in there."""
        self.b.follow(label.target)
        written = self.written.get(at)
        if written is None:
            self.b.current.clear()
        else:
            for local in written:
                self.b.current.pop(local, None)

    def label(self, depth: int) -> Label:
        """The label that a branch names."""
        return self.labels[-1 - depth]

    def note(self, label: Label, values: list[Value]) -> None:
        """The current block is about to branch to a label with values."""
        label.incoming.append((values, self.b.block))

    def leave(self, label: Label, values: list[Value]) -> None:
        """Branch to a label with values, and end the block."""
        self.note(label, values)
        self.b.jump(label.target)

    def top(self, count: int) -> list[Value]:
        """The topmost values, which stay."""
        if not count:
            return []
        for i in range(len(self.stack) - count, len(self.stack)):
            if self.stack[i].type == "i1":
                self.stack[i] = self.b.convert("zext", self.stack[i], "i32")
        return self.stack[-count:]

    def phis(self, label: Label, kinds: tuple[str, ...]) -> tuple[list[str], list[Value]]:
        """The phi instructions of a label, and the values that arrive there.

        What is the same on every way needs none: it has been computed before the ways part. So a block with a thousand
        results and a thousand branches out of it doesn't have a million operands.
        """
        lines, values = [], []
        for position, kind in enumerate(kinds):
            first = label.incoming[0][0][position]
            if all(given[position] == first for given, _ in label.incoming):
                values.append(first)
                continue
            name = self.b.fresh("phi")
            entries = ", ".join(f"[ {given[position].text}, {block} ]" for given, block in label.incoming)
            lines.append(f"  {name} = phi {llvm_type(kind)} {entries}")
            values.append(Value(name, kind))
        return lines, values

    def count_ways(self, label: Label) -> None:
        """A block ends, and with it the branches to its label."""
        if len(label.incoming) > self.most_ways:
            self.most_ways = max(self.most_ways, len({block for _, block in label.incoming}))

    def arrive(self, label: Label) -> None:
        """Begin the block behind a label that branches have gone to."""
        b = self.b
        self.count_ways(label)
        del self.stack[label.height :]
        if not label.incoming:
            self.dead = True
            return
        self.dead = False
        self.recall(label.end, label)
        lines, values = self.phis(label, label.results)
        b.lines += lines
        self.stack += values

    def recall(self, name: str, label: Label) -> None:
        """Begin a block that is reached from inside an open one: what was known before that, and hasn't changed."""
        self.b.label(name)
        self.b.memo = label.memo
        self.b.current = {
            i: value
            for (i, value), count in zip(label.current.items(), label.writes, strict=True)
            if self.writes[i] == count
        }

    def operand(self, index: int) -> Value:
        """An operand by its place on the stack, where it stays."""
        return self.stack[index]

    def finish_function(self) -> None:
        """The outermost `end`: return what arrives."""
        label = self.labels.pop()
        if self.inside:
            if label.incoming:
                if not self.dead:
                    self.leave(label, self.top(len(label.kinds)))
                self.arrive(label)
            elif self.dead:
                del self.stack[label.height :]
            return
        if not self.dead:
            self.leave(label, self.top(len(label.kinds)))
        self.stop_fuel()
        self.arrive(label)
        if self.dead:
            return
        self.give(self.pop_many(len(label.results)))
        self.dead = True

    def give(self, values: list[Value]) -> None:
        """Return values."""
        b = self.b
        first = b.put_rest(values) if values else None
        if self.uniform:
            b.emit(f"ret {b.uniform_result(first)}")
        elif first is not None:
            b.emit(f"ret {llvm_type(first.type)} {first.text}")
        else:
            b.emit("ret void")

    def tail_call(self, callee: Signature, target: str, environment: Value, arguments: list[Value], _: bool) -> None:
        """End the function with a tail call; see `FunctionBuilder.call` for the arguments."""
        self.b.tail_call(callee, target, environment, arguments)

    def go_again(self, arguments: list[Value]) -> None:
        """End with a tail call of the function itself: begin it again."""
        for local, (_, kind) in enumerate(self.locals):
            self.write_local(local, arguments[local] if local < len(arguments) else self.b.constant(kind, 0))
        self.b.jump(self.again)

    def came_back(self, values: list[Value]) -> list[Value]:
        """Control is back from a continuation, with what it brought. What is to go on here does so from here."""
        return values

    # --- exceptions ---

    def new_landing(self, clauses: list[tuple[int, int, Label]], height: int) -> Landing:
        """Begin a part of the function whose exceptions go to a landing.

        Its branches may have to be there whatever happens: they end pieces of code.
        """
        self.landing = Landing(self.b.fresh("catch"), self.landing, clauses, height)
        self.landing.used = self.options.as_interpreted
        return self.landing

    def landing_name(self) -> str:
        """Where an exception goes from here."""
        landing = self.landing or self.exit
        landing.used = True
        return landing.name

    def check_pending(self) -> None:
        """After something that may have thrown."""
        b = self.b
        go_on = b.fresh("fine")
        pending = b.struct_field(b.ctx, "WlContext", "pending", "i64")
        b.branch(b.compare("ne", pending, b.const("i64", 0)), self.landing_name(), go_on, unlikely=True)
        b.follow(go_on)

    def named(self, space: str, index: int) -> Value:
        """What has an index in a space (see `Facts.place`): the address of its struct, or of a global's cell."""
        return self.b.constant_pointer(self.b.inst, self.facts.place(space, index))


Handler = Callable[[FunctionLowering, Instr], None]


def _unsupported(f: FunctionLowering, i: Instr) -> None:
    row = INSTRUCTIONS[i.row]
    raise UnsupportedError(f"{row.feature} is not supported yet: {row.mnemonic}", i.offset)


_HANDLERS: list[Handler] = [_unsupported] * len(INSTRUCTIONS)


def lowers(*mnemonics: str) -> Callable[[Handler], Handler]:
    """Register the decorated function as what lowers instructions; a name stands for all rows that have it.

    Raises LookupError for what isn't an executed instruction, ValueError for one that is lowered already.
    """

    def register(handler: Handler) -> Handler:
        for mnemonic in mnemonics:
            rows = [row for row in INSTRUCTIONS if row.mnemonic == mnemonic and row.feature in EXECUTED]
            if not rows:
                raise LookupError(f"{mnemonic} isn't executed")
            for row in rows:
                if _HANDLERS[row.index] is not _unsupported and not is_again(handler, _HANDLERS[row.index]):
                    raise ValueError(f"{mnemonic} is lowered twice")
                _HANDLERS[row.index] = handler
        return handler

    return register


def check_lowerings() -> None:
    """Raise `LookupError` unless every executed instruction is lowered. Call when all modules that lower are there."""
    for row in INSTRUCTIONS:
        if row.feature in EXECUTED and _HANDLERS[row.index] is _unsupported:
            raise LookupError(f"nothing lowers {row.mnemonic}")


# --- numeric and memory instructions, by rule ---


def _value(f: FunctionLowering, i: Instr) -> None:
    operation = _OPERATION[i.row]
    lanes: list[Value | bytes] = []
    if operation.lane_immediate == "lane":
        lanes.append(f.b.const("i64", i.a))
    elif operation.lane_immediate:
        lanes.append((i.a | i.b << 64).to_bytes(16, "little"))
    f.push(operation.define(f.b, *f.pop_many(len(operation.params)), *lanes))


def _double(f: FunctionLowering, i: Instr) -> None:
    """An instruction with two results."""
    operation = _OPERATION[i.row]
    f.stack += f.b.split(operation.define(f.b, *f.pop_many(len(operation.params))))


def _lane_access(f: FunctionLowering, i: Instr) -> None:
    """A load to, or a store of, one lane."""
    operation = _OPERATION[i.row]
    width = operation.width
    address, value = f.pop_many(2)
    f.accesses.approach(i.b, address, i.a, width)
    place = f.accesses.address(i.b, address, i.a, width)
    result = operation.define(f.b, place, value, f.b.const("i64", i.d))
    f.accesses.accessed(i.b)
    if operation.results:
        f.push(result)


def _load(f: FunctionLowering, i: Instr) -> None:
    operation = _OPERATION[i.row]
    width = operation.width
    address = f.pop()
    f.accesses.approach(i.b, address, i.a, width)
    f.push(operation.define(f.b, f.accesses.address(i.b, address, i.a, width)))
    f.accesses.accessed(i.b)


def _store(f: FunctionLowering, i: Instr) -> None:
    operation = _OPERATION[i.row]
    width = operation.width
    address, value = f.pop_many(2)
    f.accesses.approach(i.b, address, i.a, width)
    operation.define(f.b, f.accesses.address(i.b, address, i.a, width), value)
    f.accesses.accessed(i.b)


def _atomic(f: FunctionLowering, i: Instr) -> None:
    operation = _OPERATION[i.row]
    width, offset, memory = operation.width, i.a, i.b
    if operation.mnemonic in _WAITS and f.facts.module.memories[memory].shared:
        _wait(f, i, operation)
        return
    address, *operands = f.pop_many(len(operation.params))
    f.accesses.check_alignment(address, offset, width)

    def place() -> Value:
        f.accesses.approach(memory, address, offset, width)
        return f.accesses.address(memory, address, offset, width)

    result = operation.define(f.b, place, *operands)
    f.accesses.accessed(memory)
    if result is not None:
        f.push(result)


#: What waits in a memory → the load that traps where it has to.
_WAITS = {"memory.atomic.wait32": OPERATIONS["i32.atomic.load"], "memory.atomic.wait64": OPERATIONS["i64.atomic.load"]}

#: Of what waits: address, expected value, timeout, offset → result.
_WAIT_SIGNATURE = signature(FuncType((I64, I64, I64, I64), (I32,)))


def _wait(f: FunctionLowering, i: Instr, operation: Operation) -> None:
    """Wait in a shared memory: a load, then a call of what waits there (see `wasmloom.host.parking`)."""
    address, *others = f.pop_many(len(operation.params))
    f.push(address)
    _atomic(f, i._replace(row=_WAITS[operation.mnemonic].instruction.index))
    f.pop()
    b = f.b
    number = len(WAITS) * sum(memory.shared for memory in f.facts.module.memories[: i.b])
    function = f.named("wait", number + WAITS.index(_WAITS[operation.mnemonic].width))
    f.stack += b.call(
        _WAIT_SIGNATURE,
        b.struct_field(function, "WlFunction", "register_call").text,
        b.struct_field(function, "WlFunction", "environment"),
        [b.wide(value) for value in (address, *others)] + [b.constant("i64", i.a)],
        False,
    )
    f.check_pending()


def _results(f: FunctionLowering, operation: Operation, i: Instr) -> tuple[Kind, ...]:
    """The kinds of the results of an instruction on an item."""
    return operation.wide_results if f.facts.is_wide(operation.instruction.immediates[0], i.a) else operation.results


def _instance(f: FunctionLowering, i: Instr) -> None:
    operation = _OPERATION[i.row]
    (space,) = operation.instruction.immediates
    operands: list[Value | str] = [*f.pop_many(len(operation.params))]
    if operation.results != operation.wide_results:  # a size
        operands.append(_results(f, operation, i)[0].type)
        if space == "mem":
            operands.append(f.b.const("i64", f.facts.module.memories[i.a].page_size_log2))
    result = operation.define(f.b, f.named(space, i.a), *operands)
    if operation.results:
        f.push(result)


def operands(f: FunctionLowering, imm0: int, imm1: int) -> Value:
    """What a runtime call takes for its instruction: its operands are the words 1, 2, 3, its result is word 0.

    `table.init` and its kin have three operands from word 0 on, and no result.
    """
    name = f"@wl.operands.{imm0}.{imm1}"
    f.globals.add(
        f"{name} = private unnamed_addr constant {{ i64, i16, i16, i16, i16, i32, i32 }} "
        f"{{ i64 0, i16 0, i16 1, i16 2, i16 3, i32 {imm0}, i32 {imm1} }}, align 8"
    )
    return Value(name, "ptr")


def _runtime(f: FunctionLowering, i: Instr) -> None:
    operation = _OPERATION[i.row]
    b, results = f.b, _results(f, operation, i)
    words = b.words(4)
    for k, value in enumerate(f.pop_many(len(operation.params)), start=len(results)):
        b.set_word(words, k, value)
    has_second = len(operation.instruction.immediates) > 1
    operation.define(b, b.inst, words, operands(f, i.a, i.b if has_second else 0))
    if results:
        f.push(b.from_word(b.word_at(words, 0), results[0].type))


def _nothing(f: FunctionLowering, i: Instr) -> None:
    pass


_FAMILIES: dict[str, Handler] = {
    "value": _value,
    "double": _double,
    "load": _load,
    "store": _store,
    "atomic": _atomic,
    "instance": _instance,
    "runtime": _runtime,
    "nothing": _nothing,
}
for _operation in OPERATIONS.values():
    if _operation.kind in ("load", "store") and _operation.lane_immediate:
        lowers(_operation.mnemonic)(_lane_access)
    elif _operation.kind != "own":
        lowers(_operation.mnemonic)(_FAMILIES[_operation.kind])


@lowers("i32.const", "i64.const", "f32.const", "f64.const", "v128.const")
def _constant(f: FunctionLowering, i: Instr) -> None:
    (result,) = INSTRUCTIONS[i.row].results
    f.push(f.b.constant(by_name(result).type, i.a | (i.b << 64 if by_name(result).is_vector else 0)))


# --- variables and parametric instructions ---


@lowers("local.get")
def _local_get(f: FunctionLowering, i: Instr) -> None:
    f.push(f.learn(f.read_local(i.a), f.types[i.a]))


@lowers("local.set")
def _local_set(f: FunctionLowering, i: Instr) -> None:
    f.write_local(i.a, f.pop())


@lowers("local.tee")
def _local_tee(f: FunctionLowering, i: Instr) -> None:
    (value,) = f.top(1)
    f.write_local(i.a, value)


@lowers("global.get")
def _global_get(f: FunctionLowering, i: Instr) -> None:
    type = f.facts.module.global_type(i.a)
    cell = f.named("global", i.a)
    value = OPERATIONS["global.get"].define(f.b, cell, of_type(type.content).type, type.mutable)
    f.push(f.learn(value, type.content, True))


@lowers("global.set")
def _global_set(f: FunctionLowering, i: Instr) -> None:
    value = f.pop()
    OPERATIONS["global.set"].define(f.b, f.named("global", i.a), value)


@lowers("drop")
def _drop(f: FunctionLowering, i: Instr) -> None:
    f.stack.pop()


@lowers("select")
def _select(f: FunctionLowering, i: Instr) -> None:
    condition = f.pop_condition()
    x, y = f.pop_many(2)
    f.push(OPERATIONS["select"].define(f.b, x, y, condition))


@lowers("atomic.fence")
def _fence(f: FunctionLowering, i: Instr) -> None:
    OPERATIONS["atomic.fence"].define(f.b)


@lowers("unreachable")
def _unreachable(f: FunctionLowering, i: Instr) -> None:
    f.stop_fuel()
    OPERATIONS["unreachable"].define(f.b)
    f.dead = True
