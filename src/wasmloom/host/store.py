"""The store, as it is made by the host: without an engine it gets the default one."""

from __future__ import annotations

from wasmloom.host.engine import engine_of
from wasmloom.runtime.hooks import set_engine_of
from wasmloom.runtime.store import Store as Store

set_engine_of(engine_of)
