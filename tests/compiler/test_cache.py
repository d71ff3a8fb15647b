"""The disk cache of compiled code."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wasmloom as wl
from tests.patience import is_at_rest
from wasmloom.compiler import cache as cache_module
from wasmloom.compiler import identity
from wasmloom.compiler.cache import Cache, cache_key
from wasmloom.compiler.folder import default_directory, may_have_whole
from wasmloom.system import log

KEY = "0" * 64
OTHER = "1" * 64


def entry_of(cache: Cache, key: str = KEY) -> Path:
    return Path(cache.directory) / f"{key}.code"


def names_in(cache: Cache) -> list[str]:
    return sorted(os.listdir(cache.directory))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "made" / "here")


@pytest.mark.parametrize("blobs", [[], [b""], [b"code"], [b"", b"\0" * 5000, b"three"], [bytes(range(256)) * 40000]])
def test_what_is_put_comes_back(cache: Cache, blobs: list[bytes]) -> None:
    assert cache.get(KEY) is None
    cache.put(KEY, blobs)
    assert cache.get(KEY) == blobs
    assert Cache(cache.directory).get(KEY) == blobs
    assert cache.get(OTHER) is None
    assert names_in(cache) == [entry_of(cache).name]


def test_later_content_replaces(cache: Cache) -> None:
    cache.put(KEY, [b"one"])
    cache.put(KEY, [b"two", b"three"])
    assert cache.get(KEY) == [b"two", b"three"]


def test_only_the_user_can_enter(cache: Cache) -> None:
    old = os.umask(0)
    try:
        cache.put(KEY, [b"code"])
    finally:
        os.umask(old)
    assert stat.S_IMODE(Path(cache.directory).stat().st_mode) == 0o700
    assert stat.S_IMODE(entry_of(cache).stat().st_mode) == 0o600


def test_keys_are_digests(cache: Cache) -> None:
    for key in ("", "x", "../" + KEY, KEY + "0", KEY.replace("0", "A"), KEY + "\n"):
        with pytest.raises(ValueError):
            cache.get(key)
        with pytest.raises(ValueError):
            cache.put(key, [])


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_entries_are_misses(cache: Cache, data: st.DataObject) -> None:
    cache.put(KEY, [b"some code", b"more of it"])
    path = entry_of(cache)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path.write_bytes(content)
    assert cache.get(KEY) is None
    assert not path.exists()


def test_entry_of_another_key(cache: Cache) -> None:
    cache.put(KEY, [b"code"])
    entry_of(cache).rename(entry_of(cache, OTHER))
    assert cache.get(OTHER) is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_entries_that_others_can_write_are_refused(cache: Cache, mode: int) -> None:
    cache.put(KEY, [b"code"])
    entry_of(cache).chmod(mode)
    assert cache.get(KEY) is None
    assert not entry_of(cache).exists()


def test_entries_of_others_are_refused(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.put(KEY, [b"code"])
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert cache.get(KEY) is None
    fresh = Cache(cache.directory)
    fresh.put(KEY, [b"code"])
    assert names_in(cache) == []


def test_what_is_no_file_is_refused(cache: Cache, tmp_path: Path) -> None:
    cache.put(KEY, [b"code"])
    entry_of(cache).rename(tmp_path / "elsewhere")
    entry_of(cache).symlink_to(tmp_path / "elsewhere")
    os.mkfifo(entry_of(cache, OTHER))
    assert cache.get(KEY) is None
    assert cache.get(OTHER) is None
    assert (tmp_path / "elsewhere").exists()
    cache.put(KEY, [b"new"])
    assert cache.get(KEY) == [b"new"]


@pytest.mark.parametrize("mode", [0o770, 0o777])
def test_directories_that_others_can_write_are_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(mode)
    cache = Cache(tmp_path / "open")
    cache.put(KEY, [b"code"])
    assert cache.get(KEY) is None
    assert names_in(cache) == []


def test_without_a_directory_it_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    for directory in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        cache = Cache(directory)
        cache.put(KEY, [b"code"])
        assert cache.get(KEY) is None
        cache.clear()
        assert cache.size() == 0


def test_log(cache: Cache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cache.get(KEY)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(log, "CACHE", True)
    cache.get(KEY)
    cache.put(KEY, [b"code"])
    cache.get(KEY)
    Cache("/proc/nowhere").get(KEY)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[2] for line in lines] == ["miss", "kept", "hit", "off:"]


def test_directory_that_goes(cache: Cache) -> None:
    cache.put(KEY, [b"code"])
    entry_of(cache).unlink()
    Path(cache.directory).rmdir()
    assert cache.get(KEY) is None
    cache.put(KEY, [b"code"])  # finds out
    cache.put(KEY, [b"code"])
    assert cache.get(KEY) == [b"code"]


def test_size_and_clear(cache: Cache) -> None:
    assert cache.size() == 0
    cache.put(KEY, [b"x" * 1000])
    cache.put(OTHER, [b"y" * 2000])
    assert 3000 < cache.size() < 3500
    (Path(cache.directory) / "note").write_text("not the cache's")
    cache.clear()
    assert cache.size() == 0
    assert names_in(cache) == ["note"]


def test_least_recently_used_entries_go(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", limit=10_000)
    keys = [f"{i:064x}" for i in range(4)]
    for age, key in enumerate(keys[:3]):
        cache.put(key, [bytes(3000)])
        used = time.time() - 1000 + age
        os.utime(entry_of(cache, key), (used, used))
    assert cache.get(keys[0]) is not None  # now the most recent one
    cache.put(keys[3], [bytes(3000)])
    assert [cache.get(key) is not None for key in keys] == [True, False, False, True]
    assert cache.size() <= 10_000


def test_what_is_larger_than_the_cache_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", limit=1000)
    cache.put(KEY, [b"small"])
    cache.put(OTHER, [bytes(1000)])
    assert cache.get(KEY) == [b"small"]
    assert cache.get(OTHER) is None


def test_abandoned_files_go(cache: Cache) -> None:
    cache.put(KEY, [b"code"])
    old, new = (Path(cache.directory) / f"{OTHER}.{name}.tmp" for name in ("0123456789abcdef", "fedcba9876543210"))
    for path in (old, new):
        path.write_bytes(b"part of an entry")
    os.utime(old, (0, 0))
    cache.put(KEY, [b"code"])
    assert not old.exists() and new.exists()
    assert cache.size() == entry_of(cache).stat().st_size


def test_directory_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("WASMLOOM_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_directory() == "/home/somebody/.cache/wasmloom"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored
    assert default_directory() == "/home/somebody/.cache/wasmloom"
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert default_directory() == "/var/cache/wasmloom"
    monkeypatch.setenv("WASMLOOM_CACHE_DIR", str(tmp_path / "mine"))
    assert default_directory() == str(tmp_path / "mine")
    assert Cache().directory == str(tmp_path / "mine")


def test_keys_tell_everything_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    key = cache_key("module", {"level": 2, "native": True})
    assert key == cache_key("module", {"native": True, "level": 2})
    Cache("/nowhere").get(key)
    others = {
        cache_key("modulf", {"level": 2, "native": True}),
        cache_key("module", {"level": 3, "native": True}),
        cache_key("module", {"level": 2, "native": None}),
        cache_key("module", {}),
    }
    for name in ("engine_identity", "llvm_identity", "machine_identity"):
        with monkeypatch.context() as patch:
            patch.setattr(cache_module, name, lambda: "another")
            others.add(cache_key("module", {"level": 2, "native": True}))
    assert len(others) == 7 and key not in others


def test_identities() -> None:
    assert cache_module.llvm_identity()
    assert "sse2" in cache_module.machine_identity()
    assert cache_module.engine_identity() == cache_module.engine_identity()


def test_nothing_is_compiled_once_the_files_of_the_engine_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this process has loaded would go into the cache as what the new files make."""
    assert is_at_rest()  # earlier tests' guests may still be compiled
    monkeypatch.setenv("WASMLOOM_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(identity, "_now", lambda: "another version")
    module = wl.Module('(module (func (export "one") (result i32) (i32.const 1)))', wl.Engine(tier="auto"))
    with pytest.raises(wl.CompileError, match="files have changed"):
        module.compile()
    with pytest.raises(wl.CompileError, match="files have changed"):
        module.begin_behind([])(lambda: False)(module)
    assert wl.Instance(module).exports.one() == 1
    assert not list(tmp_path.rglob("*.*"))
    # What they look at may not load what they are there to avoid.
    program = (
        "import sys; from wasmloom.compiler import cache; cache.cache_key('', {}); print('llvmlite' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


WRITER = """
import sys
from wasmloom.compiler.cache import Cache
cache = Cache(sys.argv[1], limit=400_000)
mine = sys.argv[2].encode()
for i in range(200):
    key = f"{i % 10:064x}"
    cache.put(key, [mine * 5000, str(i).encode(), mine * 20000])
    found = cache.get(f"{(i * 7) % 10:064x}")
    if found is not None:
        first, number, last = found
        assert len(set(first + last)) == 1 and len(first) == 5000 and len(last) == 20000, "mixed up"
        assert int(number) % 10 == (i * 7) % 10
    if i % 50 == 49:
        cache.clear()
"""


def test_concurrent_writers(tmp_path: Path) -> None:
    """Processes that write, read, evict and clear the same entries only ever see whole ones."""
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "c"), name], stderr=subprocess.PIPE)
        for name in "abcd"
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=300)
        assert writer.returncode == 0, errors.decode()
    cache = Cache(tmp_path / "c")
    assert not [name for name in names_in(cache) if name.endswith(".tmp")]
    assert cache.size() <= 400_000 + 4 * 25_200  # what was written last by each is exempt from its own eviction


def test_marks_say_that_there_may_be_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WASMLOOM_CACHE_DIR", str(tmp_path / "c"))
    assert not may_have_whole(5)
    cache = Cache()
    cache.note_whole(5)  # there is no directory, and nothing in it
    assert not may_have_whole(5)
    cache.put(KEY, [b"code"])
    cache.note_whole(5)
    assert may_have_whole(5) and not may_have_whole(6)
    cache.clear()
    assert not may_have_whole(5) and os.listdir(cache.directory) == []
