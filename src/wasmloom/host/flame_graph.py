"""Flame graphs: stacks as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from zlib import crc32

#: Of the picture and of a row, in pixels; and what a letter takes.
_WIDTH, _ROW, _LETTER = 1200, 18, 7
#: What is narrower isn't shown.
_LEAST = 0.5


class _Node:
    """A function below certain callers: its samples, and the functions that it has called."""

    __slots__ = ("called", "weight")

    def __init__(self) -> None:
        self.weight = 0
        self.called: dict[str, _Node] = {}


def flame_graph(stacks: Mapping[tuple[str, ...], int], title: str) -> str:
    """An SVG picture. Each box is a function, as wide as its samples are many, on the box of its caller."""
    root = _Node()
    for stack, weight in stacks.items():
        node = root
        node.weight += weight
        for name in stack:
            node = node.called.setdefault(name, _Node())
            node.weight += weight
    boxes: list[tuple[int, float, float, str, int]] = []
    scale = _WIDTH / max(root.weight, 1)
    waiting = [(root, 0, 0.0)]
    while waiting:
        node, depth, x = waiting.pop()
        for name, child in sorted(node.called.items()):
            width = child.weight * scale
            if width >= _LEAST:
                boxes.append((depth, x, width, name, child.weight))
                waiting.append((child, depth + 1, x))
            x += width
    height = (max((box[0] for box in boxes), default=0) + 3) * _ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="100%" role="img" '
        f'font-family="monospace" font-size="12">\n<rect width="{_WIDTH}" height="{height}" fill="#fff"/>\n'
        f'<text x="4" y="{_ROW - 5}">{escape(title)}: {root.weight} samples</text>\n'
    ]
    for depth, x, width, name, weight in boxes:
        y = height - (depth + 1) * _ROW
        said = escape(f"{name}: {weight} samples, {weight / root.weight:.1%}")
        room = int((width - 6) / _LETTER)
        shown = name if len(name) <= room else name[: room - 1] + "…" if room > 3 else ""
        parts.append(
            f'<g><title>{said}</title><rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{_ROW - 1}" '
            f'fill="{_colour(name)}" stroke="#fff" stroke-width="0.5"/>'
            + (f'<text x="{x + 3:.2f}" y="{y + _ROW - 5}">{escape(shown)}</text>' if shown else "")
            + "</g>\n"
        )
    return "".join([*parts, "</svg>\n"])


def _colour(name: str) -> str:
    """Light enough for black letters; the same for the same function in every picture."""
    mixed = crc32(name.encode("utf-8", "surrogatepass"))
    if name.startswith("["):
        return f"hsl({200 + mixed % 20},45%,{72 + (mixed >> 8) % 12}%)"
    return f"hsl({15 + mixed % 40},85%,{66 + (mixed >> 8) % 14}%)"
