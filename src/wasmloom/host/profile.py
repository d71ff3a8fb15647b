"""Profiles: where the time of guests goes, by function.

A sample is taken every 2 ms while a guest runs, in any tier and on any of its stacks (see `wasmloom.runtime.sampling`).
Which function runs is exact. Its callers are read a little later, where the guest stands at a loop or a function's
beginning: what has been entered meanwhile is taken off, and what has been left meanwhile is put on again, below the
innermost frame that calls it directly.

Guests that wait outside of their store run nowhere, so they aren't sampled: who asks for it gets the time between the
moment that one waits and the moment that it goes on, as so many samples.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from wasmloom.compiler.bodies import callees
from wasmloom.errors import SourceFrame
from wasmloom.host.flame_graph import flame_graph
from wasmloom.messages import printable
from wasmloom.runtime import sampling
from wasmloom.runtime.frames import OFFSETS, GuestFrame, func_name
from wasmloom.runtime.hooks import set_take_sample
from wasmloom.runtime.store import Store
from wasmloom.system.interruption import DeadlinePassed
from wasmloom.tiers.frames import Sample, sample_here

if TYPE_CHECKING:
    from wasmloom.binary.decoder import DecodedModule

#: A function: its module, number and where it stands (0 unless lines are asked for), or the name of a host function.
_Key: TypeAlias = tuple["DecodedModule", int, int] | str
#: Nanoseconds between two samples.
SAMPLE_NS = 2_000_000

#: The profiles that are open, by the `id` of a store that they keep.
_open: dict[int, Profile] = {}


class ProfileRow(NamedTuple):
    """A function in a profile: samples in itself, and in itself or what it has called."""

    name: str
    own: int
    total: int


class ProfileLine(NamedTuple):
    """A line of the source in a profile: samples in itself, and in itself or what has been called there.

    `function` is the one that it is in, inlined or not. What has no debug information has neither file nor line.
    """

    function: str
    file: str | None
    line: int
    own: int
    total: int


class Profile:
    """A profile of all that guests of some stores do while it is open: use it in a ``with`` statement.

    The time of host functions is counted as theirs. The time of guests that wait outside of their store
    (`Func.call_async`) is counted if the profile is made with `waiting`, below the name of what they wait for: several
    that wait at the same time count each. With `lines`, it is known where in functions the time goes (`by_line`), and
    functions of the source that have been inlined are functions, too, if the module has DWARF; samples take longer.

    It may be opened by any thread, also while guests run or wait. It uses the signal SIGPROF.
    """

    def __init__(self, *stores: Store, lines: bool = False, waiting: bool = False) -> None:
        """Raises `TypeError` for what isn't a store."""
        if not stores:
            raise TypeError("profile() takes one store or more")
        for store in stores:
            if not isinstance(store, Store):
                raise TypeError(f"expected a wasmloom.Store, not {type(store).__name__}")
        self._stores = stores
        self._paths: Counter[tuple[_Key, ...]] = Counter()  # innermost first
        self._tiers: Counter[str] = Counter()
        #: What has been found out about code: the stores keep it.
        self._known: dict[Any, Any] = {OFFSETS: True} if lines else {}
        self._callees: dict[tuple[DecodedModule, int], set[int]] = {}
        self._waiting = waiting
        #: Nanoseconds that guests have waited, by path; and those that wait: since when, and on which path.
        self._waits: Counter[tuple[_Key, ...]] = Counter()
        self._waiters: dict[int, tuple[int, tuple[_Key, ...]]] = {}
        self._began = 0

    def __enter__(self) -> Profile:
        """Begin. Raises `ValueError` when a store is being profiled already."""
        if any(id(store) in _open for store in self._stores):
            raise ValueError("the store is being profiled already")
        self._began = time.monotonic_ns()
        for store in self._stores:
            _open[id(store)] = self
            if self._waiting:
                from wasmloom.host.asynchronous import watchers

                watchers[id(store)] = self._watch
            sampling.begin(store)
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        for store in self._stores:
            if _open.get(id(store)) is self:
                sampling.end(store)
                del _open[id(store)]
                if self._waiting:
                    self._end_waits(store)

    @property
    def total(self) -> int:
        """How many samples there are."""
        return sum(weight for _, weight in self._all())

    @property
    def tiers(self) -> dict[str, int]:
        """How many samples found what: "interpreter", "baseline", "compiler", "host", "runtime" or "waiting"."""
        tiers = Counter(dict(self._tiers))
        waited = sum(round(ns / SAMPLE_NS) for ns in dict(self._waits).values())
        if waited:
            tiers["waiting"] = waited
        return dict(tiers.most_common())

    @property
    def stacks(self) -> dict[tuple[str, ...], int]:
        """How many samples found which functions on the stack, by name, the outermost first."""
        found: Counter[tuple[str, ...]] = Counter()
        for stack, weight in self._placed().items():
            found[tuple(place.function for place in stack)] += weight
        return dict(found)

    def by_line(self, most: int | None = None) -> list[ProfileLine]:
        """The lines of the source, those with the most samples of their own first; at most so many.

        Raises `ValueError` for a profile without `lines`.
        """
        if OFFSETS not in self._known:
            raise ValueError("a profile tells lines if it is made with lines=True")
        own: Counter[_Place] = Counter()
        total: Counter[_Place] = Counter()
        for stack, weight in self._placed().items():
            own[stack[-1]] += weight
            for place in set(stack):
                total[place] += weight
        rows = [ProfileLine(*place, own[place], total[place]) for place in total]
        rows.sort(key=lambda row: (-row.own, -row.total, row.function, row.file or "", row.line))
        return rows[:most]

    def top(self, most: int | None = None) -> list[ProfileRow]:
        """The functions, those with the most samples of their own first; at most so many."""
        own: Counter[str] = Counter()
        total: Counter[str] = Counter()
        for stack, weight in self.stacks.items():
            own[stack[-1]] += weight
            for name in set(stack):
                total[name] += weight
        rows = [ProfileRow(name, own[name], total[name]) for name in total]
        rows.sort(key=lambda row: (-row.own, -row.total, row.name))
        return rows[:most]

    def table(self, most: int = 25) -> str:
        """`top` for people, and with `lines` also `by_line`; the last line has the tiers that ran it."""
        rows, total = self.top(), max(self.total, 1)
        lines = ["   own   total  function"]
        lines += [f"{row.own / total:6.1%} {row.total / total:7.1%}  {row.name}" for row in rows[:most]]
        if len(rows) > most:
            lines.append(f"{'':14}  … {len(rows) - most} more")
        if OFFSETS in self._known:
            places = [row for row in self.by_line() if row.file is not None]
            lines += ["", "   own   total  line" if places else "no lines: the modules have no debug information"]
            for row in places[:most]:
                where = f"{printable(row.file or '')}:{row.line}" if row.line else printable(row.file or "")
                lines.append(f"{row.own / total:6.1%} {row.total / total:7.1%}  {where}  {row.function}")
            if len(places) > most:
                lines.append(f"{'':14}  … {len(places) - most} more")
            lines.append("")
        tiers = ", ".join(f"{tier} {count / total:.1%}" for tier, count in self.tiers.items())
        return "\n".join([*lines, f"{self.total} samples" + (f": {tiers}" if tiers else "")])

    def collapsed(self) -> str:
        """A line for each stack: names, separated by semicolons, and samples; as ``flamegraph.pl`` reads it."""
        lines = [f"{';'.join(name.replace(';', ':') for name in stack)} {n}" for stack, n in self.stacks.items()]
        return "".join(f"{line}\n" for line in sorted(lines))

    def speedscope(self, name: str = "wasmloom") -> str:
        """The profile in the JSON format of https://www.speedscope.app (its file-format-schema)."""
        stacks = self._placed()
        frames: dict[_Place, int] = {}
        samples = [[frames.setdefault(frame, len(frames)) for frame in stack] for stack in stacks]
        profile = {
            "type": "sampled",
            "name": name,
            "unit": "none",
            "startValue": 0,
            "endValue": self.total,
            "samples": samples,
            "weights": list(stacks.values()),
        }
        return json.dumps(
            {
                "$schema": "https://www.speedscope.app/file-format-schema.json",
                "exporter": "wasmloom",
                "name": name,
                "shared": {"frames": [_frame_of(place) for place in frames]},
                "profiles": [profile],
            }
        )

    def flame_graph(self, title: str = "wasmloom") -> str:
        """A picture of the stacks as SVG: a function is as wide as its samples are many, and lies on its caller."""
        return flame_graph(self.stacks, title)

    def save(self, path: str | Path) -> None:
        """Write a file: a flame graph (``.svg``), speedscope's format (``.json``), else collapsed stacks.

        Raises `OSError` when it can't be written.
        """
        path = Path(path)
        made = {".svg": self.flame_graph, ".json": self.speedscope}.get(path.suffix.lower())
        path.write_text(self.collapsed() if made is None else made(path.stem), encoding="utf-8")

    def _all(self) -> Iterable[tuple[tuple[_Key, ...], int]]:
        """All paths, innermost first, with their samples. Other threads may be adding some."""
        yield from dict(self._paths).items()
        for path, waited in dict(self._waits).items():
            if round(waited / SAMPLE_NS):
                yield path, round(waited / SAMPLE_NS)

    def _placed(self) -> dict[tuple[_Place, ...], int]:
        """The stacks, the outermost first."""
        found: Counter[tuple[_Place, ...]] = Counter()
        known: dict[_Key, tuple[_Place, ...]] = {}
        for path, weight in self._all():
            stack: list[_Place] = []
            for key in reversed(path):
                if key not in known:
                    known[key] = _places(key, OFFSETS in self._known)
                stack += known[key]
            found[tuple(stack)] += weight
        return dict(found)

    def _watch(self, task: Any, waits: bool) -> None:
        """A guest begins to wait, or goes on."""
        now = time.monotonic_ns()
        if waits:
            self._waiters[id(task)] = now, self._path_of(task)
        else:
            # It may have begun before the profile.
            began = self._waiters.pop(id(task)) if id(task) in self._waiters else (self._began, self._path_of(task))
            self._waits[began[1]] += now - began[0]

    def _path_of(self, task: Any) -> tuple[_Key, ...]:
        keys = [_key_of(frame) for frame in task.places]  # none: the function that was called is the host's
        name = f"[waiting] {printable(task.waits_for)}"
        return (name, *keys[1:])

    def _end_waits(self, store: Store) -> None:
        """The profile ends, and guests still wait."""
        from wasmloom.host.asynchronous import watchers
        from wasmloom.host.tasks import parked_tasks

        watchers.pop(id(store), None)
        for task in parked_tasks(store):
            self._watch(task, False)

    def _take(self, sample: Sample) -> None:
        keys = [_key_of(frame) for frame in sample.frames]
        if sample.weight:
            if sample.running is None:
                path = ["[runtime]", *keys]  # an instruction that it does, translating, waiting for the GIL
            else:
                running = sample.running[0].module, sample.running[1], sample.running[2]
                entered = None if sample.entered is None else (sample.entered[0].module, sample.entered[1])
                path = [running, *keys] if running[:2] == entered else self._join(running, keys)
            self._paths[tuple(path)] += sample.weight
            self._tiers[sample.tier] += sample.weight
        if sample.host_weight:
            name = f"[host] {printable(sample.host)}" if sample.host else "[host]"
            self._paths[tuple(self._join(name, keys))] += sample.host_weight
            self._tiers["host"] += sample.host_weight

    def _join(self, running: _Key, keys: list[_Key]) -> list[_Key]:
        """The frames when the function ran, with the frames of a moment later."""
        if isinstance(running, str):
            return keys[keys.index(running) :] if running in keys else [running, *keys]
        for i, key in enumerate(keys):
            if key[:2] == running[:2]:
                return [running, *keys[i + 1 :]]
        for i, key in enumerate(keys):
            if not isinstance(key, str) and key[0] is running[0] and running[1] in self._callees_of(key[:2]):
                return [running, *keys[i:]]
        return [running, *keys]

    def _callees_of(self, key: tuple[DecodedModule, int]) -> set[int]:
        found = self._callees.get(key)
        if found is None:
            found = self._callees[key] = callees(key[0], key[1] - key[0].num_imported_funcs)
        return found


class _Place(NamedTuple):
    """A function on a stack, and the line that it stands at, if that is known."""

    function: str
    file: str | None = None
    line: int = 0


def profile(*stores: Store, lines: bool = False, waiting: bool = False) -> Profile:
    """A profile of what guests of one store or more do, which the ``with`` statement opens:

    ```python
    with wl.profile(store) as profile:
        instance.exports.run()
    print(profile.table())
    profile.save("run.svg")
    ```

    `lines`: also which lines of the source. `waiting`: also where guests wait. Raises `TypeError` for what isn't a
    store.
    """
    return Profile(*stores, lines=lines, waiting=waiting)


def _key_of(frame: GuestFrame) -> _Key:
    if frame.code is None:
        return f"[host] {printable(str(frame.name))}"
    return frame.code.module, frame.function, frame.offset


def _places(key: _Key, lines: bool) -> tuple[_Place, ...]:
    """A function, with those that have been inlined where it stands, the outermost first."""
    if isinstance(key, str):
        return (_Place(key),)
    module, index, offset = key
    name = func_name(module, index)
    text = printable(name) if name is not None else f"wasm-function[{index}]"
    prefix = f"{printable(module.index_names.module)}!" if module.index_names.module else ""
    own = _Place(prefix + text)
    if not lines:
        return (own,)
    from wasmloom.debuginfo.source import debug_info

    *inlined, outermost = debug_info(module).at(offset) or (SourceFrame(None, None),)
    places = [_Place(prefix + printable(each.function or "?"), each.file, each.line) for each in reversed(inlined)]
    return own._replace(file=outermost.file, line=outermost.line), *places


def _frame_of(place: _Place) -> dict[str, object]:
    """A frame in speedscope's format."""
    found: dict[str, object] = {"name": place.function}
    if place.file is not None:
        found["file"] = place.file
    if place.line:
        found["line"] = place.line
    return found


def _take_sample(store: Any, in_host: bool) -> None:
    """A guest stands where its frames can be read. A sample that can't be taken is lost, and the guest goes on."""
    found = _open.get(id(store))
    try:
        sample = sample_here(store, in_host, {} if found is None else found._known)
        if found is not None:
            found._take(sample)
    except (MemoryError, RecursionError, DeadlinePassed):
        pass


set_take_sample(_take_sample)
