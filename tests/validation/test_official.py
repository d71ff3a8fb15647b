"""The official scripts: valid modules are accepted, invalid and malformed ones refused, for the right reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import spec_scripts
from wasmloom.binary.decoder import decode_module
from wasmloom.errors import CompileError, UnsupportedError, ValidationError
from wasmloom.text.script import AssertInvalid, AssertMalformed, parse_script
from wasmloom.validation import validate_module

#: Scripts of proposals that the engine refuses by name.
OTHERS = ("threads",)

#: How the scripts say "type mismatch" in full sometimes; ours names the mnemonic and the types.
FULL_WORDING = ("type mismatch: instruction requires [", "type mismatch: block requires [")


def load(data: bytes, script: Path) -> None:
    validate_module(decode_module(data), stack_switching=script.parent.name == "stack-switching")


@pytest.mark.parametrize("script", spec_scripts(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_script(script: Path) -> None:
    if script.parent.name in OTHERS:
        pytest.skip(f"{script.parent.name} is not executed")
    for command in parse_script(script.read_bytes()):
        source = getattr(command, "source", None)
        if source is None or source.kind == "quote":
            continue
        where = f"{script.name}:{command.line}"
        if isinstance(command, AssertInvalid | AssertMalformed) and command.custom:
            continue
        if isinstance(command, AssertMalformed):
            if source.kind == "binary":
                with pytest.raises(CompileError) as caught:
                    load(source.to_binary(), script)
                assert not isinstance(caught.value, ValidationError | UnsupportedError), where
        elif isinstance(command, AssertInvalid):
            with pytest.raises(ValidationError) as caught:
                load(source.to_binary(), script)
            message = "type mismatch" if command.message.startswith(FULL_WORDING) else command.message
            assert caught.value.reason.startswith(message), where
            assert caught.value.offset is not None, where
        else:
            load(source.to_binary(), script)
