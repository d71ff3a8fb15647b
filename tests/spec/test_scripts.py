"""The official test scripts: no command fails; what is skipped is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import find_spec_dir, spec_scripts
from wasmloom.cli.script_runner import run_script

SCRIPTS = spec_scripts()
FOLDER = find_spec_dir() or Path()


def test_the_scripts_are_there(spec_dir: Path) -> None:
    assert len(SCRIPTS) > 200


@pytest.mark.parametrize("path", SCRIPTS, ids=[str(path.relative_to(FOLDER)) for path in SCRIPTS])
def test_script(path: Path) -> None:
    outcome = run_script(path.read_bytes())
    for reason, number in outcome.skipped.most_common():
        print(f"skipped {number}: {reason}")
    assert outcome.failures == []
    if outcome.passed == 0 and outcome.skips:
        pytest.skip("; ".join(outcome.skipped))
