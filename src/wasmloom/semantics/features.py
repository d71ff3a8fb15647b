"""Which features of WebAssembly this version executes; modules that use others are refused by name."""

from __future__ import annotations

from collections.abc import Mapping

from wasmloom.errors import UnsupportedError

#: Features that guest code may use, by the names of the instruction table's headings and of `wasmloom.validation`.
EXECUTED: frozenset[str] = frozenset(
    (
        "mvp",
        "simd",
        "relaxed-simd",
        "sign-extension",
        "multi-value",
        "saturating-truncation",
        "bulk-memory",
        "reference-types",
        "tail-call",
        "function-references",
        "multi-memory",
        "exception-handling",
        "legacy-exceptions",
        "stack-switching",
        "recursive-types",
        "atomics",
        "threads",
        "wide-arithmetic",
        "memory64",
        "table64",
        "custom-page-sizes",
        "gc",
        "custom-descriptors",
    )
)


def check_features(used: Mapping[str, tuple[str, int]]) -> None:
    """Raise `UnsupportedError` for a feature that isn't executed. `used`: feature → (what uses it, offset)."""
    missing = [(offset, feature, what) for feature, (what, offset) in used.items() if feature not in EXECUTED]
    if missing:
        offset, feature, what = min(missing)
        raise UnsupportedError(f"{feature} is not supported yet: {what}", offset)
