"""Modules: compiled, ready to be instantiated any number of times."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, SupportsIndex, TypeVar, final, overload

from wasmloom.binary.decoder import decode_module
from wasmloom.compiler.identity import has_llvm
from wasmloom.errors import CompileError, UnsupportedError
from wasmloom.host.engine import Engine, engine_of
from wasmloom.host.fixed import Fixed, fill
from wasmloom.host.known import validated
from wasmloom.interpreter.code_space import new_code_space
from wasmloom.messages import listed, printable, quoted, two_level
from wasmloom.runtime import forks
from wasmloom.runtime.frames import func_name
from wasmloom.semantics.features import check_features
from wasmloom.spec.canon import func_type, lasting
from wasmloom.spec.types import FuncType, GlobalType, MemoryType, TableType, TagType
from wasmloom.system import log
from wasmloom.system.locks import Lock
from wasmloom.validation import validate_function, validate_module

if TYPE_CHECKING:
    from typing import Self

    from wasmloom.binary.decoder import DecodedModule
    from wasmloom.compiler.cache import Cache
    from wasmloom.compiler.compiled import CompiledModule
    from wasmloom.compiler.images import Image
    from wasmloom.compiler.options import Options
    from wasmloom.compiler.osr import OsrEntry
    from wasmloom.interpreter.code_space import Coder, CodeSpace
    from wasmloom.text.parser import SourceMap
    from wasmloom.tiers.background import Background
    from wasmloom.tiers.heat import Heat

    #: Slow work. Its argument tells whether it has been abandoned; it returns what the module is then called with.
    _Work = Callable[[Callable[[], bool]], Callable[["Module"], None]]


#: What an import or an export has as its type.
ItemType = FuncType | TableType | MemoryType | GlobalType | TagType

#: Bytes of function bodies. A larger module gets compiled code function by function, if it can: see `_mixes`. If it
#: can't, only functions that have run are compiled before it changes over.
LARGE = 1 << 17


T = TypeVar("T", bound=tuple[Any, ...])
K = TypeVar("K")


class Named(list[T], Generic[T, K]):
    """Imports or exports in order, and by name: ``module.exports["add"]``, ``"add" in module.exports``.

    An import's name is a pair: ``module.imports["env", "log"]``. Of imports with the same name the first one counts.
    """

    #: What these are, and which of their parts are the name.
    __slots__ = ("_kind", "_part")

    def __init__(self, items: Iterable[T], kind: str, part: slice | int) -> None:
        super().__init__(items)
        self._kind = kind
        self._part = part

    @overload
    def __getitem__(self, key: SupportsIndex | K) -> T: ...
    @overload
    def __getitem__(self, key: slice) -> list[T]: ...
    def __getitem__(self, key: Any) -> T | list[T]:
        """The item at a position or with a name. Raises `IndexError` or `KeyError`."""
        if not isinstance(key, str | tuple):
            item: T | list[T] = super().__getitem__(key)
            return item
        name: Any = key
        found = self.get(name)
        if found is None:
            names = [item[0] if self._part == 0 else two_level(*item[:2]) for item in self]
            raise KeyError(f"no {self._kind} {printable(repr(key))}; there are {listed(names) or 'none'}")
        return found

    def __contains__(self, key: object) -> bool:
        """Whether there is such a name, or such an item."""
        name: Any = key
        return self.get(name) is not None or super().__contains__(key)

    def get(self, name: K, default: T | None = None) -> T | None:
        """The item with a name, or `default` if there is none."""
        return next((item for item in self if item[self._part] == name), default)

    def keys(self) -> list[K]:
        """The names, in order."""
        return [item[self._part] for item in self]  # type: ignore[misc]


class ImportType(NamedTuple):
    """An import: two-level name, kind (one of `wasmloom.spec.types.EXTERN_KINDS`) and type."""

    module: str
    name: str
    kind: str
    type: ItemType


class ExportType(NamedTuple):
    """An export: name, kind and type."""

    name: str
    kind: str
    type: ItemType


def _assemble(data: bytes | str) -> tuple[bytes, SourceMap | None]:
    """The binary of a module, and for text the map back to it."""
    if isinstance(data, bytes):
        head = data[:64].lstrip()
        if not head.startswith((b"(", b";;")):
            return data, None
    with forks.importing:
        from wasmloom.text.parser import parse_module

    parsed = parse_module(data)
    return parsed.binary, parsed.source_map


class _Located:
    """Turns the offsets of errors into lines and columns, for modules that were text."""

    __slots__ = ("source_map",)

    def __init__(self, source_map: SourceMap) -> None:
        self.source_map = source_map

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, CompileError) and error.line is None and error.offset is not None:
            place = self.source_map.locate(error.offset)
            if place is not None:
                raise type(error)(error.reason, error.offset, *place) from None


def _load(
    data: bytes | str | bytearray | memoryview, lazy: bool, cache: bool
) -> tuple[DecodedModule, Callable[[int], None] | None, Mapping[str, tuple[str, int]]]:
    """Decode and validate. With `lazy` the second result validates a function body, of those defined in the module.

    The third one are the features that have been found so far. With `cache` modules may be known to be valid.
    """
    if isinstance(data, str):
        data = str.__str__(data)
        if data.endswith((".wasm", ".wat")) and "(" not in data:
            raise CompileError(f"{quoted(data)} is no module's text: Module.from_file reads a file")
    elif type(data) is not bytes:
        try:
            data = memoryview(data).tobytes()
        except TypeError:
            raise TypeError(f"a module is bytes or text, not {type(data).__name__}") from None
    binary, source_map = _assemble(data)
    located = nullcontext() if source_map is None else _Located(source_map)
    with located:
        decoded = decode_module(binary)
        if not lazy:
            features = validated(decoded, cache)
            check_features(features)
            return decoded, None, features
        validator = validate_module(decoded, bodies=False)
        check_features(validator.features)

    spare = [validator]

    def prepare(index: int) -> None:
        # Another thread or a finaliser may need a validator while this one is in use; it gets one of its own.
        with located:
            checker = spare.pop() if spare else validate_module(decoded, bodies=False)
            try:
                validate_function(checker, decoded.num_imported_funcs + index)
            finally:
                spare.append(checker)
            check_features(checker.features)

    return decoded, prepare, validator.features


def _can_mix(decoded: DecodedModule, engine: Engine) -> bool:
    """Whether a module may mix bytecode and compiled code, function by function: see `wasmloom.tiers.mixed`.

    Those with continuations may not: what runs on their stacks stays bytecode then, and they change over as a whole.
    """
    return (
        engine.tier == "auto"
        and engine.threshold is None
        and has_llvm()
        and not decoded.has_continuations
    )


def _mixes(decoded: DecodedModule, engine: Engine) -> bool:
    """Whether stores with a module are to mix. The small ones' change over as a whole doesn't take long."""
    return sum(decoded.body_ends) - sum(decoded.body_starts) > LARGE and _can_mix(decoded, engine)


def _coder(decoded: DecodedModule, engine: Engine, mixes: bool) -> Coder | None:
    """What makes the code of a module in an engine's tier, if that makes any of bytecode."""
    if (engine.tier not in ("baseline", "auto") or engine.threshold == 0) and not mixes:
        return None
    with forks.importing:
        from wasmloom.baseline.making import new_copier  # not all need it

    return new_copier(decoded, engine.code_budget, engine.tier in ("baseline", "compiler"), mixes)


def _code_space(
    decoded: DecodedModule, engine: Engine, prepare: Callable[[int], None] | None, mixes: bool
) -> CodeSpace:
    coder = _coder(decoded, engine, mixes)
    return new_code_space(
        decoded, engine.fuel, prepare, engine.checked, engine.code_budget, coder, engine.deterministic
    )


@final
class Module(Fixed):
    """A compiled module: ``Module(data)`` of bytes in the binary format, or of text (``"(module …)"``).

    Raises `CompileError` when `data` is malformed, `ValidationError` when it isn't valid, `UnsupportedError` when it
    needs what this version doesn't execute; the error says where: the byte's offset, or line and column of text.
    `TypeError` for what is neither. With the tier "compiler" all functions are compiled at once, and `progress` is
    called as by `compile`. Modules don't change, and are pickled as their bytes and their engine's settings.
    """

    __slots__ = (
        "__weakref__", "_begun", "_compiling", "_features", "_rest", "background", "code_space", "compiled", "decoded",
        "engine", "heat", "mixed", "mixes",
    )  # fmt: skip

    engine: Engine
    decoded: DecodedModule
    code_space: CodeSpace
    #: The compiled code, once it exists.
    compiled: CompiledModule | None
    #: Compiled code of some of its functions, for stores that mix: see `wasmloom.tiers.mixed`.
    mixed: CompiledModule | None
    #: Whether a store mixes that has an instance of it.
    mixes: bool
    #: What is known of where its time goes, in such stores.
    heat: Heat | None
    #: Its making, in engines with the tier "auto".
    background: Background | None
    _features: Mapping[str, tuple[str, int]]
    # Held by the thread that compiles: there must be only one copy of the code, which stores share and keep.
    _compiling: Lock
    # For a module that is compiled in part: its objects so far, and the functions that they lack.
    _begun: list[bytes]
    _rest: list[int]

    def __new__(
        cls,
        data: bytes | str | bytearray | memoryview,
        engine: Engine | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Self:
        """See the class."""
        engine = engine_of(engine)
        lazy = engine.translation == "lazy" and engine.tier != "compiler"
        decoded, prepare, features = _load(data, lazy, engine.cache)
        if engine.deterministic and "threads" in features:
            raise UnsupportedError("threads are not deterministic: shared memory", features["threads"][1])
        self = super().__new__(cls)
        fill(
            self,
            engine=engine,
            decoded=decoded,
            code_space=_code_space(decoded, engine, prepare, _can_mix(decoded, engine)),
            compiled=None,
            mixed=None,
            mixes=_mixes(decoded, engine),
            heat=None,
            background=None,
            _compiling=Lock(),
            _begun=[],
            _features=features,
            _rest=[],
        )
        forks.remember(self)
        if self.engine.tier == "compiler" or self.engine.threshold == 0:
            self.compile(progress=progress)
        elif self.engine.translation == "eager":
            self.code_space.translate_all()
        return self

    def __copy__(self) -> Module:
        return self

    def __deepcopy__(self, memo: object) -> Module:
        return self

    def __reduce__(self) -> Any:
        return Module, (self.decoded.data, self.engine)

    def compile(
        self, *, workers: int | None = None, progress: Callable[[int, int], None] | None = None
    ) -> CompiledModule:
        """Compile all functions now, unless that has been done, or load them from the disk cache.

        `workers` is the maximum number of processes (default: one per processor). `progress` is called with the amount
        of work that is finished and of all work, in a unit of its own. What has been compiled when this is interrupted
        is in the cache, too. Raises `UnsupportedError`, `CompileError` when a worker dies, and
        with ``translation="lazy"`` `ValidationError`.

        With the tier "compiler" a function that is too large for the compiler stays bytecode; a `RuntimeWarning` says
        so.
        """
        if (found := self._compiled()) is not None:
            return found
        with forks.importing:
            from wasmloom.compiler.elf import ObjectError

        with self._compiling:
            if (found := self._compiled()) is not None:
                return found
            self.code_space.prepare_all()
            cache = self._cache()
            try:
                return self._compile(cache, workers, progress)
            except ObjectError:
                if cache is None:
                    raise
            # What is in the cache is of no use.
            return self._compile(None, workers, progress)

    def _compiled(self) -> CompiledModule | None:
        """What `compile` returns, if it is there already."""
        return self.mixed if self.compiled is None and self.engine.tier == "compiler" else self.compiled

    def _compile(
        self, cache: Cache | None, workers: int | None, progress: Callable[[int, int], None] | None
    ) -> CompiledModule:
        """Compile all functions, or load them from the cache. Raises `ObjectError` for what is of no use there."""
        with forks.importing:
            from wasmloom.compiler.compiled import can_leave, compile_module

        options = self.engine.code_options()
        left: list[int] | None = [] if self.engine.tier == "compiler" and can_leave(self.decoded) else None
        code = compile_module(self.decoded, options, cache, workers, progress, left=left)
        if not left:
            return self._load(code, options)
        return self._use_part(code, left)

    def _use_part(self, code: list[bytes] | Image, left: list[int]) -> CompiledModule:
        """Let stores of the module, which has just been made, mix what has been compiled and some bytecode."""
        with forks.importing:
            from wasmloom.compiler.compiled import too_large
            from wasmloom.tiers import mixed

        fill(self, mixes=True, code_space=_code_space(self.decoded, self.engine, None, True))
        mixed.use(self, code, left)
        text = f"{self!r} is compiled in part: {too_large(self.decoded, left)}"
        if log.TIERS:
            log.tell(text)
        warnings.warn(text, RuntimeWarning, stacklevel=5)
        if self.mixed is None:
            raise ValueError("compiled code that isn't there")
        return self.mixed

    def after_fork(self) -> None:
        """In a forked child: no other thread has a lock of this any more."""
        if not self._compiling.is_mine():
            fill(self, _compiling=Lock())
        for compiled in (self.compiled, self.mixed):
            if compiled is not None:
                compiled.after_fork()

    def compiled_function(self, index: int, abandoned: Callable[[], bool]) -> int:
        """The address of a function's code for a guest that waits for it: see `CompiledModule.compile_function`."""
        return self.compile().compile_function(index, abandoned)

    def compiled_osr_entry(self, space: CodeSpace, index: int, at: int, abandoned: Callable[[], bool]) -> int:
        """The address of an OSR entry for a guest that waits for it: see `CompiledModule.osr_entry`."""
        return self.compile().osr_entry(space, index, at, abandoned)

    def wait_for(self, background: Background) -> None:
        """Note what compiles the module in the background."""
        fill(self, background=background)

    def note_heat(self, heat: Heat) -> None:
        """Note what is known of where its time goes."""
        fill(self, heat=heat)

    def use_mixed(self, mixed: CompiledModule) -> None:
        """Note compiled code for stores that mix."""
        fill(self, mixed=mixed)

    def begin_behind(self, positions: list[tuple[int, int]]) -> _Work:
        """Compile as `compile` does, but in another process, so that this one's threads are hardly slowed.

        Of a large module, compile only the functions that have run so far, and those that may be too large: if one
        is, the module stays as it is, and no guest is in its compiled code yet. See `begin_rest`.

        `positions`: the places, as function and offset, where bytecode is to go on as compiled code (see
        `CompiledModule.osr_entry`).

        Returns the work, which doesn't keep the module alive.
        """
        with forks.importing:
            from wasmloom.compiler.compiled import cached, compile_behind, perhaps_too_large
            from wasmloom.compiler.osr import entry_at

        begun = self.compiled is not None
        if not begun:
            self.code_space.prepare_all()
        decoded, options, cache = self.decoded, self._options_behind(), self._cache()
        entries = [entry_at(self.code_space, index, at) for index, at in positions]
        used = list(range(len(decoded.body_starts)))
        if sum(decoded.body_ends) - sum(decoded.body_starts) > LARGE:
            used = sorted({*self.code_space.used(), *perhaps_too_large(decoded)})

        def work(abandoned: Callable[[], bool]) -> Callable[[Module], None]:
            objects = None if begun else cached(decoded, options, cache)
            functions = used if not begun and objects is None else None
            made, more = compile_behind(decoded, options, functions, True, entries, abandoned)
            return lambda module: module._end_behind(objects or made, options, functions, positions, entries, more)

        return work

    def _end_behind(
        self,
        objects: list[bytes] | Image,
        options: Options,
        functions: list[int] | None,
        positions: list[tuple[int, int]],
        entries: list[OsrEntry],
        more: list[bytes],
    ) -> None:
        """Load what has been compiled: `functions` (None: all, or there was code already), and entries."""
        with self._compiling:
            if self.compiled is None:
                compiled = self._load(objects, options, functions)
                if functions is not None and isinstance(objects, list):
                    fill(self, _begun=objects, _rest=sorted(compiled.missing))
            compiled = self.compiled or self._load(objects, options, functions)
        for position, entry, data in zip(positions, entries, more, strict=True):
            compiled.positions[position] = compiled.add_osr_entry(entry, data)

    def begin_rest(self) -> _Work | None:
        """Compile what `begin_behind` has left out, in another process, too. Returns such work, or None if nothing is
        left.

        Until then, functions that are called are compiled in this process, one by one.
        """
        with forks.importing:
            from wasmloom.compiler.compiled import compile_behind, keep

        with self._compiling:
            objects, rest = self._begun, self._rest
            fill(self, _begun=[], _rest=[])
        if not objects:
            return None
        decoded, options, cache = self.decoded, self._options_behind(), self._cache()

        def work(abandoned: Callable[[], bool]) -> Callable[[Module], None]:
            more: list[bytes] = []
            if rest:
                more, _ = compile_behind(decoded, options, rest, False, [], abandoned)
            keep(decoded, options, cache, objects + more)
            return lambda module: module.compiled.add(rest, more) if rest and module.compiled else None

        return work

    def _options_behind(self) -> Options:
        return self.engine.code_options()._replace(quick=True)

    def _cache(self) -> Cache | None:
        with forks.importing:
            from wasmloom.compiler.cache import Cache

        return Cache() if self.engine.cache else None

    def _load(
        self, objects: list[bytes] | Image, options: Options, functions: list[int] | None = None
    ) -> CompiledModule:
        """Load compiled code, unless the module has some. `functions`: those that it has, if not all."""
        from wasmloom.compiler.compiled import CompiledModule

        everything = range(len(self.decoded.body_starts))
        missing = [] if functions is None else sorted(set(everything).difference(functions))
        made = CompiledModule(self.decoded, objects, options, missing, self.engine.code_budget)
        # A signal handler may have done this meanwhile: stores run the code that came first.
        if self.compiled is None:
            fill(self, compiled=made)
        return self.compiled or made

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], engine: Engine | None = None) -> Module:
        """The module in a ``.wasm`` or ``.wat`` file. Raises `OSError`, and what the constructor raises."""
        with open(os.fspath(path), "rb") as file:  # not a descriptor, which would be closed
            return cls(file.read(), engine)

    @staticmethod
    def validate(data: bytes | str | bytearray | memoryview) -> None:
        """Raise what the constructor would raise; return None when all is well."""
        _load(data, lazy=False, cache=False)

    @property
    def name(self) -> str | None:
        """The name in the name section."""
        return self.decoded.index_names.module

    @property
    def features(self) -> dict[str, int]:
        """The features of WebAssembly beyond version 1.0 that the module uses, and where first (bytes).

        Names are those of `wasmloom.semantics.features.EXECUTED`. In engines with lazy validation, a function counts
        from when it has been validated.
        """
        return {feature: offset for feature, (_, offset) in self._features.items() if feature != "mvp"}

    @property
    def imports(self) -> Named[ImportType, tuple[str, str]]:
        """What the module imports, in order; ``module.imports["env", "log"]`` is one of them."""
        rows = self.decoded.import_rows(lambda id: lasting(func_type(id)), lasting)
        return Named(map(ImportType._make, rows), "import", slice(2))

    @property
    def exports(self) -> Named[ExportType, str]:
        """What the module exports, in order; ``module.exports["add"]`` is one of them."""
        decoded = self.decoded
        spaces: dict[str, list[Any]] = {
            "table": decoded.tables,
            "memory": decoded.memories,
            "global": decoded.globals,
            "tag": decoded.tags,
        }
        made = [
            ExportType(
                e.name,
                e.kind,
                lasting(func_type(decoded.func_type_ids[e.index]) if e.kind == "func" else spaces[e.kind][e.index]),
            )
            for e in decoded.exports
        ]
        return Named(made, "export", 0)

    def custom_sections(self, name: str) -> list[bytes]:
        """The contents of all custom sections called `name`, in order."""
        decoded = self.decoded
        return [decoded.data[c.start : c.end] for c in decoded.custom_ranges if c.name == name]

    def func_name(self, index: int) -> str | None:
        """The name of a function: from the name section, else of its import or first export."""
        return func_name(self.decoded, index)

    def __repr__(self) -> str:
        name = self.name
        return f"<wasmloom.Module{f' {printable(name)}' if name else ''}: {len(self.decoded.data)} bytes>"
