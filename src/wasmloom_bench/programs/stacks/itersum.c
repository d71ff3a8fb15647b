// As itersum.wat: a generator of 0, 1, ... n-1, and their sum.
#include "fiber.h"

static int64_t range(int64_t end) {
  for (int64_t i = 0; i < end; i++) fiber_yield(i);
  return 0;
}

EXPORT("run") int64_t run(uint32_t n) {
  int64_t sum = 0;
  fiber *f = fiber_alloc(range);
  for (int64_t i = fiber_resume(f, n); !fiber_done(f); i = fiber_resume(f, 0)) sum += i;
  fiber_free(f);
  return sum;
}
