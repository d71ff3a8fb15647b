"""Settings, and the engine that is made of them.

Every setting is accepted and checked. `Config` has one line for each, which says what it means here; those that say
nothing more are about Wasmtime's own compiler or memories.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import wasmloom as wl
from wasmloom.compat.wasmtime.errors import WasmtimeError, attempt
from wasmloom.compat.wasmtime.handles import Handle, Setting, expect

#: What is said of settings that change nothing.
_NOTHING = "Accepted; means nothing here."

#: How the names of features in errors differ from those of `wl.Module.features`.
_TITLES = {"simd": "SIMD", "relaxed-simd": "relaxed SIMD", "atomics": "threads", "exception-handling": "exceptions"}


class Switch(Setting[bool]):
    """Whether modules may use some features, by their names in `wl.Module.features`."""

    def __init__(self, *features: str, default: bool = True) -> None:
        super().__init__(_bool, f"Whether modules may use: {', '.join(features) or 'nothing that there is here'}.")
        self.features = features
        self.default = default


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected a bool, not {type(value).__name__}")
    return value


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"expected an int, not {type(value).__name__}")
    return value


def _one_of(what: str, *known: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if value not in known:
            raise WasmtimeError(f"unknown {what}: {value}")
        return str(value)

    return check


def _cache(value: object) -> bool:
    """A bool, or the path of a file, which must exist and isn't looked at: the cache has its own settings."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise TypeError(f"expected string or bool, not {type(value).__name__}")
    if not os.path.isfile(value):
        raise WasmtimeError(f"failed to read config file: {value}")
    return True


def _target(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a str, not {type(value).__name__}")
    if value.partition("-")[0] != os.uname().machine:
        raise WasmtimeError(f"wasmloom makes code for this machine, {os.uname().machine}, and not for {value}")
    return value


class Config(Handle):
    """Settings of an engine, which uses it up. Properties can be set, not read."""

    _core: dict[str, Any]

    consume_fuel = Setting[bool](_bool, "Whether guest code counts what it executes; stores begin with none.")
    epoch_interruption = Setting[bool](
        bool, "Whether stores have a deadline in epochs; they begin with the present one."
    )
    max_wasm_stack = Setting[int](_int, "Bytes of a guest's stack. Frames are smaller here, so there is room for more.")
    cache = Setting[bool | str](_cache, "Whether compiled code is kept on disk. It is unless this is set to False.")
    memory_reservation = Setting[int](_int, "0: memories reserve no address space, and every access is checked.")
    signals_based_traps = Setting[bool](_bool, "False: memories reserve no address space, and every access is checked.")

    wasm_bulk_memory = Switch("bulk-memory")
    wasm_custom_page_sizes = Switch("custom-page-sizes", default=False)
    wasm_exceptions = Switch("exception-handling", "legacy-exceptions")
    wasm_function_references = Switch("function-references")
    wasm_gc = Switch("gc", "recursive-types")
    wasm_memory64 = Switch("memory64", "table64")
    wasm_multi_memory = Switch("multi-memory")
    wasm_multi_value = Switch("multi-value")
    wasm_reference_types = Switch("reference-types")
    wasm_relaxed_simd = Switch("relaxed-simd")
    wasm_simd = Switch("simd", "relaxed-simd")
    wasm_stack_switching = Switch("stack-switching", default=False)
    wasm_tail_call = Switch("tail-call")
    wasm_threads = Switch("atomics", "threads")
    wasm_wide_arithmetic = Switch("wide-arithmetic")
    wasm_component_model = Switch()
    wasm_component_model_implements = Switch()
    wasm_component_model_map = Switch()
    wasm_relaxed_simd_deterministic = Setting[bool](_bool, _NOTHING)

    cranelift_debug_verifier = Setting[bool](_bool, _NOTHING)
    cranelift_nan_canonicalization = Setting[bool](_bool, "Whether the engine is deterministic: NaNs, stack and fuel.")
    cranelift_opt_level = Setting[str](_one_of("opt level", "none", "speed", "speed_and_size"), _NOTHING)
    debug_info = Setting[bool](_bool, _NOTHING)
    gc_support = Setting[bool](_bool, _NOTHING)
    macos_use_mach_ports = Setting[bool](_bool, _NOTHING)
    memory_guard_size = Setting[int](_int, _NOTHING)
    memory_init_cow = Setting[bool](_bool, _NOTHING)
    memory_may_move = Setting[bool](_bool, _NOTHING)
    memory_reservation_for_growth = Setting[int](_int, _NOTHING)
    native_unwind_info = Setting[bool](_bool, _NOTHING)
    parallel_compilation = Setting[bool](_bool, _NOTHING)
    profiler = Setting[str](_one_of("profiler", "none", "jitdump", "vtune", "perfmap"), _NOTHING)
    shared_memory = Setting[bool](_bool, _NOTHING)
    strategy = Setting[str](_one_of("strategy", "auto", "cranelift"), _NOTHING)
    target = Setting[str](_target, "The machine to make code for: only this one.")

    def __init__(self) -> None:
        self._core = {}

    def cranelift_flag_enable(self, flag: str) -> None:
        """Accepted; means nothing here."""
        self.cranelift_flag_set(flag, "true")

    def cranelift_flag_set(self, key: str, value: str) -> None:
        """Accepted; means nothing here."""
        for what, given in (("key", key), ("value", value)):
            if not isinstance(given, str):
                raise TypeError(f"expected a str for {what}, not {type(given).__name__}")
        self._core[f"cranelift_flag {key}"] = value


#: The settings that allow features: name → switch.
_SWITCHES = {name: value for name, value in vars(Config).items() if isinstance(value, Switch)}


class Engine(Handle):
    """What modules are compiled for, and stores belong to."""

    _core: wl.Engine

    def __init__(self, config: Config | None = None) -> None:
        given = {} if config is None else expect(config, Config)._consume()
        checked = given.get("memory_reservation") == 0 or not given.get("signals_based_traps", True)
        self._core = attempt(
            wl.Engine,
            fuel=given.get("consume_fuel", False),
            deterministic=given.get("cranelift_nan_canonicalization", False),
            cache=given.get("cache", True),
            memory="checked" if checked else "auto",
            backtrace="source" if os.environ.get("WASMTIME_BACKTRACE_DETAILS") == "1" else None,
        )
        #: Feature → the setting that is off.
        self._refused = {
            feature: name
            for name, switch in _SWITCHES.items()
            for feature in switch.features
            if not given.get(name, switch.default)
        }
        self._has_epochs: bool = given.get("epoch_interruption", False)
        self._stack_limit: int | None = given.get("max_wasm_stack")

    def increment_epoch(self) -> None:
        """End an epoch, and with it the guests of stores whose deadline has come, at once."""
        self._core.increment_epoch()

    def is_pulley(self) -> bool:
        """Whether the engine interprets Wasmtime's own bytecode: never."""
        return False

    def _check_features(self, module: wl.Module) -> None:
        """Raise `WasmtimeError` if a module uses what the settings refuse."""
        if not self._refused:
            return
        for feature, offset in module.features.items():
            if feature in self._refused:
                title = _TITLES.get(feature, feature.replace("-", " "))
                raise WasmtimeError(
                    f"failed to compile: {title} support is not enabled (at offset {offset:#x}): "
                    f"Config.{self._refused[feature]} is off"
                )

    def _fingerprint(self) -> str:
        """The settings that compiled modules depend on, as text."""
        core = self._core
        return f"{core.fuel} {core.deterministic} {core.checked} {self._has_epochs} {sorted(self._refused)}"


def engine_of(engine: object) -> wl.Engine:
    """An argument that must be an engine."""
    return expect(engine, Engine)._core
