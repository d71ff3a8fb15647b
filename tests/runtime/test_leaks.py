"""Objects that come and go leave nothing behind: few rounds of each kind, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import PROJECT


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["interpreter", "compiler"])
def test_nothing_is_left_behind(tier: str) -> None:
    command = [sys.executable, "-m", "tests.runtime.leaks", "--rounds", "300", "--seconds", "0.1", "--tier", tier]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=300)
    assert (done.returncode, done.stderr) == (0, ""), "\n".join(
        line for line in (done.stdout + done.stderr).splitlines() if "FLAT" not in line
    )
    assert done.stdout.count("FLAT") > 60
