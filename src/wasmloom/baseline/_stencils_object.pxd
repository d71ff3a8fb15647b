# What the object with the stencils exports (see wasmloom/baseline/generator.py); only planner.py links it.
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t

cdef extern from *:
    """
    #include <stdint.h>
    typedef struct {
        uint32_t code; uint16_t hot, cold; uint32_t numbers, holes, patches;
        uint8_t number_count, hot_holes, cold_holes, patch_count, leads, small[2], narrow[2], unused[3];
    } WlStencil;
    typedef struct { uint16_t at; int16_t addend, from; uint8_t shift, scale; } WlNumber;
    typedef struct {
        uint16_t at; uint8_t form, what; int32_t addend;
        uint16_t offset; uint8_t width, is_signed, scale, small; uint16_t unused;
    } WlHole;
    typedef struct { uint8_t roles, floats, effect, dst, at[3], made[3]; } WlPinning;
    #define WL_STENCILS_HIDDEN __attribute__((visibility("hidden")))
    extern WL_STENCILS_HIDDEN char wl_stencil_code[];
    extern WL_STENCILS_HIDDEN WlStencil wl_stencils[];
    extern WL_STENCILS_HIDDEN WlNumber wl_stencil_numbers[];
    extern WL_STENCILS_HIDDEN WlHole wl_stencil_holes[];
    extern WL_STENCILS_HIDDEN int16_t wl_stencil_variants[];
    extern WL_STENCILS_HIDDEN WlPinning wl_pinnings[];
    extern WL_STENCILS_HIDDEN uint16_t wl_patches[];
    extern WL_STENCILS_HIDDEN char wl_stencil_constants[];
    extern WL_STENCILS_HIDDEN int64_t wl_stencil_constants_size;
    extern WL_STENCILS_HIDDEN int16_t wl_instruction_parts[];
    extern WL_STENCILS_HIDDEN int16_t wl_instruction_leads[];
    """
    # A stencil: where its code begins, how much of it usually runs and how much lies behind that, and so on: see
    # `wasmloom.baseline.holes.STENCIL`.
    ctypedef struct Stencil "WlStencil":
        uint32_t code
        uint16_t hot
        uint16_t cold
        uint32_t numbers
        uint32_t holes
        uint32_t patches
        uint8_t number_count
        uint8_t hot_holes
        uint8_t cold_holes
        uint8_t patch_count
        uint8_t leads
        uint8_t small[2]
        uint8_t narrow[2]
    # A hole of the usual kind: see `wasmloom.baseline.holes.NUMBER`.
    ctypedef struct Number "WlNumber":
        uint16_t at
        int16_t addend
        int16_t read_from "from"
        uint8_t shift
        uint8_t scale
    # A hole: where it is in its part, how it is written, what belongs there (see generator.py).
    ctypedef struct Hole "WlHole":
        uint16_t at
        uint8_t form
        uint8_t what
        int32_t addend
        uint16_t offset
        uint8_t width
        uint8_t is_signed
        uint8_t scale
        uint8_t small
    # What a stencil has to do with pins: see `wasmloom.baseline.roles`.
    ctypedef struct Pinning "WlPinning":
        uint8_t roles
        uint8_t floats
        uint8_t effect
        uint8_t dst
        uint8_t at[3]
        uint8_t made[3]
    char wl_stencil_code[]
    Stencil wl_stencils[]
    Number wl_stencil_numbers[]
    Hole wl_stencil_holes[]
    int16_t wl_stencil_variants[]
    Pinning wl_pinnings[]
    uint16_t wl_patches[]
    char wl_stencil_constants[]
    int64_t wl_stencil_constants_size
    int16_t wl_instruction_parts[]
    int16_t wl_instruction_leads[]
