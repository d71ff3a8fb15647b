"""Compiled modules: from a decoded module to code in memory.

A module is compiled in units (`wasmloom.compiler.units`), by worker processes when there are several; the objects go
into the disk cache. Loading gives the addresses that instances take into their functions, and keeps what backtraces
need: which function and which offset of the module an address belongs to.
"""

from __future__ import annotations

import weakref
from array import array
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from wasmloom.compiler.cache import Cache, cache_key
from wasmloom.compiler.objects import load
from wasmloom.compiler.perf import describe, wanted
from wasmloom.compiler.workers import compile_parts
from wasmloom.runtime import native
from wasmloom.runtime.store import func_name
from wasmloom.spec.types import FuncType

if TYPE_CHECKING:
    from wasmloom.binary.decoder import DecodedModule
    from wasmloom.compiler.lowering import Options

#: Bytes of function bodies that LLVM gets at a time.
UNIT_BYTES = 1 << 16

#: What `wasmloom.compiler.stubs` defines and objects refer to: LLVM's name → ours.
_EXTERNALS = {
    "wl_on_host": "wl_on_host",
    "wl_trap_native": "wl_trap_native",
    "wl_loop_interrupt": "wl_loop_interrupt",
    "__morestack": "wl_morestack",
    "wl_fiber_start": "wl_fiber_start",
    "wl_runtime": "wl_runtime",
    "wl_switch_call": "wl_switch_call",
}

#: All compiled modules, so that a backtrace finds the one that an address belongs to.
_modules: weakref.WeakSet[CompiledModule] = weakref.WeakSet()


class CompiledModule:
    """The machine code of a module, in memory as long as this object lives.

    `functions` has the address of each function defined in the module, `array_calls` by type index that of the function
    that calls such code with arguments in memory.
    """

    def __init__(self, module: DecodedModule, objects: list[bytes]) -> None:
        """Load what `compile_module` has given. Raises `ObjectError`."""
        self.module = module
        # The ids of types are the process's own: code finds them in this table.
        self._type_ids = array("Q", module.type_ids or [0])
        stubs = native.stub_addresses()
        externals = {name: stubs[ours] for name, ours in _EXTERNALS.items()}
        externals["wl_type_ids"] = self._type_ids.buffer_info()[0]
        self.loaded = load(objects, externals)
        symbols = self.loaded.symbols
        count = len(module.func_types) - module.num_imported_funcs
        self.functions = [symbols[f"wf.{index}"] for index in range(count)]
        self.array_calls = {
            index: symbols.get(f"wt.{index}", 0)
            for index, sub in enumerate(module.types)
            if isinstance(sub.composite, FuncType)
        }
        native.add_code(self.loaded.base, self.loaded.code_end)
        _modules.add(self)
        weakref.finalize(self, native.remove_code, self.loaded.base)
        if wanted():
            describe(self.loaded, self.symbol_name)

    @property
    def code_size(self) -> int:
        """Bytes of machine code."""
        return self.loaded.code_end - self.loaded.base

    def symbol_name(self, symbol: str) -> str:
        """What people should read for a symbol."""
        kind, _, number = symbol.partition(".")
        if kind != "wf":
            return symbol
        index = int(number) + self.module.num_imported_funcs
        return func_name(self.module, index) or f"wasm-function[{index}]"

    def place(self, address: int) -> tuple[int, int] | None:
        """The function (of the module's index space) and the offset in the module of the code at an address."""
        found = self.loaded.lookup(address)
        if found is None or not found[0].startswith("wf."):
            return None
        offset = self.loaded.offset_at(address)
        return int(found[0][3:]) + self.module.num_imported_funcs, offset or 0


def walk_native(ip: int, fp: int, cont: int, limit: int) -> list[tuple[CompiledModule, int, int, int]]:
    """The Wasm frames from a trap, or a call of the host, to the bottom of its entry, innermost first.

    `ip` is a return address, `fp` the frame pointer of its function, `cont` the address of the running continuation.
    Each frame is (module, function index, offset in the module, address of the continuation).
    """
    known: dict[int, tuple[CompiledModule, int, int] | None] = {}
    frames = []
    for place, running in native.frames(ip, fp, cont, limit):
        if place not in known:
            known[place] = _describe(place - 1)
        found = known[place]
        if found is not None:  # else a piece of `wasmloom.compiler.stubs`
            frames.append((*found, running))
    return frames


def _describe(address: int) -> tuple[CompiledModule, int, int] | None:
    for compiled in list(_modules):
        if compiled.loaded.contains(address):
            place = compiled.place(address)
            return None if place is None else (compiled, *place)
    return None


def units(module: DecodedModule) -> Iterator[list[int]]:
    """The functions defined in a module, in pieces that are compiled one by one."""
    piece: list[int] = []
    size = 0
    for index, (start, end) in enumerate(zip(module.body_starts, module.body_ends, strict=True)):
        piece.append(index)
        size += end - start
        if size >= UNIT_BYTES:
            yield piece
            piece, size = [], 0
    yield piece


@lru_cache(maxsize=1)
def _facts(data: bytes) -> object:
    from wasmloom.binary.decoder import decode_module
    from wasmloom.compiler.facts import Facts

    return Facts(decode_module(data))


def _compile_part(data: bytes, options: Options, part: tuple[list[int], bool]) -> bytes:
    """Compile one unit of a module, in whichever process."""
    from wasmloom.compiler.facts import Facts
    from wasmloom.compiler.units import compile_unit

    facts = _facts(data)
    if not isinstance(facts, Facts):
        raise TypeError("not the facts of a module")
    functions, first = part
    return compile_unit(facts, options, functions, first)


def compile_module(
    module: DecodedModule,
    options: Options,
    cache: Cache | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    isolated: bool = False,
) -> list[bytes]:
    """The objects of a module: from the cache, or compiled. Raises `UnsupportedError`, and `CompileError`.

    See `wasmloom.compiler.workers` for `workers`, `progress` and `isolated`.
    """
    key = ""
    if cache is not None:
        key = cache_key(module.data, options.as_dict())
        objects = cache.get(key)
        if objects is not None:
            return objects
    parts = [(piece, number == 0) for number, piece in enumerate(units(module))]
    if len(parts) == 1:
        workers = 1
    objects = compile_parts(parts, partial(_compile_part, module.data, options), workers, progress, isolated)
    if cache is not None:
        cache.put(key, objects)
    return objects
