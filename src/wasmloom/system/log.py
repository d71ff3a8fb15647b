"""The log. The environment variable ``WASMLOOM_LOG`` names topics, separated by commas.

``stacks`` traces continuations to standard error: see `wasmloom.interpreter.trace`. ``cache`` logs what the cache of
compiled code does, ``tiers`` what engines with the tier "auto" do, ``gc`` what collections of guests' objects do.
"""

from __future__ import annotations

import os
import sys

_TOPICS = os.environ.get("WASMLOOM_LOG", "").replace(",", " ").split()

#: Whether continuations are traced.
STACKS = "stacks" in _TOPICS

#: Whether the cache of compiled code logs what it does.
CACHE = "cache" in _TOPICS

#: Whether changes of tier are logged.
TIERS = "tiers" in _TOPICS

#: Whether collections of guests' objects are logged.
GC = "gc" in _TOPICS


def tell(text: str) -> None:
    """Write a line to standard error."""
    print(f"wasmloom: {text}", file=sys.stderr, flush=True)
