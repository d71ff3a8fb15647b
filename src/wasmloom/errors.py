"""The exceptions of wasmloom: everything derives from `WasmError`.

```
WasmError
├── CompileError        the bytes or the text are not a module we can compile (malformed, or not supported yet)
│   └── ValidationError the module is well-formed but breaks a typing rule
├── LinkError           imports don't fit
├── WasmException       an exception of WebAssembly that the guest didn't catch, or that the host throws
├── Trap                the guest trapped (code, Wasm frames)
└── ExitStatus          the guest asked to exit (WASI proc_exit)
```
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from wasmloom.messages import printable


class WasmError(Exception):
    """Base class of every error that wasmloom raises on purpose. Can be pickled if what it carries can."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by calling the class: its arguments aren't `args`, which is the message.
        return _unpickled, (type(self), self.args), self.__dict__


def _unpickled(kind: type[WasmError], args: tuple[Any, ...]) -> WasmError:
    """An error as it was; its attributes follow."""
    return kind.__new__(kind, *args)


def _check(error: WasmError, **numbers: object) -> None:
    """Refuse what isn't a number where an error has one; None is none."""
    for name, number in numbers.items():
        if number is not None and not isinstance(number, int):
            raise TypeError(f"{type(error).__name__}: {name} is a number or None, not {type(number).__name__}")


class CompileError(WasmError):
    """A module is malformed, or uses a feature that is not supported yet.

    `offset` is the position in the binary in bytes, or None; `line` and `column` (both from 1) the position in the
    text, or None. The message ends with the position.
    """

    def __init__(
        self, message: str, offset: int | None = None, line: int | None = None, column: int | None = None
    ) -> None:
        self.reason = message
        self.offset = offset
        self.line = line
        self.column = column
        _check(self, offset=offset, line=line, column=column)
        if line is not None:
            message = f"{message} at line {line}, column {column}"
        elif offset is not None:
            message = f"{message} at offset {hex(offset)}"
        super().__init__(message)


class ValidationError(CompileError):
    """A module is well-formed but not valid (Core 3.0, chapter 3)."""


class UnsupportedError(CompileError):
    """A valid module uses a feature that this version doesn't execute."""


class LinkError(WasmError):
    """An import is missing or has the wrong type, or a segment doesn't fit (Core 3.0, 4.5.4)."""


def _shown(number: object) -> str:
    """A number, or what is in its place: a tuple isn't checked where it is made."""
    return str(number) if type(number) is int else printable(repr(number))


class SourceFrame(NamedTuple):
    """A function in the source of a module, as its debug information has it, and a place in it.

    What isn't known is None, or 0. Lines and columns count from 1.
    """

    function: str | None
    file: str | None
    line: int = 0
    column: int = 0

    @property
    def place(self) -> str:
        """File, line and column, with colons between them."""
        numbers = (self.line, self.column) if self.line else ()
        return ":".join([printable(self.file or "<unknown>"), *(_shown(number) for number in numbers if number)])

    def __str__(self) -> str:
        return f"{printable(self.function or '<unknown>')} at {self.place}"


class Frame(NamedTuple):
    """One function in a Wasm backtrace, innermost first.

    `offset` is the position of the instruction in the module's binary, in bytes; None for host functions.
    `continuation` tells the continuations of a store apart by small numbers; None: the frame is on none of them, but
    called by the host. `func_offset` is the position of the instruction in the function's body, which begins with the
    declarations of its locals; None for host functions.

    `source`, where an engine's `backtrace` is "source": the place in the source, in the function that has been inlined
    there, if any; then, for each inlined function, where that is in its caller; the last one is the module's function.
    `source_problem` says why it is empty, or may be.
    """

    module: str | None
    func_index: int
    func_name: str | None
    offset: int | None
    continuation: int | None = None
    func_offset: int | None = None
    source: tuple[SourceFrame, ...] = ()
    source_problem: str | None = None

    def __repr__(self) -> str:
        return f"<wasmloom.Frame {self}>"

    def __str__(self) -> str:
        name = printable(self.func_name) if self.func_name is not None else f"wasm-function[{_shown(self.func_index)}]"
        where = f"{printable(self.module)}!" if self.module else ""
        offset = hex(self.offset) if type(self.offset) is int else _shown(self.offset)
        at = f" at offset {offset}" if self.offset is not None else ""
        return f"{where}{name}{at}" + (f" in continuation {_shown(self.continuation)}" if self.continuation else "")


#: Frames that a trap's message shows.
_MOST_SHOWN = 64


class Trap(WasmError):
    """The guest trapped. `code` names the reason as the official scripts do ("integer divide by zero")."""

    def __init__(self, code: str, frames: tuple[Frame, ...] = (), detail: str | None = None) -> None:
        if not isinstance(frames, tuple | list):
            raise TypeError(f"{type(self).__name__}: frames are a tuple, not {type(frames).__name__}")
        self.code = code
        self.frames = frames
        message = f"{code}" if detail is None else f"{code}: {detail}"
        if frames:
            shown = []
            problems: dict[object, object] = {}
            for i, frame in enumerate(frames[:_MOST_SHOWN]):
                shown.append(f"  {i}: {frame}")
                shown += [f"       {place}" for place in getattr(frame, "source", ())]
                problem = getattr(frame, "source_problem", None)
                if problem is not None:
                    problems.setdefault(problem, frame.module)
            if len(frames) > _MOST_SHOWN:
                shown.append(f"  … {len(frames) - _MOST_SHOWN} more")
            for problem, module in problems.items():
                where = f" of {printable(str(module))}" if module else ""
                shown.append(f"  (debug information{where}: {printable(str(problem))})")
            message += "\nwasm backtrace:\n" + "\n".join(shown)
        super().__init__(message)


class WasmException(WasmError):
    """An exception of WebAssembly: a `tag` and the values that it carries, `payload`.

    Leaves a call when the guest doesn't catch it. Raised by a host function, ``WasmException(tag, *payload)`` is an
    exception that the guest can catch. It is also what an exnref is in Python; an exception that goes back to the
    guest that it has come from is the same one. Source: Core 3.0, 4.4.9 and 4.5.1.
    """

    # What objects have that ``__init__`` has not been called for.
    tag: Any = None
    reference: Any = None
    _payload: tuple[Any, ...] | None = ()

    def __init__(self, tag: Any, *payload: Any) -> None:
        super().__init__(tag, *payload)
        self.tag = tag
        #: What it is in the guest that it has come from, or None.
        self.reference = None
        self._payload = payload

    @classmethod
    def of_guest(cls, tag: Any, reference: Any) -> WasmException:
        """The exception that a guest has made."""
        self = cls(tag)
        self.reference = reference
        self._payload = None
        return self

    @property
    def payload(self) -> tuple[Any, ...]:
        """The values that it carries."""
        if self._payload is None:
            payload = getattr(self.reference, "payload", None)
            if payload is None:
                raise TypeError(f"the guest hasn't made this exception, which refers to {self.reference!r:.60}")
            self._payload = payload()
        return self._payload

    def __str__(self) -> str:
        # Exceptions can hold others, many of them, and the same one several times: they aren't shown.
        shown = [
            "WasmException" if isinstance(value, WasmException) else printable(repr(value)) for value in self.payload
        ]
        return f"uncaught exception: {self.tag!r}({', '.join(shown)})"


class ExitStatus(WasmError):
    """The guest asked to end with this exit `code` (WASI `proc_exit`)."""

    def __init__(self, code: int, frames: tuple[Frame, ...] | Callable[[], tuple[Frame, ...]] = ()) -> None:
        """`frames`: the functions that were active, or what tells them when somebody asks."""
        self.code = code
        self._frames = frames
        super().__init__(f"the guest exited with status {code}")

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The functions that were active, innermost first."""
        if callable(self._frames):  # most programs end in this way, and nobody asks where
            self._frames = self._frames()
        return self._frames

    def __reduce__(self) -> tuple[Any, ...]:
        self._frames = self.frames
        return super().__reduce__()
