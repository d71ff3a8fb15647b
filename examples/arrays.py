"""NumPy over a guest's memory: the guest computes on arrays that the host fills and reads, without a copy.

    python examples/arrays.py        (needs numpy)
"""

from __future__ import annotations

from typing import Any

import numpy as np

import wasmloom as wl

MODULE = """
(module
  (memory (export "memory") 1)
  ;; values[i] = values[i] * factor + offset, for `count` floats at `address`
  (func (export "scale") (param $address i32) (param $count i32) (param $factor f64) (param $offset f64)
    (loop $next
      (if (i32.eqz (local.get $count)) (then (return)))
      (f64.store (local.get $address)
        (f64.add (f64.mul (f64.load (local.get $address)) (local.get $factor)) (local.get $offset)))
      (local.set $address (i32.add (local.get $address) (i32.const 8)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br $next))))
"""


class Arrays:
    """Arrays in a guest's memory."""

    def __init__(self, engine: wl.Engine | None = None) -> None:
        self._exports: Any = wl.Instance(wl.Module(MODULE, engine)).exports
        self._memory: wl.Memory = self._exports.memory
        self._end = 0

    def new(self, count: int) -> tuple[int, np.ndarray[Any, np.dtype[np.float64]]]:
        """Room for floats: its address in the guest, and an array over it.

        Memory that has grown is at the same place (see `wl.Engine`), so arrays stay good. But they keep their length.
        """
        address, self._end = self._end, self._end + 8 * count
        missing = self._end - len(self._memory)
        if missing > 0:
            self._memory.grow(-(-missing // 65536))
        return address, np.frombuffer(memoryview(self._memory), dtype=np.float64, count=count, offset=address)

    def scale(self, address: int, count: int, factor: float, offset: float) -> None:
        """Let the guest work on an array."""
        self._exports.scale(address, count, factor, offset)


def main() -> None:
    """Scale a million numbers."""
    arrays = Arrays()
    address, values = arrays.new(1_000_000)
    values[:] = np.linspace(0, 1, len(values))
    arrays.scale(address, len(values), 100.0, 1.0)
    print(values.min(), values.mean().round(6), values.max())


if __name__ == "__main__":
    main()
