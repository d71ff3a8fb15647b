// As state.wat: counting to n by `get` and `put`, which a handler answers.
#include "fiber.h"

// What the fiber yields: a request to read, or a state to write, which is never negative.
#define GET (-1)

static NOINLINE int64_t get(void) { return fiber_yield(GET); }
static NOINLINE void put(int64_t state) { fiber_yield(state); }

static int64_t count(int64_t limit) {
  while (get() < limit) put(get() + 1);
  return get();
}

EXPORT("run") int64_t run(uint32_t n) {
  int64_t state = 0;
  fiber *f = fiber_alloc(count);
  int64_t request = fiber_resume(f, n);
  while (!fiber_done(f)) {
    if (request != GET) state = request;
    request = fiber_resume(f, state);
  }
  fiber_free(f);
  return request;
}
