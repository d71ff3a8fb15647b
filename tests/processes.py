"""Programs that tests run in a process of their own, because they would take the tests' process with them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.patience import FOREVER

ROOT = Path(__file__).resolve().parent.parent


def run_program(program: str, *arguments: str, timeout: float = FOREVER, **environment: str) -> str:
    """What a Python program prints; it must end with status 0 and write nothing to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, f"status {done.returncode}: {done.stdout}{done.stderr}"
    assert done.stderr == "", done.stdout + done.stderr
    return done.stdout
