cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free

from wasmloom.host.signatures cimport Signature
from wasmloom.contract._layout cimport WlContext, WlFunction, WlInstance
from wasmloom.runtime.store cimport Store

# Tells whether an object can be awaited.
cdef extern from "Python.h":
    ctypedef struct PyAsyncMethods:
        void *am_await
    ctypedef struct TypeObject "PyTypeObject":
        PyAsyncMethods *tp_as_async
    TypeObject *Py_TYPE(object)
    TypeObject *type_of "Py_TYPE" (PyObject *)
    bint PyCoro_CheckExact(object)
    bint PyGen_CheckExact(object)

# A host call with the GIL, as the code that takes the GIL sees it.
ctypedef uint64_t (*HostCall)(WlContext *, WlFunction *, uint64_t *, char *) noexcept nogil

@cython.final
@cython.no_gc_clear
cdef class HostFunction:
    cdef object function
    cdef readonly Signature signature
    cdef readonly str name
    cdef object keeper                  # what keeps its type alive

# The same function with and without Cython's check for an exception: `_host_call_with_gil` checks for itself.
ctypedef int (*HostCallWords)(WlContext *, Store, WlFunction *, uint64_t) noexcept
ctypedef int (*HandOver)(WlContext *, Store) noexcept
ctypedef int (*AdapterWords)(WlContext *, WlFunction *, uint64_t *) noexcept
ctypedef int (*Compile)(Store, WlInstance *, uint64_t, uint64_t *) noexcept
ctypedef uint64_t (*CompileCall)(WlContext *, WlInstance *, uint64_t, uint64_t *) noexcept nogil
ctypedef uint64_t (*AdapterCall)(WlContext *, WlFunction *, uint64_t *, bint) noexcept nogil

@cython.final
@cython.no_gc_clear
cdef class Func:
    cdef void *vectorcall               # the type's slot has this field's offset
    cdef Store _store
    cdef WlFunction *pointer
    cdef Signature signature
    cdef str _name

    cdef object call(self, PyObject **args, Py_ssize_t count)
    cdef int take(self, PyObject **args, Py_ssize_t count, uint64_t *words) except -1
    cdef int take_others(self, PyObject **args, uint32_t i, uint64_t *words) except -1
    cdef object finish(self, uint64_t *words)

cdef uint64_t *room_for(uint32_t count, uint64_t *few) except? NULL

# Free what `room_for` has allocated, if it has.
cdef inline void free_room(uint64_t *words, uint64_t *few) noexcept nogil:
    if words != few:
        free(words)

cdef Signature signature_at(WlFunction *function)
cdef int take_arguments(
    Store store, Signature signature, PyObject **args, uint32_t i, uint64_t *words, Func func
) except -1
cdef object results_of(Store store, Signature signature, uint64_t *words)
cdef Func func_at(Store store, WlFunction *function)
cdef WlFunction *new_host_function(
    Store store, Signature signature, object function, str name, object keeper
) except? NULL
cdef int call_from_host(
    Store store, HostFunction host, uint64_t *words, bint may_wait, uint64_t instance
) except -1
cdef int call_host(Store store, HostFunction host, uint64_t *words, bint may_wait) except -1
cdef int take_results(Store store, HostFunction host, object returned, uint64_t *words) except -1
# What runs a function that has no instance.
cdef inline HostFunction host_of(WlFunction *function):
    return <HostFunction><PyObject *>function.object

# How many parameters and results it has; without counting references.
cdef inline uint32_t host_param_slots(WlFunction *function) noexcept:
    return (<HostFunction><PyObject *>function.object).signature.param_slots

cdef inline uint32_t host_result_slots(WlFunction *function) noexcept:
    return (<HostFunction><PyObject *>function.object).signature.result_slots

cdef inline bint host_in_integers(WlFunction *function) noexcept:
    return (<HostFunction><PyObject *>function.object).signature.in_integers

cdef object BARE
cdef uint64_t fetch_error(WlContext *ctx, Store store) noexcept
