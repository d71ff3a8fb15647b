"""Answering for ``import wasmtime``."""

from __future__ import annotations

import sys
from importlib import import_module

#: The look-alike, and the name that programs import.
_OURS = "wasmloom.compat.wasmtime"
_NAME = "wasmtime"


def install() -> None:
    """Let ``import wasmtime`` mean this package from now on, in this process.

    Raises `RuntimeError` if the real one has been imported already: its objects and these can't be mixed.
    """
    ours = import_module(_OURS)
    present = sys.modules.get(_NAME)
    if present is not None and present is not ours:
        raise RuntimeError("wasmtime has been imported already: call install() before anything imports it")
    import_module(f"{_OURS}.component")
    # Its parts, too: a second copy of a module would have classes of its own.
    for name in [name for name in sys.modules if name == _OURS or name.startswith(f"{_OURS}.")]:
        sys.modules[_NAME + name[len(_OURS) :]] = sys.modules[name]
