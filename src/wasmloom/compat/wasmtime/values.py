"""Values, functions, and the callers of functions: what crosses between guest and host.

Numbers are stricter and wider than in wasmloom: an int isn't taken for a float, and integers wrap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn
from weakref import ref

import wasmloom as wl
from wasmloom.compat.wasmtime.errors import WasmtimeError, translated
from wasmloom.compat.wasmtime.handles import expect
from wasmloom.compat.wasmtime.store import WRAPPERS, Item, Store, Storelike, check_store
from wasmloom.compat.wasmtime.types import FuncType, ValType

Converter = Callable[[Any], Any]

_I32 = 0xFFFF_FFFF
_I64 = 0xFFFF_FFFF_FFFF_FFFF


class Val:
    """A value with its type. Wherever a value is taken, one of these is, too."""

    def __init__(self, type: ValType, value: Any) -> None:
        self._type = type._core
        self._value = value

    @classmethod
    def i32(cls, val: int) -> Val:
        """An integer of 32 bits."""
        return cls(ValType.i32(), _signed(_whole(val), 32))

    @classmethod
    def i64(cls, val: int) -> Val:
        """An integer of 64 bits."""
        return cls(ValType.i64(), _signed(_whole(val), 64))

    @classmethod
    def f32(cls, val: float) -> Val:
        """A float of 32 bits."""
        return cls(ValType.f32(), _real(val))

    @classmethod
    def f64(cls, val: float) -> Val:
        """A float of 64 bits."""
        return cls(ValType.f64(), _real(val))

    @classmethod
    def externref(cls, extern: Any | None) -> Val:
        """A reference to any object; None is null."""
        return cls(ValType.externref(), extern)

    @classmethod
    def funcref(cls, f: Func | None) -> Val:
        """A reference to a function; None is null."""
        return cls(ValType.funcref(), f)

    @classmethod
    def ref_null(cls, ty: ValType) -> Val:
        """A null reference. Raises `WasmtimeError` for a type that isn't one of references."""
        if not ty._core.is_ref:
            raise WasmtimeError(f"there is no null of type {ty}")
        return cls(ty, None)

    def __eq__(self, rhs: object) -> bool:
        if isinstance(rhs, Val):
            return self._type == rhs._type and bool(self._value == rhs._value)
        return bool(self._value == rhs)

    __hash__ = None  # type: ignore[assignment]

    @property
    def type(self) -> ValType:
        """The type."""
        return ValType._of(self._type)

    @property
    def value(self) -> Any:
        """The value as Python has it."""
        return self._value

    def _as(self, type: wl.ValType) -> Any:
        return self._value if self._type == type else None

    def as_i32(self) -> int | None:
        """The value, or None if it isn't an i32."""
        found: int | None = self._as(wl.I32)
        return found

    def as_i64(self) -> int | None:
        """The value, or None if it isn't an i64."""
        found: int | None = self._as(wl.I64)
        return found

    def as_f32(self) -> float | None:
        """The value, or None if it isn't an f32."""
        found: float | None = self._as(wl.F32)
        return found

    def as_f64(self) -> float | None:
        """The value, or None if it isn't an f64."""
        found: float | None = self._as(wl.F64)
        return found

    def as_externref(self) -> Any | None:
        """The object, or None if it isn't an externref."""
        return self._as(wl.EXTERNREF)

    def as_funcref(self) -> Func | None:
        """The function, or None if it is null, or not a funcref."""
        found: Func | None = self._as(wl.FUNCREF)
        return found


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"expected an integer, not {type(value).__name__}")
    return value


def _real(value: object) -> float:
    if not isinstance(value, float):
        raise TypeError(f"expected a float, not {type(value).__name__}")
    return value


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


# --- conversions to wasmloom's values: by type ---


def _refuse(value: object, type: wl.ValType) -> NoReturn:
    if isinstance(value, Val):
        raise TypeError("wrong type of `Val` provided")
    raise TypeError(f"don't know how to convert {value!r} to {ValType._of(type)}")


def _to_i32(value: Any) -> Any:
    if isinstance(value, int):
        return value & _I32
    return value._value if isinstance(value, Val) and value._type == wl.I32 else _refuse(value, wl.I32)


def _to_i64(value: Any) -> Any:
    if isinstance(value, int):
        return value & _I64
    return value._value if isinstance(value, Val) and value._type == wl.I64 else _refuse(value, wl.I64)


def _to_f32(value: Any) -> Any:
    if isinstance(value, float):
        return value
    return value._value if isinstance(value, Val) and value._type == wl.F32 else _refuse(value, wl.F32)


def _to_f64(value: Any) -> Any:
    if isinstance(value, float):
        return value
    return value._value if isinstance(value, Val) and value._type == wl.F64 else _refuse(value, wl.F64)


def _to_extern(value: Any) -> Any:
    if not isinstance(value, Val):
        return value
    return value._value if value._type == wl.EXTERNREF else _refuse(value, wl.EXTERNREF)


def _to_func(value: Any) -> Any:
    value = _to_reference(value)
    return value if value is None or isinstance(value, wl.Func) else _refuse(value, wl.FUNCREF)


def _to_reference(value: Any) -> Any:
    """Of a type that a function may have, or something that only wasmloom knows."""
    if isinstance(value, Val) and value._type.is_ref and value._type != wl.EXTERNREF:
        value = value._value
    return value._core if isinstance(value, Func) else value


def _from_reference(value: Any) -> Any:
    return Func._of(value) if isinstance(value, wl.Func) else value


def _same(value: Any) -> Any:
    return value


#: Type → what makes wasmloom's value of one of this API's. Other types take functions, and what wasmloom takes.
_TO: dict[wl.ValType, Converter] = {
    wl.I32: _to_i32,
    wl.I64: _to_i64,
    wl.F32: _to_f32,
    wl.F64: _to_f64,
    wl.EXTERNREF: _to_extern,
    wl.FUNCREF: _to_func,
}


def to_core(type: wl.ValType) -> Converter:
    """What makes wasmloom's value of one of this API's."""
    return _TO.get(type, _to_reference)


def from_core(type: wl.ValType) -> Converter:
    """What makes this API's value of one of wasmloom's."""
    return _from_reference if type.is_ref and type != wl.EXTERNREF else _same


def or_null(type: wl.ValType, value: Any) -> Any:
    """What tables and globals give: a null reference is a `Val`, so that None can mean that there is nothing."""
    return Val(ValType._of(type), None) if value is None else from_core(type)(value)


# --- functions ---


class Caller(Storelike):
    """The instance that has called a host function, while that runs. It stands for the store, too."""

    def __init__(self, home: Store, core: wl.Caller | None) -> None:
        self._core = home._core
        self._home = home
        self._caller = core

    def __getattr__(self, name: str) -> Any:
        if name == "_core":
            raise ValueError("caller is no longer valid")
        return super().__getattr__(name)

    def get(self, name: str) -> Any | None:
        """An export of the caller; None if there is none, or the host function has returned."""
        if not isinstance(name, str):
            raise TypeError(f"the name of an export is a str, not {type(name).__name__}")
        found = None if self._caller is None else self._caller.get(name)
        return None if found is None else WRAPPERS[type(found)](found)

    def __getitem__(self, name: str) -> Any:
        """`get` that raises `KeyError`."""
        found = self.get(name)
        if found is None:
            raise KeyError(f"failed to find export {name}")
        return found

    def _invalidate(self) -> None:
        self._caller = None
        self.close()


def _results_to_core(type: wl.FuncType, function: Callable[..., Any], before: int = 0) -> Callable[..., Any]:
    """A host function for wasmloom: with results as it takes them, and references as this API has them.

    So many arguments come `before` those that the guest gives.
    """
    convert = [to_core(result) for result in type.results]
    takes = [_same] * before + [from_core(param) for param in type.params]
    takes_functions = any(take is not _same for take in takes)

    def call(*arguments: Any) -> Any:
        if takes_functions:
            arguments = tuple([take(value) for take, value in zip(takes, arguments, strict=True)])
        return function(*arguments)

    inner = call if takes_functions else function

    if not convert:

        def returns_none(*arguments: Any) -> None:
            if inner(*arguments) is not None:
                raise WasmtimeError("callback produced results when it shouldn't")

        return returns_none
    if len(convert) == 1:
        to = convert[0]
        return lambda *arguments: to(inner(*arguments))

    def returns_several(*arguments: Any) -> tuple[Any, ...]:
        results = inner(*arguments)
        if len(results) != len(convert):
            raise WasmtimeError("callback produced wrong number of results")
        return tuple([to(value) for to, value in zip(convert, results, strict=True)])

    return returns_several


def host_function(
    store: Store, type: wl.FuncType, function: Callable[..., Any], access_caller: bool
) -> Callable[..., Any]:
    """A host function as wasmloom imports it. It doesn't keep the store, which keeps it."""
    if not access_caller:
        return _results_to_core(type, function)
    home = ref(store)

    def with_caller(core: wl.Caller | None, *arguments: Any) -> Any:
        found = home()
        if found is None:
            raise WasmtimeError("the store is gone")
        caller = Caller(found, core)
        try:
            return function(caller, *arguments)
        finally:
            caller._invalidate()

    return wl.takes_caller(_results_to_core(type, with_caller, before=1))


class Func(Item[wl.Func, FuncType], core=wl.Func, kind=FuncType):
    """A function of a store.

    `func` gets and returns Python values: nothing, one, or several in a list or a tuple. With `access_caller` it gets a
    `Caller` first. What it raises goes through the guest to whoever has called that.
    """

    def __init__(self, store: Storelike, ty: FuncType, func: Callable[..., Any], access_caller: bool = False) -> None:
        expect(ty, FuncType)
        if not callable(func):
            raise TypeError(f"expected a function, not {type(func).__name__}")
        home = store._home
        made = host_function(home, ty._core, func, access_caller)
        self._set(wl.Func(home._core, ty._core, made, getattr(func, "__name__", None) or type(func).__name__))

    @classmethod
    def _of(cls, core: wl.Func) -> Func:
        made = cls.__new__(cls)
        made._set(core)
        return made

    def _set(self, core: wl.Func) -> None:
        self._core = core
        self._store = core.store
        type = core.type
        self._takes = [to_core(param) for param in type.params]
        #: How results are converted, if at all; None: there is one number, or nothing.
        self._gives: list[Converter] | None = [from_core(result) for result in type.results]
        if len(self._gives) <= 1 and all(give is _same for give in self._gives):
            self._gives = None

    def __call__(self, store: Storelike, *params: Any) -> Any:
        """Run the function. Returns None, one value, or a list of several.

        Raises `Trap`, what a host function has raised, and `TypeError` or `WasmtimeError` for wrong arguments.
        """
        if store._core is not self._store:
            check_store(store, self._store)  # says what is wrong
        takes = self._takes
        if len(params) != len(takes):
            amount = "few" if len(params) < len(takes) else "many"
            raise WasmtimeError(f"too {amount} parameters provided: given {len(params)}, expected {len(takes)}")
        result: Any
        try:
            result = self._core(*[take(value) for take, value in zip(takes, params)])  # noqa: B905
        except wl.WasmError as error:
            failure = translated(error)
        else:
            if self._gives is None:
                return result
            if len(self._gives) == 1:
                return self._gives[0](result)
            return [give(value) for give, value in zip(self._gives, result, strict=True)]
        raise failure

