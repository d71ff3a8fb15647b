"""The Python programs in `examples`, with small guests of our own."""

from __future__ import annotations

import asyncio
import importlib.util
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

import wasmloom as wl
from tests.patience import PATIENCE, attempts

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def example(name: str) -> Any:
    """An example, as a module."""
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WASI = "\n".join(
    f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {params}) (result i32)))'
    for name, params in {
        "fd_write": "i32 i32 i32 i32",
        "fd_read": "i32 i32 i32 i32",
        "environ_get": "i32 i32",
        "environ_sizes_get": "i32 i32",
    }.items()
)


def echo(request: str, rest: str = "") -> str:
    """A program that writes a text, then what it reads; then it does `rest`."""
    data = request.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f"""(module {WASI}
      (memory (export "memory") 1)
      (data (i32.const 0) "\\40\\00\\00\\00\\{len(request):02x}\\00\\00\\00\\00\\02\\00\\00\\00\\02\\00\\00")
      (data (i32.const 64) "{data}")
      (func (export "_start")
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
        (drop (call $fd_read (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 12)))
        (drop (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 32)))
        {rest}))"""


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


@pytest.mark.parametrize(
    "request_text, answer",
    [
        ('TOOL {"name": "double", "arguments": {"number": 4}}\n', '{"result": 8}'),
        ('TOOL {"name": "none", "arguments": {}}\n', "KeyError"),
        ("TOOL nonsense\n", "JSONDecodeError"),
        ('TOOL {"name": "double", "arguments": {"x": 4}}\n', "TypeError"),
    ],
)
def test_agent(tier: str, request_text: str, answer: str) -> None:
    agent = example("agent")
    outcome = asyncio.run(agent.run(wl.Module(echo(request_text)), ["guest"], {"double": double}))
    assert outcome.status == 0 and answer in outcome.output and "TOOL" not in outcome.output


def test_agents_that_do_too_much() -> None:
    agent = example("agent")
    request = 'TOOL {"name": "double", "arguments": {"number": 4}}\n'

    async def run(rest: str, timeout: float = PATIENCE) -> Any:
        return await agent.run(wl.Module(echo(request, rest)), ["guest"], {"double": double}, timeout=timeout)

    async def both() -> Any:
        return await asyncio.gather(run("(loop (br 0))", 1.0), run("(unreachable)"), run(""))

    late, wrong, good = asyncio.run(both())
    assert (late.status, late.reason, late.output) == (None, "timeout", '{"result": 8}\n')
    assert wrong.reason == "unreachable" and good.status == 0


PLUGIN = """(module $shout
  (import "host" "log" (func $log (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "called")
  (func (export "allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "transform") (param $at i32) (param $n i32) (result i32) (local $end i32)
    (call $log (i32.const 8) (i32.const 6))
    (local.set $end (i32.add (local.get $at) (local.get $n)))
    (i32.store8 (local.get $end) (i32.const 33))
    (i32.store8 offset=1 (local.get $end) (i32.const 0))
    (local.get $at)))"""


def test_plugins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugins = example("plugins")
    plugins.TIMEOUT = 0.5
    (tmp_path / "a.wat").write_text(PLUGIN)
    (tmp_path / "b.wat").write_text(PLUGIN.replace("(local.get $at)))", "(loop (br 0)) (local.get $at)))"))
    (tmp_path / "c.wat").write_text(PLUGIN.replace("(i32.const 1024)", "(i32.const -1)"))
    (tmp_path / "d.wat").write_text(PLUGIN.replace('"transform"', '"other"'))
    (tmp_path / "e.wat").write_text("(module (func $f) (start $f)")
    (tmp_path / "f.txt").write_text("nothing")

    def is_right() -> bool:
        """A plugin may be out of time when this process stands still."""
        plugins.main(str(tmp_path), "hello")
        out, err = capsys.readouterr()
        assert "b: timeout" in err and "c: " in err and "d doesn't export transform" in err and "e: " in err
        return bool(out == "[shout] called\n[shout] called\nhello!\n")

    assert any(is_right() for _ in attempts())


def test_web() -> None:
    web = example("web")
    program = wl.Module(
        f"""(module {WASI}
          (memory (export "memory") 2)
          (func (export "_start")
            (drop (call $environ_sizes_get (i32.const 0) (i32.const 20)))
            (drop (call $environ_get (i32.const 1024) (i32.const 4096)))
            (i32.store (i32.const 0) (i32.const 4096))
            (i32.store (i32.const 4) (i32.load (i32.const 20)))
            (i32.store (i32.const 8) (i32.const 8192)) (i32.store (i32.const 12) (i32.const 1024))
            (drop (call $fd_read (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 12)))
            (if (i32.eq (i32.load8_u (i32.const 8192)) (i32.const 33)) (then (loop (br 0))))
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 2) (i32.const 32)))))"""
    )
    web.TIMEOUT = 1.0

    async def ask(port: int, body: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"POST /path?x=1 HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = (await reader.read()).decode()
        writer.close()
        return answer

    async def run() -> list[str]:
        server = await web.Server(program).start(0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return list(await asyncio.gather(ask(port, "hello"), ask(port, "!"), ask(port, "")))

    good, stopped, empty = asyncio.run(run())
    assert good.startswith("HTTP/1.1 200") and good.endswith("hello")
    assert "PATH_INFO=/path\0QUERY_STRING=x=1\0" in good
    assert stopped.startswith("HTTP/1.1 500") and "stopped" in stopped
    assert empty.startswith("HTTP/1.1 200")


def test_generators(tier: str, capsys: pytest.CaptureFixture[str]) -> None:
    example("generators").main()
    assert capsys.readouterr().out == "6 3 10 5 16 8 4 2 1\na3 b1 c2 a2 c1 a1\n"


def test_arrays(tier: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("numpy", reason="needs numpy")
    example("arrays").main()
    assert capsys.readouterr().out == "1.0 51.0 101.0\n"


def test_cluster() -> None:
    """What its workers do, here; and there, where Dask is."""
    cluster = example("cluster")
    ready = cluster.template()
    assert [cluster.in_a_fork(ready, below) for below in (10, 100, 1000)] == [4, 25, 168]
    guest, found = ready, []
    for _ in range(5):
        prime, guest = cluster.step(pickle.loads(pickle.dumps(guest)))
        found.append(prime)
    assert found == [2, 3, 5, 7, 11]


@pytest.mark.slow
def test_cluster_on_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES))  # workers import it by its name
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import cluster

    with distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        inputs = list(range(2, 1002))
        answers = cluster.count_all(client, inputs)
        assert [answers[8], answers[98], answers[998], len(answers)] == [4, 25, 168, 1000]
        assert cluster.walk(client, 6) == [2, 3, 5, 7, 11, 13]
