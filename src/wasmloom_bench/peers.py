"""Who can take part: a row for each contender, with what makes it, and where registries have it.

``--install-peers`` puts those that are missing into a folder of its own, where they are looked for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wasmloom_bench import contenders, native, remote
from wasmloom_bench.harness import Unsupported


def default_folder() -> Path:
    """Where peers are installed: below XDG_CACHE_HOME, or ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "wasmloom-bench" / "peers"


@dataclass
class Settings:
    """How contenders are made. `warm_up`: seconds for what makes code while a program runs."""

    folder: Path = field(default_factory=default_folder)
    node: str | None = None
    warm_up: float = 2.0

    def add_packages(self) -> None:
        """Let Python packages be found that were installed as peers, here and in processes that are started.

        Those of the environment come first here.
        """
        path = str(self.folder / "python")
        if not Path(path).is_dir():
            return
        if path not in sys.path:
            sys.path.append(path)
        known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if path not in known:
            os.environ["PYTHONPATH"] = os.pathsep.join([each for each in known if each] + [path])

    def node_command(self) -> str | None:
        """The Node.js to use: the one asked for, else the installed one, else what `remote.node_command` finds."""
        own = self.folder / "node_modules" / ".bin" / "node"
        return self.node or os.environ.get("WASMLOOM_NODE") or (str(own) if own.exists() else None)

    def command(self, *names: str) -> str:
        """The executable of a peer, which has one of these names. Raises `harness.Unsupported`."""
        for name in names:
            own = self.folder / "bin" / name
            found = str(own) if own.exists() else shutil.which(name)
            if found is not None:
                return found
        raise Unsupported(f"no {names[0]} on PATH; --install-peers builds it with cargo")


@dataclass(frozen=True)
class Peer:
    """A contender: `make` gives an engine and raises `ImportError` or `harness.Unsupported`.

    `package`: registry ("pip", "npm", "cargo") and name, where it can be installed from.
    """

    name: str
    about: str
    make: Callable[[Settings], Any]
    package: tuple[str, str] | None = None


def _ours(tier: str) -> Callable[[Settings], Any]:
    return lambda settings: contenders.Wasmloom(
        tier, tier=tier, warm_up=settings.warm_up if tier in contenders.WARMING else 0
    )


def _v8(name: str, *flags: str) -> Callable[[Settings], Any]:
    return lambda settings: remote.V8(settings.node_command(), flags, settings.warm_up, name)


def _pywasm(settings: Settings) -> Any:
    found = remote.Isolated("Pywasm", "pywasm")
    found.patience = settings.warm_up + 1  # it is some thousand times as slow as the others
    return found


#: All contenders that run modules call by call, ours first.
PEERS = {
    peer.name: peer
    for peer in (
        Peer("interpreter", "wasmloom's interpreter", _ours("interpreter")),
        Peer("baseline", "wasmloom's baseline tier", _ours("baseline")),
        Peer("compiler", "wasmloom's optimising compiler", _ours("compiler")),
        Peer("auto", "wasmloom as it is by default: interpreter, then baseline, then compiler", _ours("auto")),
        Peer("wasm3", "an interpreter in C", lambda _: contenders.Wasm3(), ("pip", "pywasm3")),
        Peer(
            "Pulley", "Wasmtime's interpreter", lambda _: contenders.Wasmtime(interpreted=True), ("pip", "wasmtime"),
        ),
        Peer("pywasm", "an interpreter in Python", _pywasm, ("pip", "pywasm")),
        Peer(
            "Wasmtime", "Wasmtime with Cranelift, its compiler", lambda _: contenders.Wasmtime(), ("pip", "wasmtime"),
        ),
        Peer("Liftoff", "V8's baseline compiler, in Node.js", _v8("Liftoff", "--liftoff-only"), ("npm", "node")),
        Peer("V8", "V8 as it is by default, in Node.js", _v8("V8"), ("npm", "node")),
        Peer("C", "the same sources without WebAssembly", lambda _: native.Native(), ("pip", "ziglang")),
        Peer("Python", "the same in plain Python", lambda _: native.Python()),
    )
}  # fmt: skip

#: Those that are commands, for whole programs: name → the registry's package, and what the command may be called.
COMMANDS = {
    "wasmi": (("cargo", "wasmi_cli"), ("wasmi", "wasmi_cli")),
    "Wasmtime command": (("cargo", "wasmtime-cli"), ("wasmtime",)),
}

#: Ours.
TIERS = contenders.TIERS


def packages(names: Iterable[str] = ()) -> dict[str, list[str]]:
    """Registry → packages, of all contenders or those named. Raises `ValueError` for a name that isn't one."""
    known = {name: peer.package for name, peer in PEERS.items()} | {name: each for name, (each, _) in COMMANDS.items()}
    names = list(names)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no contender {unknown[0]!r}; there are {', '.join(known)}")
    found: dict[str, list[str]] = {}
    for name, package in known.items():
        if package is not None and (not names or name in names):
            found.setdefault(package[0], [])
            if package[1] not in found[package[0]]:
                found[package[0]].append(package[1])
    if not names:
        found.setdefault("npm", []).append("binaryen")  # wasm-opt, for programs with asyncify
    return found


def install(folder: Path, names: Sequence[str] = (), tell: Callable[[str], None] = print) -> list[str]:
    """Install peers into `folder`, all or those named; returns what failed, and why.

    Raises `ValueError` for a name that isn't one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[str], list[str]]] = {
        "pip": lambda name: [
            sys.executable, "-m", "pip", "install", "-q", "--upgrade", "--target", str(folder / "python"), name
        ],
        "npm": lambda name: ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder), name],
        "cargo": lambda name: ["cargo", "install", "--quiet", "--locked", "--root", str(folder), name],
    }  # fmt: skip
    failed = []
    for registry, wanted in packages(names).items():
        for name in wanted:
            tell(f"{registry} install {name}")
            try:
                done = subprocess.run(makers[registry](name), capture_output=True, text=True, check=False)
            except OSError as error:
                failed.append(f"{name}: {registry}: {error.strerror}")
                continue
            if done.returncode:
                lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
                failed.append(f"{name}: {registry}: {lines[-1]}")
    return failed
