"""The compiler's options."""

from __future__ import annotations

from typing import NamedTuple


class Options(NamedTuple):
    """How code is compiled, as far as it shows in the code: part of what the disk cache goes by.

    `fuel`: code pays for itself. `inline_switching`: switches of stacks are instructions, not calls into the runtime.
    `checked`: memories have no guard pages, and may move when they grow. `quick`: LLVM runs few passes, since a guest
    waits for the code. `deterministic`: code does what `wasmloom.semantics.determinism` says. `mixed`: functions with
    instructions of continuations stay bytecode, so nothing of them is in others' code.
    """

    fuel: bool = False
    inline_switching: bool = True
    checked: bool = False
    quick: bool = False
    deterministic: bool = False
    mixed: bool = False

    @property
    def as_interpreted(self) -> bool:
        """Whether paths that nothing takes must be there, as in bytecode, since code is counted or measured."""
        return self.fuel or self.deterministic

    def as_dict(self) -> dict[str, bool]:
        """The options by name."""
        return self._asdict()
