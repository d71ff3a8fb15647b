from wasmloom.runtime.guests cimport Guest
from wasmloom.runtime.heap cimport Heap, Slab

cdef void sweep(Guest *guest) noexcept nogil
cdef void sweep_slab(Slab *slab) noexcept nogil
cdef void finish_sweeping(Heap *heap) noexcept nogil
