"""A guest's view of the world as a value, for snapshots: what it has of arguments, clocks and open files.

Nothing of the host's is in it. A standard stream is a role, a directory that the guest was given the guest's name for
it, and a file a path below such a directory: whoever restores it gives a new `Wasi` with streams and directories, and
files are opened below these as the guest could open them itself, with no more rights. Paths are those of the moment, as
the system tells them, and are looked up to see that they lead to the same file.

Clocks go on from where they were, except the one of the real time. How far the guest has read a directory is a position
of the file system's, which means nothing elsewhere; so the rest of the directory is part of the state.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from wasmloom.errors import WasmError
from wasmloom.messages import printable
from wasmloom.wasi.abi import DIRECTORY_RIGHTS, FILE_RIGHTS, FdFlags, Rights, WasiError
from wasmloom.wasi.context import Context
from wasmloom.wasi.descriptors import HOST_FLAGS, Descriptor, Directory, HostFile, Listed
from wasmloom.wasi.files import MAX_OFFSET
from wasmloom.wasi.paths import Walk
from wasmloom.wasi.process import CLOCKS, guest_time

#: What an open file is.
STREAM, PREOPEN, FILE, DIRECTORY = range(4)
#: What a guest can change of a stream's flags.
_CHANGING = FdFlags.APPEND | FdFlags.NONBLOCK
#: More than any time, position and set of rights.
_TOO_MUCH = MAX_OFFSET + 1


class OpenFile(NamedTuple):
    """An open file. `number`: its descriptor. `kind`: see above. `name`: of the stream, or of the directory that it is
    or is below. Others: `path` below that, the host's mode of access, flags, rights, position in it, and for a
    directory that has been read in part, where that is and what is left."""

    number: int
    kind: int
    name: bytes
    path: bytes
    access: int
    flags: int
    rights: int
    inheriting: int
    offset: int
    listing: tuple[int, tuple[Listed, ...]] | None


class WasiState(NamedTuple):
    """What one `Wasi` is to the instances with these numbers: arguments, environment, clocks (nanoseconds), the next
    descriptor, those that are free before it, and the open files in order."""

    instances: tuple[int, ...]
    args: tuple[bytes, ...]
    env: tuple[bytes, ...]
    clocks: tuple[int, ...]
    following: int
    freed: tuple[int, ...]
    files: tuple[OpenFile, ...]


def state_of(context: Context, instances: tuple[int, ...]) -> WasiState:
    """The state of a guest. Raises `WasmError`, which names it, for a file that can't be named in another process."""
    table = context.table
    files = tuple([_saved(number, file) for number, file in table.open_files()])
    clocks = tuple([guest_time(context, clock) for clock in range(1, len(CLOCKS))])
    following, freed = table.numbers()
    return WasiState(instances, tuple(context.args), tuple(context.env), clocks, following, freed, files)


def _saved(number: int, file: Descriptor) -> OpenFile:
    flags = int(file.flags)
    if file.role:
        name = file.role.encode()
        return OpenFile(number, STREAM, name, b"", 0, flags & _CHANGING, file.rights, file.inheriting, 0, None)
    listing = file.rest() if isinstance(file, Directory) else None
    if isinstance(file, Directory) and file.preopen is not None:
        return OpenFile(number, PREOPEN, file.preopen, b"", 0, 0, file.rights, file.inheriting, 0, listing)
    kind, access, position = DIRECTORY, os.O_RDONLY, 0
    base, path = _place(number, file)
    if isinstance(file, HostFile) and not isinstance(file, Directory):
        kind, access, position = FILE, file.access, file.seek(0, os.SEEK_CUR)
    return OpenFile(number, kind, base, path, access, flags, file.rights, file.inheriting, position, listing)


def _place(number: int, file: Descriptor) -> tuple[bytes, bytes]:
    """The guest's name of the directory that a file is below, and the path from there. Raises `WasmError`."""
    base = file.origin
    what = f"file descriptor {number} of the guest"
    if not isinstance(file, HostFile) or not isinstance(base, Directory) or base.preopen is None:
        raise WasmError(f"{what} is a file that has no name, so a snapshot can't have it")
    if not (stat.S_ISREG(mode := os.fstat(file.fileno()).st_mode) or stat.S_ISDIR(mode)):
        raise WasmError(f"{what} is neither a file on disk nor a directory, so a snapshot can't have it")
    shown = printable(base.preopen.decode("utf-8", "replace"))
    if not base.is_open:
        raise WasmError(f"{what} was opened below {shown!r}, which has been closed: a snapshot can't name it")
    above, found = (os.readlink(f"/proc/self/fd/{each.fileno()}".encode()) for each in (base, file))
    path = b"." if found == above else found.removeprefix(above.rstrip(b"/") + b"/")
    try:
        with Walk(base.fileno(), path) as walk:
            here, there = walk.stat(follow=False), os.fstat(file.fileno())
        if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
            return base.preopen, path
    except (OSError, WasiError):
        pass
    raise WasmError(
        f"{what} is no longer below the directory {shown!r} that it was opened in "
        f"({printable(os.fsdecode(found))!r}): a snapshot can't name it"
    )


def check(state: WasiState, instances: int) -> None:
    """Raise `WasmError` unless a state, which anyone may have made, is one that a guest can have."""
    taken = [file.number for file in state.files]
    if any(one >= other for one, other in pairwise(taken)) or {*taken} & {*state.freed}:
        raise _fail("numbers that aren't in order, or taken twice")
    if any(number >= state.following for number in (*taken, *state.freed)) or state.following >= 1 << 31:
        raise _fail("a number that hasn't been given yet")
    if any(number >= instances for number in state.instances) or not state.instances:
        raise _fail("a guest that there isn't")
    if len(state.clocks) != len(CLOCKS) - 1 or any(now >= _TOO_MUCH for now in state.clocks):
        raise _fail("a time that isn't one")
    if any(b"\0" in text for text in (*state.args, *state.env)):
        raise _fail("an argument or a variable with a NUL")
    given = [(file.kind, file.name) for file in state.files if file.kind in (STREAM, PREOPEN)]
    if len(given) != len({*given}):
        raise _fail("a stream or a directory that is there twice")
    for file in state.files:
        _check_file(file)


def _check_file(file: OpenFile) -> None:
    is_directory = file.kind in (PREOPEN, DIRECTORY)
    most = int(DIRECTORY_RIGHTS if is_directory else FILE_RIGHTS)
    inherited = int(DIRECTORY_RIGHTS | FILE_RIGHTS) if is_directory else 0
    if (
        file.kind > DIRECTORY
        or file.rights & ~most
        or file.inheriting & ~inherited
        or file.flags >> len(FdFlags)
        or file.offset >= _TOO_MUCH
        or file.access not in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)
    ):
        raise _fail(f"descriptor {file.number} with rights, flags or a position that it can't have")
    if b"\0" in file.path + file.name or (file.path == b"") != (file.kind in (STREAM, PREOPEN)):
        raise _fail(f"descriptor {file.number} with a path that it can't have")
    if file.kind != FILE and (file.offset or file.access):
        raise _fail(f"descriptor {file.number} with a position")
    if file.listing is not None:
        where, entries = file.listing
        if not is_directory or not 0 < where < _TOO_MUCH or not all(entry.is_possible() for entry in entries):
            raise _fail(f"descriptor {file.number} with a directory's contents that it can't have")


def _fail(what: str) -> WasmError:
    return WasmError(f"damaged snapshot: WASI: {what}")


def take_over(context: Context, state: WasiState) -> None:
    """Give a state to a guest that has streams and directories, and nothing else yet.

    Raises `ValueError` if the `Wasi` has been used, and `WasmError`, which names it, for what the guest had open and
    can't have again.
    """
    table = context.table
    if table.closed:
        raise ValueError("this Wasi is closed")
    if table.used:
        raise ValueError("restore() needs a Wasi that no guest has used")
    given = {_key(file): file for _, file in table.open_files()}
    opened: dict[int, Descriptor] = {}
    if sum(file.kind in (FILE, DIRECTORY) for file in state.files) > table.max_files:
        raise WasmError(f"the guest has more files open than the Wasi's max_files, which is {table.max_files}")
    made: list[Descriptor] = []
    try:
        for file in state.files:
            if file.kind in (STREAM, PREOPEN):
                opened[file.number] = _again(file, given)
            else:
                opened[file.number] = _opened(file, given)
                made.append(opened[file.number])
    except BaseException:
        for one in made:
            one.close()
        raise
    table.replace(opened, state.freed, state.following)
    context.args, context.env = list(state.args), list(state.env)
    now = [time.clock_gettime_ns(clock) for clock in CLOCKS]
    context.offsets = (0, *(then - here for then, here in zip(state.clocks, now[1:], strict=True)))


def _key(file: Descriptor) -> tuple[int, bytes]:
    if isinstance(file, Directory) and file.preopen is not None:
        return PREOPEN, file.preopen
    return STREAM, file.role.encode()


def _shown(name: bytes, path: bytes = b"") -> str:
    return repr(printable((name.rstrip(b"/") + b"/" + path if path else name).decode("utf-8", "replace")))


def _again(file: OpenFile, given: dict[tuple[int, bytes], Descriptor]) -> Descriptor:
    """A stream or directory of the new `Wasi`, with the guest's rights."""
    found = given.get((file.kind, file.name))
    if found is None:
        what = "directory" if file.kind == PREOPEN else "stream"
        how = "as preopens" if file.kind == PREOPEN else "one"
        raise WasmError(f"the guest has the {what} {_shown(file.name)} open: give restore() a Wasi that has it ({how})")
    found.rights &= file.rights
    found.inheriting &= file.inheriting
    if isinstance(found, Directory):
        found.go_on(file.listing)
    elif isinstance(found, HostFile):
        found.set_flags(FdFlags(found.flags & ~_CHANGING | file.flags & _CHANGING))
    return found


def _opened(file: OpenFile, given: dict[tuple[int, bytes], Descriptor]) -> HostFile:
    """A file or a directory, opened below one of the new `Wasi`."""
    what = f"file descriptor {file.number} of the guest, {_shown(file.name, file.path)}"
    base = given.get((PREOPEN, file.name))
    if not isinstance(base, Directory):
        raise WasmError(f"{what}: give restore() a Wasi with the directory {_shown(file.name)} (as preopens)")
    if base.read_only and file.access != os.O_RDONLY:
        raise WasmError(f"{what}, is open for writing, and the directory is ReadOnly now")
    host = file.access | os.O_NOCTTY | os.O_NONBLOCK
    for flag in FdFlags(file.flags):
        host |= HOST_FLAGS[flag]
    try:
        with Walk(base.fileno(), file.path) as walk:
            number = walk.open(host & ~os.O_CREAT, follow=False)
    except OSError as error:
        raise WasmError(f"{what}: {error.strerror}") from None
    except WasiError as error:
        raise WasmError(f"{what}: {error.errno.name}") from None
    made: HostFile
    try:
        mode = os.fstat(number).st_mode
        if not (stat.S_ISDIR(mode) if file.kind == DIRECTORY else stat.S_ISREG(mode)):
            raise WasmError(f"{what}, is another kind of file now")
        if file.kind == DIRECTORY:
            made = Directory(number, _within(file.rights, base), _within(file.inheriting, base))
        else:
            made = HostFile(number, _within(file.rights, base), nonblocking=bool(file.flags & FdFlags.NONBLOCK))
    except BaseException:
        os.close(number)
        raise
    made.read_only, made.origin = base.read_only, base
    if isinstance(made, Directory):
        made.go_on(file.listing)
    elif file.offset:
        made.seek(file.offset, os.SEEK_SET)
    return made


def _within(rights: int, base: Directory) -> Rights:
    """The rights that a guest may have below a directory."""
    return Rights(rights & base.inheriting)


def names_of(files: Iterable[OpenFile]) -> list[tuple[int, str, str]]:
    """Open files for people: number, what it is, which one."""
    kinds = ("stream", "directory", "file", "directory")
    return [(file.number, kinds[file.kind], _shown(file.name, file.path)) for file in files]
