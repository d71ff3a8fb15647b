"""Objects that can be closed: most of this API's are, explicitly or by ``with``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self


class Handle:
    """Base of what can be closed. Using a closed object raises `ValueError`.

    A subclass keeps what it works with in one attribute, which ``close`` deletes: so nothing has to be checked where it
    is used, and what nobody else holds is freed.
    """

    #: The attribute that a closed object lacks.
    _core: Any

    def __getattr__(self, name: str) -> Any:
        # Only called for what is missing.
        if name == "_core":
            raise ValueError("already closed")
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def close(self) -> None:
        """Let go of what this holds. It can be called again."""
        self.__dict__.pop("_core", None)

    def _check_open(self) -> None:
        """Raise `ValueError` if this is closed."""
        _ = self._core

    def _consume(self) -> Any:
        """Close this, and return what it has held."""
        core = self._core
        self.close()
        return core

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
