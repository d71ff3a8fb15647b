"""Random type sections, most of them invalid: wasmloom and the `wasmtime` package judge them alike.

    python -m tests.fuzz.type_sections --count 10000 --seed 1

Valid ones, with recursive groups, supertypes and final types, are changed in a few places.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import wasmloom as wl
from tests.fuzz.choices import Choices
from tests.fuzz.objects import ObjectTypes, reference_to
from wasmloom.binary.encoder import encode_module
from wasmloom.spec.module import ModuleSyntax
from wasmloom.spec.types import (
    ANYREF,
    FUNCREF,
    I8,
    I32,
    I64,
    ArrayType,
    FieldType,
    FuncType,
    StructType,
    SubType,
    ValType,
    ref_type,
)


class Sections:
    """Makes type sections."""

    def __init__(self, choices: Choices) -> None:
        self.c = choices
        self.groups = [list(group) for group in ObjectTypes(choices, choices.chance(30)).groups]
        for group in self.groups:
            if choices.chance(30):
                params = tuple(self.value() for _ in range(choices.below(3)))
                group.append(SubType(FuncType(params, (self.value(),)), (), choices.chance(50)))
        for _ in range(choices.pick((1, 0, 2, 3, 6))):
            self.change()

    @property
    def count(self) -> int:
        return sum(map(len, self.groups))

    def value(self) -> ValType:
        """A value type; its index may be a little too large."""
        c = self.c
        chosen = c.pick((I32, I64, ANYREF, FUNCREF, reference_to(c.below(self.count + 1))))
        return ref_type(chosen.heap, False) if chosen.is_ref and c.chance(30) else chosen

    def field(self, old: FieldType) -> FieldType:
        """A field in the place of another."""
        how = self.c.below(3)
        if how == 0:
            return old._replace(mutable=not old.mutable)
        if how == 1 and old.storage.is_ref:
            return old._replace(storage=ref_type(old.storage.heap, not old.storage.is_nullable))
        return old._replace(storage=self.c.pick((self.value(), I8)))

    def change(self) -> None:
        """Change something."""
        c = self.c
        group = c.pick(self.groups)
        at = c.below(len(group))
        sub = group[at]
        how = c.below(6)
        if how == 0:
            group[at] = sub._replace(supers=(c.below(self.count + 1),) if c.chance(80) else ())
        elif how == 1:
            group[at] = sub._replace(final=not sub.final)
        elif how == 2:
            group[at] = sub._replace(composite=self.composite(sub))
        elif how == 3 and len(group) > 1:
            other = c.below(len(group))
            group[at], group[other] = group[other], group[at]
        elif how == 4 and len(group) > 1:
            where = self.groups.index(group)
            self.groups[where : where + 1] = [group[:at] or [sub], group[at:]]
        elif how == 5:
            where = self.groups.index(group)
            self.groups[where : where + 2] = [[sub for some in self.groups[where : where + 2] for sub in some]]

    def composite(self, sub: SubType) -> StructType | ArrayType | FuncType:
        """A composite type that is a little different."""
        c, old = self.c, sub.composite
        if isinstance(old, StructType):
            fields = list(old.fields)
            how = c.below(3)
            if how == 0 and fields:
                at = c.below(len(fields))
                fields[at] = self.field(fields[at])
            elif how == 1 and fields:
                del fields[c.below(len(fields))]
            else:
                fields.insert(c.below(len(fields) + 1), FieldType(self.value(), c.chance(50)))
            return StructType(tuple(fields))
        if isinstance(old, ArrayType):
            return ArrayType(self.field(old.field)) if c.chance(80) else StructType((old.field,))
        assert isinstance(old, FuncType)
        return FuncType((*old.params, self.value()), old.results) if c.chance(50) else FuncType((), (self.value(),))

    def module(self) -> bytes:
        """A module with nothing but these types."""
        syntax = ModuleSyntax()
        syntax.rec_groups = [tuple(group) for group in self.groups]
        return encode_module(syntax)


def verdict(data: bytes) -> str | None:
    """What wasmloom has against a module, or None."""
    try:
        wl.Module(data)
    except wl.WasmError as error:
        return str(error)
    return None


class Peer:
    """The wasmtime package."""

    def __init__(self) -> None:
        import wasmtime

        config = wasmtime.Config()
        for feature in ("function_references", "gc"):
            setattr(config, f"wasm_{feature}", True)
        self.wasmtime, self.engine = wasmtime, wasmtime.Engine(config)

    def verdict(self, data: bytes) -> str | None:
        """What it has against a module, or None."""
        try:
            self.wasmtime.Module.validate(self.engine, data)
        except self.wasmtime.WasmtimeError as error:
            return str(error)
        return None


def differences(cases: range, seed: int) -> Iterator[tuple[int, str | None, str | None, bytes]]:
    """Cases whose verdicts differ: number, what wasmloom says, what wasmtime says, the module. Last, number -1 and
    counts of valid and invalid ones."""
    peer = Peer()
    counts = [0, 0]
    for case in cases:
        data = Sections(Choices(f"{seed}:{case}")).module()
        own, other = verdict(data), peer.verdict(data)
        counts[own is not None] += 1
        if (own is None) != (other is None):
            yield case, own, other, data
    yield -1, f"{counts[0]} valid", f"{counts[1]} invalid", b""


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    status = 0
    for case, own, other, data in differences(range(args.count), args.seed):
        print(f"case {case}: wasmloom: {own}; wasmtime: {other} {data.hex()}")
        status |= case >= 0
    return status


if __name__ == "__main__":
    sys.exit(main())
