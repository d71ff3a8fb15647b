"""The benchmark scripts: what they expect of the programs, and that each of them starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import execute
import wasmi_table

FOLDER = Path(__file__).resolve().parent.parent.parent / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if "argparse.ArgumentParser(" in path.read_text())


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script: str) -> None:
    done = subprocess.run([sys.executable, FOLDER / script, "--help"], capture_output=True, text=True, check=True)
    assert "usage:" in done.stdout


def test_expected_answers() -> None:
    assert [execute.fibonacci(n) for n in (0, 1, 2, 10, 94)] == [0, 1, 1, 55, 19740274219868223167 % (1 << 64)]
    assert wasmi_table.reverse_complement(b">x\nacgtt\n") == b">x\nAACGT\n"
    assert len(wasmi_table.VARIANTS) == 9
    assert wasmi_table.pattern_counts(b"agggtaaa\n") == 10**24


def test_the_searched_patterns_occur() -> None:
    counts = wasmi_table.pattern_counts(wasmi_table.fasta())
    assert counts > 10**24
