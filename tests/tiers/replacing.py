"""For tests: stores that mix, whatever is in them, and functions of modules that get compiled code at once."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from wasmloom.compiler.compiled import compile_some
from wasmloom.host import instance as instances
from wasmloom.host import module as modules
from wasmloom.host.fixed import fill
from wasmloom.tiers import mixed

_new_state, _can_mix = instances.new_state, modules._can_mix


def all_of(module: Any) -> None:
    """Replace everything in a module."""
    space = module.code_space
    functions = [i for i in range(len(module.decoded.body_starts)) if mixed.compiles(module, i)]
    mixed.replace(module, functions, [(i, at) for i in functions for at in space.loops_of(i)])


def some_of(module: Any, seed: int) -> None:
    """Replace some functions and loops of a module, at random."""
    choice = Random(seed)
    space = module.code_space
    everything = range(len(module.decoded.body_starts))
    functions = [i for i in everything if choice.random() < 0.5 and mixed.compiles(module, i)]
    loops = [(i, at) for i in functions for at in space.loops_of(i) if choice.random() < 0.5]
    if module.mixed is None and choice.random() < 0.5:
        replace_unseen(module, functions)
    else:
        mixed.replace(module, functions, loops)


def replace_unseen(module: Any, functions: list[int]) -> None:
    """Replace functions of a module that has no compiled code as what the cache has does: without bytecode of them."""
    made, _ = compile_some(module.decoded, mixed.options_of(module), functions, True, [])
    mixed._end(module, functions, made, [], [], [], True)


def let_mix(module: Any) -> None:
    """Let the stores of a module mix that has no instance yet, and replace everything in it."""
    fill(module, mixes=True)
    all_of(module)


def force(on: bool, chosen: Callable[[Any], None] | None = None) -> None:
    """Let all stores mix whose bytecode doesn't change over as a whole, and code of stencils call through cells.

    `chosen` is called with each module that is instantiated, before anything of it runs.
    """

    def can_mix(decoded: Any, engine: Any) -> bool:
        return engine.tier in ("interpreter", "baseline", "auto") and engine.threshold is None

    def new_state(module: Any, store: Any, items: Any, bare: bool) -> Any:
        fill(module, mixes=can_mix(module.decoded, module.engine))
        state = _new_state(module, store, items, bare)
        if chosen is not None and module.mixes:
            chosen(module)
        return state

    modules._can_mix = can_mix if on else _can_mix
    instances.new_state = new_state if on else _new_state
