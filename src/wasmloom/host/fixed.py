"""Immutable objects: engines, modules and instances.

Their parts belong together, and compiled code relies on that. So a class that derives from `Fixed` makes its objects in
``__new__``, by `fill`: no object is ever without its parts, and ``__init__`` does nothing. For Cython
classes ``__cinit__`` and ``cython.final`` do the same, and ``system/_capi.seal`` for those that Python can't make.
"""

from __future__ import annotations

from typing import Any, NoReturn


class Fixed:
    """Base of the classes whose objects can't be changed, subclassed or, unless they say how, pickled and copied."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        """Let only the classes themselves derive from this one. Raises `TypeError`, as `bool` and `Func` do."""
        if Fixed not in cls.__bases__:
            raise TypeError(f"type '{cls.__mro__[1].__name__}' is not an acceptable base type")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"attribute {name!r} of '{type(self).__name__}' objects is not writable")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"attribute {name!r} of '{type(self).__name__}' objects is not writable")

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle '{type(self).__name__}' object")

    def __reduce_ex__(self, protocol: object) -> Any:
        return self.__reduce__()


def fill(made: Fixed, **values: object) -> None:
    """Set attributes of an object; for its own class and for tests."""
    for name, value in values.items():
        object.__setattr__(made, name, value)
