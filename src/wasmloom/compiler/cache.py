"""The disk cache of compiled code: objects, by the module and options that they were compiled from.

One file for each module, named by its key (`cache_key`), in one directory: ``WASMLOOM_CACHE_DIR``, or ``wasmloom`` in
``XDG_CACHE_HOME`` or in ``~/.cache``. An entry is::

    8 bytes    MAGIC
    32 bytes   SHA-256 of the key and of everything that follows
    4 bytes    length of the header, little endian
    header     JSON: {"sizes": [bytes of each blob], "version": of the engine that wrote it, for people who look}
    blobs      one after the other

Entries will be executed, so they and the directory must belong to the user and be writable by no other user; others are
refused. Entries are created by renaming complete files, so readers and concurrent writers never see a partial one. A
damaged entry counts as a miss and is removed. If the directory can't be used, the cache is silently off;
``WASMLOOM_LOG=cache`` reports that, and hits and misses.

The least recently used entries go when there are more bytes than the limit; using an entry sets its time of
modification.
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
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wasmloom.compiler.backends import llvm_identity
from wasmloom.compiler.identity import engine_identity
from wasmloom.system import log
from wasmloom.version import __version__

if TYPE_CHECKING:
    from wasmloom.compiler.options import Options

#: Changes when the format of entries changes, or the meaning of compiled code to the runtime.
FORMAT = 1
MAGIC = b"wlcode%02d" % FORMAT

#: The default limit of a cache in bytes.
DEFAULT_LIMIT = 1 << 30
#: After an eviction this share of the limit is full, so not every write evicts.
_FILLED = 0.9
#: Files that a writer has left behind are removed after this many seconds.
_ABANDONED = 3600.0

_SUFFIX = ".code"
_KEY = re.compile("[0-9a-f]{64}")
_DIGEST_SIZE = 32
_LENGTH = struct.Struct("<I")


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
        self.directory = default_directory() if directory is None else Path(directory)
        self.limit = limit
        self._usable: bool | None = None

    def get(self, key: str) -> list[bytes] | None:
        """The blobs kept under `key`, or None."""
        path = self._path(key)
        if not self._is_usable():
            return None
        try:
            blobs = _decode(key, _read(path))
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
        with suppress(OSError):  # the entry is usable, even if its use isn't noted
            os.utime(path)
        _log(f"hit {key}")
        return blobs

    def put(self, key: str, blobs: Sequence[bytes]) -> None:
        """Keep `blobs` under `key`, replacing others. A failure is no error."""
        path = self._path(key)
        if not self._is_usable():
            return
        content = _encode(key, blobs)
        if len(content) > self.limit:
            _log(f"not kept {key}: {len(content)} bytes are more than the limit")
            return
        temporary = self.directory / f"{key}.{os.urandom(8).hex()}.tmp"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except OSError as error:
            _log(f"can't write {key}: {error}")
            _remove(temporary)
            self._usable = None  # check again: the directory may be gone
            return
        except BaseException:
            _remove(temporary)  # interrupted
            raise
        _log(f"kept {key}: {len(content)} bytes")
        self._evict(str(path))

    def has(self, key: str) -> bool:
        """Whether there seems to be something under `key`: reading it may still fail."""
        return self._path(key).exists()

    def clear(self) -> None:
        """Remove all entries."""
        for entry in self._files():
            _remove(entry.path)

    def size(self) -> int:
        """Bytes of all entries."""
        return sum(entry.size for entry in self._files() if entry.path.endswith(_SUFFIX))

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"not a key of the cache: {key!r}")
        return self.directory / (key + _SUFFIX)

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
                        yield CachedFile(file.path, status.st_size, status.st_mtime)
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
        if total <= self.limit:
            return
        for entry in sorted(entries, key=lambda entry: entry.used):
            if total <= self.limit * _FILLED:
                break
            if entry.path != keep:
                _log(f"evicted {Path(entry.path).stem}")
                _remove(entry.path)
                total -= entry.size


def default_directory() -> Path:
    """The directory of the cache, from the environment (XDG Base Directory Specification)."""
    if chosen := os.environ.get("WASMLOOM_CACHE_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache")) / "wasmloom"


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
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def whole_module(cache: Cache, digest: str, options: Options) -> list[bytes] | None:
    """The objects of all of a module, where they are as good as the options want, or better."""
    objects = cache.get(cache_key(digest, options._replace(quick=False).as_dict()))
    if objects is None and options.quick:
        objects = cache.get(cache_key(digest, options.as_dict()))
    return objects


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


def _encode(key: str, blobs: Sequence[bytes]) -> bytes:
    header = json.dumps({"sizes": [len(blob) for blob in blobs], "version": __version__}).encode()
    body = b"".join([_LENGTH.pack(len(header)), header, *blobs])
    return MAGIC + _digest(key, body) + body


def _decode(key: str, content: bytes) -> list[bytes]:
    start = len(MAGIC) + _DIGEST_SIZE
    if content[: len(MAGIC)] != MAGIC:
        raise _Refused("not an entry, or one of another format")
    body = memoryview(content)[start:]
    if _digest(key, body) != content[len(MAGIC) : start]:
        raise _Refused("wrong checksum")
    # The rest is as it was written.
    (length,) = _LENGTH.unpack_from(body)
    position = _LENGTH.size + length
    blobs = []
    for size in json.loads(bytes(body[_LENGTH.size : position]))["sizes"]:
        blobs.append(bytes(body[position : position + size]))
        position += size
    return blobs


def _digest(key: str, body: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(key.encode())
    digest.update(body)
    return digest.digest()


def _read(path: Path) -> bytes:
    """The content of an entry that is ours alone. Raises `_Refused` otherwise, `OSError` when it can't be read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        _check_owner(os.fstat(descriptor), stat.S_ISREG)
        return file.read()


def _check_owner(status: os.stat_result, is_kind: Callable[[int], bool]) -> None:
    """Raise `_Refused` unless it is what it should be, belongs to the user, and no other user can write it."""
    if not is_kind(status.st_mode):
        raise _Refused("not a regular file or directory")
    if status.st_uid != os.geteuid():
        raise _Refused(f"belongs to user {status.st_uid}")
    if status.st_mode & 0o022:
        raise _Refused("others can write it")


def _remove(path: str | Path) -> None:
    with suppress(OSError):  # another process has removed it, or it has to stay
        os.unlink(path)


def _log(message: str) -> None:
    if log.CACHE:
        log.tell(f"cache: {message}")
