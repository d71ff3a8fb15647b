"""A program with plugins in WebAssembly, which it needn't trust.

    python examples/plugins.py FOLDER TEXT...

Each ``.wasm`` or ``.wat`` file of the folder is a plugin. It exports ``memory``, ``allocate(size) -> address`` and
``transform(address, length) -> address`` (of a result that ends with a zero byte), and may import ``host.log``. Every
plugin has a store of its own, so none can touch another, and what one does wrong ends that plugin alone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import wasmloom as wl

#: What a plugin may use: seconds for a call, and bytes.
TIMEOUT = 0.5
MEMORY = 16 << 20


class PluginError(Exception):
    """A plugin is no plugin, or has done something wrong."""


@wl.takes_caller
def log(caller: wl.Caller, address: int, length: int) -> None:
    """What plugins import: prints a text of the plugin that calls."""
    memory = caller.get("memory")
    if not isinstance(memory, wl.Memory):
        raise PluginError("a plugin exports its memory")
    text = memory.read(address & 0xFFFF_FFFF, length & 0xFFFF_FFFF)
    print(f"[{caller.module.name or 'plugin'}] {text.decode(errors='replace')}")


class Plugin:
    """One plugin, ready to be called."""

    def __init__(self, path: Path, engine: wl.Engine | None = None) -> None:
        self.name = path.stem
        try:
            module = wl.Module.from_file(path, engine)
            store = wl.Store(engine, timeout=TIMEOUT, memory_limit=MEMORY)
            self._exports: Any = wl.Instance(module, {"host": {"log": log}}, store=store).exports
        except (wl.WasmError, PluginError, IndexError) as error:
            raise PluginError(f"{self.name}: {error}") from error
        wanted = {"memory": wl.Memory, "allocate": wl.Func, "transform": wl.Func}
        missing = [name for name, kind in wanted.items() if not isinstance(self._exports.get(name), kind)]
        if missing:
            raise PluginError(f"{self.name} doesn't export {', '.join(missing)}")

    def transform(self, text: str) -> str:
        """What the plugin makes of a text. Raises `PluginError`."""
        data = text.encode()
        memory: wl.Memory = self._exports.memory
        try:
            address = self._exports.allocate(len(data)) & 0xFFFF_FFFF
            memory.write(address, data)
            start = self._exports.transform(address, len(data)) & 0xFFFF_FFFF
            result, end, _ = memory.read(start, len(memory) - start).partition(b"\0")
            if not end:
                raise PluginError("the result has no end")
            return result.decode()
        except (wl.WasmError, PluginError, IndexError, TypeError, UnicodeDecodeError) as error:
            raise PluginError(f"{self.name}: {error}") from error


def load(folder: Path, engine: wl.Engine | None = None) -> list[Plugin]:
    """The plugins of a folder. Those that are none are reported, and left out."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix in (".wasm", ".wat"):
            try:
                found.append(Plugin(path, engine))
            except PluginError as error:
                print(f"error: {error}", file=sys.stderr)
    return found


def main(folder: str, *texts: str) -> None:
    """Let all plugins of a folder transform texts, one after the other."""
    plugins = load(Path(folder))
    for text in texts:
        for plugin in plugins:
            try:
                text = plugin.transform(text)
            except PluginError as error:
                print(f"error: {error}", file=sys.stderr)
        print(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
