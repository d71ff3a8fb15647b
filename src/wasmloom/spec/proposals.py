"""Instructions outside the instruction table that we know by name only, so that modules with them are refused by name.

They belong to proposals whose instructions the engine has no representation for.
"""

from __future__ import annotations

#: Feature → how the mnemonics of its instructions begin; a beginning that doesn't end in a dot or underscore is whole.
FOREIGN_MNEMONICS: dict[str, tuple[str, ...]] = {
    "legacy exception handling": ("try", "rethrow", "delegate"),
    "threads": ("atomic.", "memory.atomic.", "i32.atomic.", "i64.atomic."),
    "wide arithmetic": ("i64.add128", "i64.sub128", "i64.mul_wide_"),
}


def foreign_feature(word: str) -> str | None:
    """The feature that the instruction `word` belongs to, None when it isn't one of these."""
    for feature, beginnings in FOREIGN_MNEMONICS.items():
        for beginning in beginnings:
            if word == beginning or (beginning[-1] in "._" and word.startswith(beginning)):
                return feature
    return None
