"""Components: the names are there, so that programs which may use them can be imported. wasmloom doesn't run any yet.

Whatever is done with one of them raises `WasmtimeError`.
"""

from __future__ import annotations

from typing import Any, NoReturn

from wasmloom.compat.wasmtime.errors import WasmtimeError

__all__ = [
    "F32",
    "F64",
    "S8",
    "S16",
    "S32",
    "S64",
    "U8",
    "U16",
    "U32",
    "U64",
    "Bool",
    "BorrowType",
    "Char",
    "Component",
    "ComponentInstanceType",
    "ComponentItem",
    "ComponentType",
    "EnumType",
    "ErrorContext",
    "ExportIndex",
    "FlagsType",
    "Func",
    "FuncType",
    "FutureType",
    "Instance",
    "Linker",
    "LinkerInstance",
    "ListType",
    "ModuleType",
    "OptionType",
    "OwnType",
    "Record",
    "RecordType",
    "ResourceAny",
    "ResourceHost",
    "ResourceType",
    "ResultType",
    "StreamType",
    "String",
    "TupleType",
    "ValType",
    "Variant",
    "VariantType",
]  # fmt: skip


def _refuse(name: str) -> NoReturn:
    raise WasmtimeError(
        f"wasmtime.component.{name}: wasmloom doesn't run components yet. Core modules work; for a component, "
        "use the wasmtime package itself"
    )


class _Missing(type):
    """The class of what is missing. It can be named, compared, and used with `isinstance`."""

    def __call__(cls, *arguments: Any, **options: Any) -> NoReturn:
        """Refuse to make one."""
        _refuse(cls.__name__)

    def __getattr__(cls, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        _refuse(f"{cls.__name__}.{name}")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = _Missing(name, (), {"__module__": __name__, "__doc__": "Not there yet."})
    globals()[name] = made
    return made


def __dir__() -> list[str]:
    return sorted(__all__)
