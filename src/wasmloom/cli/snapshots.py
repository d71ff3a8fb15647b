"""What commands do with snapshots: writing and showing them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wasmloom.cli.common import CommandError, errors_name, write_output
from wasmloom.messages import printable, quoted

if TYPE_CHECKING:
    from wasmloom import Store

#: What names of files with snapshots end with, where none is given.
SUFFIX = ".wlsnap"


def is_snapshot(data: bytes) -> bool:
    """Whether the bytes of a file begin as a snapshot does."""
    return data.startswith(b"\0wlsnap")


def save(store: Store, path: str) -> None:
    """Write a snapshot of a store. Raises `CommandError` for what can't be one, or can't be written."""
    from wasmloom import Snapshot, WasmError

    try:
        data = Snapshot.take(store).to_bytes()
    except WasmError as error:
        raise CommandError(f"cannot take a snapshot: {error}") from None
    write_output(path, data)


def show(path: str, data: bytes) -> int:
    """Print what a snapshot consists of."""
    from wasmloom.snapshot.format import decode
    from wasmloom.wasi.saving import names_of

    with errors_name(path):
        told, embedded = decode(data)
    print(f"{printable(path)}: {len(data)} bytes, a snapshot")
    print(f"modules: {len(told.modules)}")
    for number, digest in enumerate(told.modules):
        where = f"{len(embedded[digest])} bytes" if digest in embedded else "not embedded"
        print(f"  {number}: sha256 {digest}, {where}")
    limits = {
        "fuel": told.fuel,
        "timeout": told.timeout,
        "memory limit": told.memory_limit,
        "stack limit": told.stack_limit,
        "deterministic": told.deterministic or None,
    }
    print("limits: " + ", ".join(f"{name} {value}" for name, value in limits.items() if value is not None))
    print(f"instances: {len(told.instances)}")
    for number, instance in enumerate(told.instances):
        dropped = len(instance.dropped_data) + len(instance.dropped_elements)
        print(f"  {number}: of module {instance.module}" + (f", {dropped} segments dropped" if dropped else ""))
    print(f"memories: {len(told.memories)}")
    for number, memory in enumerate(told.memories):
        used = sum(len(contents) for _, contents in memory.runs)
        print(f"  {number}: {memory.pages} pages, {used} bytes in use")
    print(f"tables: {len(told.tables)}")
    for number, table in enumerate(told.tables):
        count = sum(element is not None for element in table.elements)
        print(f"  {number}: {len(table.elements)} elements, {count} in use")
    print(f"globals: {len(told.globals)}, tags: {len(told.tags)}")
    for state in told.wasi:
        print(f"WASI of the instances {', '.join(map(str, state.instances))}:")
        print(f"  arguments: {_joined(state.args)}")
        print(f"  environment: {_joined(state.env)}")
        for number, kind, name in names_of(state.files):
            print(f"  descriptor {number}: {kind} {name}")
    return 0


def _joined(texts: Sequence[bytes]) -> str:
    return " ".join(quoted(text.decode("utf-8", "replace")) for text in texts) or "none"


def snapshot_path(file: str, given: str | None) -> str:
    """Where the snapshot of a program goes."""
    if given is not None:
        return given
    return "program" + SUFFIX if file == "-" else str(Path(file).with_suffix(SUFFIX))
