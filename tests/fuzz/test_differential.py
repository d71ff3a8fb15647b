"""Random programs do the same in wasmtime and in all of wasmloom's tiers, translation modes and kinds of memory."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

import wasmloom as wl
from tests.fuzz import differential, type_sections
from tests.fuzz.choices import Choices, shrink
from tests.fuzz.differential import Form, Variant
from tests.fuzz.generator import generate

COUNT = 60
SEED = 40
EAGER = Variant(translation="eager")
EAGER_FUEL = Variant(translation="eager", fuel=True, memory="checked")
LAZY_FUEL = Variant(translation="lazy", fuel=True)


@pytest.mark.skipif(find_spec("wasmtime") is None, reason="needs the wasmtime package to compare with")
def test_same_as_wasmtime() -> None:
    found = [(case, what) for case, what in differential.fuzz(range(COUNT), SEED, jobs=2) if case is not None]
    assert not found, "\n".join(f"case {case}: {what.what}" for case, what in found)


def test_compiled_as_interpreted() -> None:
    """Backtraces, too."""
    for case in range(12):
        program = generate(differential.choices_of(SEED, case))
        what = differential.difference(None, program, (EAGER, differential.COMPILED[0]))
        assert what is None, f"case {case}: {what}"


def test_translation_modes_agree() -> None:
    for case in range(100):
        program = generate(differential.choices_of(SEED, case))
        outcomes = [differential.run_wasmloom(program, variant) for variant in differential.VARIANTS]
        assert all(outcome == outcomes[0] for outcome in outcomes), f"case {case}"


def test_fuel_runs_out_in_the_same_place() -> None:
    """What a program pays doesn't depend on when it is translated; with enough fuel it does what it does without."""
    for case in range(60):
        program = generate(differential.choices_of(SEED + 1, case))
        without = differential.run_wasmloom(program, EAGER)
        *enough, (_, left) = differential.run_wasmloom(program, EAGER_FUEL, 1 << 30)
        assert enough == without
        used = (1 << 30) - left
        for limit in {used // 3, used - 1} - {0, -1}:
            eager = differential.run_wasmloom(program, EAGER_FUEL, limit)
            assert eager == differential.run_wasmloom(program, LAZY_FUEL, limit), f"case {case}"
            assert "all fuel consumed" in [step[1] for step in eager if step[0] == "trap"], f"case {case}"


def test_deterministic_engines_agree() -> None:
    """Also on the bits of NaNs, on what is left of fuel, and where it or the stack ends."""
    for case in range(4):
        form = Form(raw=True, stacks=case % 2 == 1, deterministic=True)
        what = form.difference(None, differential.choices_of(SEED + 3, case), case)
        assert what is None, f"case {case}: {what}"


def test_memory_runs_out_anywhere() -> None:
    """That ends in traps and errors of ours, or in nothing at all, whatever runs: nothing crashes."""
    failed = 0
    for case in range(8):
        program = generate(differential.choices_of(SEED + 2, case), stacks=True)
        for variant in Form(stacks=True).variants(case):
            # One that changes over finds no code yet.
            modules = differential.modules_of(program, variant) if variant.change is None else None
            for limit in (8192, 80_000, 150_000):
                limit += case * 2111
                try:
                    steps = differential.run_wasmloom(program, variant, memory_limit=limit, modules=modules)
                    failed += "out of memory" in str(steps)
                except (wl.WasmError, MemoryError):
                    failed += 1
    assert failed > 20


def test_programs_are_reproducible() -> None:
    for case in range(20):
        choices = differential.choices_of(SEED, case)
        program = generate(choices)
        assert generate(differential.choices_of(SEED, case)) == program
        assert generate(Choices(recorded=choices.taken)) == program


def test_any_choices_make_a_valid_program() -> None:
    for case in range(20):
        taken = differential.choices_of(SEED, case).taken or list(range(case, 400))
        differential.run_wasmloom(generate(Choices(recorded=taken[case:])), EAGER)


def test_shrink_finds_a_small_case() -> None:
    assert shrink(list(range(100)), lambda numbers: any(number > 40 for number in numbers)) == [41]


@pytest.mark.skipif(find_spec("wasmtime") is None, reason="needs the wasmtime package to compare with")
def test_type_sections_are_judged_alike() -> None:
    *found, (_, valid, invalid, _) = type_sections.differences(range(300), SEED)
    assert not found, found[0]
    assert valid != "0 valid" and invalid != "0 invalid"
