"""Hostile programs of WASI: random calls in a file system that others change meanwhile.

    python -m tests.fuzz.world --seconds 900

A program exports every function of WASI; their arguments are mostly such that something happens: open descriptors,
paths that exist, places in memory. Between the calls, and in another thread during them, files, directories, links and
FIFOs appear, go and change places. Half of the calls are made from an event loop. The seed determines the calls, not
what the other thread does.

A call fails when it raises anything but what guests end with, when it takes much longer than the store's timeout, when
a descriptor of the host is left open, or when something outside of the guest's directory has changed or has been read.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import random
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from tests.wasi.guest import clock, wait_for
from wasmloom.errors import ExitStatus
from wasmloom.wasi import CALLS, MODULE_NAME, Errno, Wasi, call_type
from wasmloom.wasi.abi import NARROW, EventType

TIMEOUT = 0.02
#: A call that takes so many seconds hangs: machines are slow at times.
HANG_SECONDS = 10.0
SECRET = b"what no guest may see"
PAGES = 4
SIZE = PAGES << 16
NAMES = ("a", "b", "c", "d", "fifo", "link", "ä", "x" * 200, ".", "..")
#: Where programs have paths, vectors and subscriptions.
PATHS, VECTORS, SUBSCRIPTIONS, BUFFERS = 1024, 16384, 24576, 65536

Call = tuple[str, tuple[int, ...]]


def program() -> str:
    """A module that exports all functions of WASI as its own."""
    lines = []
    for name in CALLS:
        type = call_type(name)
        params = "".join(f" {kind}" for kind in type.params)
        results = "(result i32)" if type.results else ""
        lines.append(f'(import "{MODULE_NAME}" "{name}" (func ${name} (param{params}) {results}))')
    for name in CALLS:
        type = call_type(name)
        params = "".join(f" {kind}" for kind in type.params)
        gets = " ".join(f"(local.get {i})" for i in range(len(type.params)))
        results = "(result i32)" if type.results else ""
        lines.append(f'(func (export "{name}") (param{params}) {results} (call ${name} {gets}))')
    return f'(module {" ".join(lines)} (memory (export "memory") {PAGES}))'


class Caller:
    """Makes up calls."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.paths: list[tuple[int, int]] = []

    def path(self) -> bytes:
        """A path, mostly a short one."""
        choice = self.random
        text = "/".join(choice.choices(NAMES, k=choice.choice((1, 1, 1, 2, 2, 3, 6)))).encode()
        if choice.random() < 0.1:
            text += b"/"
        if choice.random() < 0.02:
            text = choice.choice((b"", b"/", b"a\0b", b"\xff", b"/" * 5000, b"a/" * 2000, b"../outside/secret"))
        return text

    def fill(self, memory: Any) -> None:
        """Put what calls may point to into the guest's memory."""
        choice = self.random
        self.paths = []
        at = PATHS
        while at < VECTORS - 5000:
            text = self.path()
            memory[at : at + len(text)] = text
            self.paths.append((at, len(text)))
            at += len(text) + 1
        for i in range(64):
            length = choice.choice((0, 1, 7, 100, 5000, SIZE - BUFFERS, SIZE, choice.randrange(1 << 32)))
            start = choice.choice((BUFFERS, BUFFERS, choice.randrange(SIZE), choice.randrange(1 << 32)))
            memory[VECTORS + 8 * i : VECTORS + 8 * i + 8] = NARROW.iovec.pack(start, length)
        for i in range(16):
            kind = choice.choice((EventType.FD_READ, EventType.FD_WRITE))
            some = (
                clock(i, choice.randrange(5), choice.choice((0, 10**6, 10**15)), choice.randrange(3)),
                wait_for(i, kind, choice.randrange(12)),
                choice.randbytes(48),
            )
            memory[SUBSCRIPTIONS + 48 * i : SUBSCRIPTIONS + 48 * i + 48] = choice.choices(some, (4, 4, 1))[0]

    def number(self, bits: int) -> int:
        """Any number, mostly a sensible one."""
        choice = self.random
        value = choice.choice(
            (
                choice.randrange(4),
                choice.randrange(64),
                BUFFERS,
                SIZE - choice.randrange(16),
                choice.randrange(1 << 13),
                choice.getrandbits(30),
                choice.getrandbits(bits),
            )
        )
        return value - (1 << bits) if value >> (bits - 1) else value

    def call(self) -> Call:
        """A function and its arguments."""
        choice = self.random
        name = choice.choice([*CALLS, "path_open", "path_open", "fd_read", "fd_write", "fd_readdir"])
        words = [self.number(64 if kind.endswith("64") else 32) for kind in CALLS[name].params]
        for i, kind in enumerate(CALLS[name].params):
            if kind == "fd" and choice.random() < 0.95:
                words[i] = choice.randrange(14) if choice.random() < 0.5 else 3
        if choice.random() < 0.9:
            if name.startswith("path_"):
                path, other = choice.choice(self.paths), choice.choice(self.paths)
                match name:
                    case "path_create_directory" | "path_remove_directory" | "path_unlink_file":
                        words[1:3] = path
                    case "path_symlink":
                        words = [*path, 3, *other]
                    case "path_rename":
                        words = [3, *path, 3, *other]
                    case "path_link":
                        words = [3, 0, *path, 3, *other]
                    case "path_open":
                        words = [words[0], 1, *path, choice.randrange(16), -1, -1, choice.choice((0, 0, 1, 4)), 256]
                    case _:
                        at = 1 + (name != "path_readlink")
                        words[at : at + 2] = path
            elif name in ("fd_read", "fd_write", "fd_pread", "fd_pwrite"):
                words[1:3] = [VECTORS + 8 * choice.randrange(32), choice.choice((1, 2, 32))]
                words[-1] = 256
                if len(words) == 5:
                    words[3] = choice.randrange(10000)
            elif name == "poll_oneoff":
                words = [SUBSCRIPTIONS + 48 * choice.randrange(8), BUFFERS, choice.randrange(1, 8), 256]
            elif name == "fd_readdir":
                words[1:] = [BUFFERS, choice.choice((10, 64, 500, 10000)), choice.choice((0, 0, words[3])), 256]
        if name == "fd_allocate" or name == "fd_filestat_set_size":  # disks aren't that large
            words[1:] = [abs(word) % (1 << 20) for word in words[1:]]
        if name in ("fd_pwrite",) and words[3] > 1 << 20:
            words[3] %= 1 << 20
        if name == "fd_close" and choice.random() < 0.99:
            words = [choice.randrange(4, 14)]
        if name == "fd_renumber" and choice.random() < 0.99:
            words = [choice.randrange(4, 14), choice.randrange(4, 14)]
        return name, tuple(words)


def change(folder: Path, choice: random.Random) -> None:
    """Change something in the guest's directory, as another process would; never outside, wherever links lead."""
    opened: list[int] = []
    try:
        for _ in range(2):
            opened.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
            if choice.random() < 0.3:
                opened[-1:] = [
                    os.open(choice.choice(NAMES[:-2]), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=opened[-1]),
                    opened[-1],
                ][::-1]
        here, there = opened[0], opened[-1]
        name, other = choice.choice(NAMES[:-2]), choice.choice(NAMES[:-2])
        match choice.randrange(10):
            case 0:
                os.mkdir(name, dir_fd=there)
            case 1:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_NOFOLLOW
                opened.append(os.open(name, flags, dir_fd=there))
                os.write(opened[-1], choice.randbytes(choice.choice((0, 10, 10000))))
            case 2:
                targets = ("../outside", "a", ".", "link", "..", "/etc", "../outside/secret")
                os.symlink(choice.choice(targets), name, dir_fd=there)
            case 3:
                os.mkfifo(name, dir_fd=there)
            case 4 | 5:
                os.rename(name, other, src_dir_fd=here, dst_dir_fd=there)
            case 6:
                os.unlink(name, dir_fd=there)
            case 7:
                os.rmdir(name, dir_fd=there)
            case 8:
                mode = choice.choice((os.O_RDONLY, os.O_WRONLY))
                opened.append(os.open(name, mode | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=there))
            case 9:
                opened.append(os.open(b"not \xff UTF-8", os.O_WRONLY | os.O_CREAT, dir_fd=there))
    except OSError:
        pass
    finally:
        for number in opened:
            os.close(number)


def outcome(call: Callable[[], Any]) -> str:
    """How a call has ended; raises what it must not end with."""
    try:
        code = call()
    except wl.Trap as trap:
        if trap.code != "timeout":
            raise
        return "timeout"
    except ExitStatus:
        return "exit"
    except TimeoutError:
        return "cancelled"
    return Errno(code).name


async def within(call: Any) -> Any:
    """Wait for a call as long as for one that a store limits."""
    async with asyncio.timeout(TIMEOUT):
        return await call


def fuzz(seconds: float, seed: int, tier: str, count: int | None = None) -> tuple[Counter[str], list[str]]:
    """Make random calls; gives how they ended, and what went wrong."""
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    caller = Caller(seed)
    choice = caller.random
    engine = engine_of(tier)
    module = wl.Module(program(), engine)
    end = time.monotonic() + seconds
    stop, changing = threading.Event(), threading.Lock()
    with tempfile.TemporaryDirectory() as root:
        folder, outside = Path(root, "inside"), Path(root, "outside")
        folder.mkdir()
        outside.mkdir()
        (outside / "secret").write_bytes(SECRET)

        def keep_changing() -> None:
            others = random.Random(seed + 1)
            while not stop.is_set():
                with changing:
                    change(folder, others)
                time.sleep(0.0005)

        thread = threading.Thread(target=keep_changing)
        thread.start()
        made = 0
        try:
            while time.monotonic() < end and (count is None or made < count):
                with changing:
                    before = len(os.listdir("/dev/fd"))
                read, write = os.pipe()
                streams: dict[str, Any] = {
                    "stderr": io.BytesIO(),
                    "stdin": choice.choice((read, b"some input", io.BytesIO(b"x"))),
                    "stdout": choice.choice((write, io.BytesIO())),
                }
                with Wasi(args=["p", "x"], env={"A": "b"}, preopens={"/": folder}, **streams) as wasi:
                    instance = wasi.instantiate(module, store=wl.Store(engine, timeout=TIMEOUT))
                    memory = instance.exports.memory
                    caller.fill(memory)
                    for _ in range(200):
                        name, words = caller.call()
                        if choice.random() < 0.1:
                            caller.fill(memory)
                        function = instance.exports[name]
                        begin = time.monotonic()
                        try:
                            if choice.random() < 0.5:
                                ended = outcome(lambda f=function, w=words: f(*w))
                            else:
                                ended = outcome(lambda f=function, w=words: asyncio.run(within(f.call_async(*w))))
                        except Exception:
                            failures.append(f"{name}{words}\n{traceback.format_exc()}")
                            ended = "failure"
                        if time.monotonic() - begin > HANG_SECONDS:
                            failures.append(f"{name}{words} took {time.monotonic() - begin:.1f} s")
                        outcomes[ended] += 1
                        made += 1
                        if SECRET in bytes(memory):
                            failures.append(f"{name}{words} has read what lies outside")
                            memory[:] = bytes(len(memory))
                os.close(read)
                os.close(write)
                with changing:
                    now = len(os.listdir("/dev/fd"))
                if now > before:
                    failures.append(f"descriptors are left open: {before} before, {now} now")
                if (outside / "secret").read_bytes() != SECRET or os.listdir(root) not in (
                    ["inside", "outside"],
                    ["outside", "inside"],
                ):
                    failures.append("something outside has changed")
                    break
                if len(failures) > 20:
                    break
        finally:
            stop.set()
            thread.join()
    return outcomes, failures


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tier", choices=tuple(ENGINES), default="auto")
    args = parser.parse_args()
    outcomes, failures = fuzz(args.seconds, args.seed, args.tier)
    for failure in failures:
        print(failure)
    print(", ".join(f"{name} {count}" for name, count in outcomes.most_common()))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
