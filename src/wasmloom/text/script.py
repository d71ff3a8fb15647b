"""Test scripts, the `.wast` files of the official suite: text → commands.

`parse_script` reads a script into commands. Modules stay as tokens until `ModuleSource.assemble` is called, so one
bad module doesn't sink its script::

    for command in parse_script(text):
        if isinstance(command, AssertReturn): …

Values are bit patterns: `Const("f32", 0x3F800000)` is 1.0, `Const("i32", 0xFFFFFFFF)` is -1, and the lanes of a
``v128`` are in little-endian order.

Source: `interpreter/README.md` of the specification, "Scripts".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from wasmloom.spec.types import ABSTRACT_HEAP_TYPES
from wasmloom.text.cursor import Cursor
from wasmloom.text.fields import FIELD_KEYWORDS
from wasmloom.text.lexer import Tokens
from wasmloom.text.literals import SHAPES, LiteralError, bit_width, parse_number
from wasmloom.text.parser import ParsedModule, parse_fields, parse_module


class Const(NamedTuple):
    """A number or vector: its type ("i32" to "v128") and its unsigned bit pattern."""

    type: str
    bits: int


class NanPattern(NamedTuple):
    """A result that is any NaN of a kind: type ("f32" or "f64") and "canonical" or "arithmetic"."""

    type: str
    kind: str


class VectorPattern(NamedTuple):
    """A vector result with a NaN pattern among its lanes: shape ("f32x4") and lanes, lowest first."""

    shape: str
    lanes: tuple[Const | NanPattern, ...]


class RefNull(NamedTuple):
    """A null reference; `heap` is the name of its heap type, None when the script leaves it open."""

    heap: str | None


class RefExtern(NamedTuple):
    """An external reference to the host value `number`; as a result, None stands for any."""

    number: int | None


class RefHost(NamedTuple):
    """The host value `number` as an internal (`any`) reference."""

    number: int


class RefPattern(NamedTuple):
    """A result that is any non-null reference of an abstract heap type: "func", "any", "struct", …."""

    heap: str


class Either(NamedTuple):
    """A result that matches one of several patterns."""

    options: tuple[Result, ...]


Value = Const | RefNull | RefExtern | RefHost
Result = Const | NanPattern | VectorPattern | RefNull | RefExtern | RefHost | RefPattern | Either


class ModuleSource:
    """A module in a script, not assembled yet. `kind` is "text", "binary" or "quote"; `name` has no `$`."""

    __slots__ = ("_end", "_first", "_tokens", "kind", "line", "name")

    def __init__(self, tokens: Tokens, first: int, end: int, kind: str, name: str | None, line: int) -> None:
        self._tokens = tokens
        self._first = first
        self._end = end
        self.kind = kind
        self.name = name
        self.line = line

    def assemble(self) -> ParsedModule:
        """Assemble the module. Raises `CompileError`; lines of a quoted module count from its own text."""
        if self.kind == "text":
            return parse_fields(self._tokens, self._first, self._end, self.name)
        cursor = Cursor(self._tokens, self._first)
        contents = cursor.strings()
        cursor.expect(")")
        if self.kind == "quote":
            return parse_module(contents)
        return ParsedModule(contents, self.name, None, None)

    def to_binary(self) -> bytes:
        """The module in the binary format. Raises `CompileError` as `assemble` does."""
        return self.assemble().binary

    def __repr__(self) -> str:
        return f"<ModuleSource {self.kind} {self.name or ''} at line {self.line}>"


class Module(NamedTuple):
    """Define and instantiate a module; it becomes the current one, and `name`, if given, names the instance."""

    line: int
    name: str | None
    source: ModuleSource


class ModuleDefinition(NamedTuple):
    """Define a module, without an instance."""

    line: int
    name: str | None
    source: ModuleSource


class ModuleInstance(NamedTuple):
    """Instantiate the module that was defined as `definition`, the last one when None."""

    line: int
    name: str | None
    definition: str | None


class Register(NamedTuple):
    """Make an instance (the current one when `name` is None) importable under the module name `export`."""

    line: int
    export: str
    name: str | None


class Invoke(NamedTuple):
    """Call the exported function `field` of the instance `module`, the current one when None."""

    line: int
    module: str | None
    field: str
    args: tuple[Value, ...]


class Get(NamedTuple):
    """Read the exported global `field` of the instance `module`, the current one when None."""

    line: int
    module: str | None
    field: str


Action = Invoke | Get


class AssertReturn(NamedTuple):
    """The action returns results that match."""

    line: int
    action: Action
    results: tuple[Result, ...]


class AssertTrap(NamedTuple):
    """The action, or the instantiation of the module, traps with a message that starts with `message`."""

    line: int
    action: Action | ModuleSource
    message: str


class AssertExhaustion(NamedTuple):
    """The action exhausts a resource."""

    line: int
    action: Action
    message: str


class AssertException(NamedTuple):
    """The action ends with an uncaught exception."""

    line: int
    action: Action


class AssertSuspension(NamedTuple):
    """The action ends with a suspension that nothing handles."""

    line: int
    action: Action
    message: str


class AssertMalformed(NamedTuple):
    """The module is malformed; `custom` says that only its custom sections or annotations are."""

    line: int
    source: ModuleSource
    message: str
    custom: bool


class AssertInvalid(NamedTuple):
    """The module is not valid; `custom` says that only its custom sections or annotations aren't."""

    line: int
    source: ModuleSource
    message: str
    custom: bool


class AssertUnlinkable(NamedTuple):
    """The module's imports don't fit."""

    line: int
    source: ModuleSource
    message: str


class Thread(NamedTuple):
    """Run commands in a thread called `name`, which sees nothing but what `shared` instances share."""

    line: int
    name: str | None
    shared: tuple[str, ...]
    commands: tuple[Command, ...]


class Wait(NamedTuple):
    """Wait until a thread has ended."""

    line: int
    name: str


class Unsupported(NamedTuple):
    """A command that this reader doesn't know, with its text."""

    line: int
    keyword: str
    text: str


Assertion = (
    AssertReturn
    | AssertTrap
    | AssertExhaustion
    | AssertException
    | AssertSuspension
    | AssertMalformed
    | AssertInvalid
    | AssertUnlinkable
)
Command = Module | ModuleDefinition | ModuleInstance | Register | Action | Assertion | Thread | Wait | Unsupported

_NAN_KINDS = {"nan:canonical": "canonical", "nan:arithmetic": "arithmetic"}


#: How deep threads may be nested.
_MOST_THREADS = 50


class _ScriptParser(Cursor):
    """Reads commands."""

    #: Threads that are open.
    _depth = 0

    def commands(self) -> list[Command]:
        """All commands, to the end of the text."""
        toks = self.toks
        if toks[0] == "(" and toks[1] in FIELD_KEYWORDS:
            # A script may be the fields of one module.
            source = ModuleSource(self.tokens, 0, self.tokens.count(), "text", None, self.tokens.line(0))
            return [Module(source.line, None, source)]
        found: list[Command] = []
        while toks[self.pos]:
            found.append(self._command())
        return found

    def _command(self) -> Command:
        start = self.pos
        self.expect("(")
        keyword = self.toks[self.pos]
        self.pos += 1
        reader = _COMMANDS.get(keyword)
        if reader is None:
            self.pos = self.skip_form(start)
            return Unsupported(self.tokens.line(start), keyword, self.tokens.between(start, self.pos - 1))
        found = reader(self, self.tokens.line(start))
        self.expect(")")
        return found

    # Threads

    def thread(self, line: int) -> Thread:
        """`(thread $name? (shared (module $instance))* command*)`."""
        name = self._optional_name()
        shared = []
        while self.open_form("shared"):
            self.expect("(")
            self.expect("module")
            shared.append(self._needed_name())
            self.expect(")")
            self.expect(")")
        commands = []
        self._depth += 1
        if self._depth > _MOST_THREADS:
            self.fail(f"threads are nested more than {_MOST_THREADS} deep")
        while self.toks[self.pos] == "(":
            commands.append(self._command())
        self._depth -= 1
        return Thread(line, name, tuple(shared), tuple(commands))

    def wait(self, line: int) -> Wait:
        """`(wait $name)`."""
        return Wait(line, self._needed_name())

    def _needed_name(self) -> str:
        name = self._optional_name()
        if name is None:
            self.unexpected()
        return name

    def _optional_name(self) -> str | None:
        identifier = self.optional_identifier()
        return identifier and identifier[1:]

    # Modules

    def _module_source(self, start: int) -> ModuleSource:
        """The rest of a module that opened at `start`, from its name up to its closing parenthesis."""
        name = self._optional_name()
        kind = self.toks[self.pos]
        if kind in ("binary", "quote"):
            self.pos += 1
        else:
            kind = "text"
        first = self.pos
        self.pos = self.skip_form(start) - 1
        return ModuleSource(self.tokens, first, self.pos, kind, name, self.tokens.line(start))

    def _module_form(self) -> ModuleSource:
        """A whole module, inside another command."""
        start = self.pos
        self.expect("(")
        self.expect("module")
        self.accept("definition")
        source = self._module_source(start)
        self.expect(")")
        return source

    def module(self, line: int) -> Command:
        """`(module …)`, `(module definition …)` and `(module instance …)`."""
        start = self.pos - 2
        if self.accept("instance"):
            return ModuleInstance(line, self._optional_name(), self._optional_name())
        if self.accept("definition"):
            source = self._module_source(start)
            return ModuleDefinition(line, source.name, source)
        source = self._module_source(start)
        return Module(line, source.name, source)

    def register(self, line: int) -> Command:
        """`(register "name" $instance?)`."""
        return Register(line, self.name(), self._optional_name())

    # Actions

    def invoke(self, line: int) -> Invoke:
        """`(invoke $instance? "field" value…)`."""
        module = self._optional_name()
        field = self.name()
        args: list[Value] = []
        while self.toks[self.pos] == "(":
            at = self.pos
            value = self._value(False)
            if not isinstance(value, (Const, RefNull, RefExtern, RefHost)):
                self.unexpected(at + 1)
            args.append(value)
        return Invoke(line, module, field, tuple(args))

    def get(self, line: int) -> Get:
        """`(get $instance? "field")`."""
        return Get(line, self._optional_name(), self.name())

    def _action(self) -> Action:
        start = self.pos
        action: Action
        if self.open_form("invoke"):
            action = self.invoke(self.tokens.line(start))
        elif self.open_form("get"):
            action = self.get(self.tokens.line(start))
        else:
            self.expect("(")
            self.unexpected()
        self.expect(")")
        return action

    # Values and patterns

    def _number(self, type_name: str, patterns: bool) -> Const | NanPattern:
        token = self.toks[self.pos]
        if patterns and token in _NAN_KINDS and type_name[0] == "f":
            self.pos += 1
            return NanPattern(type_name, _NAN_KINDS[token])
        try:
            bits = parse_number(token, type_name)
        except LiteralError as error:
            self.fail_literal(error)
        self.pos += 1
        return Const(type_name, bits)

    def _vector(self, patterns: bool) -> Const | VectorPattern:
        shape = self.toks[self.pos]
        if shape not in SHAPES:
            self.unexpected()
        self.pos += 1
        lane, count = SHAPES[shape]
        width = bit_width(lane)
        lanes = tuple([self._number(lane, patterns) for _ in range(count)])
        bits = 0
        for number, item in enumerate(lanes):
            if isinstance(item, NanPattern):
                return VectorPattern(shape, lanes)
            bits |= item.bits << (width * number)
        return Const("v128", bits)

    def _value(self, patterns: bool) -> Result:
        """A value; with `patterns` also what only a result may be."""
        self.expect("(")
        keyword = self.toks[self.pos]
        self.pos += 1
        value: Result
        if keyword in ("i32.const", "i64.const", "f32.const", "f64.const"):
            value = self._number(keyword[:3], patterns)
        elif keyword == "v128.const":
            value = self._vector(patterns)
        elif keyword == "ref.null":
            value = self._ref_null(patterns)
        elif keyword == "ref.extern":
            value = RefExtern(self.unsigned() if self.at_unsigned() or not patterns else None)
        elif keyword == "ref.host":
            value = RefHost(self.unsigned())
        elif patterns and keyword.startswith("ref.") and keyword[4:] in ABSTRACT_HEAP_TYPES:
            if self.at_index():
                self.pos += 1
            value = RefPattern(keyword[4:])
        else:
            self.unexpected(self.pos - 1)
        self.expect(")")
        return value

    def _result(self) -> Result:
        """What a result has to match."""
        if not self.open_form("either"):
            return self._value(True)
        options = [self._value(True)]
        while self.toks[self.pos] == "(":
            options.append(self._value(True))
        self.expect(")")
        return Either(tuple(options))

    def _ref_null(self, patterns: bool) -> RefNull:
        token = self.toks[self.pos]
        if token == ")" and patterns:
            return RefNull(None)
        if token not in ABSTRACT_HEAP_TYPES and not self.at_index():
            self.unexpected()
        self.pos += 1
        # A concrete type has no meaning outside its module.
        return RefNull(token if token in ABSTRACT_HEAP_TYPES else None)

    # Assertions

    def assert_return(self, line: int) -> Command:
        """`(assert_return action result…)`."""
        action = self._action()
        results: list[Result] = []
        while self.toks[self.pos] == "(":
            results.append(self._result())
        return AssertReturn(line, action, tuple(results))

    def assert_trap(self, line: int) -> Command:
        """`(assert_trap action "message")`, or with a module for an action."""
        subject = self._module_form() if self.at_form("module") else self._action()
        return AssertTrap(line, subject, self.name())

    def assert_exhaustion(self, line: int) -> Command:
        """`(assert_exhaustion action "message")`."""
        return AssertExhaustion(line, self._action(), self.name())

    def assert_exception(self, line: int) -> Command:
        """`(assert_exception action)`."""
        return AssertException(line, self._action())

    def assert_suspension(self, line: int) -> Command:
        """`(assert_suspension action "message")`."""
        return AssertSuspension(line, self._action(), self.name())

    def assert_malformed(self, line: int) -> Command:
        """`(assert_malformed module "message")`."""
        return AssertMalformed(line, self._module_form(), self.name(), False)

    def assert_malformed_custom(self, line: int) -> Command:
        """`(assert_malformed_custom module "message")`."""
        return AssertMalformed(line, self._module_form(), self.name(), True)

    def assert_invalid(self, line: int) -> Command:
        """`(assert_invalid module "message")`."""
        return AssertInvalid(line, self._module_form(), self.name(), False)

    def assert_invalid_custom(self, line: int) -> Command:
        """`(assert_invalid_custom module "message")`."""
        return AssertInvalid(line, self._module_form(), self.name(), True)

    def assert_unlinkable(self, line: int) -> Command:
        """`(assert_unlinkable module "message")`."""
        return AssertUnlinkable(line, self._module_form(), self.name())


_COMMANDS: dict[str, Callable[[_ScriptParser, int], Command]] = {
    reader.__name__: reader
    for reader in (
        _ScriptParser.module,
        _ScriptParser.register,
        _ScriptParser.invoke,
        _ScriptParser.get,
        _ScriptParser.assert_return,
        _ScriptParser.assert_trap,
        _ScriptParser.assert_exhaustion,
        _ScriptParser.assert_exception,
        _ScriptParser.assert_suspension,
        _ScriptParser.assert_malformed,
        _ScriptParser.assert_malformed_custom,
        _ScriptParser.assert_invalid,
        _ScriptParser.assert_invalid_custom,
        _ScriptParser.assert_unlinkable,
        _ScriptParser.thread,
        _ScriptParser.wait,
    )
}


def parse_script(source: str | bytes) -> list[Command]:
    """The commands of a test script; see the module's text.

    Raises `CompileError` with line and column when the script itself can't be read. Its modules are read later.
    """
    return _ScriptParser(Tokens.of(source), 0).commands()
