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

if TYPE_CHECKING:
    from wasmloom.errors import (
        CompileError,
        ExitStatus,
        Frame,
        LinkError,
        Trap,
        UnsupportedError,
        ValidationError,
        WasmError,
    )
    from wasmloom.host.bridge import Func
    from wasmloom.host.engine import Engine
    from wasmloom.host.exports import Exports
    from wasmloom.host.externs import Global, Memory, Table
    from wasmloom.host.instance import Instance
    from wasmloom.host.module import ExportType, ImportType, Module
    from wasmloom.runtime.store import Store
    from wasmloom.spec.types import (
        EXTERNREF,
        F32,
        F64,
        FUNCREF,
        I32,
        I64,
        V128,
        FuncType,
        GlobalType,
        Limits,
        MemoryType,
        TableType,
        TagType,
        ValType,
    )
    from wasmloom.wasi import Wasi

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
    "spec.types": "EXTERNREF F32 F64 FUNCREF I32 I64 V128 FuncType GlobalType Limits MemoryType TableType TagType ValType",
    "wasi": "Wasi",
}
_HOME_OF: dict[str, str] = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [*_HOME_OF]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Load a public name on its first use."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
