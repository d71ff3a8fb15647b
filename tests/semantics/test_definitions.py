"""What an executed instruction does is written once, or there is a reason why it isn't."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import wasmloom as wl
from wasmloom.contract import traps
from wasmloom.contract.layout import RUNTIME_CALLS
from wasmloom.interpreter.families import FAMILIES
from wasmloom.interpreter.handlers import HandlerSet
from wasmloom.semantics import definitions as _definitions  # noqa: F401  (fills the registry)
from wasmloom.semantics.by_tier import BY_TIER, REASONS
from wasmloom.semantics.features import EXECUTED
from wasmloom.semantics.registry import OPERATIONS, operation
from wasmloom.spec.instructions import INSTRUCTIONS

SOURCES = Path(wl.__file__).parent


def test_every_executed_instruction_is_defined_or_has_a_reason() -> None:
    executed = {row.mnemonic for row in INSTRUCTIONS if row.feature in EXECUTED}
    assert OPERATIONS.keys() | BY_TIER.keys() == executed
    assert not OPERATIONS.keys() & BY_TIER.keys()
    assert len(BY_TIER) == sum(len(names) for names in REASONS.values())


def test_an_instruction_has_one_definition() -> None:
    with pytest.raises(ValueError, match=r"table\.get has two definitions"):
        operation("table.get", kind="instance", params="addr", results="ref")(lambda b, table, index: index)


def test_what_the_runtime_does_is_what_it_has() -> None:
    names = {operation.mnemonic.replace(".", "_") for operation in OPERATIONS.values() if operation.kind == "runtime"}
    assert len(names) == 10
    assert names < set(RUNTIME_CALLS)


def test_tiers_dont_check_what_definitions_check() -> None:
    """A trap that a tier names itself is a check that is written twice."""
    # Addresses are for the tiers to check.
    defined = {
        code
        for operation in OPERATIONS.values()
        if operation.kind != "atomic"
        for code in operation.traps
        if code != traps.MEMORY_OUT_OF_BOUNDS
    }
    names = {name for name, code in vars(traps).items() if name.isupper() and code in defined}
    assert {"NULL_REFERENCE", "UNDEFINED_ELEMENT", "INTEGER_OVERFLOW"} < names
    for path in (*SOURCES.glob("interpreter/*.py"), *SOURCES.glob("compiler/*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert not used & names, path.name


def test_one_definition_on_the_same_types_has_the_same_handlers() -> None:
    """`ref.is_null` is `i64.eqz` of a word: there are no other handlers, and no names, for it."""
    handlers = HandlerSet()
    places = FAMILIES["value"].places
    first, second = (OPERATIONS[name].instruction.index * places for name in ("i64.eqz", "ref.is_null"))
    numbers = handlers.tables["wl_value_table"]
    assert numbers[first : first + places] == numbers[second : second + places] != [-1] * places
    names = [handler.name for handler in handlers.handlers]
    assert len(names) == len(set(names))
