from libc.stdint cimport uint8_t, uint64_t

from wasmloom.contract._layout cimport OBJECT_CLASSES, WlContext, WlObject

cdef enum:
    SLAB_BYTES = 131072         # a slab's size and alignment
    SLAB_SHIFT = 17
    SLOT_SHIFT = 3              # slots of SLOT_BYTES, each of which has a bit
    SLAB_HEADER = 128           # bytes before a slab's first block
    MAX_REGION = 16777216       # most bytes that are mapped at a time
    HUGE_REGION = 8388608       # so many, or more, are huge pages: the stacks in them don't fit into caches and TLBs
    CONT_CLASS = 0              # the size class of continuations; those of exceptions follow
    CLASSES = 9
    FIRST_EXCEPTION_WORDS = 8   # size of the smallest class of exceptions; each has twice the size of the one before
    FIRST_OBJECT_CLASS = 9      # from here on: slabs of objects, by size class; the last one: a large object
    LARGE_CLASS = 44
    NO_CLASS = 45               # slabs that have no blocks now: they are objects' again when they are needed
    SLAB_KINDS = 46
    MARK_BYTES = 2048           # a bit for each 8 bytes of a slab, behind its header: of objects, which are marked
    HEAP_FLOOR = 1048576        # bytes to allocate before the collector runs at all
    OBJECT_FLOOR = 4194304      # the same where objects are made
    CHUNK = 4096                # bytes of blocks that have never been used which are handed out at a time
    FIRST_MARKS = 4096          # objects that the collector can keep in mind at first
    PAUSES = 512                # so many collections are remembered
    # Bits of a block's mark.
    MARK_LIVE = 1               # reachable
    MARK_NAMED = 2              # some word has its address, with any revision

# Blocks of one size, one after another.
ctypedef struct Slab:
    Slab *next
    uint64_t kind               # size class
    uint64_t size               # bytes of a block
    uint64_t count              # blocks that fit
    uint64_t used               # blocks that have been handed out at least once: the first ones
    uint64_t number             # how many slabs the heap had before this one
    uint64_t first              # where the first block is: bytes from the slab's beginning
    # Of objects: blocks that can be used again, linked by their second words, and how many; the next one of this class
    # that has some (`wasmloom.runtime.sweeping`); the bytes that have been charged.
    void *free
    uint64_t free_count
    Slab *next_free
    uint64_t charged
    uint64_t marked             # objects in it that are marked; of slabs that wait to be swept it isn't 0

# A reference that Python holds.
ctypedef struct Pin:
    Pin *next
    uint64_t word               # 0: what was referred to has been consumed
    uint64_t held               # 0: no Python object has the pin any more

# What the collector calls for every range of words that may hold references.
ctypedef void (*OnWords)(void *store, const uint64_t *words, uint64_t count) noexcept nogil

ctypedef struct Heap:
    Slab *slabs                 # all, the newest first
    uint64_t slab_count
    Slab *filling[9]            # by class: where new blocks come from
    void *free[9]               # by class: blocks of exceptions that can be used again
    Slab *filling_objects[36]   # by class of objects: where new blocks come from …
    Slab *free_objects[36]      # … and those with blocks that can be used again, linked by `next_free`
    Slab *empty                 # slabs without blocks, linked by `next_free`
    Slab **large                # objects that have their memory for themselves, each in a mapping of its own
    uint64_t large_count
    uint64_t large_room
    WlObject **marks            # what the collector has marked and not looked into
    uint64_t mark_room
    uint64_t object_bytes       # of blocks of objects that have been handed out, also those that are free again
    uint64_t large_bytes
    uint64_t live_bytes         # of objects in slabs that the last collection has left
    uint64_t all_allocated      # bytes handed out before the last collection
    uint64_t paused             # nanoseconds that all collections have taken, and the longest one
    uint64_t longest
    uint64_t *pauses            # nanoseconds of the last collections, in a ring; NULL: there has been none
    bint checks                 # a collection comes before each object: for tests
    bint logs                   # collections are logged
    char *region                # mapped memory that is no slab yet
    char *region_end
    void *regions               # all mapped memory: each begins with (next, size)
    Slab **table                # hash table of the slabs, by address
    uint64_t table_room
    uint64_t lowest             # all slabs lie in [lowest, highest)
    uint64_t highest
    uint64_t block_bytes        # in blocks that have been handed out at least once
    uint64_t grown              # bytes of stacks that have outgrown their blocks
    uint64_t grown_at           # `grown` that makes the collector run
    uint64_t allocated          # bytes handed out since the last collection
    uint64_t collect_at         # `allocated` that lets the collector run
    uint64_t scanned            # words looked at by the running collection
    uint64_t collections        # how many there have been
    uint64_t holds              # while it is not 0, references are where the collector doesn't see them
    Pin *pins
    uint64_t pin_count
    uint64_t pins_at            # this many make `pin` drop those that nothing holds
    OnWords on_words            # NULL: nothing listens

cdef uint64_t no_type[80]           # a WlType that no object has (`WlContext.no_type`): all 0

cdef void *new_block(Heap *heap, uint64_t kind) noexcept nogil
cdef uint64_t class_bytes(uint64_t kind) noexcept nogil
cdef uint64_t exception_class(uint64_t count) noexcept nogil
cdef Slab *find_slab(Heap *heap, uint64_t address) noexcept nogil
cdef Slab *take_slab(Heap *heap, uint64_t kind, uint64_t size) noexcept nogil
cdef Slab *new_large(Heap *heap, uint64_t size) noexcept nogil
cdef void free_large(Slab *slab) noexcept nogil
cdef void link_fresh(Slab *slab, uint64_t count) noexcept nogil
cdef Slab *slab_of(Heap *heap, uint64_t address) noexcept nogil
cdef uint64_t block_index(Slab *slab, uint64_t address) noexcept nogil
cdef Pin *pin(Heap *heap, uint64_t word) except? NULL
cdef void free_heap(Heap *heap) noexcept

# The marks of a slab of objects.
cdef inline uint8_t *mark_bits(Slab *slab) noexcept nogil:
    return <uint8_t *>slab + SLAB_HEADER

# Whether an object, whose beginning this is, is marked.
cdef inline bint is_marked(void *object) noexcept nogil:
    cdef uint64_t address = <uint64_t>object
    cdef uint64_t at = address & (SLAB_BYTES - 1)
    return mark_bits(<Slab *>(address - at))[at >> 6] >> (at >> SLOT_SHIFT & 7) & 1

# A block by its position in its slab.
cdef inline void *block_at(Slab *slab, uint64_t index) noexcept nogil:
    return <char *>slab + slab.first + index * slab.size
