"""Runs test scripts (`wasmloom.text.script`) and counts which of their assertions hold.

Every command is counted once: *passed* when it did what it says, *failed* when it didn't, *skipped* when it needs an
unsupported feature, or something that an earlier command didn't provide for that reason.

Source: `interpreter/README.md` of the specification, "Scripts", and `interpreter/script/run.ml` for how messages are
compared.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from wasmloom.cli.script_values import NoValue, argument, describe, describe_result, matches
from wasmloom.errors import CompileError, LinkError, Trap, UnsupportedError, ValidationError, WasmError
from wasmloom.messages import printable, quoted
from wasmloom.text import script

if TYPE_CHECKING:
    from wasmloom import Engine, Instance, Module

_T = TypeVar("_T")

#: What scripts may import as "spectest" (`interpreter/README.md`, "Spectest host module"): a module of its own.
SPECTEST = """
(module $spectest
  (func (export "print"))
  (func (export "print_i32") (param i32))
  (func (export "print_i64") (param i64))
  (func (export "print_f32") (param f32))
  (func (export "print_f64") (param f64))
  (func (export "print_i32_f32") (param i32 f32))
  (func (export "print_f64_f64") (param f64 f64))
  (global (export "global_i32") i32 (i32.const 666))
  (global (export "global_i64") i64 (i64.const 666))
  (global (export "global_f32") f32 (f32.const 666.6))
  (global (export "global_f64") f64 (f64.const 666.6))
  (table (export "table") 10 20 funcref)
  (memory (export "memory") 1 2))
"""
#: The parts of "spectest" that not every engine can have, each a module of its own.
SPECTEST_EXTRAS = (
    '(module (table (export "table64") i64 10 20 funcref))',
    '(module (memory (export "shared_memory") 1 2 shared))',
)


#: Messages that scripts for older versions expect → why the module is valid today, or invalid in another way.
SUPERSEDED: dict[str, str] = {
    "non-empty tag result type": "stack switching gives tags results",
    "multiple memories": "several memories have become valid",
    "multiple tables": "several tables have become valid",
    "i32 constant out of range": "size limits have become a matter of validity",
}


class Skip(Exception):
    """A command can't be run; the message says why."""


class Failure(Exception):
    """A command didn't do what it says."""


@dataclass
class Outcome:
    """The outcome of a script."""

    passed: int = 0
    #: (line, what happened)
    failures: list[tuple[int, str]] = field(default_factory=list)
    #: reason → number of commands
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """The number of commands that failed."""
        return len(self.failures)

    @property
    def skips(self) -> int:
        """The number of commands that were skipped."""
        return self.skipped.total()


@dataclass
class _Shared:
    """What another thread sees of an instance: its shared memories, by name."""

    exports: dict[str, Any]

    @classmethod
    def of(cls, instance: Instance | _Shared) -> _Shared:
        """What is shared of an instance, or of what has been shared with this thread."""
        from wasmloom import SharedMemory

        return cls({name: item for name, item in _exports(instance).items() if isinstance(item, SharedMemory)})


class ScriptRunner:
    """Runs the commands of one script in a store of its own.

    `engine`: what runs them (None: the default engine). `shared`: what another thread shares with this one.
    """

    def __init__(self, engine: Engine | None = None, shared: Mapping[str, _Shared] | None = None) -> None:
        from wasmloom import Engine, Store

        self.outcome = Outcome()
        self._engine = engine if engine is not None else Engine()
        self._store = Store(self._engine)
        #: Named instances and modules; a string says why there is none.
        self._instances: dict[str | None, Instance | _Shared | str] = {None: "there is no module before this"}
        self._instances.update(shared or {})
        self._modules: dict[str | None, Module | str] = {None: "there is no module definition before this"}
        #: What can be imported: module name → name → export.
        self._imports: dict[str, dict[str, Any]] = {}
        #: Why nothing can be imported from a module.
        self._missing: dict[str, str] = {}
        #: The threads that nobody has waited for yet: name → thread and what runs its commands.
        self._threads: dict[str | None, list[tuple[threading.Thread, ScriptRunner]]] = {}
        self._provide_spectest()

    def run(self, commands: Sequence[script.Command]) -> Outcome:
        """Run all commands, and wait for their threads."""
        for command in commands:
            self._count(command)
        for name in [*self._threads]:
            self._join(name)
        return self.outcome

    def _count(self, command: script.Command) -> None:
        try:
            _HANDLERS[type(command)](self, command)
        except Skip as reason:
            self.outcome.skipped[str(reason)] += 1
        except NoValue as reason:
            self.outcome.skipped[str(reason)] += 1
        except UnsupportedError as error:
            self.outcome.skipped[_feature(error)] += 1
        except Failure as failure:
            self.outcome.failures.append((command.line, str(failure)))
        except Exception as error:
            # Also what isn't a `WasmError`: arguments of a wrong type, or an error of the engine itself.
            self.outcome.failures.append((command.line, _first_line(error)))
        else:
            self.outcome.passed += 1

    # Modules

    def _provide_spectest(self) -> None:
        from wasmloom import Instance, Module

        exports = self._imports["spectest"] = {}
        for text in (SPECTEST, *SPECTEST_EXTRAS):
            try:
                instance = Instance(Module(text, self._engine), {}, store=self._store)
            except CompileError:
                continue  # what imports it can't be compiled either
            exports.update(_exports(instance))

    def _compile(self, source: script.ModuleSource) -> Module:
        from wasmloom import Module

        return Module(source.to_binary(), self._engine)

    def _instantiate(self, module: Module) -> Instance:
        from wasmloom import Instance

        for wanted in module.imports:
            if wanted.module in self._missing:
                raise Skip(self._missing[wanted.module])
        return Instance(module, self._imports, store=self._store)

    def _define(self, places: dict[str | None, Any], name: str | None, what: str, make: Callable[[], _T]) -> None:
        """Make the instance that `name` and "the last one" mean from now on, or note why there is none."""
        made: _T | str = ""
        try:
            made = make()
        except (Skip, UnsupportedError) as error:
            made = _feature(error) if isinstance(error, UnsupportedError) else str(error)
            raise
        except Exception:
            made = f"a {what} before this failed"
            raise
        finally:
            places[None] = made
            if name is not None:
                places[name] = made

    def _module(self, command: script.Module) -> None:
        def make() -> Instance:
            return self._instantiate(self._compile(command.source))

        self._define(self._instances, command.name, "module", make)

    def _module_definition(self, command: script.ModuleDefinition) -> None:
        self._define(self._modules, command.name, "module definition", lambda: self._compile(command.source))

    def _module_instance(self, command: script.ModuleInstance) -> None:
        def make() -> Instance:
            module = self._modules.get(command.definition, "there is no such module definition")
            if isinstance(module, str):
                raise Skip(module)
            return self._instantiate(module)

        self._define(self._instances, command.name, "module", make)

    def _register(self, command: script.Register) -> None:
        self._imports.pop(command.export, None)
        self._missing.pop(command.export, None)
        try:
            self._imports[command.export] = _exports(self._instance(command.name))
        except Skip as reason:
            self._missing[command.export] = str(reason)
            raise

    def _instance(self, name: str | None) -> Instance | _Shared:
        found = self._instances.get(name, f"there is no instance ${printable(name or '')}")
        if isinstance(found, str):
            raise Skip(found)
        return found

    # Actions

    def _act(self, action: script.Action) -> list[tuple[Any, Any]]:
        """Perform an action; its results, each with its type."""
        exports = self._instance(action.module).exports
        if action.field not in exports:
            raise Failure(f"there is no export {quoted(action.field)}")
        target = exports[action.field]
        if isinstance(action, script.Get):
            return [(target.value, target.type.content)]
        values = target(*[argument(value) for value in action.args])
        types = target.type.results
        if len(types) == 1:
            values = (values,)
        return list(zip(values or (), types, strict=True))

    def _action(self, command: script.Action) -> None:
        self._act(command)

    # Assertions

    def _assert_return(self, command: script.AssertReturn) -> None:
        got = self._act(command.action)
        if len(got) != len(command.results) or not all(
            matches(value, type, expected) for (value, type), expected in zip(got, command.results, strict=True)
        ):
            shown = " ".join(describe_result(value, type) for value, type in got)
            raise Failure(f"{_what(command.action)} returned [{shown}], expected [{_list(command.results)}]")

    def _assert_trap(self, command: script.AssertTrap) -> None:
        if isinstance(command.action, script.ModuleSource):
            module = self._compile(command.action)
            _expect_trap(command.message, "instantiation", lambda: self._instantiate(module))
        else:
            action = command.action
            _expect_trap(command.message, _what(action), lambda: self._act(action))

    def _assert_exhaustion(self, command: script.AssertExhaustion | script.AssertSuspension) -> None:
        _expect_trap(command.message, _what(command.action), lambda: self._act(command.action))

    def _assert_exception(self, command: script.AssertException) -> None:
        try:
            self._act(command.action)
        except (Trap, CompileError, LinkError) as error:
            raise Failure(f"{_what(command.action)}: {_first_line(error)}, expected an exception") from None
        except WasmError:
            return
        raise Failure(f"{_what(command.action)} returned, expected an exception")

    def _assert_malformed(self, command: script.AssertMalformed) -> None:
        self._expect_rejection(command, "malformed", lambda error: not isinstance(error, ValidationError))

    def _assert_invalid(self, command: script.AssertInvalid) -> None:
        self._expect_rejection(command, "invalid", lambda error: isinstance(error, ValidationError))

    def _expect_rejection(
        self,
        command: script.AssertMalformed | script.AssertInvalid,
        what: str,
        right: Callable[[CompileError], bool],
    ) -> None:
        from wasmloom import Module

        try:
            if self._engine.translation == "lazy":
                # The module itself would say so only when the bad function is called.
                Module.validate(command.source.to_binary())
            else:
                self._compile(command.source)
        except UnsupportedError:
            raise
        except CompileError as error:
            if not right(error):
                _skip_superseded(command.message)
                raise Failure(f"{_first_line(error)}, expected a module that is {what}: {command.message}") from None
            return
        if command.custom:
            # An engine may ignore custom sections (Core 3.0, 5.5.3).
            raise Skip("contents of custom sections aren't checked")
        _skip_superseded(command.message)
        if _is_invalid_by_core(command.source.to_binary()):
            raise Skip("proposals have made the module valid")
        raise Failure(f"the module was accepted, expected {what}: {command.message}")

    def _assert_unlinkable(self, command: script.AssertUnlinkable) -> None:
        module = self._compile(command.source)
        try:
            self._instantiate(module)
        except LinkError:
            return
        raise Failure(f"the module was linked, expected: {command.message}")

    # Threads

    def _thread(self, command: script.Thread) -> None:
        shared = {name: _Shared.of(self._instance(name)) for name in command.shared}
        runner = ScriptRunner(self._engine, shared)
        thread = threading.Thread(target=runner.run, args=(command.commands,), daemon=True)
        thread.start()
        self._threads.setdefault(command.name, []).append((thread, runner))

    def _wait(self, command: script.Wait) -> None:
        if command.name not in self._threads:
            raise Failure(f"there is no thread ${printable(command.name)}")
        self._join(command.name)

    def _join(self, name: str | None) -> None:
        """Wait until the threads with a name have ended, and count their commands."""
        for thread, runner in self._threads.pop(name):
            thread.join()
            self.outcome.passed += runner.outcome.passed
            self.outcome.failures += runner.outcome.failures
            self.outcome.skipped.update(runner.outcome.skipped)

    def _unsupported(self, command: script.Unsupported) -> None:
        raise Skip(f"the command {command.keyword} isn't known")


_HANDLERS: dict[type, Callable[[ScriptRunner, Any], None]] = {
    script.Module: ScriptRunner._module,
    script.ModuleDefinition: ScriptRunner._module_definition,
    script.ModuleInstance: ScriptRunner._module_instance,
    script.Register: ScriptRunner._register,
    script.Invoke: ScriptRunner._action,
    script.Get: ScriptRunner._action,
    script.AssertReturn: ScriptRunner._assert_return,
    script.AssertTrap: ScriptRunner._assert_trap,
    script.AssertExhaustion: ScriptRunner._assert_exhaustion,
    script.AssertException: ScriptRunner._assert_exception,
    script.AssertSuspension: ScriptRunner._assert_exhaustion,
    script.AssertMalformed: ScriptRunner._assert_malformed,
    script.AssertInvalid: ScriptRunner._assert_invalid,
    script.AssertUnlinkable: ScriptRunner._assert_unlinkable,
    script.Thread: ScriptRunner._thread,
    script.Wait: ScriptRunner._wait,
    script.Unsupported: ScriptRunner._unsupported,
}


def _feature(error: UnsupportedError) -> str:
    """What isn't supported, without saying where it was used."""
    return error.reason.partition(":")[0]


def _skip_superseded(message: str) -> None:
    if message in SUPERSEDED:
        raise Skip(SUPERSEDED[message])


def _is_invalid_by_core(data: bytes) -> bool:
    """Whether a module is invalid by the rules of Core 3.0 alone."""
    from wasmloom.binary.decoder import decode_module
    from wasmloom.validation import validate_module

    try:
        validate_module(decode_module(data), stack_switching=False)
    except CompileError:
        return True
    return False


def _exports(instance: Instance | _Shared) -> dict[str, Any]:
    return {name: instance.exports[name] for name in instance.exports}


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _list(values: tuple[Any, ...]) -> str:
    return " ".join(describe(value) for value in values)


def _what(action: script.Action) -> str:
    where = f"${action.module}." if action.module else ""
    arguments = f" {_list(action.args)}" if isinstance(action, script.Invoke) and action.args else ""
    return f"{where}{action.field}{arguments}"


def _expect_trap(message: str, what: str, action: Callable[[], object]) -> None:
    try:
        action()
    except Trap as trap:
        # As the reference interpreter does it: either text may say more than the other.
        if trap.code.startswith(message) or message.startswith(trap.code):
            return
        raise Failure(f"{what} trapped with {trap.code!r}, expected {message!r}") from None
    raise Failure(f"{what} returned, expected a trap: {message}")


def run_script(text: bytes, engine: Engine | None = None) -> Outcome:
    """Run a script. One that can't be read counts as one failure."""
    try:
        commands = script.parse_script(text)
    except CompileError as error:
        return Outcome(failures=[(error.line or 1, f"the script can't be read: {error}")])
    return ScriptRunner(engine).run(commands)
