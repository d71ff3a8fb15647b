"""What the command line asks for: runs, comparisons, reports."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wasmloom_bench import commits, comparison, conditions, page, pages, peers, tables
from wasmloom_bench.context import Options
from wasmloom_bench.results import ResultsError, Run, SuiteResult
from wasmloom_bench.running import run_suites
from wasmloom_bench.suites import SUITES


class Failed(Exception):
    """Something went wrong that the message explains."""


class Misused(Exception):
    """The request makes no sense."""


@dataclass
class Request:
    """The options of the command line, by their names."""

    suites: list[str] = field(default_factory=list)
    quick: bool = False
    contenders: str | None = None
    only: str | None = None
    programs: list[Path] = field(default_factory=list)
    fetch: bool = False
    peers: Path | None = None
    install_peers: str | None = None
    node: str | None = None
    warm_up: float | None = None
    save: Path | None = None
    load: Path | None = None
    html: Path | None = None
    docs: Path | None = None
    compare: list[Path] | None = None
    compare_commits: list[str] | None = None
    list: bool = False


def bench(request: Request, tell: Callable[[str], None], needed: Callable[[], None]) -> int:
    """Do what was asked for, and return the exit status.

    `tell` learns what is being measured; `needed` raises what it likes when the extra isn't installed. Raises `Misused`
    and `Failed`.
    """
    settings = peers.Settings(node=request.node)
    if request.peers is not None:
        settings.folder = request.peers
    if request.warm_up is not None:
        settings.warm_up = request.warm_up
    if request.list:
        _list()
        return 0
    if request.compare is not None:
        old, new = (_loaded(path) for path in request.compare)
        print("\n".join(comparison.lines(old, new)))
        return 0
    if request.install_peers is not None:
        return _install(settings.folder, request.install_peers)
    names = _suites(request.suites, request.compare_commits is not None)
    if request.contenders is not None:
        _known(request.contenders.split(","))
    for path in (request.save, request.html):
        if path is not None and not path.resolve().parent.is_dir():
            raise Failed(f"cannot write: {path}: there is no such folder")
    if request.docs is not None and not (request.docs / pages.TEMPLATE).exists():
        raise Failed(f"cannot read: {request.docs / pages.TEMPLATE}: no such file")
    needed()
    if request.load is not None:
        run = _loaded(request.load)
        for suite in run.suites:
            _show(suite)
        print("\n".join(tables.conditions(run)))
        return _end(run, request)
    options = Options(
        quick=request.quick,
        contenders=None if request.contenders is None else request.contenders.split(","),
        only=None if request.only is None else request.only.split(","),
        programs=_programs(request.programs),
        fetch=request.fetch,
        settings=settings,
    )
    if request.compare_commits is not None:
        return _commits(request, request.compare_commits, names, options, tell)
    return _measured(request, names, options, tell)


def _measured(request: Request, names: list[str], options: Options, tell: Callable[[str], None]) -> int:
    run = run_suites(names, options, tell, _show)
    print("\n".join(tables.conditions(run)))
    return _end(run, request)


def _commits(
    request: Request, pair: Sequence[str], names: list[str], options: Options, tell: Callable[[str], None]
) -> int:
    """Build two commits and let them take turns."""
    checkout = conditions.checkout(Path.cwd())
    if checkout is None:
        raise Failed("--compare-commits needs a checkout of the project")
    try:
        old, new = commits.names(checkout, pair[0], pair[1])
        with tempfile.TemporaryDirectory() as folder:
            pythons: dict[str, str] = {}
            for label, commit in (("new", new), ("old", old)):
                # Equal commits are built once: what is compared then is the measurement.
                same = pythons.get("new") if old == new else None
                pythons[label] = same or commits.build(checkout, commit, Path(folder) / label, tell)
            options.commits = pythons
            print(f"new: {new}; old: {old}\n")
            return _measured(request, names, options, tell)
    except commits.CannotBuild as error:
        raise Failed(f"cannot build {error}") from None


def _loaded(path: Path) -> Run:
    try:
        return Run.load(path)
    except OSError as error:
        raise Failed(f"cannot read: {path}: {error.strerror}") from None
    except ResultsError as error:
        raise Failed(str(error)) from None


def _programs(given: list[Path]) -> list[Path]:
    """Folders with programs, those of the environment last. Raises `Failed` for one that isn't there."""
    for folder in given:
        if not folder.is_dir():
            raise Failed(f"cannot read: {folder}: no such folder")
    return [*given, *(Path(name) for name in os.environ.get("WASMLOOM_SUITES", "").split(os.pathsep) if name)]


def _suites(names: list[str], commits: bool) -> list[str]:
    able = [suite.name for suite in SUITES.values() if suite.commits or not commits]
    for name in names:
        if name not in SUITES:
            raise Misused(f"no suite {name!r}; there are {', '.join(SUITES)}")
        if name not in able:
            raise Misused(f"the suite {name!r} can't compare commits; these can: {', '.join(able)}")
    return names or able


def _known(names: list[str]) -> None:
    for name in names:
        if name not in (*peers.PEERS, *peers.COMMANDS):
            raise Misused(f"no contender {name!r}; there are {', '.join((*peers.PEERS, *peers.COMMANDS))}")


def _list() -> None:
    print("Suites:")
    for suite in SUITES.values():
        print(f"  {suite.name:12} {suite.title} ({suite.seconds:.0f} s, with --quick {suite.quick:.0f})")
    print("Contenders:")
    for peer in peers.PEERS.values():
        source = "" if peer.package is None else f" ({peer.package[0]}: {peer.package[1]})"
        print(f"  {peer.name:12} {peer.about}{source}")
    for name, (package, _) in peers.COMMANDS.items():
        print(f"  {name:12} a command, for whole programs ({package[0]}: {package[1]})")


def _install(folder: Path, names: str) -> int:
    try:
        failed = peers.install(folder, [name for name in names.split(",") if name])
    except ValueError as error:
        raise Misused(str(error)) from None
    except OSError as error:
        raise Failed(f"cannot write: {folder}: {error.strerror}") from None
    if failed:
        raise Failed("not installed:\n" + "\n".join(f"  {line}" for line in failed))
    return 0


def _show(suite: SuiteResult) -> None:
    print("\n".join(tables.suite_lines(suite)), flush=True)


def _end(run: Run, request: Request) -> int:
    """Save what was asked for; the exit status."""
    try:
        if request.save is not None:
            run.save(request.save)
        if request.html is not None:
            request.html.write_text(page.page(run), encoding="utf-8")
        if request.docs is not None:
            for path in pages.write(request.docs, run):
                print(f"written: {path}")
    except OSError as error:
        raise Failed(f"cannot write: {error.filename}: {error.strerror}") from None
    except pages.PageError as error:
        raise Failed(str(error)) from None
    if "interrupted" in run.options:
        return 130
    return 1 if run.wrong() or "stopped" in run.options else 0
