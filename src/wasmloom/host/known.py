"""Modules that are known to be valid, because this engine has validated them before.

The disk cache keeps what validation has found out about a large module, by the SHA-256 of its bytes and the identity of
the engine. So a program that starts again doesn't read every instruction again. Decoding and the rules for everything
but function bodies are always done: they take a hundredth of the time, and others need what they find.

Trusting that is as safe as running code from the cache: an entry belongs to the user, no other user can write it, its
digest is checked (`wasmloom.compiler.cache`), and nobody can make another module with the same SHA-256.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wasmloom.errors import CompileError
from wasmloom.runtime import forks
from wasmloom.validation import validate_module

if TYPE_CHECKING:
    from wasmloom.binary.decoder import DecodedModule

#: Bytes of function bodies from which on looking in the cache is faster than validating.
LARGE = 1 << 22


def validated(module: DecodedModule, cache: bool) -> Mapping[str, tuple[str, int]]:
    """The features that a module uses (see `wasmloom.validation`). Raises what `validate_module` raises.

    `cache`: whether the disk cache may be used.
    """
    if not cache or sum(module.body_ends) - sum(module.body_starts) < LARGE:
        return validate_module(module).features
    with forks.importing:
        from wasmloom.compiler.cache import Cache, valid_key

    kept = Cache()
    try:
        key = valid_key(module.digest)
    except CompileError:  # the engine's files have changed: what is in the cache is not this engine's
        return validate_module(module).features
    found = kept.get(key)
    if found is not None:
        validate_module(module, bodies=False)
        features = {name: (what, offset) for name, (what, offset) in json.loads(found[0]).items()}
        if "legacy-exceptions" in features:
            module.expect_old_exceptions()
        return features
    features = validate_module(module).features
    kept.put(key, [json.dumps(features).encode()])
    return features
