"""What happens where there is no memory: a clear error, nothing lost, and everything can be used afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of

#: The guest takes all memory that it may have, and gives a continuation away, which needs a stack to begin.
GREEDY = """(module (type $f (func)) (type $k (cont $f)) (tag $y (export "y")) (tag $e (export "e")) (memory 1)
  (func $c (suspend $y)) (elem declare func $c)
  (func (export "k") (result (ref $k))
    (loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    (cont.new $k (ref.func $c)))
  (func (export "nothing")))"""

#: What a host does with a continuation.
USES: dict[str, Callable[[Any, Any], object]] = {
    "resume": lambda exports, k: k.resume(on=exports.y),
    "handle": lambda exports, k: k.resume(on={exports.y: lambda: None}),
    "throw": lambda exports, k: k.throw(wl.WasmException(exports.e), on=exports.y),
    "iterate": lambda exports, k: next(wl.resume_iter(k, exports.y)),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", ENGINES)
def test_a_host_resumes_without_memory_for_a_stack(name: str, use: str) -> None:
    engine = engine_of(name)
    # Enough for the memory and the continuation's block, but not for a page of stack.
    store = wl.Store(engine, memory_limit=(1 << 20) + 1000)
    exports = wl.Instance(wl.Module(GREEDY, engine), store=store).exports
    for _ in range(3):
        try:
            USES[use](exports, exports.k())
        except wl.Trap as trap:
            assert trap.code == "out of memory"
        except wl.WasmException as error:
            assert error.tag == exports.e
        exports.nothing()


def test_what_hosts_keep_for_guests_counts() -> None:
    store = wl.Store(memory_limit=1000)
    store.charge(900)
    with pytest.raises(wl.WasmError, match="memory limit"):
        store.charge(101)
    store.release(500)
    assert store.memory_used == 400
    with pytest.raises(ValueError, match="not charged"):
        store.release(401)
