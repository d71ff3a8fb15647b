"""Unmodified packages from PyPI on the look-alike and on ``wasmtime`` itself: the same answers?

    python -m tests.packages.compare [NAME]... [--folder FOLDER] [--opa OPA]

Each package gets a fresh virtual environment, with the version of ``wasmtime`` that it asks for. Its program (see
`programs`) runs in it twice: as it is, and by ``python -m wasmloom.compat.wasmtime`` with wasmloom from this tree. A
row says whether the answers are equal, and for each how long it took, its processor time and its memory. On the
look-alike nothing of Wasmtime may be loaded. Both begin without any code from earlier runs.

Run it by Python 3.12 for the packages that need that (kairo-sdk). `--folder` keeps the environments for another run.
`--opa` is the program that compiles the policy for the two packages that run policies. The exit status is 0 if all
answers were equal.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.packages.programs import PACKAGES, POLICY, Package

SOURCE = Path(__file__).resolve().parent.parent.parent / "src"
#: What wasmloom needs itself.
OWN = ("llvmlite>=0.50",)
#: Added to each program: whether something of Wasmtime is in the process, and the memory that it has used (KiB).
STATE = """
import resource as _resource
print("STATE", "libwasmtime" in open("/proc/self/maps").read(), _resource.getrusage(_resource.RUSAGE_SELF).ru_maxrss)
"""


class Outcome(NamedTuple):
    """How a program ended, and what it took: seconds elapsed, seconds of processor time, MiB at most."""

    answer: str
    error: str
    loaded: bool
    elapsed: float
    used: float
    memory: int


def prepare(package: Package, folder: Path, opa: str | None) -> str:
    """Make the environment and the files. Returns what is missing, or nothing."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *OWN, package.name, *package.needs]
    installed = subprocess.run(install, capture_output=True, text=True)
    if installed.returncode:
        lines = [line for line in installed.stderr.splitlines() if line.startswith("ERROR")]
        return lines[0][:150] if lines else "can't be installed"
    for name, content in package.files:
        if name != "policy.wasm":
            (folder / name).write_text(content)
        elif opa is None:
            return "needs the program opa, to compile a policy (--opa)"
        else:
            compile_policy(opa, folder)
    return ""


def compile_policy(opa: str, folder: Path) -> None:
    """Compile the policy for the packages that run one."""
    (folder / "example.rego").write_text(POLICY)
    subprocess.run([opa, "build", "-t", "wasm", "-e", "example/allow", "example.rego"], cwd=folder, check=True)
    with tarfile.open(folder / "bundle.tar.gz") as bundle:
        found = bundle.extractfile("/policy.wasm")
        assert found is not None
        (folder / "policy.wasm").write_bytes(found.read())


def run(package: Package, folder: Path, start: list[str], timeout: float) -> Outcome:
    """Run a package's program in its environment, without code from earlier runs."""
    with tempfile.TemporaryDirectory() as empty:
        for name, _ in package.files:
            shutil.copy(folder / name, empty)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("WASM", "PYTHON"))}
        environment |= {
            "PYTHONPATH": str(SOURCE),
            "WASMLOOM_CACHE_DIR": f"{empty}/cache",
            "XDG_CACHE_HOME": f"{empty}/other",
            "HOME": empty,
        }
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        command = [str(folder / "bin" / "python"), *start, "-c", package.program + STATE]
        try:
            ran = subprocess.run(
                command, capture_output=True, text=True, cwd=empty, env=environment, timeout=timeout, errors="replace"
            )
        except subprocess.TimeoutExpired:
            return Outcome("", f"not ready after {timeout:.0f} s", False, timeout, 0, 0)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer, _, state = ran.stdout.rpartition("STATE ")
    loaded, memory = state.split() if state else ("False", "0")
    if package.changes:
        answer = re.sub(package.changes, "…", answer)
    error = "" if ran.returncode == 0 else (ran.stderr.strip().splitlines() or ["no message"])[-1]
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Outcome(answer, error, loaded == "True", time.monotonic() - began, used, int(memory) >> 10)


def told(outcome: Outcome) -> str:
    """What an outcome took, for a row."""
    return f"{outcome.elapsed:7.2f} s {outcome.used:7.2f} s {outcome.memory:5} MiB"


def compare(package: Package, folder: Path, opa: str | None, timeout: float) -> bool:
    """Print a package's row. Returns whether it is the same on both."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = prepare(package, folder, opa)
    if missing:
        print(f"{package.name:22} not tried: {missing}", flush=True)
        return True
    ours = run(package, folder, ["-m", "wasmloom.compat.wasmtime"], timeout)
    theirs = run(package, folder, [], timeout)
    if ours.error:
        verdict = f"fails: {ours.error}"
    elif ours.loaded:
        verdict = "Wasmtime was loaded"
    elif theirs.error:
        verdict = f"runs; the package itself fails: {theirs.error}"
    else:
        verdict = "same" if ours.answer == theirs.answer else "DIFFERENT"
    print(f"{package.name:22} {told(ours)}   {told(theirs)}   {verdict}", flush=True)
    if verdict == "DIFFERENT":
        print(f"--- wasmloom\n{ours.answer}--- wasmtime\n{theirs.answer}---")
    return not ours.error and not ours.loaded and verdict != "DIFFERENT"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="packages; by default all")
    parser.add_argument("--folder", type=Path, help="where the environments are kept")
    parser.add_argument("--opa", default=shutil.which("opa"), help="the program that compiles policies")
    parser.add_argument("--timeout", type=float, default=600, help="seconds that each program may take")
    options = parser.parse_args()
    known = {package.name: package for package in PACKAGES}
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no such package here: {', '.join(unknown)}")
    folder = options.folder or Path(tempfile.mkdtemp(prefix="packages-"))
    print(f"{'package':22} {'wasmloom':^29}   {'wasmtime':^29}   answers (elapsed, processor time, memory)")
    try:
        results = [compare(known[name], folder / name, options.opa, options.timeout) for name in options.names or known]
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
