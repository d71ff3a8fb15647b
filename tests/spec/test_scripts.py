"""The official test scripts: no command fails; what is skipped is said."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import pytest

from tests.conftest import find_spec_dir, spec_scripts
from tests.tiers import replacing
from wasmloom import Engine
from wasmloom.baseline.mixing import set_mixing
from wasmloom.cli.script_runner import run_script

SCRIPTS = spec_scripts()
FOLDER = find_spec_dir() or Path()


def test_the_scripts_are_there(spec_dir: Path) -> None:
    assert len(SCRIPTS) > 200


#: Scripts that other settings of the engine have anything to do with.
OTHER_MODES = SCRIPTS

#: Those of calls and jumps, which cross between bytecode and compiled code.
CROSSING = [
    path
    for path in SCRIPTS
    if path.name.startswith(("call", "return_call", "br_", "loop", "throw", "try_", "fac", "ref_", "func", "switch"))
]


def name_of(path: Path) -> str:
    return str(path.relative_to(FOLDER))


def check(path: Path, engine: Engine) -> None:
    outcome = run_script(path.read_bytes(), engine)
    for reason, number in outcome.skipped.most_common():
        print(f"skipped {number}: {reason}")
    assert outcome.failures == []
    if outcome.passed == 0 and outcome.skips:
        pytest.skip("; ".join(outcome.skipped))


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_script(path: Path) -> None:
    check(path, Engine())


@pytest.mark.parametrize("translation", ["eager", "lazy"])
@pytest.mark.parametrize("path", OTHER_MODES, ids=name_of)
def test_script_translated(path: Path, translation: str) -> None:
    check(path, Engine(translation=translation))


@pytest.mark.parametrize("path", OTHER_MODES, ids=name_of)
def test_script_with_checked_memories(path: Path) -> None:
    check(path, Engine(memory="checked"))


@pytest.mark.parametrize("path", OTHER_MODES, ids=name_of)
def test_script_with_fuel(path: Path) -> None:
    check(path, Engine(fuel=True))


@pytest.mark.usefixtures("code_at_once")
@pytest.mark.parametrize("path", OTHER_MODES, ids=name_of)
def test_script_in_the_baseline_tier(path: Path) -> None:
    check(path, Engine(tier="baseline"))


@pytest.mark.usefixtures("code_at_once")
@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_script_in_code_and_handlers_by_turns(path: Path) -> None:
    """With all checks."""
    number = crc32(name_of(path).encode()) + 1
    before = set_mixing(number)
    try:
        check(path, Engine(tier="baseline", memory="checked", fuel=True, translation="eager"))
        set_mixing(number + 1)
        check(path, Engine(tier="baseline"))
    finally:
        set_mixing(before)


@pytest.mark.usefixtures("code_at_once")
@pytest.mark.parametrize("path", CROSSING, ids=name_of)
def test_script_with_compiled_code_beside_bytecode(path: Path) -> None:
    """Of everything in stores that mix, or of some functions and loops."""
    number = crc32(name_of(path).encode())
    replacing.force(True, lambda module: replacing.some_of(module, number) if number & 1 else replacing.all_of(module))
    try:
        check(path, Engine(tier="baseline" if number & 2 else "auto", cache=False))
    finally:
        replacing.force(False)
