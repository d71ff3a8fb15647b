from libc.stdint cimport uint64_t

cdef enum:
    SLAB_BYTES = 131072         # a slab's size and alignment
    SLAB_SHIFT = 17
    SLAB_HEADER = 128           # bytes before a slab's first block
    MAX_REGION = 16777216       # most bytes that are mapped at a time
    HUGE_REGION = 8388608       # so many, or more, are huge pages: the stacks in them don't fit into caches and TLBs
    CONT_CLASS = 0              # the size class of continuations; those of exceptions follow
    CLASSES = 9
    FIRST_EXCEPTION_WORDS = 8   # size of the smallest class of exceptions; each has twice the size of the one before
    HEAP_FLOOR = 1048576        # bytes to allocate before the collector runs at all
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

cdef void *new_block(Heap *heap, uint64_t kind) noexcept nogil
cdef uint64_t class_bytes(uint64_t kind) noexcept nogil
cdef uint64_t exception_class(uint64_t count) noexcept nogil
cdef Slab *slab_of(Heap *heap, uint64_t address) noexcept nogil
cdef void *block_at(Slab *slab, uint64_t index) noexcept nogil
cdef uint64_t block_index(Slab *slab, uint64_t address) noexcept nogil
cdef Pin *pin(Heap *heap, uint64_t word) except? NULL
cdef void free_heap(Heap *heap) noexcept
