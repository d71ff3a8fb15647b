"""A look-alike of the package ``wasmer``, version 1.1, for what its README and examples use.

```python
import wasmloom.compat.wasmer as wasmer

store = wasmer.Store()
module = wasmer.Module(store, data)
instance = wasmer.Instance(module, {"env": {"log": wasmer.Function(store, log)}})
instance.exports.run(5)
```

`install` lets ``import wasmer`` mean this module, and ``wasmer_compiler_cranelift`` and its like: there is one compiler
here, which takes what runs for long. Errors are `RuntimeError`s; what a host function raises is one, too, with the
text.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any, Literal, NamedTuple

import wasmloom as wl
from wasmloom.text.parser import parse_module
from wasmloom.wasi import MODULE_NAME

#: The version whose names these are.
__version__ = __core_version__ = "1.1.0"

#: What serialized modules begin with; their binary follows, and no machine code.
_MAGIC = b"wasmloom module\0"


class Type(Enum):
    """A type of values."""

    I32 = wl.I32
    I64 = wl.I64
    F32 = wl.F32
    F64 = wl.F64
    V128 = wl.V128
    EXTERN_REF = wl.EXTERNREF
    FUNC_REF = wl.FUNCREF

    def __str__(self) -> str:
        return self.name


#: What annotations of host functions mean.
_ANNOTATIONS: dict[object, Type] = {int: Type.I32, float: Type.F32, "int": Type.I32, "float": Type.F32} | {
    name: type for type in Type for name in (type.name, type.name.lower())
}


class FunctionType(NamedTuple):
    """The type of a function."""

    params: Sequence[Type]
    results: Sequence[Type]

    def _core(self) -> wl.FuncType:
        return wl.FuncType(*[tuple([type.value for type in types]) for types in self])


class GlobalType(NamedTuple):
    """The type of a global."""

    type: Type
    mutable: bool


class MemoryType(NamedTuple):
    """The type of a memory: pages."""

    minimum: int
    maximum: int | None = None
    shared: bool = False


class TableType(NamedTuple):
    """The type of a table: elements."""

    type: Type
    minimum: int
    maximum: int | None = None


class ImportType(NamedTuple):
    """What a module imports."""

    module: str
    name: str
    type: Any


class ExportType(NamedTuple):
    """What a module exports."""

    name: str
    type: Any


def _type_of(type: Any) -> Any:
    """A type of wasmloom's as one of these."""
    match type:
        case wl.FuncType():
            return FunctionType(*[list(map(Type, types)) for types in type])
        case wl.GlobalType():
            return GlobalType(Type(type.content), type.mutable)
        case wl.MemoryType():
            return MemoryType(*type.limits, type.shared)
        case wl.TableType():
            return TableType(Type(type.element), *type.limits)
    return type


class Value(NamedTuple):
    """A value with its type; made by the class methods."""

    type: Type
    value: Any

    @classmethod
    def i32(cls, value: int) -> Value:
        """An integer of 32 bits."""
        return cls(Type.I32, value)

    @classmethod
    def i64(cls, value: int) -> Value:
        """An integer of 64 bits."""
        return cls(Type.I64, value)

    @classmethod
    def f32(cls, value: float) -> Value:
        """A float of 32 bits."""
        return cls(Type.F32, value)

    @classmethod
    def f64(cls, value: float) -> Value:
        """A float of 64 bits."""
        return cls(Type.F64, value)

    @classmethod
    def function(cls, value: Function) -> Value:
        """A reference to a function."""
        return cls(Type.FUNC_REF, value._core)


def _attempt(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call something of wasmloom's, or a host function through it; errors are `RuntimeError`s."""
    try:
        return function(*arguments, **options)
    except wl.ExitStatus as status:
        failure = RuntimeError(f"WASI exited with code: {status.code}")
    except RuntimeError:
        raise
    except (wl.WasmError, ValueError) as error:
        failure = RuntimeError(str(error))
    raise failure


def _call(function: wl.Func, arguments: tuple[Any, ...]) -> Any:
    """Call a function. What a host function raises is told as a `RuntimeError`."""
    try:
        return _attempt(function, *[x.value if isinstance(x, Value) else x for x in arguments])
    except (RuntimeError, TypeError, OverflowError):
        raise
    except Exception as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


class Store:
    """What everything that runs belongs to."""

    def __init__(self, engine: Any = None) -> None:
        self.engine = engine
        self._core = wl.Store(wl.Engine())


def wat2wasm(wat: str) -> bytes:
    """The binary of a module in the text format."""
    return bytes(_attempt(parse_module, wat).binary)


class Module:
    """A module: from bytes, or text."""

    def __init__(self, store: Store, bytes: bytes | str) -> None:
        self._store = store
        self._core: wl.Module = _attempt(wl.Module, bytes, store._core.engine)
        self.name = self._core.name

    @staticmethod
    def validate(store: Store, bytes: bytes) -> bool:
        """Whether bytes are a valid module."""
        try:
            wl.Module.validate(bytes)
        except wl.CompileError:
            return False
        return True

    @property
    def exports(self) -> list[ExportType]:
        """What it exports, in order."""
        return [ExportType(item.name, _type_of(item.type)) for item in self._core.exports]

    @property
    def imports(self) -> list[ImportType]:
        """What it imports, in order."""
        return [ImportType(item.module, item.name, _type_of(item.type)) for item in self._core.imports]

    def custom_sections(self, name: str) -> list[bytes]:
        """The contents of the custom sections with a name."""
        return self._core.custom_sections(name)

    def serialize(self) -> bytes:
        """The module for `deserialize`: its binary. Machine code is in wasmloom's own cache."""
        return _MAGIC + self._core.decoded.data

    @staticmethod
    def deserialize(store: Store, bytes: bytes) -> Module:
        """A module that `serialize` has written. It is validated anew."""
        if not bytes.startswith(_MAGIC):
            raise RuntimeError("this is no module that was serialized by wasmloom")
        return Module(store, bytes[len(_MAGIC) :])


class _Item:
    """Base of what modules export and import."""

    def __init__(self, core: Any) -> None:
        self._core = core

    @property
    def type(self) -> Any:
        """Its type."""
        return _type_of(self._core.type)


def _unquoted(annotation: Any) -> Any:
    """An annotation; one that was text already is in quotes if the file has all as text."""
    return annotation.strip("'\"") if isinstance(annotation, str) else annotation


def _annotated(function: Callable[..., Any]) -> FunctionType:
    """The type that a function's annotations say."""
    signature = inspect.signature(function)
    given = [param.annotation for param in signature.parameters.values()]
    params = [_ANNOTATIONS.get(_unquoted(annotation)) for annotation in given]
    result = _unquoted(signature.return_annotation)
    results = [] if result in (inspect.Signature.empty, None, "None") else [_ANNOTATIONS.get(result)]
    found = [type for type in (*params, *results) if type is not None]
    if len(found) != len(params) + len(results):
        raise RuntimeError(f"give {function!r} annotations such as int, float, 'i64' or 'f64', or a FunctionType")
    return FunctionType(found[: len(params)], found[len(params) :])


class Function(_Item):
    """A function; of the host's, with annotations or a type."""

    def __init__(
        self, store: Store, function: Callable[..., Any], function_type: FunctionType | None = None
    ) -> None:
        type = _annotated(function) if function_type is None else function_type
        super().__init__(wl.Func(store._core, type._core(), function))

    def __call__(self, *arguments: Any) -> Any:
        """Run it. Returns nothing, one value, or several in a list."""
        result = _call(self._core, arguments)
        return list(result) if isinstance(result, tuple) else result


class Global(_Item):
    """A global variable."""

    def __init__(self, store: Store, value: Value, mutable: bool = False) -> None:
        super().__init__(wl.Global(store._core, wl.GlobalType(value.type.value, mutable), value.value))

    @property
    def mutable(self) -> bool:
        """Whether it can be set."""
        return bool(self._core.type.mutable)

    @property
    def value(self) -> Any:
        """Its value."""
        return self._core.value

    @value.setter
    def value(self, value: Any) -> None:
        if not self.mutable:
            raise RuntimeError("The global variable is not mutable, cannot set a new value")
        self._core.value = value


class Table(_Item):
    """A table of references."""

    def __init__(self, store: Store, type: TableType, value: Value | None = None) -> None:
        init = None if value is None else value.value
        super().__init__(_attempt(wl.Table, store._core, type.type.value, type.minimum, type.maximum, init=init))

    @property
    def size(self) -> int:
        """How many elements there are."""
        return len(self._core)


class Memory(_Item):
    """A memory. Views and the buffer are of its present size: ask again when the guest may have grown it."""

    def __init__(self, store: Store, type: MemoryType) -> None:
        super().__init__(_attempt(wl.Memory, store._core, type.minimum, type.maximum))

    @property
    def size(self) -> int:
        """Its size in pages."""
        return int(self._core.size)

    @property
    def data_size(self) -> int:
        """Its size in bytes."""
        return len(self._core)

    def grow(self, number_of_pages: int) -> int:
        """Add pages; returns how many there were."""
        return int(_attempt(self._core.grow, number_of_pages))

    @property
    def buffer(self) -> memoryview:
        """Its bytes, without a copy."""
        return memoryview(self._core)

    def _view(self, format: Literal["b", "B", "h", "H", "i", "I"], offset: int) -> memoryview:
        return self.buffer.cast(format)[offset:]

    def uint8_view(self, offset: int = 0) -> memoryview:
        """Its bytes from an offset on."""
        return self._view("B", offset)

    def int8_view(self, offset: int = 0) -> memoryview:
        """Its bytes, signed; the offset counts numbers."""
        return self._view("b", offset)

    def uint16_view(self, offset: int = 0) -> memoryview:
        """Numbers of 16 bits."""
        return self._view("H", offset)

    def int16_view(self, offset: int = 0) -> memoryview:
        """Numbers of 16 bits, signed."""
        return self._view("h", offset)

    def uint32_view(self, offset: int = 0) -> memoryview:
        """Numbers of 32 bits."""
        return self._view("I", offset)

    def int32_view(self, offset: int = 0) -> memoryview:
        """Numbers of 32 bits, signed."""
        return self._view("i", offset)


#: wasmloom's class → the class here.
_CLASSES: dict[type[Any], Any] = {wl.Func: Function, wl.Global: Global, wl.Table: Table, wl.Memory: Memory}


def _wrapped(core: Any) -> Any:
    cls = _CLASSES.get(type(core))
    if cls is None:
        return core
    made = cls.__new__(cls)
    made._core = core
    return made


class _Missing(AttributeError, LookupError):
    """There is no such export."""


class Exports:
    """Exports by name, as attributes; iteration gives pairs."""

    def __init__(self, core: wl.Exports) -> None:
        self._core = core

    def __getattr__(self, name: str) -> Any:
        if name == "_core" or name not in self._core:
            raise _Missing(f"Export `{name}` does not exist.")
        return _wrapped(self._core[name])

    def __len__(self) -> int:
        return len(self._core)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter([(name, _wrapped(item)) for name, item in self._core.items()])


class ImportObject:
    """What modules import: namespaces of items."""

    def __init__(self) -> None:
        self._namespaces: dict[str, Mapping[str, Any]] = {}

    def register(self, namespace_name: str, namespace: Mapping[str, Any]) -> None:
        """Add a namespace."""
        self._namespaces[namespace_name] = namespace

    def contains_namespace(self, namespace_name: str) -> bool:
        """Whether there is a namespace."""
        return namespace_name in self._namespaces


class Instance:
    """A module with its state."""

    def __init__(self, module: Module, imports: ImportObject | Mapping[str, Mapping[str, Any]] | None = None) -> None:
        given = imports._namespaces if isinstance(imports, ImportObject) else imports or {}
        found = {
            name: {key: getattr(item, "_core", item) for key, item in items.items()} for name, items in given.items()
        }
        core = _attempt(wl.Instance, module._core, found, store=module._store._core)
        self.exports = Exports(core.exports)


# --- engines, compilers and targets: all are accepted, and mean the same ---


class _Engine:
    """An engine, with a compiler or without."""

    def __init__(self, compiler: Any = None, target: Any = None) -> None:
        self.compiler = compiler
        self.target = target


class Compiler:
    """A compiler; ``wasmer_compiler_cranelift`` and its like have one each."""


class _Triple:
    """The name of a machine."""

    def __init__(self, triple: str) -> None:
        self.triple = triple

    @staticmethod
    def host() -> _Triple:
        """This machine."""
        return _Triple("x86_64-unknown-linux-gnu")

    def __str__(self) -> str:
        return self.triple


class _CpuFeatures(set[str]):
    """What a processor has."""


class _Target(NamedTuple):
    """What to compile for."""

    triple: _Triple
    cpu_features: _CpuFeatures | None = None


engine = SimpleNamespace(Universal=_Engine, Dylib=_Engine, JIT=_Engine, Native=_Engine)
target = SimpleNamespace(Triple=_Triple, CpuFeatures=_CpuFeatures, Target=_Target)


# --- WASI ---


class Version(Enum):
    """A version of WASI."""

    LATEST = 1
    SNAPSHOT0 = 2
    SNAPSHOT1 = 3


def _get_version(module: Module, strict: bool) -> Version | None:
    """The version of WASI that a module imports; with `strict` only if it imports nothing else."""
    namespaces = [item.module for item in module._core.imports]
    fits = all if strict else any
    return Version.SNAPSHOT1 if namespaces and fits(name == MODULE_NAME for name in namespaces) else None


class _Environment:
    """What a WASI program sees of the world."""

    def __init__(self, wasi: wl.Wasi) -> None:
        self._wasi = wasi

    def generate_import_object(self, store: Store, wasi_version: Version) -> ImportObject:
        """The functions of WASI."""
        made = ImportObject()
        for name, functions in self._wasi.imports().items():
            made.register(name, functions)
        return made


class _StateBuilder:
    """Says what a WASI program sees of the world."""

    def __init__(self, program_name: str) -> None:
        self._args = [program_name]
        self._env: dict[str, str] = {}
        self._folders: dict[str, str] = {}

    def argument(self, argument: str) -> _StateBuilder:
        """Add an argument."""
        return self.arguments([argument])

    def arguments(self, arguments: Sequence[str]) -> _StateBuilder:
        """Add arguments."""
        self._args += arguments
        return self

    def environment(self, key: str, value: str) -> _StateBuilder:
        """Set a variable."""
        return self.environments({key: value})

    def environments(self, environments: Mapping[str, str]) -> _StateBuilder:
        """Set variables."""
        self._env |= environments
        return self

    def preopen_directory(self, preopen_directory: str) -> _StateBuilder:
        """Give a directory, under its own name."""
        return self.map_directory(preopen_directory, preopen_directory)

    def preopen_directories(self, preopen_directories: Sequence[str]) -> _StateBuilder:
        """Give directories."""
        return self.map_directories({name: name for name in preopen_directories})

    def map_directory(self, alias: str, directory: str) -> _StateBuilder:
        """Give a directory under a name."""
        return self.map_directories({alias: directory})

    def map_directories(self, directories: Mapping[str, str]) -> _StateBuilder:
        """Give directories under names."""
        self._folders |= directories
        return self

    def finalize(self) -> _Environment:
        """The world that has been described."""
        try:
            return _Environment(wl.Wasi(args=self._args, env=self._env, preopens=self._folders))
        except (OSError, ValueError) as error:
            raise RuntimeError(str(error)) from None


wasi = SimpleNamespace(Version=Version, StateBuilder=_StateBuilder, get_version=_get_version)


def install() -> None:
    """Let ``import wasmer``, and its compilers, mean this module from now on, in this process.

    Raises `RuntimeError` if the real one has been imported already.
    """
    ours = sys.modules[__name__]
    if sys.modules.get("wasmer", ours) is not ours:
        raise RuntimeError("wasmer has been imported already: call install() before anything imports it")
    sys.modules["wasmer"] = ours
    for name in ("cranelift", "llvm", "singlepass"):
        made: Any = ModuleType(f"wasmer_compiler_{name}", "The same compiler as all others: wasmloom's.")
        made.Compiler = Compiler
        sys.modules[made.__name__] = made
