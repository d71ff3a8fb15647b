// As treesum.wat: a recursive walk over a full binary tree of height n yields every leaf.
#include "fiber.h"

static NOINLINE void walk(uint32_t height, int64_t number) {
  if (height == 0) {
    fiber_yield(number);
  } else {
    walk(height - 1, 2 * number);
    walk(height - 1, 2 * number + 1);
  }
}

static int64_t walker(int64_t height) {
  walk((uint32_t)height, 0);
  return 0;
}

EXPORT("run") int64_t run(uint32_t n) {
  int64_t sum = 0;
  fiber *f = fiber_alloc(walker);
  for (int64_t i = fiber_resume(f, n); !fiber_done(f); i = fiber_resume(f, 0)) sum += i;
  fiber_free(f);
  return sum;
}
