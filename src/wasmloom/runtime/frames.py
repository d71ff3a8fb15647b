"""What people read of frames: the names of functions, and the entries of backtraces."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from wasmloom.errors import Frame


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
    places: Iterable[tuple[Any, int, Any, int]], number: Callable[[int], int | None]
) -> tuple[Frame, ...]:
    """The backtrace of some places: (space, function, offset in the module, address of the continuation).

    Without a space, which has a module, a place is that of a host function: 0 and its name. `number` gives the number
    of a continuation. In deep recursion, frames are alike: they are made once.
    """
    made: dict[tuple[Any, int, Any, int], Frame] = {}
    names: dict[tuple[Any, int], tuple[str | None, str | None]] = {}
    frames = []
    for place in places:
        frame = made.get(place)
        if frame is None:
            space, index, where, continuation = place
            if space is None:
                frame = Frame(None, index, where, None, number(continuation))
            else:
                name = names.get((space, index))
                if name is None:
                    name = names[(space, index)] = (space.module.index_names.module, func_name(space.module, index))
                frame = Frame(name[0], index, name[1], where, number(continuation))
            made[place] = frame
        frames.append(frame)
    return tuple(frames)
