"""Errors and traps, and how those of wasmloom become them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, TypeVar

import wasmloom as wl
from wasmloom.compat.wasmtime.handles import Handle, Part
from wasmloom.messages import printable

T = TypeVar("T")

#: Frames that a trap shows at most.
MOST_FRAMES = 20
#: Exit statuses from here on are errors.
FIRST_BAD_STATUS = 126


class WasmtimeError(Exception):
    """What went wrong outside of guest code: compiling, linking, limits, wrong use."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self._message = message

    def __str__(self) -> str:
        return self._message


class ExitTrap(WasmtimeError):
    """A WASI program has ended itself by ``proc_exit``. `code` is its exit status."""

    code: int


class TrapCode(Enum):
    """Why a guest has trapped. Many codes are for components, or for what no guest of this version does."""

    STACK_OVERFLOW = 0
    MEMORY_OUT_OF_BOUNDS = 1
    HEAP_MISALIGNED = 2
    TABLE_OUT_OF_BOUNDS = 3
    INDIRECT_CALL_TO_NULL = 4
    BAD_SIGNATURE = 5
    INTEGER_OVERFLOW = 6
    INTEGER_DIVISION_BY_ZERO = 7
    BAD_CONVERSION_TO_INTEGER = 8
    UNREACHABLE = 9
    INTERRUPT = 10
    OUT_OF_FUEL = 11
    ATOMIC_WAIT_NON_SHARED_MEMORY = 12
    NULL_REFERENCE = 13
    ARRAY_OUT_OF_BOUNDS = 14
    ALLOCATION_TOO_LARGE = 15
    CAST_FAILURE = 16
    CANNOT_ENTER_COMPONENT = 17
    NO_ASYNC_RESULT = 18
    UNHANDLED_TAG = 19
    CONTINUATION_ALREADY_CONSUMED = 20
    DISABLED_OPCODE = 21
    ASYNC_DEADLOCK = 22
    CANNOT_LEAVE_COMPONENT = 23
    CANNOT_BLOCK_SYNC_TASK = 24
    INVALID_CHAR = 25
    DEBUG_ASSERT_STRING_ENCODING_FINISHED = 26
    DEBUG_ASSERT_EQUAL_CODE_UNITS = 27
    DEBUG_ASSERT_POINTER_ALIGNED = 28
    DEBUG_ASSERT_UPPER_BITS_UNSET = 29
    STRING_OUT_OF_BOUNDS = 30
    LIST_OUT_OF_BOUNDS = 31
    INVALID_DISCRIMINANT = 32
    UNALIGNED_POINTER = 33
    TASK_CANCEL_NOT_CANCELLED = 34
    TASK_CANCEL_OR_RETURN_TWICE = 35
    SUBTASK_CANCEL_AFTER_TERMINAL = 36
    TASK_RETURN_INVALID = 37
    WAITABLE_SET_DROP_HAS_WAITERS = 38
    SUBTASK_DROP_NOT_RESOLVED = 39
    THREAD_NEW_INDIRECT_INVALID_TYPE = 40
    THREAD_NEW_INDIRECT_UNINITIALIZED = 41
    BACKPRESSURE_OVERFLOW = 42
    UNSUPPORTED_CALLBACK_CODE = 43
    CANNOT_RESUME_THREAD = 44
    CONCURRENT_FUTURE_STREAM_OP = 45
    REFERENCE_COUNT_OVERFLOW = 46
    STREAM_OP_TOO_BIG = 47
    WAITABLE_SYNC_AND_ASYNC = 48
    UNCAUGHT_EXCEPTION = 49


#: The reason of `wl.Trap` → the code, and how the message tells it where that isn't the reason.
_REASONS: dict[str, tuple[str, str | None]] = {
    "unreachable": ("UNREACHABLE", "wasm `unreachable` instruction executed"),
    "integer divide by zero": ("INTEGER_DIVISION_BY_ZERO", None),
    "integer overflow": ("INTEGER_OVERFLOW", None),
    "invalid conversion to integer": ("BAD_CONVERSION_TO_INTEGER", None),
    "out of bounds memory access": ("MEMORY_OUT_OF_BOUNDS", None),
    "out of bounds table access": ("TABLE_OUT_OF_BOUNDS", "undefined element: out of bounds table access"),
    "undefined element": ("TABLE_OUT_OF_BOUNDS", "undefined element: out of bounds table access"),
    "uninitialized element": ("INDIRECT_CALL_TO_NULL", None),
    "indirect call type mismatch": ("BAD_SIGNATURE", None),
    "null function reference": ("NULL_REFERENCE", "null reference"),
    "null reference": ("NULL_REFERENCE", None),
    "null exception reference": ("NULL_REFERENCE", "null reference"),
    "null continuation reference": ("NULL_REFERENCE", "null reference"),
    "call stack exhausted": ("STACK_OVERFLOW", None),
    "all fuel consumed": ("OUT_OF_FUEL", "all fuel consumed by WebAssembly"),
    "timeout": ("INTERRUPT", "interrupt"),
    "continuation already consumed": ("CONTINUATION_ALREADY_CONSUMED", None),
    "unhandled tag": ("UNHANDLED_TAG", None),
    "out of memory": ("ALLOCATION_TOO_LARGE", None),
    "unaligned atomic": ("HEAP_MISALIGNED", None),
    "expected shared memory": ("ATOMIC_WAIT_NON_SHARED_MEMORY", None),
}


def _as_is(value: Any) -> Any:
    return value


def _or_0(offset: int | None) -> int:
    return offset or 0


class Frame(Handle):
    """A function that was active when a guest trapped."""

    _core: wl.Frame
    func_index = Part(int, "The function's index in its module.")
    func_name = Part[str | None](_as_is, "The function's name, if it has one.")
    module_name = Part[str | None](_as_is, "The module's name, if it has one.", "module")
    module_offset = Part(_or_0, "Where the instruction is in the module, in bytes.", "offset")
    func_offset = Part(_or_0, "Where the instruction is in the function's body, in bytes.")

    def __init__(self, core: wl.Frame) -> None:
        self._core = core


class Trap(Exception):
    """A guest has trapped; or what a host function raises to end it, with a message of its own."""

    def __init__(self, message: str) -> None:
        if not isinstance(message, str):
            raise TypeError(f"the message of a trap is a str, not {type(message).__name__}")
        super().__init__(message)
        self._message = message
        self._frames: tuple[wl.Frame, ...] = ()
        self._code: TrapCode | None = None

    def __str__(self) -> str:
        return self._message

    @property
    def message(self) -> str:
        """Why, and where."""
        return self._message

    @property
    def frames(self) -> list[Frame]:
        """The functions of guests that were active, the innermost first."""
        return [Frame(frame) for frame in self._frames]

    @property
    def trap_code(self) -> TrapCode | None:
        """Why, as a code; None for a trap with a message of its own."""
        return self._code


def _told(cause: str, frames: tuple[wl.Frame, ...]) -> str:
    """A message with a backtrace."""
    if not frames:
        return cause
    lines = []
    for number, frame in enumerate(frames):
        name = frame.func_name or f"<wasm function {frame.func_index}>"
        head = f"{number:>5}: {frame.offset or 0:>#8x} - "
        if not frame.source:
            lines.append(f"{head}{frame.module or '<unknown>'}!{name}\n")
        for place in frame.source:
            lines.append(f"{head}{printable(place.function or name)}\n                    at {place.place}\n")
            head = " " * 16 + "- "
    return f"error while executing at wasm backtrace:\n{''.join(lines)}\nCaused by:\n    {cause}\n"


def _shown(error: wl.Trap | wl.ExitStatus) -> tuple[wl.Frame, ...]:
    """The frames of guests that an error shows."""
    return tuple([frame for frame in error.frames if frame.offset is not None][:MOST_FRAMES])


def _trap(error: wl.Trap) -> Trap:
    name, text = _REASONS.get(error.code, (None, None))
    frames = _shown(error)
    made = Trap(_told(f"wasm trap: {text or error.code}", frames))
    made._frames = frames
    made._code = None if name is None else TrapCode[name]
    return made


def _exit(error: wl.ExitStatus) -> WasmtimeError:
    if error.code >= FIRST_BAD_STATUS:
        return WasmtimeError(f"the program exited with status {error.code}, an invalid exit status: not below 126")
    made = ExitTrap(_told(f"Exited with i32 exit status {error.code}", _shown(error)))
    made.code = error.code
    return made


def translated(error: wl.WasmError) -> Exception:
    """What a program written for this API gets instead of an error of wasmloom's."""
    match error:
        case wl.Trap():
            return _trap(error)
        case wl.ExitStatus():
            return _exit(error)
        case wl.WasmException():
            return Trap("thrown Wasm exception")
        case wl.CompileError():
            return WasmtimeError(f"failed to compile: {error}")
    return WasmtimeError(str(error))


def attempt(function: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Call something of wasmloom's, with errors of this API; they have no context."""
    try:
        return function(*arguments, **options)
    except wl.WasmError as error:
        failure = translated(error)
    raise failure


@contextmanager
def as_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Let exceptions of some kinds be `WasmtimeError`s, with the same text."""
    try:
        yield
    except kinds as error:
        raise WasmtimeError(str(error)) from None
