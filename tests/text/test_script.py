"""Test scripts: commands, values and patterns."""

from __future__ import annotations

import pytest

from wasmloom.binary.encoder import MAGIC
from wasmloom.errors import CompileError
from wasmloom.text import script
from wasmloom.text.script import (
    AssertException,
    AssertExhaustion,
    AssertInvalid,
    AssertMalformed,
    AssertReturn,
    AssertSuspension,
    AssertTrap,
    AssertUnlinkable,
    Const,
    Either,
    Get,
    Invoke,
    Module,
    ModuleDefinition,
    ModuleInstance,
    NanPattern,
    RefExtern,
    RefHost,
    RefNull,
    RefPattern,
    Register,
    Result,
    Thread,
    Unsupported,
    VectorPattern,
    Wait,
    parse_script,
)

DEEP = 20_000


def one(source: str) -> script.Command:
    (command,) = parse_script(source)
    return command


def test_modules() -> None:
    commands = parse_script("""
        (module $a (func))
        (module binary "\\00asm" "\\01\\00\\00\\00")
        (module $q quote "(func" ")")
        (module definition $d (memory 1))
        (module definition binary "")
        (module instance $i $d)
        (module instance)
    """)
    kinds = [(type(command), command.source.kind) for command in commands[:5]]  # type: ignore[union-attr]
    assert kinds == [
        (Module, "text"),
        (Module, "binary"),
        (Module, "quote"),
        (ModuleDefinition, "text"),
        (ModuleDefinition, "binary"),
    ]
    first, binary, quote, definition = commands[:4]
    assert isinstance(first, Module)
    assert (first.line, first.name, first.source.line) == (2, "a", 2)
    assert first.source.assemble().name == "a"
    assert isinstance(binary, Module)
    assert binary.source.to_binary() == MAGIC
    assert isinstance(quote, Module)
    assert quote.name == "q"
    assert quote.source.to_binary().startswith(MAGIC)
    assert isinstance(definition, ModuleDefinition)
    assert definition.name == "d"
    assert definition.source.to_binary().startswith(MAGIC + b"\5")
    assert commands[5:] == [ModuleInstance(7, "i", "d"), ModuleInstance(8, None, None)]


def test_a_bad_module_does_not_sink_the_script() -> None:
    bad, good = parse_script("(module (func nop2))\n(module)")
    assert isinstance(bad, Module)
    assert isinstance(good, Module)
    with pytest.raises(CompileError, match="unknown operator nop2 at line 1, column 15"):
        bad.source.assemble()
    assert good.source.to_binary() == MAGIC


def test_fields_alone_are_one_module() -> None:
    module = one('(func $f)\n(export "f" (func $f))')
    assert isinstance(module, Module)
    assert b"\1f\0\0" in module.source.to_binary()


def test_actions_and_register() -> None:
    assert parse_script('(register "m") (register "m" $a) (invoke "f") (get $a "g")') == [
        Register(1, "m", None),
        Register(1, "m", "a"),
        Invoke(1, None, "f", ()),
        Get(1, "a", "g"),
    ]


def test_arguments() -> None:
    command = one("""(invoke $m "f" (i32.const -1) (i64.const 0xff) (f32.const 1) (f64.const nan:0x4)
        (v128.const i16x8 1 2 3 4 5 6 7 -1) (ref.null func) (ref.extern 7) (ref.host 8))""")
    assert isinstance(command, Invoke)
    assert command.args == (
        Const("i32", 0xFFFFFFFF),
        Const("i64", 0xFF),
        Const("f32", 0x3F800000),
        Const("f64", 0x7FF0000000000004),
        Const("v128", 0xFFFF0007000600050004000300020001),
        RefNull("func"),
        RefExtern(7),
        RefHost(8),
    )


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("(i32.const 1)", Const("i32", 1)),
        ("(f32.const nan:canonical)", NanPattern("f32", "canonical")),
        ("(f64.const nan:arithmetic)", NanPattern("f64", "arithmetic")),
        (
            "(v128.const f64x2 1 nan:canonical)",
            VectorPattern("f64x2", (Const("f64", 0x3FF0000000000000), NanPattern("f64", "canonical"))),
        ),
        ("(v128.const i64x2 1 2)", Const("v128", 1 | 2 << 64)),
        ("(ref.null)", RefNull(None)),
        ("(ref.null extern)", RefNull("extern")),
        ("(ref.null $t)", RefNull(None)),
        ("(ref.func)", RefPattern("func")),
        ("(ref.func $f)", RefPattern("func")),
        ("(ref.any)", RefPattern("any")),
        ("(ref.struct)", RefPattern("struct")),
        ("(ref.i31)", RefPattern("i31")),
        ("(ref.exn)", RefPattern("exn")),
        ("(ref.cont)", RefPattern("cont")),
        ("(ref.extern)", RefExtern(None)),
        ("(ref.extern 3)", RefExtern(3)),
        ("(ref.host 3)", RefHost(3)),
        ("(either (i32.const 1) (i32.const 2))", Either((Const("i32", 1), Const("i32", 2)))),
    ],
)
def test_results(text: str, result: Result) -> None:
    assert one(f'(assert_return (invoke "f") {text})') == AssertReturn(1, Invoke(1, None, "f", ()), (result,))


def test_assertions() -> None:
    source = """
        (assert_trap (invoke "f") "trap")
        (assert_trap (module) "start")
        (assert_exhaustion (invoke "f") "stack")
        (assert_exception (get "g"))
        (assert_suspension (invoke "f") "unhandled")
        (assert_malformed (module quote "x") "a")
        (assert_malformed_custom (module quote "x") "b")
        (assert_invalid (module) "c")
        (assert_invalid_custom (module) "d")
        (assert_unlinkable (module) "e")
    """
    kinds = [
        AssertTrap, AssertTrap, AssertExhaustion, AssertException, AssertSuspension, AssertMalformed,
        AssertMalformed, AssertInvalid, AssertInvalid, AssertUnlinkable,
    ]  # fmt: skip
    commands = parse_script(source)
    assert [type(command) for command in commands] == kinds
    assert [command.line for command in commands] == list(range(2, 12))
    customs = [command.custom for command in commands if isinstance(command, (AssertMalformed, AssertInvalid))]
    assert customs == [False, True, False, True]


def test_threads() -> None:
    invoke = Invoke(1, None, "f", ())
    assert one('(thread (invoke "f"))') == Thread(1, None, (), (invoke,))
    assert one('(thread $t (shared (module $m)) (shared (module $n)) (wait $u) (thread (invoke "f")))') == Thread(
        1, "t", ("m", "n"), (Wait(1, "u"), Thread(1, None, (), (invoke,)))
    )
    assert one("(thread (x))") == Thread(1, None, (), (Unsupported(1, "x", "(x)"),))
    deep = 10_000
    for bad, why in (
        ("(wait)", "unexpected"),
        ("(thread (shared (module)))", "unexpected"),
        ("(thread x)", "unknown operator x"),
        ("(thread " * deep + ")" * deep, "nested more than 50 deep"),
    ):
        with pytest.raises(CompileError, match=why):
            parse_script(bad)


def test_unknown_commands_are_kept() -> None:
    assert one("(threads $t (shared (module $m)) ;; c\n  (x))") == Unsupported(
        1, "threads", "(threads $t (shared (module $m)) ;; c\n  (x))"
    )
    assert one('((@custom "a") bad (@custom "b"))') == Unsupported(1, "bad", '((@custom "a") bad (@custom "b"))')


@pytest.mark.parametrize(
    "source",
    [
        "(module",
        "module",
        "(invoke)",
        '(invoke "f" (i32.const))',
        '(invoke "f" (ref.func))',
        '(invoke "f" (f32.const nan:canonical))',
        '(assert_return (module) "x")',
        '(assert_return (invoke "f") (v128.const i8x16 1))',
        '(assert_return (invoke "f") ' + "(either " * DEEP + ")" * DEEP + ")",
        '(assert_trap (invoke "f"))',
        "(" * DEEP,
    ],
)
def test_malformed_scripts(source: str) -> None:
    with pytest.raises(CompileError) as caught:
        parse_script(source)
    assert caught.value.line == 1
