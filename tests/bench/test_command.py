"""`wasmloom bench`: the command line, its errors, and what it writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wasmloom_bench import commits, peers
from wasmloom_bench.results import Run
from wasmloom_bench.suites import SUITES


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code neither comes from the cache of who runs the tests nor goes there."""
    monkeypatch.setenv("WASMLOOM_CACHE_DIR", str(tmp_path / "cache"))


def bench(*arguments: str, expect: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "wasmloom", "bench", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | environment,
    )
    assert done.returncode == expect, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_list() -> None:
    shown = bench("--list").stdout
    for name in (*SUITES, *peers.PEERS, *peers.COMMANDS):
        assert f"  {name} " in shown


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["nonsense"], 2, "no suite 'nonsense'; there are interpreter, tiers"),
        (["--contenders", "v9"], 2, "no contender 'v9'; there are interpreter, baseline"),
        (["--install-peers", "v9"], 2, "no contender 'v9'"),
        (["--programs", "no-such-folder"], 1, "cannot read: no-such-folder: no such folder"),
        (["--save", "no-such-folder/run.json"], 1, "cannot write: no-such-folder/run.json"),
        (["--compare", "a.json", "b.json"], 1, "cannot read: a.json: No such file or directory"),
        (["--compare", "only-one"], 2, "expected 2 arguments"),
        (["calls", "--compare-commits", "HEAD", "HEAD"], 2, "the suite 'calls' can't compare commits; these can:"),
        (["--warm-up", "long"], 2, "invalid float value"),
    ],
)
def test_errors(arguments: list[str], status: int, says: str) -> None:
    assert says in bench(*arguments, expect=status).stderr


def test_files_that_are_no_runs(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("{}")
    assert f"error: {path} is no saved run" in bench("--compare", str(path), str(path), expect=1).stderr


def test_without_the_extra(tmp_path: Path) -> None:
    """What has to be installed is said before anything is measured."""
    script = (
        "import importlib.util, sys\nfound = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'matplotlib' else found(name, *more)\n"
        "from wasmloom.cli import main\nsys.exit(main(['bench', 'calls', '--quick']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "error: this needs matplotlib: pip install 'wasmloom[bench]'"
    assert done.stdout == ""


def test_a_run_is_shown_and_saved(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    shown = bench(
        "startup", "--quick", "--contenders", "interpreter", "--only", "add", "--save", str(path), "--peers",
        str(tmp_path),
    ).stdout  # fmt: skip
    assert "## Starting (" in shown
    assert "| add |" in shown
    assert "Noise: interpreter against itself is within" in shown
    run = Run.load(path)
    assert run.suites[0].tables[1].rows["add"]["interpreter"]
    assert run.options == {"quick": True, "suites": ["startup"]}
    for name in ("processor", "commit", "python", "load at the start"):
        assert run.conditions[name]
    compared = bench("--compare", str(path), str(path)).stdout
    assert "| add            | 1" in compared


def test_a_wrong_answer_fails_the_run(tmp_path: Path) -> None:
    """A program that doesn't compute what it should: no figure, and the status says so."""
    suite = tmp_path / "wat" / "res" / "wat"
    suite.mkdir(parents=True)
    (suite / "counter-local.wat").write_text('(module (func (export "run") (param i32) (result i32) (i32.const 7)))')
    done = bench(
        "interpreter", "--quick", "--contenders", "interpreter", "--only", "counter-local", "--programs",
        str(tmp_path), expect=1,
    )  # fmt: skip
    assert "WRONG ANSWER: interpreter, counter-local: interpreter, counter-local: got 7, expected 0" in done.stdout
    assert "| counter-local" not in done.stdout


def git(folder: Path, *arguments: str) -> str:
    environment = {f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, env=os.environ | environment
    )
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with one commit, of a package that is built in no time: the engine under a name of its own."""
    folder = tmp_path / "project"
    (folder / "src" / "wasmloom_bench").mkdir(parents=True)
    (folder / "setup.py").write_text("")
    (folder / "broken").write_text("")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_commits_that_are_not_there(project: Path) -> None:
    assert commits.names(project, "HEAD", "HEAD")[0] == git(project, "rev-parse", "--short", "HEAD")
    with pytest.raises(commits.CannotBuild, match="no-such-commit: fatal"):
        commits.names(project, "HEAD", "no-such-commit")


def test_commits_that_cannot_be_built(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "no-such-python")
    said: list[str] = []
    with pytest.raises(commits.CannotBuild, match="HEAD: no-such-python: No such file"):
        commits.build(project, "HEAD", tmp_path / "new", said.append)
    assert said == ["building HEAD"]
    with pytest.raises(commits.CannotBuild, match="no-such-commit: "):
        commits.build(project, "no-such-commit", tmp_path / "old", said.append)


def test_a_commit_against_itself_is_within_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both run the installed engine here; what is compared is the measurement."""
    from wasmloom_bench.context import Options
    from wasmloom_bench.running import run_suites

    options = Options(quick=True, contenders=["interpreter"], only=["count_until"], scale=100)
    options.commits = {"new": sys.executable, "old": sys.executable}
    run = run_suites(["interpreter"], options, lambda what: None)
    table = next(table for _, table in run.tables() if table.rows)
    pair = ("interpreter, new", "interpreter, old")
    assert table.pairs[0] == pair
    ratio: Any = table.ratio("count_until", pair)
    assert ratio.low <= 1 + table.noise() + 0.2
    assert ratio.high >= 1 - table.noise() - 0.2


def test_a_run_that_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured until then is there, and later suites don't run."""
    from wasmloom_bench.context import Context, Options
    from wasmloom_bench.running import run_suites
    from wasmloom_bench.suites import startup

    def measure(context: Context) -> None:
        table = context.table("add", "Add")
        context.measure(table, "add", {"a": lambda: 1.0})
        raise KeyboardInterrupt

    monkeypatch.setattr(startup, "measure", measure)
    run = run_suites(["startup", "calls"], Options(quick=True), lambda what: None)
    assert run.options["interrupted"] == "startup"
    assert [suite.name for suite in run.suites] == ["startup"]
    assert run.suites[0].tables[0].rows["add"]["a"] == [1.0] * 5


def test_a_suite_that_stops_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from wasmloom_bench.context import Context, Options
    from wasmloom_bench.running import run_suites
    from wasmloom_bench.suites import calls, startup

    def stops(context: Context) -> None:
        context.table("add", "Add").rows["add"] = {"a": [1.0]}
        raise ZeroDivisionError("in the suite")

    monkeypatch.setattr(startup, "measure", stops)
    monkeypatch.setattr(calls, "measure", lambda context: context.table("in", "In"))
    run = run_suites(["startup", "calls"], Options(quick=True), lambda what: None)
    assert run.options["stopped"] == ["startup"]
    assert [table.name for _, table in run.tables()] == ["startup/add", "startup/all", "calls/in"]
    assert run.suites[0].tables[1].missing[0].reason == "the suite stopped: ZeroDivisionError: in the suite"
    assert Run.from_json(run.to_json()) == run


def test_reports_of_a_saved_run(tmp_path: Path) -> None:
    from tests.bench.test_reports import a_run, programs, project

    saved, html = tmp_path / "run.json", tmp_path / "run.html"
    a_run(programs()).save(saved)
    docs = project(tmp_path, "<!-- table tiers/programs -->\n")
    shown = bench("--load", str(saved), "--html", str(html), "--docs", str(docs)).stdout
    assert "### Programs" in shown
    assert f"written: {docs / 'benchmarks.md'}" in shown
    assert html.read_text().startswith("<!doctype html>")
    assert "no such folder" in bench("--load", str(saved), "--html", "none/run.html", expect=1).stderr
    assert "no such file" in bench("--load", str(saved), "--docs", str(tmp_path), expect=1).stderr
    (tmp_path / "README.md").write_text("# It\n")
    assert "the README has no" in bench("--load", str(saved), "--docs", str(docs), expect=1).stderr
