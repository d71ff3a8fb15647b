"""The contenders: this engine in its tiers, and its peers, each behind `harness.Engine`.

What runs in this process is here; V8, and what may take its process down with it, is in `remote`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import remote
from harness import (
    Engine,
    Guest,
    Imports,
    Missing,
    Report,
    Unsupported,
    WrongAnswer,
    duration,
    geometric_mean,
)

#: How wasmloom can run guests. "auto" starts interpreted and compiles in the background.
TIERS = ("interpreter", "baseline", "compiler", "auto")
#: Those that make code while a guest runs.
_WARMING = ("baseline", "auto")

#: How compiled code switches stacks: by instructions of its own, or through calls into the runtime.
SWITCHING = ("native", "libcall")


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

    def __init__(self, name: str = "wasmloom", *, warm_up: float = 0, **options: Any) -> None:
        import wasmloom

        self.name = name
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

        self.name = "pulley" if interpreted else "wasmtime"
        self.version = importlib.metadata.version("wasmtime")
        self.trap: type[BaseException] = wasmtime.Trap
        self._wt = wasmtime
        config = wasmtime.Config()
        if stack_switching:
            config.wasm_function_references = True
            config.wasm_exceptions = True
            config.wasm_gc = True
            config.wasm_stack_switching = True
        if interpreted:
            config.target = "pulley64"
        self._engine = wasmtime.Engine(config)

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


# --- choosing them ------------------------------------------------------------------------------------------------

#: All contenders; "wasmloom" stands for one in each tier that ``--tier`` names.
NAMES = ("wasmloom", "wasm3", "wasmtime", "v8")
#: Where programs have vectors, which wasm3 doesn't know.
NAMES_WITH_VECTORS = ("wasmloom", "pulley", "wasmtime", "v8")


def add_options(
    parser: argparse.ArgumentParser,
    *,
    tiers: Sequence[str] = ("interpreter",),
    contenders: Sequence[str] = (),
    switching: Sequence[str] = (),
) -> None:
    """The options that scripts share: ``--quick`` and ``--tier``, by default `tiers`.

    With `contenders`, those that can run and do by default, also ``--contenders``, ``--warm-up``, and with "v8" among
    them ``--node``; with `switching` ``--stack-switching``, by default that.
    """
    parser.add_argument("--quick", action="store_true", help="tiny runs: whether it works, with figures of no meaning")
    parser.add_argument("--tier", default=",".join(tiers), help=f"wasmloom's, of {', '.join(TIERS)}; several by commas")
    if switching:
        text = f"how compiled code does it, of {', '.join(SWITCHING)}; several by commas"
        parser.add_argument("--stack-switching", default=",".join(switching), help=text)
    if contenders:
        text = f"of {', '.join(contenders)}; several by commas"
        parser.add_argument("--contenders", default=",".join(contenders), help=text)
        parser.add_argument("--warm-up", type=float, default=2.0, help="seconds for what compiles while it runs")
        parser.set_defaults(offered=contenders)
        if "v8" in contenders:
            parser.add_argument("--node", help="a Node.js for V8; by default WASMLOOM_NODE, or the one on PATH")


def tiers(args: argparse.Namespace, missing: list[Missing]) -> list[Wasmloom]:
    """wasmloom once per tier in the options of `add_options`; where code is compiled, per way of switching stacks.

    What this version doesn't have is added to `missing`. Raises `SystemExit` for a name that isn't one.
    """
    found = []
    switching = getattr(args, "stack_switching", None)
    for tier in args.tier.split(","):
        for way in switching.split(",") if switching and tier in ("compiler", "auto") else [None]:
            if tier not in TIERS or way not in (None, *SWITCHING):
                raise SystemExit(f"no {tier} {way or ''}: tiers are {', '.join(TIERS)}, ways {', '.join(SWITCHING)}")
            name = f"wasmloom {tier}" if way is None else f"wasmloom {tier} {way}"
            options = {"tier": tier} | ({} if way is None else {"stack_switching": way})
            try:
                found.append(Wasmloom(name, warm_up=_warm_up(args) if tier in _WARMING else 0, **options))
            except Unsupported as error:
                missing.append(Missing(name, str(error)))
    return found


def _warm_up(args: argparse.Namespace) -> float:
    return 0.02 if args.quick else getattr(args, "warm_up", 2.0)


def chosen(args: argparse.Namespace, missing: list[Missing], *, v8_flags: Sequence[str] = ()) -> list[Engine]:
    """The contenders that the options of `add_options` name; those that aren't there are added to `missing`.

    Raises `SystemExit` for a name that isn't one.
    """
    makers: dict[str, Callable[[], Sequence[Engine]]] = {
        "wasmloom": lambda: tiers(args, missing),
        "wasm3": lambda: [Wasm3()],
        "wasmtime": lambda: [Wasmtime()],
        "pulley": lambda: [Wasmtime(interpreted=True)],
        "v8": lambda: [remote.V8(args.node, v8_flags, warm_up=_warm_up(args))],
    }
    found: list[Engine] = []
    for name in args.contenders.split(","):
        if name not in args.offered:
            raise SystemExit(f"no contender {name!r}; there are {', '.join(args.offered)}")
        try:
            found += makers[name]()
        except ImportError as error:
            missing.append(Missing(name, f"not installed ({error})"))
        except Unsupported as error:
            missing.append(Missing(name, str(error)))
    return found


def compared(engines: Sequence[Engine]) -> list[tuple[str, str]]:
    """What is set in relation to what, by name: interpreters to those of others, compilers to Wasmtime and V8."""
    names = [engine.name for engine in engines]
    interpreters, compilers = ("wasm3", "pulley"), ("wasmtime", "v8")
    peers = {name: interpreters if "interpreter" in name else compilers for name in names if "wasmloom" in name}
    return [(name, peer) for name in names for peer in (peers | {"v8": ("wasmtime",)}).get(name, ()) if peer in names]


def over(pair: tuple[str, str]) -> str:
    """The name of a ratio's column."""
    return f"{pair[0].removeprefix('wasmloom ')} / {pair[1]}"


class Ratios:
    """A table of programs: the time of each contender, and what is set in relation to what, with geometric means."""

    def __init__(self, report: Report, names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> None:
        self._report = report
        self._names = names
        self._found: dict[tuple[str, str], list[float]] = {pair: [] for pair in pairs}
        report.columns = ["program", *names, *(over(pair) for pair in pairs)]

    def add(self, program: str, times: Mapping[str, float]) -> None:
        """A program, with the seconds of the contenders that run it."""
        cells = []
        for (one, other), found in self._found.items():
            if one in times and other in times:
                found.append(times[one] / times[other])
                cells.append(f"{found[-1]:.3f}")
            else:
                cells.append("—")
        self._report.add(program, *(duration(times[n]) if n in times else "—" for n in self._names), *cells)

    def end(self) -> None:
        """The last row, and what it is about."""
        means = (f"{geometric_mean(found):.3f}" for found in self._found.values())
        self._report.add("geometric mean", *("" for _ in self._names), *means)
        self._report.notes += [
            f"{over(pair)}: {len(found)} programs that both run; less is better." for pair, found in self._found.items()
        ]


def notes(engines: Sequence[Engine]) -> list[str]:
    """What a reader has to know about how these were measured."""
    warmed = [f"{engine.name} for {engine.warm_up:g} s" for engine in engines if engine.warm_up]
    lines = [f"Run first, because they compile what runs often: {', '.join(warmed)}."] if warmed else []
    return lines + [
        f"{engine.name} runs in processes of its own and measures itself: {engine.clock}."
        for engine in engines
        if isinstance(engine, remote.Remote)
    ]


def compile_cold(engine: Engine, wasm: bytes) -> tuple[float, int | None]:
    """Elapsed seconds of compiling, and the size of the code where it is known. Raises `harness.Unsupported`.

    Nothing comes from a cache: V8, which has one in memory, does it in a fresh process.
    """
    if isinstance(engine, remote.Remote):
        compiled = engine.compile(wasm)
        return compiled.seconds, compiled.size
    if isinstance(engine, Wasmloom):
        engine = engine.without_cache()
    start = time.perf_counter()
    module = engine.compile(wasm)
    return time.perf_counter() - start, engine.code_size(module)
