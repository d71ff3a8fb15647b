"""Stacks of guests, made from plans: continuations, exceptions, and calls that wait for the host.

First everything exists, with its size and nothing in it, because continuations and exceptions may refer to each other;
then it is filled. Nothing refers to it from outside before that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from wasmloom.contract.layout import SLOT_BYTES
from wasmloom.host.continuations import continuation_at
from wasmloom.host.standing import (
    Waiting,
    begin_with,
    consume,
    fill_exception,
    link,
    new_exception_of,
    new_stack,
    return_codes,
    set_waiting,
    suspend,
    waiting_task,
    words_for,
    write_words,
)
from wasmloom.host.state import address_of
from wasmloom.runtime.frames import CONSTANT, TypedPlace
from wasmloom.semantics.kinds import of_type
from wasmloom.snapshot.data import (
    CONSUMED,
    CONTINUATION,
    EXCEPTION,
    Bits,
    CallData,
    ContinuationData,
    GuestsData,
    Home,
    Numbered,
    Value,
)
from wasmloom.snapshot.plans import (
    CALLS,
    GOES_ON,
    RESUMES,
    SUSPENDS,
    PlannedFrame,
    PlannedStack,
    PlannedTail,
    Planner,
    damaged,
    fit,
    slots_of,
)
from wasmloom.spec.canon import func_type, sub_type
from wasmloom.spec.types import ABSTRACT_HEAP_TYPES, CONCRETE, HEAP_SHIFT, ContType, FuncType, ValType

_ANY_CONT = ABSTRACT_HEAP_TYPES["cont"]


class Template(NamedTuple):
    """The words of a stack, as far as they are the same in every store; where instances and references belong; where
    the innermost frame goes on, and the slot of the innermost exception record."""

    words: list[int]
    instances: list[tuple[int, int]]
    references: list[tuple[int, ValType, Value]]
    back: int
    record: int


class Plans:
    """What follows from a snapshot and its modules alone, so it is made once: see `Planner`. Raises `WasmError`."""

    def __init__(self, data: GuestsData, planner: Planner) -> None:
        self.continuations = [(each, *planner.continuation(each)) for each in data.continuations]
        self.calls = [(each, self._planned(each, planner)) for each in data.calls]
        #: By the `id` of a planned stack, once it has been written.
        self.templates: dict[int, Template] = {}

    def _planned(self, call: CallData, planner: Planner) -> list[PlannedStack]:
        if planner.is_host(call.function) or not (call.host is None or planner.is_host(call.host)):
            raise damaged("a call of a host function by another one")
        if len(call.args) != (0 if call.host is None else len(planner.type_of(call.host).params)):
            raise damaged("a call of the host with another number of arguments")
        planned = planner.stacks(call.stacks, GOES_ON if call.host is None else CALLS, 0, call.host)
        wanted = planner.type_of(call.function).results
        if not fit(planned[-1].results, wanted):
            raise damaged("a call that returns something else than its function")
        return planned


class Rebuilding:
    """Makes what is in the middle of something: `make`, then `fill`, then `finish`."""

    def __init__(self, data: GuestsData, plans: Plans) -> None:
        self._data = data
        self._plans = plans
        self._continuations, self._calls = plans.continuations, plans.calls
        self._stacks: list[list[int]] = []
        self._consumed: dict[int, Any] = {}
        self.continuations: list[Any] = []
        self.exceptions: list[Any] = []
        self.tasks: list[Any] = []

    # --- making ---

    def make(self, store: Any, states: Sequence[Any], tags: Sequence[Any], making: Any) -> None:
        """Make continuations and exceptions, without what is in them. `making`: makes the words of references."""
        self._store, self._making = store, making
        self._states = states
        self.addresses = [address_of(state) for state in states]
        for data, planned, params, results in self._continuations:
            if data.function is not None:
                type = self._function(data.function).type
                room = max(slots_of(type.params), slots_of(type.results))
                stacks = [new_stack(store, 2 * room)]
            else:
                stacks = [new_stack(store, stack.slots) for stack in planned]
            self._stacks.append(stacks)
            self.continuations.append(continuation_at(store, stacks[0], FuncType(params, results)))
        for exception in self._data.exceptions:
            if exception.tag >= len(tags):
                raise damaged(f"an exception with a tag {exception.tag}")
            self.exceptions.append(new_exception_of(tags[exception.tag]))

    def found(self, reference: Numbered, type: ValType) -> Any:
        """The object of something that has been made, for a place of a type."""
        if reference.kind == CONSUMED:
            return self._one_to_consume(type)
        made = {CONTINUATION: self.continuations, EXCEPTION: self.exceptions}[reference.kind]
        if reference.number >= len(made):
            raise damaged(f"there is no {reference.kind} {reference.number}")
        return made[reference.number]

    # --- filling ---

    def fill(self) -> None:
        """Fill everything, and let calls wait."""
        for (data, planned, _, _), stacks in zip(self._continuations, self._stacks, strict=True):
            if data.function is not None:
                self._begin(data, data.function, stacks[0])
            else:
                self._write(planned, stacks, SUSPENDS)
                bound = len(planned[0].frames[-1].data.operands) - _there(planned[0].frames[-1])
                suspend(stacks[0], stacks[-1], slots_of(planned[0].awaited[:bound]))
        for exception, made in zip(self._data.exceptions, self.exceptions, strict=True):
            types = made.tag.type.params
            if len(types) != len(exception.values):
                raise damaged("an exception with another number of values")
            words: list[int] = []
            for type, value in zip(types, exception.values, strict=True):
                words += self.words(type, value)
            fill_exception(made, words)
        for call, planned in self._calls:
            self.tasks.append(self._waiting(call, planned))

    def _begin(self, data: ContinuationData, home: Home, stack: int) -> None:
        function = self._function(home)
        words: list[int] = []
        for type, value in zip(function.type.params, data.bound, strict=False):
            words += self.words(type, value)
        write_words(stack, 0, words)
        begin_with(stack, function, len(words))

    def _waiting(self, call: CallData, planned: list[PlannedStack]) -> Any:
        stacks = [new_stack(self._store, stack.slots) for stack in planned]
        function = self._function(call.function)
        if call.host is None:
            self._write(planned, stacks, GOES_ON)
            return waiting_task(function, None, stacks[-1], stacks[0], planned[0].slots)
        self._write(planned, stacks, CALLS)
        host = self._function(call.host)
        words: list[int] = []
        for type, value in zip(host.type.params, call.args, strict=True):
            words += self.words(type, value)
        write_words(stacks[0], planned[0].end, words)
        used = planned[0].end + max(slots_of(host.type.params), slots_of(host.type.results))
        return waiting_task(function, host, stacks[-1], stacks[0], used)

    def _function(self, home: Home) -> Any:
        return self._states[home.instance].find("func", home.function)

    def words(self, type: ValType, value: Value) -> list[int]:
        """The words of a value of a type. Raises `WasmError` for a value of another one."""
        try:
            if of_type(type).is_reference == isinstance(value, Bits):
                raise ValueError("a number instead of a reference, or the other way round")
            return words_for(self._making, type, value.value if isinstance(value, Bits) else value)
        except (TypeError, ValueError, OverflowError) as error:
            raise damaged(f"a value of another type: {error}") from None

    def _one_to_consume(self, type: ValType) -> Any:
        """A continuation that will have been consumed, for places of a type."""
        heap = type >> HEAP_SHIFT
        composite = sub_type(heap - CONCRETE).composite if heap >= CONCRETE else None
        if not isinstance(composite, ContType) and heap != _ANY_CONT:
            raise damaged("a continuation instead of something else")
        if heap not in self._consumed:
            of = func_type(composite.func - CONCRETE) if isinstance(composite, ContType) else FuncType((), ())
            self._consumed[heap] = continuation_at(self._store, new_stack(self._store, 0), of)
        return self._consumed[heap]

    def finish(self) -> None:
        """End what only references are left of. All places have been filled."""
        for each in self._consumed.values():
            consume(each)

    # --- stacks ---

    def _write(self, planned: list[PlannedStack], stacks: list[int], does: str) -> None:
        leave, done = return_codes()
        for number, (plan, stack) in enumerate(zip(planned, stacks, strict=True)):
            is_bottom = does in (CALLS, GOES_ON) and number == len(planned) - 1
            writing = self._plans.templates.get(id(plan))
            if writing is None:
                writing = _Writing(self, plan, leave if is_bottom else done).template()
                self._plans.templates[id(plan)] = writing
            write_words(stack, 0, self._filled(writing))
            innermost = plan.frames[-1] if plan.frames else None
            what = does if number == 0 else RESUMES
            if what == CALLS or innermost is None:
                set_waiting(stack, Waiting(writing.back, plan.end, 0, writing.record, 0))
                continue
            instance = self.addresses[innermost.data.home.instance]
            set_waiting(
                stack, Waiting(writing.back, innermost.slot, instance, writing.record, innermost.site.wait.slot)
            )
            if number:
                site = innermost.site
                link(stacks[number - 1], stack, site.space.code_of(site.body) + site.wait.at)


    def _filled(self, template: Template) -> list[int]:
        """The words of a stack in this store."""
        words = template.words.copy()
        for slot, instance in template.instances:
            words[slot] = self.addresses[instance]
        for slot, type, value in template.references:
            words[slot : slot + 1] = self.words(type, value)
        return words


class _Writing:
    """Writes a stack: see `Template`."""

    def __init__(self, rebuilding: Rebuilding, plan: PlannedStack, back: int) -> None:
        self._rebuilding = rebuilding
        self.words = [0] * plan.slots
        self.instances: list[tuple[int, int]] = []
        self.references: list[tuple[int, ValType, Value]] = []
        self.back = back
        self.record = 0
        self._tails(plan.tails)
        for frame in plan.frames:
            self._frame(frame)

    def template(self) -> Template:
        """What has been written."""
        return Template(self.words, self.instances, self.references, self.back, self.record)

    def _tails(self, tails: tuple[PlannedTail, ...]) -> None:
        for tail in tails:
            self.words[tail.slot] = self.back
            self.instances.append((tail.slot + 1, tail.instance))
            self.back = tail.space.code_of(tail.body) + tail.back

    def _frame(self, frame: PlannedFrame) -> None:
        space, index, state, wait = frame.site
        begin = frame.slot
        code = space.code_of(index)
        instance = frame.data.home.instance
        record = begin + space.record_slot(index)
        self.words[record] = self.back
        if wait.kind == "call_out":
            self.instances.append((record + 1, instance))
        written: dict[int, Any] = {}
        for i, (place, value) in enumerate(zip(state.locals, frame.data.locals, strict=True)):
            if i in state.unset:
                if value is not None:
                    raise damaged("a local that isn't set yet has a value")
            else:
                self._put(begin, place, value, written)
        for slot, value in zip(state.own, frame.data.own, strict=True):
            self._put_words(begin, slot, [value], written)
        for place, value in zip(state.operands, frame.data.operands, strict=False):
            self._put(begin, place, value, written)
        for slot, clauses in wait.tries:
            self.words[begin + slot : begin + slot + 2] = [SLOT_BYTES * self.record, code + clauses]
            self.instances.append((begin + slot + 2, instance))
            self.record = begin + slot
        self.back = code + wait.back
        self._tails(frame.tails)

    def _put(self, begin: int, place: TypedPlace, value: Value, written: dict[int, Any]) -> None:
        if place.slot == CONSTANT:
            if value != (None if of_type(place.type).is_reference else Bits(place.bits)):
                raise damaged("an operand that isn't the constant that it stands for")
            return
        if place.slot < 0:
            raise damaged("an operand where none can be")
        if value is None or isinstance(value, Bits):
            self._put_words(begin, place.slot, self._rebuilding.words(place.type, value), written)
            return
        self.references.append((begin + place.slot, place.type, value))
        if written.setdefault(place.slot, value) != value:
            raise damaged("two values in one place")

    def _put_words(self, begin: int, slot: int, words: list[int], written: dict[int, Any]) -> None:
        for at, word in enumerate(words, slot):
            if written.setdefault(at, word) != word:
                raise damaged("two values in one place")
            self.words[begin + at] = word


def _there(frame: PlannedFrame) -> int:
    return len(frame.site.state.operands) - frame.site.state.awaited
