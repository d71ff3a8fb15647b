"""Types of the decoder's Python surface; the attributes are declared in ``decoder.pxd``."""

from array import array

from wasmloom.binary.parts import CustomRange, DataSegment, ElementSegment, Expr
from wasmloom.spec.module import CustomSection, Export, Import, ModuleSyntax, Names
from wasmloom.spec.types import GlobalType, MemoryType, SubType, TableType, TagType

class DecodedModule:
    """See ``decoder.py``."""

    data: bytes
    rec_groups: list[tuple[SubType, ...]]
    types: list[SubType]
    type_ids: list[int]
    imports: list[Import]
    num_imported_funcs: int
    num_imported_tables: int
    num_imported_memories: int
    num_imported_globals: int
    num_imported_tags: int
    func_types: array[int]
    func_type_ids: array[int]
    tables: list[TableType]
    table_inits: list[Expr | None]
    memories: list[MemoryType]
    tags: list[TagType]
    globals: list[GlobalType]
    global_inits: list[Expr]
    exports: list[Export]
    start: int | None
    elements: list[ElementSegment]
    data_count: int | None
    data_segments: list[DataSegment]
    custom_ranges: list[CustomRange]
    offsets: dict[str, list[int]]
    body_starts: array[int]
    body_ends: array[int]
    @property
    def customs(self) -> list[CustomSection]: ...
    @property
    def names(self) -> Names: ...
    def syntax(self) -> ModuleSyntax: ...

def decode_module(data: bytes) -> DecodedModule: ...
