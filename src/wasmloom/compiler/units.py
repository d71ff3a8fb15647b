"""Compiles functions of a module: lowering, LLVM's passes, an object file.

A unit is what LLVM compiles at once: some functions of a module, as ``wf.<n>`` (n counts the functions defined in the
module), and in the first unit also ``wt.<type>``, which call compiled code of a function type with arguments in memory.
The loader resolves what a unit refers to in other units and in the runtime.

Debug information says where in the module calls, traps and accesses of guest memory come from: the "line" of a location
is the offset, the "column" tells marks from calls and traps (see `wasmloom.compiler.builder`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from wasmloom.compiler import call_lowering as _calls  # noqa: F401  (registers what lowers calls)
from wasmloom.compiler import control_lowering as _control  # noqa: F401  (registers what lowers blocks and branches)
from wasmloom.compiler import object_lowering as _objects  # noqa: F401  (the same of objects)
from wasmloom.compiler import stack_lowering as _stacks  # noqa: F401  (registers what lowers continuations)
from wasmloom.compiler import switching
from wasmloom.compiler.abi import UNIFORM_PROTOTYPE, UNIFORM_RESULT
from wasmloom.compiler.backends import chosen
from wasmloom.compiler.builder import FIRST_METADATA, METADATA, TAIL, array_call, constant_pool
from wasmloom.compiler.facts import Facts
from wasmloom.compiler.inlining import Inlining, inlining
from wasmloom.compiler.lines import SITE_STEP
from wasmloom.compiler.lowering import LONGEST_BLOCK, FunctionLowering, check_lowerings
from wasmloom.compiler.options import Options
from wasmloom.compiler.osr import OsrEntry, OsrLowering
from wasmloom.spec.types import FuncType
from wasmloom.target import backend

check_lowerings()

#: The optimisation level of LLVM's back end, and of its passes.
LEVEL = 2
#: LLVM's passes where code must be there soon, as its pipelines name them; else it runs those of `LEVEL`. What compiled
#: a program to Wasm has optimised it, so these only undo what lowering has done: variables become values, and what was
#: written for one instruction at a time is put together. Accesses to memory are neither removed nor moved anyway.
PASSES = (
    "always-inline",
    "sroa",
    "simplifycfg",
    "instcombine",
    "loop-rotate",
    "jump-threading",
    "simplifycfg",
    "instcombine",
)

#: Branches to one label, those of a `br_table` counted once, above which "instcombine" is left out: what is known of a
#: value that so many ways bring, it asks each way, for each use, about each condition that the value is in. A loop
#: around a `br_table` with 1000 cases took it 16 seconds, and all other passes 12 milliseconds.
MANY_WAYS = 200
_FEW_PASSES = tuple(name for name in PASSES if name != "instcombine")

#: What makes a function heavy: LLVM's passes and its back end take more than a fixed time for each instruction of it.
#: All functions of its unit are then compiled without passes, and by the back end that looks at one instruction after
#: the other (level 0), which takes a tenth of the time and grows with the size. Programs hardly have such functions:
#: this much text is some 250 KB of code. What is left in stack slots may keep references longer there.
HEAVY_TEXT = 10_000_000
#: From here on there are few passes: half of the time, and hardly slower code. It may well be what a program spends its
#: time in: CPython's interpreter is a function of 106 KB.
LARGE_TEXT = 3_000_000
#: No program needs so much text for each byte, but for a few instructions: it is heavy long before it is large.
HEAVY_RATE = 200
DENSE_TEXT = 1_000_000
#: Loops inside each other: passes look at each instruction once per loop around it.
HEAVY_DEPTH = 100
#: Blocks times variables: what has to be found where control flow joins.
HEAVY_JOINS = 20_000_000
#: Blocks, and lines of IR in one of them: instruction selection and register allocation take time with their square.
HEAVY_BLOCKS = 10_000
HEAVY_BLOCK = LONGEST_BLOCK
#: Branches to one label: the register allocator takes more than the square of them.
HEAVY_WAYS = 2000
#: Operands at the same time, the arguments of a call for instance, for the register allocator.
HEAVY_OPERANDS = 300

_FUNCTION_ATTRIBUTES = 'noinline nounwind uwtable "frame-pointer"="all" "no-builtins"'
_ATTRIBUTES = f"""\
attributes #0 = {{ {_FUNCTION_ATTRIBUTES} {backend.STACK_CHECK} "disable-tail-calls"="true" }}
attributes #1 = {{ nounwind willreturn memory(inaccessiblemem: readwrite) }}
attributes #2 = {{ noreturn nounwind cold nomerge }}
attributes #3 = {{ nounwind cold nomerge }}
attributes #4 = {{ {_FUNCTION_ATTRIBUTES} }}
attributes #5 = {{ nounwind }}
attributes #6 = {{ nounwind nomerge willreturn memory(argmem: readwrite, inaccessiblemem: readwrite) }}
attributes #7 = {{ nounwind nomerge }}"""

_DECLARATIONS = """\
declare void @wl_compiled_trap(ptr swiftself, i32) #2
declare preserve_mostcc void @wl_loop_interrupt(ptr) #3
declare { i64, i64, i64 } @wl_switch_call(i64, i64, i64, ptr, ptr) #5
declare void @wl_fiber_start()
declare i64 @wl_on_host(ptr, ptr, ptr, ptr, ptr, ptr) #5
@wl_runtime = external global [0 x ptr], align 8
@wl_type_ids = external constant [0 x i64], align 8"""


class Care(IntEnum):
    """How LLVM is to be spared: not at all, from passes that vectors are better off without, from those that take most
    of the time, from looking at what many ways bring, or from all that isn't needed.
    """

    NONE = 0
    VECTORS = 1
    LARGE = 2
    MANY_WAYS = 3
    HEAVY = 4


#: What is run instead of everything. LLVM's pipeline gives loops counters of 64 bits where it can (in "indvars"). An
#: address of 32 bits that is made of such a counter is then cut off again by an instruction; if it isn't, it is an
#: operand's displacement. Programs with vectors have several of these in short loops.
_PASSES = {Care.VECTORS: PASSES, Care.LARGE: PASSES, Care.MANY_WAYS: _FEW_PASSES, Care.HEAVY: PASSES[:1]}


class _Locations:
    """The debug locations of a unit."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._next = FIRST_METADATA
        self.file = self.add('!DIFile(filename: "module.wasm", directory: "")')
        self.unit = self.add(
            f"distinct !DICompileUnit(language: DW_LANG_C, file: {self.file}, emissionKind: LineTablesOnly)"
        )
        self.type = self.add("!DISubroutineType(types: !{})")

    def add(self, text: str) -> str:
        """A new node."""
        name = f"!{self._next}"
        self._next += 1
        self.lines.append(f"{name} = {text}")
        return name

    def function(self, name: str) -> _Scope:
        """The locations of a function."""
        node = self.add(
            f'distinct !DISubprogram(name: "{name}", file: {self.file}, type: {self.type}, unit: {self.unit}, '
            "spFlags: DISPFlagDefinition)"
        )
        return _Scope(self, node)

    def text(self) -> str:
        """All nodes."""
        flags = [self.add('!{i32 2, !"Debug Info Version", i32 3}'), self.add('!{i32 7, !"Dwarf Version", i32 5}')]
        return "\n".join(
            [*self.lines, f"!llvm.dbg.cu = !{{{self.unit}}}", f"!llvm.module.flags = !{{{', '.join(flags)}}}"]
        )


class _Scope:
    """Gives the metadata suffix of a location in a function, by offset in the module and site; -1 for the function
    itself."""

    def __init__(self, locations: _Locations, node: str) -> None:
        self._locations = locations
        self._node = node

    def __call__(self, offset: int, site: int) -> str:
        if offset < 0:
            return f" !dbg {self._node}"
        column = f"column: {SITE_STEP * site}, " if site else ""
        return f", !dbg {self._locations.add(f'!DILocation(line: {offset}, {column}scope: {self._node})')}"


def unit_text(facts: Facts, options: Options, functions: Sequence[int], first: bool) -> str:
    """The LLVM IR of a unit. Raises `UnsupportedError`."""
    return _unit(facts, options, functions, first)[0]


def _unit(facts: Facts, options: Options, functions: Sequence[int], first: bool) -> tuple[str, Care]:
    """The LLVM IR of a unit, and what its functions need."""
    locations = _Locations()
    sites = inlining(facts, options)
    lowerings = [FunctionLowering(facts, options, i, locations.function(f"wf.{i}"), sites) for i in functions]
    return _text(facts, lowerings, locations, sites, set(functions), first)


def _entry(facts: Facts, options: Options, entry: OsrEntry) -> tuple[str, Care]:
    """The LLVM IR of ``wo.<index>``, a function entered at a place (see `wasmloom.compiler.osr`), and what it needs."""
    locations = _Locations()
    sites = inlining(facts, options)
    lowering = OsrLowering(facts, options, locations.function(f"wo.{entry.function}"), entry, sites)
    return _text(facts, [lowering], locations, sites, set(), False)


def _care(lowering: FunctionLowering, lines: list[str]) -> Care:
    b = lowering.b
    module, index = lowering.facts.module, lowering.index
    size = sum(len(line) + 1 for line in lines)
    if (
        lowering.deepest > HEAVY_DEPTH
        or lowering.highest > HEAVY_OPERANDS
        or lowering.most_ways > HEAVY_WAYS
        or b.blocks > HEAVY_BLOCKS
        or max(b.longest, len(b.lines) - b.began) > HEAVY_BLOCK
        or len(lowering.locals) * b.blocks > HEAVY_JOINS
        or size > HEAVY_TEXT
        or (size > DENSE_TEXT and size > HEAVY_RATE * (module.body_ends[index] - module.body_starts[index]))
    ):
        return Care.HEAVY
    if lowering.most_ways > MANY_WAYS:
        return Care.MANY_WAYS
    return Care.LARGE if size > LARGE_TEXT else Care.NONE


def _text(
    facts: Facts,
    lowerings: Sequence[FunctionLowering],
    locations: _Locations,
    sites: Inlining | None,
    functions: set[int],
    first: bool,
) -> tuple[str, Care]:
    """The LLVM IR of some functions, and what they need; `functions`: which are defined under their own name."""
    parts = [_DECLARATIONS]
    definitions: set[str] = set()
    constants: set[tuple[str, int]] = set()
    declarations: dict[str, str] = {}
    search = False
    called: set[int] = set()
    care = Care.NONE
    with_vectors = without = 0
    for lowering in lowerings:
        lines = lowering.lower()
        care = max(care, _care(lowering, lines))
        if lowering.b.accesses_vectors:
            with_vectors += len(lines)
        else:
            without += len(lines)
        parts += lines
        definitions |= lowering.globals
        constants |= lowering.b.constants
        declarations.update(lowering.b.declarations)
        search |= lowering.uses_search
        called |= lowering.called
    for index in called.difference(functions):
        own = facts.function(facts.imported + index)
        uniform = facts.uniform[index]
        result, prototype = (UNIFORM_RESULT, UNIFORM_PROTOTYPE) if uniform else (own.result, own.prototype)
        parts.append(f"declare hidden {result} @wf.{index}({prototype})")
    if first:
        for index, composite in enumerate(facts.function_types):
            if isinstance(composite, FuncType) and facts.is_callable(index):
                parts += array_call(facts.signature(index), f"wt.{index}")
    if search:
        parts.append(switching.FIND_HANDLER)
    if "wl.tail" in declarations:
        parts.append(TAIL)
    parts += constant_pool(constants)
    if sites is not None:
        parts += sites.table()
    parts += [*sorted(definitions), *sorted(declarations.values()), _ATTRIBUTES, METADATA, locations.text()]
    if with_vectors > without:
        care = max(care, Care.VECTORS)
    return "\n".join(parts) + "\n", care


def _compiled(text: str, care: Care, options: Options, assembly: bool = False) -> bytes:
    """IR as an object file, or in assembly."""
    passes = _PASSES.get(care, PASSES if options.quick else None)
    return chosen().compile(text, passes, 0 if care == Care.HEAVY else LEVEL, assembly)


def compile_unit(
    facts: Facts, options: Options, functions: Sequence[int], first: bool, plainly: bool = False
) -> bytes:
    """The object file of a unit; `plainly`: as if it were heavy. Raises `UnsupportedError`."""
    text, care = _unit(facts, options, functions, first)
    return _compiled(text, Care.HEAVY if plainly else care, options)


def compile_entry(facts: Facts, options: Options, entry: OsrEntry, plainly: bool = False) -> bytes:
    """The object file of a function's entry at a place. Raises `UnsupportedError`."""
    text, care = _entry(facts, options, entry)
    return _compiled(text, Care.HEAVY if plainly else care, options)


def assembly(facts: Facts, options: Options, functions: Sequence[int]) -> str:
    """Some functions as compiled code, in assembly for people."""
    return _compiled(*_unit(facts, options, functions, False), options, True).decode()
