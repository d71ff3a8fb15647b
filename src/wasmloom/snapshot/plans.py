"""Plans of stacks: what a snapshot says of them, compared with the modules before anything exists.

A plan says where each frame lies and where it goes on. It follows from the functions and the places in them: types and
slots come from the module's validator and translator (`CodeSpace.state_at`, `wait_at`), never from the snapshot. So
a plan that has been made is of a stack that the module's own code could have; what the values are is checked when they
are written, against the types in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from wasmloom.contract.layout import SLOT_BYTES
from wasmloom.errors import CompileError, WasmError
from wasmloom.runtime.frames import FrameState, WaitPlace
from wasmloom.semantics.kinds import of_type
from wasmloom.snapshot.data import ContinuationData, FrameData, Home, StackData, StoreData, TailData
from wasmloom.spec.canon import func_type, matches
from wasmloom.spec.types import FuncType, ValType

#: What a stack's innermost frame does.
CALLS, RESUMES, SUSPENDS, GOES_ON = "calls", "resumes", "suspends", "goes on"
#: The places (`WaitPlace.kind`) where it can do that.
_KINDS = {CALLS: ("call_out",), RESUMES: ("resume",), SUSPENDS: ("suspend",), GOES_ON: ("loop",)}
#: In the middle of a stack.
_INNER = ("call", "call_out")

Types = tuple[ValType, ...]


def damaged(what: str) -> WasmError:
    """The error for a snapshot that no store can be in."""
    return WasmError(f"damaged snapshot: {what}")


class Site(NamedTuple):
    """A place in a module where frames stand, in a function of those defined there."""

    space: Any
    body: int
    state: FrameState
    wait: WaitPlace

    @property
    def awaited(self) -> Types:
        """The types of the operands that a frame waits for there."""
        there = len(self.state.operands) - self.state.awaited
        return tuple([place.type for place in self.state.operands[there:]])


class PlannedTail(NamedTuple):
    """A tail call: the instance, the code of the function, where in it the shim is, and the slot where it begins."""

    instance: int
    space: Any
    body: int
    back: int
    slot: int


class PlannedFrame(NamedTuple):
    """A frame, where in the stack it begins (slot), and the tail calls behind it."""

    data: FrameData
    site: Site
    slot: int
    tails: tuple[PlannedTail, ...]


class PlannedStack(NamedTuple):
    """A stack: its tail calls and frames, the slot where a callee would begin, its size in slots, the types of what its
    outermost function returns, and of what its innermost frame waits for."""

    tails: tuple[PlannedTail, ...]
    frames: tuple[PlannedFrame, ...]
    end: int
    slots: int
    results: Types
    awaited: Types


class Planner:
    """Plans the stacks of a snapshot: see `stacks` and `continuation`."""

    def __init__(self, data: StoreData, modules: Sequence[Any], most_slots: int, most_stacks: int) -> None:
        self._data = data
        self._modules = modules
        self._most_slots, self._most_stacks = most_slots, most_stacks
        self._sites: dict[tuple[int, int, int], Site] = {}

    # --- functions ---

    def resolved(self, home: Home) -> Home:
        """The function that an imported one is: of the instance that defines it, or an import of the host."""
        while True:
            imported = self._data.instances[home.instance].functions
            if home.function >= len(imported):
                return home
            inner = imported[home.function]
            if inner is None:
                return home
            home = inner

    def is_host(self, home: Home) -> bool:
        """Whether a function is the host's."""
        home = self.resolved(home)
        return home.function < len(self._data.instances[home.instance].functions)

    def type_of(self, home: Home) -> FuncType:
        """The type of a function, with canonical types in it."""
        module = self._modules[self._data.instances[home.instance].module]
        return func_type(module.decoded.func_type_ids[home.function])

    def _module_of(self, home: Home, offset: int) -> tuple[int, Any]:
        number = self._data.instances[home.instance].module
        decoded = self._modules[number].decoded
        body = home.function - decoded.num_imported_funcs
        # 0 is the function's beginning.
        if body < 0 or not (offset == 0 or decoded.body_starts[body] <= offset < decoded.body_ends[body]):
            raise damaged(f"function {home.function} of an instance {home.instance} has no place 0x{offset:x}")
        return number, self._modules[number]

    def _wait(self, home: Home, offset: int, space: Any) -> WaitPlace:
        wait: WaitPlace | None = space.wait_at(home.function, offset)
        if wait is None:
            raise damaged(f"no frame of function {home.function} stands at 0x{offset:x}")
        return wait

    def _site(self, home: Home, offset: int) -> Site:
        number, module = self._module_of(home, offset)
        key = number, home.function, offset
        site = self._sites.get(key)
        if site is None:
            space = module.code_space
            index = home.function - module.decoded.num_imported_funcs
            try:
                space.code_of(index)  # so that its frame's size is known
                state = space.state_at(home.function, offset)
                wait = self._wait(home, offset, space)
            except (ValueError, IndexError, CompileError) as error:
                raise damaged(f"a frame of function {home.function}: {error}") from None
            site = self._sites[key] = Site(space, index, state, wait)
        return site

    # --- stacks ---

    def _tail(self, tail: TailData, slot: int) -> tuple[PlannedTail, int]:
        _, module = self._module_of(tail.home, tail.offset)
        space = module.code_space
        index = tail.home.function - module.decoded.num_imported_funcs
        space.code_of(index)
        wait = self._wait(tail.home, tail.offset, space)
        if wait.kind != "tail":
            raise damaged(f"function {tail.home.function} makes no tail call at 0x{tail.offset:x}")
        return PlannedTail(tail.home.instance, space, index, wait.back, slot), slot + wait.slot

    def stack(self, data: StackData, does: str, bound: int, host: Home | None, above: Types | None) -> PlannedStack:
        """Plan a stack whose innermost frame does one of the above. Raises `WasmError` unless it fits.

        `bound`: so many operands that a suspended one waits for are there. `host`: the function of the host that is
        called. `above`: what the stack that it has resumed returns.
        """
        results: Types | None = None
        wanted: Types | None = None  # what whoever is below waits for
        slot = slots = 0

        def enter(returned: Types) -> None:
            nonlocal results
            results = returned if results is None else results
            if wanted is not None and not fit(returned, wanted):
                raise damaged("a function returns something else than its caller waits for")

        def tails_of(tails: tuple[TailData, ...]) -> tuple[PlannedTail, ...]:
            nonlocal slot, wanted
            found = []
            for tail in tails:
                planned, slot = self._tail(tail, slot)
                enter(self.type_of(tail.home).results)
                wanted = self.type_of(tail.home).results
                found.append(planned)
            return tuple(found)

        tails = tails_of(data.tails)
        frames: list[PlannedFrame] = []
        for number, frame in enumerate(data.frames):
            site = self._site(frame.home, frame.offset)
            is_last = number == len(data.frames) - 1
            if site.wait.kind not in (_INNER if not is_last or (does == CALLS and frame.tails) else _KINDS[does]):
                raise damaged(f"function {frame.home.function} doesn't wait like that at 0x{frame.offset:x}")
            self._check_counts(frame, site, bound if is_last and does == SUSPENDS else 0)
            if site.wait.kind == "call":
                inner = frame.tails[0].home if frame.tails else data.frames[number + 1].home
                if inner.instance != frame.home.instance:
                    raise damaged("a direct call has left its instance")
            if is_last and does != CALLS and frame.tails:
                raise damaged("a tail call behind a frame that calls nothing")
            enter(self.type_of(frame.home).results)
            slots = max(slots, slot + site.space.frame_size(site.body) // SLOT_BYTES)
            begin = slot
            wanted = site.awaited
            if site.wait.kind in _INNER:
                slot += site.wait.slot
            frames.append(PlannedFrame(frame, site, begin, tails_of(frame.tails)))
            if slot > self._most_slots or slots > self._most_slots:
                raise WasmError("the snapshot has a stack that is larger than its stack_limit")
        if host is not None:
            type = self.type_of(host)
            enter(type.results)
            slots = max(slots, slot + max(slots_of(type.params), slots_of(type.results)))
        elif not frames:
            raise damaged("a stack without frames")
        if does == GOES_ON:
            wanted = ()
        if above is not None and not fit(above, wanted or ()):
            raise damaged("a continuation returns something else than whoever has resumed it waits for")
        return PlannedStack(tails, tuple(frames), slot, slots, results or (), wanted or ())

    def stacks(self, stacks: Sequence[StackData], does: str, bound: int, host: Home | None) -> list[PlannedStack]:
        """Plan stacks that have resumed each other, the innermost first, which does one of the above."""
        if not stacks or len(stacks) > self._most_stacks:
            raise damaged("no stacks, or more than stack_limit allows")
        found: list[PlannedStack] = []
        for number, data in enumerate(stacks):
            above = found[-1].results if number else None
            found.append(
                self.stack(data, does if number == 0 else RESUMES, bound, host if number == 0 else None, above)
            )
        return found

    def continuation(self, data: ContinuationData) -> tuple[list[PlannedStack], Types, Types]:
        """Plan a continuation: its stacks, and the types of what it takes and returns."""
        if data.function is not None:
            type = self.type_of(data.function)
            if data.stacks or len(data.bound) > len(type.params):
                raise damaged("a continuation that has begun, and hasn't")
            return [], type.params[len(data.bound) :], type.results
        if data.bound:
            raise damaged("values that are bound to no function")
        if not data.stacks or not data.stacks[0].frames:
            raise damaged("a continuation without frames")
        innermost = data.stacks[0].frames[-1]
        site = self._site(innermost.home, innermost.offset)
        bound = len(innermost.operands) - len(site.state.operands) + site.state.awaited
        planned = self.stacks(data.stacks, SUSPENDS, bound, None)
        return planned, site.awaited[max(bound, 0) :], planned[-1].results

    def _check_counts(self, frame: FrameData, site: Site, bound: int) -> None:
        there = len(site.state.operands) - site.state.awaited
        if (
            len(frame.locals) != len(site.state.locals)
            or len(frame.own) != len(site.state.own)
            or not 0 <= bound <= site.state.awaited
            or len(frame.operands) != there + bound
        ):
            raise damaged(f"a frame of function {frame.home.function} with other locals or operands")


def fit(returned: Types, wanted: Types) -> bool:
    """Whether values of some types can be where others are waited for."""
    return len(returned) == len(wanted) and all(matches(a, b) for a, b in zip(returned, wanted, strict=True))


def slots_of(types: Types) -> int:
    """How many slots values of some types take."""
    return sum(of_type(type).slots for type in types)
