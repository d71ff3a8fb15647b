# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The call bridge: functions as Python objects, and host functions (`wasmloom.host.conversions` converts values).

Invariants: arguments are converted before the guest is entered, because conversions may run any Python code. Words are
copied off the value stack before anything is converted, because a conversion may re-enter the guest and move the stack.
The store is locked from the first conversion to the last, so references in transit are not swept. While they are
neither on a guest's stack nor held by a Python object, `heap.holds` keeps the collector from running.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from weakref import ref

import cython
from cython.cimports.cpython.long import (
    PyLong_FromLong,
)
from cython.cimports.cpython.object import PyObject
from cython.cimports.cpython.ref import Py_DECREF, Py_INCREF
from cython.cimports.cpython.sequence import PySequence_Fast_ITEMS
from cython.cimports.libc.stdint import int32_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.wasmloom.contract._layout import RT_HOST_CALL, SLOT_BYTES, WlContext, WlFunction
from cython.cimports.wasmloom.host.bridge import (
    HandOver,
    HostCall,
    HostCallWords,
    Py_TYPE,
    PyCoro_CheckExact,
    PyGen_CheckExact,
    free_room,
    host_of,
    host_param_slots,
    host_result_slots,
    type_of,
)
from cython.cimports.wasmloom.host.conversions import (
    check_store,
    convert,
    described,
    i32_fast,
    look_at_c_stack,
    set_conversion,
    store_of,
    to_object,
)
from cython.cimports.wasmloom.host.signatures import (
    KIND_EXN,
    KIND_EXTERN,
    KIND_FUNC,
    KIND_I32,
    Kind,
    Signature,
    signature_of,
)
from cython.cimports.wasmloom.interpreter.machine import host_stub
from cython.cimports.wasmloom.runtime import guests, hooks
from cython.cimports.wasmloom.runtime.entries import call, count_call
from cython.cimports.wasmloom.runtime.growth import grow_stack
from cython.cimports.wasmloom.runtime.guests import TICKING, Entry, enter_python, leave_python, wake_ticker
from cython.cimports.wasmloom.runtime.hooks import set_runtime_call
from cython.cimports.wasmloom.runtime.native_stacks import MAX_ARGUMENTS, set_adapter
from cython.cimports.wasmloom.runtime.store import WORDS_ON_STACK, Store, compiler_tier, copy_words, push
from cython.cimports.wasmloom.spec.canon import Types, new_types, type_matches
from cython.cimports.wasmloom.system._capi import (
    Py_TPFLAGS_HAVE_VECTORCALL,
    PyErr_GivenExceptionMatches,
    PyErr_NormalizeException,
    PyObject_Vectorcall,
    PyVectorcall_NARGS,
    VectorcallType,
    drop,
    new_int,
    seal,
)
from cython.cimports.wasmloom.system.allocation import malloc
from cython.cimports.wasmloom.tiers.frames import instance_calling

from wasmloom.contract.traps import HOST_EXCEPTION, HOST_WAIT, UNCAUGHT_EXCEPTION
from wasmloom.errors import WasmError, WasmException
from wasmloom.host.callers import TakesCaller
from wasmloom.host.types import as_func_type
from wasmloom.messages import printable
from wasmloom.runtime import collector as _collector  # noqa: F401  (registers the collector)
from wasmloom.runtime import forks as _forks  # noqa: F401  (registers what forked children do)
from wasmloom.runtime import runtime_calls as _calls  # noqa: F401  (registers the runtime functions)
from wasmloom.spec.canon import intern_func_type, lasting
from wasmloom.spec.types import CONCRETE, EXACT_FLAG, EXNREF, HEAP_SHIFT, REF_FLAG, FuncType, ValType
from wasmloom.system import log
from wasmloom.tiers import backtraces as _backtraces  # noqa: F401  (registers them)

_SHIFT = cython.declare(cython.int, HEAP_SHIFT)
_CONCRETE = cython.declare(uint64_t, CONCRETE)
_EXACT_REF = cython.declare(uint64_t, REF_FLAG | EXACT_FLAG)
_EXNREF = cython.declare(uint64_t, EXNREF)
_HOST_EXCEPTION = cython.declare(uint64_t, HOST_EXCEPTION)
_HOST_WAIT = cython.declare(uint64_t, HOST_WAIT)
_UNCAUGHT_EXCEPTION = cython.declare(uint64_t, UNCAUGHT_EXCEPTION)
# Tells constructors that the caller fills in the fields. Python code can't get at it: an object without its struct
# would be a way to crash.
BARE = object()

#: A C variable, for code that may not raise: looking up a name of the module can.
_WasmException = cython.declare(object, WasmException)

# The flag of generators that `types.coroutine` has made awaitable (`inspect.CO_ITERABLE_COROUTINE`).
_OLD_COROUTINE = cython.declare(cython.int, 0x100)

# Set by wasmloom.host.asynchronous, which needs this module. It can't be imported where it is called: an import can run
# finalisers, and is impossible while Python ends.
_run_waiting = cython.declare(object, None)
# Set by wasmloom.host.state, which needs this module.
_caller_at = cython.declare(object, None)


@cython.cfunc
def room_for(count: uint32_t, few: cython.pointer(uint64_t)) -> cython.pointer(uint64_t):
    """Room for `count` words: `few`, which has `WORDS_ON_STACK`, or else allocated memory; see `free_room`."""
    words: cython.pointer(uint64_t) = few
    if count > WORDS_ON_STACK:
        words = cython.cast(cython.pointer(uint64_t), malloc(SLOT_BYTES * count))
        if words == cython.NULL:
            raise MemoryError
    return words


@cython.cfunc
def signature_at(function: cython.pointer(WlFunction)) -> Signature:
    """The signature of a guest's or a host's function."""
    if function.instance == cython.NULL:
        return host_of(function).signature
    return signature_of(cython.cast(uint32_t, function.type_id))


def set_caller_at(function: Callable[[Store, int], object]) -> None:
    """Register what returns the `Caller` of the instance at an address."""
    global _caller_at
    _caller_at = function


def set_run_waiting(function: Callable[..., Coroutine[object, object, object]]) -> None:
    """Register what runs a function that can wait."""
    global _run_waiting
    _run_waiting = function


# --- conversion of functions, and of arguments ---


@cython.cfunc
@cython.exceptval(-1, check=False)
def _func_word(store: Store, type: uint64_t, value: object, word: cython.pointer(uint64_t)) -> cython.int:
    func: Func
    if not isinstance(value, Func):
        raise TypeError(f"{ValType(type)} takes a wasmloom.Func or None, not {described(value)}")
    func = value
    store_of(func, store)
    if not type_matches(_EXACT_REF | (_CONCRETE + func.pointer.type_id) << _SHIFT, type):
        raise TypeError(f"{func!r} is not a {ValType(type)}")
    word[0] = cython.cast(uint64_t, func.pointer)
    return 0


@cython.cfunc
def _func_object(store: Store, type: uint64_t, word: cython.pointer(cython.const[uint64_t])) -> object:
    return func_at(store, cython.cast(cython.pointer(WlFunction), word[0]))


set_conversion(KIND_FUNC, _func_word, _func_object)


@cython.cfunc
@cython.exceptval(-1, check=False)
def take_arguments(
    store: Store,
    signature: Signature,
    args: cython.pointer(cython.pointer(PyObject)),
    i: uint32_t,
    words: cython.pointer(uint64_t),
    func: Func | None,
) -> cython.int:
    """Convert arguments from the `i`-th on, of a function or, without one, of a continuation.

    No Python code may run between this and the guest: nothing holds the objects that were made for it.
    """
    held: cython.bint = False
    try:
        while i < signature.n_params:
            try:
                convert(
                    store,
                    signature.types[i],
                    cython.cast(Kind, signature.kinds[i]),
                    cython.cast(object, args[i]),
                    words + signature.places[i],
                )
            except (TypeError, OverflowError, ValueError) as error:
                of = "the continuation" if func is None else printable(func.name)
                raise type(error)(f"argument {i + 1} of {of}: {error}") from None
            # While the first is converted the collector may run. From here on there is a word that it wouldn't see.
            if not held and signature.kinds[i] >= KIND_EXN:
                store.guest.heap.holds += 1
                held = True
            i += 1
    finally:
        if held:
            store.guest.heap.holds -= 1
    return 0


# --- Python → Wasm ---


@cython.no_gc_clear
@cython.cclass
class Func:
    """A function of a store; calling it runs it.

    Made from Python by ``Func(store, type, function)``: `type` is a `FuncType`, a pair of lists of value types, or
    text such as ``"i32 i64 -> f64"``. Arguments and results are converted as `wasmloom.host.conversions` says;
    several results make a tuple. Calls raise `Trap`, what a host function raised, and `TypeError` or
    `OverflowError` for arguments that don't fit.
    """

    def __cinit__(self, store: object, type: object, function: object, name: str | None = None) -> None:
        self.vectorcall = cython.cast(cython.p_void, _vectorcall)
        if store is BARE:
            return
        owner: Store = check_store(store)
        if not callable(function):
            raise TypeError(f"Func takes a callable, not {described(function)}")
        if name is None:
            name = getattr(function, "__name__", None) or _class_name(function)
        keeper: Types = new_types()
        self.signature = signature_of(intern_func_type(as_func_type(type), keeper))
        self.pointer = new_host_function(owner, self.signature, function, name, keeper)
        self.pointer.wrapper = cython.cast(cython.p_void, self)
        self._store = owner

    def __init__(self, store: Store, type: object, function: Callable[..., object], name: str | None = None) -> None:
        """See the class. `__cinit__` does the work, so no object is ever without its struct."""

    def __dealloc__(self) -> None:
        # Before the memory of `self` is freed, so that no one finds a dead wrapper. All of this holds the GIL.
        if self.pointer != cython.NULL and self.pointer.wrapper == cython.cast(cython.p_void, self):
            self.pointer.wrapper = cython.NULL

    def __call__(self, *args: object) -> object:
        """Run the function."""
        return self.call(PySequence_Fast_ITEMS(args), len(args))

    @cython.cfunc
    def call(self, args: cython.pointer(cython.pointer(PyObject)), count: cython.Py_ssize_t) -> object:
        """Run the function on arguments in memory, which the caller holds."""
        signature: Signature = self.signature
        few = cython.declare(uint64_t[16])  # WORDS_ON_STACK
        words: cython.pointer(uint64_t) = few
        room: uint32_t = max(signature.param_slots, signature.result_slots)
        self._store.lock()
        try:
            words = room_for(room, few)
            if self._store.calls_left and self._store.guest.entry == cython.NULL:
                count_call(self._store)
            self.take(args, count, words)
            if self.pointer.instance == cython.NULL:
                call_from_host(self._store, host_of(self.pointer), words, False, 0)
                try:
                    return self.finish(words)
                finally:
                    self._store.guest.heap.holds -= 1
            call(self._store, self.pointer, words, signature.param_slots, signature.result_slots)
            if signature.n_results == 1 and signature.kinds[signature.n_params] == KIND_I32:
                return PyLong_FromLong(cython.cast(int32_t, cython.cast(uint32_t, words[0])))
            return self.finish(words)
        finally:
            self._store.unlock()
            free_room(words, few)

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1, check=False)
    def take(
        self, args: cython.pointer(cython.pointer(PyObject)), n: cython.Py_ssize_t, words: cython.pointer(uint64_t)
    ) -> cython.int:
        """Convert arguments; `words` has room for all parameters."""
        signature: Signature = self.signature
        i: uint32_t = 0
        if n != signature.n_params:
            raise TypeError(f"{printable(self.name)} takes {signature.n_params} arguments {signature.type}, {n} given")
        # Before the first one that isn't an i32, a parameter's position is its slot.
        while i < signature.n_params and i32_fast(
            cython.cast(Kind, signature.kinds[i]), args[i], cython.address(words[i])
        ):
            i += 1
        if i < signature.n_params:
            self.take_others(args, i, words)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def take_others(
        self, args: cython.pointer(cython.pointer(PyObject)), i: uint32_t, words: cython.pointer(uint64_t)
    ) -> cython.int:
        """Convert the arguments from the first one that isn't a plain i32."""
        return take_arguments(self._store, self.signature, args, i, words, self)

    def call_async(self, *args: object) -> Coroutine[object, object, object]:
        """Run the function so that it can wait: ``await f.call_async(1, 2)`` returns what ``f(1, 2)`` would.

        Host functions that the guest calls may return awaitables (as ``async def`` functions do). The guest then waits
        for their results, while the event loop, and other guests of the same store, go on. Cancelling the call throws
        an exception into the waiting guest that only its `catch_all` handlers can catch. Unless the guest keeps it, the
        caller receives it as the `CancelledError` that it is.
        """
        return _run_waiting(self, args)

    @cython.cfunc
    def finish(self, words: cython.pointer(uint64_t)) -> object:
        """The results as Python values."""
        signature: Signature = self.signature
        if signature.n_results == 0:
            return None
        return results_of(self._store, signature, words)

    @property
    def type(self) -> FuncType:
        """The function's type."""
        return lasting(self.signature.type)

    @property
    def type_id(self) -> int:
        """The canonical id of the function's type."""
        return self.pointer.type_id

    @property
    def store(self) -> Store:
        """The store that the function belongs to."""
        return self._store

    @property
    def address(self) -> int:
        """The address of the function's struct: equal for equal functions."""
        return cython.cast(uint64_t, self.pointer)

    @property
    def name(self) -> str:
        """The name: of the Python function, from the module's name section, or ``wasm-function[index]``."""
        if self._name is None:
            if self.pointer.instance == cython.NULL:
                self._name = host_of(self.pointer).name
            else:
                module = self._store.module_at.get(cython.cast(uint64_t, self.pointer.instance))
                known = None if module is None else module.func_name(self.pointer.index)
                self._name = known or f"wasm-function[{self.pointer.index}]"
        return self._name

    def __repr__(self) -> str:
        return f"<wasmloom.Func {printable(self.name)} {self.signature.type}>"


@cython.cfunc
def _vectorcall(
    func: cython.pointer(PyObject),
    args: cython.pointer(cython.pointer(PyObject)),
    count: cython.size_t,
    names: cython.pointer(PyObject),
) -> object:
    """What Python calls for ``func(…)``: no tuple of arguments is made (PEP 590)."""
    if names != cython.NULL and len(cython.cast(tuple, names)):
        raise TypeError(f"{printable(cython.cast(Func, func).name)} takes no keyword arguments")
    return cython.cast(Func, func).call(args, PyVectorcall_NARGS(count))


@cython.cfunc
def _enable_vectorcall(func: Func) -> object:
    """Tell Python which field of a `Func` has the address of `_vectorcall`. Cython has no notation for that.

    Invariant: every `Func` has it there from its `__cinit__` on, and the class has no subclasses.
    """
    slots = cython.cast(cython.pointer(VectorcallType), cython.cast(cython.pointer(PyObject), Func))
    place = cython.cast(cython.p_char, cython.address(func.vectorcall))
    slots.tp_vectorcall_offset = place - cython.cast(cython.p_char, cython.cast(cython.pointer(PyObject), func))
    slots.tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL


_enable_vectorcall(Func.__new__(Func, BARE, None, None))


@cython.cfunc
def results_of(store: Store, signature: Signature, words: cython.pointer(uint64_t)) -> object:
    """The results of a function as Python values: one value, or a tuple; None when there are none."""
    n: uint32_t = signature.n_params
    if signature.n_results == 1 and signature.kinds[n] < KIND_FUNC:
        return to_object(store, signature.types[n], cython.cast(Kind, signature.kinds[n]), words)
    store.guest.heap.holds += 1
    try:
        values = [
            to_object(
                store,
                signature.types[n + i],
                cython.cast(Kind, signature.kinds[n + i]),
                words + signature.places[n + i],
            )
            for i in range(signature.n_results)
        ]
    finally:
        store.guest.heap.holds -= 1
    if signature.n_results == 1:
        return values[0]
    return tuple(values) if values else None


@cython.cfunc
def _class_name(value: object) -> str:
    return type(value).__name__


@cython.cfunc
def func_at(store: Store, function: cython.pointer(WlFunction)) -> Func:
    """The Python object of a function: always the same one while it lives."""
    func: Func
    if function.wrapper != cython.NULL:
        return cython.cast(Func, cython.cast(cython.pointer(PyObject), function.wrapper))
    func = Func.__new__(Func, BARE, None, None)
    func._store = store
    func.pointer = function
    func.signature = signature_of(cython.cast(uint32_t, function.type_id))
    function.wrapper = cython.cast(cython.p_void, func)
    return func


# --- Wasm → Python ---


@cython.no_gc_clear
@cython.cclass
class HostFunction:
    """A Python function as the guest sees it. Its store keeps it alive. `keeper` keeps its type alive."""

    def __cinit__(self, function: object, signature: Signature, name: str, keeper: object) -> None:
        self.function = function
        self.keeper = keeper
        self.signature = signature
        self.name = name


seal(HostFunction)


@cython.cfunc
def new_host_function(
    store: Store, signature: Signature, function: object, name: str, keeper: object
) -> cython.pointer(WlFunction):
    """A function struct that runs a Python callable. `keeper` keeps its type alive for as long."""
    if isinstance(function, TakesCaller):
        function = function.asking(partial(_caller, ref(store)))
    host: HostFunction = HostFunction.__new__(HostFunction, function, signature, name, keeper)
    struct: cython.pointer(WlFunction)
    struct = cython.cast(cython.pointer(WlFunction), store.allocate(cython.sizeof(WlFunction)))
    struct.own_code = host_stub(struct)
    if not push(cython.address(store.blocks), struct.own_code):
        free(struct.own_code)
        raise MemoryError
    store.keep.append(host)
    struct.code_cell = cython.address(struct.own_code)
    struct.context = store.guest
    set_adapter(struct)
    struct.type_id = signature.type_id
    struct.object = cython.cast(cython.p_void, host)
    return struct


@cython.cfunc
@cython.exceptval(-1, check=False)
def call_host(store: Store, host: HostFunction, words: cython.pointer(uint64_t), may_wait: cython.bint) -> cython.int:
    """Call a Python function on `words`, which its results replace. `words` must not lie on the value stack.

    Returns 0 when the results are there. The caller must subtract one from `heap.holds` once they are in place. Returns
    1 if the guest has to wait for the results; what it waits for is in ``store.awaited``. Raises `WasmError` if it has
    to wait but may not.
    """
    signature: Signature = host.signature
    few = cython.declare(uint64_t[16])  # WORDS_ON_STACK
    room: cython.pointer(uint64_t) = room_for(signature.n_params, few)
    arguments: cython.pointer(cython.pointer(PyObject)) = cython.cast(cython.pointer(cython.pointer(PyObject)), room)
    made: uint32_t = 0
    word: cython.pointer(uint64_t)
    result: cython.pointer(PyObject)
    try:
        while made < signature.n_params:
            word = words + signature.places[made]
            if signature.kinds[made] == KIND_I32:
                arguments[made] = new_int(cython.cast(int32_t, cython.cast(uint32_t, word[0])))
                if arguments[made] == cython.NULL:
                    raise MemoryError
            else:
                value = to_object(store, signature.types[made], cython.cast(Kind, signature.kinds[made]), word)
                Py_INCREF(value)
                arguments[made] = cython.cast(cython.pointer(PyObject), value)
            made += 1
        if store.hanging >= store.hanging_at:
            store.sweep_within()
        result = PyObject_Vectorcall(
            cython.cast(cython.pointer(PyObject), host.function), arguments, signature.n_params, cython.NULL
        )
    finally:
        while made > 0:
            made -= 1
            drop(arguments[made])
        free_room(room, few)
    if result == cython.NULL:
        return -1
    if store.guest.host_weight:
        try:
            hooks.take_sample(store, True)  # signal handlers may run in it
        except BaseException:
            drop(result)
            raise
    # Classes written in Python have `tp_as_async`, so their objects may be awaitable.
    if (
        signature.n_results == 1
        and type_of(result).tp_as_async == cython.NULL
        and i32_fast(cython.cast(Kind, signature.kinds[signature.n_params]), result, words)
    ):
        drop(result)
        store.guest.heap.holds += 1
        return 0
    returned: object = cython.cast(object, result)
    Py_DECREF(returned)  # the variable `returned` holds a reference of its own
    if returned is not None and _to_be_awaited(signature, returned):
        if may_wait:
            store.awaited = returned
            return 1
        if isinstance(returned, Coroutine):
            returned.close()
        raise WasmError(
            f"host function {printable(host.name)} returned an awaitable ({_class_name(returned)}): "
            "the guest can only wait for it when it runs by `await function.call_async(...)`"
        )
    # From here on only the words matter; the objects may go.
    store.guest.heap.holds += 1
    if signature.n_results:
        try:
            take_results(store, host, returned, words)
        except BaseException:
            store.guest.heap.holds -= 1
            raise
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def call_from_host(
    store: Store, host: HostFunction, words: cython.pointer(uint64_t), may_wait: cython.bint, instance: uint64_t
) -> cython.int:
    """`call_host` for the host itself, also inside of a guest's call of the host. `instance`: what it calls for, or 0.

    What it notes is good as long as nothing in it enters the guest; then there is another entry.
    """
    before: cython.pointer(Entry) = store.called_by_host
    for_before: uint64_t = store.called_for
    look_at_c_stack()
    store.called_by_host = store.guest.entry
    store.called_for = instance
    try:
        return call_host(store, host, words, may_wait)
    finally:
        store.called_by_host = before
        store.called_for = for_before


def _caller(home: Callable[[], Store]) -> object:
    """The `Caller` of the instance that has called the host function that begins; None: the host has."""
    store: Store = home()
    address: uint64_t
    if store is None:
        return None
    address = instance_calling(store)
    found = store.callers.get(address)
    if found is None and address in store.module_at:
        found = store.callers[address] = _caller_at(store, address)
    return found


@cython.cfunc
@cython.inline
@cython.exceptval(-1, check=False)
def _to_be_awaited(signature: Signature, returned: object) -> cython.bint:
    """Whether a host function has returned an awaitable instead of its results.

    As an external reference, any awaitable except a coroutine is a value like others.
    """
    if PyCoro_CheckExact(returned) or (PyGen_CheckExact(returned) and returned.gi_code.co_flags & _OLD_COROUTINE):
        return True
    if Py_TYPE(returned).tp_as_async == cython.NULL or Py_TYPE(returned).tp_as_async.am_await == cython.NULL:
        return False
    return signature.n_results != 1 or signature.kinds[signature.n_params] != KIND_EXTERN


@cython.cfunc
@cython.exceptval(-1, check=False)
def take_results(store: Store, host: HostFunction, returned: object, words: cython.pointer(uint64_t)) -> cython.int:
    """Convert what a host function returned."""
    signature: Signature = host.signature
    n: uint32_t = signature.n_params
    i: uint32_t
    values: object
    if signature.n_results == 1:
        if i32_fast(
            cython.cast(Kind, signature.kinds[n]), cython.cast(cython.pointer(PyObject), returned), words
        ):
            return 0
        values = (returned,)
    else:
        # A tuple of our own: a conversion could change a list, and what a subclass says of its length needn't be true.
        values = tuple(returned) if isinstance(returned, (tuple, list)) else ()
        if len(values) != signature.n_results or not isinstance(returned, (tuple, list)):
            raise TypeError(
                f"host function {printable(host.name)} must return a tuple of {signature.n_results} values, "
                f"not {described(returned)}"
            )
    for i in range(signature.n_results):
        try:
            convert(
                store,
                signature.types[n + i],
                cython.cast(Kind, signature.kinds[n + i]),
                values[i],
                words + signature.places[n + i],
            )
        except (TypeError, OverflowError, ValueError) as error:
            raise type(error)(f"result of host function {printable(host.name)}: {error}") from None
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _host_call_words(
    ctx: cython.pointer(WlContext), store: Store, function: cython.pointer(WlFunction), offset: uint64_t
) -> cython.int:
    """Call a host function whose arguments are at `offset` on the value stack; its results replace them.

    Returns 1, and writes nothing, if the guest has to wait for the results.
    """
    waits: cython.int = 0
    few = cython.declare(uint64_t[16])  # WORDS_ON_STACK
    words: cython.pointer(uint64_t)
    param_slots: uint32_t
    result_slots: uint32_t
    signature: Signature
    if function.instance == cython.NULL:
        param_slots, result_slots = host_param_slots(function), host_result_slots(function)
    else:
        signature = signature_at(function)
        param_slots, result_slots = signature.param_slots, signature.result_slots
    words = room_for(max(param_slots, result_slots), few)
    try:
        copy_words(words, cython.cast(cython.pointer(uint64_t), ctx.stack_base + offset), param_slots)
        if function.instance == cython.NULL:
            waits = call_host(store, host_of(function), words, store.guest.entry.may_wait)
            if not waits:
                store.guest.heap.holds -= 1  # the words are on the stack before other code can run
        else:
            compiler_tier.call(store, function, words, param_slots, result_slots)  # it has been compiled by now
        if not waits:
            copy_words(cython.cast(cython.pointer(uint64_t), ctx.stack_base + offset), words, result_slots)
    finally:
        free_room(words, few)
    return waits


@cython.cfunc
@cython.exceptval(check=False)
def _host_call_with_gil(
    ctx: cython.pointer(WlContext),
    function: cython.pointer(WlFunction),
    fp: cython.pointer(uint64_t),
    return_ip: cython.p_char,
) -> uint64_t:
    """Run a host function; an exception waits in the store until the guest has been left."""
    store: Store = cython.cast(Store, ctx.store)
    offset: uint64_t = cython.cast(cython.p_char, fp) - ctx.stack_base
    room: uint64_t = SLOT_BYTES * MAX_ARGUMENTS  # as for a compiled function; nothing here may raise
    ended: cython.int
    code: uint64_t
    if function.instance == cython.NULL:
        room = SLOT_BYTES * max(host_param_slots(function), host_result_slots(function))
    # For backtraces and nested entries. An entry saves these fields before it overwrites them.
    ctx.host_ip = return_ip
    ctx.host_fp = offset
    ctx.host_function = function
    ctx.stack_top = offset + room
    code = grow_stack(store.guest, ctx.stack_top)
    if code:
        return code
    ended = cython.cast(HostCallWords, cython.cast(cython.p_void, _host_call_words))(ctx, store, function, offset)
    if ended > 0:
        return _HOST_WAIT
    if ended == 0:
        ctx.host_function = cython.NULL
        return 0
    return fetch_error(ctx, store)


@cython.cfunc
@cython.exceptval(check=False)
def fetch_error(ctx: cython.pointer(WlContext), store: Store) -> uint64_t:
    """Take the exception that a host function has raised: into the guest if it can catch it, else into the store.

    Returns the code to leave the guest with: `UNCAUGHT_EXCEPTION` when the guest's exception is in ``ctx.exception``.
    """
    store.take_error()
    if not PyErr_GivenExceptionMatches(store.error_type, cython.cast(cython.pointer(PyObject), _WasmException)):
        return _HOST_EXCEPTION
    if cython.cast(HandOver, cython.cast(cython.p_void, _hand_over))(ctx, store) < 0:
        store.take_error()  # what the conversion, or a signal handler meanwhile, has raised
        return _HOST_EXCEPTION
    return _UNCAUGHT_EXCEPTION


@cython.cfunc
@cython.exceptval(-1, check=False)
def _hand_over(ctx: cython.pointer(WlContext), store: Store) -> cython.int:
    """Move the `WasmException` that the store has taken to the guest's ``ctx.exception``. May run any Python code."""
    PyErr_NormalizeException(
        cython.address(store.error_type), cython.address(store.error_value), cython.address(store.error_traceback)
    )
    error = cython.cast(object, store.error_value)
    if not isinstance(error, WasmException):
        raise error  # its class has raised it instead
    convert(store, _EXNREF, KIND_EXN, error, cython.address(ctx.exception))
    store.drop_error()
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _host_call(
    ctx: cython.pointer(WlContext),
    function: cython.pointer(WlFunction),
    fp: cython.pointer(uint64_t),
    return_ip: cython.p_char,
) -> uint64_t:
    """Run a host function that the guest calls, with the GIL held meanwhile."""
    code: uint64_t
    enter_python(ctx)
    code = cython.cast(HostCall, cython.cast(cython.p_void, _host_call_with_gil))(ctx, function, fp, return_ip)
    leave_python(ctx)
    if guests.ticker_state != TICKING:
        wake_ticker()  # the host function forked, or nothing has run for long
    return code


set_runtime_call(RT_HOST_CALL, cython.cast(cython.p_void, _host_call))
if log.STACKS:
    from wasmloom.interpreter import trace as _trace  # noqa: F401  (registers the tracing functions)
