"""Profiles: where the time of guests goes, by function.

A sample is taken every 2 ms while a guest runs, in any tier and on any of its stacks (see `wasmloom.runtime.sampling`).
Which function runs is exact. Its callers are read a little later, where the guest stands at a loop or a function's
beginning: what has been entered meanwhile is taken off, and what has been left meanwhile is put on again, below the
innermost frame that calls it directly.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from wasmloom.compiler.bodies import callees
from wasmloom.host.flame_graph import flame_graph
from wasmloom.messages import printable
from wasmloom.runtime import sampling
from wasmloom.runtime.frames import GuestFrame, func_name
from wasmloom.runtime.hooks import set_take_sample
from wasmloom.runtime.store import Store
from wasmloom.tiers.frames import Sample, sample_here

if TYPE_CHECKING:
    from wasmloom.binary.decoder import DecodedModule

#: A function: its module and number, or the name of a host function.
_Key: TypeAlias = tuple["DecodedModule", int] | str

#: The profiles that are open, by the `id` of a store that they keep.
_open: dict[int, Profile] = {}


class ProfileRow(NamedTuple):
    """A function in a profile: samples in itself, and in itself or what it has called."""

    name: str
    own: int
    total: int


class Profile:
    """A profile of all that guests of some stores do while it is open: use it in a ``with`` statement.

    What guests do that wait outside of their store (`Func.call_async`) isn't counted. The time of host functions is, as
    theirs. It uses the signal SIGPROF.
    """

    def __init__(self, *stores: Store) -> None:
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
        self._known: dict[Any, Any] = {}
        self._callees: dict[tuple[DecodedModule, int], set[int]] = {}

    def __enter__(self) -> Profile:
        """Begin. Raises `ValueError` when a store is being profiled already."""
        if any(id(store) in _open for store in self._stores):
            raise ValueError("the store is being profiled already")
        for store in self._stores:
            _open[id(store)] = self
            sampling.begin(store)
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        for store in self._stores:
            if _open.get(id(store)) is self:
                sampling.end(store)
                del _open[id(store)]

    @property
    def total(self) -> int:
        """How many samples there are."""
        return self._paths.total()

    @property
    def tiers(self) -> dict[str, int]:
        """How many samples found what: "interpreter", "baseline", "compiler", "host" or "runtime"."""
        return dict(self._tiers.most_common())

    @property
    def stacks(self) -> dict[tuple[str, ...], int]:
        """How many samples found which functions on the stack, by name, the outermost first."""
        found: Counter[tuple[str, ...]] = Counter()
        names: dict[_Key, str] = {}
        for path, weight in self._paths.items():
            for key in path:
                if key not in names:
                    names[key] = _name(key)
            found[tuple(names[key] for key in reversed(path))] += weight
        return dict(found)

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
        """`top` for people, with the tiers that ran it in the last line."""
        rows, total = self.top(), max(self.total, 1)
        lines = ["   own   total  function"]
        lines += [f"{row.own / total:6.1%} {row.total / total:7.1%}  {row.name}" for row in rows[:most]]
        if len(rows) > most:
            lines.append(f"{'':14}  … {len(rows) - most} more")
        tiers = ", ".join(f"{tier} {count / total:.1%}" for tier, count in self.tiers.items())
        return "\n".join([*lines, f"{self.total} samples" + (f": {tiers}" if tiers else "")])

    def collapsed(self) -> str:
        """A line for each stack: names, separated by semicolons, and samples; as ``flamegraph.pl`` reads it."""
        lines = [f"{';'.join(name.replace(';', ':') for name in stack)} {n}" for stack, n in self.stacks.items()]
        return "".join(f"{line}\n" for line in sorted(lines))

    def speedscope(self, name: str = "wasmloom") -> str:
        """The profile in the JSON format of https://www.speedscope.app (its file-format-schema)."""
        stacks = self.stacks
        frames: dict[str, int] = {}
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
                "shared": {"frames": [{"name": frame} for frame in frames]},
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

    def _take(self, sample: Sample) -> None:
        keys = [_key_of(frame) for frame in sample.frames]
        if sample.weight:
            if sample.running is None:
                path = ["[runtime]", *keys]  # an instruction that it does, translating, waiting for the GIL
            else:
                running = sample.running[0].module, sample.running[1]
                entered = None if sample.entered is None else (sample.entered[0].module, sample.entered[1])
                path = [running, *keys] if running == entered else self._join(running, keys)
            self._paths[tuple(path)] += sample.weight
            self._tiers[sample.tier] += sample.weight
        if sample.host_weight:
            name = f"[host] {printable(sample.host)}" if sample.host else "[host]"
            self._paths[tuple(self._join(name, keys))] += sample.host_weight
            self._tiers["host"] += sample.host_weight

    def _join(self, running: _Key, keys: list[_Key]) -> list[_Key]:
        """The frames when the function ran, with the frames of a moment later."""
        if running in keys:
            return keys[keys.index(running) :]
        if not isinstance(running, str):
            for i, key in enumerate(keys):
                if not isinstance(key, str) and key[0] is running[0] and running[1] in self._callees_of(key):
                    return [running, *keys[i:]]
        return [running, *keys]

    def _callees_of(self, key: tuple[DecodedModule, int]) -> set[int]:
        found = self._callees.get(key)
        if found is None:
            found = self._callees[key] = callees(key[0], key[1] - key[0].num_imported_funcs)
        return found


def profile(*stores: Store) -> Profile:
    """A profile of what guests of one store or more do, which the ``with`` statement opens:

    ```python
    with wl.profile(store) as profile:
        instance.exports.run()
    print(profile.table())
    profile.save("run.svg")
    ```

    Raises `TypeError` for what isn't a store.
    """
    return Profile(*stores)


def _key_of(frame: GuestFrame) -> _Key:
    return f"[host] {printable(str(frame.name))}" if frame.code is None else (frame.code.module, frame.function)


def _name(key: _Key) -> str:
    if isinstance(key, str):
        return key
    module, index = key
    name = func_name(module, index)
    text = printable(name) if name is not None else f"wasm-function[{index}]"
    return f"{printable(module.index_names.module)}!{text}" if module.index_names.module else text


def _take_sample(store: Any, in_host: bool) -> None:
    """A guest stands where its frames can be read. A sample that can't be taken is lost, and the guest goes on."""
    found = _open.get(id(store))
    try:
        sample = sample_here(store, in_host, {} if found is None else found._known)
        if found is not None:
            found._take(sample)
    except (MemoryError, RecursionError):
        pass


set_take_sample(_take_sample)
