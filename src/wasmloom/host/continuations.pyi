"""Types of the Python surface; see ``continuations.py``."""

from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias, final

from wasmloom.errors import WasmException
from wasmloom.host.tags import Tag
from wasmloom.runtime.store import Store
from wasmloom.spec.types import FuncType

_On: TypeAlias = Tag | Iterable[Tag] | Mapping[Tag, Callable[..., object]]

def set_resume_async(function: Callable[..., Coroutine[Any, Any, Any]]) -> None: ...
def tags_of(on: object) -> tuple[Tag, ...]: ...
def answer(count: int, value: object) -> tuple[object, ...]: ...

class Suspension(NamedTuple):
    tag: Tag
    payload: tuple[Any, ...]
    continuation: Continuation

@final
class Driver: ...

@final
class Continuation:
    @property
    def type(self) -> FuncType | None: ...
    @property
    def store(self) -> Store: ...
    @property
    def alive(self) -> bool: ...
    def resume(
        self, *args: object, on: _On = ()
    ) -> Any: ...
    def resume_async(
        self, *args: object, on: _On = ()
    ) -> Coroutine[Any, Any, Any]: ...
    def throw_async(self, error: WasmException, *, on: _On = ()) -> Coroutine[Any, Any, Any]: ...
    def throw(
        self, error: WasmException, *, on: _On = ()
    ) -> Any: ...

def resume_iter(continuation: Continuation, tag: Tag, *args: object) -> Generator[Any, Any, Any]: ...
def continuation_at(store: Store, address: int, type: FuncType) -> Continuation: ...
