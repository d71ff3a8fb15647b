"""Run code that a language model has written, in a guest, with tools that it may call.

    python examples/agent.py python.wasm 'print(tool("add", a=40, b=2))'

The guest is CPython for WASI (``python.wasm``), or any other program that reads a script from its arguments and talks
by lines: a line of JSON on its standard output that begins with ``TOOL`` is a call of a tool, the next line of its
standard input is the answer. Tools are ``async def`` functions. While one runs, the guest waits and the event loop goes
on, so one thread serves many guests.

The guest sees no files, no network, no environment. It may use so much memory, and may compute for so long; whatever it
does, it can do no more than call the tools.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import wasmloom as wl

Tools = Mapping[str, Callable[..., Awaitable[Any]]]

#: What a script finds in the guest.
PRELUDE = """
import json, sys
def tool(name, **arguments):
    print("TOOL", json.dumps({"name": name, "arguments": arguments}), flush=True)
    answer = json.loads(sys.stdin.readline())
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["result"]
"""


class Outcome(NamedTuple):
    """How a script has ended: its exit status (None: it was stopped), what it has printed, and why it was stopped."""

    status: int | None
    output: str
    reason: str | None = None


class _Output:
    """The guest's standard output: lines for tools go to them, all others are kept."""

    def __init__(self, tools: Tools, answers: asyncio.StreamReader) -> None:
        self.lines: list[str] = []
        self._tools = tools
        self._answers = answers
        self._rest = b""

    @property
    def text(self) -> str:
        """What was printed, without the calls of tools."""
        return "\n".join([*self.lines, self._rest.decode(errors="replace")])

    async def write(self, data: bytes) -> None:
        """Take what the guest writes; it waits meanwhile."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"TOOL "):
                self._answers.feed_data(json.dumps(await self._call(line[5:])).encode() + b"\n")
            else:
                self.lines.append(line.decode(errors="replace"))

    async def _call(self, request: bytes) -> dict[str, Any]:
        # Nothing that comes from the guest is trusted.
        try:
            wanted = json.loads(request)
            return {"result": await self._tools[wanted["name"]](**wanted["arguments"])}
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}


async def run(
    program: wl.Module,
    args: list[str],
    tools: Tools,
    *,
    timeout: float = 5.0,
    memory: int = 256 << 20,
    stack: int = 16 << 20,
) -> Outcome:
    """Run a program with a script. `timeout`: seconds between two calls of tools; `memory` and `stack`: bytes."""
    answers = asyncio.StreamReader()
    output = _Output(tools, answers)
    store = wl.Store(program.engine, timeout=timeout, memory_limit=memory, stack_limit=stack)
    with wl.Wasi(args=args, stdin=answers, stdout=output, stderr=output) as wasi:
        try:
            status = await wasi.run_async(program, store=store)
        except wl.Trap as trap:
            return Outcome(None, output.text, trap.code)
    return Outcome(status, output.text)


async def add(a: float, b: float) -> float:
    """A tool: the sum of two numbers."""
    return a + b


async def main(path: str, script: str) -> int:
    """Run a script in CPython."""
    outcome = await run(wl.Module.from_file(path), ["python", "-c", PRELUDE + script], {"add": add}, timeout=60)
    print(outcome.output, end="")
    if outcome.reason is not None:
        print(f"stopped: {outcome.reason}", file=sys.stderr)
    return 1 if outcome.status is None else outcome.status


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
