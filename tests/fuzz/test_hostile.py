"""Damaged modules end in a clear error or a correct run (the tool, `mutate`, takes any number of cases)."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz import corpus, mutate

COUNT = 400
SEED = 20


def check(modules: list[bytes]) -> None:
    outcomes, failures = mutate.fuzz(COUNT, SEED, modules, jobs=2)
    assert not failures, "\n".join(f"case {failure.case}: {failure.what}" for failure in failures)
    assert sum(outcomes.values()) == COUNT
    # The mutations are worth something only when all stages are reached.
    assert {"malformed", "invalid", "ran"} <= set(outcomes)


def test_own_modules() -> None:
    check(corpus.own_modules())


def test_script_modules(spec_dir: Path) -> None:
    check(corpus.script_modules(spec_dir))


def test_cases_are_reproducible() -> None:
    modules = corpus.own_modules()
    assert [mutate.mutated(case, 7, modules) for case in range(50)] == [
        mutate.mutated(case, 7, modules) for case in range(50)
    ]
    assert len({mutate.mutated(case, 7, modules) for case in range(50)}) > 40
