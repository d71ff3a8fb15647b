"""What the classes of this API have in common: each stands for an object of wasmloom's. Most can be closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, overload

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")


class Wrapper:
    """Base of what stands for an object of wasmloom's."""

    #: That object.
    _core: Any

    @classmethod
    def _of(cls, core: Any) -> Self:
        """What stands for `core`."""
        made = cls.__new__(cls)
        made._core = core
        return made


class Handle(Wrapper):
    """Base of what can be closed, explicitly or by ``with``. Using a closed object raises `ValueError`.

    ``close`` deletes the attribute with what this stands for: so nothing has to be checked where it is used, and what
    nobody else holds is freed.
    """

    def __getattr__(self, name: str) -> Any:
        # Only called for what is missing.
        if name == "_core":
            raise ValueError("already closed")
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def close(self) -> None:
        """Let go of what this holds. It can be called again."""
        self.__dict__.pop("_core", None)

    def _check_open(self) -> None:
        """Raise `ValueError` if this is closed."""
        _ = self._core

    def _consume(self) -> Any:
        """Close this, and return what it has held."""
        core = self._core
        self.close()
        return core

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Part(Generic[T]):
    """A property that gives a part of what an object stands for; it can't be set.

    `convert` makes this API's value of wasmloom's, which has the property's name unless `name` is another one.
    """

    def __init__(self, convert: Callable[[Any], T], doc: str, name: str = "") -> None:
        self.convert = convert
        self.__doc__ = doc
        self.name = name

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = self.name or name

    @overload
    def __get__(self, wrapper: None, owner: type) -> Part[T]: ...
    @overload
    def __get__(self, wrapper: Wrapper, owner: type) -> T: ...
    def __get__(self, wrapper: Wrapper | None, owner: type) -> Part[T] | T:
        """The part."""
        return self if wrapper is None else self.convert(getattr(wrapper._core, self.name))

    def __set__(self, wrapper: Wrapper, value: object) -> NoReturn:
        """Refuse."""
        raise AttributeError(f"property {self.name!r} of {type(wrapper).__name__!r} object has no setter")


class Setting(Generic[T]):
    """A property that can only be set. `check` returns what is noted for a value, or raises `TypeError`.

    It is noted in the dictionary that the settings are, under the property's name unless `name` is another one.
    """

    def __init__(self, check: Callable[[Any], object], doc: str, name: str = "") -> None:
        self.check = check
        self.__doc__ = doc
        self.name = name

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = self.name or name

    @overload
    def __get__(self, settings: None, owner: type) -> Setting[T]: ...
    @overload
    def __get__(self, settings: Handle, owner: type) -> NoReturn: ...
    def __get__(self, settings: Handle | None, owner: type) -> Setting[T]:
        """Refuse: settings can't be read."""
        if settings is None:
            return self
        raise AttributeError(f"property {self.name!r} of {owner.__name__!r} object has no getter")

    def __set__(self, settings: Handle, value: T) -> None:
        """Note a value."""
        settings._core[self.name] = self.check(value)


def expect(value: object, kind: type[T]) -> T:
    """An argument that must be of a class; raises `TypeError` for what isn't."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOaeio" else "a"
        raise TypeError(f"expected {article} {kind.__name__}, not {type(value).__name__}")
    return value
