"""A web server that runs a guest for each request, as CGI does: a new instance each time, which takes microseconds.

    python examples/web.py PROGRAM.wasm [PORT]

The program is a WASI command. It finds the request in its environment (``REQUEST_METHOD``, ``PATH_INFO``,
``QUERY_STRING``) and the body in its standard input; its standard output is the answer. Guests that wait don't hold up
others: all run in one event loop. One that takes too long, or too much memory, is answered by "500".
"""

from __future__ import annotations

import asyncio
import sys

import wasmloom as wl

#: What a request may use: seconds in the guest, seconds in all, bytes of memory, bytes of a body.
TIMEOUT = 1.0
PATIENCE = 10.0
MEMORY = 64 << 20
MOST = 1 << 20


async def answer(program: wl.Module, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    """Run the program for a request; returns a status and a body."""
    path, _, query = path.partition("?")
    output = bytearray()
    store = wl.Store(program.engine, timeout=TIMEOUT, memory_limit=MEMORY)
    env = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "CONTENT_LENGTH": str(len(body))}
    with wl.Wasi(args=["cgi"], env=env, stdin=body, stdout=output.extend, stderr=print) as wasi:
        try:
            async with asyncio.timeout(PATIENCE):
                status = await wasi.run_async(program, store=store)
        except (wl.WasmError, TimeoutError) as error:
            print(f"{method} {path}: {error}", file=sys.stderr)
            return 500, b"the guest was stopped\n"
    return (200, bytes(output)) if status == 0 else (500, b"the guest has failed\n")


class Server:
    """Speaks just enough HTTP to show guests at work. Put a real server in front of it."""

    def __init__(self, program: wl.Module) -> None:
        self._program = program

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        try:
            method, path, _ = (await reader.readline()).decode("latin-1").split(" ", 2)
            length = 0
            while (line := (await reader.readline()).decode("latin-1").strip()) != "":
                name, _, value = line.partition(":")
                if name.lower() == "content-length":
                    length = int(value)
            if not 0 <= length <= MOST:
                raise ValueError(f"a body of {length} bytes")
            status, body = await answer(self._program, method, path, await reader.readexactly(length))
        except (ValueError, asyncio.IncompleteReadError):
            status, body = 400, b"malformed request\n"
        writer.write(f"HTTP/1.1 {status} -\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    async def start(self, port: int) -> asyncio.Server:
        """Listen on this machine only."""
        return await asyncio.start_server(self.handle, "127.0.0.1", port)


async def main(path: str, port: str = "8080") -> None:
    """Serve a program until Ctrl-C."""
    server = await Server(wl.Module.from_file(path)).start(int(port))
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
