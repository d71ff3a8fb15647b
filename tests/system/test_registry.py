"""Objects that can be found as long as they live."""

from __future__ import annotations

from wasmloom.system.registry import FEW, Registry


class Thing:
    """What can be found."""


def test_things_are_found_while_they_live() -> None:
    registry: Registry[Thing] = Registry()
    things = [Thing() for _ in range(5)]
    for thing in things:
        registry.add(thing)
        registry.add(thing)
    assert set(registry) == set(things)
    del thing, things[1:]
    assert list(registry) == things


def test_what_is_left_of_those_that_are_gone_goes_too() -> None:
    registry: Registry[Thing] = Registry()
    kept = []
    for number in range(50 * FEW):
        kept.append(Thing())
        registry.add(kept[-1])
        if number % 50:
            kept.pop()
    assert set(registry) == set(kept)
    assert len(registry) <= 2 * len(kept) + FEW
