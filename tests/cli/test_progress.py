"""What a terminal is told about slow work."""

from __future__ import annotations

import os
import pty
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.patience import comes
from wasmloom.cli import progress, run
from wasmloom.cli.app import run_app
from wasmloom.cli.progress import Progress, duration, time_left


def test_estimates() -> None:
    assert time_left(0.5, 10, 90) is None and time_left(10, 0, 100) is None
    assert time_left(10, 10, 90) == 90
    assert time_left(60, 50, 50) == 60


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "5 s"), (7, "5 s"), (52, "50 s"), (58, "1 min"), (150, "2 min"), (3540, "59 min"), (4800, "1 h 20 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_line_counts_only_what_was_done_now(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shown = Progress("a\nb.wasm")
    assert shown.line() == "a\\nb.wasm: compiling"
    shown(50, 100)  # from an earlier run
    assert shown.line() == "a\\nb.wasm: compiling, 50 %"
    now[0] = 110
    shown(75, 100)
    assert shown.line() == "a\\nb.wasm: compiling, 75 %, about 10 s left"


class Terminal:
    """What standard error is meanwhile; `shown` are the bytes that it has been given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown = b""
        self.monkeypatch = monkeypatch

    def __enter__(self) -> Terminal:
        self.leader, follower = pty.openpty()
        self.stream = os.fdopen(follower, "w")
        self.monkeypatch.setattr(sys, "stderr", self.stream)
        self.monkeypatch.setattr(progress, "_PAUSE", 0.01)
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.monkeypatch.undo()
        self.stream.close()
        self.reader.join()
        os.close(self.leader)

    def _read(self) -> None:
        with suppress(OSError):  # Linux: nobody has the terminal open any more
            while part := os.read(self.leader, 1000):
                self.shown += part


def wait_for(terminal: Terminal, text: bytes) -> None:
    assert comes(lambda: text in terminal.shown)


def test_a_terminal_shows_one_line_which_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    with Terminal(monkeypatch) as terminal:
        with Progress("x.wasm") as shown:
            shown(1, 4)
            wait_for(terminal, b"x.wasm: compiling, 25 %")
        terminal.stream.write("end")
        terminal.stream.flush()
        wait_for(terminal, b"\r\x1b[Kend")
    assert b"\n" not in terminal.shown


def test_what_is_soon_done_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Terminal(monkeypatch) as terminal:
        with Progress("x.wasm", delay=60) as shown:
            shown(1, 4)
        terminal.stream.write("end")
        terminal.stream.flush()
        wait_for(terminal, b"end")
    assert terminal.shown == b"end"


def test_elsewhere_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("x.wasm") as shown:
        shown(1, 4)
    assert capsys.readouterr().err == "" and shown.called


def test_a_run_that_compiles_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown: list[Progress] = []

    class Recorded(Progress):
        def __enter__(self) -> Progress:
            shown.append(self)
            return super().__enter__()

    monkeypatch.setenv("WASMLOOM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(run, "Progress", Recorded)
    (tmp_path / "a.wat").write_text('(module (memory (export "memory") 1) (func (export "_start")))')
    for tier in ("compiler", "interpreter"):
        assert run_app(["run", "--tier", tier, str(tmp_path / "a.wat")]) == 0
    assert [one.called for one in shown] == [True, False]
    assert "a.wat: compiling, 100 %" in shown[0].line()
