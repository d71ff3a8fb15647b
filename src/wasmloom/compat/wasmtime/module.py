"""Modules: from bytes, text and files; and kept for later."""

from __future__ import annotations

import hashlib
import os

import wasmloom as wl
from wasmloom.compat.wasmtime.config import Engine, engine_of
from wasmloom.compat.wasmtime.errors import WasmtimeError, attempt
from wasmloom.compat.wasmtime.handles import Handle
from wasmloom.compat.wasmtime.types import ExportType, ImportType
from wasmloom.text.parser import parse_module

_BINARY = b"\0asm"
#: What serialized modules begin with, and how many bytes of a hash follow.
_MAGIC = b"wasmloom module\0"
_HASH = 32


def wat2wasm(wat: str | bytes) -> bytearray:
    """The binary of a module in the text format. Raises `WasmtimeError` that says where the text is wrong."""
    if not isinstance(wat, str | bytes):
        raise TypeError(f"a text is a str or bytes, not {type(wat).__name__}")
    try:
        return bytearray(parse_module(wat).binary)
    except wl.CompileError as error:
        raise WasmtimeError(str(error)) from None


def _binary(wasm: object) -> bytes:
    if not isinstance(wasm, bytes | bytearray):
        raise TypeError(f"a module is bytes, or text, not {type(wasm).__name__}")
    return bytes(wasm)


def _settings(engine: Engine) -> bytes:
    """A hash of what a serialized module is good for."""
    return hashlib.sha256(f"{wl.__version__} {engine._fingerprint()}".encode()).digest()


class Module(Handle):
    """A module, compiled for an engine. `wasm`: the binary, or text."""

    _core: wl.Module

    def __init__(self, engine: Engine, wasm: str | bytes) -> None:
        core = engine_of(engine)
        data: str | bytes = wasm if isinstance(wasm, str) else _binary(wasm)
        if isinstance(data, str) or (data and data[:4] != _BINARY):
            data = bytes(wat2wasm(data))
        self._core = attempt(wl.Module, data, core)
        engine._check_features(self._core)
        self._hash = _settings(engine)

    @classmethod
    def from_file(cls, engine: Engine, path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> Module:
        """The module in a file. Raises `OSError`, too."""
        with open(path, "rb") as file:
            return cls(engine, file.read())

    @classmethod
    def validate(cls, engine: Engine, wasm: bytes | bytearray) -> None:
        """Raise `WasmtimeError` unless a binary is a valid module that the engine's settings allow."""
        data = _binary(wasm)
        engine_of(engine)
        engine._check_features(attempt(wl.Module, data, wl.Engine(tier="interpreter")))

    @classmethod
    def deserialize(cls, engine: Engine, encoded: bytes | bytearray) -> Module:
        """A module that `serialize` has written, in an engine with the same settings.

        It is validated anew: nothing in the bytes is trusted, or run before.
        """
        data = bytes(encoded)
        engine_of(engine)
        if not data.startswith(_MAGIC):
            raise WasmtimeError("failed to deserialize: this is no module that was serialized by wasmloom")
        body = len(_MAGIC) + _HASH
        if data[len(_MAGIC) : body] != _settings(engine):
            raise WasmtimeError(
                "failed to deserialize: the module was serialized by another version of wasmloom, "
                "or for an engine with other settings"
            )
        return cls(engine, data[body:])

    @classmethod
    def deserialize_file(cls, engine: Engine, path: str) -> Module:
        """`deserialize` of what is in a file."""
        engine_of(engine)
        try:
            with open(path, "rb") as file:
                return cls.deserialize(engine, file.read())
        except OSError as error:
            raise WasmtimeError(f"failed to open file: {error}") from None

    @property
    def imports(self) -> list[ImportType]:
        """What the module imports, in order."""
        return list(map(ImportType, self._core.imports))

    @property
    def exports(self) -> list[ExportType]:
        """What the module exports, in order."""
        return list(map(ExportType, self._core.exports))

    def serialize(self) -> bytearray:
        """The module for `deserialize`: a hash of the engine's settings, and its binary. It has no machine code.

        Compiled code is kept by wasmloom's own cache, which only the user can write to.
        """
        return bytearray(_MAGIC + self._hash + self._core.decoded.data)
