"""`wasmloom resume`: go on with a snapshot."""

from __future__ import annotations

import asyncio
import sys
from argparse import PARSER, ArgumentParser
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wasmloom.cli.common import (
    Command,
    CommandError,
    UsageError,
    add_engine_options,
    errors_name,
    make_engine,
    read_input,
    to_binary,
)
from wasmloom.cli.run import TRAPPED, add_directories, invoke_function, preopens_of
from wasmloom.cli.snapshots import When, add_when, chosen, save, taking, watched
from wasmloom.messages import quoted

if TYPE_CHECKING:
    from wasmloom import Instance, PendingCall, Snapshot


def _exporting(instances: Sequence[Instance], name: str) -> Instance:
    """The last instance that exports a function. Raises `CommandError`."""
    from wasmloom import Func

    for instance in reversed(instances):
        if name in instance.exports and isinstance(instance.exports[name], Func):
            return instance
    raise CommandError(f"link: no instance has an exported function {quoted(name)}")


async def _go_on(calls: Sequence[PendingCall]) -> list[Any]:
    """Let all guests of a store go on; what their calls give."""
    return await asyncio.gather(*[call.run() for call in calls])


def _waits_for(kept: Snapshot, when: When | None) -> bool:
    """Whether a guest waits for the function whose call is the moment."""
    if when is None:
        return False
    data = kept._data
    for call in data.guests.calls:
        if call.host is not None:
            decoded = kept.modules[data.instances[call.host.instance].module].decoded
            names = [one.name for one in decoded.imports if one.kind == "func"]
            if names[call.host.function] == when.name.rpartition(".")[2]:
                return True
    return False


def resume(
    invoke: str | None,
    directories: Sequence[str],
    modules: Sequence[str],
    snapshot_on: str | None,
    snapshot_to: str | None,
    target: Sequence[str],
    **options: Any,
) -> int:
    """Go on with a snapshot that `wasmloom run --snapshot-on` or `Snapshot.save` has written.

    Guests in the middle of a call go on with it, and print what it gives; with --invoke a function is called. Programs
    get this process's standard streams and the directories that --dir gives; arguments, environment and open files are
    those of the snapshot. The exit status is as that of run.
    """
    from wasmloom import ExitStatus, Module, Snapshot, Trap
    from wasmloom.snapshot.format import decode
    from wasmloom.wasi import Wasi

    file, *arguments = target[1:] if target[0] == "--" else target
    preopens = preopens_of(directories)
    when, path = chosen(snapshot_on, snapshot_to, file, invoke)
    data = read_input(file)
    with errors_name(file):
        told, _ = decode(data)
        if invoke is None and not told.guests.calls:
            raise UsageError("the snapshot was taken between two calls: --invoke says what to call")
        if when is not None and when.kind == "CALL" and len(told.wasi) != 1:
            raise UsageError("--snapshot-on CALL is for snapshots of one program")
        options |= {"fuel": told.fuel is not None or None, "deterministic": told.deterministic or None}
        if told.guests.calls or (when is not None and when.kind != "END"):
            options["snapshots"] = True
        engine = make_engine(**options)
        found = [Module(to_binary(path), engine) for path in modules]
        worlds: list[Wasi] = []
        try:
            try:
                worlds += [Wasi(preopens=preopens) for _ in told.wasi]
            except (OSError, ValueError) as error:
                raise CommandError(f"cannot prepare the guest's world: {error}") from None
            kept = Snapshot.from_bytes(data, modules=found, engine=engine)
            again = invoke is None and _waits_for(kept, when)
            imports = watched(worlds[0], when, path, again) if worlds else None
            restored = kept.restore(imports=imports, wasi=worlds)
            sys.stdout.flush()
            try:
                with taking(when, restored.store, path):
                    if invoke is not None:
                        invoke_function(_exporting(restored.instances, invoke), invoke, arguments)
                    else:
                        for value in asyncio.run(_go_on(restored.calls)):
                            if value is not None:
                                print(value)
            except ExitStatus as status:
                return status.code
            if when is not None and when.kind == "END":
                save(restored.store, path)
        except Trap as trap:
            sys.stdout.flush()
            print(f"error: trap: {file}: {trap}", file=sys.stderr)
            return TRAPPED
        finally:
            for world in worlds:
                world.close()
    return 0


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--invoke", metavar="FUNCTION", help="Call this function with ARGS and print its results.")
    add_directories(parser)
    parser.add_argument(
        "--module", dest="modules", metavar="FILE", action="append", default=[],
        help="A module of the snapshot that isn't embedded.",
    )  # fmt: skip
    add_when(parser)
    add_engine_options(parser)
    parser.add_argument("target", metavar="FILE", nargs=PARSER, help="The snapshot, and arguments for the function.")


COMMANDS = {"resume": Command("Go on with a snapshot.", "FILE [ARGS]...", resume, _add_arguments)}
