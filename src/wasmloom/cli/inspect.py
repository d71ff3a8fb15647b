"""`wasmloom inspect`: the parts of a module, and the code of its functions."""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from wasmloom.cli.common import (
    Command,
    CommandError,
    add_stack_switching,
    errors_name,
    function_names,
    make_engine,
    to_binary,
)
from wasmloom.cli.snapshots import is_snapshot, show
from wasmloom.messages import printable, quoted, two_level

#: Names of sections by id (Core 3.0, 5.5.2).
SECTIONS: tuple[str, ...] = (
    "custom",
    "type",
    "import",
    "function",
    "table",
    "memory",
    "global",
    "export",
    "start",
    "element",
    "code",
    "data",
    "data count",
    "tag",
)


#: Instructions that catch exceptions, and what is said of them.
EXCEPTIONS = {"try": "old (try)", "try_table": "new (try_table)"}


def sections(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Id, start of the contents and size in bytes of each section of a well-formed module."""
    position = 8
    while position < len(data):
        section = data[position]
        position += 1
        size = shift = 0
        while True:
            byte = data[position]
            position += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield section, position, size
        position += size


def find_function(decoded: Any, text: str) -> int:
    """The index of a function given by index, name or export. Raises `CommandError` when there is none."""
    total = decoded.num_imported_funcs + len(decoded.body_starts)
    if text.isdecimal():
        if int(text) < total:
            return int(text)
        raise CommandError(f"there is no function {text}: the module has {total}")
    for export in decoded.exports:
        if export.kind == "func" and export.name == text:
            return int(export.index)
    for index, name in function_names(decoded).items():
        if name == text:
            return index
    raise CommandError(f"there is no function named {quoted(text)}")


def _describe(decoded: Any, kind: str, index: int) -> str:
    """The type of an item of an index space."""
    from wasmloom.host.types import describe
    from wasmloom.spec.canon import func_type

    if kind == "func":
        return describe(kind, func_type(decoded.func_type_ids[index]))
    if kind == "memory":
        return describe(kind, decoded.memories[index])
    type_of = {"table": decoded.table_type, "global": decoded.global_type, "tag": decoded.tag_type}
    return describe(kind, type_of[kind](index))


def _print_summary(path: str, data: bytes, decoded: Any) -> None:
    print(f"{printable(path)}: {len(data)} bytes")
    if decoded.index_names.module is not None:
        print(f"name: {printable(decoded.index_names.module)}")
    print("sections:")
    customs = iter(decoded.custom_ranges)
    for section, start, size in sections(data):
        label = SECTIONS[section] + (f' "{printable(next(customs).name)}"' if section == 0 else "")
        print(f"  {label:24} at 0x{start:06x}  {size:9} bytes")
    print(f"imports: {len(decoded.imports)}")
    counts: Counter[str] = Counter()
    for wanted in decoded.imports:
        print(f"  {two_level(wanted.module, wanted.name)}: {_describe(decoded, wanted.kind, counts[wanted.kind])}")
        counts[wanted.kind] += 1
    print(f"exports: {len(decoded.exports)}")
    for offered in decoded.exports:
        print(f"  {printable(offered.name)}: {_describe(decoded, offered.kind, offered.index)}")


def _print_exceptions(decoded: Any) -> None:
    """Print which instructions for exceptions the functions have, if they have some."""
    from wasmloom.compiler.bodies import mnemonics
    from wasmloom.errors import CompileError

    try:
        found = mnemonics(decoded)
    except CompileError:  # something is wrong with a body: that isn't what was asked
        return
    kinds = [text for mnemonic, text in EXCEPTIONS.items() if mnemonic in found]
    if kinds or "throw" in found:
        print(f"exceptions: {' and '.join(kinds) or 'thrown only'}")


def _print_functions(decoded: Any) -> None:
    total = len(decoded.body_starts)
    print(f"functions: {total}, {decoded.num_imported_funcs} imported")
    names = function_names(decoded)
    for i, (start, end) in enumerate(zip(decoded.body_starts, decoded.body_ends, strict=True)):
        index = decoded.num_imported_funcs + i
        print(f"  {index:6} at 0x{start:06x} {end - start:8} bytes  {printable(names.get(index, ''))}".rstrip())


def _print_function(decoded: Any, index: int, names: dict[int, str]) -> int:
    """Print what a function is; returns its number among those defined in the module, negative for imports."""
    first: int = decoded.num_imported_funcs
    name = f" {printable(names[index])}" if index in names else ""
    print(f"function {index}{name}: {_describe(decoded, 'func', index)}")
    if index < first:
        print("  imported")
    else:
        start, end = decoded.body_starts[index - first], decoded.body_ends[index - first]
        print(f"  body at 0x{start:06x}, {end - start} bytes")
    return index - first


def _local_at(module: Any, number: int) -> Callable[[int], str | None]:
    """What the local in a slot of a function is called, by its name or its index; None: there is none."""
    decoded = module.decoded
    index = decoded.num_imported_funcs + number
    state = module.code_space.state_at(index, decoded.body_starts[number])
    named = decoded.index_names.locals.get(index, {})
    names = {
        place.slot: printable(f"${named[i]}") if i in named else f"local {i}" for i, place in enumerate(state.locals)
    }
    return names.get


def _if_compiled(view: Callable[[int], str]) -> Callable[[int], str]:
    """The same, but of a function that is too large for the compiler the reason."""
    from wasmloom.errors import UnsupportedError

    def text(number: int) -> str:
        try:
            return view(number)
        except UnsupportedError as error:
            return f"  not compiled: {error}"

    return text


def _views(
    data: bytes,
    names: dict[int, str],
    bytecode: bool,
    assembly: bool,
    llvm: bool,
    tier: str = "compiler",
    **options: str | None,
) -> list[Callable[[int], str]]:
    """What makes texts of functions defined in a module, by number. Raises what `Module` raises."""
    from wasmloom import Module

    views: list[Callable[[int], str]] = []
    if not (bytecode or assembly or llvm):
        return views
    copied = assembly and tier == "baseline"
    module = Module(data, make_engine(tier="baseline" if copied else "interpreter", **options))
    if bytecode:
        from wasmloom.interpreter.disassembler import disassemble

        views.append(lambda number: disassemble(module.code_space, number))
    if assembly or llvm:
        from wasmloom.compiler.identity import require_llvm

        require_llvm()
    if copied:
        from wasmloom.baseline.listing import code_listing

        views.append(lambda number: code_listing(module.code_space, number, _local_at(module, number)))
        assembly = False
    if assembly or llvm:
        from wasmloom.cli.machine_code import MachineCode

        code = MachineCode(module.decoded, module.engine.code_options(), names)
        if llvm:
            views.append(_if_compiled(code.ir))
        if assembly:
            views.append(_if_compiled(code.assembly))
    return views


def inspect(
    file: str,
    functions: bool,
    bytecode: bool,
    assembly: bool,
    llvm: bool,
    chosen: str | None,
    tier: str,
    **options: str | None,
) -> int:
    """Show the sections, imports and exports of a module, binary or text; or the code of its functions.

    Of a snapshot, show what it has of instances, memories and open files.
    """
    from wasmloom.binary.decoder import decode_module

    data = to_binary(file)
    if is_snapshot(data):
        return show(file, data)
    with errors_name(file):
        decoded = decode_module(data)
        if chosen is None and not (bytecode or assembly or llvm):
            _print_summary(file, data, decoded)
            _print_exceptions(decoded)
            if functions:
                _print_functions(decoded)
            return 0
        first = decoded.num_imported_funcs
        indices = (
            [find_function(decoded, chosen)] if chosen is not None else range(first, first + len(decoded.body_starts))
        )
        names = function_names(decoded)
        views = _views(data, names, bytecode, assembly, llvm, tier, **options)
        for index in indices:
            number = _print_function(decoded, index, names)
            if number >= 0:
                for view in views:
                    print(view(number))
    return 0


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--functions", action="store_true", help="List the functions.")
    parser.add_argument("--bytecode", action="store_true", help="Print what functions become in the interpreter.")
    parser.add_argument("--assembly", action="store_true", help="Print functions as machine code, in assembly.")
    parser.add_argument(
        "--tier",
        choices=["baseline", "compiler"],
        default="compiler",
        help="Whose machine code --assembly prints: with baseline, below the bytecode (default: compiler).",
    )
    parser.add_argument("--llvm", action="store_true", help="Print the LLVM IR that the compiler makes of functions.")
    parser.add_argument("--func", "--function", dest="chosen", metavar="NAME|INDEX", help="Only this function.")
    add_stack_switching(parser)
    parser.add_argument("file", metavar="FILE")


COMMANDS = {"inspect": Command("Show what a module or a snapshot consists of.", "FILE", inspect, _add_arguments)}
