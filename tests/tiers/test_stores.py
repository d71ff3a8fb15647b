"""In which tier a store is, and what comes into it later."""

from __future__ import annotations

import pytest

import wasmloom as wl
from wasmloom.tiers.stores import compiled_code, use_compiled

TEXT = '(module (func $f (unreachable)) (func (export "f") (call $f)) (func (export "g") (result i32) (i32.const 7)))'


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        (wl.Engine(tier="interpreter"), "interpreter"),
        (wl.Engine(tier="compiler"), "compiler"),
        (wl.Engine(tier="auto"), "interpreter"),
        (wl.Engine(tier="auto", threshold=0), "compiler"),
    ],
)
def test_a_store_begins_in_the_tier_of_its_engine(engine: wl.Engine, name: str) -> None:
    store = wl.Store(engine)
    assert store.tier_name == name
    assert wl.Instance(wl.Module(TEXT, engine), store=store).exports.g() == 7
    assert store.tier_name == name


def test_what_comes_later_is_in_the_same_tier() -> None:
    """Instances that are made after the change run as compiled code, too; their frames are read in its way."""
    engine = wl.Engine(tier="auto", threshold=1 << 30)
    store = wl.Store(engine)
    modules = [wl.Module(TEXT, engine) for _ in range(2)]
    early = wl.Instance(modules[0], store=store).exports
    use_compiled(store, compiled_code(store))
    late = wl.Instance(modules[1], store=store).exports
    assert store.tier_name == "compiler" and modules[1].compiled is not None
    for exports in (early, late):
        assert exports.g() == 7
        with pytest.raises(wl.Trap, match="unreachable") as trap:
            exports.f()
        assert [frame.func_name for frame in trap.value.frames] == ["f", "f"]


def test_a_store_wants_an_engine() -> None:
    with pytest.raises(TypeError, match=r"engine must be a wasmloom\.Engine, not str"):
        wl.Store("compiler")
