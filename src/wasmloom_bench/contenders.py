"""Contenders that run in this process: this engine in its tiers, and packages for Python, behind `harness.Engine`.

V8, and what may take its process down with it or run for too long, is in `remote`; C without WebAssembly in `native`.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import time
from collections.abc import Callable
from typing import Any

from wasmloom_bench.harness import Guest, Imports, Unsupported, WrongAnswer

#: How wasmloom can run guests. "auto" starts interpreted and compiles in the background.
TIERS = ("interpreter", "baseline", "compiler", "auto")
#: Those that make code while a guest runs.
WARMING = ("baseline", "auto")


class Programs:
    """A WASI program that can be run again and again, in a fresh instance each time; only ``_start`` is timed."""

    def __init__(self, name: str, prepare: Callable[[], Callable[[], int]]) -> None:
        self._name = name
        self._prepare = prepare

    def __call__(self) -> None:
        self.timed(1)

    def timed(self, count: int) -> float:
        """Seconds of `count` runs. Raises `harness.WrongAnswer` when one fails."""
        taken = 0.0
        for _ in range(count):
            run = self._prepare()
            start = time.thread_time()
            status = run()
            taken += time.thread_time() - start
            if status:
                raise WrongAnswer(f"{self._name}: the program ended with status {status}")
        return taken


class _WasmloomGuest:
    def __init__(self, instance: Any) -> None:
        self.exports = instance.exports

    def function(self, name: str) -> Callable[..., Any]:
        return getattr(self.exports, name)  # type: ignore[no-any-return]

    def write(self, address: int, data: bytes) -> None:
        self.exports.memory[address : address + len(data)] = data

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.exports.memory[address : address + size])


class Wasmloom:
    """This engine, with its default settings unless `options` for `wasmloom.Engine` are given.

    Raises `harness.Unsupported` when it doesn't have them.
    """

    def __init__(self, name: str | None = None, *, warm_up: float = 0, **options: Any) -> None:
        import wasmloom

        self.name = name or options.get("tier", "wasmloom")
        self.version = wasmloom.__version__
        self.trap: type[BaseException] = wasmloom.Trap
        self.warm_up = warm_up
        self._wl = wasmloom
        self._options = options
        try:
            self._engine = wasmloom.Engine(**options)
        except (wasmloom.WasmError, TypeError, ValueError) as error:  # what another version knows
            raise Unsupported(str(error)) from error

    def compile(self, wasm: bytes) -> object:
        return self._wl.Module(wasm, self._engine)

    def code_size(self, module: Any) -> int | None:
        return None if module.compiled is None else module.compiled.code_size

    def without_cache(self) -> Wasmloom:
        """The same, but what it compiles neither comes from the disk nor goes there."""
        return Wasmloom(self.name, **self._options, cache=False)

    def instantiate(self, wasm: bytes, imports: Imports | None = None, module: object = None) -> Guest:
        try:
            compiled: Any = self.compile(wasm) if module is None else module
        except self._wl.CompileError as error:
            raise Unsupported(str(error)) from error
        given: dict[str, dict[str, Any]] = {}
        for (space, name), (_, _, function) in (imports or {}).items():
            given.setdefault(space, {})[name] = function
        # Millions of continuations take more than what guests may have by default.
        store = self._wl.Store(self._engine, memory_limit=1 << 40)
        return _WasmloomGuest(self._wl.Instance(compiled, given, store=store))

    def program(self, wasm: bytes) -> Programs:
        from wasmloom.wasi import Wasi

        module: Any = self.compile(wasm)

        def prepare() -> Callable[[], int]:
            sink = open(os.devnull, "wb")  # noqa: SIM115 (closed with the guest)
            wasi = Wasi(args=["program"], stdin=b"", stdout=sink, stderr=sink)
            instance = wasi.instantiate(module, store=self._wl.Store(self._engine))

            def run() -> int:
                return wasi.start(instance)

            return run

        return Programs(self.name, prepare)


class _Wasm3Guest:
    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime

    def function(self, name: str) -> Callable[..., Any]:
        try:
            return self.runtime.find_function(name)  # type: ignore[no-any-return]
        except RuntimeError as error:  # wasm3 translates here
            raise Unsupported(str(error)) from error

    def write(self, address: int, data: bytes) -> None:
        self.runtime.get_memory(0)[address : address + len(data)] = data

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.runtime.get_memory(0)[address : address + size])


class Wasm3:
    """wasm3 through its Python package. It doesn't validate, and runs no WASI programs there."""

    name = "wasm3"
    trap: type[BaseException] = RuntimeError
    warm_up = 0.0

    def __init__(self, stack: int = 1 << 20) -> None:
        import wasm3

        self.version = importlib.metadata.version("pywasm3")
        self._stack = stack
        self._environment = wasm3.Environment()

    def without_cache(self) -> Wasm3:
        """Itself: it keeps nothing."""
        return self

    def compile(self, wasm: bytes) -> object:
        try:
            return self._environment.parse_module(wasm)
        except RuntimeError as error:
            raise Unsupported(str(error)) from error

    def code_size(self, module: object) -> int | None:
        return None

    def instantiate(self, wasm: bytes, imports: Imports | None = None, module: object = None) -> Guest:
        parsed: Any = self.compile(wasm) if module is None else module
        runtime = self._environment.new_runtime(self._stack)
        try:
            runtime.load(parsed)
            for (space, name), (params, results, function) in (imports or {}).items():
                parsed.link_function(space, name, f"{results or 'v'}({params})", function)
        except RuntimeError as error:
            raise Unsupported(str(error)) from error
        return _Wasm3Guest(runtime)

    def program(self, wasm: bytes) -> Programs:
        raise Unsupported("its Python package has no WASI")


class _WasmtimeGuest:
    def __init__(self, store: Any, instance: Any) -> None:
        self.store = store
        self.exports = instance.exports(store)

    def function(self, name: str) -> Callable[..., Any]:
        function, store = self.exports[name], self.store
        return lambda *args: function(store, *args)

    def write(self, address: int, data: bytes) -> None:
        self.exports["memory"].write(self.store, data, address)

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.exports["memory"].read(self.store, address, address + size))


class Wasmtime:
    """Wasmtime through its Python package: an optimising compiler, or with `interpreted` its interpreter, Pulley."""

    warm_up = 0.0

    def __init__(self, *, stack_switching: bool = False, interpreted: bool = False) -> None:
        import wasmtime

        self.name = "Pulley" if interpreted else "Wasmtime"
        self.version = importlib.metadata.version("wasmtime")
        self.trap: type[BaseException] = wasmtime.Trap
        self._wt = wasmtime
        config = wasmtime.Config()
        config.wasm_function_references = True
        config.wasm_gc = True
        if stack_switching:
            config.wasm_exceptions = True
            config.wasm_stack_switching = True
        if interpreted:
            config.target = "pulley64"
        self._engine = wasmtime.Engine(config)

    def without_cache(self) -> Wasmtime:
        """Itself: it keeps nothing unless it is asked to."""
        return self

    def validate(self, wasm: bytes) -> None:
        """Only validate."""
        self._wt.Module.validate(self._engine, wasm)

    def compile(self, wasm: bytes) -> object:
        try:
            return self._wt.Module(self._engine, wasm)
        except self._wt.WasmtimeError as error:
            raise Unsupported(str(error).splitlines()[0]) from error

    def code_size(self, module: Any) -> int | None:
        return len(module.serialize())

    def instantiate(self, wasm: bytes, imports: Imports | None = None, module: object = None) -> Guest:
        wt = self._wt
        types = {"i": wt.ValType.i32(), "I": wt.ValType.i64(), "f": wt.ValType.f32(), "F": wt.ValType.f64()}
        compiled: Any = self.compile(wasm) if module is None else module
        store = wt.Store(self._engine)
        linker = wt.Linker(self._engine)
        for (space, name), (params, results, function) in (imports or {}).items():
            signature = wt.FuncType([types[c] for c in params], [types[c] for c in results])
            linker.define(store, space, name, wt.Func(store, signature, function))
        return _WasmtimeGuest(store, linker.instantiate(store, compiled))

    def program(self, wasm: bytes) -> Programs:
        wt = self._wt
        module: Any = self.compile(wasm)

        def prepare() -> Callable[[], int]:
            store, linker, config = wt.Store(self._engine), wt.Linker(self._engine), wt.WasiConfig()
            config.argv = ["program"]
            config.stdout_file = config.stderr_file = os.devnull
            store.set_wasi(config)
            linker.define_wasi()
            start = linker.instantiate(store, module).exports(store)["_start"]

            def run() -> int:
                try:
                    start(store)
                except wt.ExitTrap as exit:
                    return int(exit.code)
                return 0

            return run

        return Programs(self.name, prepare)


class _PywasmGuest:
    def __init__(self, runtime: Any, instance: Any) -> None:
        self.runtime = runtime
        self.instance = instance

    def function(self, name: str) -> Callable[..., Any]:
        runtime, instance = self.runtime, self.instance

        def call(*arguments: Any) -> Any:
            results = runtime.invocate(instance, name, list(arguments))
            return results[0] if len(results) == 1 else tuple(results) if results else None

        return call

    def _memory(self) -> bytearray:
        return self.runtime.exported_memory(self.instance, "memory").data  # type: ignore[no-any-return]

    def write(self, address: int, data: bytes) -> None:
        self._memory()[address : address + len(data)] = data

    def read(self, address: int, size: int) -> bytes:
        return bytes(self._memory()[address : address + size])


class Pywasm:
    """pywasm, an interpreter in Python: what the language gives when nothing is compiled."""

    name = "pywasm"
    trap: type[BaseException] = Exception
    warm_up = 0.0

    def __init__(self) -> None:
        import pywasm

        self.version = importlib.metadata.version("pywasm")
        self._pywasm = pywasm

    def compile(self, wasm: bytes) -> object:
        return self._pywasm.ModuleDesc.from_reader(io.BytesIO(wasm))

    def code_size(self, module: object) -> int | None:
        return None

    def instantiate(self, wasm: bytes, imports: Imports | None = None, module: object = None) -> Guest:
        runtime = self._pywasm.Runtime()
        types = {"i": "i32", "I": "i64", "f": "f32", "F": "f64"}
        for (space, name), (params, results, function) in (imports or {}).items():
            kinds = [[getattr(self._pywasm.ValType, types[c])() for c in letters] for letters in (params, results)]
            host = runtime.allocate_func_host(
                self._pywasm.FuncType(*kinds), lambda _, arguments, function=function: [function(*arguments)]
            )
            runtime.imports.setdefault(space, {})[name] = host
        return _PywasmGuest(runtime, runtime.instance(self.compile(wasm)))

    def program(self, wasm: bytes) -> Programs:
        raise Unsupported("its WASI isn't used here")
