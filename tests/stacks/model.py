"""A reference model of exceptions and continuations, and the text format for the same programs.

A program is a list of function bodies; a body is a list of statements (tuples, see `statements`). Every function has an
integer `x`, three references to continuations, and the type (i32, continuation) -> i32, as has every continuation;
functions call and create only those with higher numbers, so that every program ends. Four references and a hash of
everything that was logged are global.

In the model a function is a Python generator: what it yields asks for what only a parent can do, `_resume` is such
a parent, and hands on what it has no clause for. So a suspended chain is the generator at its outer end, which
holds the others.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from hypothesis import strategies as st

TAGS, EXCEPTIONS, SWITCHES = 2, 2, 2
SLOTS, CELLS = 3, 4
MASK = 0xFFFFFFFF

Statement = tuple[Any, ...]
Running = Generator[tuple[Any, ...], tuple[int, Any], int]


class ModelTrap(Exception):
    """The program traps, for the reason given."""


class ModelException(Exception):
    """An exception of the program: tag and value."""


class Continuation:
    """A reference to a continuation: `start` for a fresh one, else the generator that waits."""

    def __init__(self, start: int | None, waiting: Running | None = None) -> None:
        self.start = start
        self.waiting = waiting
        self.consumed = False

    def consume(self) -> Continuation:
        """The same, for a new reference; traps when it has been consumed."""
        if self.consumed:
            raise ModelTrap("continuation already consumed")
        self.consumed = True
        return Continuation(self.start, self.waiting)


class Model:
    """Runs a program."""

    def __init__(self, program: list[list[Statement]]) -> None:
        self.program = program
        self.cells: list[Continuation | None] = [None] * CELLS
        self.hash = 0

    def run(self) -> tuple[Any, ...]:
        """The outcome of function 0 on 1, and the hash."""
        outcome: tuple[Any, ...]
        try:
            main = self.function(0, 1, None)
            next(main)
            outcome = ("trap", "unhandled tag")
        except StopIteration as done:
            outcome = ("return", done.value)
        except ModelTrap as trap:
            outcome = ("trap", trap.args[0])
        except ModelException as error:
            outcome = ("exception", *error.args)
        return (*outcome, self.hash)

    def function(self, index: int, x: int, argument: Continuation | None) -> Running:
        """A call."""
        frame: list[Any] = [x, argument, None, None]
        yield from self.body(index, self.program[index], frame)
        return int(frame[0])

    def body(self, index: int, body: list[Statement], frame: list[Any]) -> Generator[Any, Any, None]:
        """Statements, one after another."""
        for statement in body:
            yield from getattr(self, "do_" + statement[0])(index, frame, *statement[1:])

    def taken(self, frame: list[Any], slot: int) -> Continuation:
        """The reference in a slot, which must not be null."""
        reference = frame[1 + slot]
        if reference is None:
            raise ModelTrap("null continuation reference")
        return reference  # type: ignore[no-any-return]

    # Statements are generators, even those that never suspend.

    def do_add(self, index: int, frame: list[Any], number: int) -> Generator[Any, Any, None]:
        frame[0] = (frame[0] * 31 + number) & MASK
        yield from ()

    def do_log(self, index: int, frame: list[Any]) -> Generator[Any, Any, None]:
        self.hash = (self.hash * 33 + frame[0]) & MASK
        yield from ()

    def do_collect(self, index: int, frame: list[Any]) -> Generator[Any, Any, None]:
        yield from ()

    def do_new(self, index: int, frame: list[Any], slot: int, ahead: int) -> Generator[Any, Any, None]:
        frame[1 + slot] = Continuation(later(index, ahead, len(self.program)))
        yield from ()

    def do_store(self, index: int, frame: list[Any], slot: int, cell: int) -> Generator[Any, Any, None]:
        self.cells[cell] = frame[1 + slot]
        yield from ()

    def do_load(self, index: int, frame: list[Any], slot: int, cell: int) -> Generator[Any, Any, None]:
        frame[1 + slot] = self.cells[cell]
        yield from ()

    def do_bind(self, index: int, frame: list[Any], slot: int) -> Generator[Any, Any, None]:
        frame[1 + slot] = self.taken(frame, slot).consume()
        yield from ()

    def do_call(self, index: int, frame: list[Any], slot: int, ahead: int) -> Generator[Any, Any, None]:
        callee = later(index, ahead, len(self.program))
        frame[0] = yield from self.function(callee, frame[0], frame[1 + slot])

    def do_throw(self, index: int, frame: list[Any], tag: int) -> Generator[Any, Any, None]:
        raise ModelException(tag, frame[0])
        yield

    def do_try(self, index: int, frame: list[Any], tag: int, body: list[Statement]) -> Generator[Any, Any, None]:
        try:
            yield from self.body(index, body, frame)
        except ModelException as error:
            if tag < EXCEPTIONS and error.args[0] != tag:
                raise
            if tag < EXCEPTIONS:
                frame[0] = error.args[1]

    def do_suspend(self, index: int, frame: list[Any], tag: int) -> Generator[Any, Any, None]:
        frame[0], frame[1] = yield ("suspend", tag, frame[0])

    def do_switch(self, index: int, frame: list[Any], slot: int, tag: int) -> Generator[Any, Any, None]:
        frame[0], frame[2] = yield ("switch", tag, frame[0], self.taken(frame, slot))

    def do_resume(
        self, index: int, frame: list[Any], slot: int, argument: int, clauses: list[tuple[str, int, int]]
    ) -> Generator[Any, Any, None]:
        child = self.taken(frame, slot)
        yield from self._resume(frame, child.consume(), (frame[0], frame[1 + argument]), clauses)

    def do_resume_throw(
        self, index: int, frame: list[Any], slot: int, tag: int, clauses: list[tuple[str, int, int]]
    ) -> Generator[Any, Any, None]:
        child = self.taken(frame, slot)
        yield from self._resume(frame, child.consume(), ModelException(tag, frame[0]), clauses)

    def _resume(
        self, frame: list[Any], child: Continuation, sent: Any, clauses: list[tuple[str, int, int]]
    ) -> Generator[Any, Any, None]:
        """Be the parent of a continuation until it returns or suspends with a tag of one of the clauses."""
        running, sent = self._go_on(child, sent)
        while True:
            try:
                request = running.throw(sent) if isinstance(sent, ModelException) else running.send(sent)
            except StopIteration as done:
                frame[0] = done.value
                return
            for kind, tag, slot in clauses:
                if (kind, tag) != request[:2]:
                    continue
                if kind == "suspend":
                    frame[0] = request[2]
                    frame[1 + slot] = Continuation(None, running)
                    return
                target = request[3].consume()
                running, sent = self._go_on(target, (request[2], Continuation(None, running)))
                break
            else:
                try:
                    sent = yield request
                except ModelException as error:
                    sent = error

    def _go_on(self, child: Continuation, sent: Any) -> tuple[Running, Any]:
        """The generator of a continuation, and what to send to it first."""
        if child.waiting is not None:
            return child.waiting, sent
        assert child.start is not None
        if isinstance(sent, ModelException):
            raise sent
        return self.function(child.start, *sent), None


def later(index: int, ahead: int, count: int) -> int:
    """The function that a function means: one with a higher number, or the last one, which does little."""
    return min(index + 1 + ahead, count - 1)


# --- programs ---


def statements(depth: int) -> st.SearchStrategy[Statement]:
    """Random statements; `try` nests `depth` times."""
    slot, cell = st.integers(0, SLOTS - 1), st.integers(0, CELLS - 1)
    tag, exception, switch = (st.integers(0, n - 1) for n in (TAGS, EXCEPTIONS, SWITCHES))
    ahead = st.integers(0, 2)
    clause = st.one_of(st.tuples(st.just("suspend"), tag, slot), st.tuples(st.just("switch"), switch, st.just(0)))
    clauses = st.lists(clause, max_size=3)
    simple = [
        st.tuples(st.just("add"), st.integers(0, 1000)),
        st.tuples(st.just("log")),
        st.tuples(st.just("collect")),
        st.tuples(st.just("new"), slot, ahead),
        st.tuples(st.just("new"), slot, ahead),
        st.tuples(st.just("store"), slot, cell),
        st.tuples(st.just("load"), slot, cell),
        st.tuples(st.just("bind"), slot),
        st.tuples(st.just("call"), slot, ahead),
        st.tuples(st.just("throw"), exception),
        st.tuples(st.just("suspend"), tag),
        st.tuples(st.just("suspend"), tag),
        st.tuples(st.just("switch"), slot, switch),
        st.tuples(st.just("resume"), slot, slot, clauses),
        st.tuples(st.just("resume"), slot, slot, clauses),
        st.tuples(st.just("resume_throw"), slot, exception, clauses),
    ]
    if depth:
        body = st.lists(statements(depth - 1), max_size=4)
        simple.append(st.tuples(st.just("try"), st.integers(0, EXCEPTIONS), body))
    return st.one_of(*simple)


#: Statements that can't begin anything, for the last function, which others may mean when there is none after them.
_LAST = st.sampled_from([("add", 5), ("log",), ("suspend", 0), ("suspend", 1), ("throw", 0)])

programs = st.tuples(
    st.lists(st.lists(statements(2), max_size=9), min_size=1, max_size=4), st.lists(_LAST, max_size=3)
).map(lambda parts: [*parts[0], parts[1]])


# --- the same in the text format ---


class Writer:
    """Writes a program as a module that exports `run` and the global `hash`, and imports `collect`."""

    def __init__(self, program: list[list[Statement]]) -> None:
        self.program = program
        self.labels = 0

    def module(self) -> str:
        """The whole module."""
        parts = [
            "(module (rec (type $f (func (param i32 (ref null $k)) (result i32))) (type $k (cont $f)))",
            '(import "" "collect" (func $collect))',
            *(f"(tag $t{i} (param i32) (result i32 (ref null $k)))" for i in range(TAGS)),
            *(f'(tag $e{i} (export "e{i}") (param i32))' for i in range(EXCEPTIONS)),
            *(f"(tag $s{i} (result i32))" for i in range(SWITCHES)),
            *(f"(global $g{i} (mut (ref null $k)) (ref.null $k))" for i in range(CELLS)),
            '(global $hash (export "hash") (mut i32) (i32.const 0))',
            f"(elem declare func {' '.join(f'$f{i}' for i in range(len(self.program)))})",
            '(func (export "run") (result i32) (call $f0 (i32.const 1) (ref.null $k)))',
        ]
        for index, body in enumerate(self.program):
            parts.append(f"(func $f{index} (type $f) (param $x i32) (param $c0 (ref null $k)) (result i32)")
            parts.append("(local $c1 (ref null $k)) (local $c2 (ref null $k))")
            parts += [self.statement(index, statement) for statement in body]
            parts.append("(local.get $x))")
        return "\n".join(parts) + ")"

    def statement(self, index: int, statement: Statement) -> str:
        """One statement."""
        match statement:
            case ("add", number):
                return f"(local.set $x (i32.add (i32.mul (local.get $x) (i32.const 31)) (i32.const {number})))"
            case ("log",):
                hash = "(i32.mul (global.get $hash) (i32.const 33))"
                return f"(global.set $hash (i32.add {hash} (local.get $x)))"
            case ("collect",):
                return "(call $collect)"
            case ("new", slot, ahead):
                callee = later(index, ahead, len(self.program))
                return f"(local.set $c{slot} (cont.new $k (ref.func $f{callee})))"
            case ("store", slot, cell):
                return f"(global.set $g{cell} (local.get $c{slot}))"
            case ("load", slot, cell):
                return f"(local.set $c{slot} (global.get $g{cell}))"
            case ("bind", slot):
                return f"(local.set $c{slot} (cont.bind $k $k (local.get $c{slot})))"
            case ("call", slot, ahead):
                callee = later(index, ahead, len(self.program))
                return f"(local.set $x (call $f{callee} (local.get $x) (local.get $c{slot})))"
            case ("throw", tag):
                return f"(if (i32.const 1) (then (throw $e{tag} (local.get $x))))"
            case ("suspend", tag):
                return f"(suspend $t{tag} (local.get $x)) (local.set $c0) (local.set $x)"
            case ("switch", slot, tag):
                return f"(switch $k $s{tag} (local.get $x) (local.get $c{slot})) (local.set $c1) (local.set $x)"
            case ("resume", slot, argument, clauses):
                values = f"(local.get $x) (local.get $c{argument}) (local.get $c{slot})"
                return self.resume("resume $k", values, clauses)
            case ("resume_throw", slot, tag, clauses):
                return self.resume(f"resume_throw $k $e{tag}", f"(local.get $x) (local.get $c{slot})", clauses)
            case ("try", tag, body):
                return self.try_table(index, tag, body)
        raise ValueError(statement)

    def label(self) -> str:
        """A new label."""
        self.labels += 1
        return f"$l{self.labels}"

    def resume(self, instruction: str, values: str, clauses: list[tuple[str, int, int]]) -> str:
        """`resume` or `resume_throw`, with a block for every clause with a label."""
        done = self.label()
        labels = [self.label() for _ in clauses]
        handlers = [
            f"(on $t{tag} {label})" if kind == "suspend" else f"(on $s{tag} switch)"
            for (kind, tag, _), label in zip(clauses, labels, strict=True)
        ]
        text = f"({instruction} {' '.join(handlers)} {values}) (local.set $x) (br {done})"
        for (kind, _, slot), label in zip(clauses, labels, strict=True):
            if kind == "suspend":
                text = f"(block {label} (result i32 (ref $k)) {text}) (local.set $c{slot}) (local.set $x) (br {done})"
        return f"(block {done} {text})"

    def try_table(self, index: int, tag: int, body: list[Statement]) -> str:
        """`try_table` with one clause."""
        inside = " ".join(self.statement(index, statement) for statement in body)
        caught, done = self.label(), self.label()
        if tag == EXCEPTIONS:
            return f"(block {caught} (try_table (catch_all {caught}) {inside}))"
        return (
            f"(block {done} (block {caught} (result i32) (try_table (catch $e{tag} {caught}) {inside}) (br {done}))"
            " (local.set $x))"
        )
