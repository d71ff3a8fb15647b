"""Only `target/` names registers and instructions of a processor: what is above it asks it by what things are for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent.parent / "src" / "wasmloom"

#: Whatever makes, loads, runs or calls code.
FOLDERS = ("contract", "semantics", "runtime", "interpreter", "compiler", "baseline", "tiers", "host")

#: What only x86-64 has. Comments count, too: who ports wasmloom reads them.
WORDS = (
    # registers
    r"[re][abcd]x|[re][sd]i|[re][bsi]p|r([89]|1[0-5])[dwb]?|[xyz]mm([0-9]|[12][0-9]|3[01])?|mxcsr|fs:[0-9]+",
    # instructions
    r"v?mov([qlwb]|abs|[su]?[sp][sd]|[sz]x[a-z]*|dq[au])|cmov[a-z]*|lea[ql]?|(push|pop|call|jmp|ret|leave)q|jmp",
    r"(add|sub|cmp|test|xor|and|or|inc|dec|shl|shr|sar|imul|div|idiv|neg|not)[qlwb]|prefetch(t[012]|nta|w)",
    r"int3|ud2|endbr64|rep stos",
    r"v?(add|sub|mul|div|sqrt|ucomi)[sp][sd]",
    # relocations, signal frames, features, and what else is about it
    r"[RE][_M]*X86_64\w*|REG_[A-Z0-9]+|gregs|[um]context_t|avx\w*|sse[0-9]?|apx|split-stack|__morestack|@cc[a-z]+",
    r"x86\w*|x64|amd64",
    # LLVM's inline assembly
    r'(?<!module )asm(?= (sideeffect )?\\?")',
)
NAME = re.compile(rf"(?<!\w)(?:{'|'.join(WORDS)})(?!\w)", re.IGNORECASE)


def names(folder: Path) -> Iterator[str]:
    """Where the sources below a folder name what is a processor's: path, line and name."""
    for path in sorted(folder.rglob("*.p*")):
        if path.suffix in (".py", ".pxd", ".pyi"):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                for found in NAME.finditer(line):
                    yield f"{path.relative_to(folder.parent)}:{number}: {found[0]}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_folder_names_what_is_the_processors(folder: str) -> None:
    assert not list(names(SOURCE / folder))


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.py", "lines = [f'movq {at}(%rsi), %r11']", ["movq", "rsi", "r11"]),
        ("a.py", "# The instance is in R13.", ["R13"]),
        ("a.py", 'suffix = "sd"; code = f"vadd{suffix}"; other = "mulss"', ["mulss"]),
        ("a.py", "b.emit('call void asm sideeffect \"\", \"\"() #6')", ["asm"]),
        ("a.py", "PC32 = 2  # R_X86_64_PC32", ["R_X86_64_PC32"]),
        ("a.py", 'WORD = "fs:112"', ["fs:112"]),
        ("inner/a.pxd", "    enum: REG_RIP", ["REG_RIP"]),
        ("a.py", 'lines = [f"module asm \\"{line}\\"", "i64.add", "test", "call", "ret void"]  # sp, fp and ip', []),
    ],
)
def test_a_name_is_found(tmp_path: Path, name: str, text: str, found: list[str]) -> None:
    """One word is enough, wherever it stands."""
    path = tmp_path / "folder" / name
    path.parent.mkdir(parents=True)
    path.write_text("\n" + text + "\n", encoding="utf-8")
    assert list(names(tmp_path / "folder")) == [f"folder/{name}:2: {each}" for each in found]
