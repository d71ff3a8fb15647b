"""What isn't executed is refused by the feature's name and its place, by the API and by every command alike.

Everything that is known is executed now, so the tests take a feature away.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import wasmloom as wl
from wasmloom.cli.app import run_app
from wasmloom.semantics import features

#: What has a representation, so that it can be written as text, and its place in it.
KNOWN = {
    "gc": ("(module\n (func (drop (ref.i31 (i32.const 0)))))", 2, "ref.i31"),
}


@pytest.fixture(autouse=True)
def without_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "EXECUTED", features.EXECUTED - {"gc"})


def errors_of(commands: tuple[str, ...], path: Path, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """What commands say of a file, without its name."""
    found = set()
    for command in commands:
        assert run_app([command, str(path)]) == 1, command
        found.add(capsys.readouterr().err.strip().replace(f"{path}: ", ""))
    return found


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
