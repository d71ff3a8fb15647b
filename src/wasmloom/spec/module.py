"""The abstract syntax of a module: what the text parser makes, the binary encoder writes and the decoder reads.

Concrete heap types hold type *indices* here. Function bodies and constant expressions stay in the binary format
(locals, instructions, `end`), which is the one representation of code that the engine has.

Source: Core 3.0, section 2.5.
"""

from __future__ import annotations

from typing import NamedTuple

from wasmloom.spec.types import GlobalType, MemoryType, SubType, TableType, TagType, ValType

ExternType = int | TableType | MemoryType | GlobalType | TagType
"""What an import asks for: a function's type index, or the type of a table, memory, global or tag."""


class Import(NamedTuple):
    """An import: two-level name, kind (one of `EXTERN_KINDS`) and type.

    `exact`: a function must have that type, and none below it (custom descriptors).
    """

    module: str
    name: str
    kind: str
    type: ExternType
    exact: bool = False


class ImportGroup(NamedTuple):
    """Imports from one module that share its name in the binary format (compact import section proposal).

    They are `count` from `first` on. `alike`: they also share their type.
    """

    first: int
    count: int  # type: ignore[assignment]  # hides the tuple's method, which nothing calls
    alike: bool


class Export(NamedTuple):
    """An export: name, kind (one of `EXTERN_KINDS`) and index in that kind's index space."""

    name: str
    kind: str
    index: int  # type: ignore[assignment]  # hides the tuple's method, which nothing calls


class Table(NamedTuple):
    """A table with its initialiser, an expression ending in `end` (None: null)."""

    type: TableType
    init: bytes | None = None


class Global(NamedTuple):
    """A global with its initialiser, an expression ending in `end`."""

    type: GlobalType
    init: bytes


class Element(NamedTuple):
    """An element segment. `mode` is "active", "passive" or "declarative"; `offset` an expression for active ones.

    `items` are function indices when `exprs` is None, otherwise they are empty and `exprs` holds expressions.
    """

    type: ValType
    mode: str
    items: tuple[int, ...]
    exprs: tuple[bytes, ...] | None = None
    table: int = 0
    offset: bytes | None = None


class Data(NamedTuple):
    """A data segment; `mode` is "active" or "passive"."""

    data: bytes
    mode: str
    memory: int = 0
    offset: bytes | None = None


class Code(NamedTuple):
    """A function body: runs of locals (count, type) and the expression, ending in `end`."""

    locals: tuple[tuple[int, ValType], ...]
    body: bytes


class CustomSection(NamedTuple):
    """A custom section: name, contents, and the id of the known section it follows (0: before the first)."""

    name: str
    data: bytes
    after: int = 0


class Names:
    """The name section (Core 3.0, 7.4.1, and the extended-name-section proposal): index → name."""

    __slots__ = ("fields", "labels", "locals", "maps", "module")

    def __init__(self) -> None:
        self.module: str | None = None
        #: kind ("func", "type", "table", "memory", "global", "elem", "data", "tag") → index → name
        self.maps: dict[str, dict[int, str]] = {}
        #: function index → local index → name
        self.locals: dict[int, dict[int, str]] = {}
        #: function index → label index → name
        self.labels: dict[int, dict[int, str]] = {}
        #: type index → field index → name
        self.fields: dict[int, dict[int, str]] = {}


class ModuleSyntax:
    """A module's abstract syntax. Index spaces put imports first, as the specification does."""

    __slots__ = (
        "code",
        "customs",
        "data",
        "elements",
        "exports",
        "funcs",
        "globals",
        "has_data_count",
        "import_groups",
        "imports",
        "memories",
        "names",
        "rec_groups",
        "start",
        "tables",
        "tags",
    )

    def __init__(self) -> None:
        #: recursive type groups, in order; a plain type is a group of one
        self.rec_groups: list[tuple[SubType, ...]] = []
        self.imports: list[Import] = []
        #: those of the imports that share names, in order
        self.import_groups: list[ImportGroup] = []
        #: type indices of the functions defined here
        self.funcs: list[int] = []
        self.tables: list[Table] = []
        self.memories: list[MemoryType] = []
        self.tags: list[TagType] = []
        self.globals: list[Global] = []
        self.exports: list[Export] = []
        self.start: int | None = None
        self.elements: list[Element] = []
        self.data: list[Data] = []
        self.code: list[Code] = []
        self.customs: list[CustomSection] = []
        self.names: Names = Names()
        self.has_data_count = False
