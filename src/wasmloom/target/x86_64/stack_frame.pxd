# Frames on native stacks (System V ABI): the frame pointer leads to that of the caller, above it is the return address.
from libc.stdint cimport int32_t, uint64_t

cdef enum:
    # The alignment of the stack pointer where a function is called.
    STACK_ALIGNMENT = 16
    # From the record of compiled code that waits for bytecode to its frame (see crossings.py).
    WAITING_FRAME = 64

# Where the caller of the function that has this frame goes on.
cdef inline uint64_t return_address(uint64_t frame) noexcept nogil:
    return (<uint64_t *>frame)[1]

# What lies above a return address: another one, if a function that has no frame of its own has called.
cdef inline uint64_t above_return_address(uint64_t frame) noexcept nogil:
    return (<uint64_t *>frame)[2]

cdef inline uint64_t outer_frame(uint64_t frame) noexcept nogil:
    return (<uint64_t *>frame)[0]

# The instance whose compiled code has called an adapter, whose frame this is; see `_adapter` in stubs.py.
cdef inline uint64_t instance_of_adapter(uint64_t frame) noexcept nogil:
    return (<uint64_t *>frame)[-2]

# The `WlLoop` that a loop stub is about: see `write_loop_stub` in code.py. Async-signal-safe.
cdef inline uint64_t *loop_of_stub(uint64_t stub) noexcept nogil:
    return <uint64_t *>(stub + 7 + (<int32_t *>(stub + 3))[0])
