"""What isn't executed is refused by the feature's name and its place, by the API and by every command alike."""

from __future__ import annotations

from pathlib import Path

import pytest

import wasmloom as wl
from tests.binary.build import IMPORT, MEMORY, module, section, vec
from wasmloom.cli.app import run_app

#: What is refused as it is read, whose instructions have no rows: (feature, module, offset).
READ = [
    ("threads", module(section(MEMORY, vec(b"\3\1\1"))), 0xB),
    ("threads", module(section(MEMORY, vec(b"\7\1\1"))), 0xB),
    ("threads", module(section(IMPORT, vec(b"\1m\1n\2\3\1\1"))), 0x10),
]
#: What has a representation, so that it can be written as text, and its place in it.
KNOWN = {
    "garbage collection": ("(module\n (func (drop (ref.i31 (i32.const 0)))))", 2, "ref.i31"),
    "threads": ("(module\n (memory 1 1 shared))", 2, "shared memory"),
}


def errors_of(commands: tuple[str, ...], path: Path, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """What commands say of a file, without its name."""
    found = set()
    for command in commands:
        assert run_app([command, str(path)]) == 1, command
        found.add(capsys.readouterr().err.strip().replace(f"{path}: ", ""))
    return found


@pytest.mark.parametrize("tier", ["interpreter", "compiler", "auto"])
@pytest.mark.parametrize(
    ("feature", "data", "offset"), READ, ids=[f"{name}-{data[11:].hex()}" for name, data, _ in READ]
)
def test_binary(
    feature: str, data: bytes, offset: int, tier: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for load in (lambda: wl.Module(data, wl.Engine(tier=tier)), lambda: wl.Module.validate(data)):
        with pytest.raises(wl.UnsupportedError, match=f"^{feature} is not supported yet: ") as caught:
            load()
        assert caught.value.offset == offset
        assert str(caught.value).endswith(f" at offset {offset:#x}")
    path = tmp_path / "m.wasm"
    path.write_bytes(data)
    wanted = f"error: unsupported: {caught.value}"
    assert errors_of(("run", "validate", "wasm2wat", "compile"), path, capsys) == {wanted}


@pytest.mark.parametrize("feature", KNOWN)
def test_text(feature: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, line, what = KNOWN[feature]
    for tier in ("interpreter", "compiler", "auto"):
        with pytest.raises(wl.UnsupportedError, match=f"^{feature} is not supported yet: {what}") as caught:
            wl.Module(text, wl.Engine(tier=tier))
        assert caught.value.line == line
    path = tmp_path / "m.wat"
    path.write_text(text)
    wanted = f"error: unsupported: {caught.value}"
    assert errors_of(("run", "validate", "compile"), path, capsys) == {wanted}
