"""What the environment variable ``WASMLOOM_LOG`` asks for: names of topics, separated by commas.

``stacks`` traces continuations to standard error: see `wasmloom.interpreter.trace`. ``cache`` tells what the cache of
compiled code does.
"""

from __future__ import annotations

import os

_TOPICS = os.environ.get("WASMLOOM_LOG", "").replace(",", " ").split()

#: Whether continuations are traced.
STACKS = "stacks" in _TOPICS

#: Whether the cache of compiled code tells what it does.
CACHE = "cache" in _TOPICS
