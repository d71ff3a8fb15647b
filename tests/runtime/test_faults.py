"""The fault handler: guest faults become traps, all others go where they went before; in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

SETUP = """
import ctypes, faulthandler, os, signal, sys, threading
import wasmloom as wl
module = wl.Module('''(module (import "e" "host" (func $host)) (memory 1)
  (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "late") (param i32) (local $n i64) (call $host) (local.set $n (i64.const 10_000_000))
    (loop $l  ;; for some ticks: a division takes a while in any tier
      (local.set $n (i64.div_u (local.get $n) (global.get $one)))
      (br_if $l (i64.ne (local.tee $n (i64.sub (local.get $n) (i64.const 1))) (i64.const 0))))
    (drop (i32.load (local.get 0))))
  (global $one (mut i64) (i64.const 1))
  (func (export "call") (call $host)))''')
def make():
    return wl.Instance(module, {"e": {"host": lambda: HOST()}}).exports
def trap(exports):
    try:
        exports.load(1 << 20)
    except wl.Trap as error:
        assert error.code == "out of bounds memory access"
        os.write(1, b"trap\\n")
def crash():
    ctypes.string_at(8)
libc = ctypes.CDLL(None)
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SETUP + script], capture_output=True, text=True, check=False, timeout=300
    )


def test_traps() -> None:
    done = run("exports = make()\nfor _ in range(3): trap(exports)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "trap\n" * 3, "")


def test_traps_in_threads() -> None:
    done = run("""
exports = make()
threads = [threading.Thread(target=lambda: [trap(make()) for _ in range(20)]) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "trap\n" * 80, "")


def test_a_real_crash_still_kills() -> None:
    done = run("trap(make())\ncrash()")
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGSEGV, "trap\n", "")


def test_a_crash_in_a_host_function_kills() -> None:
    done = run("HOST = crash\nexports = make()\ntrap(exports)\nexports.call()")
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "trap\n")


@pytest.mark.parametrize(
    "kill",
    ["os.kill(os.getpid(), signal.SIGSEGV)", "getattr(libc, 'raise')(11)", "signal.raise_signal(signal.SIGSEGV)"],
)
def test_a_signal_from_outside_kills(kill: str) -> None:
    done = run(f"trap(make())\n{kill}\nprint('survived')")
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "trap\n")


def test_a_signal_from_a_host_function_kills() -> None:
    done = run("HOST = lambda: signal.raise_signal(signal.SIGSEGV)\nmake().call()\nprint('survived')")
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "")


def test_an_ignored_signal_stays_ignored() -> None:
    done = run("""
signal.signal(signal.SIGSEGV, signal.SIG_IGN)
trap(make())
os.kill(os.getpid(), signal.SIGSEGV)
print("alive", flush=True)
crash()
""")
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "trap\nalive\n")


def test_faulthandler_before() -> None:
    done = run("faulthandler.enable()\nexports = make()\nfor _ in range(3): trap(exports)\ncrash()")
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "trap\n" * 3)
    assert done.stderr.count("Fatal Python error: Segmentation fault") == 1
    assert "in crash" in done.stderr


def test_faulthandler_after_the_first_instance() -> None:
    done = run("trap(make())\nfaulthandler.enable()\nexports = make()\nfor _ in range(3): trap(exports)\ncrash()")
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "trap\n" * 4)
    assert done.stderr.count("Fatal Python error: Segmentation fault") == 1


def test_faulthandler_right_before_the_fault() -> None:
    """It may report the guest's fault, since it comes first, but the guest traps and the process goes on."""
    done = run("exports = make()\ntrap(exports)\nfaulthandler.enable()\nfor _ in range(3): trap(exports)")
    assert (done.returncode, done.stdout) == (0, "trap\n" * 4)
    assert done.stderr.count("Fatal Python error") <= 1


def test_faulthandler_after_the_ticker_parked() -> None:
    done = run("""
import time
from wasmloom.runtime.guests import ticker_is_parked
exports = make()
trap(exports)
faulthandler.enable()
while not ticker_is_parked():
    time.sleep(0.01)
trap(exports)
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "trap\n" * 2, "")


def test_faulthandler_disabled_again() -> None:
    done = run("exports = make()\nfaulthandler.enable()\nmake()\nfaulthandler.disable()\ntrap(exports)\ncrash()")
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "trap\n")
    done = run("faulthandler.enable()\nexports = make()\nfaulthandler.disable()\ntrap(make())\ncrash()")
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "trap\n")


def test_handlers_that_go_while_guests_are_busy() -> None:
    """The next tick's call, and a call that runs for long, put ours in front again."""
    done = run("""
from wasmloom.runtime.guests import tick_count
def busy():  # short calls, until there has been a tick
    before = tick_count()
    while tick_count() <= before + 1:
        exports.call()
HOST = int
faulthandler.enable()
exports = make()
for _ in range(3):
    exports.call()
    faulthandler.disable()
    busy()
    trap(exports)
    faulthandler.enable()
    busy()
    trap(exports)
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    busy()
    trap(exports)
HOST = lambda: signal.signal(signal.SIGSEGV, signal.SIG_DFL) and None
exports.late(1 << 20)
""")
    assert (done.returncode, done.stdout) == (1, "trap\n" * 9), done.stderr
    assert done.stderr.count("out of bounds memory access") == 1 and "Fatal" not in done.stderr


def test_faulthandler_many_times() -> None:
    done = run("""
for _ in range(30):
    faulthandler.enable()
    trap(make())
    faulthandler.disable()
    trap(make())
faulthandler.enable()
make()
crash()
""")
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "trap\n" * 60)
    assert done.stderr.count("Fatal Python error") == 1


@pytest.mark.parametrize("flags", ["SA_SIGINFO", "0", "SA_RESETHAND", "SA_NODEFER"])
def test_other_handlers_get_what_they_would_have_got(flags: str) -> None:
    """A handler in C (through ctypes) that repairs the fault by jumping nowhere: it makes the page accessible."""
    done = run(f"""
SA_SIGINFO, SA_NODEFER, SA_RESETHAND = 4, 0x40000000, 0x80000000
class Sigaction(ctypes.Structure):
    _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_ulong * 16), ("flags", ctypes.c_uint),
        ("restorer", ctypes.c_void_p)]
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
page = libc.mmap(None, 4096, 0, 0x22, -1, 0)
seen = []
@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
def handler(number, info, context):
    seen.append(number)
    libc.mprotect(page, 4096, 3)
action = Sigaction(ctypes.cast(handler, ctypes.c_void_p).value, flags={flags})
assert libc.sigaction(signal.SIGSEGV, ctypes.byref(action), None) == 0
exports = make()
trap(exports)
libc.memset(ctypes.c_void_p(page), 7, 1)
print(seen, ctypes.string_at(page, 1), flush=True)
trap(exports)
""")
    assert (done.returncode, done.stdout) == (0, "trap\n[11] b'\\x07'\ntrap\n"), done.stderr
