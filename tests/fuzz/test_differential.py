"""Random programs do the same in wasmloom and in wasmtime, in all translation modes and on both kinds of memory."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests.fuzz import differential
from tests.fuzz.choices import Choices, shrink
from tests.fuzz.generator import generate

COUNT = 300
SEED = 40


@pytest.mark.skipif(find_spec("wasmtime") is None, reason="needs the wasmtime package to compare with")
def test_same_as_wasmtime() -> None:
    found = [(case, what) for case, what in differential.fuzz(COUNT, SEED, jobs=2) if case is not None]
    assert not found, "\n".join(f"case {case}: {what}" for case, what in found)


def test_translation_modes_agree() -> None:
    for case in range(100):
        program = generate(differential.choices_of(SEED, case))
        outcomes = [differential.run_wasmloom(program, *variant) for variant in differential.VARIANTS]
        assert all(outcome == outcomes[0] for outcome in outcomes), f"case {case}"


def test_fuel_runs_out_in_the_same_place() -> None:
    """What a program pays doesn't hang on when it is translated, and with enough fuel it does what it does without."""
    for case in range(60):
        program = generate(differential.choices_of(SEED + 1, case))
        without = differential.run_wasmloom(program, "eager", False)
        *enough, (_, left) = differential.run_wasmloom(program, "eager", True, limit=1 << 30)
        assert enough == without
        used = (1 << 30) - left
        for limit in {used // 3, used - 1} - {0, -1}:
            eager = differential.run_wasmloom(program, "eager", True, "checked", limit)
            assert eager == differential.run_wasmloom(program, "lazy", True, limit=limit), f"case {case}"
            assert ("trap", "all fuel consumed") in eager, f"case {case}"


def test_programs_are_reproducible() -> None:
    for case in range(20):
        choices = differential.choices_of(SEED, case)
        program = generate(choices)
        assert generate(differential.choices_of(SEED, case)) == program
        assert generate(Choices(recorded=choices.taken)) == program


def test_any_choices_make_a_valid_program() -> None:
    for case in range(20):
        taken = differential.choices_of(SEED, case).taken or list(range(case, 400))
        differential.run_wasmloom(generate(Choices(recorded=taken[case:])), "eager", False)


def test_shrink_finds_a_small_case() -> None:
    assert shrink(list(range(100)), lambda numbers: any(number > 40 for number in numbers)) == [41]
