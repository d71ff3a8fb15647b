"""For the API reference: what Python can't see of compiled classes isn't shown."""

from __future__ import annotations

from typing import Any

import griffe


class Compiled(griffe.Extension):
    """Leaves out functions of C, and Python's own methods that say nothing."""

    def on_function_instance(self, *, func: griffe.Function, **arguments: Any) -> None:
        """Take a function away that has no place in the reference."""
        hidden = any(str(decorator.value).startswith("cython.cfunc") for decorator in func.decorators)
        if (hidden or func.name.startswith("__")) and func.parent is not None:
            func.parent.members.pop(func.name, None)
