from libc.stdint cimport int64_t, uint64_t

from wasmloom.contract._layout cimport WlCont, WlContext, WlControl, WlFunction
from wasmloom.runtime.guests cimport Entry, Guest

cdef enum:
    MAX_ARGUMENTS = 2048        # words of the context's `args`: most parameters, of two words each, and a tail call's
    FIRST_ROOT = 65536          # bytes of a store's first stack that aren't counted against its memory limit
    ROOT_BYTES = 8192           # what any other stack of an entry counts for at first
    STACK_PAGE = 4096           # what a continuation's stack counts for at first

# Makes a native stack of a suspended stack of bytecode: (guest, continuation, bytes of its memory that are in use).
ctypedef bint (*Convert)(Guest *, WlCont *, uint64_t) noexcept nogil

# Memory of native stacks: a region begins with this header; its stacks follow one another.
ctypedef struct Region:
    Region *next
    uint64_t size               # bytes mapped
    uint64_t used               # bytes handed out, this header included

# The stack of an entry from the host ends at this struct, in the last of `size` bytes from `base`. `control.next` links
# those in the pool.
ctypedef struct RootStack:
    WlControl control
    uint64_t size
    char *base
    int64_t uncounted           # bytes that it may use without counting them; positive for a store's first stack
    # The value stack of calls that can wait and have this one beside it (NULL: none has), and its bytes that count.
    char *values
    uint64_t values_size

cdef Convert convert
cdef void set_convert(Convert function) noexcept
cdef WlControl *stack_with_room(Guest *guest, uint64_t size) noexcept nogil
cdef bint prepare_context(Guest *guest) noexcept
cdef RootStack *new_root(Guest *guest) noexcept
cdef void free_roots(Guest *guest) noexcept
cdef uint64_t values_bytes(Guest *guest) noexcept nogil
cdef char *map_values(Guest *guest) noexcept nogil
cdef bint give_values(Guest *guest, RootStack *root) noexcept
cdef uint64_t prepare_resume(WlContext *ctx, uint64_t *words, uint64_t count, char *clauses) noexcept nogil
cdef bint runs_compiled(WlCont *cont) noexcept nogil
cdef void set_adapter(WlFunction *function) noexcept nogil
cdef char *usable_top(WlControl *control) noexcept nogil
cdef void free_native_stacks(Guest *guest) noexcept

# Whether a function runs as compiled code only: its environment is its instance. What compiled code calls through an
# adapter, or by a crossing, has itself as environment.
cdef inline bint is_compiled(WlFunction *function) noexcept nogil:
    return function.environment != <void *>function

# A stack for entries from the host, out of the pool when there is one; NULL when there is no memory.
cdef inline RootStack *take_root(Guest *guest) noexcept:
    cdef RootStack *root = <RootStack *>guest.root_stacks
    if root == NULL:
        return new_root(guest)
    guest.root_stacks = root.control.next
    return root

# Put a stack that nothing runs on into the pool.
cdef inline void release_root(Guest *guest, RootStack *root) noexcept nogil:
    root.control.cont = NULL
    root.control.next = guest.root_stacks
    guest.root_stacks = root

# Let an entry's bottom have the stack `root`, and save what the context holds of others. None of its stack is in use
# yet, unless the caller says so: it may resume a guest that waited.
cdef inline void use_root(Guest *guest, Entry *entry, RootStack *root) noexcept:
    cdef WlContext *ctx = &guest.ctx
    entry.bottom.control = &root.control
    root.control.cont = entry.bottom
    entry.host_sp = ctx.host_sp
    entry.guest_sp = ctx.guest_sp
    entry.guest_fp = ctx.guest_fp
    ctx.guest_sp = <char *>root
    ctx.pending = 0

# Let an entry run `current` on the stack `root`. From here on the collector visits the entry.
cdef inline void begin_entry(Guest *guest, Entry *entry, RootStack *root, WlCont *current) noexcept:
    cdef WlContext *ctx = &guest.ctx
    entry.native_stack = root
    use_root(guest, entry, root)
    ctx.current = current
    ctx.catch_top = 0
    ctx.stack_top = entry.base
    guest.entry = entry

# Undo `use_root`. The stack of an entry that may wait belongs to its `Parked`.
cdef inline void leave_root(Guest *guest, Entry *entry, RootStack *root) noexcept nogil:
    cdef WlContext *ctx = &guest.ctx
    if not entry.may_wait:
        release_root(guest, root)
    ctx.host_sp = entry.host_sp
    ctx.guest_sp = entry.guest_sp
    ctx.guest_fp = entry.guest_fp
    ctx.pending = 0
