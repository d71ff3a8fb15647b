"""Validating modules written as text."""

from __future__ import annotations

import pytest

from wasmloom.binary.decoder import decode_module
from wasmloom.errors import CompileError, ValidationError
from wasmloom.text.parser import parse_module
from wasmloom.validation import Validator, validate_module


def valid(text: str) -> Validator:
    """Check a module that is valid."""
    return validate_module(decode_module(parse_module(text).binary))


def invalid(text: str, *, stack_switching: bool = True) -> ValidationError:
    """Check a module that isn't valid, and give its error."""
    with pytest.raises(ValidationError) as caught:
        validate_module(decode_module(parse_module(text).binary), stack_switching=stack_switching)
    assert caught.value.offset is not None
    return caught.value


def malformed(data: bytes) -> CompileError:
    """Check a module whose bodies are malformed, and give the error."""
    with pytest.raises(CompileError) as caught:
        validate_module(decode_module(data))
    assert not isinstance(caught.value, ValidationError)
    return caught.value
