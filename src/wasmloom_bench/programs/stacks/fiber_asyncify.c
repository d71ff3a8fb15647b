// Fibers over Binaryen's asyncify pass: to stop, every function on the fiber's stack saves its locals and returns; to go
// on, every one is called again and jumps to where it was.
#define FIBER_EXTRA              \
  int64_t value;                 \
  bool rewinding;                \
  struct {                       \
    char *position, *end;        \
  } frames; // what asyncify expects: where the next frame is saved, and where the room ends

#include "fiber_pool.h"

#define ASYNCIFY(name) __attribute__((import_module("asyncify"), import_name(name)))

ASYNCIFY("start_unwind") void asyncify_start_unwind(void *frames);
ASYNCIFY("stop_unwind") void asyncify_stop_unwind(void);
ASYNCIFY("start_rewind") void asyncify_start_rewind(void *frames);
ASYNCIFY("stop_rewind") void asyncify_stop_rewind(void);

static bool unwinding;

// The frames are saved from the low end of the fiber's stack, C uses it from the high end.
NOINLINE int64_t fiber_resume(fiber *f, int64_t value) {
  uintptr_t c_stack = get_c_stack();
  f->resumer = running;
  running = f;
  f->value = value;
  set_c_stack(f->c_stack);
  if (f->started) {
    f->rewinding = true;
    asyncify_start_rewind(&f->frames);
  } else {
    f->started = true;
    f->frames.position = f->stack;
    f->frames.end = f->stack + FIBER_STACK;
  }
  value = f->body(value);
  f->c_stack = get_c_stack();
  set_c_stack(c_stack);
  if (unwinding) {
    unwinding = false;
    asyncify_stop_unwind();
    value = f->value;
  } else {
    f->done = true;
  }
  running = f->resumer;
  return value;
}

NOINLINE int64_t fiber_yield(int64_t value) {
  fiber *self = running;
  if (self->rewinding) {
    self->rewinding = false;
    asyncify_stop_rewind();
    return self->value;
  }
  self->value = value;
  unwinding = true;
  asyncify_start_unwind(&self->frames);
  return 0;
}
