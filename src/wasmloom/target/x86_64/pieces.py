"""The order of a stencil's instructions: what goes on comes last, what is unlikely lies apart.

LLVM's assembly of a function is cut into blocks, which are put in another order; nothing within a block changes but
its last jump. This knows jumps and labels, and no other instruction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

_JUMP = re.compile(r"\tj(?P<how>[a-z]+)\t(?P<target>\S+)")
_LABEL = re.compile(r"(\.L\w+):")
_PLT = "@PLT"

#: A number that is loaded into a register: in 64 bits, or as if it were an address near by.
_LOAD = re.compile(r"\t(?:movabsq\t\$(?P<wide>[\w.+-]+)|leaq\t(?P<near>[\w.+-]+)\(%rip\)), (?P<to>%r\w+)")

_STACK = re.compile(r"%rsp\b|\t(?:push|pop|call|ret)[a-z]?\b")

#: Condition → the opposite one.
_OPPOSITE = {
    "e": "ne", "ne": "e", "l": "ge", "ge": "l", "g": "le", "le": "g", "b": "ae", "ae": "b", "a": "be", "be": "a",
    "s": "ns", "ns": "s", "o": "no", "no": "o", "p": "np", "np": "p",
}  # fmt: skip


def shorten(line: str, fits: Callable[[str], bool]) -> str:
    """The same instruction where it loads a number that fits 32 bits with a sign, with the number in 32 bits.

    LLVM doesn't always know that these are enough, or takes a number for an address.
    """
    load = _LOAD.fullmatch(line)
    if load is None:
        return line
    number = load["wide"] or load["near"]
    return f"\tmovq\t${number}, {load['to']}" if fits(re.split("[+-]", number)[0]) else line


def uses_stack(line: str) -> bool:
    """Whether an instruction uses or moves the stack pointer, otherwise than to return to who called the handler."""
    return _STACK.search(line) is not None and line.strip() not in ("ret", "retq")


class _Block(NamedTuple):
    label: str | None
    lines: list[str]

    def jumps(self) -> list[str]:
        """Where it jumps to; "*" stands for anywhere."""
        found = [_JUMP.match(line) for line in self.lines]
        return [match["target"].removesuffix(_PLT) for match in found if match]

    @property
    def ends(self) -> bool:
        """Whether nothing falls out of it."""
        last = _JUMP.match(self.lines[-1]) if self.lines else None
        return last is not None and last["how"].startswith("mp")


def _blocks(lines: Iterable[str]) -> list[_Block]:
    found = [_Block(None, [])]
    for line in lines:
        label = _LABEL.fullmatch(line)
        if label or (found[-1].ends and line):
            found.append(_Block(label[1] if label else None, []))
        if not label:
            found[-1].lines.append(line)
    return [block for block in found if block.lines or block.label]


def _cold(blocks: list[_Block], is_cold: Callable[[str], bool]) -> set[int]:
    """Blocks from which every way leads to where it is cold."""
    at = {block.label: i for i, block in enumerate(blocks) if block.label}
    cold = set(range(len(blocks)))
    changed = True
    while changed:
        changed = False
        for i in sorted(cold):
            ways = [at.get(target, target) for target in blocks[i].jumps()]
            if not blocks[i].ends:
                ways.append(i + 1)
            if any(way not in cold if isinstance(way, int) else not is_cold(way) for way in ways):
                cold.discard(i)
                changed = True
    return cold


def split(
    lines: Iterable[str], following: str, end: str, is_cold: Callable[[str], bool]
) -> tuple[list[str], list[str]]:
    """The lines of a function, without directives, as those that usually run and those that don't.

    The former fall through where the function goes on to `following`, as far as that can be; `end` is the name of their
    end, the latter jump there. `is_cold` says of a function whether calls of it are unlikely.
    """
    blocks = _blocks(lines)
    cold = _cold(blocks, is_cold)
    if 0 in cold:  # nothing else happens in it
        cold = set()
    # What falls through can't be parted from what it falls to: chains are moved as a whole.
    chains: list[list[_Block]] = [[]]
    for i, block in enumerate(blocks):
        if i in cold:
            continue
        if chains[-1] and chains[-1][-1].ends:
            chains.append([])
        chains[-1].append(block)
        if not block.ends and i + 1 in cold:  # falls into what now lies apart
            label = blocks[i + 1].label
            if label is None:
                raise ValueError("a function falls into what is unlikely, which has no label")
            block.lines.append(f"\tjmp\t{label}")
    last = next((chain for chain in reversed(chains) if _goes_on_to(chain[-1], following)), None)
    if last is not None and (last is not chains[0] or len(chains) == 1):  # a function begins with its first block
        chains.remove(last)
        chains.append(last)
    hot = [block for chain in chains for block in chain]
    _finish(hot[-1].lines, following)
    labels = {blocks[i].label or "" for i in cold}
    for block in hot:
        _turn(block.lines, labels)
    return _text(hot, following, end), _text([blocks[i] for i in sorted(cold)], following, end)


def _goes_on_to(block: _Block, following: str) -> bool:
    """Whether a block ends in a jump to what follows, or in such a conditional one and another jump."""
    jumps = [_JUMP.match(line) for line in block.lines[-2:]]
    last, before = jumps[-1], jumps[0] if len(jumps) > 1 else None
    if last is not None and last["target"] == following:
        return True
    return before is not None and before["target"] == following and before["how"] in _OPPOSITE


def _finish(lines: list[str], following: str) -> None:
    """Leave out the last jump where it leads to what comes next."""
    if lines[-1] == f"\tjmp\t{following}":
        lines.pop()
    elif len(lines) > 1:
        before, last = _JUMP.match(lines[-2]), _JUMP.match(lines[-1])
        if (
            before and last and before["target"] == following and last["how"] == "mp"
            and before["how"] in _OPPOSITE and not last["target"].startswith("*")
        ):  # fmt: skip
            lines[-2:] = [f"\tj{_OPPOSITE[before['how']]}\t{last['target']}"]


def _turn(lines: list[str], cold: set[str]) -> None:
    """Of two jumps at the end, the first one to what is unlikely: let the usual one be the conditional one."""
    if len(lines) < 2:
        return
    before, last = _JUMP.match(lines[-2]), _JUMP.match(lines[-1])
    if (
        before and last and before["target"] in cold and last["how"] == "mp"
        and before["how"] in _OPPOSITE and not last["target"].startswith("*")
    ):  # fmt: skip
        lines[-2:] = [f"\tj{_OPPOSITE[before['how']]}\t{last['target']}", f"\tjmp\t{before['target']}"]


def _text(blocks: list[_Block], following: str, end: str) -> list[str]:
    found = []
    for block in blocks:
        if block.label:
            found.append(f"{block.label}:")
        for line in block.lines:
            jump = _JUMP.match(line)
            found.append(line.replace(following, end) if jump and jump["target"] == following else line)
    return found
