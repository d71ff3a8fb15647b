"""Lowers calls, references, tables, and the bulk instructions (Core 3.0, 4.4.8 to 4.4.13)."""

from __future__ import annotations

from wasmloom.compiler.abi import Signature
from wasmloom.compiler.lowering import FunctionLowering, Instr, branch_if, lowers
from wasmloom.contract import traps
from wasmloom.semantics.llvm import Value

# --- calls ---


class _Callee:
    """What a call goes to: code (LLVM's name or value), environment, and how it is defined."""

    __slots__ = ("code", "environment", "signature", "throws", "uniform")

    def __init__(self, signature: Signature, code: str, environment: Value, uniform: bool, throws: bool) -> None:
        self.signature = signature
        self.code = code
        self.environment = environment
        self.uniform = uniform
        self.throws = throws


def _through(f: FunctionLowering, signature: Signature, function: Value) -> _Callee:
    """The callee that a `WlFunction` stands for."""
    b = f.b
    code = b.struct_field(function, "WlFunction", "native")
    environment = b.struct_field(function, "WlFunction", "environment")
    return _Callee(signature, code.text, environment, False, True)


def _direct(f: FunctionLowering, index: int) -> _Callee:
    facts, b = f.facts, f.b
    signature = facts.function(index)
    if index < facts.imported:
        return _through(f, signature, b.constant_pointer(b.inst, facts.functions_at + 8 * index))
    own = index - facts.imported
    f.called.add(own)
    return _Callee(signature, f"@wf.{own}", b.inst, facts.uniform[own], facts.throws[own])


def _element(f: FunctionLowering, table: int, index: Value, trap: int) -> Value:
    """The address of a table's element."""
    b = f.b
    struct = table_struct(f, table)
    wide = b.wide(index)
    b.trap_if(b.compare("uge", wide, b.struct_field(struct, "WlTable", "length", "i64")), trap)
    elements = b.struct_field(struct, "WlTable", "elements")
    return b.assign(f"getelementptr i64, ptr {elements.text}, i64 {wide.text}", "ptr")


def _indirect(f: FunctionLowering, type: int, table: int) -> _Callee:
    """The checked callee of `call_indirect`; pops the index."""
    b = f.b
    function = b.load("ptr", _element(f, table, f.pop(), traps.UNDEFINED_ELEMENT), align=8)
    missing = b.assign(f"icmp eq ptr {function.text}, null", "i1")
    b.trap_if(missing, traps.UNINITIALIZED_ELEMENT)
    actual = b.struct_field(function, "WlFunction", "type_id", "i64")
    expected = type_id(f, type)
    different, same = b.fresh("different"), b.fresh("same")
    memo, current = b.memo, b.current
    b.branch(b.compare("ne", actual, expected), different, same, unlikely=True)
    b.label(different)
    # Not the same type: it may still be a subtype.
    b.trap_if_code(b.runtime("native_subtype", actual, expected))
    b.jump(same)
    b.label(same)
    b.memo, b.current = memo, current
    return _through(f, f.facts.signature(type), function)


def type_id(f: FunctionLowering, type: int) -> Value:
    """The canonical id of a type of the module: the loader fills in the table, since ids are the process's."""
    b = f.b
    return b.constant_load("i64", Value(f"getelementptr (i8, ptr @wl_type_ids, i64 {8 * type})", "ptr"))


def _reference(f: FunctionLowering, type: int) -> _Callee:
    b = f.b
    word = f.pop()
    b.trap_if(b.compare("eq", word, b.const("i64", 0)), traps.NULL_FUNCTION_REFERENCE)
    return _through(f, f.facts.signature(type), b.assign(f"inttoptr i64 {word.text} to ptr", "ptr"))


def _call(f: FunctionLowering, callee: _Callee) -> None:
    arguments = f.pop_many(len(callee.signature.params))
    results = f.b.call(callee.signature, callee.code, callee.environment, arguments, callee.uniform)
    if callee.throws:
        f.check_pending()
    f.stack += results


def _tail_call(f: FunctionLowering, callee: _Callee) -> None:
    arguments = f.pop_many(len(callee.signature.params))
    f.stop_fuel()
    f.tail_call(callee.signature, callee.code, callee.environment, arguments, callee.uniform)
    f.dead = True


@lowers("call")
def _call_direct(f: FunctionLowering, i: Instr) -> None:
    _call(f, _direct(f, i[2]))


@lowers("call_indirect")
def _call_indirect(f: FunctionLowering, i: Instr) -> None:
    _call(f, _indirect(f, i[2], i[3]))


@lowers("call_ref")
def _call_ref(f: FunctionLowering, i: Instr) -> None:
    _call(f, _reference(f, i[2]))


@lowers("return_call")
def _return_call(f: FunctionLowering, i: Instr) -> None:
    _tail_call(f, _direct(f, i[2]))


@lowers("return_call_indirect")
def _return_call_indirect(f: FunctionLowering, i: Instr) -> None:
    _tail_call(f, _indirect(f, i[2], i[3]))


@lowers("return_call_ref")
def _return_call_ref(f: FunctionLowering, i: Instr) -> None:
    _tail_call(f, _reference(f, i[2]))


# --- references ---


@lowers("ref.null")
def _ref_null(f: FunctionLowering, i: Instr) -> None:
    f.push(Value("0", "i64"))


@lowers("ref.is_null")
def _ref_is_null(f: FunctionLowering, i: Instr) -> None:
    f.push(f.b.compare("eq", f.pop(), f.b.const("i64", 0)))


@lowers("ref.func")
def _ref_func(f: FunctionLowering, i: Instr) -> None:
    f.push(f.b.constant_load("i64", f.b.at(f.b.inst, f.facts.functions_at + 8 * i[2])))


@lowers("ref.as_non_null")
def _ref_as_non_null(f: FunctionLowering, i: Instr) -> None:
    (value,) = f.top(1)
    f.b.trap_if(f.b.compare("eq", value, f.b.const("i64", 0)), traps.NULL_REFERENCE)


@lowers("br_on_null")
def _br_on_null(f: FunctionLowering, i: Instr) -> None:
    value = f.pop()
    branch_if(f, f.b.compare("eq", value, f.b.const("i64", 0)), f.label(i[2]))
    f.push(value)


@lowers("br_on_non_null")
def _br_on_non_null(f: FunctionLowering, i: Instr) -> None:
    (value,) = f.top(1)
    branch_if(f, f.b.compare("ne", value, f.b.const("i64", 0)), f.label(i[2]))
    f.pop()


# --- tables and memories ---


def table_struct(f: FunctionLowering, index: int) -> Value:
    """The `WlTable` of a table."""
    return f.b.constant_pointer(f.b.inst, f.facts.tables_at + 8 * index)


@lowers("table.get")
def _table_get(f: FunctionLowering, i: Instr) -> None:
    f.push(f.b.load("i64", _element(f, i[2], f.pop(), traps.TABLE_OUT_OF_BOUNDS), align=8))


@lowers("table.set")
def _table_set(f: FunctionLowering, i: Instr) -> None:
    index, value = f.pop_many(2)
    f.b.store(value, _element(f, i[2], index, traps.TABLE_OUT_OF_BOUNDS), align=8, seen=True)


@lowers("table.size")
def _table_size(f: FunctionLowering, i: Instr) -> None:
    length = f.b.struct_field(table_struct(f, i[2]), "WlTable", "length", "i64")
    f.push(f.b.convert("trunc", length, "i32"))


@lowers("memory.size")
def _memory_size(f: FunctionLowering, i: Instr) -> None:
    length = f.b.struct_field(f.memory(i[2]), "WlMemory", "length", "i64")
    f.push(f.b.convert("trunc", f.b.binary("lshr", length, f.b.const("i64", 16)), "i32"))


def operands(f: FunctionLowering, imm0: int, imm1: int) -> Value:
    """What a runtime call takes for its instruction: its operands are the words 1, 2, 3, its result is word 0.

    `table.init` and its kin have three operands from word 0 on, and no result.
    """
    name = f"@wl.operands.{imm0}.{imm1}"
    f.globals.add(
        f"{name} = private unnamed_addr constant {{ i64, i16, i16, i16, i16, i32, i32 }} "
        f"{{ i64 0, i16 0, i16 1, i16 2, i16 3, i32 {imm0}, i32 {imm1} }}, align 8"
    )
    return Value(name, "ptr")


def _runtime(name: str, operand_count: int, has_result: bool, indices: int) -> None:
    """Lower an instruction to the runtime call of its name. `indices`: how many of its immediates the call takes."""

    @lowers(name.replace("_", ".", 1))
    def lower(f: FunctionLowering, i: Instr) -> None:
        b = f.b
        words = b.words(4)
        values = f.pop_many(operand_count)
        for k, value in enumerate(values):
            b.set_word(words, k + has_result, value)
        code = b.runtime(name, b.inst, words, operands(f, i[2] if indices else 0, i[3] if indices > 1 else 0))
        b.trap_if_code(code)
        if has_result:
            f.push(b.from_word(b.word_at(words, 0), "i32"))


_runtime("memory_grow", 1, True, 1)
_runtime("memory_init", 3, False, 2)
_runtime("memory_copy", 3, False, 2)
_runtime("memory_fill", 3, False, 1)
_runtime("data_drop", 0, False, 1)
_runtime("table_grow", 2, True, 1)
_runtime("table_init", 3, False, 2)
_runtime("table_copy", 3, False, 2)
_runtime("table_fill", 3, False, 1)
_runtime("elem_drop", 0, False, 1)
