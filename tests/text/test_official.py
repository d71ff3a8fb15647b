"""The official scripts: they parse, their modules assemble, and what they call malformed is rejected as they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import find_spec_dir, spec_scripts
from wasmloom.binary.decoder import decode_module
from wasmloom.cli.script_runner import SUPERSEDED
from wasmloom.errors import CompileError
from wasmloom.spec.module import ModuleSyntax, Names
from wasmloom.text.parser import parse_module
from wasmloom.text.printer import print_module
from wasmloom.text.script import AssertInvalid, AssertMalformed, AssertTrap, ModuleSource, Unsupported, parse_script

FOLDER = find_spec_dir() or Path()

SCRIPTS = [*spec_scripts()]
IDS = [str(path.relative_to(FOLDER)) for path in SCRIPTS]

#: Everything in `ModuleSyntax` that the printer keeps; the data count section is there when it is needed.
KEPT = [name for name in ModuleSyntax.__slots__ if name not in ("names", "has_data_count", "customs")]


def source_of(command: object) -> ModuleSource | None:
    if isinstance(command, AssertTrap) and isinstance(command.action, ModuleSource):
        return command.action
    return getattr(command, "source", None)


def test_the_scripts_are_there(spec_dir: Path) -> None:
    assert len(SCRIPTS) > 200


@pytest.mark.parametrize("path", SCRIPTS, ids=IDS)
def test_modules_assemble(path: Path) -> None:
    for command in parse_script(path.read_bytes()):
        assert not isinstance(command, Unsupported)
        source = source_of(command)
        if source is None:
            continue
        if isinstance(command, AssertMalformed):
            if command.message in SUPERSEDED:
                continue
            if source.kind == "quote":
                with pytest.raises(CompileError) as caught:
                    source.assemble()
                assert caught.value.line is not None
                assert caught.value.reason.startswith(command.message)
        elif isinstance(command, AssertInvalid) and command.custom:
            with pytest.raises(CompileError, match=command.message):
                source.assemble()
        else:
            source.assemble()


def contents(binary: bytes) -> tuple[dict[str, object], dict[str, object]]:
    module = decode_module(binary).syntax()
    parts: dict[str, object] = {name: getattr(module, name) for name in KEPT}
    parts["customs"] = [(custom.name, custom.data) for custom in module.customs]
    names: dict[str, object] = {name: getattr(module.names, name) for name in Names.__slots__}
    names["maps"] = {kind: found for kind, found in module.names.maps.items() if found}
    return parts, names


@pytest.mark.parametrize("path", SCRIPTS, ids=IDS)
def test_modules_survive_printing(path: Path) -> None:
    for command in parse_script(path.read_bytes()):
        source = source_of(command)
        if source is None or isinstance(command, (AssertMalformed, AssertInvalid)):
            continue
        binary = source.to_binary()
        text = print_module(binary)
        again = parse_module(text).binary
        assert print_module(again).split() == text.split() or source.kind == "binary"
        if source.kind != "binary":
            # Binary modules of the scripts may have numbers in more bytes than needed, and empty sections.
            assert contents(again) == contents(binary)
            assert again == binary
