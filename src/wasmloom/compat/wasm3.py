"""A look-alike of the package ``pywasm3``, for what its README and examples use.

```python
import wasmloom.compat.wasm3 as wasm3

environment = wasm3.Environment()
runtime = environment.new_runtime(2048)
module = environment.parse_module(data)
runtime.load(module)
module.link_function("env", "log", "v(i)", print)
runtime.find_function("run")(5)
```

Modules are instantiated when something of them is first asked for, so functions can be linked after `Runtime.load`, as
in wasm3. Errors are `RuntimeError`s; what a host function raises comes back as it was. There is no metering of gas.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import wasmloom as wl

#: The version whose names these are.
M3_VERSION = "0.5.0"

#: Letters of signatures.
_LETTERS = {"i": wl.I32, "I": wl.I64, "f": wl.F32, "F": wl.F64, "*": wl.I32}
#: Numbers of types.
_NUMBERS = {wl.I32: 1, wl.I64: 2, wl.F32: 3, wl.F64: 4}
_BITS = {wl.I32: 32, wl.I64: 64}
#: Reasons of traps that have other words in wasm3.
_TRAPS = {"unreachable": "unreachable executed", "call stack exhausted": "stack overflow"}
#: Stacks count otherwise there, and examples ask for very small ones.
_SMALLEST_STACK = 1 << 20


def _attempt(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call something of wasmloom's, with errors as wasm3 has them."""
    try:
        return function(*arguments, **options)
    except wl.Trap as trap:
        failure = RuntimeError(f"[trap] {_TRAPS.get(trap.code, trap.code)}")
    except wl.WasmError as error:
        failure = RuntimeError(str(error))
    raise failure


def _wrapped(type: wl.ValType, value: Any) -> Any:
    """A value as wasmloom takes it: integers wrap."""
    bits = _BITS.get(type)
    return value & ((1 << bits) - 1) if bits and isinstance(value, int) else value


def _type_of(signature: str) -> wl.FuncType:
    """The type that a signature such as ``i(iI)`` stands for; ``v`` is no result."""
    result, opening, params = signature.replace(" ", "").partition("(")
    letters = params[:-1] + result.replace("v", "")
    if not opening or not params.endswith(")") or any(letter not in _LETTERS for letter in letters):
        raise RuntimeError(f"malformed function signature: {signature!r}")
    return wl.FuncType(
        tuple([_LETTERS[letter] for letter in params[:-1]]), tuple([_LETTERS[x] for x in result if x != "v"])
    )


class _Link:
    """A function that a module imports; what it calls can be replaced at any time."""

    def __init__(self, name: str, type: Any) -> None:
        self.name = name
        self.type: wl.FuncType = type
        self.function: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        """Call what is linked."""
        if self.function is None:
            raise RuntimeError(f"missing imported function ('{self.name}')")
        result = self.function(*arguments)
        if not self.type.results:
            return None
        if len(self.type.results) == 1:
            return _wrapped(self.type.results[0], result)
        return tuple([_wrapped(type, value) for type, value in zip(self.type.results, result, strict=True)])


class Function:
    """A function of a module. Returns nothing, one value, or a tuple of several."""

    def __init__(self, name: str, core: wl.Func) -> None:
        self.name = name
        self._core = core
        self._type = core.type

    @property
    def num_args(self) -> int:
        """How many arguments it takes."""
        return len(self._type.params)

    @property
    def num_rets(self) -> int:
        """How many results it has."""
        return len(self._type.results)

    @property
    def arg_types(self) -> tuple[int, ...]:
        """The types of its arguments: 1 to 4 for i32, i64, f32 and f64; 0: others."""
        return tuple([_NUMBERS.get(type, 0) for type in self._type.params])

    @property
    def ret_types(self) -> tuple[int, ...]:
        """The types of its results."""
        return tuple([_NUMBERS.get(type, 0) for type in self._type.results])

    def __call__(self, *arguments: Any) -> Any:
        """Run it."""
        if len(arguments) == len(self._type.params):
            arguments = tuple([_wrapped(type, x) for type, x in zip(self._type.params, arguments, strict=True)])
        return _attempt(self._core, *arguments)

    def call_argv(self, *arguments: str) -> Any:
        """Run it with arguments as text."""
        kinds = [int if type in _BITS else float for type in self._type.params]
        return self(*[kind(text) for kind, text in zip(kinds, arguments, strict=False)])


class Module:
    """A module; made by `Environment.parse_module`."""

    def __init__(self, core: wl.Module) -> None:
        self._core = core
        self._links = [_Link(f"{wanted.module}.{wanted.name}", wanted.type) for wanted in core.imports]
        self._runtime: Runtime | None = None
        self._instance: wl.Instance | None = None

    @property
    def name(self) -> str:
        """The module's name."""
        return self._core.name or ".unnamed"

    def link_function(self, module: str, name: str, signature: str, function: Callable[..., Any]) -> None:
        """Let `function` be what the module imports by that name. What it doesn't import is ignored."""
        type = _type_of(signature)
        for wanted, link in zip(self._core.imports, self._links, strict=True):
            if wanted.kind == "func" and wanted.name == name and module in (wanted.module, "*"):
                if wanted.type != type:
                    raise RuntimeError("function signature mismatch")
                link.function = function

    def get_global(self, name: str) -> Any:
        """The value of an exported global."""
        return self._global(name).value

    def set_global(self, name: str, value: Any) -> None:
        """Replace the value of an exported global."""
        found = self._global(name)
        try:
            found.value = _wrapped(found.type.content, value)
        except TypeError as error:
            raise RuntimeError(str(error)) from None

    def _global(self, name: str) -> wl.Global:
        exports = self._exports()
        found = exports[name] if name in exports else None  # noqa: SIM401  (no mapping)
        if not isinstance(found, wl.Global):
            raise RuntimeError("global lookup failed")
        return found

    def _exports(self) -> wl.Exports:
        """The exports; makes the instance when this is first called."""
        if self._runtime is None:
            raise RuntimeError("the module isn't loaded: call Runtime.load first")
        if self._instance is None:
            for wanted in self._core.imports:
                if wanted.kind != "func":
                    raise RuntimeError(f"missing imported {wanted.kind} ('{wanted.module}.{wanted.name}')")
            self._instance = _attempt(wl.Instance, self._core, self._links, store=self._runtime._core)
        return self._instance.exports


class Runtime:
    """Runs modules; made by `Environment.new_runtime`."""

    def __init__(self, engine: wl.Engine, stack_size: int) -> None:
        self._core = wl.Store(engine, stack_limit=max(stack_size, _SMALLEST_STACK))
        self._modules: list[Module] = []

    def load(self, module: Module) -> None:
        """Add a module."""
        if module._runtime is not None:
            raise RuntimeError("the module is loaded already")
        module._runtime = self
        self._modules.append(module)

    def find_function(self, name: str) -> Function:
        """The exported function with a name, of the module that was loaded first."""
        for module in self._modules:
            exports = module._exports()
            found = exports[name] if name in exports else None  # noqa: SIM401  (no mapping)
            if isinstance(found, wl.Func):
                return Function(name, found)
        raise RuntimeError(f"function lookup failed ('{name}')")

    def get_memory(self, index: int) -> memoryview:
        """The exported memory with a number, without a copy. Ask again when the guest may have grown it."""
        found: list[Any] = []
        for module in self._modules:
            exports = module._exports()
            found += [exports[name] for name in exports if isinstance(exports[name], wl.Memory)]
        if not 0 <= index < len(found):
            raise RuntimeError(f"there is no memory {index}")
        return memoryview(found[index])


class Environment:
    """Where modules and runtimes are made."""

    def __init__(self) -> None:
        self._core = wl.Engine()

    def new_runtime(self, stack_size: int, userdata: object = None) -> Runtime:
        """A runtime. `stack_size`: bytes; there is always room for at least 1 MiB."""
        return Runtime(self._core, stack_size)

    def parse_module(self, data: bytes) -> Module:
        """A module from its binary."""
        if not isinstance(data, bytes | bytearray):
            raise RuntimeError("malformed Wasm binary")
        return Module(_attempt(wl.Module, bytes(data), self._core))
