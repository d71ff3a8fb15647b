"""What people read of frames: the names of functions, and the entries of backtraces."""

from __future__ import annotations

from typing import Any

from wasmloom.errors import Frame


def func_name(module: Any, index: int) -> str | None:
    """The name of a function of a decoded module: from its name section, else its import, else its first export."""
    name: str | None = module.names.maps.get("func", {}).get(index)
    if name is not None:
        return name
    if index < module.num_imported_funcs:
        imported = [entry for entry in module.imports if entry.kind == "func"][index]
        return f"{imported.module}.{imported.name}"
    return next((e.name for e in module.exports if e.kind == "func" and e.index == index), None)


def frame_of(space: Any, index: int, where: Any, number: int | None, names: dict[Any, Any]) -> Frame:
    """A frame of a function of `space`, which has a module; without one, of the host function called `where`.

    `number` is that of the continuation that it runs on; `names` keeps what has been looked up.
    """
    if space is None:
        return Frame(None, index, where, None, number)
    name = names.get((space, index))
    if name is None:
        name = names[(space, index)] = (space.module.names.module, func_name(space.module, index))
    return Frame(name[0], index, name[1], where, number)
