"""The disk cache of compiled code: objects, by the module and options that they were compiled from.

Files are named by their key (`cache_key`), in one directory: ``WASMLOOM_CACHE_DIR``, or ``wasmloom`` in
``XDG_CACHE_HOME`` or in ``~/.cache``; beside them there are marks (`wasmloom.compiler.folder`). An entry is::

    8 bytes    MAGIC
    32 bytes   SHA-256 of the key and of everything that follows
    4 bytes    length of the header, little endian
    header     JSON: {"sizes": [bytes of each blob], "time": of the file's modification, in nanoseconds, "mapped":
               whether it is to be mapped, "version": of the engine that wrote it, for people who look}
    padding    to the next page, if it is to be mapped
    blobs      one after the other

Entries will be executed, so they and the directory must belong to the user and be writable by no other user; others are
refused. Entries are created by renaming complete files, so readers and concurrent writers never see a partial one, and
are never written again: whoever has mapped one keeps what there was, also when it is replaced or removed. A damaged
entry counts as a miss and is removed. If the directory can't be used, the cache is silently off;
``WASMLOOM_LOG=cache`` reports that, and hits and misses.

`Cache.get` reads an entry and checks its digest. `Cache.open` is for those that are mapped, and of which most pages
are never touched: reading all to check it would be most of the work. Their writer has flushed the file to the disk and
noted its size and its time of modification in it, which every later write changes. As long as both are as noted, an
entry is what has been written; else its digest decides. That's more than is checked of shared libraries, which a user
trusts for the same reason: no other user can write them.

The least recently used entries go when there are more bytes than the limit, or more than `MOST` entries; using an entry
sets its time of access.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar

from wasmloom.compiler.backends import llvm_identity
from wasmloom.compiler.folder import MARK, default_directory, mark
from wasmloom.compiler.identity import engine_identity
from wasmloom.system import log
from wasmloom.version import __version__

if TYPE_CHECKING:
    from wasmloom.compiler.options import Options

T = TypeVar("T")

#: Changes when the format of entries changes, or the meaning of compiled code to the runtime.
FORMAT = 3
MAGIC = b"wlcode%02d" % FORMAT

#: The default limit of a cache in bytes.
DEFAULT_LIMIT = 1 << 30
#: Entries at most.
MOST = 10_000
#: After an eviction this share of the limits is used, so not every write evicts.
_FILLED = 0.9
#: Files that a writer has left behind are removed after this many seconds.
_ABANDONED = 3600.0

_SUFFIX = ".code"
_KEY = re.compile("[0-9a-f]{64}")
_DIGEST_SIZE = 32
_LENGTH = struct.Struct("<I")
_PAGE = 4096
#: Bytes that are read at a time to check a digest.
_CHUNK = 1 << 20
#: Headers are shorter.
_MAX_HEADER = 1 << 20


class _Refused(Exception):
    """An entry or the directory isn't usable; the text says why."""


class CachedFile(NamedTuple):
    """A file of the cache: `size` in bytes, `used` in seconds since the epoch."""

    path: str
    size: int
    used: float


class Cache:
    """Compiled code on disk. All methods can be called by several processes and threads at the same time.

    `directory` None stands for the one of the environment. `limit` is the number of bytes that stay on disk, apart from
    entries just being written.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None, limit: int = DEFAULT_LIMIT) -> None:
        self.directory: str = default_directory() if directory is None else os.fspath(directory)
        self.limit = limit
        self._usable: bool | None = None

    def get(self, key: str) -> list[bytes] | None:
        """The blobs kept under `key`, or None."""
        return self._used(key, lambda path: _decode(key, _read(path)))

    def open(self, key: str) -> Entry | None:
        """The entry kept under `key`, to be mapped and closed; or None."""
        return self._used(key, lambda path: Entry(key, path))

    def _used(self, key: str, read: Callable[[str], T]) -> T | None:
        """What `read` makes of the file of `key`, which counts as used; None, and removed, when it refuses it."""
        path = self._path(key)
        if not self._is_usable():
            return None
        try:
            entry = read(path)
        except FileNotFoundError:
            _log(f"miss {key}")
            return None
        except OSError as error:
            _log(f"can't read {key}: {error}")
            return None
        except _Refused as error:
            _log(f"removed {key}: {error}")
            _remove(path)
            return None
        _note_use(path)
        _log(f"hit {key}")
        return entry

    def put(self, key: str, blobs: Sequence[bytes | memoryview], mapped: bool = False) -> bool:
        """Keep `blobs` under `key`, replacing others; returns whether that went well. A failure is no error.

        `mapped`: they are to be opened, so the first one begins a page, and all are flushed to the disk.
        """
        path = self._path(key)
        if not self._is_usable():
            return False
        now = time.time_ns()
        pieces = _encode(key, blobs, now, mapped)
        size = sum(map(len, pieces))
        if size > self.limit:
            _log(f"not kept {key}: {size} bytes are more than the limit")
            return False
        temporary = os.path.join(self.directory, f"{key}.{os.urandom(8).hex()}.tmp")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.writelines(pieces)
                file.flush()
                os.utime(descriptor, ns=(now, now))
                if mapped:
                    os.fsync(descriptor)
            os.replace(temporary, path)
        except OSError as error:
            _log(f"can't write {key}: {error}")
            _remove(temporary)
            self._usable = None  # check again: the directory may be gone
            return False
        except BaseException:
            _remove(temporary)  # interrupted
            raise
        _log(f"kept {key}: {size} bytes")
        self._evict(path)
        return True

    def note_whole(self, size: int) -> None:
        """Leave a mark: there is all code of a module of so many bytes. See `wasmloom.compiler.folder`."""
        with suppress(OSError):  # nobody will look for it
            os.close(os.open(mark(self.directory, size), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def remove(self, key: str) -> None:
        """Remove an entry, if there is one."""
        _remove(self._path(key))

    def has(self, key: str) -> bool:
        """Whether there seems to be something under `key`: reading it may still fail."""
        return os.path.exists(self._path(key))

    def clear(self) -> None:
        """Remove all entries, and marks."""
        for entry in self._files():
            _remove(entry.path)
        with suppress(OSError):
            for name in os.listdir(self.directory):
                if name.endswith(MARK):
                    _remove(os.path.join(self.directory, name))

    def size(self) -> int:
        """Bytes of all entries."""
        return sum(entry.size for entry in self._files() if entry.path.endswith(_SUFFIX))

    def _path(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise ValueError(f"not a key of the cache: {key!r}")
        return os.path.join(self.directory, key + _SUFFIX)

    def _is_usable(self) -> bool:
        """Whether the directory exists, or could be made, and is ours alone."""
        if self._usable is None:
            try:
                os.makedirs(self.directory, mode=0o700, exist_ok=True)
                _check_owner(os.stat(self.directory), stat.S_ISDIR)
                if not os.access(self.directory, os.W_OK | os.X_OK):
                    raise _Refused("not writable")
                self._usable = True
            except (OSError, _Refused) as error:
                _log(f"off: {self.directory}: {error}")
                self._usable = False
        return self._usable

    def _files(self) -> Iterator[CachedFile]:
        """The cache's files in the directory: entries and files being written."""
        try:
            with os.scandir(self.directory) as files:
                for file in files:
                    if _KEY.match(file.name) and file.name.endswith((_SUFFIX, ".tmp")):
                        try:
                            status = file.stat(follow_symlinks=False)
                        except OSError:
                            continue  # another process has removed it
                        yield CachedFile(file.path, status.st_size, max(status.st_atime, status.st_mtime))
        except OSError:
            return  # no directory, no entries

    def _evict(self, keep: str) -> None:
        """Remove the least recently used entries when there are too many bytes, but not `keep`."""
        total = 0
        entries = []
        now = time.time()
        for entry in self._files():
            if entry.path.endswith(_SUFFIX):
                total += entry.size
                entries.append(entry)
            elif now - entry.used > _ABANDONED:
                _remove(entry.path)
        left = len(entries)
        if total <= self.limit and left <= MOST:
            return
        for entry in sorted(entries, key=lambda entry: entry.used):
            if total <= self.limit * _FILLED and left <= MOST * _FILLED:
                break
            if entry.path != keep:
                _log(f"evicted {os.path.basename(entry.path).removesuffix(_SUFFIX)}")
                _remove(entry.path)
                total -= entry.size
                left -= 1


class Entry:
    """An entry that is whole and ours, open for reading. Raises `FileNotFoundError`, `OSError` and `_Refused`."""

    def __init__(self, key: str, path: str) -> None:
        self.path = path
        self.file = _open(path)
        try:
            start = self.file.read(len(MAGIC) + _DIGEST_SIZE + _LENGTH.size)
            if start[: len(MAGIC)] != MAGIC or len(start) < len(MAGIC) + _DIGEST_SIZE + _LENGTH.size:
                raise _Refused("not an entry, or one of another format")
            (length,) = _LENGTH.unpack_from(start, len(MAGIC) + _DIGEST_SIZE)
            if length > _MAX_HEADER:
                raise _Refused("damaged header")
            content = self.file.read(length)
            status = os.fstat(self.file.fileno())
            try:
                header = json.loads(content)
                sizes = [int(size) for size in header["sizes"]]
                whole = header["time"] == status.st_mtime_ns
                position = _first_blob(length, header["mapped"] is True)
            except (ValueError, KeyError, TypeError, RecursionError):
                raise _Refused("damaged header") from None
            #: Where each blob is, and its bytes.
            self.blobs: list[tuple[int, int]] = []
            for size in sizes:
                self.blobs.append((position, size))
                position += size
            if min(sizes, default=0) < 0 or position != status.st_size:
                raise _Refused("wrong size")
            if not whole and self._digest(key) != start[len(MAGIC) : len(MAGIC) + _DIGEST_SIZE]:
                raise _Refused("wrong checksum")
        except BaseException:
            self.file.close()
            raise

    def _digest(self, key: str) -> bytes:
        digest = hashlib.sha256(key.encode())
        self.file.seek(len(MAGIC) + _DIGEST_SIZE)
        while piece := self.file.read(_CHUNK):
            digest.update(piece)
        return digest.digest()

    def read(self, number: int) -> bytes:
        """A blob. Raises `OSError`."""
        position, size = self.blobs[number]
        found = os.pread(self.file.fileno(), size, position)
        if len(found) != size:
            raise OSError("the file is shorter than it was")
        return found

    def close(self) -> None:
        """Close the file. What has been mapped stays."""
        self.file.close()

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()


def digest_of(content: bytes) -> str:
    """What keys know a module by: the SHA-256 of its bytes."""
    return hashlib.sha256(content).hexdigest()


def cache_key(digest: str, options: Mapping[str, str | int | bool | None]) -> str:
    """The key for the module with a `digest_of` its bytes, compiled with `options`, by this engine and LLVM, for this
    machine.

    Raises what `engine_identity` raises.
    """
    facts = {
        "engine": f"{engine_identity()} {FORMAT}",
        "llvm": llvm_identity(),
        "machine": machine_identity(),
        "module": digest,
        "options": dict(options),
    }
    return _key(facts)


def image_key(digest: str, options: Options) -> str:
    """The key for an image of all code of a module (`wasmloom.compiler.images`)."""
    return cache_key(digest, {**options.as_dict(), "image": True})


def most_key(digest: str, options: Options) -> str:
    """The key for an image of all code of a module but that of some functions; the third blob says which."""
    return cache_key(digest, {**options.as_dict(), "image": "most"})


def valid_key(digest: str) -> str:
    """The key for what this engine's validation has found out about a module. Raises what `engine_identity` raises."""
    return _key({"engine": f"{engine_identity()} {FORMAT}", "valid": digest})


def _key(facts: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def whole_module(cache: Cache, digest: str, options: Options) -> Entry | None:
    """The image of all code of a module, where that is as good as the options want, or better."""
    for quick in (False, True)[: 1 + options.quick]:
        entry = cache.open(image_key(digest, options._replace(quick=quick)))
        if entry is not None:
            return entry
    return None


@lru_cache(maxsize=1)
def machine_identity() -> str:
    """The processor, as the kernel describes the first one: code for it may use all that its flags name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            # An empty line ends the first one.
            facts = [line.partition(":") for line in takewhile(str.strip, file)]
    except OSError:
        return ""
    wanted = ("vendor_id", "cpu family", "model", "stepping", "flags")
    return "\n".join(value.strip() for name, _, value in facts if name.strip() in wanted)


def _first_blob(length: int, mapped: bool) -> int:
    """Where the first blob begins, behind a header of so many bytes."""
    end = len(MAGIC) + _DIGEST_SIZE + _LENGTH.size + length
    return -(-end // _PAGE) * _PAGE if mapped else end


def _encode(key: str, blobs: Sequence[bytes | memoryview], now: int, mapped: bool) -> list[bytes | memoryview]:
    """The pieces of an entry."""
    facts = {"sizes": [len(blob) for blob in blobs], "time": now, "mapped": mapped, "version": __version__}
    header = json.dumps(facts).encode()
    padding = bytes(_first_blob(len(header), mapped) - _first_blob(len(header), False))
    body = [_LENGTH.pack(len(header)), header, padding, *blobs]
    digest = hashlib.sha256(key.encode())
    for piece in body:
        digest.update(piece)
    return [MAGIC, digest.digest(), *body]


def _decode(key: str, content: bytes) -> list[bytes]:
    start = len(MAGIC) + _DIGEST_SIZE
    if content[: len(MAGIC)] != MAGIC:
        raise _Refused("not an entry, or one of another format")
    body = memoryview(content)[start:]
    if _digest(key, body) != content[len(MAGIC) : start]:
        raise _Refused("wrong checksum")
    # The rest is as it was written.
    (length,) = _LENGTH.unpack_from(body)
    header = json.loads(bytes(body[_LENGTH.size : _LENGTH.size + length]))
    position = _first_blob(length, header["mapped"])
    blobs = []
    for size in header["sizes"]:
        blobs.append(content[position : position + size])
        position += size
    return blobs


def _digest(key: str, body: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(key.encode())
    digest.update(body)
    return digest.digest()


def _open(path: str) -> BinaryIO:
    """An entry that is ours alone. Raises `_Refused` otherwise, `OSError` when it can't be read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    file = os.fdopen(descriptor, "rb", buffering=0)
    try:
        _check_owner(os.fstat(descriptor), stat.S_ISREG)
    except BaseException:
        file.close()
        raise
    return file


def _read(path: str) -> bytes:
    """The content of an entry. Raises what `_open` raises."""
    with _open(path) as file:
        return file.read()


def _note_use(path: str) -> None:
    with suppress(OSError):  # the entry is usable, even if its use isn't noted
        os.utime(path, ns=(time.time_ns(), os.stat(path).st_mtime_ns))


def _check_owner(status: os.stat_result, is_kind: Callable[[int], bool]) -> None:
    """Raise `_Refused` unless it is what it should be, belongs to the user, and no other user can write it."""
    if not is_kind(status.st_mode):
        raise _Refused("not a regular file or directory")
    if status.st_uid != os.geteuid():
        raise _Refused(f"belongs to user {status.st_uid}")
    if status.st_mode & 0o022:
        raise _Refused("others can write it")


def _remove(path: str) -> None:
    with suppress(OSError):  # another process has removed it, or it has to stay
        os.unlink(path)


def _log(message: str) -> None:
    if log.CACHE:
        log.tell(f"cache: {message}")
