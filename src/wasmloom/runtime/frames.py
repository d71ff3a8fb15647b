"""Frames seen from outside, in any tier; and what people read of them: names of functions, backtraces."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from wasmloom.errors import Frame
from wasmloom.spec.types import ValType

#: An engine's `backtrace` when backtraces tell places in the source.
SOURCE = "source"
#: Instead of a slot: the value is a constant; it is nowhere where it could be read.
CONSTANT = -1
NOWHERE = -2


#: In what a walk is given as `known`: frames are to have offsets all the same.
OFFSETS = "offsets"


class TypedPlace(NamedTuple):
    """A local or an operand of a frame: its type, and the slot that holds it (its first one), `CONSTANT` or `NOWHERE`.

    `bits` are those of a constant.
    """

    type: ValType
    slot: int
    bits: int = 0


class FrameState(NamedTuple):
    """What a frame holds where it stands, and where; see `wasmloom.validation.frames.FrameTypes`.

    `own` are the slots of what code keeps there for itself, as if these were locals behind the others.
    """

    locals: tuple[TypedPlace, ...]
    unset: frozenset[int]
    operands: tuple[TypedPlace, ...]
    awaited: int
    own: tuple[int, ...] = ()


class WaitPlace(NamedTuple):
    """How a frame waits in an instruction, for building such a frame anew. Offsets are in its function's bytecode.

    `kind`: ``"call"``: for a callee in its own instance; ``"call_out"``: for any callee, which returns to a `restore`;
    ``"tail"``: it has gone, and left its shim; ``"resume"``: for a stack that it has resumed; ``"suspend"``: until it
    is resumed; ``"loop"``: not at all, it goes on. `at`: the instruction. `back`: where it goes on; of a tail call the
    shim. `slot`: where the callee's frame begins, or where the values arrive. `tries`: slot and clauses of the
    exception records that the frame has, the outermost first.
    """

    kind: str
    at: int
    back: int
    slot: int
    tries: tuple[tuple[int, int], ...]


class GuestFrame(NamedTuple):
    """A frame on a stack of the guest, whatever runs there.

    `code` is the code space or compiled module that its function belongs to, which has a `module`; `function` the
    function's position in the module's index space, `offset` where in the module it stands. `continuation` is the
    address of the continuation whose stack it is on, `fp` that of the frame's first slot, or 0 when its slots can't be
    read: it is compiled code's. A host function that the guest has called has a frame with its name and no code.
    """

    code: Any
    function: int
    offset: int
    continuation: int
    name: str | None = None
    fp: int = 0

    def state(self) -> FrameState:
        """Which locals and operands it has: their types, and the slots that hold them."""
        state: FrameState = self.code.state_at(self.function, self.offset)
        return state


def func_name(module: Any, index: int) -> str | None:
    """The name of a function of a decoded module: from its name section, else its import, else its first export."""
    name: str | None = module.index_names.maps.get("func", {}).get(index)
    if name is not None:
        return name
    if index < module.num_imported_funcs:
        imported = module.func_import(index)
        return f"{imported.module}.{imported.name}"
    exported = module.export_of("func", index)
    return None if exported is None else exported.name


def frames_of(
    places: Iterable[GuestFrame], number: Callable[[int], int | None], source: bool = False
) -> tuple[Frame, ...]:
    """The backtrace of some frames. `number` returns the number of a continuation. `source`: places in the source, too.

    In deep recursion frames are equal: equal ones are made once.
    """
    made: dict[tuple[object, ...], Frame] = {}
    names: dict[tuple[Any, int], tuple[str | None, str | None]] = {}
    frames = []
    for place in places:
        key = place[:5]  # not the address
        frame = made.get(key)
        if frame is None:
            code, index = place.code, place.function
            if code is None:
                frame = Frame(None, index, place.name, None, number(place.continuation))
            else:
                name = names.get((code, index))
                if name is None:
                    name = names[(code, index)] = (code.module.index_names.module, func_name(code.module, index))
                module = code.module
                start = module.body_starts[index - module.num_imported_funcs]
                frame = Frame(
                    name[0], index, name[1], place.offset, number(place.continuation), place.offset - start
                )
                if source:
                    frame = with_source(module, frame)
            made[key] = frame
        frames.append(frame)
    return tuple(frames)


def with_source(module: Any, frame: Frame) -> Frame:
    """A frame with the places in the source that it stands at."""
    from wasmloom.debuginfo.source import debug_info

    found = debug_info(module)
    places = found.at(frame.offset or 0)
    return frame._replace(source=places, source_problem=None if places else found.problem)
