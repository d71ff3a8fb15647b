"""A look-alike of the package ``wasmtime``, version 50, for core modules and WASI preview 1.

```python
import wasmloom.compat.wasmtime as wasmtime
```

or, for programs that can't be changed, `install` in the same process, or on the command line ``python -m
wasmloom.compat.wasmtime PROGRAM…``. docs/compat.md says what differs.
"""

from __future__ import annotations

from wasmloom.compat.wasmtime.config import Config, Engine
from wasmloom.compat.wasmtime.errors import ExitTrap, Frame, Trap, TrapCode, WasmtimeError
from wasmloom.compat.wasmtime.externs import Global, Memory, SharedMemory, Table, Tag
from wasmloom.compat.wasmtime.install import install as install
from wasmloom.compat.wasmtime.instance import Instance, InstancePre
from wasmloom.compat.wasmtime.linker import Linker
from wasmloom.compat.wasmtime.module import Module, wat2wasm
from wasmloom.compat.wasmtime.store import Store, StoreContext
from wasmloom.compat.wasmtime.types import (
    ExportType,
    FuncType,
    GlobalType,
    ImportType,
    Limits,
    MemoryType,
    TableType,
    TagType,
    ValType,
)
from wasmloom.compat.wasmtime.values import Caller, Func, Val
from wasmloom.compat.wasmtime.wasi import DirPerms, FilePerms, WasiConfig

__all__ = [
    "Caller",
    "Config",
    "DirPerms",
    "Engine",
    "ExitTrap",
    "ExportType",
    "FilePerms",
    "Frame",
    "Func",
    "FuncType",
    "Global",
    "GlobalType",
    "ImportType",
    "Instance",
    "InstancePre",
    "Limits",
    "Linker",
    "Memory",
    "MemoryType",
    "Module",
    "SharedMemory",
    "Store",
    "StoreContext",
    "Table",
    "TableType",
    "Tag",
    "TagType",
    "Trap",
    "TrapCode",
    "Val",
    "ValType",
    "WasiConfig",
    "WasmtimeError",
    "wat2wasm",
]
