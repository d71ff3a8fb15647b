"""Decoding what the encoder writes gives the same module back, for every module of the official scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import spec_scripts
from wasmloom.binary.decoder import decode_module
from wasmloom.binary.encoder import encode_module
from wasmloom.errors import CompileError
from wasmloom.spec.module import ModuleSyntax, Names
from wasmloom.text.script import parse_script


def contents(m: ModuleSyntax) -> dict[str, object]:
    """What two equal modules have in common."""
    parts = {name: getattr(m, name) for name in ModuleSyntax.__slots__}
    parts["names"] = {name: getattr(m.names, name) for name in Names.__slots__}
    # Where custom sections stand is lost when the section before them is empty, which the encoder leaves out.
    parts["customs"] = [(c.name, c.data) for c in m.customs]
    return parts


@pytest.mark.parametrize("script", spec_scripts(), ids=lambda path: path.stem)
def test_scripts(script: Path) -> None:
    for command in parse_script(script.read_bytes()):
        source = getattr(command, "source", None)
        if source is None:
            continue
        try:
            syntax = decode_module(source.to_binary()).syntax()
        except CompileError:
            continue
        again = decode_module(encode_module(syntax)).syntax()
        assert contents(again) == contents(syntax), f"module at line {command.line}"
