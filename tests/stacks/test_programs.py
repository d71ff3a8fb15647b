"""The stack-switching programs of ``src/wasmloom_bench/programs/stacks`` give the answers that are computed in Python.

The programs in C need a compiler (ziglang), the asyncify variants ``wasm-opt`` besides (WASM_OPT or PATH).
"""

from __future__ import annotations

import functools

import pytest

import wasmloom as wl
from wasmloom_bench.programs.stacks import answers, build

_WORD = (1 << 64) - 1


@functools.cache
def module(name: str) -> wl.Module:
    """The program, built; skips the test when a tool for that is missing."""
    program, _, variant = name.partition(":")
    try:
        if variant == "fiber":
            return wl.Module(build.build_wasmfx(program))
        if variant == "asyncify":
            wasm_opt = build.find_wasm_opt()
            if wasm_opt is None:
                pytest.skip("no wasm-opt: set WASM_OPT, or put Binaryen on PATH")
            return wl.Module(build.build_asyncify(program, wasm_opt))
    except build.Unavailable as error:
        pytest.skip(str(error))
    return wl.Module(build.assemble(program))


def names() -> list[str]:
    """All programs with an answer: in text, in C over stack switching, in C over asyncify."""
    return [*answers.ANSWERS, *(f"{name}:{v}" for v in ("fiber", "asyncify") for name in build.C_PROGRAMS)]


@pytest.mark.parametrize("name", names())
def test_answers(name: str) -> None:
    """The smallest size, an odd one and a large one; twice each, for a program must leave its instance usable."""
    program = name.partition(":")[0]
    run = wl.Instance(module(name)).exports.run
    for size in answers.SMALL[program]:
        for _ in range(2):
            assert run(size) & _WORD == answers.expected(program, size), (name, size)


def test_every_text_program_has_an_answer() -> None:
    assert set(build.TEXT_PROGRAMS) == set(answers.ANSWERS) | {"million", "walk"}
    assert set(answers.SIZES) == set(answers.SMALL) == set(answers.ANSWERS)
    assert set(build.C_PROGRAMS) <= set(answers.ANSWERS)


def test_answers_for_sizes_known_from_elsewhere() -> None:
    assert answers.expected("sieve", 10) == 2 + 3 + 5 + 7 + 11 + 13 + 17 + 19 + 23 + 29
    assert answers.expected("skynet", 6) == 499_999_500_000
    assert answers.expected("pipes", 1000) * 4 // 10**11 == 31405
    assert answers.expected("scheduler", 23) == sum((t % 10 + 1) * t for t in range(23))


@pytest.mark.parametrize("depth", [0, 1, 40])
def test_many_live_continuations(depth: int) -> None:
    """All alive at once, resumed to their ends in another order, on grown stacks as well; then abandoned ones."""
    exports = wl.Instance(module("million")).exports
    for n in (1, 7, 20_000):
        assert exports.fill(n, depth) == answers.below(n)
        assert exports.drain(n, answers.step_for(n)) == 4 * answers.below(n)
    assert exports.cycle(20_000, depth) == answers.below(20_000)


def test_stacks_in_random_order() -> None:
    """Each round visits all of them, wherever it begins."""
    exports = wl.Instance(module("walk")).exports
    for n in (1, 2, 1000, 20_000):
        assert exports.fill(n) == answers.below(n)
        assert exports.walk(n) == answers.below(n)
        assert exports.walk(n // 2) + exports.walk(2 * n - n // 2) == 2 * answers.below(n)


def test_order_of_draining_visits_all() -> None:
    for n in (1, 2, 10, 997, 1000):
        step = answers.step_for(n)
        assert sorted(i * step % n for i in range(n)) == list(range(n))


def test_merging_keeps_the_c_program_as_it_was() -> None:
    """The functions of the text library take the places of the imports: nothing is imported any more."""
    try:
        merged = wl.Module(build.build_wasmfx("itersum"))
    except build.Unavailable as error:
        pytest.skip(str(error))
    assert not list(merged.imports)
    assert {export.name for export in merged.exports} == {"memory", "run", "fiber_main"}
