"""The C programs in `examples`: compiled to WebAssembly they print what they print natively."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import wasmloom as wl
from wasmloom.tiers.change import change_soon
from wasmloom.wasi import Wasi

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def load_build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("examples_build", EXAMPLES / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = load_build()


class Program:
    """An example in both forms."""

    def __init__(self, wasm: Path, native: Path) -> None:
        self.wasm, self.native = wasm, native
        self.module = wl.Module.from_file(wasm)

    def same(self, *args: str, stdin: bytes = b"", folder: Path | None = None) -> tuple[int, str]:
        """Run both with the same arguments; `folder` is what the guest may read. The status and output of both."""
        native = subprocess.run([self.native, *args], input=stdin, capture_output=True, check=False)
        out, errors = io.BytesIO(), io.BytesIO()
        preopens = {str(folder): folder} if folder is not None else {}
        with Wasi(args=[self.wasm.stem, *args], stdin=stdin, stdout=out, stderr=errors, preopens=preopens) as wasi:
            status = wasi.run(self.module)
        assert out.getvalue() == native.stdout
        assert errors.getvalue() == native.stderr
        assert status == native.returncode
        return status, out.getvalue().decode()


@pytest.fixture(scope="session")
def program(request: pytest.FixtureRequest) -> Callable[[str], Program]:
    """Compiles an example; what didn't change since the last run is kept."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("needs the package 'ziglang' to compile C to WebAssembly")
    made: dict[str, Program] = {}

    def get(name: str) -> Program:
        if name not in made:
            sources = (EXAMPLES / f"{name}.c").read_bytes() + (EXAMPLES / "build.py").read_bytes()
            folder = request.config.cache.mkdir(f"examples-{hashlib.sha256(sources).hexdigest()[:16]}")
            wasm, native = folder / f"{name}.wasm", folder / name
            if not wasm.exists():
                build.build_wasm(name, folder)
            if not native.exists():
                try:
                    build.build_native(name, folder)
                except build.BuildError as error:
                    if "there is no C compiler" in str(error):
                        pytest.skip(str(error))
                    raise
            made[name] = Program(wasm, native)
        return made[name]

    return get


def test_compute(program: Callable[[str], Program]) -> None:
    status, output = program("compute").same()
    assert status == 0
    assert "sha256() = e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" in output
    assert "17984 primes" in output
    assert program("compute").same("0")[0] == 2


def test_wordcount(program: Callable[[str], Program], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat and the dog\nand the bird\n")
    (tmp_path / "b.txt").write_text("The end.")
    (tmp_path / "big.txt").write_text("word" + " lorem ipsum dolor" * 20_000)
    wordcount = program("wordcount")
    status, output = wordcount.same("-n", "2", f"{tmp_path}/a.txt", f"{tmp_path}/b.txt", folder=tmp_path)
    assert status == 0
    assert output.splitlines()[1:] == ["      4 the", "      2 and"]
    status, output = wordcount.same("-n", "4", str(tmp_path), folder=tmp_path)
    assert status == 0 and "  20000 lorem" in output
    assert wordcount.same(f"{tmp_path}/missing", f"{tmp_path}/a.txt", folder=tmp_path)[0] == 1
    assert wordcount.same()[0] == 2


def test_wordcount_sees_nothing_else(program: Callable[[str], Program], tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_text("secret")
    (inside / "link").symlink_to("../secret")
    out, errors = io.BytesIO(), io.BytesIO()
    args = ["wordcount", "/data/../secret", "/data/link", "/etc/passwd"]
    with Wasi(args=args, stdout=out, stderr=errors, preopens={"/data": inside}) as wasi:
        assert wasi.run(program("wordcount").module) == 1
    assert errors.getvalue().count(b"wordcount: ") == 3
    assert b"secret" not in out.getvalue()


def test_calculator(program: Callable[[str], Program]) -> None:
    lines = ["x = 3", "y = x * (2 + 4.5) / 7", "y", "sqrt(y) - -x", "", "list"]
    lines += [f"v{i * 37 % 500} = {i} / 7 + v{(i - 1) * 37 % 500}" if i else "v0 = 1e-3" for i in range(500)]
    lines += ["list", "repeat 20000 some words", "v499"]
    calculator = program("calculator")
    status, output = calculator.same(stdin="\n".join(lines).encode())
    assert status == 0
    assert "3: 2.785714286" in output
    assert "502 variables" in output
    status, output = calculator.same(stdin=b"1 + (2\nnope\n3 4\n")
    assert status == 1
    status, output = calculator.same(stdin=b"1\nfail 42\n2\n")
    assert (status, output) == (42, "1: 1\nleaving\n")


@pytest.mark.parametrize("name", ["compute", "calculator"])
def test_they_go_on_as_machine_code_anywhere(program: Callable[[str], Program], name: str) -> None:
    """On-stack replacement after so many turns of loops, wherever the program stands then."""
    engine = wl.Engine(tier="auto", threshold=1 << 30)
    module = wl.Module.from_file(program(name).wasm, engine)
    stdin = b"x = 3\ny = x * (2 + 4.5) / 7\nlist\nrepeat 2000 some words\nsqrt(y) - -x\n"
    native = subprocess.run([program(name).native], input=stdin, capture_output=True, check=False)
    changed = 0
    for after in (0, 1, 7, 50, 300, 2000, 15_000, 100_000):
        store = wl.Store(engine)
        out = io.BytesIO()
        with Wasi(args=[name], stdin=stdin, stdout=out, stderr=io.BytesIO()) as wasi:
            instance = wasi.instantiate(module, store=store)
            change_soon(store, after)
            assert (wasi.start(instance), out.getvalue()) == (native.returncode, native.stdout), after
        assert store.change_failed is None
        changed += store.tier_name == "compiler"
    assert changed > 3


def test_the_command_runs_them(program: Callable[[str], Program], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("one two two")
    command = [sys.executable, "-m", "wasmloom", "run", "--dir", f"{tmp_path}::/texts"]
    done = subprocess.run(
        [*command, str(program("wordcount").wasm), "/texts/text"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "0 lines, 3 words (2 different), 11 bytes\n      2 two\n      1 one\n"
    done = subprocess.run(
        [*command, str(program("calculator").wasm)],
        input="2 * 21\nfail 3\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "1: 42\nleaving\n")


def test_every_program_has_a_test() -> None:
    text = Path(__file__).read_text()
    assert all(f'program("{name}")' in text for name in build.PROGRAMS)
