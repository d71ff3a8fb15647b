"""The exports of an instance."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any, final

from wasmloom.messages import listed, printable, quoted


def _shown(name: object) -> str:
    return quoted(name) if isinstance(name, str) else repr(name)


@final
class Exports:
    """Exports by name: ``exports.name`` or ``exports["name"]``. A mapping: ``in``, ``len``, ``items()``, ``dict()``.

    Items are made on first access and then kept in the object's own attributes, where Python finds them without any
    code of ours. Names that aren't identifiers, or are those of Python's own attributes (``__class__``), are only
    available as ``exports["name"]``. Where a guest exports something called ``get``, ``items``, ``keys`` or ``values``,
    the attribute is that, and not the method of mappings.
    """

    __slots__ = ("__dict__", "__find", "__items", "__table")

    __table: dict[str, int]
    __find: Callable[[int], Any]
    __items: dict[str, Any]

    def __new__(cls, table: dict[str, int], find: Callable[[int], Any]) -> Exports:
        """`table`: name of an export → its number. `find` makes the item of an export."""
        if type(table) is not dict or not callable(find):
            raise TypeError("the exports of an instance are made by Instance")
        self = super().__new__(cls)
        self.__table = table
        self.__find = find
        self.__items = {}
        for name in _METHODS:
            if name in table:
                self.__dict__[name] = self[name]
        return self

    def __init_subclass__(cls) -> None:
        raise TypeError("type 'Exports' is not an acceptable base type")

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError("cannot pickle 'Exports' object")

    def __getattr__(self, name: str) -> Any:
        # Only called for what isn't in the object's attributes yet.
        if name.startswith("_Exports__"):  # of an object that wasn't made by us: it has no table to look into
            raise AttributeError(f"{name!r} is missing: the exports of an instance are made by Instance")
        if name not in self.__table:
            raise AttributeError(f"no export {_shown(name)}; there are {listed(self.__table) or 'none'}")
        item = self.__dict__[name] = self[name]
        return item

    def __getitem__(self, name: str) -> Any:
        item = self.__items.get(name)
        if item is None:
            number = self.__table.get(name)
            if number is None:
                raise KeyError(f"no export {_shown(name)}; there are {listed(self.__table) or 'none'}")
            item = self.__items[name] = self.__find(number)
        return item

    def __contains__(self, name: object) -> bool:
        return name in self.__table

    def __iter__(self) -> Iterator[str]:
        return iter(self.__table)

    def __len__(self) -> int:
        return len(self.__table)

    def get(self, name: str, default: Any = None) -> Any:
        """The export with a name, or `default` if there is none."""
        return self[name] if name in self.__table else default

    def keys(self) -> KeysView[str]:
        """The names."""
        return KeysView(self)

    def values(self) -> ValuesView[Any]:
        """The items."""
        return ValuesView(self)

    def items(self) -> ItemsView[str, Any]:
        """Pairs of a name and an item."""
        return ItemsView(self)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.__table]

    def __repr__(self) -> str:
        return f"<wasmloom.Exports {listed(self.__table, printable)}>"


#: Methods of mappings, which exports of a guest may be called, too.
_METHODS = ("get", "items", "keys", "values")

Mapping.register(Exports)
