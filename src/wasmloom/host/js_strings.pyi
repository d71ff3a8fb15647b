"""Types of the Python surface; see ``js_strings.py``."""

from typing import Any

from wasmloom.runtime.store import Store

MODULE_NAME: str

def js_strings(store: Store, constants: str | None = "'") -> dict[str, Any]: ...
