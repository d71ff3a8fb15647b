# What the generated handlers object exports (see wasmloom/interpreter/handlers.py); only machine.py links it.
from libc.stdint cimport int16_t, int32_t, int64_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    #define WL_HIDDEN __attribute__((visibility("hidden")))
    extern WL_HIDDEN void wl_enter(void *context, void *instance, void *code, void *frame);
    extern WL_HIDDEN void *const wl_handlers[];
    extern WL_HIDDEN const int16_t wl_sizes[];
    extern WL_HIDDEN const int16_t wl_value_table[];
    extern WL_HIDDEN const int16_t wl_load_table[];
    extern WL_HIDDEN const int16_t wl_store_table[];
    extern WL_HIDDEN const int16_t wl_branch_table[];
    extern WL_HIDDEN const int16_t wl_single_table[];
    extern WL_HIDDEN const int16_t wl_vector_table[];
    extern WL_HIDDEN const int16_t wl_lane_table[];
    extern WL_HIDDEN const int16_t wl_fault_offsets[];
    extern WL_HIDDEN const int32_t wl_fusion_rows[];
    extern WL_HIDDEN const int16_t wl_fusion_columns[];
    extern WL_HIDDEN const int16_t wl_fusion_table[];
    extern WL_HIDDEN void *const wl_externals[];
    extern WL_HIDDEN const int64_t wl_handler_count;
    extern WL_HIDDEN void *wl_runtime[];
    extern WL_HIDDEN void *wl_cont_return_code[2];
    extern WL_HIDDEN void *const wl_fault_entry;
    extern WL_HIDDEN void wl_native_enter(void *, void *, void *, void *, void *, void *);
    extern WL_HIDDEN void wl_native_continue(void *, void *);
    extern WL_HIDDEN char wl_native_return[], wl_native_leave[], wl_on_host[], wl_compiled_trap[], wl_adapter[];
    extern WL_HIDDEN char wl_array_adapter[], wl_lazy[], wl_loop_interrupt[], wl_morestack[], wl_fiber_start[];
    extern WL_HIDDEN char wl_fiber_return[], wl_switch_call[], wl_drive[];
    extern WL_HIDDEN char wl_frames[], wl_frames_start[], wl_frames_return[], wl_frames_bottom[];
    extern WL_HIDDEN char wl_crossing[], wl_crossing_function[], wl_native_back[], wl_osr[], wl_cross_code[];
    extern WL_HIDDEN char wl_cross_go_on[], wl_leave_code[];
    extern WL_HIDDEN char __start_wl_text[];
    extern WL_HIDDEN char __stop_wl_text[];
    """
    void wl_enter(void *context, void *instance, void *code, void *frame) noexcept nogil
    void *wl_handlers[]
    const int16_t wl_sizes[]
    const int16_t wl_value_table[]
    const int16_t wl_load_table[]
    const int16_t wl_store_table[]
    const int16_t wl_branch_table[]
    const int16_t wl_single_table[]
    const int16_t wl_vector_table[]
    const int16_t wl_lane_table[]
    const int16_t wl_fault_offsets[]
    const int32_t wl_fusion_rows[]
    const int16_t wl_fusion_columns[]
    const int16_t wl_fusion_table[]
    void *wl_externals[]
    const int64_t wl_handler_count
    void *wl_runtime[]
    void *wl_cont_return_code[]
    void *wl_fault_entry
    # Machine code around compiled functions: see the stubs of wasmloom.target.
    void wl_native_enter(void *ctx, void *array_call, void *code, void *env, void *words, void *top) noexcept nogil
    void wl_native_continue(void *ctx, void *top) noexcept nogil
    char wl_native_return[]
    char wl_native_leave[]
    char wl_on_host[]
    char wl_compiled_trap[]
    char wl_adapter[]
    char wl_array_adapter[]
    char wl_lazy[]
    char wl_loop_interrupt[]
    char wl_morestack[]
    char wl_fiber_start[]
    char wl_fiber_return[]
    char wl_switch_call[]
    char wl_drive[]
    char wl_frames[]
    char wl_frames_start[]
    char wl_frames_return[]
    char wl_frames_bottom[]
    char wl_crossing[]
    char wl_crossing_function[]
    char wl_native_back[]
    char wl_osr[]
    char wl_cross_go_on[]
    char wl_cross_code[]
    char wl_leave_code[]
    char __start_wl_text[]
    char __stop_wl_text[]
