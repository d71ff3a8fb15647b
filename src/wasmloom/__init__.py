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

from wasmloom.version import __version__ as __version__

if TYPE_CHECKING:  # what `_HOMES` says, for type checkers
    from wasmloom.errors import CompileError as CompileError
    from wasmloom.errors import ExitStatus as ExitStatus
    from wasmloom.errors import Frame as Frame
    from wasmloom.errors import LinkError as LinkError
    from wasmloom.errors import SourceFrame as SourceFrame
    from wasmloom.errors import Trap as Trap
    from wasmloom.errors import UnsupportedError as UnsupportedError
    from wasmloom.errors import ValidationError as ValidationError
    from wasmloom.errors import WasmError as WasmError
    from wasmloom.errors import WasmException as WasmException
    from wasmloom.host.asynchronous import CallInfo as CallInfo
    from wasmloom.host.asynchronous import Func as Func
    from wasmloom.host.asynchronous import WaitingGuest as WaitingGuest
    from wasmloom.host.asynchronous import current_call as current_call
    from wasmloom.host.asynchronous import waiting_guests as waiting_guests
    from wasmloom.host.callers import Caller as Caller
    from wasmloom.host.callers import takes_caller as takes_caller
    from wasmloom.host.continuations import Continuation as Continuation
    from wasmloom.host.continuations import Suspension as Suspension
    from wasmloom.host.continuations import resume_iter as resume_iter
    from wasmloom.host.engine import Engine as Engine
    from wasmloom.host.exports import Exports as Exports
    from wasmloom.host.externs import Global as Global
    from wasmloom.host.externs import Memory as Memory
    from wasmloom.host.externs import Table as Table
    from wasmloom.host.instance import Instance as Instance
    from wasmloom.host.js_strings import js_strings as js_strings
    from wasmloom.host.module import ExportType as ExportType
    from wasmloom.host.module import ImportType as ImportType
    from wasmloom.host.module import Module as Module
    from wasmloom.host.objects import Array as Array
    from wasmloom.host.objects import Struct as Struct
    from wasmloom.host.profile import Profile as Profile
    from wasmloom.host.profile import profile as profile
    from wasmloom.host.shared_memory import SharedMemory as SharedMemory
    from wasmloom.host.store import Store as Store
    from wasmloom.host.tags import Tag as Tag
    from wasmloom.host.time_left import time_left as time_left
    from wasmloom.runtime.gc_statistics import GcStatistics as GcStatistics
    from wasmloom.snapshot.calls import PendingCall as PendingCall
    from wasmloom.snapshot.snapshot import Restored as Restored
    from wasmloom.snapshot.snapshot import Snapshot as Snapshot
    from wasmloom.snapshot.snapshot import fork as fork
    from wasmloom.spec.types import ANYREF as ANYREF
    from wasmloom.spec.types import EXTERNREF as EXTERNREF
    from wasmloom.spec.types import F32 as F32
    from wasmloom.spec.types import F64 as F64
    from wasmloom.spec.types import FUNCREF as FUNCREF
    from wasmloom.spec.types import I8 as I8
    from wasmloom.spec.types import I16 as I16
    from wasmloom.spec.types import I32 as I32
    from wasmloom.spec.types import I64 as I64
    from wasmloom.spec.types import V128 as V128
    from wasmloom.spec.types import ArrayType as ArrayType
    from wasmloom.spec.types import FieldType as FieldType
    from wasmloom.spec.types import FuncType as FuncType
    from wasmloom.spec.types import GlobalType as GlobalType
    from wasmloom.spec.types import Limits as Limits
    from wasmloom.spec.types import MemoryType as MemoryType
    from wasmloom.spec.types import StructType as StructType
    from wasmloom.spec.types import TableType as TableType
    from wasmloom.spec.types import TagType as TagType
    from wasmloom.spec.types import ValType as ValType
    from wasmloom.wasi import ReadOnly as ReadOnly
    from wasmloom.wasi import Wasi as Wasi

#: Module → the public names that it defines. They are loaded on first use: the build imports parts of the package
#: before its compiled modules exist, and a program that only assembles text needs no runtime.
_HOMES: dict[str, str] = {
    "errors": "CompileError ExitStatus Frame LinkError SourceFrame Trap UnsupportedError ValidationError WasmError "
    "WasmException",
    "host.asynchronous": "CallInfo Func WaitingGuest current_call waiting_guests",  # functions that can wait need it
    "host.callers": "Caller takes_caller",
    "host.continuations": "Continuation Suspension resume_iter",
    "host.engine": "Engine",
    "host.exports": "Exports",
    "host.externs": "Global Memory Table",
    "host.shared_memory": "SharedMemory",
    "host.instance": "Instance",
    "host.js_strings": "js_strings",
    "host.objects": "Array Struct",
    "host.profile": "Profile profile",
    "host.time_left": "time_left",
    "host.store": "Store",
    "host.tags": "Tag",
    "host.module": "ExportType ImportType Module",
    "runtime.gc_statistics": "GcStatistics",
    "snapshot.calls": "PendingCall",
    "snapshot.snapshot": "Restored Snapshot fork",
    "spec.types": "ANYREF EXTERNREF F32 F64 FUNCREF I8 I16 I32 I64 V128 "
    "ArrayType FieldType FuncType GlobalType Limits MemoryType StructType TableType TagType ValType",
    "wasi": "ReadOnly Wasi",
}
_HOME_OF: dict[str, str] = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [*_HOME_OF]


def __getattr__(name: str) -> Any:
    """Load a public name on its first use."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    if home.startswith("host."):
        import_module(f"{__name__}.runtime.hooks").set_take_snapshot(_take_snapshot)
    return value


def _take_snapshot(store: Any, keep: Any, persistent_id: Any) -> Any:
    """What `Store.snapshot` does: stores lie below snapshots."""
    return __getattr__("Snapshot").take(store, keep=keep, persistent_id=persistent_id)


# What catches errors may run while Python ends, when nothing can be imported any more.
for _name in _HOMES["errors"].split():
    __getattr__(_name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])  # not what has been imported so far of the package's own
