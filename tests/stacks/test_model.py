"""Random programs over all stack-switching and exception instructions, against the model."""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wasmloom as wl
from tests.stacks.model import MASK, Model, Writer, programs
from wasmloom.runtime import collector

EXAMPLES = int(os.environ.get("WASMLOOM_EXAMPLES", "300"))


def outcome(source: str, engine: wl.Engine | None = None) -> tuple[object, ...]:
    store = wl.Store(engine)

    def collect() -> None:
        collector.collect_garbage(store)

    exports = wl.Instance(wl.Module(source, engine), {"": {"collect": collect}}, store=store).exports
    result: tuple[object, ...]
    try:
        result = ("return", exports.run() & MASK)
    except wl.Trap as trap:
        result = ("trap", trap.code)
    except wl.WasmException as error:
        result = ("exception", int(error.tag == exports.e1), error.payload[0] & MASK)
    result = (*result, exports.hash.value & MASK)
    return result


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(programs)
def test_programs_do_what_the_model_does(program):
    expected = Model(program).run()
    assert outcome(Writer(program).module()) == expected


@settings(max_examples=EXAMPLES // 3, suppress_health_check=list(HealthCheck))
@given(st.lists(programs, min_size=3, max_size=3))
def test_programs_share_a_store(several):
    """One store for several programs: each leaves the pool and the context in order for the next."""
    store = wl.Store()
    for program in several:
        source = Writer(program).module()
        imports = {"": {"collect": lambda: collector.collect_garbage(store)}}
        exports = wl.Instance(wl.Module(source), imports, store=store).exports
        for _ in range(2):
            with contextlib.suppress(wl.Trap, wl.WasmException):
                exports.run()
        collector.collect_garbage(store)
    found = collector.statistics(store)
    exceptions = 8 * 8  # bytes of an exception with one value
    assert found["worn"] == found["grown"] == 0
    assert 384 * (found["continuations"] + found["pool"]) <= found["blocks"]
    assert (found["blocks"] - 384 * (found["continuations"] + found["pool"])) % exceptions == 0


@pytest.mark.parametrize(
    "program",
    [
        # A suspension goes through a resumer that doesn't handle it, which is then part of the continuation.
        [
            [("new", 0, 0), ("resume", 0, 1, [("suspend", 1, 0)]), ("log",), ("resume", 0, 1, []), ("log",)],
            [("new", 1, 0), ("add", 3), ("resume", 1, 1, [("suspend", 0, 0)]), ("log",)],
            [("add", 7), ("suspend", 1), ("log",)],
        ],
        # A switch back to the one that was switched away from.
        [
            [("new", 0, 0), ("new", 1, 1), ("resume", 0, 1, [("switch", 0, 0)]), ("log",)],
            [("add", 1), ("switch", 0, 0), ("log",)],
            [("add", 2), ("switch", 0, 0), ("log",)],
        ],
    ],
)
def test_known_programs(program):
    assert outcome(Writer(program).module()) == Model(program).run()
