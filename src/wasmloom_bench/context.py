"""What a suite is given: contenders, time, and tables to fill.

A suite has a budget of elapsed time. `Context.each` shares what is left of it among the programs that are left; a
program that has used its share up gets no more rounds than the fewest that mean something, and programs for which
nothing is left are missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from wasmloom_bench import harness
from wasmloom_bench.peers import PEERS, TIERS, Settings
from wasmloom_bench.remote import Isolated
from wasmloom_bench.results import Missing, Run, SuiteResult, Table
from wasmloom_bench.workloads import Workload

Item = TypeVar("Item")


@dataclass
class Options:
    """What a run was asked for. `contenders`: names, None for all. `commits`: name → a Python with that engine."""

    quick: bool = False
    contenders: Collection[str] | None = None
    only: Collection[str] | None = None
    programs: Sequence[Path] = ()
    fetch: bool = False
    settings: Settings = field(default_factory=Settings)
    commits: Mapping[str, str] = field(default_factory=dict)
    #: Seconds that all suites may take, instead of what they are given.
    scale: float = 1.0


class Context:
    """One suite's part of a run; `tell` is called with what is being measured."""

    def __init__(
        self, run: Run, suite: SuiteResult, options: Options, budget: float, tell: Callable[[str], None]
    ) -> None:
        self.options = options
        self.quick = options.quick
        self._run = run
        self._suite = suite
        self._end = time.monotonic() + budget
        self._share = budget
        #: Learns what is being done.
        self.tell = tell
        #: Rounds of a measurement, and the seconds of a sample.
        self.rounds = 5 if options.quick else 9
        self.at_least = 0.005 if options.quick else 0.03

    # --- contenders ---

    def wants(self, name: str) -> bool:
        """Whether a contender was asked for."""
        return self.options.contenders is None or name in self.options.contenders

    def engines(self, *names: str) -> list[Any]:
        """Those of the contenders that were asked for and are there; others are noted as missing.

        In a comparison of commits, each of our tiers is there once for each commit, and nobody else.
        """
        found = []
        for name in names:
            if not self.wants(name):
                continue
            if self.options.commits:
                if name in TIERS:
                    found += [engine for label in self.options.commits if (engine := self._of_commit(name, label))]
                continue
            engine = self.made(name, lambda name=name: PEERS[name].make(self.options.settings))  # type: ignore[misc]
            if engine is not None:
                self._run.versions.setdefault(name, engine.version)
                found.append(engine)
        return found

    def made(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, or None, noted as missing."""
        try:
            return make()
        except ImportError as error:
            self._absent(name, f"not installed ({error})")
        except harness.Unsupported as error:
            self._absent(name, str(error))
        return None

    def _of_commit(self, tier: str, label: str) -> Any:
        warm_up = PEERS[tier].make(self.options.settings).warm_up
        name = f"{tier}, {label}"
        return self.made(
            name, lambda: Isolated("Wasmloom", name, warm_up, self.options.commits[label], name=name, tier=tier)
        )

    def _absent(self, name: str, reason: str) -> None:
        entry = Missing(name, reason)
        if entry not in self._run.missing:
            self._run.missing.append(entry)

    # --- tables and time ---

    def table(self, name: str, title: str, pairs: Sequence[tuple[str, str]] = (), **more: Any) -> Table:
        """A new table of this suite; of commits it compares each tier with itself."""
        if self.options.commits:
            new, old = self.options.commits
            pairs = [(f"{tier}, {new}", f"{tier}, {old}") for tier in TIERS]
        table = Table(f"{self._suite.name}/{name}", title, pairs=list(pairs), **more)
        self._suite.tables.append(table)
        return table

    @property
    def left(self) -> float:
        """Seconds that are left of the suite's time."""
        return self._end - time.monotonic()

    def keep(self, seconds: float) -> None:
        """See to it that so many seconds are left: what came before was getting ready, however long that takes."""
        self._end = max(self._end, time.monotonic() + seconds)

    @property
    def share(self) -> float:
        """Seconds that are left of the time that the current program has."""
        return self._share

    def chosen(self, name: str) -> bool:
        """Whether a program was asked for (``--only``)."""
        return self.options.only is None or any(part in name for part in self.options.only)

    def each(
        self, table: Table, items: Sequence[Item], part: float = 1.0, quick: Collection[str] | None = None
    ) -> Iterator[Item]:
        """The items with names that were asked for, each with its share of the time.

        `part`: how much of the suite's time that is left is for them. `quick`: those of a quick run, None for all.
        """
        end = time.monotonic() + part * max(0.0, self.left)
        named = [(getattr(item, "name", str(item)), item) for item in items]
        wanted = [(name, item) for name, item in named if self.chosen(name)]
        if quick is not None:  # what represents the others comes first, should time be over before the end
            wanted.sort(key=lambda pair: pair[0] not in quick)
        if self.quick and quick is not None and self.options.only is None:
            table.missing += [
                Missing("all", "left out in a quick run", name) for name, _ in wanted if name not in quick
            ]
            wanted = [(name, item) for name, item in wanted if name in quick]
        for number, (name, item) in enumerate(wanted):
            left = end - time.monotonic()
            if left <= 0 and number > 0:
                table.missing.append(Missing("all", "the suite's time was over", name))
                continue
            self._share = max(0.0, left) / (len(wanted) - number)
            self.tell(f"{table.name}: {name}")
            yield item

    # --- measuring ---

    def failed(self, table: Table, row: str) -> Callable[[Any, Exception], None]:
        """Notes a contender that can't run a program, or gives a wrong answer."""

        def note(name: Any, error: Exception) -> None:
            if isinstance(error, harness.Inapplicable):
                return
            if not isinstance(error, harness.Unsupported | harness.WrongAnswer):
                error = harness.Unsupported(f"{type(error).__name__}: {error}")
            text = (str(error).splitlines() or [type(error).__name__])[0]
            table.missing.append(Missing(str(name), text, row, isinstance(error, harness.WrongAnswer)))

        return note

    def measure(
        self,
        table: Table,
        row: str,
        samplers: Mapping[str, Callable[[], float]],
        rounds: int | None = None,
        twin: str | None = None,
    ) -> None:
        """Sample contenders in turns, into a row. The first one (or `twin`) is measured twice, for the noise."""
        self.measure_marks({"": table}, row, {name: _marked(each) for name, each in samplers.items()}, rounds, twin)

    def measure_marks(
        self,
        tables: Mapping[str, Table],
        row: str,
        samplers: Mapping[str, Callable[[], Mapping[str, float]]],
        rounds: int | None = None,
        twin: str | None = None,
        least: int = 3,
    ) -> None:
        """The same where each sample has several figures, by name, each for a table of its own."""
        if not samplers:
            return
        first = next(iter(tables.values()))
        if not first.twin:
            for table in tables.values():
                table.twin = twin or next(iter(samplers))
        start = time.monotonic()
        turns = harness.take_turns(
            samplers,
            self.rounds if rounds is None else rounds,
            least=least,
            seconds=self._share,
            twin=first.twin if first.twin in samplers else next(iter(samplers)),
            failed=self.failed(first, row),
        )
        self._share -= time.monotonic() - start
        for mark, table in tables.items():
            cells = {
                name: [_rounded(each[mark]) for each in taken]
                for name, taken in turns.samples.items()
                if taken and all(mark in each for each in taken)
            }
            if cells:
                table.rows[row] = cells
            if table.twin in cells:
                table.again[row] = [_rounded(each[mark]) for each in turns.again]

    def measure_programs(
        self,
        table: Table,
        engines: Sequence[Any],
        workload: Workload,
        less: Mapping[str, float] | None = None,
        divided: int = 1,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """One program in all contenders, answers checked before and after.

        `less`: seconds to subtract, by contender. `divided`: how often the work is done in a call.
        """
        samplers: dict[str, Callable[[], float]] = {}
        checks: dict[str, Callable[[], None]] = {}
        note = self.failed(table, workload.name)
        warming = sum(engine.warm_up > 0 for engine in engines)
        # Half of the program's time, and not less than any code needs to be made.
        most = max(0.3, self._share / 2 / warming) if warming else 0.0
        for engine in engines:
            start = time.monotonic()
            try:
                with harness.silenced():
                    run, verify = workload.prepare(engine)
                harness.first_call(engine, run)
                harness.warm_up(run, min(engine.warm_up, most))
            except Exception as error:  # an adapter's, too: a contender that can't is no reason to stop
                note(engine.name, error)
            else:
                cost = (less or {}).get(engine.name, 0.0)
                sampler = harness.Sampler(run, self.at_least, clock)
                samplers[engine.name] = lambda sampler=sampler, cost=cost: (  # type: ignore[misc]
                    max(sampler() - cost, 1e-9) / divided
                )
                checks[engine.name] = verify
            self._share -= time.monotonic() - start
        with harness.silenced():
            self.measure(table, workload.name, samplers)
        for name, verify in checks.items():
            if name in table.rows.get(workload.name, {}):
                try:
                    verify()
                except (harness.Unsupported, harness.WrongAnswer) as error:
                    note(name, error)
                    del table.rows[workload.name][name]
                    if not table.rows[workload.name]:
                        del table.rows[workload.name]
                    if name == table.twin:
                        table.again.pop(workload.name, None)

    def call_costs(self, engines: Sequence[Any]) -> dict[str, float]:
        """Seconds that a call of a function with one argument takes when the function does nothing, by contender.

        It says nothing about execution, and is half of some contenders' time in the shortest programs.
        """
        wasm = harness.assemble('(module (func (export "run") (param i32)))')
        found = {}
        for engine in engines:
            if not hasattr(engine, "instantiate"):
                continue
            try:
                run = harness.prepared(engine.instantiate(wasm).function("run"), 1)
                harness.warm_up(run, engine.warm_up / 4)
                sampler = harness.Sampler(run, self.at_least / 2)
                found[engine.name] = sorted(sampler() for _ in range(5))[2]
            except harness.Unsupported:
                continue
        return found

    def notes(self, table: Table, engines: Sequence[Any], less: Mapping[str, float] | None = None) -> None:
        """What a reader has to know about how these were measured."""
        from wasmloom_bench.figures import duration

        warmed = {engine.name: engine.warm_up for engine in engines if engine.warm_up}
        if warmed:
            table.notes.append(
                f"Run for up to {max(warmed.values()):g} s before, for they make code meanwhile: {', '.join(warmed)}."
            )
        clocks: dict[str, list[str]] = {}
        for engine in engines:
            if clock := getattr(engine, "clock", None):
                clocks.setdefault(clock, []).append(engine.name)
        for clock, names in clocks.items():
            table.notes.append(f"In processes of their own, which measure themselves ({clock}): {', '.join(names)}.")
        if less:
            costs = ", ".join(f"{name} {duration(cost, 0.01)}" for name, cost in less.items())
            table.notes.append(f"Subtracted, because an empty call takes that: {costs}.")


def _rounded(sample: float) -> float:
    """A sample as it is kept: six digits are more than any of them is certain of."""
    return float(f"{sample:.6g}")


def _marked(sampler: Callable[[], float]) -> Callable[[], Mapping[str, float]]:
    return lambda: {"": sampler()}
