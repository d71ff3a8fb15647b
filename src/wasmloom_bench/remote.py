"""Contenders in processes of their own: V8, and engines that may take their process down with them.

A process runs one module. It is driven by lines of JSON and measures itself, so that neither its start nor the way
there and back counts; ``drivers/v8.mjs`` describes the commands. When it ends unexpectedly, what it said last is the
reason that is reported.
"""

from __future__ import annotations

import base64
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from wasmloom_bench.harness import Clock, Guest, Imports, Unsupported, WrongAnswer

DRIVERS = Path(__file__).resolve().parent / "drivers"

#: V8's flag for the stack-switching instructions.
STACK_SWITCHING = "--experimental-wasm-wasmfx"

#: Seconds after which a call is given up.
PATIENCE = 120.0


class RemoteTrap(Exception):
    """The guest trapped."""


def _stop(process: subprocess.Popen[bytes], errors: IO[bytes], folder: tempfile.TemporaryDirectory[str]) -> None:
    """End a process of ours and forget what it needed."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, errors):
        if stream is not None:
            stream.close()
    folder.cleanup()


class Process:
    """A driver. It ends with this object."""

    def __init__(
        self,
        command: Sequence[str],
        patience: float | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._patience = PATIENCE if patience is None else patience
        self._folder = tempfile.TemporaryDirectory()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
        )
        self._end = weakref.finalize(self, _stop, self._process, self._errors, self._folder)

    def file(self, data: bytes) -> str:
        """A temporary file with `data`, for the driver to read."""
        path = Path(self._folder.name) / "module.wasm"
        path.write_bytes(data)
        return str(path)

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for its reply.

        Raises `RemoteTrap` when the guest trapped, `harness.Unsupported` when the command failed, the process ended or
        took longer than its patience, by default `PATIENCE`.
        """
        sent, received = self._process.stdin, self._process.stdout
        if sent is None or received is None or sent.closed:
            raise Unsupported("its process has ended")
        try:
            sent.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            sent.flush()
        except BrokenPipeError:
            raise self._ended() from None
        if not select.select([received], [], [], self._patience)[0]:
            self._end()
            raise Unsupported(f"takes longer than {self._patience:g} seconds")
        line = received.readline()
        if not line:
            raise self._ended()
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise RemoteTrap(reply["error"]) if reply["trap"] else Unsupported(reply["error"])
        return reply

    def _ended(self) -> Unsupported:
        """Why the process isn't there any more."""
        status = self._process.wait()
        self._errors.seek(0)
        said = [line.strip("# ") for line in self._errors.read().decode(errors="replace").splitlines()]
        lines = [line for line in said if line]
        self._end()
        how = f"status {status}" if status >= 0 else signal.Signals(-status).name
        # A fatal error comes before a backtrace; its message may be on the next line.
        fatal = [i for i, line in enumerate(lines) if "fatal" in line.lower() or "panicked" in line]
        words = " ".join(lines[fatal[0] : fatal[0] + 2] if fatal else lines[-2:])
        words = re.sub(r"thread \S+ \(\d+\) panicked", "panicked", words)
        return Unsupported(f"its process ended ({how}): {words[:200]}")


class _Call:
    """An exported function with its arguments: something to time."""

    def __init__(self, guest: RemoteGuest, name: str, arguments: Sequence[Any]) -> None:
        params, self._results = guest.signature(name)
        if len(params) != len(arguments):
            raise TypeError(f"{name} takes {len(params)} arguments, not {len(arguments)}")
        self._process = guest.process
        typed = [[type, json.dumps(value)] for type, value in zip(params, arguments, strict=True)]
        self._command = {"name": name, "arguments": typed}

    def __call__(self) -> Any:
        reply = self._process.ask("call", count=1, **self._command)
        values = [
            float(text) if type in ("f32", "f64") else int(text)
            for type, text in zip(self._results, reply["results"], strict=True)
        ]
        return tuple(values) if len(values) > 1 else values[0] if values else None

    def timed(self, count: int) -> float:
        """Seconds of `count` calls, as the process measures them."""
        return float(self._process.ask("call", count=count, **self._command)["seconds"])


class _Function:
    """An exported function."""

    def __init__(self, guest: RemoteGuest, name: str) -> None:
        self._guest = guest
        self._name = name

    def prepared(self, *arguments: Any) -> _Call:
        """What `harness.prepared` asks for."""
        return _Call(self._guest, self._name, arguments)

    def __call__(self, *arguments: Any) -> Any:
        return self.prepared(*arguments)()


class RemoteGuest:
    """An instance in another process."""

    def __init__(self, process: Process, signatures: dict[str, tuple[list[str], list[str]]]) -> None:
        self.process = process
        self._signatures = signatures

    def signature(self, name: str) -> tuple[list[str], list[str]]:
        """The types of an exported function's parameters and results. Raises `KeyError`."""
        return self._signatures[name]

    def function(self, name: str) -> Callable[..., Any]:
        return _Function(self, name)

    def write(self, address: int, data: bytes) -> None:
        self.process.ask("write", address=address, data=base64.b64encode(data).decode())

    def read(self, address: int, size: int) -> bytes:
        return base64.b64decode(self.process.ask("read", address=address, size=size)["data"])


class _Compiled:
    """A module in a process; `seconds` is what compiling took, `size` what it made."""

    def __init__(self, process: Process, wasm: bytes) -> None:
        self.process = process
        reply = process.ask("compile", file=process.file(wasm))
        self.seconds: float = reply["seconds"]
        self.size: int | None = reply.get("size")


class _Program:
    """A WASI program to time."""

    def __init__(self, name: str, process: Process) -> None:
        self._name = name
        self._process = process

    def __call__(self) -> None:
        self.timed(1)

    def timed(self, count: int) -> float:
        """Seconds of `count` runs, each in a fresh instance. Raises `harness.WrongAnswer` when one fails."""
        taken = 0.0
        for _ in range(count):
            self._process.ask("instantiate", clocks=[], arguments=["program"])
            reply = self._process.ask("start")
            if reply["status"]:
                raise WrongAnswer(f"{self._name}: the program ended with status {reply['status']}")
            taken += reply["seconds"]
        return taken


def signatures(wasm: bytes) -> dict[str, tuple[list[str], list[str]]]:
    """Exported function → types of parameters and results."""
    from wasmloom.binary.decoder import decode_module
    from wasmloom.spec.canon import func_type

    decoded = decode_module(wasm)
    found = {}
    for export in decoded.exports:
        if export.kind == "func":
            params, results = func_type(decoded.func_type_ids[export.index])
            found[export.name] = ([str(t) for t in params], [str(t) for t in results])
    return found


class Remote:
    """An engine behind a driver, a process per module. Raises `harness.Unsupported` when the driver doesn't start."""

    trap: type[BaseException] = RemoteTrap

    def __init__(self, name: str, command: Sequence[str], warm_up: float = 0, patience: float | None = None) -> None:
        self.name = name
        self.warm_up = warm_up
        #: Seconds after which a call is given up, None for `PATIENCE`.
        self.patience = patience
        self._command = list(command)
        reply = self._start().ask("hello")
        self.version: str = reply["version"]
        #: What the driver measures with.
        self.clock: str = reply["clock"]

    def _start(self) -> Process:
        return Process(self._command, self.patience)

    def compile(self, wasm: bytes) -> _Compiled:
        return _Compiled(self._start(), wasm)

    def compile_seconds(self, wasm: bytes) -> float:
        """How long compiling takes in a fresh process, by its own clock: elapsed time."""
        return self.compile(wasm).seconds

    def code_size(self, module: object) -> int | None:
        return module.size if isinstance(module, _Compiled) else None

    def instantiate(self, wasm: bytes, imports: Imports | None = None, module: object = None) -> Guest:
        """As `harness.Engine` says; the only imports that can be given are a `harness.Clock`."""
        clocks = []
        for (space, name), (_, _, function) in (imports or {}).items():
            if not isinstance(function, Clock):
                raise Unsupported(f"can't call {space}.{name}, which is a Python function")
            clocks.append([space, name, function.haste])
        compiled = module if isinstance(module, _Compiled) else self.compile(wasm)
        compiled.process.ask("instantiate", clocks=clocks, arguments=[])
        return RemoteGuest(compiled.process, signatures(wasm))

    def program(self, wasm: bytes) -> _Program:
        return _Program(self.name, self.compile(wasm).process)


def node_command(node: str | None = None) -> str:
    """The executable of Node.js: `node`, else what the environment variable WASMLOOM_NODE says, or the one on PATH.

    Raises `harness.Unsupported` when there is none.
    """
    found = node or os.environ.get("WASMLOOM_NODE") or shutil.which("node")
    if found is None:
        raise Unsupported("no node on PATH; name one with --node or WASMLOOM_NODE, or use --install-peers")
    return found


class V8(Remote):
    """V8 in Node.js. Raises `harness.Unsupported` when there is none, or when it doesn't know a flag.

    `node`: the executable, see `node_command`.
    """

    def __init__(
        self, node: str | None = None, flags: Sequence[str] = (), warm_up: float = 0, name: str = "V8"
    ) -> None:
        found = node_command(node)
        try:
            super().__init__(name, [found, "--no-warnings", *flags, str(DRIVERS / "v8.mjs")], warm_up)
        except OSError as error:
            raise Unsupported(f"{found}: {error.strerror}") from error
        except Unsupported as error:
            hint = f" (Node.js 26 knows {STACK_SWITCHING}: npm package node)" if STACK_SWITCHING in flags else ""
            raise Unsupported(f"{error}{hint}") from error


class Isolated(Remote):
    """A contender of `contenders` in processes of its own: its class, and the keyword arguments for that.

    `python`: another interpreter, in whose environment another version of the engine is installed. `path`: a folder
    with another build of it. Both get this package, whatever they have.
    """

    def __init__(
        self,
        kind: str,
        title: str | None = None,
        warm_up: float = 0,
        python: str | None = None,
        path: str | None = None,
        **options: Any,
    ) -> None:
        command = [python or sys.executable, str(DRIVERS / "python.py"), kind, json.dumps(options)]
        self._environment: dict[str, str] | None = None
        if python is not None or path is not None:
            # A folder with this package and nothing else, so that the engine comes from elsewhere.
            self._place = tempfile.TemporaryDirectory()
            (Path(self._place.name) / "wasmloom_bench").symlink_to(DRIVERS.parent)
            self._end = weakref.finalize(self, self._place.cleanup)
            found = os.pathsep.join([self._place.name, *([path] if path else [])])
            self._environment = os.environ | {"PYTHONPATH": found, "WASMLOOM_BENCH_PATH": found}
        super().__init__(title or kind, command, warm_up)

    def _start(self) -> Process:
        return Process(self._command, self.patience, self._environment)
