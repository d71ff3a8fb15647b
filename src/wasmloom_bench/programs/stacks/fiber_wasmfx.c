// Fibers over stack switching. The three imports are the functions of fiber_wasmfx.wat, which build.py puts in their
// place; they keep the continuation of each fiber in a table, by the fiber's number.
#include "fiber_pool.h"

#define FROM_TEXT(name) __attribute__((import_module("fiber"), import_name(name)))

FROM_TEXT("new") void continuation_new(uint32_t number);
FROM_TEXT("resume") int64_t continuation_resume(int64_t value, uint32_t number);
FROM_TEXT("suspend") int64_t continuation_suspend(int64_t value);

// The function of every continuation.
EXPORT("fiber_main") int64_t fiber_main(int64_t value) {
  fiber *self = running;
  value = self->body(value);
  self->done = true;
  return value;
}

int64_t fiber_resume(fiber *f, int64_t value) {
  uintptr_t c_stack = get_c_stack();
  if (!f->started) {
    f->started = true;
    continuation_new(f->number);
  }
  f->resumer = running;
  running = f;
  set_c_stack(f->c_stack);
  value = continuation_resume(value, f->number);
  f->c_stack = get_c_stack();
  set_c_stack(c_stack);
  running = f->resumer;
  return value;
}

int64_t fiber_yield(int64_t value) { return continuation_suspend(value); }
