"""wasmloom: a WebAssembly engine for Python, written in Python.

```python
import wasmloom as wl

module = wl.Module.from_file("prog.wasm")            # or wl.Module(data): bytes, or text starting with "("
instance = wl.Instance(module, {"env": {"log": print}})
instance.exports.fib(30)
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from wasmloom.wasi import Wasi

__version__ = "0.1.0"

__all__ = [
    "EXTERNREF",
    "F32",
    "F64",
    "FUNCREF",
    "I32",
    "I64",
    "V128",
    "CompileError",
    "Engine",
    "ExitStatus",
    "ExportType",
    "Exports",
    "Frame",
    "Func",
    "FuncType",
    "Global",
    "GlobalType",
    "ImportType",
    "Instance",
    "Limits",
    "LinkError",
    "Memory",
    "MemoryType",
    "Module",
    "Store",
    "Table",
    "TableType",
    "TagType",
    "Trap",
    "UnsupportedError",
    "ValType",
    "ValidationError",
    "Wasi",
    "WasmError",
]


def __getattr__(name: str) -> Any:
    """Load on first use what most programs don't need."""
    if name == "Wasi":
        from wasmloom.wasi import Wasi

        return Wasi
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
