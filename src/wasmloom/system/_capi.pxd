# C declarations that Cython's own includes lack, or that the runtime needs without the GIL.
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t
from posix.time cimport timespec
from posix.types cimport pid_t

cdef extern from "Python.h" nogil:
    ctypedef struct PyThreadState:
        PyThreadState *prev
        PyThreadState *next
    PyThreadState *PyThreadState_Get()
    PyThreadState *PyEval_SaveThread()
    void PyEval_RestoreThread(PyThreadState *)
    ctypedef enum PyGILState_STATE:
        pass
    PyGILState_STATE PyGILState_Ensure()
    void PyGILState_Release(PyGILState_STATE)

cdef extern from "Python.h":
    # Of a pointer that is held elsewhere, without Cython's counting of references.
    bint is_int "PyLong_Check" (PyObject *)
    long long int_of "PyLong_AsLongLongAndOverflow" (PyObject *, int *overflow)
    PyObject *new_int "PyLong_FromLong" (long)
    void drop "Py_DECREF" (PyObject *)
    # Of a dict or list, which isn't checked.
    Py_ssize_t PyDict_GET_SIZE(object)
    void PyErr_Clear()
    int PyThreadState_SetAsyncExc(unsigned long, object)
    # Returns -1 with an exception set where the key isn't there.
    int delete_item "PyDict_DelItem" (PyObject *, PyObject *)
    Py_ssize_t PyList_GET_SIZE(object)
    # NULL: what doesn't fit becomes the smallest or the largest number.
    Py_ssize_t PyNumber_AsSsize_t(object, PyObject *) except? -1
    int PySlice_Unpack(object, Py_ssize_t *, Py_ssize_t *, Py_ssize_t *) except -1
    Py_ssize_t PySlice_AdjustIndices(Py_ssize_t, Py_ssize_t *, Py_ssize_t *, Py_ssize_t)
    void PyErr_Fetch(PyObject **, PyObject **, PyObject **)
    void PyErr_Restore(PyObject *, PyObject *, PyObject *)
    void Py_XDECREF(PyObject *)
    int PyErr_GivenExceptionMatches(PyObject *, PyObject *)
    void PyErr_NormalizeException(PyObject **, PyObject **, PyObject **)
    # Return whether the garbage collector was on.
    int PyGC_Disable()
    int PyGC_Enable()
    # Returns a new reference, or NULL with an exception set.
    PyObject *PyObject_Vectorcall(PyObject *, PyObject **, size_t, PyObject *)
    ctypedef struct VectorcallType "PyTypeObject":
        Py_ssize_t tp_vectorcall_offset
        unsigned long tp_flags
    enum: Py_TPFLAGS_HAVE_VECTORCALL
    Py_ssize_t PyVectorcall_NARGS(size_t)

cdef extern from * nogil:
    """
    #if PY_VERSION_HEX < 0x030D0000
    #define wl_python_ends _Py_IsFinalizing
    #else
    #define wl_python_ends Py_IsFinalizing
    #endif
    """
    # Whether the interpreter is being finalised: threads other than the one that does it never get the GIL again.
    bint wl_python_ends()
cdef extern from "Python.h":
    """
    /* Let no Python code make objects of a type: its insides are filled in by code of ours. With the flag, and
       without a `tp_vectorcall` of its own, calling the type is a TypeError; without `tp_new`, and with `__new__` gone
       from its attributes, `T.__new__(T)` is object's, which refuses it. Copying and pickling come down to these.
       Cython's own `T.__new__(T, ...)`, in the module that defines T, calls the function itself. The type must be
       final: a subclass would call `tp_new`. */
    static inline int wl_seal(PyObject *type) {
        PyTypeObject *sealed = (PyTypeObject *)type;
        sealed->tp_new = NULL;
        sealed->tp_vectorcall = NULL;
        sealed->tp_flags |= Py_TPFLAGS_DISALLOW_INSTANTIATION;
        if (PyDict_Contains(sealed->tp_dict, PyUnicode_InternFromString("__new__")) == 1
            && PyDict_DelItemString(sealed->tp_dict, "__new__") < 0)
            return -1;
        PyType_Modified(sealed);
        return 0;
    }
    """
    int seal "wl_seal" (object) except -1

cdef extern from "Python.h":
    """
    /* Bytes that an object takes, as `sys.getsizeof` counts them, but without running any code of Python: of a class
       that has a `__sizeof__` written in Python only what all its objects take. 0 when there is no memory to ask. */
    static inline size_t wl_size_of(PyObject *object) {
        static PyObject *name, *common;
        PyTypeObject *type = Py_TYPE(object);
        PyObject *method, *size;
        size_t bytes;
        if (name == NULL) {
            if ((name = PyUnicode_InternFromString("__sizeof__")) == NULL) {
                PyErr_Clear();
                return 0;
            }
            common = _PyType_Lookup(&PyBaseObject_Type, name);
        }
        method = _PyType_Lookup(type, name);  /* borrowed, and raises nothing */
        if (method == NULL || !Py_IS_TYPE(method, &PyMethodDescr_Type) || (method == common && !type->tp_itemsize))
            return (size_t)type->tp_basicsize;
        Py_INCREF(method);
        size = PyObject_CallOneArg(method, object);
        Py_DECREF(method);
        if (size == NULL) {
            PyErr_Clear();
            return (size_t)type->tp_basicsize;
        }
        bytes = PyLong_AsSize_t(size);
        Py_DECREF(size);
        if (bytes == (size_t)-1)
            PyErr_Clear();
        return bytes >> 48 ? 0 : bytes;
    }
    """
    size_t size_of "wl_size_of" (object) noexcept

cdef extern from "pythread.h" nogil:
    ctypedef void *PyThread_type_lock
    PyThread_type_lock PyThread_allocate_lock()
    void PyThread_free_lock(PyThread_type_lock)
    int PyThread_acquire_lock(PyThread_type_lock, int wait)
    int PyThread_acquire_lock_timed(PyThread_type_lock, long long microseconds, int interruptible)
    void PyThread_release_lock(PyThread_type_lock)
    # Bytes of the C stacks of the interpreter's new threads; 0: the system's default. Setting gives 0 when it is done.
    size_t PyThread_get_stacksize()
    int PyThread_set_stacksize(size_t)

cdef extern from "<sys/mman.h>" nogil:
    enum: MREMAP_MAYMOVE

cdef extern from "<pthread.h>" nogil:
    ctypedef unsigned long pthread_t
    ctypedef unsigned int pthread_key_t
    ctypedef struct pthread_attr_t:
        pass
    int pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *) noexcept nogil, void *)
    pthread_t pthread_self()
    int pthread_attr_init(pthread_attr_t *)
    int pthread_attr_destroy(pthread_attr_t *)
    int pthread_attr_setdetachstate(pthread_attr_t *, int)
    int pthread_attr_setstacksize(pthread_attr_t *, size_t)
    int pthread_attr_getstack(const pthread_attr_t *, void **, size_t *)
    int pthread_getattr_np(pthread_t, pthread_attr_t *)
    int pthread_atfork(void (*)() noexcept nogil, void (*)() noexcept nogil, void (*)() noexcept nogil)
    int pthread_key_create(pthread_key_t *, void (*)(void *) noexcept nogil)
    void *pthread_getspecific(pthread_key_t)
    int pthread_setspecific(pthread_key_t, const void *)
    enum: PTHREAD_CREATE_DETACHED

ctypedef void (*Handler)(int) noexcept nogil
ctypedef void (*InfoHandler)(int, siginfo_t *, void *) noexcept nogil

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    ctypedef struct siginfo_t:
        int si_signo
        int si_code
        pid_t si_pid
        void *si_addr
    ctypedef struct sigaction_t "struct sigaction":
        Handler sa_handler
        InfoHandler sa_sigaction
        sigset_t sa_mask
        int sa_flags
    Handler SIG_DFL
    Handler SIG_IGN
    int sigaction(int, const sigaction_t *, sigaction_t *)
    int sigfillset(sigset_t *)
    int sigaddset(sigset_t *, int)
    int pthread_sigmask(int, const sigset_t *, sigset_t *)
    int raise_ "raise" (int)
    int pthread_kill(uint64_t, int)
    enum: SIGSEGV
    enum: SIGBUS
    enum: SIGPROF
    enum: SIG_BLOCK
    enum: SIG_SETMASK
    enum: SI_TKILL
    enum: SA_NODEFER
    enum: SA_ONSTACK
    enum: SA_RESETHAND
    enum: SA_RESTART
    enum: SA_SIGINFO

cdef extern from "<errno.h>" nogil:
    int *__errno_location()

cdef extern from "<semaphore.h>" nogil:
    ctypedef struct sem_t:
        pass
    int sem_init(sem_t *, int, unsigned int)
    int sem_post(sem_t *)
    int sem_wait(sem_t *)

cdef extern from "<time.h>" nogil:
    int nanosleep(const timespec *, timespec *)
    int clock_gettime(int, timespec *)
    enum: CLOCK_MONOTONIC

cdef extern from * nogil:
    # GCC and Clang builtin: a full memory barrier.
    void __sync_synchronize()
    # GCC and Clang builtin: write the second where the first is found; a full barrier either way.
    bint __sync_bool_compare_and_swap(int *, int, int)

cdef extern from * nogil:
    """
    #include <sys/syscall.h>
    #include <unistd.h>
    /* membarrier(2). The numbers are the kernel's: older headers lack them. */
    #if !defined(SYS_membarrier) && defined(__x86_64__)
    #define SYS_membarrier 324
    #endif
    static inline int wl_share_barriers(void) { return syscall(SYS_membarrier, 1 << 4, 0) == 0; }
    static inline void wl_barrier_for_all(void) { syscall(SYS_membarrier, 1 << 3, 0); }
    """
    # MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED: whether this process may use the other.
    bint wl_share_barriers()
    # MEMBARRIER_CMD_PRIVATE_EXPEDITED: a full memory barrier in every thread of the process that runs now.
    void wl_barrier_for_all()
