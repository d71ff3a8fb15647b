cimport cython

cdef extern from *:
    """
    #include <stdint.h>

    /* GDB's JIT interface, version 1: names and layouts are given by it. */
    typedef struct WlJitEntry {
        struct WlJitEntry *next_entry;
        struct WlJitEntry *prev_entry;
        const char *symfile_addr;
        uint64_t symfile_size;
    } WlJitEntry;

    typedef struct WlJitDescriptor {
        uint32_t version;
        uint32_t action_flag;
        WlJitEntry *relevant_entry;
        WlJitEntry *first_entry;
    } WlJitDescriptor;

    #define WL_DEBUGGER_SEES __attribute__((used, visibility("default")))

    /* The debugger has a breakpoint here. */
    WL_DEBUGGER_SEES __attribute__((noinline)) void __jit_debug_register_code(void) {
        __asm__ volatile("" ::: "memory");
    }
    WL_DEBUGGER_SEES WlJitDescriptor __jit_debug_descriptor = {1, 0, 0, 0};
    """
    ctypedef struct WlJitEntry:
        WlJitEntry* next_entry
        WlJitEntry* prev_entry
        const char* symfile_addr
        unsigned long symfile_size
    ctypedef struct WlJitDescriptor:
        unsigned int version
        unsigned int action_flag
        WlJitEntry* relevant_entry
        WlJitEntry* first_entry
    WlJitDescriptor __jit_debug_descriptor
    void __jit_debug_register_code() nogil

@cython.final
cdef class Description:
    cdef WlJitEntry *entry
