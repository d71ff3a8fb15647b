"""wasmloom: a WebAssembly engine for Python, written in Python.

```python
import wasmloom as wl

module = wl.Module.from_file("prog.wasm")            # or wl.Module(data): bytes, or text starting with "("
instance = wl.Instance(module, {"env": {"log": print}})
instance.exports.fib(30)
```
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what `_HOMES` says, for type checkers
    from wasmloom.errors import (
        CompileError as CompileError,
        ExitStatus as ExitStatus,
        Frame as Frame,
        LinkError as LinkError,
        Trap as Trap,
        UnsupportedError as UnsupportedError,
        ValidationError as ValidationError,
        WasmError as WasmError,
    )
    from wasmloom.host.bridge import Func as Func
    from wasmloom.host.engine import Engine as Engine
    from wasmloom.host.exports import Exports as Exports
    from wasmloom.host.externs import Global as Global, Memory as Memory, Table as Table
    from wasmloom.host.instance import Instance as Instance
    from wasmloom.host.module import ExportType as ExportType, ImportType as ImportType, Module as Module
    from wasmloom.runtime.store import Store as Store
    from wasmloom.spec.types import (
        EXTERNREF as EXTERNREF,
        F32 as F32,
        F64 as F64,
        FUNCREF as FUNCREF,
        I32 as I32,
        I64 as I64,
        V128 as V128,
        FuncType as FuncType,
        GlobalType as GlobalType,
        Limits as Limits,
        MemoryType as MemoryType,
        TableType as TableType,
        TagType as TagType,
        ValType as ValType,
    )
    from wasmloom.wasi import Wasi as Wasi

__version__ = "0.1.0"

#: Module → the public names that it defines. They are loaded on first use: the build imports parts of the package
#: before its compiled modules exist, and a program that only assembles text needs no runtime.
_HOMES: dict[str, str] = {
    "errors": "CompileError ExitStatus Frame LinkError Trap UnsupportedError ValidationError WasmError",
    "host.bridge": "Func",
    "host.engine": "Engine",
    "host.exports": "Exports",
    "host.externs": "Global Memory Table",
    "host.instance": "Instance",
    "host.module": "ExportType ImportType Module",
    "runtime.store": "Store",
    "spec.types": "EXTERNREF F32 F64 FUNCREF I32 I64 V128 "
    "FuncType GlobalType Limits MemoryType TableType TagType ValType",
    "wasi": "Wasi",
}
_HOME_OF: dict[str, str] = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [*_HOME_OF]


def __getattr__(name: str) -> Any:
    """Load a public name on its first use."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
